//! Closes gaps: what happened between two sessions is fetched from the recorder, and handed to the pipeline.
//!
//! One gap at a time, in as many attempts as it takes (`attempt`); what an attempt has fetched is not fetched by
//! the next. What begins anew (a session, the program) begins at the watermark, so nothing is noted on disk.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{Sender, UnboundedReceiver};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::attempt::{Attempt, Done, Open};
use super::entity_list::EntityList;
use super::gap::Gap;
use super::restored::Restored;
use crate::config::settings::{History, HomeAssistant};
use crate::history::recorder::renames::Rename;
use crate::ingest::hass::{News, Presence};
use crate::model::entity::EntityId;
use crate::model::event::{Acknowledgement, Past};
use crate::model::time::Timestamp;
use crate::runtime::alive::beating;
use crate::runtime::clock;
use crate::status::board::Board;
use crate::status::snapshot::LinkState;
use crate::status::target::TargetBoard;

/// The name under which the task says that it is alive.
const TASK: &str = "history";

/// So long ago at most somebody came whose name the registries tell now.
const LATELY: Duration = Duration::from_mins(1);

/// Every time that the task keeps to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pauses {
    /// After the first failure, and while the recorder is off; twice as long after each further one.
    retry: Duration,
    longest_retry: Duration,
    /// While Home Assistant starts.
    pub(super) look: Duration,
    /// While the targets take what waits: they take thousands of points in this time.
    pub(super) backlog: Duration,
    /// For the recorder to commit what it has, in one attempt.
    pub(super) commit: Duration,
    /// For records that were lost to be asked for.
    torn: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            retry: Duration::from_secs(5),
            longest_retry: Duration::from_mins(1),
            look: Duration::from_secs(2),
            backlog: Duration::from_millis(100),
            commit: Duration::from_mins(2),
            torn: Duration::from_secs(10),
        }
    }
}

/// What the task needs of the others.
pub struct Parts {
    pub home: HomeAssistant,
    pub history: History,
    /// Whether anything of an entity may be written, and which of its attributes are tags.
    pub wishes: Arc<dyn Fn() -> Wishes + Send + Sync>,
    pub data_dir: PathBuf,
    /// What the sessions tell.
    pub news: UnboundedReceiver<News>,
    /// This sends, the pipeline receives.
    pub past: Sender<Past>,
    pub board: Arc<Board>,
}

/// What is wanted of the past, by the rules of this moment.
pub struct Wishes {
    pub wants: Box<dyn Fn(&EntityId) -> bool + Send + Sync>,
    pub tags: Vec<String>,
}

/// Closes gaps until `stop`.
pub async fn run(parts: Parts, stop: CancellationToken) {
    let board = Arc::clone(&parts.board);
    let known = EntityList::load(&parts.data_dir).await;
    let closer =
        Closer { parts, first: None, known, appeared: HashMap::new(), session: None, pauses: Pauses::default() };
    let work = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = closer.run() => {}
        }
    };
    beating(|| board.beat(TASK, std::time::Instant::now()), work).await;
}

struct Closer {
    parts: Parts,
    /// When the first session of this run began. Before anything is in the databases, everything since then is to be.
    first: Option<Timestamp>,
    known: EntityList,
    /// When those came that came lately: a new name may be that of somebody who is known.
    appeared: HashMap<EntityId, (Timestamp, Instant)>,
    /// The last one that began, as long as it goes on.
    session: Option<Presence>,
    pauses: Pauses,
}

impl Closer {
    async fn run(mut self) {
        let mut next = None;
        loop {
            let news = match next.take() {
                Some(news) => Some(news),
                None => tokio::select! {
                    news = self.parts.news.recv() => news,
                    () = sleep(self.pauses.torn) => {
                        self.note_names().await;
                        if let Some(torn) = self.torn() {
                            next = self.close(Some(torn), true).await;
                        }
                        continue;
                    }
                },
            };
            match news {
                None => return,
                Some(News::Appeared(entities)) => self.note(entities).await,
                Some(News::Live(presence)) => {
                    let from = self.watermark();
                    let may_miss =
                        from.is_none() && self.parts.history.close_gaps && !self.parts.board.targets.is_empty();
                    if may_miss && self.known.take_earlier_run() {
                        warn!(
                            "nobody knows until when the databases have everything: spool/state.json is missing or \
                             damaged. What happened before this start is not fetched by itself; bring it in with \
                             `ha-ingestor import --from DATE`, from a day on which all was well"
                        );
                    }
                    // The first session may have ended before any database had anything.
                    let from = from.or(self.first);
                    self.first.get_or_insert(presence.began);
                    self.session = Some(presence);
                    next = self.close(from, false).await;
                }
            }
        }
    }

