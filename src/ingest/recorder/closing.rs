//! Closes gaps: what happened between two sessions is fetched from the recorder, and handed to the pipeline.
//!
//! One gap at a time, one question at a time, on a connection of its own; what happens now goes first. A gap is closed
//! when the recorder has written everything and a second look at its end was taken. What the recorder does not have is
//! told by name and bounds. What begins anew (a session, the program) begins at the watermark, so nothing is noted here.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc::{Sender, UnboundedReceiver};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::gap::{Evidence, Gap};
use super::known::Known;
use super::left_out::put_back;
use super::restored::Restored;
use super::rows::Rows;
use super::windows::{Window, Windows};
use super::{Info, Recorder, RecorderError};
use crate::config::settings::{History, HomeAssistant};
use crate::ingest::hass::protocol::parse_state;
use crate::ingest::hass::visit::AskError;
use crate::ingest::hass::{News, Presence};
use crate::model::entity::EntityId;
use crate::model::event::{Past, StateChange};
use crate::model::time::Timestamp;
use crate::runtime::alive::beating;
use crate::runtime::clock;
use crate::status::board::Board;
use crate::status::history::NotClosed;
use crate::status::snapshot::LinkState;

/// The name under which the task says that it is alive.
const TASK: &str = "history";

/// Rows that are handed over at once.
const PIECE: usize = 500;
/// How many of the entities tell how far back the recorder reaches.
const SAMPLE: usize = 50;

/// Every time that the task keeps to.
#[derive(Debug, Clone, Copy)]
struct Pauses {
    /// After a failure, and while the recorder is off.
    retry: Duration,
    /// While Home Assistant starts, or writes what waits.
    look: Duration,
    /// From the beginning of the session to the second pass.
    second_pass: Duration,
    /// For records that were lost to be asked for.
    torn: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            retry: Duration::from_mins(1),
            look: Duration::from_secs(2),
            second_pass: Duration::from_secs(10),
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
    pub wants: Box<dyn Fn(&EntityId) -> bool + Send>,
    pub tags: Vec<String>,
}

/// Closes gaps until `stop`.
pub async fn run(parts: Parts, stop: CancellationToken) {
    let board = Arc::clone(&parts.board);
    let known = Known::load(&parts.data_dir).await;
    let closer = Closer { parts, known, session: None, pauses: Pauses::default() };
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
    known: Known,
    /// The last one that began, as long as it goes on.
    session: Option<Presence>,
    pauses: Pauses,
}

/// Why a gap is still open.
#[derive(Debug, thiserror::Error)]
enum Open {
    #[error(transparent)]
    Recorder(#[from] RecorderError),
    #[error("{0}")]
    Trouble(&'static str),
    /// Nobody takes what is fetched.
    #[error("the pipeline has ended")]
    NoPipeline,
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
                        if let Some(torn) = self.torn() {
                            next = self.close(Some(torn), true).await;
                        }
                        continue;
                    }
                },
            };
            match news {
                None => return,
                Some(News::Appeared(entities)) => self.note(&entities).await,
                Some(News::Live(presence)) => {
                    let from = self.watermark();
                    self.session = Some(presence);
                    next = self.close(from, false).await;
                }
            }
        }
    }

    async fn note(&mut self, entities: &[EntityId]) {
        self.known.add(entities);
        if let Err(err) = self.known.store().await {
            debug!("the names of the entities cannot be written down: {err}");
        }
    }

    /// Until when every target has everything. `None`: none of them had anything yet.
    fn watermark(&self) -> Option<Timestamp> {
        let backlogs = self.parts.board.targets.iter().map(|target| &target.backlog);
        backlogs.flat_map(|backlog| [backlog.watermark.get(), backlog.torn.get()]).flatten().min()
    }

    /// From when on records were lost that a target would take now.
    fn torn(&self) -> Option<Timestamp> {
        if self.session.as_ref().is_none_or(|session| session.over.is_cancelled()) {
            return None;
        }
        let takes = |target: &&Arc<crate::status::target::TargetBoard>| {
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
            let from = from.unwrap_or(session.newest);
            let closed = Past::Closed { session: session.number, from, until: session.newest };
            let _ = self.parts.past.send(closed).await;
            return None;
        };
        let mut gap = Gap::between(begin, session.newest);
        let mut told = false;
        self.parts.board.history.open(gap.from, gap.until, "waiting for Home Assistant");
        loop {
            let attempt = Attempt {
                parts: &self.parts,
                known: self.known.all().collect(),
                session: &session,
                is_torn,
                pauses: self.pauses,
                restored: if self.parts.history.skip_restored {
                    Restored::after(session.home_began, Arc::clone(&session.restored))
                } else {
                    Restored::default()
                },
            };
            let over = session.over.clone();
            let outcome = tokio::select! {
                outcome = attempt.close(&mut gap) => outcome,
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
                () = sleep(self.pauses.retry) => {}
                () = over.cancelled() => return None,
                news = self.parts.news.recv() => match news {
                    Some(News::Appeared(entities)) => self.note(&entities).await,
                    other => return other,
                },
            }
        }
    }
}

