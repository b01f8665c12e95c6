//! Where the parts write what they did. Counters are lock-free; what changes rarely is behind short locks that are
//! never held across an await.

use std::borrow::Cow;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::model::event::Source;
use crate::model::fate::{Filtered, Reason, Refused, Unreadable};
use crate::model::registries::Registries;
use crate::model::time::Timestamp;

use super::history::HistoryBoard;
use super::mqtt::MqttBoard;
use super::rules::RulesBoard;
use super::snapshot::{Arrivals, Hass, Histogram, Link, LinkState, Snapshot, Spool};
use super::target::{BOUNDS, TargetBoard};

/// One for the whole service, shared by reference.
pub struct Board {
    started: Instant,
    stopping: AtomicBool,
    pub home_assistant: LinkBoard,
    pub hass: HassBoard,
    pub mqtt: MqttBoard,
    pub arrivals: ArrivalsBoard,
    /// The first is the main one.
    pub targets: Vec<Arc<TargetBoard>>,
    pub spool: SpoolBoard,
    pub dead_letters: DeadLettersBoard,
    /// What rules say in vain, for people.
    unmatched: Mutex<Vec<String>>,
    registries: Mutex<Arc<Registries>>,
    pub rules: RulesBoard,
    pub history: HistoryBoard,
    beats: Mutex<Vec<(Cow<'static, str>, Instant)>>,
}

impl Board {
    /// With one target, `influxdb`. `now`: the wall clock, for "since".
    #[must_use]
    pub fn new(started: Instant, now: Timestamp) -> Self {
        Self::of(&["influxdb"], started, now)
    }

    /// `targets`: their names.
    #[must_use]
    pub fn of(targets: &[impl AsRef<str>], started: Instant, now: Timestamp) -> Self {
        Self {
            started,
            stopping: AtomicBool::new(false),
            home_assistant: LinkBoard::new("home_assistant", now),
            hass: HassBoard::default(),
            mqtt: MqttBoard::new(now),
            arrivals: ArrivalsBoard::default(),
            targets: targets.iter().map(|name| Arc::new(TargetBoard::new(name.as_ref(), now))).collect(),
            spool: SpoolBoard::default(),
            dead_letters: DeadLettersBoard::default(),
            unmatched: Mutex::default(),
            registries: Mutex::default(),
            rules: RulesBoard::new(now),
            history: HistoryBoard::default(),
            beats: Mutex::new(Vec::new()),
        }
    }

    pub fn set_stopping(&self) {
        self.stopping.store(true, Relaxed);
    }

    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    /// What rules name and no entity is, and what they ask for that cannot be done.
    pub fn set_registries(&self, registries: Arc<Registries>) {
        *lock(&self.registries) = registries;
    }

    /// What Home Assistant's registries said last; empty before that.
    #[must_use]
    pub fn registries(&self) -> Arc<Registries> {
        Arc::clone(&lock(&self.registries))
    }

    pub fn set_unmatched(&self, words: Vec<String>) {
        *lock(&self.unmatched) = words;
    }

    /// A task says that it is alive. Tasks do so at least every [`crate::runtime::BEAT`].
    pub fn beat(&self, task: impl Into<Cow<'static, str>>, now: Instant) {
        let task = task.into();
        let mut beats = lock(&self.beats);
        match beats.iter_mut().find(|(name, _)| *name == task) {
            Some((_, last)) => *last = now,
            None => beats.push((task, now)),
        }
    }

