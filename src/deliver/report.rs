//! What a delivery tells the board and the log, and what it sets aside.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::dead_letters::Store;
use crate::dead_letters::letter::{DeadLetter, Ids};
use crate::influx::{Answer, Sent, in_options_of};
use crate::model::fate::{Dropped, Reason, Rejection, SetAside};
use crate::runtime::clock;
use crate::runtime::repeats::{Ended, Repeats, Worth};
use crate::spool::shared::Reader;
use crate::status::board::Board;
use crate::status::snapshot::Circuit;
use crate::status::target::TargetBoard;

use super::Lane;
use super::complaints::Complaints;
use super::isolate::{Refused, Settled};
use super::pace::Pace;
use super::verdict::Verdict;

pub(super) struct Report {
    target: Arc<TargetBoard>,
    board: Arc<Board>,
    reader: Reader,
    letters: Store,
    ids: Ids,
    /// What all ids of batches of this run begin with.
    run: String,
    batches: u64,
    /// The name of the current batch, in the log and in dead letters.
    batch: String,
    lane: Lane,
    pace: Pace,
    /// Failures by whether they need a person.
    outage: Repeats<bool>,
    /// Failures of one lane while the other gets through.
    lanes: [Repeats<()>; 2],
    complaints: Complaints,
    /// Points that are older than what the target keeps.
    expired: Complaints,
    /// Dead letters that the disk did not take.
    not_set_aside: Repeats<()>,
    /// What was last said about the target's kind.
    known_as: String,
}

impl Report {
    pub(super) fn new(reader: Reader, letters: Store, board: &Arc<Board>) -> Self {
        for label in Verdict::LABELS {
            reader.target().writes.outcome(label);
        }
        Self {
            target: Arc::clone(reader.target()),
            board: Arc::clone(board),
            letters,
            ids: Ids::new(),
            run: format!("{:x}", clock::now().as_micros() / 1_000_000),
            batches: 0,
            batch: String::new(),
            lane: Lane::Live,
            pace: Pace::default(),
            outage: Repeats::default(),
            lanes: Default::default(),
            complaints: Complaints::default(),
            expired: Complaints::default(),
            not_set_aside: Repeats::default(),
            known_as: String::new(),
            reader,
        }
    }

    pub(super) fn next_batch(&mut self, lane: Lane) {
        self.batches += 1;
        self.lane = lane;
        self.batch = format!("{}-{}", self.run, self.batches);
    }

    pub(super) fn answered(&self, lines: usize, sent: &Sent, verdict: &Verdict, took: Duration) {
        let Self { batch, target, lane, .. } = self;
        let outcome = verdict.label();
        let millis = took.as_millis();
        let name = &target.name;
        debug!(
            target_name = name,
            batch,
            ?lane,
            lines,
            sent.bytes,
            millis,
            outcome,
            "batch {batch}: {lines} lines: {outcome}"
        );
        target.writes.request(outcome, took);
        target.writes.bytes_sent.add(sent.bytes);
        if matches!(sent.answer, Answer::Reply(_) | Answer::Filed) {
            target.link.latency(took);
        }
    }

    pub(super) fn stored(&self, lines: usize) {
        self.target.writes.last_success.set(clock::now());
        self.target.writes.last_batch_points.set(lines as u64);
    }

    pub(super) fn circuit(&self, state: Circuit) {
        self.target.circuit(state);
    }

    /// The target works; `what`: what it is.
    pub(super) fn reached(&mut self, what: String) {
        let Self { target, batch, .. } = self;
        target.link.connected(&what, clock::now());
        let name = &target.name;
        if let Some(Ended { lasted, failures }) = self.outage.recovered(Instant::now().into_std()) {
            let held = self.reader.held().records;
            let lasted = spoken(lasted);
            info!(
                target_name = name,
                batch,
                failures,
                held,
                "{name}: writing to {what} again after {lasted}: {failures} attempts failed, {held} records wait"
            );
        } else if self.known_as != what {
            info!(target_name = name, batch, "{name}: writing to {what}");
        }
        self.known_as = what;
    }

    pub(super) fn failed(&mut self, words: &str, needs_a_person: bool) {
        let Self { target, batch, .. } = self;
        let words = &*in_options_of(&target.name, words);
        target.link.failed(words, clock::now());
        self.pace.stops();
        target.backlog.drained_per_1000_seconds.set(0);
        let held = self.reader.held().records;
        let name = &target.name;
        match self.outage.failed(needs_a_person, Instant::now().into_std()) {
            Worth::First if needs_a_person => error!(
                target_name = name,
                batch, held, "{name}: nothing can be written until somebody acts: {words}; {held} records are kept"
            ),
            Worth::First => {
                warn!(
                    target_name = name,
                    batch, held, "{name}: cannot write: {words}; {held} records are kept, trying again"
                );
            }
            Worth::Again { failures, lasts } => {
                let lasts = spoken(lasts);
                warn!(
                    target_name = name,
                    batch, held, "{name}: still failing, {failures} times in {lasts}: {words}; {held} records are kept"
                );
            }
            Worth::Nothing => debug!(target_name = name, batch, held, "{name}: cannot write: {words}"),
        }
    }

