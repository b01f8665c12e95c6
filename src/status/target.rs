//! What is counted of one target: its books, its backlog, its requests.

use std::sync::Mutex;
use std::time::Duration;

use crate::model::fate::{Dropped, SetAside};
use crate::model::time::Timestamp;

use super::board::{ByReason, Counter, Gauge, LinkBoard, Moment, lock};
use super::snapshot::{Backlog, Books, Circuit, Histogram, Target, Verified, Writes};

/// One place that points go to, written by its delivery and by the spool.
pub struct TargetBoard {
    pub name: String,
    pub link: LinkBoard,
    pub books: BooksBoard,
    pub backlog: BacklogBoard,
    pub writes: WritesBoard,
    circuit: Mutex<Circuit>,
    verified: Mutex<Option<Verified>>,
}

impl TargetBoard {
    pub(super) fn new(name: &str, now: Timestamp) -> Self {
        Self {
            name: name.to_owned(),
            link: LinkBoard::new(name, now),
            books: BooksBoard::default(),
            backlog: BacklogBoard::default(),
            writes: WritesBoard::default(),
            circuit: Mutex::new(Circuit::Closed),
            verified: Mutex::default(),
        }
    }

    pub fn circuit(&self, state: Circuit) {
        *lock(&self.circuit) = state;
    }

    /// See [`Verified`].
    pub fn verified(&self, known: u64, missing: u64) {
        *lock(&self.verified) = Some(Verified { known, missing });
    }

    pub(super) fn snapshot(&self) -> Target {
        Target {
            name: self.name.clone(),
            link: self.link.snapshot(),
            circuit: *lock(&self.circuit),
            books: self.books.snapshot(),
            backlog: self.backlog.snapshot(),
            writes: self.writes.snapshot(),
            verified: *lock(&self.verified),
        }
    }
}

#[derive(Default)]
pub struct BooksBoard {
    /// Records of an earlier run that were found on disk at the start.
    pub recovered: Counter,
    pub stored: Counter,
    /// Records in the spool that the target does not have.
    pub held: Gauge,
    pub set_aside: ByReason<SetAside>,
    pub expired: Counter,
    pub not_representable: Counter,
    pub dropped: ByReason<Dropped>,
}

impl BooksBoard {
    /// A record leaves what is held after its fate was counted: read in this order it may be counted twice for an instant,
    /// and is never missing.
    fn snapshot(&self) -> Books {
        let held = self.held.get();
        Books {
            held,
            stored: self.stored.get(),
            set_aside: self.set_aside.get(),
            expired: self.expired.get(),
            not_representable: self.not_representable.get(),
            dropped: self.dropped.get(),
            recovered: self.recovered.get(),
        }
    }
}

/// What a target lacks, beyond the mere number.
#[derive(Default)]
pub struct BacklogBoard {
    /// Records that wait on disk.
    pub records: Gauge,
    /// Event time of the oldest record that waits; of no meaning while none does.
    pub oldest: Moment,
    /// See [`Backlog::watermark`].
    pub watermark: Moment,
    /// See [`Backlog::torn`].
    pub torn: Moment,
    /// Records of the backlog that leave in a second, in thousandths.
    pub drained_per_1000_seconds: Gauge,
}

impl BacklogBoard {
    fn snapshot(&self) -> Backlog {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let drained_per_second = self.drained_per_1000_seconds.get() as f64 / 1_000.0;
        Backlog {
            records: self.records.get(),
            oldest: self.oldest.get(),
            watermark: self.watermark.get(),
            torn: self.torn.get(),
            drained_per_second,
        }
    }
}

pub struct WritesBoard {
    requests: Mutex<Vec<(&'static str, u64)>>,
    pub bytes_sent: Counter,
    pub last_batch_points: Gauge,
    pub last_success: Moment,
    pub newest_stored: Moment,
    seconds: Mutex<Histogram>,
}

impl Default for WritesBoard {
    fn default() -> Self {
        Self {
            requests: Mutex::default(),
            bytes_sent: Counter::default(),
            last_batch_points: Gauge::default(),
            last_success: Moment::default(),
            newest_stored: Moment::default(),
            seconds: Mutex::new(Histogram::with_bounds(&BOUNDS)),
        }
    }
}

/// Upper bounds in seconds, from what is near and well to what is about to time out.
pub(super) const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 5.0, 10.0, f64::INFINITY];

impl WritesBoard {
    /// An outcome that a request may have.
    pub fn outcome(&self, outcome: &'static str) {
        self.count(outcome, 0);
    }

    /// A request came back, or did not; `outcome` is the name of the verdict.
    pub fn request(&self, outcome: &'static str, took: Duration) {
        self.count(outcome, 1);
        lock(&self.seconds).add(took);
    }

    fn count(&self, outcome: &'static str, more: u64) {
        let mut requests = lock(&self.requests);
        match requests.iter_mut().find(|(name, _)| *name == outcome) {
            Some((_, count)) => *count += more,
            None => requests.push((outcome, more)),
        }
    }

    fn snapshot(&self) -> Writes {
        Writes {
            requests: lock(&self.requests).clone(),
            bytes_sent: self.bytes_sent.get(),
            last_batch_points: self.last_batch_points.get(),
            last_success: self.last_success.get(),
            newest_stored: self.newest_stored.get(),
            seconds: lock(&self.seconds).clone(),
        }
    }
}