    async fn note(&mut self, appeared: Vec<(EntityId, Timestamp)>) {
        self.known.add(appeared.iter().map(|(entity, _)| entity));
        let now = Instant::now();
        self.appeared.extend(appeared.into_iter().map(|(entity, since)| (entity, (since, now))));
        self.store().await;
    }

    /// While somebody listens, another name is nothing that has to be found out.
    async fn note_names(&mut self) {
        if self.session.as_ref().is_some_and(|session| !session.over.is_cancelled()) {
            // The registries tell a moment later than the states.
            self.appeared.retain(|_, (_, noted)| noted.elapsed() < LATELY);
            let since = |entity: &EntityId| self.appeared.get(entity).map_or_else(clock::now, |(since, _)| *since);
            for Rename { before, now, at } in self.known.register(&self.parts.board.registries(), since) {
                info!("{before} is called {now} since {at}; what happened before stays under the name that it had");
            }
            self.store().await;
        }
    }

    async fn store(&mut self) {
        if let Err(err) = self.known.store().await {
            debug!("the names of the entities cannot be written down: {err}");
        }
    }

    /// Until when every target has everything. `None`: none of them had anything yet. What a target lost that is away does not
    /// count: it is told once more when it is there again, and holds up no other until then.
    fn watermark(&self) -> Option<Timestamp> {
        let of_one = |target: &Arc<TargetBoard>| {
            let lost = target.backlog.torn.get().filter(|_| target.link.state() == LinkState::Connected);
            [target.backlog.watermark.get(), lost]
        };
        self.parts.board.targets.iter().flat_map(of_one).flatten().min()
    }

    /// From when on records were lost that a target would take now.
    fn torn(&self) -> Option<Timestamp> {
        if self.session.as_ref().is_none_or(|session| session.over.is_cancelled()) {
            return None;
        }
        let takes = |target: &&Arc<TargetBoard>| {
            target.backlog.records.get() == 0 && target.link.state() == LinkState::Connected
        };
        self.parts.board.targets.iter().filter(takes).filter_map(|target| target.backlog.torn.get()).min()
    }