    #[must_use]
    pub fn snapshot(&self, now: Instant, wall: Timestamp) -> Snapshot {
        // The order of the reads makes one truth of them. A gap is opened before Home Assistant is called connected, and
        // closed when its rows are in the books: so the connection is read first, then the gap, then the books. Fates are
        // read before arrivals: an event between the two reads is then missing from the fates for an instant, and never
        // counted before it came.
        let home_assistant = self.home_assistant.snapshot();
        let history = self.history.snapshot();
        let targets = self.targets.iter().map(|target| target.snapshot()).collect();
        Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            taken: wall,
            uptime: now.saturating_duration_since(self.started),
            stopping: self.stopping.load(Relaxed),
            home_assistant,
            hass: self.hass.snapshot(),
            mqtt: self.mqtt.snapshot(),
            targets,
            arrivals: self.arrivals.snapshot(),
            spool: lock(&self.spool.0).clone(),
            dead_letters: self.dead_letters.kept.get(),
            dead_letters_evicted: self.dead_letters.evicted.get(),
            unmatched: lock(&self.unmatched).clone(),
            rules: self.rules.snapshot(),
            history,
            tasks: lock(&self.beats)
                .iter()
                .map(|(name, last)| (name.clone(), now.saturating_duration_since(*last)))
                .collect(),
        }
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that is set. Whoever reads it sees whatever was counted before it was set.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn set(&self, value: u64) {
        self.0.store(value, Release);
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Acquire)
    }
}

/// A time that is set, or not yet.
#[derive(Debug)]
pub struct Moment(AtomicI64);

impl Default for Moment {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl Moment {
    pub fn set(&self, time: Timestamp) {
        self.0.store(time.as_micros(), Relaxed);
    }

    /// `None`: not any more.
    pub fn put(&self, time: Option<Timestamp>) {
        self.0.store(time.map_or(i64::MIN, Timestamp::as_micros), Relaxed);
    }

    pub fn raise(&self, time: Timestamp) {
        self.0.fetch_max(time.as_micros(), Relaxed);
    }

    #[must_use]
    pub fn get(&self) -> Option<Timestamp> {
        Some(self.0.load(Relaxed)).filter(|micros| *micros != i64::MIN).map(Timestamp::from_micros)
    }
}

/// One counter for each reason.
#[derive(Debug)]
pub struct ByReason<R: Reason> {
    counts: Box<[Counter]>,
    reasons: std::marker::PhantomData<R>,
}

impl<R: Reason> Default for ByReason<R> {
    fn default() -> Self {
        Self { counts: R::ALL.iter().map(|_| Counter::default()).collect(), reasons: std::marker::PhantomData }
    }
}

impl<R: Reason> ByReason<R> {
    pub fn add(&self, reason: R, more: u64) {
        self.counts[reason.index()].add(more);
    }

    #[must_use]
    pub fn of(&self, reason: R) -> u64 {
        self.counts[reason.index()].get()
    }

    #[must_use]
    pub fn get(&self) -> Vec<(&'static str, u64)> {
        R::ALL.iter().map(|reason| (reason.label(), self.counts[reason.index()].get())).collect()
    }
}

/// The state of one connection, written by the task that owns it.
pub struct LinkBoard(Mutex<Link>);

impl LinkBoard {
    pub(super) fn new(name: &str, now: Timestamp) -> Self {
        Self(Mutex::new(Link {
            name: name.into(),
            state: LinkState::Connecting,
            since: now,
            detail: String::new(),
            latency: None,
            last_error: None,
            connects: 0,
            failures: 0,
        }))
    }

    /// `what` the user has to say, in the option's name.
    pub fn not_configured(&self, what: &str, now: Timestamp) {
        let mut link = lock(&self.0);
        link.enter(LinkState::NotConfigured, now);
        what.clone_into(&mut link.detail);
    }

    /// Nothing is wrong, but it takes a while: `what` is waited for.
    pub fn connecting(&self, what: &str, now: Timestamp) {
        let mut link = lock(&self.0);
        link.enter(LinkState::Connecting, now);
        what.clone_into(&mut link.detail);
    }

    pub fn connected(&self, detail: &str, now: Timestamp) {
        let mut link = lock(&self.0);
        if link.state != LinkState::Connected {
            link.connects += 1;
        }
        link.enter(LinkState::Connected, now);
        detail.clone_into(&mut link.detail);
    }

    /// `error`: one sentence for people, free of secrets.
    pub fn failed(&self, error: &str, now: Timestamp) {
        let mut link = lock(&self.0);
        link.enter(LinkState::Failing, now);
        link.failures += 1;
        link.last_error = Some((now, error.to_owned()));
    }

    pub fn latency(&self, round_trip: Duration) {
        lock(&self.0).latency = Some(round_trip);
    }

    pub(super) fn snapshot(&self) -> Link {
        lock(&self.0).clone()
    }

