//! Brings the records of the spool to a target, whatever it takes. One task for each target.
//!
//! One request at a time. Batches grow by themselves: the next one is what gathered while the last one was away. What
//! is in memory goes first; the backlog on disk goes with what capacity is left, the oldest first. What an answer means
//! is decided in [`verdict`], which part of a refused batch is sent next in [`isolate`], whether a request is made at
//! all in `breaker`; this task obeys. It does not know points or the syntax of lines: a record is a line.
//!
//! A record leaves the spool when it is stored, or when it was refused for a reason that no repetition changes, and then
//! it is in the dead-letter store. Whatever else happens it stays and is tried again.

mod breaker;
mod closing;
mod complaints;
pub mod isolate;
mod limiter;
mod pace;
mod report;
mod stuck;
pub mod verdict;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::config::settings;
use crate::dead_letters::Store;
use crate::influx::Target;
use crate::model::record::Batch;
use crate::runtime::alive::beating;
use crate::runtime::{backoff, clock};
use crate::spool::Limits;
use crate::spool::shared::Reader;
use crate::status::board::Board;

use self::breaker::{Breaker, Permit};
use self::closing::Closing;
use self::isolate::{Isolation, Step};
use self::limiter::Limiter;
use self::report::Report;
use self::stuck::Stuck;
use self::verdict::{Others, SMALLEST_LIMIT_BYTES, SizeLimit, Verdict, judge};

/// The records of a probe: enough for the target to show what it does, too few to burden it.
const PROBE_RECORDS: NonZeroUsize = NonZeroUsize::new(10).expect("ten is not zero");

/// After the disk did not give a part of the backlog.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// Delivers until `stop`, then sends what is still in memory for at most `flush_for`. What remains after that is for the
/// spool to keep.
pub async fn run(
    target: Target,
    reader: Reader,
    letters: Store,
    settings: settings::Delivery,
    flush_for: Duration,
    board: Arc<Board>,
    stop: CancellationToken,
) {
    let task = format!("delivery_{}", reader.target().name);
    let delivery = Delivery {
        target,
        report: Report::new(reader.clone(), letters, &board),
        reader,
        limits: Limits { records: settings.batch_points, bytes: settings.batch_bytes },
        pauses: settings.retry.pauses(),
        breaker: Breaker::new(settings.breaker.failures, settings.breaker.open_for),
        limiter: settings.requests_per_second.map(Limiter::new),
        linger: settings.linger,
        closing: Closing::new(stop, flush_for),
        stuck: Stuck::default(),
        board: Arc::clone(&board),
    };
    // Every wait in it has its own end: it is alive for as long as it is polled.
    beating(|| board.beat(task.clone(), Instant::now()), delivery.run()).await;
}

struct Delivery {
    target: Target,
    reader: Reader,
    /// The settings', or less if the target takes less.
    limits: Limits,
    linger: Duration,
    pauses: backoff::Pauses,
    breaker: Breaker,
    limiter: Option<Limiter>,
    closing: Closing,
    stuck: Stuck,
    report: Report,
    board: Arc<Board>,
}

/// Where a batch comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Live,
    Backlog,
}