    /// The target takes other batches.
    pub(super) fn lane_failed(&mut self, lane: Lane, words: &str) {
        let Self { target, batch, .. } = self;
        let (name, words) = (&target.name, &*in_options_of(&target.name, words));
        if self.lanes[lane as usize].failed((), Instant::now().into_std()) != Worth::Nothing {
            warn!(
                target_name = name,
                batch,
                ?lane,
                "{name}: takes other points, but not those of batch {batch}: {words}; they are kept"
            );
        }
    }

    pub(super) fn lane_works(&mut self, lane: Lane) {
        self.lanes[lane as usize].recovered(Instant::now().into_std());
    }

    /// Lets the records from `first` on that are settled leave the spool, the refused ones by way of the dead-letter
    /// store, and counts what became of each.
    pub(super) async fn settled(&mut self, first: u64, settled: Settled) {
        let through = settled.through;
        // A record that had to make room while it was on its way is counted already.
        let held = self.reader.still_held(first..=through);
        let mut refused = settled.refused;
        refused.retain(|line| contains(&held, line.id));
        let are_kept = self.set_aside(&refused).await;

        let books = &self.target.books;
        let (left, leaving) = self.reader.release(first..=through, |released| {
            let left: u64 = released.iter().map(|ids| ids.end - ids.start).sum();
            let leaving: Vec<_> = refused.iter().filter(|line| contains(&released, line.id)).collect();
            for line in &leaving {
                match line.reason {
                    Rejection::Expired => books.expired.add(1),
                    Rejection::NoNumber => books.not_representable.add(1),
                    Rejection::SetAside(reason) if are_kept => books.set_aside.add(reason, 1),
                    Rejection::SetAside(_) => books.dropped.add(Dropped::NotSetAside, 1),
                }
            }
            books.stored.add(left - leaving.len() as u64);
            (left, leaving)
        });
        for line in leaving {
            // History brings what is too old by the thousand, and the server's words have another number each time.
            match line.reason {
                Rejection::Expired => self.expired.add("older than the database keeps"),
                // In a home that is every second one.
                Rejection::NoNumber => {}
                Rejection::SetAside(_) => self.complaints.add(&line.words),
            }
        }
        if let Some(newest) = settled.newest_stored {
            self.target.writes.newest_stored.raise(newest);
        }
        self.show_pace(left);
        let Self { batch, target, .. } = self;
        let name = &target.name;
        for (lines, words) in self.expired.due(Instant::now().into_std()) {
            info!(target_name = name, batch, lines, "{name}: {lines} records are {words}: they are counted as expired");
        }
        let fate = if are_kept { "set aside as dead letters" } else { "lost" };
        for (lines, words) in self.complaints.due(Instant::now().into_std()) {
            warn!(
                target_name = name,
                batch, lines, "{name}: the database refused {lines} records, they are {fate}: {words}"
            );
        }
    }

    fn show_pace(&mut self, left: u64) {
        match self.lane {
            Lane::Live if self.reader.held().backlog_records == 0 => self.pace.stops(),
            Lane::Live => {}
            Lane::Backlog => self.pace.left(left, Instant::now().into_std()),
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a pace is not negative, and finite"
        )]
        let drained = (self.pace.per_second() * 1_000.0) as u64;
        self.target.backlog.drained_per_1000_seconds.set(drained);
    }

    /// Whether the disk has them.
    async fn set_aside(&mut self, refused: &[Refused]) -> bool {
        let at = clock::now();
        let letter = |line: &Refused, reason: SetAside| DeadLetter {
            id: self.ids.next(),
            at,
            target: self.target.name.clone(),
            reason: reason.label().to_owned(),
            words: line.words.clone(),
            batch: self.batch.clone(),
            context: line.context,
            time: line.time,
            line: String::from_utf8_lossy(&line.line).trim_end_matches('\n').to_owned(),
            rule: None,
            event: None,
        };
        let letters: Vec<DeadLetter> = refused
            .iter()
            .filter_map(|line| match line.reason {
                Rejection::SetAside(reason) => Some(letter(line, reason)),
                Rejection::Expired | Rejection::NoNumber => None,
            })
            .collect();
        if letters.is_empty() {
            return true;
        }
        let store = self.letters.clone();
        let added =
            spawn_blocking(move || store.add(&letters).map(|added| (added, store.count().unwrap_or_default()))).await;
        match added.expect("the store does not panic") {
            Ok((added, kept)) => {
                self.board.dead_letters.evicted.add(added.evicted);
                self.board.dead_letters.kept.set(kept.letters);
                self.not_set_aside.recovered(Instant::now().into_std());
                true
            }
            Err(err) => {
                if self.not_set_aside.failed((), Instant::now().into_std()) != Worth::Nothing {
                    error!("refused records are lost, because the disk does not take dead letters: {err}");
                }
                false
            }
        }
    }

    pub(super) fn smaller_batches(&self, refused_bytes: usize, bytes: usize, words: &str) {
        let Self { batch, target, .. } = self;
        let name = &target.name;
        warn!(
            target_name = name,
            batch,
            "{name}: the database finds {refused_bytes} bytes too large ({words}): batches have at most {bytes} now"
        );
    }
}

fn contains(ranges: &[Range<u64>], id: u64) -> bool {
    ranges.iter().any(|range| range.contains(&id))
}

/// A duration as one says it.
fn spoken(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}
