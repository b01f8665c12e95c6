//! What is known of gaps: the one that is being closed, what was, and what cannot be.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::board::lock;
use crate::model::time::Timestamp;

/// Of gaps that cannot be closed the last so many are named.
const MOST_NAMED: usize = 200;

#[derive(Debug, Clone, Default, Serialize)]
pub struct History {
    /// The session with Home Assistant that has begun, while it is not decided yet whether anything is to be fetched from
    /// before it. Sessions are numbered from 1 in a run of the program. As JSON: whether there is one.
    #[serde(serialize_with = "is_some")]
    pub checking: Option<u64>,
    /// The gap that is open now.
    pub gap: Option<Gap>,
    #[serde(skip)]
    gaps_opened: u64,
    pub gaps_closed: u64,
    /// How long nobody listened, together.
    pub gap_seconds: f64,
    /// Rows of the recorder that were told to the pipeline.
    pub rows: u64,
    /// Answers, or parts of them, that could not be read.
    pub unreadable: u64,
    pub not_closed_total: u64,
    /// The newest of them, oldest first.
    pub not_closed: VecDeque<NotClosed>,
    /// Entities that got another name while nobody listened, the newest last.
    pub renamed: VecDeque<Renamed>,
}

impl History {
    /// Returns whether something that happened may be missing and is still to be fetched.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.gap.is_some() || self.checking.is_some()
    }

    fn decided(&mut self, session: u64) {
        self.checking = self.checking.filter(|checking| *checking > session);
    }
}

/// An entity that got another name while nobody listened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Renamed {
    pub before: String,
    pub now: String,
    /// Under which name the history has what happened before it had the new one.
    pub history: String,
}

/// What happened from `from` until `until`, by Home Assistant's clock, is not known yet.
#[derive(Debug, Clone, Serialize)]
pub struct Gap {
    /// From 1 in this run of the program.
    #[serde(skip)]
    pub number: u64,
    #[serde(serialize_with = "text")]
    pub from: Timestamp,
    #[serde(serialize_with = "text")]
    pub until: Timestamp,
    /// How long nobody listened.
    pub away_seconds: f64,
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

#[expect(clippy::ref_option, reason = "serde asks for a reference")]
fn is_some<T, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(value.is_some())
}

#[derive(Default)]
pub struct HistoryBoard(Mutex<History>);

impl HistoryBoard {
    /// Says that a session begins, before anybody hears that Home Assistant is connected: whoever reads that and "no gap is
    /// open" together may rely on it.
    pub fn check(&self, session: u64) {
        self.lock().checking = Some(session);
    }

    /// Says that nothing is to be fetched from before the session.
    pub fn nothing_missed(&self, session: u64) {
        self.lock().decided(session);
    }

    /// Opens a gap before or in the session. `away`: how long nobody listened. Returns its number.
    pub fn open(&self, session: u64, (from, until): (Timestamp, Timestamp), away: Duration, phase: &str) -> u64 {
        let mut history = self.lock();
        history.decided(session);
        history.gaps_opened += 1;
        let number = history.gaps_opened;
        let (away_seconds, phase) = (away.as_secs_f64(), phase.to_owned());
        history.gap = Some(Gap { number, from, until, away_seconds, reached: from, rows: 0, phase });
        number
    }

    /// The gap of this number ends then.
    pub fn until(&self, number: u64, until: Timestamp) {
        if let Some(gap) = self.lock().gap.as_mut().filter(|gap| gap.number == number) {
            gap.until = until;
        }
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

    /// Closes the gap of this number, and returns it. `None`: another one was opened meanwhile, which stays open.
    pub fn closed(&self, number: u64) -> Option<Gap> {
        let mut history = self.lock();
        let gap = history.gap.take_if(|gap| gap.number == number)?;
        history.gaps_closed += 1;
        history.gap_seconds += gap.away_seconds;
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

    pub fn renamed(&self, what: Renamed) {
        let mut history = self.lock();
        if history.renamed.len() == MOST_NAMED {
            history.renamed.pop_front();
        }
        history.renamed.push_back(what);
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
    use std::time::Duration;

    use super::{HistoryBoard, MOST_NAMED, NotClosed};
    use crate::model::time::Timestamp;

    #[test]
    fn a_gap_is_counted_when_it_is_closed() {
        let board = HistoryBoard::default();
        let at = Timestamp::from_micros;
        let number = board.open(1, (at(0), at(9)), Duration::from_millis(2_500), "asking");
        board.fetched(7, 1, at(5));
        assert_eq!(board.snapshot().gap.unwrap().rows, 7);
        assert_eq!(board.closed(number).unwrap().reached, at(5));
        assert!(board.closed(number).is_none());
        let seen = board.snapshot();
        assert_eq!((seen.gaps_closed, seen.rows, seen.unreadable, seen.is_open()), (1, 7, 1, false));
        assert!((seen.gap_seconds - 2.5).abs() < 1e-9);
    }

    #[test]
    fn what_ends_late_closes_no_gap_but_its_own() {
        let board = HistoryBoard::default();
        let at = Timestamp::from_micros;
        let first = board.open(1, (at(0), at(5)), Duration::ZERO, "asking");
        let second = board.open(2, (at(0), at(9)), Duration::ZERO, "asking");
        assert!(board.closed(first).is_none());
        assert!(board.snapshot().is_open());
        assert_eq!(board.closed(second).unwrap().until, at(9));
        assert!(!board.snapshot().is_open());
    }

    #[test]
    fn from_the_beginning_of_a_session_until_it_is_decided_a_gap_may_be_open() {
        let board = HistoryBoard::default();
        let at = Timestamp::from_micros;
        let is_open = || board.snapshot().is_open();
        assert!(!is_open());
        board.check(1);
        assert!(is_open());
        board.nothing_missed(1);
        assert!(!is_open());
        board.check(2);
        let number = board.open(2, (at(0), at(5)), Duration::ZERO, "asking");
        // The next session begins before the gap is closed.
        board.check(3);
        board.nothing_missed(2);
        let _ = board.closed(number);
        assert!(is_open(), "nobody has looked at session 3");
        board.nothing_missed(3);
        assert!(!is_open());
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
