//! One attempt to close a gap: one question after the other, on a connection of its own; what happens now goes first.
//!
//! First the recorder commits what it has: from then on history has everything until that moment, and what it lacks it never
//! had. That is told by name and bounds. The gap is closed when its rows are in the books. An attempt that fails leaves
//! behind what it has done.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use super::entity_list::EntityList;
use super::gap::{Evidence, Gap};
use super::gap_closer::{Parts, Pauses, Wishes};
use super::restored::Restored;
use crate::history::recorder::missing_attributes::put_back;
use crate::history::recorder::present::scope;
use crate::history::recorder::renames::{Rename, Renames};
use crate::history::recorder::rows::Rows;
use crate::history::recorder::walk::{Step, Walk};
use crate::history::recorder::windows::Window;
use crate::history::recorder::{Recorder, RecorderError};
use crate::ingest::hass::Presence;
use crate::model::entity::EntityId;
use crate::model::event::{Acknowledgement, Past, StateChange};
use crate::model::registries::Registries;
use crate::model::time::Timestamp;
use crate::runtime::clock;
use crate::status::history::{NotClosed, Renamed};

/// Points that wait for the target that is ahead of the others: with so many nothing more is fetched,
const LARGE_BACKLOG: u64 = 20_000;
/// and with so many neither, if the disk is nearly full.
const SMALL_BACKLOG: u64 = 1_000;
/// Rows that are handed over at once.
const PIECE: usize = 500;

/// One attempt to close a gap.
pub(super) struct Attempt<'a> {
    /// Of the gap on the board.
    pub(super) number: u64,
    pub(super) parts: &'a Parts,
    /// By the rules of this moment.
    pub(super) wishes: Wishes,
    pub(super) known: &'a mut EntityList,
    pub(super) session: &'a Presence,
    /// When those came that came lately.
    pub(super) appeared: &'a HashMap<EntityId, (Timestamp, Instant)>,
    /// Until when everything was known before.
    pub(super) watermark: Timestamp,
    pub(super) is_torn: bool,
    pub(super) pauses: Pauses,
    pub(super) done: &'a mut Done,
}

/// What the attempts at one gap have done so far.
pub(super) struct Done {
    /// Of whom the history was asked.
    entities: Vec<EntityId>,
    /// Everything of them before this was handed over.
    reached: Option<Timestamp>,
    evidence: Evidence,
    restored: Restored,
    /// Whom it is said of already that something is missing.
    named: HashSet<EntityId>,
    /// Of whom what was given up, by where it begins.
    lost: HashSet<(EntityId, Timestamp)>,
    /// Who got another name in the gap.
    renamed: Vec<Rename>,
    renames: Renames,
    was_begun: bool,
}

impl Done {
    pub(super) fn new(restored: Restored) -> Self {
        Self {
            entities: Vec::new(),
            reached: None,
            evidence: Evidence::default(),
            restored,
            named: HashSet::new(),
            lost: HashSet::new(),
            renamed: Vec::new(),
            renames: Renames::default(),
            was_begun: false,
        }
    }
}

/// Why a gap is still open.
#[derive(Debug, thiserror::Error)]
pub(super) enum Open {
    #[error(transparent)]
    Recorder(#[from] RecorderError),
    /// Nobody takes what is fetched.
    #[error("the pipeline has ended")]
    NoPipeline,
}

/// What Home Assistant says of this moment.
struct Now {
    states: HashMap<EntityId, StateChange>,
    registries: Registries,
}

impl Attempt<'_> {
    pub(super) async fn close(mut self) -> Result<(), Open> {
        let began = Instant::now();
        let mut recorder = Recorder::connect(&self.parts.home).await.map_err(RecorderError::from)?;
        self.until_running(&mut recorder).await?;
        // What is in these states is committed below, unless the recorder is told to leave it out.
        let now = self.now(&mut recorder).await?;
        let gap = self.until_committed(&mut recorder).await?;
        if !std::mem::replace(&mut self.done.was_begun, true) {
            self.say_what_is_missing(gap);
        }
        self.learn_renames(&mut recorder, gap, &now).await?;
        self.go_on_or_begin(gap, &now);
        let reaches_back = self.reaches_back(&mut recorder, gap).await?;
        self.parts.board.history.phase("fetching");
        let from = self.done.reached.map_or(gap.from, |reached| reached.max(gap.from));
        let whole = Walk::new(&self.done.entities, from, gap.past_end());
        self.walk(&mut recorder, whole, &now, Some(gap)).await?;
        let mut in_hand = self.done.evidence.in_hand(gap);
        in_hand.retain(|entity| !self.done.named.contains(entity));
        if !in_hand.is_empty() {
            let _ = self.until_committed(&mut recorder).await?;
            self.parts.board.history.phase("fetching what was committed last");
            let end = Walk::new(&in_hand, gap.last_minute(), gap.past_end());
            self.walk(&mut recorder, end, &now, None).await?;
        }
        recorder.end().await;
        let lacking = self.name_what_is_missing(gap, &now, reaches_back);
        self.name_the_renamed();
        self.hand_over_the_end(gap, lacking, began).await
    }

