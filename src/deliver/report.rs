//! What the delivery tells the board and the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::influx::{Answer, Sent};
use crate::model::fate::Lost;
use crate::runtime::clock;
use crate::runtime::repeats::{Ended, Repeats, Worth};
use crate::spool::shared::Shared;
use crate::status::board::Board;

use super::complaints::Complaints;
use super::isolate::Settled;
use super::verdict::Verdict;

pub(super) struct Report {
    board: Arc<Board>,
    spool: Shared,
    /// Batches so far. The number is the name of the current one in the log.
    batch: u64,
    /// Failures by whether they need a person.
    outage: Repeats<bool>,
    complaints: Complaints,
    /// What was last said about the target's kind.
    known_as: String,
}

impl Report {
    pub(super) fn new(board: Arc<Board>, spool: Shared) -> Self {
        Self {
            board,
            spool,
            batch: 0,
            outage: Repeats::default(),
            complaints: Complaints::default(),
            known_as: String::new(),
        }
    }

    pub(super) fn next_batch(&mut self) {
        self.batch += 1;
    }

    pub(super) fn answered(&self, lines: usize, sent: &Sent, verdict: &Verdict, took: Duration) {
        let Self { batch, .. } = self;
        let outcome = verdict.label();
        let millis = took.as_millis();
        debug!(batch, lines, sent.bytes, millis, outcome, "batch {batch}: {lines} lines: {outcome}");
        self.board.writes.request(outcome, took);
        self.board.writes.bytes_sent.add(sent.bytes);
        if matches!(sent.answer, Answer::Reply(_) | Answer::Filed) {
            self.board.target.latency(took);
        }
    }

    pub(super) fn stored(&self, lines: usize) {
        self.board.writes.last_success.set(clock::now());
        self.board.writes.last_batch_points.set(lines as u64);
    }

    /// The target works; `name`: what it is.
    pub(super) fn reached(&mut self, name: String) {
        self.board.target.connected(&name, clock::now());
        let batch = self.batch;
        if let Some(Ended { lasted, failures }) = self.outage.recovered(Instant::now().into_std()) {
            let held = self.spool.held().records;
            let lasted = spoken(lasted);
            info!(
                batch,
                failures,
                held,
                "writing to {name} again after {lasted}: {failures} attempts failed, {held} records wait"
            );
        } else if self.known_as != name {
            info!(batch, "writing to {name}");
        }
        self.known_as = name;
    }

    pub(super) fn failed(&mut self, words: &str, needs_a_person: bool) {
        self.board.target.failed(words, clock::now());
        let batch = self.batch;
        let held = self.spool.held().records;
        match self.outage.failed(needs_a_person, Instant::now().into_std()) {
            Worth::First if needs_a_person => {
                error!(batch, held, "nothing can be written until somebody acts: {words}; {held} records are kept");
            }
            Worth::First => warn!(batch, held, "cannot write: {words}; {held} records are kept, trying again"),
            Worth::Again { failures, lasts } => {
                let lasts = spoken(lasts);
                warn!(batch, held, "still failing, {failures} times in {lasts}: {words}; {held} records are kept");
            }
            Worth::Nothing => debug!(batch, held, "cannot write: {words}"),
        }
    }

    /// Counts what became of the records that left the spool: the last `released` of those that are settled. The ones
    /// before had to make room while they were on their way, and are counted already.
    pub(super) fn settled(&mut self, settled: &Settled, released: u64) {
        let first = settled.through + 1 - released;
        let mut stored = released;
        for refused in settled.refused.iter().filter(|refused| refused.id >= first) {
            stored -= 1;
            self.board.books.lost.add(refused.reason, 1);
            // What the database does not keep for so long is no complaint: history brings it by the thousand.
            if refused.reason != Lost::ExpiredByRetention {
                self.complaints.add(&refused.words);
            }
        }
        self.board.books.stored.add(stored);
        if let Some(newest) = settled.newest_stored {
            self.board.writes.newest_stored.raise(newest);
        }
        let batch = self.batch;
        for (lines, words) in self.complaints.due(Instant::now().into_std()) {
            warn!(batch, lines, "the database refused {lines} records, they are lost: {words}");
        }
    }

    pub(super) fn smaller_batches(&self, refused_bytes: usize, bytes: usize, words: &str) {
        let batch = self.batch;
        warn!(batch, "the database finds {refused_bytes} bytes too large ({words}): batches have at most {bytes} now");
    }

    pub(super) fn stopped(&self, lost: u64) {
        self.board.books.lost.add(Lost::Stopped, lost);
        if lost > 0 {
            error!(lost, "stopped while the database did not take what was left: {lost} records are lost");
        }
    }
}

/// A duration as one says it.
fn spoken(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}
