//! Brings the records of the spool to the target, whatever it takes.
//!
//! One request at a time. Batches grow by themselves: the next one is what gathered while the last one was away. What
//! an answer means is decided in [`verdict`], which part of a refused batch is sent next in [`isolate`]; this task
//! obeys. It does not know points or the syntax of lines: a record is a line.
//!
//! A record leaves the spool when it is stored, or when it was refused for a reason that no repetition changes, and
//! then it is counted. Whatever else happens it stays and is tried again.

mod closing;
mod complaints;
pub mod isolate;
mod report;
mod stuck;
pub mod verdict;

use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBackoff;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::config::settings;
use crate::influx::Target;
use crate::model::record::Batch;
use crate::runtime::alive::beating;
use crate::runtime::{self, clock};
use crate::spool::Limits;
use crate::spool::shared::Shared;
use crate::status::board::Board;

use self::closing::Closing;
use self::isolate::{Isolation, Step};
use self::report::Report;
use self::stuck::Stuck;
use self::verdict::{Others, SMALLEST_LIMIT_BYTES, SizeLimit, Verdict, judge};

/// How often it is tried whether a person has done what has to be done.
const PROBE: Duration = Duration::from_secs(30);

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
        report: Report::new(Arc::clone(&board), spool.clone()),
        spool,
        limits: Limits { records: settings.batch_points, bytes: settings.batch_bytes },
        backoff: backoff(settings.retry),
        settings,
        closing: Closing::new(stop, flush_for),
        stuck: Stuck::default(),
    };
    // Every wait in it has its own end: it is alive for as long as it is polled.
    beating(|| board.beat("delivery", std::time::Instant::now()), delivery.run()).await;
}

/// Each wait is drawn from the upper half of its step.
fn backoff(retry: settings::Retry) -> ExponentialBackoff {
    runtime::backoff::backoff(retry.initial / 2, retry.max / 2)
}

struct Delivery {
    target: Target,
    spool: Shared,
    settings: settings::Delivery,
    /// The settings', or less if the target takes less.
    limits: Limits,
    backoff: ExponentialBackoff,
    closing: Closing,
    stuck: Stuck,
    report: Report,
}

impl Delivery {
    async fn run(mut self) {
        let mut linger = self.settings.linger;
        loop {
            self.closing.or_stop(self.spool.wait()).await;
            if !linger.is_zero() {
                let company = async {
                    tokio::select! {
                        () = sleep(linger) => {}
                        () = self.spool.until_full(self.limits) => {}
                    }
                };
                self.closing.or_stop(company).await;
            }
            let Some(batch) = self.spool.peek(self.limits) else {
                if self.closing.has_begun() {
                    return;
                }
                continue;
            };
            // After a full batch more is waiting, and after a failure it has waited: there is no company to wait for.
            let is_full = self.spool.held().records > batch.len() as u64;
            let step = self.deliver(batch).await;
            linger = if is_full || step != Some(Step::Go) { Duration::ZERO } else { self.settings.linger };
            let goes_on = match step {
                Some(Step::Go) => true,
                Some(Step::Retry { after, words }) => self.wait_to_retry(after, &words).await,
                Some(Step::Hold { words }) => self.wait_for_a_person(&words).await,
                None => false,
            };
            if !goes_on {
                return self.report.stopped(self.spool.release(u64::MAX));
            }
        }
    }

    /// Sends a batch, in parts if need be, until it is settled or has to wait. `None`: there is no time left.
    async fn deliver(&mut self, batch: Batch) -> Option<Step> {
        self.report.next_batch();
        self.stuck.next_batch();
        let mut isolation = Isolation::of(batch);
        while let Some(isolation) = &mut isolation
            && let Some(part) = isolation.next()
        {
            let verdict = self.send(part).await?;
            let step = isolation.handle(verdict);
            if let Some(settled) = isolation.settle() {
                self.report.settled(&settled, self.spool.release(settled.through));
            }
            if step != Step::Go {
                return Some(step);
            }
        }
        Some(Step::Go)
    }

    async fn send(&mut self, part: &Batch) -> Option<Verdict> {
        let began = Instant::now();
        let sent = self.closing.within(self.target.send(part)).await?;
        let verdict = self.stuck.handle(&sent.answer, judge(&sent.answer, part, clock::now()));
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
            self.backoff = backoff(self.settings.retry);
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

    /// `false`: there is no time left for it.
    async fn wait_to_retry(&mut self, after: Option<Duration>, words: &str) -> bool {
        self.report.failed(words, false);
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
        self.report.failed(words, true);
        // Nobody will come within the time that is left.
        !self.closing.has_begun() && self.closing.pause(PROBE).await
    }
}
