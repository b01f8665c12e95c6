//! One attempt to close a gap: one question after the other, on a connection of its own; what happens now goes first.
//!
//! The gap is closed when the recorder has written everything and a second look at its end was taken. What the recorder
//! does not have is told by name and bounds. An attempt that fails leaves behind what it has done.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use super::closing::{Parts, Pauses, Wishes};
use super::gap::{Evidence, Gap};
use super::known::Known;
use super::left_out::put_back;
use super::restored::Restored;
use super::rows::Rows;
use super::windows::{Window, Windows};
use super::{Info, Recorder, RecorderError};
use crate::ingest::hass::Presence;
use crate::ingest::hass::protocol::parse_state;
use crate::ingest::hass::visit::AskError;
use crate::model::entity::EntityId;
use crate::model::event::{Acknowledgement, Past, StateChange};
use crate::model::registries::Registries;
use crate::model::time::Timestamp;
use crate::runtime::clock;
use crate::status::history::{NotClosed, Renamed};

/// Rows that are handed over at once.
const PIECE: usize = 500;
/// Entities of which it is asked together how far back the recorder reaches.
const TOGETHER: usize = 500;
/// So often the same question may break the connection before it is made smaller.
const TRIES: u32 = 3;
/// The recorder may still have to write what happened within the last minute.
const FRESH_MICROS: i64 = 60 * 1_000_000;

/// One attempt to close a gap.
pub(super) struct Attempt<'a> {
    /// Of the gap on the board.
    pub(super) number: u64,
    pub(super) parts: &'a Parts,
    pub(super) known: &'a mut Known,
    pub(super) session: &'a Presence,
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
    was_begun: bool,
}

impl Done {
    pub(super) fn new(restored: Restored) -> Self {
        Self { entities: Vec::new(), reached: None, evidence: Evidence::default(), restored, was_begun: false }
    }
}