/// One attempt to close a gap.
struct Attempt<'a> {
    parts: &'a Parts,
    known: Vec<EntityId>,
    session: &'a Presence,
    is_torn: bool,
    pauses: Pauses,
    restored: Restored,
}

impl Attempt<'_> {
    async fn close(mut self, gap: &mut Gap) -> Result<(), Open> {
        let began = Instant::now();
        let board = &self.parts.board.history;
        let mut recorder = Recorder::connect(&self.parts.home).await.map_err(RecorderError::from)?;
        self.until_running(&mut recorder).await?;
        let (session, seconds) =
            (&self.session.id, gap.until.as_micros().saturating_sub(gap.from.as_micros()) / 1_000_000);
        info!(session, "closing a gap of {seconds} s from Home Assistant's history");
        let present = self.present(&mut recorder).await?;
        if self.is_torn {
            gap.until = present.values().map(|state| state.last_updated).max().unwrap_or(gap.until);
        }
        let states = present.iter().map(|(entity, state)| (entity, state.last_updated));
        let mut evidence = Evidence::of(*gap, states);
        let entities = self.scope(&present);
        if !self.reaches_back(&mut recorder, *gap, &present).await? {
            self.tell(NotClosed {
                entity: None,
                from: gap.from,
                until: gap.until,
                why: "history begins later, or was purged",
            });
        }
        board.phase("fetching");
        self.walk(&mut recorder, *gap, &entities, &present, &mut evidence, true).await?;
        self.until_written(&mut recorder, began).await?;
        board.phase("fetching what was written last");
        self.walk(&mut recorder, gap.end(), &entities, &present, &mut evidence, false).await?;
        recorder.end().await;
        let mut lacking = 0;
        for (entity, since) in evidence.missing() {
            if (self.wishes().wants)(&entity) {
                lacking += 1;
                let entity = Some(entity.as_str().to_owned());
                self.tell(NotClosed { entity, from: gap.from, until: since, why: "not recorded" });
            }
        }
        let closed = Past::Closed { session: self.session.number, from: gap.from, until: self.session.newest };
        self.parts.past.send(closed).await.map_err(|_| Open::NoPipeline)?;
        let rows = board.closed().map_or(0, |gap| gap.rows);
        let took = began.elapsed().as_secs_f64();
        info!(
            session,
            rows, "gap closed: {rows} rows in {took:.1} s; {lacking} entities have changes that history lacks"
        );
        Ok(())
    }

    fn wishes(&self) -> Wishes {
        (self.parts.wishes)()
    }

    /// All entities that are wanted and that anybody knows of.
    fn scope(&self, present: &HashMap<EntityId, StateChange>) -> Vec<EntityId> {
        let wishes = self.wishes();
        let registries = self.parts.board.registries();
        let all = present.keys().chain(&self.known).chain(registries.entities.keys());
        let mut wanted: Vec<EntityId> = all.filter(|entity| (wishes.wants)(entity)).cloned().collect();
        wanted.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        wanted.dedup();
        wanted
    }

    async fn present(&self, recorder: &mut Recorder) -> Result<HashMap<EntityId, StateChange>, Open> {
        let present = recorder.present().await.map_err(RecorderError::from)?;
        let states = present.states.iter().filter_map(|state| parse_state(state.state.get(), clock::now()).ok());
        Ok(states.map(|state| (state.entity.clone(), state)).collect())
    }

    /// While Home Assistant starts, its entities come one after the other, and the recorder is not all there.
    async fn until_running(&self, recorder: &mut Recorder) -> Result<(), Open> {
        loop {
            let answer = recorder.ask(json!({"type": "get_config"})).await.map_err(RecorderError::from)?;
            let settled = !["\"STARTING\"", "\"NOT_RUNNING\""].iter().any(|state| answer.result().contains(state));
            if settled {
                return Ok(());
            }
            self.parts.board.history.phase("waiting until Home Assistant has started");
            sleep(self.pauses.look).await;
        }
    }

    /// Until the recorder has written what happened in the gap. In a backup of Home Assistant it writes nothing for minutes.
    async fn until_written(&self, recorder: &mut Recorder, began: Instant) -> Result<(), Open> {
        sleep(self.pauses.second_pass.saturating_sub(began.elapsed())).await;
        loop {
            let info = self.info(recorder).await?;
            if info.backlog < 5 {
                return Ok(());
            }
            let words = format!("waiting until the recorder has written {} changes", info.backlog);
            self.parts.board.history.phase(&words);
            sleep(self.pauses.look).await;
        }
    }

    async fn info(&self, recorder: &mut Recorder) -> Result<Info, Open> {
        match recorder.info().await {
            Ok(info) => info.trouble().map_or(Ok(info.clone()), |trouble| Err(Open::Trouble(trouble))),
            Err(err) if err.is_unknown_command() => Err(Open::Trouble("Home Assistant's recorder is off")),
            Err(err) => Err(RecorderError::from(err).into()),
        }
    }

    async fn reaches_back(
        &self,
        recorder: &mut Recorder,
        gap: Gap,
        present: &HashMap<EntityId, StateChange>,
    ) -> Result<bool, Open> {
        self.info(recorder).await?;
        let old = present
            .values()
            .filter(|state| state.last_updated < gap.from && state.entity.is_valid())
            .map(|state| state.entity.clone());
        let sample: Vec<EntityId> = old.take(SAMPLE).collect();
        if sample.is_empty() {
            // Home Assistant is younger than the gap: nobody can tell.
            return Ok(true);
        }
        let window = Window { entities: sample.into(), from: gap.from, until: gap.past_end() };
        Ok(recorder.reaches_back(&window).await.map_err(RecorderError::from)?)
    }

    async fn walk(
        &mut self,
        recorder: &mut Recorder,
        gap: Gap,
        entities: &[EntityId],
        present: &HashMap<EntityId, StateChange>,
        evidence: &mut Evidence,
        is_first: bool,
    ) -> Result<(), Open> {
        let tags = self.wishes().tags;
        let mut windows = Windows::new(entities, gap.from, gap.past_end());
        let mut cut_off = 0;
        while let Some(window) = windows.next_window() {
            self.live_first().await;
            let asked = Instant::now();
            let rows = match recorder.rows(window).await {
                Ok(rows) => rows,
                // Who cannot carry an answer breaks the connection.
                Err(err @ (AskError::TooLarge | AskError::Closed | AskError::Timeout)) => {
                    cut_off += 1;
                    *recorder = Recorder::connect(&self.parts.home).await.map_err(RecorderError::from)?;
                    if (err == AskError::TooLarge || cut_off > 2)
                        && let Some(lost) = windows.too_large()
                    {
                        let entity = lost.entities.first().map(|entity| entity.as_str().to_owned());
                        let why = "the answer is too large";
                        self.tell(NotClosed { entity, from: lost.from, until: lost.until, why });
                    }
                    continue;
                }
                Err(err) => return Err(RecorderError::from(err).into()),
            };
            cut_off = 0;
            let took = asked.elapsed();
            windows.answered(rows.bytes);
            self.parts.board.history.fetched(rows.count(), rows.unreadable, windows.reached());
            self.hand_over(rows, present, &tags, evidence).await?;
            // The recorder may still have to write what happened within the last minute.
            if is_first && windows.reached() < Timestamp::from_micros(gap.until.as_micros() - 60_000_000) {
                let reached = Past::Reached(windows.reached());
                self.parts.past.send(reached).await.map_err(|_| Open::NoPipeline)?;
            }
            sleep(took.clamp(Duration::from_millis(20), Duration::from_secs(2))).await;
        }
        Ok(())
    }

    async fn hand_over(
        &mut self,
        rows: Rows,
        present: &HashMap<EntityId, StateChange>,
        tags: &[String],
        evidence: &mut Evidence,
    ) -> Result<(), Open> {
        for (entity, rows) in rows.entities {
            let attributes = present.get(&entity).map(|state| &*state.attributes);
            let mut piece = Vec::with_capacity(rows.len().min(PIECE));
            for mut row in rows {
                evidence.saw(&entity, row.last_updated);
                if self.restored.is_one(&entity, &row) {
                    continue;
                }
                row.attributes = put_back(&row.attributes, attributes, tags);
                piece.push(row.into_change(&entity));
                if piece.len() == PIECE {
                    self.send(std::mem::take(&mut piece)).await?;
                }
            }
            self.send(piece).await?;
        }
        Ok(())
    }

    async fn send(&self, rows: Vec<StateChange>) -> Result<(), Open> {
        if rows.is_empty() {
            return Ok(());
        }
        self.parts.past.send(Past::Rows(rows)).await.map_err(|_| Open::NoPipeline)
    }

    /// Waits while what happens now, or what was fetched, is not yet where it belongs: memory and disk are for the former.
    async fn live_first(&self) {
        loop {
            let board = &self.parts.board;
            let spool = board.spool.snapshot();
            let held = board.targets.iter().map(|target| target.books.held.get()).min().unwrap_or(0);
            let words = if spool.disk_bytes > spool.limit_bytes / 4 * 3 {
                "waiting for a target: the disk space for points is three quarters full"
            } else if held > 20_000 {
                "waiting for a target to take what waits"
            } else if board.hass.waiting_bytes.get() > 1 << 20 {
                "waiting: what happens now goes first"
            } else {
                return;
            };
            board.history.phase(words);
            sleep(self.pauses.look).await;
        }
    }

    fn tell(&self, what: NotClosed) {
        let (session, name) = (&self.session.id, what.entity.as_deref().unwrap_or("all entities"));
        debug!(session, "cannot close the gap of {name} from {} until {}: {}", what.from, what.until, what.why);
        self.parts.board.history.not_closed(what);
    }
}
