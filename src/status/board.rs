//! Where the parts write what they did. Counters are lock-free; what changes rarely is behind short locks that are
//! never held across an await.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::model::fate::{Filtered, Lost, Reason, Refused, Unreadable};
use crate::model::time::Timestamp;

use super::snapshot::{Books, Hass, Histogram, Link, LinkState, Snapshot, Writes};

/// One for the whole service, shared by reference.
pub struct Board {
    started: Instant,
    stopping: AtomicBool,
    pub home_assistant: LinkBoard,
    pub target: LinkBoard,
    pub hass: HassBoard,
    pub books: BooksBoard,
    pub writes: WritesBoard,
    beats: Mutex<Vec<(&'static str, Instant)>>,
}

impl Board {
    /// `now`: the wall clock, for "since".
    #[must_use]
    pub fn new(started: Instant, now: Timestamp) -> Self {
        Self {
            started,
            stopping: AtomicBool::new(false),
            home_assistant: LinkBoard::new("home_assistant", now),
            target: LinkBoard::new("influxdb", now),
            hass: HassBoard::default(),
            books: BooksBoard::default(),
            writes: WritesBoard::default(),
            beats: Mutex::new(Vec::new()),
        }
    }

    pub fn set_stopping(&self) {
        self.stopping.store(true, Relaxed);
    }

    /// A task says that it is alive. Tasks do so at least every [`crate::runtime::BEAT`].
    pub fn beat(&self, task: &'static str, now: Instant) {
        let mut beats = lock(&self.beats);
        match beats.iter_mut().find(|(name, _)| *name == task) {
            Some((_, last)) => *last = now,
            None => beats.push((task, now)),
        }
    }

    #[must_use]
    pub fn snapshot(&self, now: Instant, wall: Timestamp) -> Snapshot {
        // Fates are read before arrivals: an event between the two reads is then missing from the fates for an
        // instant, and never counted before it came.
        let books = self.books.snapshot();
        Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            taken: wall,
            uptime: now.saturating_duration_since(self.started),
            stopping: self.stopping.load(Relaxed),
            home_assistant: lock(&self.home_assistant.0).clone(),
            target: lock(&self.target.0).clone(),
            hass: self.hass.snapshot(),
            books,
            writes: self.writes.snapshot(),
            tasks: lock(&self.beats).iter().map(|(name, last)| (*name, now.saturating_duration_since(*last))).collect(),
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

/// A number that is set.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
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
    fn new(name: &'static str, now: Timestamp) -> Self {
        Self(Mutex::new(Link {
            name,
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

#[derive(Default)]
pub struct BooksBoard {
    /// Events that a source handed to the pipeline.
    pub received: Counter,
    pub filtered: ByReason<Filtered>,
    pub duplicates: Counter,
    pub refused: ByReason<Refused>,
    pub stored: Counter,
    /// Records in the spool that the target does not have.
    pub held: Gauge,
    pub lost: ByReason<Lost>,
}

impl BooksBoard {
    fn snapshot(&self) -> Books {
        Books {
            filtered: self.filtered.get(),
            duplicates: self.duplicates.get(),
            refused: self.refused.get(),
            stored: self.stored.get(),
            held: self.held.get(),
            lost: self.lost.get(),
            received: self.received.get(),
        }
    }
}

pub struct WritesBoard {
    requests: Mutex<Vec<(&'static str, u64)>>,
    pub bytes_sent: Counter,
    pub held_bytes: Gauge,
    pub last_batch_points: Gauge,
    pub last_success: Moment,
    pub newest_stored: Moment,
    pub adjusted_texts: Counter,
    pub omitted_fields: Counter,
    seconds: Mutex<Histogram>,
}

impl Default for WritesBoard {
    fn default() -> Self {
        let buckets = Self::BOUNDS.iter().map(|bound| (*bound, 0)).collect();
        Self {
            requests: Mutex::default(),
            bytes_sent: Counter::default(),
            held_bytes: Gauge::default(),
            last_batch_points: Gauge::default(),
            last_success: Moment::default(),
            newest_stored: Moment::default(),
            adjusted_texts: Counter::default(),
            omitted_fields: Counter::default(),
            seconds: Mutex::new(Histogram { buckets, ..Histogram::default() }),
        }
    }
}

impl WritesBoard {
    /// Upper bounds in seconds, from a local database to one that is about to time out.
    const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 5.0, 10.0, f64::INFINITY];

    /// A request came back, or did not; `outcome` is the name of the verdict.
    pub fn request(&self, outcome: &'static str, took: Duration) {
        let mut requests = lock(&self.requests);
        match requests.iter_mut().find(|(name, _)| *name == outcome) {
            Some((_, count)) => *count += 1,
            None => requests.push((outcome, 1)),
        }
        drop(requests);
        let mut seconds = lock(&self.seconds);
        let took = took.as_secs_f64();
        let bucket = Self::BOUNDS.partition_point(|bound| *bound < took);
        seconds.buckets[bucket].1 += 1;
        seconds.sum += took;
        seconds.count += 1;
    }

    fn snapshot(&self) -> Writes {
        Writes {
            requests: lock(&self.requests).clone(),
            bytes_sent: self.bytes_sent.get(),
            held_bytes: self.held_bytes.get(),
            last_batch_points: self.last_batch_points.get(),
            last_success: self.last_success.get(),
            newest_stored: self.newest_stored.get(),
            adjusted_texts: self.adjusted_texts.get(),
            omitted_fields: self.omitted_fields.get(),
            seconds: lock(&self.seconds).clone(),
        }
    }
}

/// A status value is whole after each statement, so one left by a panic is still true.
fn lock<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    value.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