/// Why a gap is still open.
#[derive(Debug, thiserror::Error)]
pub(super) enum Open {
    #[error(transparent)]
    Recorder(#[from] RecorderError),
    #[error("{0}")]
    Trouble(&'static str),
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
    pub(super) async fn close(mut self, gap: &mut Gap) -> Result<(), Open> {
        let began = Instant::now();
        let mut recorder = Recorder::connect(&self.parts.home).await.map_err(RecorderError::from)?;
        self.until_running(&mut recorder).await?;
        // What waits may be older than what is looked at a second time: a backup takes longer than that.
        self.until_written(&mut recorder).await?;
        let now = self.now(&mut recorder).await?;
        if self.is_torn {
            gap.until = now.states.values().map(|state| state.last_updated).max().unwrap_or(gap.until);
        }
        let session = &self.session.id;
        if !std::mem::replace(&mut self.done.was_begun, true) {
            let seconds = gap.until.as_micros().saturating_sub(gap.from.as_micros()) / 1_000_000;
            info!(session, "closing a gap of {seconds} s from Home Assistant's history");
        }
        self.go_on_or_begin(*gap, &now);
        let reaches_back = self.reaches_back(&mut recorder, *gap).await?;
        self.parts.board.history.phase("fetching");
        self.walk(&mut recorder, *gap, &now, true).await?;
        sleep(self.pauses.second_pass.saturating_sub(began.elapsed())).await;
        self.until_written(&mut recorder).await?;
        self.parts.board.history.phase("fetching what was written last");
        self.walk(&mut recorder, gap.end(), &now, false).await?;
        recorder.end().await;
        let lacking = self.name_what_is_missing(*gap, &now, reaches_back);
        self.name_the_renamed(&now.registries);
        self.parts.board.history.phase("handing over what was fetched");
        // The pipeline takes events first: until it comes to this, rows are in no target's books, and the gap is open.
        let (closed, is_closed) = oneshot::channel();
        let (board, number) = (Arc::clone(&self.parts.board), self.number);
        let done = Acknowledgement::new(move || {
            // The closer waits no longer when the session is over, or at the stop.
            let _ = closed.send(board.history.closed(number));
        });
        let closed = Past::Closed { session: self.session.number, from: gap.from, until: self.session.newest, done };
        self.parts.past.send(closed).await.map_err(|_| Open::NoPipeline)?;
        let closed = is_closed.await.map_err(|_| Open::NoPipeline)?;
        let rows = closed.map_or(0, |gap| gap.rows);
        let took = began.elapsed().as_secs_f64();
        info!(
            session = self.session.id,
            rows, "gap closed: {rows} rows in {took:.1} s; {lacking} entities have changes that history lacks"
        );
        Ok(())
    }

    /// What earlier attempts fetched counts if it is of the same entities. It does not if records of the session itself were
    /// lost: more may have been since.
    fn go_on_or_begin(&mut self, gap: Gap, now: &Now) {
        let entities = self.scope(now);
        if !self.is_torn && self.done.reached.is_some() && self.done.entities == entities {
            return;
        }
        let states = now.states.iter().map(|(entity, state)| (entity, state.last_updated));
        self.done.evidence = Evidence::of(gap, states);
        self.done.reached = None;
        self.done.entities = entities;
    }

    fn wishes(&self) -> Wishes {
        (self.parts.wishes)()
    }

    /// All entities that are wanted and that anybody knows of.
    fn scope(&self, now: &Now) -> Vec<EntityId> {
        let wishes = self.wishes();
        let all = now.states.keys().chain(now.registries.entities.keys()).cloned().chain(self.known.all());
        let mut wanted: Vec<EntityId> = all.filter(|entity| (wishes.wants)(entity)).collect();
        wanted.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        wanted.dedup();
        wanted
    }

    async fn now(&self, recorder: &mut Recorder) -> Result<Now, Open> {
        let present = recorder.present().await.map_err(RecorderError::from)?;
        let states = present.states.iter().filter_map(|state| parse_state(state.state.get(), clock::now()).ok());
        let states = states.map(|state| (state.entity.clone(), state)).collect();
        Ok(Now { states, registries: present.registries })
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

    /// Until the recorder has written what it was told. In a backup of Home Assistant it writes nothing for minutes.
    async fn until_written(&self, recorder: &mut Recorder) -> Result<(), Open> {
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

    /// Whether the recorder still has what was before the gap, of anybody who was known.
    async fn reaches_back(&self, recorder: &mut Recorder, gap: Gap) -> Result<bool, Open> {
        let wishes = self.wishes();
        let known: Vec<EntityId> =
            self.known.all().filter(|entity| entity.is_valid() && (wishes.wants)(entity)).collect();
        for entities in known.chunks(TOGETHER) {
            let window = Window { entities: entities.into(), from: gap.known_until(), until: gap.past_end() };
            if recorder.reaches_back(&window).await.map_err(RecorderError::from)? {
                return Ok(true);
            }
        }
        Ok(known.is_empty())
    }

    async fn walk(&mut self, recorder: &mut Recorder, gap: Gap, now: &Now, is_first: bool) -> Result<(), Open> {
        let tags = self.wishes().tags;
        let from = self.done.reached.filter(|_| is_first).map_or(gap.from, |reached| reached.max(gap.from));
        let mut windows = Windows::new(&self.done.entities, from, gap.past_end());
        let mut failures = 0;
        while let Some(window) = windows.next_window() {
            self.live_first().await;
            let asked = Instant::now();
            let rows = match recorder.rows(window).await {
                Ok(rows) => rows,
                // Who cannot carry an answer breaks the connection, or what arrives is not all of it.
                Err(err @ (AskError::TooLarge | AskError::Closed | AskError::Timeout | AskError::Unreadable(_))) => {
                    failures += 1;
                    *recorder = Recorder::connect(&self.parts.home).await.map_err(RecorderError::from)?;
                    if (err == AskError::TooLarge || failures >= TRIES)
                        && let Some(lost) = windows.too_large()
                    {
                        self.give_up(&lost, &err);
                    }
                    continue;
                }
                Err(err) => return Err(RecorderError::from(err).into()),
            };
            failures = 0;
            let took = asked.elapsed();
            windows.answered(rows.bytes);
            self.parts.board.history.fetched(rows.count(), rows.unreadable, windows.reached());
            self.hand_over(rows, &now.states, &tags).await?;
            if is_first {
                self.done.reached = Some(windows.reached());
            }
            if is_first && windows.reached() < Timestamp::from_micros(gap.until.as_micros() - FRESH_MICROS) {
                let reached = Past::Reached(windows.reached());
                self.parts.past.send(reached).await.map_err(|_| Open::NoPipeline)?;
            }
            sleep(took.clamp(Duration::from_millis(20), Duration::from_secs(2))).await;
        }
        Ok(())
    }

    /// A second of one entity that nobody can bring here.
    fn give_up(&self, lost: &Window, err: &AskError) {
        let entity = lost.entities.first().map(|entity| entity.as_str().to_owned());
        let why = match err {
            AskError::Unreadable(_) => "the answer cannot be read",
            _ => "the answer is too large",
        };
        self.parts.board.history.fetched(0, 1, lost.from);
        self.tell(NotClosed { entity, from: lost.from, until: lost.until, why });
    }

    /// Returns of how many entities something is missing for certain.
    fn name_what_is_missing(&self, gap: Gap, now: &Now, reaches_back: bool) -> usize {
        let wishes = self.wishes();
        let evidence = &self.done.evidence;
        let mut named = HashSet::new();
        let known: Vec<EntityId> = if reaches_back { Vec::new() } else { self.known.all().collect() };
        for entity in known.iter().filter(|entity| (wishes.wants)(entity)) {
            let since = now.states.get(entity).map(|state| state.last_updated);
            if since.is_some_and(|since| since <= gap.from) {
                // It is as it was before.
                continue;
            }
            let Some(begins) = evidence.first(entity).or(since) else { continue };
            named.insert(entity);
            let until = begins.min(gap.until);
            let entity = Some(entity.as_str().to_owned());
            self.tell(NotClosed { entity, from: gap.from, until, why: "history begins later, or was purged" });
        }
        for (entity, since) in evidence.missing() {
            if (wishes.wants)(entity) && named.insert(entity) {
                let entity = Some(entity.as_str().to_owned());
                self.tell(NotClosed { entity, from: gap.from, until: since, why: "not recorded" });
            }
        }
        named.len()
    }

    /// Home Assistant gives the past to the new name, unless that has one already.
    fn name_the_renamed(&mut self, registries: &Registries) {
        for rename in self.known.register(registries) {
            let past = if self.done.evidence.first(&rename.before).is_some() { &rename.before } else { &rename.now };
            info!(
                session = self.session.id,
                "{} is called {} now; what happened to it in the gap is written as that of {past}",
                rename.before,
                rename.now
            );
            let [before, now, history] = [&rename.before, &rename.now, past].map(ToString::to_string);
            self.parts.board.history.renamed(Renamed { before, now, history });
        }
    }

    async fn hand_over(
        &mut self,
        rows: Rows,
        present: &HashMap<EntityId, StateChange>,
        tags: &[String],
    ) -> Result<(), Open> {
        for (entity, rows) in rows.entities {
            let attributes = present.get(&entity).map(|state| &*state.attributes);
            let mut piece = Vec::with_capacity(rows.len().min(PIECE));
            for mut row in rows {
                self.done.evidence.saw(&entity, row.last_updated);
                if self.done.restored.is_one(&entity, &row) {
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
