//! Brings the records of the spool to the target, whatever it takes.
//!
//! One request at a time. Batches grow by themselves: the next one is what gathered while the last one was away. What
//! an answer means is decided in [`verdict`], which part of a refused batch is sent next in [`isolate`]; this task
//! obeys. It does not know points or the syntax of lines: a record is a line.
//!
//! A record leaves the spool when it is stored, or when it was refused for a reason that no repetition changes, and
//! then it is counted. Whatever else happens it stays and is tried again.

mod closing;
pub mod isolate;
mod quiet;
pub mod verdict;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::config::settings;
use crate::influx::{Answer, Target};
use crate::model::fate::Lost;
use crate::runtime::{BEAT, clock};
use crate::spool::Limits;
use crate::spool::batch::Batch;
use crate::spool::shared::Shared;
use crate::status::board::Board;

use self::closing::Closing;
use self::isolate::{Isolation, Step};
use self::quiet::{Complaints, Ended, Outage, Say};
use self::verdict::{Others, SizeLimit, Verdict, judge};

/// How often it is tried whether a person has done what has to be done.
const PROBE: Duration = Duration::from_secs(30);

/// A limit below this is not believed: the server has another problem.
const SMALLEST_BATCH_BYTES: usize = 4 * 1024;

/// Delivers until `stop`, then sends what is left for at most `flush_for`. What remains after that is counted as lost.
pub async fn run(
    target: Target,
    spool: Shared,
    settings: settings::Delivery,
    flush_for: Duration,
    board: Arc<Board>,
    stop: CancellationToken,
) {
    let delivery = Delivery {
        target,
        spool,
        limits: Limits { records: settings.batch_points, bytes: settings.batch_bytes },
        backoff: backoff(settings.retry),
        settings,
        board: Arc::clone(&board),
        closing: Closing::new(stop, flush_for),
        batches: 0,
        outage: Outage::default(),
        complaints: Complaints::default(),
        known_as: String::new(),
    };
    beating(&board, delivery.run()).await;
}

/// Every wait in the delivery has its own end, so it is alive for as long as it is polled.
async fn beating(board: &Board, work: impl Future<Output = ()>) {
    let mut work = pin!(work);
    let mut beat = interval(BEAT);
    loop {
        tokio::select! {
            () = &mut work => return,
            _ = beat.tick() => board.beat("delivery", std::time::Instant::now()),
        }
    }
}

/// Each wait is drawn from the upper half of its step: `backon` adds up to the whole of a delay to it.
fn backoff(retry: settings::Retry) -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(retry.initial / 2)
        .with_max_delay(retry.max / 2)
        .without_max_times()
        .with_jitter()
        .build()
}

struct Delivery {
    target: Target,
    spool: Shared,
    settings: settings::Delivery,
    /// The settings', or less if the target takes less.
    limits: Limits,
    backoff: ExponentialBackoff,
    board: Arc<Board>,
    closing: Closing,
    /// Batches so far. The number is the name of a batch in the log.
    batches: u64,
    outage: Outage,
    complaints: Complaints,
    /// What was last said about the target's kind.
    known_as: String,
}

impl Delivery {
    async fn run(mut self) {
        let mut linger = self.settings.linger;
        loop {
            self.closing.or_stop(self.spool.wait()).await;
            if !linger.is_zero() {
                self.closing.or_stop(sleep(linger)).await;
            }
            let Some(batch) = self.spool.peek(self.limits) else {
                if self.closing.has_begun() {
                    return;
                }
                continue;
            };
            // After a full batch more is waiting: there is no company to wait for.
            let is_full = self.spool.held().records > batch.len() as u64;
            linger = if is_full { Duration::ZERO } else { self.settings.linger };
            self.batches += 1;
            let step = self.deliver(batch).await;
            if step != Some(Step::Go) {
                linger = Duration::ZERO;
            }
            let goes_on = match step {
                Some(Step::Go) => true,
                Some(Step::Retry { after, words }) => self.wait_to_retry(after, &words).await,
                Some(Step::Hold { words }) => self.wait_for_a_person(&words).await,
                None => false,
            };
            if !goes_on {
                return self.give_up();
            }
        }
    }

    /// Sends a batch, in parts if need be, until it is settled or has to wait. `None`: there is no time left.
    async fn deliver(&mut self, batch: Batch) -> Option<Step> {
        let mut isolation = Isolation::of(batch);
        while let Some(isolation) = &mut isolation
            && let Some(part) = isolation.next()
        {
            let verdict = self.send(part).await?;
            let step = isolation.handle(verdict);
            self.settle(isolation);
            if step != Step::Go {
                return Some(step);
            }
        }
        Some(Step::Go)
    }