impl Delivery {
    async fn run(mut self) {
        while let Some((lane, batch)) = self.next_batch().await {
            let goes_on = match self.deliver(lane, batch).await {
                Some(Step::Go) => true,
                Some(Step::Retry { after, words }) => self.wait_to_retry(after, &words).await,
                Some(Step::Hold { words }) => self.wait_for_a_person(&words),
                None => false,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Waits for something to send. `None`: the service stops, and there is nothing left that would have to be sent.
    async fn next_batch(&mut self) -> Option<(Lane, Batch)> {
        loop {
            self.closing.or_stop(self.reader.wait()).await;
            let limits = self.permitted().await?;
            if self.closing.has_begun() {
                return self.reader.peek_live(limits).map(|batch| (Lane::Live, batch));
            }
            let company_comes = self.linger.saturating_sub(self.reader.live_waits_for().unwrap_or_default());
            if (company_comes.is_zero() || self.reader.is_full(limits))
                && let Some(batch) = self.reader.peek_live(limits)
            {
                return Some((Lane::Live, batch));
            }
            if self.reader.held().backlog_records > 0 {
                match self.reader.peek_backlog(limits).await {
                    Some(batch) => return Some((Lane::Backlog, batch)),
                    // Damaged, which is counted, or the disk did not give it, which is told.
                    None => self.closing.or_stop(sleep(DISK_PAUSE)).await,
                }
                continue;
            }
            let company = async {
                tokio::select! {
                    () = sleep(company_comes) => {}
                    () = self.reader.until_full(limits) => {}
                }
            };
            self.closing.or_stop(company).await;
        }
    }

    /// Waits until the breaker lets a request pass. `None`: it will not before the end.
    async fn permitted(&mut self) -> Option<Limits> {
        loop {
            let permit = self.breaker.ask(now());
            self.report.circuit(self.breaker.circuit());
            match permit {
                Permit::Full => return Some(self.limits),
                Permit::Probe => {
                    return Some(Limits { records: PROBE_RECORDS.min(self.limits.records), ..self.limits });
                }
                Permit::NotBefore(_) if self.closing.has_begun() && !self.must_insist() => return None,
                Permit::NotBefore(_) if self.closing.has_begun() => return Some(self.limits),
                Permit::NotBefore(at) => self.closing.or_stop(sleep_until(at.into())).await,
            }
        }
    }

    /// At the stop: nobody else will keep the records.
    fn must_insist(&self) -> bool {
        self.board.spool.is_degraded()
    }

    /// Sends a batch, in parts if need be, until it is settled or has to wait. `None`: there is no time left.
    async fn deliver(&mut self, lane: Lane, batch: Batch) -> Option<Step> {
        self.report.next_batch(lane);
        self.stuck.next_batch();
        let mut first = batch.id(0);
        let mut isolation = Isolation::of(batch);
        while let Some(isolation) = &mut isolation
            && let Some(part) = isolation.next()
        {
            let verdict = self.send(part).await?;
            let step = isolation.handle(verdict);
            if let Some(settled) = isolation.settle() {
                let next = settled.through + 1;
                self.report.settled(first, settled).await;
                first = next;
            }
            if step != Step::Go {
                return Some(step);
            }
        }
        Some(Step::Go)
    }

    async fn send(&mut self, part: &Batch) -> Option<Verdict> {
        if let Some(limiter) = &self.limiter {
            self.closing.within(limiter.ready()).await?;
        }
        let began = tokio::time::Instant::now();
        let sent = self.closing.within(self.target.send(part)).await?;
        let is_probe = self.breaker.is_probing();
        let verdict = self.stuck.handle(&sent.answer, judge(&sent.answer, part, clock::now()), is_probe);
        self.report.answered(part.len(), &sent, &verdict, began.elapsed());
        match &verdict {
            Verdict::Stored => self.report.stored(part.len()),
            Verdict::Refused { lines, others: Others::Stored } => self.report.stored(part.len() - lines.len()),
            Verdict::Split { limit: SizeLimit::Said, words } => self.learn_limit(part, words),
            _ => {}
        }
        // Who names a bad line has looked at all of them: it works.
        if matches!(verdict, Verdict::Stored | Verdict::Refused { .. }) {
            self.report.reached(self.target.describe());
            self.pauses.reset();
            self.breaker.succeeded();
            self.report.circuit(self.breaker.circuit());
        }
        Some(verdict)
    }

    fn learn_limit(&mut self, part: &Batch, words: &str) {
        let bytes = part.bytes().len();
        let half = (bytes / 2).max(SMALLEST_LIMIT_BYTES);
        if half < self.limits.bytes.get() {
            self.limits.bytes = half.try_into().unwrap_or(self.limits.bytes);
            self.report.smaller_batches(bytes, half, words);
        }
    }

    /// `false`: it is not tried again.
    async fn wait_to_retry(&mut self, after: Option<Duration>, words: &str) -> bool {
        self.failed(words, false);
        if self.closing.has_begun() && !self.must_insist() {
            return false;
        }
        let was_closing = self.closing.has_begun();
        let goes_on = self.closing.pause(self.pauses.next_pause().max(after.unwrap_or_default())).await;
        if !was_closing && self.closing.has_begun() {
            // Little time is left: it begins again with short waits.
            self.pauses.reset();
        }
        goes_on
    }

    /// The breaker is open now; it is seen to in [`Self::permitted`]. `false`: nobody will come within the time left.
    fn wait_for_a_person(&mut self, words: &str) -> bool {
        self.failed(words, true);
        !self.closing.has_begun()
    }

    fn failed(&mut self, words: &str, needs_a_person: bool) {
        self.breaker.failed(needs_a_person, now());
        self.report.circuit(self.breaker.circuit());
        self.report.failed(words, needs_a_person);
    }
}

/// Tests pause this clock.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
