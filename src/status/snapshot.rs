//! The state of the service at one moment, as plain values. Health, readiness, metrics and every page are functions of
//! it.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::history::History;
use super::rules::Rules;
use crate::model::event::Source;
use crate::model::fate::Reason;
use crate::model::time::Timestamp;

#[derive(Debug, Clone)]
pub struct Snapshot {
    pub version: &'static str,
    pub taken: Timestamp,
    pub uptime: Duration,
    pub stopping: bool,
    pub home_assistant: Link,
    pub hass: Hass,
    pub mqtt: Mqtt,
    pub arrivals: Arrivals,
    /// The first is the main one.
    pub targets: Vec<Target>,
    pub spool: Spool,
    /// Lines in the dead-letter store.
    pub dead_letters: u64,
    /// Lines that left the dead-letter store because it was full.
    pub dead_letters_evicted: u64,
    /// What rules name and no entity is, and what they ask for that cannot be done: for people.
    pub unmatched: Vec<String>,
    /// The file `rules.yaml`.
    pub rules: Rules,
    pub history: History,
    /// How long ago each task last said that it is alive.
    pub tasks: Vec<(Cow<'static, str>, Duration)>,
}

impl Snapshot {
    /// What is missing from the books of this target.
    #[must_use]
    pub fn unaccounted(&self, target: &Target) -> i128 {
        self.arrivals.points() + i128::from(target.books.recovered) - target.books.fates()
    }
}

/// A connection to something outside.
#[derive(Debug, Clone)]
pub struct Link {
    pub name: Box<str>,
    pub state: LinkState,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// What it is: a version, a dialect. For people.
    pub detail: String,
    /// Round trip of the last ping or request.
    pub latency: Option<Duration>,
    pub last_error: Option<(Timestamp, String)>,
    pub connects: u64,
    pub failures: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Something that the user has to say is missing.
    NotConfigured,
    Connecting,
    Connected,
    /// Tried and failed; it is tried again.
    Failing,
}

/// What the Home Assistant session counted.
#[derive(Debug, Clone, Default)]
pub struct Hass {
    pub frames: u64,
    pub frame_bytes: u64,
    pub unreadable: Vec<(&'static str, u64)>,
    pub unknown_messages: u64,
    /// Entities whose state is known.
    pub entities: u64,
    pub sessions: u64,
    /// Bytes of frames that were read and not yet looked at.
    pub waiting_bytes: u64,
    pub last_event: Option<Timestamp>,
}

/// The MQTT broker, and what it sent. [`crate::status::mqtt::MqttBoard`] says what each number is.
#[derive(Debug, Clone)]
pub struct Mqtt {
    pub link: Link,
    pub sessions: u64,
    pub messages: u64,
    pub message_bytes: u64,
    pub redelivered: u64,
    pub copies: u64,
    pub unacknowledged: u64,
    pub topics: u64,
    pub last_message: Option<Timestamp>,
}

/// What came in, and what of it became no point.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Arrivals {
    /// By source.
    #[serde(serialize_with = "by_name")]
    pub received: Vec<(&'static str, u64)>,
    #[serde(serialize_with = "by_name")]
    pub filtered: Vec<(&'static str, u64)>,
    pub duplicates: u64,
    #[serde(serialize_with = "by_name")]
    pub refused: Vec<(&'static str, u64)>,
    /// What has no fate yet: a value that a rule holds back, a state that another source may tell better.
    pub waiting: u64,
    /// Texts that had to be changed to be written the same way in every dialect.
    pub adjusted_texts: u64,
    /// Numbers that line protocol cannot carry (not finite) and that were left out of their points.
    pub omitted_fields: u64,
}

impl Arrivals {
    #[must_use]
    pub fn received_from(&self, source: Source) -> u64 {
        let of_source = self.received.iter().filter(|(name, _)| *name == source.label());
        of_source.map(|(_, count)| count).sum()
    }

    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.iter().map(|(_, count)| count).sum()
    }

    /// Events that became points, which every target is to have. Below 0 for an instant while one is being shaped.
    #[must_use]
    pub fn points(&self) -> i128 {
        let elsewhere = sum(&self.filtered) + i128::from(self.duplicates) + sum(&self.refused);
        sum(&self.received) - elsewhere - i128::from(self.waiting)
    }
}

/// One place that points go to.
#[derive(Debug, Clone)]
pub struct Target {
    pub name: String,
    pub link: Link,
    pub circuit: Circuit,
    pub books: Books,
    pub backlog: Backlog,
    pub writes: Writes,
    /// `None`: nobody has looked yet.
    pub verified: Option<Verified>,
}

/// What `verify` found in the days that it has looked at: how many changes Home Assistant knows, and how many of them the
/// target lacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    pub known: u64,
    pub missing: u64,
}

/// The state of the circuit breaker before a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Circuit {
    /// Requests are made.
    Closed,
    /// None is made for a while, because too many failed.
    Open,
    /// A small one is made, to see whether it works again.
    HalfOpen,
}

/// Every point has one of these fates at each target: with what came in,
/// `received - filtered - duplicates - refused - waiting + recovered = stored + held + set aside + expired + not representable +
/// dropped`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Books {
    /// Records of an earlier run that were found on disk at the start.
    pub recovered: u64,
    pub stored: u64,
    pub held: u64,
    /// In the dead-letter store.
    #[serde(serialize_with = "by_name")]
    pub set_aside: Vec<(&'static str, u64)>,
    /// Older than what the database keeps.
    pub expired: u64,
    /// Without a number, at a database that keeps numbers only.
    pub not_representable: u64,
    #[serde(serialize_with = "by_name")]
    pub dropped: Vec<(&'static str, u64)>,
}

impl Books {
    #[must_use]
    pub fn set_aside(&self) -> u64 {
        self.set_aside.iter().map(|(_, count)| count).sum()
    }

    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.iter().map(|(_, count)| count).sum()
    }

    fn fates(&self) -> i128 {
        i128::from(self.stored)
            + i128::from(self.held)
            + sum(&self.set_aside)
            + i128::from(self.expired)
            + i128::from(self.not_representable)
            + sum(&self.dropped)
    }
}

/// `{"unknown": 3, ...}`.
fn by_name<S: Serializer>(counts: &[(&'static str, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(counts.iter().copied())
}

fn sum(reasons: &[(&str, u64)]) -> i128 {
    reasons.iter().map(|(_, count)| i128::from(*count)).sum()
}

/// What waits for a target on disk, and for how long.
#[derive(Debug, Clone, Default)]
pub struct Backlog {
    pub records: u64,
    /// Event time of the oldest record that waits, on disk or in memory; of no meaning while none does.
    pub oldest: Option<Timestamp>,
    /// Home Assistant's time such that everything it told until then is in the target, on this disk, set aside, or counted as
    /// lost. It waits while a gap is open, and goes back only if Home Assistant's clock did.
    pub watermark: Option<Timestamp>,
    /// The time of the earliest record that was lost, until history has given it back.
    pub torn: Option<Timestamp>,
    /// How fast it shrinks; 0 while it does not.
    pub drained_per_second: f64,
}

impl Backlog {
    /// Until nothing is left of it, at this pace. `None` while it does not shrink.
    #[must_use]
    pub fn empty_in(&self) -> Option<Duration> {
        #[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
        let records = self.records as f64;
        if records == 0.0 {
            return Some(Duration::ZERO);
        }
        Duration::try_from_secs_f64(records / self.drained_per_second).ok()
    }
}

/// The spool as a whole.
#[derive(Debug, Clone, Default)]
pub struct Spool {
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    pub limit_bytes: u64,
    pub written_bytes: u64,
    pub syncs: u64,
    /// By what was asked of the disk.
    pub errors: Vec<(&'static str, u64)>,
    /// Records and torn ends that could not be read back.
    pub damaged: u64,
    /// Set while the disk does not take records.
    pub degraded: Option<Degraded>,
    /// How long the disk took to make sure.
    pub sync_seconds: Histogram,
}

#[derive(Debug, Clone)]
pub struct Degraded {
    pub since: Timestamp,
    /// Why, and what to do.
    pub words: String,
}

/// What the delivery to the target counted.
#[derive(Debug, Clone, Default)]
pub struct Writes {
    /// Requests by their outcome, as the verdict names it.
    pub requests: Vec<(&'static str, u64)>,
    pub bytes_sent: u64,
    pub last_batch_points: u64,
    pub last_success: Option<Timestamp>,
    /// Event time of the newest record that the target has.
    pub newest_stored: Option<Timestamp>,
    /// Duration of write requests.
    pub seconds: Histogram,
}

/// How many values fell into each bucket, by the bucket's upper bound; the last bound is infinite.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    pub buckets: Vec<(f64, u64)>,
    pub sum: f64,
    pub count: u64,
}

impl Histogram {
    /// The last bound is infinite.
    #[must_use]
    pub fn with_bounds(bounds: &[f64]) -> Self {
        Self { buckets: bounds.iter().map(|bound| (*bound, 0)).collect(), ..Self::default() }
    }

    pub fn add(&mut self, value: Duration) {
        let value = value.as_secs_f64();
        let bucket = self.buckets.partition_point(|(bound, _)| *bound < value);
        self.buckets[bucket].1 += 1;
        self.sum += value;
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Backlog;
    use crate::model::event::Source;
    use crate::model::fate::{Dropped, Filtered, Refused, SetAside};
    use crate::model::time::Timestamp;
    use crate::status::board::Board;

    #[test]
    fn the_books_of_each_target_name_what_is_unaccounted_for() {
        let board = Board::of(&["influxdb", "mirror_1"], Instant::now(), Timestamp::from_micros(0));
        board.arrivals.received.add(Source::HomeAssistant, 22);
        board.arrivals.filtered.add(Filtered::Unknown, 1);
        board.arrivals.filtered.add(Filtered::Removed, 1);
        board.arrivals.duplicates.add(1);
        board.arrivals.refused.add(Refused::NoFields, 1);
        board.arrivals.waiting.set(2);
        let books = &board.targets[0].books;
        books.recovered.add(5);
        books.stored.add(10);
        books.held.set(3);
        books.set_aside.add(SetAside::TypeConflict, 2);
        books.expired.add(2);
        books.dropped.add(Dropped::SpoolFull, 3);
        let seen = board.snapshot(Instant::now(), Timestamp::from_micros(0));
        assert_eq!(seen.unaccounted(&seen.targets[0]), 1);
        assert_eq!(seen.unaccounted(&seen.targets[1]), 16);
    }

    #[test]
    fn a_backlog_is_empty_at_once_in_time_or_never() {
        let backlog = |records, drained_per_second| Backlog { records, drained_per_second, ..Backlog::default() };
        assert_eq!(backlog(0, 0.0).empty_in(), Some(Duration::ZERO));
        assert_eq!(backlog(100, 20.0).empty_in(), Some(Duration::from_secs(5)));
        assert_eq!(backlog(100, 0.0).empty_in(), None);
    }
}