    #[must_use]
    pub fn state(&self) -> LinkState {
        lock(&self.0).state
    }
}

impl Link {
    fn enter(&mut self, state: LinkState, now: Timestamp) {
        if self.state != state {
            self.state = state;
            self.since = now;
        }
    }
}

#[derive(Default)]
pub struct HassBoard {
    pub frames: Counter,
    pub frame_bytes: Counter,
    pub unreadable: ByReason<Unreadable>,
    pub unknown_messages: Counter,
    pub entities: Gauge,
    pub sessions: Counter,
    pub waiting_bytes: Gauge,
    pub last_event: Moment,
}

impl HassBoard {
    fn snapshot(&self) -> Hass {
        Hass {
            frames: self.frames.get(),
            frame_bytes: self.frame_bytes.get(),
            unreadable: self.unreadable.get(),
            unknown_messages: self.unknown_messages.get(),
            entities: self.entities.get(),
            sessions: self.sessions.get(),
            waiting_bytes: self.waiting_bytes.get(),
            last_event: self.last_event.get(),
        }
    }
}

/// What came in, and what of it became a point.
#[derive(Default)]
pub struct ArrivalsBoard {
    /// Events that a source handed to the pipeline.
    pub received: ByReason<Source>,
    pub filtered: ByReason<Filtered>,
    pub duplicates: Counter,
    pub refused: ByReason<Refused>,
    /// Events that have no fate yet: their turn comes later.
    pub waiting: Gauge,
    pub adjusted_texts: Counter,
    pub omitted_fields: Counter,
}

impl ArrivalsBoard {
    fn snapshot(&self) -> Arrivals {
        Arrivals {
            filtered: self.filtered.get(),
            duplicates: self.duplicates.get(),
            refused: self.refused.get(),
            waiting: self.waiting.get(),
            adjusted_texts: self.adjusted_texts.get(),
            omitted_fields: self.omitted_fields.get(),
            received: self.received.get(),
        }
    }
}

/// The spool as a whole.
pub struct SpoolBoard(Mutex<Spool>);

impl Default for SpoolBoard {
    fn default() -> Self {
        Self(Mutex::new(Spool { sync_seconds: Histogram::with_bounds(&BOUNDS), ..Spool::default() }))
    }
}

impl SpoolBoard {
    pub fn update(&self, change: impl FnOnce(&mut Spool)) {
        change(&mut lock(&self.0));
    }

    #[must_use]
    pub fn snapshot(&self) -> Spool {
        lock(&self.0).clone()
    }

    #[must_use]
    pub fn is_degraded(&self) -> bool {
        lock(&self.0).degraded.is_some()
    }
}

#[derive(Default)]
pub struct DeadLettersBoard {
    /// Lines in the store.
    pub kept: Gauge,
    /// Lines that left it because it was full.
    pub evicted: Counter,
}

/// A status value is whole after each statement, so one left by a panic is still true.
pub(super) fn lock<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    value.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::Board;
    use crate::model::time::Timestamp;
    use crate::status::snapshot::LinkState;

    /// The connection says which session it is, and the books hold as many points when its gap is closed.
    #[test]
    fn who_reads_connected_and_no_gap_finds_the_rows_of_the_gap_in_the_books() {
        let at = Timestamp::from_micros;
        let board = Board::new(Instant::now(), at(0));
        let is_over = AtomicBool::new(false);
        let sessions = 20_000;
        let live = |session: u64| {
            board.history.check(session);
            board.home_assistant.connected(&session.to_string(), at(0));
            let number = board.history.open(session, (at(0), at(1)), Duration::ZERO, "fetching");
            board.targets[0].books.held.set(session);
            board.history.closed(number);
            board.home_assistant.failed("it hung up", at(0));
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                (1..=sessions).for_each(live);
                is_over.store(true, Relaxed);
            });
            while !is_over.load(Relaxed) {
                let seen = board.snapshot(Instant::now(), at(0));
                if seen.home_assistant.state == LinkState::Connected && !seen.history.is_open() {
                    let session = seen.home_assistant.detail.parse().unwrap();
                    assert!(seen.targets[0].books.held >= session, "of session {session}");
                }
            }
        });
    }
}