    /// Closes what is open from `from` on, as long as the session goes on. Returns what was told meanwhile and is to be done
    /// next. `is_torn`: records of the session itself were lost.
    async fn close(&mut self, from: Option<Timestamp>, is_torn: bool) -> Option<News> {
        let session = self.session.clone()?;
        let Some(begin) = from.filter(|_| self.parts.history.close_gaps) else {
            // Nothing was written before, or nobody wants it: from here on everything is known.
            let from = from.unwrap_or(session.began);
            let (board, number) = (Arc::clone(&self.parts.board), session.number);
            let done = Acknowledgement::new(move || board.history.nothing_missed(number));
            let closed = Past::Closed { session: number, from, until: session.began, done };
            let _ = self.parts.past.send(closed).await;
            return None;
        };
        let gap = Gap::between(begin, session.began, session.away);
        let mut told = false;
        let mut pause = self.pauses.retry;
        let mut done = Done::new(if self.parts.history.skip_restored {
            Restored::after(session.home_began, Arc::clone(&session.restored))
        } else {
            Restored::default()
        });
        let absence = session.away.filter(|_| !is_torn).unwrap_or_else(|| gap.length());
        let history = &self.parts.board.history;
        let number = history.open(session.number, (gap.from, gap.until), absence, "waiting for Home Assistant");
        loop {
            let attempt = Attempt {
                number,
                parts: &self.parts,
                wishes: (self.parts.wishes)(),
                known: &mut self.known,
                session: &session,
                appeared: &self.appeared,
                watermark: begin,
                is_torn,
                pauses: self.pauses,
                done: &mut done,
            };
            let over = session.over.clone();
            let outcome = tokio::select! {
                outcome = attempt.close() => outcome,
                () = over.cancelled() => {
                    self.parts.board.history.phase("waiting for Home Assistant");
                    return None;
                }
            };
            let open = match outcome {
                Ok(()) | Err(Open::NoPipeline) => return None,
                Err(open) => open,
            };
            if !std::mem::replace(&mut told, true) {
                warn!(session = session.id, "a gap stays open until it can be closed: {open}");
            }
            self.parts.board.history.phase(&open.to_string());
            tokio::select! {
                () = sleep(pause) => pause = (2 * pause).min(self.pauses.longest_retry),
                () = over.cancelled() => return None,
                news = self.parts.news.recv() => match news {
                    Some(News::Appeared(entities)) => self.note(entities).await,
                    other => return other,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::time::Duration;

    use tempfile::TempDir;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio::task::JoinSet;
    use tokio::time::timeout;
    use tokio_util::sync::CancellationToken;

    use super::{Closer, EntityList, Parts, Pauses, Wishes};
    use crate::config::secret::Secret;
    use crate::config::settings::{History, HomeAssistant, Tls};
    use crate::demo::home::Home;
    use crate::demo::knobs::Knobs;
    use crate::demo::server::Simulator;
    use crate::ingest::hass::{News, Presence};
    use crate::model::event::Past;
    use crate::model::time::Timestamp;
    use crate::runtime::clock;
    use crate::status::board::Board;

    /// Nothing here takes long; a story that hangs must not.
    const SOON: Duration = Duration::from_secs(20);

    /// The test is the pipeline, and comes to the end of the gap late.
    #[tokio::test]
    async fn a_gap_stays_open_until_the_pipeline_has_come_to_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/api/websocket", listener.local_addr().unwrap()).parse().unwrap();
        let began = Timestamp::from_micros(clock::now().as_micros() - 60_000_000);
        let (simulator, home) = Simulator::new(listener, Home::new(1, 10, began), Knobs::default());
        home.storm(50);
        let mut tasks = JoinSet::new();
        tasks.spawn(simulator.run(CancellationToken::new()));

        let board = Arc::new(Board::new(std::time::Instant::now(), clock::now()));
        board.targets[0].backlog.watermark.set(began);
        let folder = TempDir::new().unwrap();
        let (tell, news) = mpsc::unbounded_channel();
        let (past, mut handed_over) = mpsc::channel(4);
        let parts = Parts {
            home: HomeAssistant { url, token: Secret::new("demo"), tls: Tls { verify: true, ca_certificate: None } },
            history: History { close_gaps: true, skip_restored: false, import_on_first_start: false },
            wishes: Arc::new(|| Wishes { wants: Box::new(|_| true), tags: Vec::new() }),
            data_dir: folder.path().to_owned(),
            news,
            past,
            board: Arc::clone(&board),
        };
        let known = EntityList::load(folder.path()).await;
        tasks.spawn(
            Closer { parts, first: None, known, appeared: HashMap::new(), session: None, pauses: Pauses::default() }
                .run(),
        );
        let presence = Presence {
            number: 1,
            id: "a-1".to_owned(),
            began: clock::now(),
            away: None,
            since: tokio::time::Instant::now(),
            home_began: None,
            restored: Arc::new(HashMap::new()),
            over: CancellationToken::new(),
        };
        tell.send(News::Live(presence)).unwrap();

        let mut rows = 0;
        let done = loop {
            match timeout(SOON, handed_over.recv()).await.expect("it goes on").expect("it goes on") {
                Past::Rows(some) => rows += some.len(),
                Past::Reached(_) => {}
                Past::Closed { done, .. } => break done,
            }
            assert!(board.history.snapshot().is_open());
        };
        assert!(rows >= 50, "{rows}");
        // Whatever the closer does meanwhile.
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
            assert!(board.history.snapshot().is_open());
        }
        done.give();
        let seen = board.history.snapshot();
        assert_eq!((seen.is_open(), seen.gaps_closed), (false, 1));
    }
}
