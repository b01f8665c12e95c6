//! What is known of gaps: the one that is being closed, what was, and what cannot be.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use serde::{Serialize, Serializer};

use super::board::lock;
use crate::model::time::Timestamp;

/// Of gaps that cannot be closed the last so many are named.
const MOST_NAMED: usize = 200;

#[derive(Debug, Clone, Default, Serialize)]
pub struct History {
    /// The gap that is open now.
    pub gap: Option<Gap>,
    pub gaps_closed: u64,
    /// How long they were, together.
    pub gap_seconds: f64,
    /// Rows of the recorder that were told to the pipeline.
    pub rows: u64,
    /// Answers, or parts of them, that could not be read.
    pub unreadable: u64,
    pub not_closed_total: u64,
    /// The newest of them, oldest first.
    pub not_closed: VecDeque<NotClosed>,
}

/// What happened from `from` until `until`, by Home Assistant's clock, is not known yet.
#[derive(Debug, Clone, Serialize)]
pub struct Gap {
    #[serde(serialize_with = "text")]
    pub from: Timestamp,
    #[serde(serialize_with = "text")]
    pub until: Timestamp,
    /// Everything before this was fetched.
    #[serde(serialize_with = "text")]
    pub reached: Timestamp,
    pub rows: u64,
    /// What is being done, or waited for.
    pub phase: String,
}

/// What happened to an entity in this time is not in Home Assistant's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotClosed {
    /// `None`: all of them.
    pub entity: Option<String>,
    #[serde(serialize_with = "text")]
    pub from: Timestamp,
    #[serde(serialize_with = "text")]
    pub until: Timestamp,
    pub why: &'static str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn text<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

#[derive(Default)]
pub struct HistoryBoard(Mutex<History>);

impl HistoryBoard {
    pub fn open(&self, from: Timestamp, until: Timestamp, phase: &str) {
        self.lock().gap = Some(Gap { from, until, reached: from, rows: 0, phase: phase.to_owned() });
    }

    pub fn phase(&self, phase: &str) {
        if let Some(gap) = &mut self.lock().gap
            && gap.phase != phase
        {
            phase.clone_into(&mut gap.phase);
        }
    }

    pub fn fetched(&self, rows: u64, unreadable: u64, reached: Timestamp) {
        let mut history = self.lock();
        history.rows += rows;
        history.unreadable += unreadable;
        if let Some(gap) = &mut history.gap {
            gap.rows += rows;
            gap.reached = gap.reached.max(reached);
        }
    }

    /// Returns the gap, if there was one.
    pub fn closed(&self) -> Option<Gap> {
        let mut history = self.lock();
        let gap = history.gap.take()?;
        history.gaps_closed += 1;
        #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
        let seconds = (gap.until.as_micros() - gap.from.as_micros()) as f64 / 1e6;
        history.gap_seconds += seconds.max(0.0);
        Some(gap)
    }

    pub fn not_closed(&self, what: NotClosed) {
        let mut history = self.lock();
        history.not_closed_total += 1;
        if history.not_closed.len() == MOST_NAMED {
            history.not_closed.pop_front();
        }
        history.not_closed.push_back(what);
    }

    #[must_use]
    pub fn is_open(&self) -> bool {
        self.lock().gap.is_some()
    }

    #[must_use]
    pub fn snapshot(&self) -> History {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{HistoryBoard, MOST_NAMED, NotClosed};
    use crate::model::time::Timestamp;

    #[test]
    fn a_gap_is_counted_when_it_is_closed() {
        let board = HistoryBoard::default();
        let at = Timestamp::from_micros;
        board.open(at(0), at(2_500_000), "asking");
        board.fetched(7, 1, at(5));
        assert_eq!(board.snapshot().gap.unwrap().rows, 7);
        assert_eq!(board.closed().unwrap().reached, at(5));
        assert!(board.closed().is_none());
        let seen = board.snapshot();
        assert_eq!((seen.gaps_closed, seen.rows, seen.unreadable, board.is_open()), (1, 7, 1, false));
        assert!((seen.gap_seconds - 2.5).abs() < 1e-9);
    }

    #[test]
    fn the_newest_that_cannot_be_closed_are_named() {
        let board = HistoryBoard::default();
        let at = Timestamp::from_micros;
        for number in 0..=MOST_NAMED {
            let entity = Some(format!("sensor.s{number}"));
            board.not_closed(NotClosed { entity, from: at(0), until: at(1), why: "not recorded" });
        }
        let seen = board.snapshot();
        assert_eq!((seen.not_closed_total, seen.not_closed.len()), (MOST_NAMED as u64 + 1, MOST_NAMED));
        assert_eq!(seen.not_closed[0].entity.as_deref(), Some("sensor.s1"));
    }
}