    fn say_what_is_missing(&self, gap: Gap) {
        let session = &self.session.id;
        match self.session.away {
            Some(away) if !self.is_torn => {
                info!(session, "closing a gap: away from Home Assistant for {:.0} s", away.as_secs_f64());
            }
            _ => info!(session, "closing a gap: what happened since {} may be missing", gap.known_until()),
        }
    }

    /// The pipeline takes events first: until it comes to this, rows are in no target's books, and the gap is open.
    async fn hand_over_the_end(&self, gap: Gap, lacking: usize, began: Instant) -> Result<(), Open> {
        self.parts.board.history.phase("handing over what was fetched");
        let (closed, is_closed) = oneshot::channel();
        let (board, number) = (Arc::clone(&self.parts.board), self.number);
        let done = Acknowledgement::new(move || {
            // The closer waits no longer when the session is over, or at the stop.
            let _ = closed.send(board.history.closed(number));
        });
        let end = Past::Closed { session: self.session.number, from: gap.from, until: gap.until, done };
        self.parts.past.send(end).await.map_err(|_| Open::NoPipeline)?;
        let closed = is_closed.await.map_err(|_| Open::NoPipeline)?;
        let rows = closed.map_or(0, |gap| gap.rows);
        let took = began.elapsed().as_secs_f64();
        info!(
            session = self.session.id,
            rows, "gap closed: {rows} rows in {took:.1} s; {lacking} entities have changes that history lacks"
        );
        Ok(())
    }

    /// Until history has everything from before this moment. Returns the gap, which ends here.
    async fn until_committed(&self, recorder: &mut Recorder) -> Result<Gap, Open> {
        let board = &self.parts.board.history;
        let now = recorder.commit(self.pauses.commit, |words| board.phase(words)).await?;
        let away = self.session.away.map(|away| away + self.session.since.elapsed());
        let gap = Gap::between(self.watermark, now, away.filter(|_| !self.is_torn));
        board.until(self.number, gap.until);
        Ok(gap)
    }

    /// What earlier attempts fetched counts if it is of the same entities. It does not if records of the session itself were
    /// lost: more may have been since.
    fn go_on_or_begin(&mut self, gap: Gap, now: &Now) {
        let entities = scope(now.states.keys(), &now.registries, self.known.all(), &self.wishes.wants);
        if !self.is_torn && self.done.reached.is_some() && self.done.entities == entities {
            return;
        }
        let states = now.states.iter().map(|(entity, state)| (entity, state.last_updated));
        self.done.evidence = Evidence::of(gap, states);
        self.done.reached = None;
        self.done.entities = entities;
    }

