//! The state of the service at one moment, as plain values. Health, readiness, metrics and every page are functions of
//! it.

use std::time::Duration;

use serde::Serialize;

use crate::model::time::Timestamp;

#[derive(Debug, Clone)]
pub struct Snapshot {
    pub version: &'static str,
    pub taken: Timestamp,
    pub uptime: Duration,
    pub stopping: bool,
    pub home_assistant: Link,
    pub target: Link,
    pub hass: Hass,
    pub books: Books,
    pub writes: Writes,
    /// How long ago each task last said that it is alive.
    pub tasks: Vec<(&'static str, Duration)>,
}

/// A connection to something outside.
#[derive(Debug, Clone)]
pub struct Link {
    pub name: &'static str,
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

/// Every event received has one of these fates:
/// `received = filtered + duplicates + refused + stored + held + lost`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Books {
    pub received: u64,
    pub filtered: Vec<(&'static str, u64)>,
    pub duplicates: u64,
    pub refused: Vec<(&'static str, u64)>,
    pub stored: u64,
    pub held: u64,
    pub lost: Vec<(&'static str, u64)>,
}

impl Books {
    /// What is missing on the right side of the balance. Events that are being shaped at this moment show here for an
    /// instant; at rest it is 0.
    #[must_use]
    pub fn unaccounted(&self) -> i128 {
        let sum = |reasons: &[(&str, u64)]| reasons.iter().map(|(_, count)| i128::from(*count)).sum::<i128>();
        let fates = sum(&self.filtered)
            + i128::from(self.duplicates)
            + sum(&self.refused)
            + i128::from(self.stored)
            + i128::from(self.held)
            + sum(&self.lost);
        i128::from(self.received) - fates
    }
}

/// What the delivery to the target counted.
#[derive(Debug, Clone, Default)]
pub struct Writes {
    /// Requests by their outcome, as the verdict names it.
    pub requests: Vec<(&'static str, u64)>,
    pub bytes_sent: u64,
    pub held_bytes: u64,
    pub last_batch_points: u64,
    pub last_success: Option<Timestamp>,
    /// Event time of the newest record that the target has.
    pub newest_stored: Option<Timestamp>,
    /// Texts that had to be changed to be written the same way in every dialect.
    pub adjusted_texts: u64,
    /// Numbers that line protocol cannot carry (not finite) and that were left out of their points.
    pub omitted_fields: u64,
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

#[cfg(test)]
mod tests {
    use super::Books;

    #[test]
    fn the_books_name_what_is_unaccounted_for() {
        let books = Books {
            received: 10,
            filtered: vec![("unknown", 1), ("removed", 1)],
            duplicates: 1,
            refused: vec![("no_fields", 1)],
            stored: 3,
            held: 1,
            lost: vec![("spool_full", 1)],
        };
        assert_eq!(books.unaccounted(), 1);
    }
}