    async fn send(&mut self, part: &Batch) -> Option<Verdict> {
        let began = Instant::now();
        let sent = self.closing.within(self.target.send(part)).await?;
        let took = began.elapsed();
        let verdict = judge(&sent.answer, part, clock::now());
        debug!(
            batch = self.batches,
            lines = part.len(),
            bytes = sent.bytes,
            millis = took.as_millis(),
            "batch {}: {} lines: {}",
            self.batches,
            part.len(),
            verdict.label()
        );
        self.board.writes.request(verdict.label(), took);
        self.board.writes.bytes_sent.add(sent.bytes);
        if matches!(sent.answer, Answer::Reply(_) | Answer::Filed) {
            self.board.target.latency(took);
        }
        match &verdict {
            Verdict::Stored => self.note_stored(part.len()),
            Verdict::Refused { lines, others: Others::Stored } => self.note_stored(part.len() - lines.len()),
            // It looked at each line: it works.
            Verdict::Refused { others: Others::SendAgain, .. } => self.note_reached(),
            Verdict::Split { limit: SizeLimit::Said, words } => self.learn_limit(part, words),
            _ => {}
        }
        Some(verdict)
    }

    fn note_stored(&mut self, lines: usize) {
        self.board.writes.last_success.set(clock::now());
        self.board.writes.last_batch_points.set(lines as u64);
        self.note_reached();
    }

    fn note_reached(&mut self) {
        let name = self.target.describe();
        self.board.target.connected(&name, clock::now());
        self.backoff = backoff(self.settings.retry);
        if let Some(Ended { lasted, failures }) = self.outage.end(Instant::now().into_std()) {
            let held = self.spool.held().records;
            info!(
                batch = self.batches,
                "writing to {name} again after {}: {failures} attempts failed, {held} records are held",
                spoken(lasted)
            );
        } else if self.known_as != name {
            info!(batch = self.batches, "writing to {name}");
        }
        self.known_as = name;
    }

    /// Counts what became of the records that leave the spool now.
    fn settle(&mut self, isolation: &mut Isolation) {
        let Some(settled) = isolation.settle() else { return };
        let released = self.spool.release(settled.through);
        // Records that had to make room while they were on their way are counted already.
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
        if let Some(newest) = isolation.newest_stored() {
            self.board.writes.newest_stored.raise(newest);
        }
        for (lines, words) in self.complaints.due(Instant::now().into_std()) {
            warn!(batch = self.batches, lines, "the database refused {lines} records, they are lost: {words}");
        }
    }

    fn learn_limit(&mut self, part: &Batch, words: &str) {
        let half = (part.bytes().len() / 2).max(SMALLEST_BATCH_BYTES);
        if half < self.limits.bytes.get() {
            warn!(
                batch = self.batches,
                "the database finds {} bytes too large ({words}): batches have at most {half} from now on",
                part.bytes().len()
            );
            self.limits.bytes = half.try_into().unwrap_or(self.limits.bytes);
        }
    }

    async fn wait_to_retry(&mut self, after: Option<Duration>, words: &str) -> bool {
        self.note_failure(words, false);
        let was_closing = self.closing.has_begun();
        let step = self.backoff.next().unwrap_or(self.settings.retry.max);
        let goes_on = self.closing.pause(step.max(after.unwrap_or_default())).await;
        if !was_closing && self.closing.has_begun() {
            // Little time is left: it begins again with short waits.
            self.backoff = backoff(self.settings.retry);
        }
        goes_on
    }

    async fn wait_for_a_person(&mut self, words: &str) -> bool {
        self.note_failure(words, true);
        // Nobody will come within the time that is left.
        !self.closing.has_begun() && self.closing.pause(PROBE).await
    }

    fn note_failure(&mut self, words: &str, needs_a_person: bool) {
        self.board.target.failed(words, clock::now());
        let batch = self.batches;
        let held = self.spool.held().records;
        match self.outage.failed(needs_a_person, Instant::now().into_std()) {
            Some(Say::Begins) if needs_a_person => {
                error!(batch, held, "nothing can be written until somebody acts: {words}; {held} records are kept");
            }
            Some(Say::Begins) => warn!(batch, held, "cannot write: {words}; {held} records are kept, trying again"),
            Some(Say::StillFails { failures, lasts }) => warn!(
                batch,
                held,
                "still failing, {failures} times in {}: {words}; {held} records are kept",
                spoken(lasts)
            ),
            None => debug!(batch, held, "cannot write: {words}"),
        }
    }

    fn give_up(self) {
        let lost = self.spool.release(u64::MAX);
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