    async fn now(&self, recorder: &mut Recorder) -> Result<Now, Open> {
        let present = recorder.present().await.map_err(RecorderError::from)?;
        Ok(Now { states: present.by_entity(clock::now()), registries: present.registries })
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

    /// Whether the recorder still has what was before the gap, of anybody who was known.
    async fn reaches_back(&self, recorder: &mut Recorder, gap: Gap) -> Result<bool, Open> {
        let known = self.known.all().filter(|entity| entity.is_valid() && (self.wishes.wants)(entity));
        let known: Vec<EntityId> = known.collect();
        let reaches_back = recorder.reaches_back(&known, gap.known_until()).await?;
        Ok(known.is_empty() || reaches_back)
    }

    /// `whole`: it is the walk through the gap, which ends then.
    async fn walk(
        &mut self,
        recorder: &mut Recorder,
        mut walk: Walk,
        now: &Now,
        whole: Option<Gap>,
    ) -> Result<(), Open> {
        let history = &self.parts.board.history;
        loop {
            self.live_first().await;
            match walk.next(recorder).await? {
                Step::Rows(rows) => {
                    history.fetched(rows.count(), rows.unreadable, walk.reached());
                    self.hand_over(rows, &now.states).await?;
                }
                Step::Lost(window, why) => self.give_up(&window, why),
                Step::Reached(reached) => {
                    let Some(gap) = whole else { continue };
                    history.fetched(0, 0, reached);
                    // What the recorder had in hand is looked for by the next attempt, too.
                    self.done.reached = Some(reached.min(gap.last_minute()));
                    let reached = Past::Reached(reached.min(gap.until));
                    self.parts.past.send(reached).await.map_err(|_| Open::NoPipeline)?;
                }
                Step::End => return Ok(()),
            }
        }
    }

    /// Some time of one entity that nobody can bring here.
    fn give_up(&mut self, lost: &Window, why: &'static str) {
        let Some(entity) = lost.entities.first() else { return };
        self.done.named.insert(entity.clone());
        if !self.done.lost.insert((entity.clone(), lost.from)) {
            // An earlier attempt said so.
            return;
        }
        let entity = Some(entity.as_str().to_owned());
        self.parts.board.history.fetched(0, 1, lost.from);
        self.tell(NotClosed { entity, from: lost.from, until: lost.until, why });
    }

    /// Returns of how many entities something is missing for certain.
    fn name_what_is_missing(&self, gap: Gap, now: &Now, reaches_back: bool) -> usize {
        let wants = &self.wishes.wants;
        let evidence = &self.done.evidence;
        let mut named = self.done.named.clone();
        let known: Vec<EntityId> = if reaches_back { Vec::new() } else { self.known.all().collect() };
        for entity in known.iter().filter(|entity| wants(entity)) {
            let since = now.states.get(entity).map(|state| state.last_updated);
            if since.is_some_and(|since| since <= gap.from) {
                // It is as it was before.
                continue;
            }
            let Some(begins) = evidence.first(entity).or(since) else { continue };
            named.insert(entity.clone());
            let until = begins.min(gap.until);
            let entity = Some(entity.as_str().to_owned());
            self.tell(NotClosed { entity, from: gap.from, until, why: "history begins later, or was purged" });
        }
        for (entity, since) in evidence.missing() {
            if wants(entity) && named.insert(entity.clone()) {
                let entity = Some(entity.as_str().to_owned());
                self.tell(NotClosed { entity, from: gap.from, until: since, why: "not recorded" });
            }
        }
        named.len()
    }

    /// Home Assistant gives the past to the new name, unless that has one already. What happened in the gap has the name that
    /// history gives it: nobody knows when in the gap it got the new one.
    async fn learn_renames(&mut self, recorder: &mut Recorder, gap: Gap, now: &Now) -> Result<(), Open> {
        // Somebody who came in this session has the name since then; of others nobody knows when in the gap they got it.
        let came = |entity: &EntityId| self.appeared.get(entity).map(|(since, _)| *since);
        let since = |entity: &EntityId| {
            came(entity).filter(|since| *since > self.session.began).unwrap_or_else(|| gap.known_until())
        };
        let new = self.known.register(&now.registries, since);
        self.done.renamed.extend(new);
        let mut renames = self.known.renames();
        renames.retain(|rename| rename.at > gap.from);
        self.done.renames = Renames::that_moved(&renames, recorder).await?;
        Ok(())
    }

    fn name_the_renamed(&mut self) {
        for Rename { before, now, .. } in std::mem::take(&mut self.done.renamed) {
            let past = if self.done.renames.of(&now).any(|rename| rename.before == before) { &now } else { &before };
            info!(
                session = self.session.id,
                "{before} is called {now} now; what happened to it in the gap is written as that of {past}"
            );
            let [before, now, history] = [&before, &now, past].map(ToString::to_string);
            self.parts.board.history.renamed(Renamed { before, now, history });
        }
    }

    async fn hand_over(&mut self, rows: Rows, present: &HashMap<EntityId, StateChange>) -> Result<(), Open> {
        for (entity, rows) in rows.entities {
            let attributes = present.get(&entity).map(|state| &*state.attributes);
            let mut piece = Vec::with_capacity(rows.len().min(PIECE));
            for mut row in rows {
                self.done.evidence.saw(&entity, row.last_updated);
                if self.done.restored.is_one(&entity, &row) {
                    continue;
                }
                row.attributes = put_back(&row.attributes, attributes, &self.wishes.tags);
                let name = self.done.renames.name_at(&entity, row.last_updated);
                piece.push(row.into_change(name));
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
            // One that is away holds up no other: what it has no room for is lost to it either way.
            let held = board.targets.iter().map(|target| target.books.held.get()).min().unwrap_or(0);
            let words = if held > SMALL_BACKLOG && spool.disk_bytes > spool.limit_bytes / 4 * 3 {
                "waiting for a target: the disk space for points is three quarters full"
            } else if held > LARGE_BACKLOG {
                "waiting for a target to take what waits"
            } else if board.hass.waiting_bytes.get() > 1 << 20 {
                "waiting: what happens now goes first"
            } else {
                return;
            };
            board.history.phase(words);
            sleep(self.pauses.backlog).await;
        }
    }

    fn tell(&self, what: NotClosed) {
        let (session, name) = (&self.session.id, what.entity.as_deref().unwrap_or("all entities"));
        debug!(session, "cannot close the gap of {name} from {} until {}: {}", what.from, what.until, what.why);
        self.parts.board.history.not_closed(what);
    }
}
