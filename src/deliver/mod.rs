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
pub mod carrier;
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

use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::config::settings;
use crate::dead_letters::Store;
use crate::influx::{Answer, Target};
use crate::model::record::Batch;
use crate::runtime::alive::beating;
use crate::runtime::{backoff, clock};
use crate::spool::Limits;
use crate::spool::shared::Reader;
use crate::status::board::Board;
use crate::status::snapshot::Circuit;

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

/// How long what is in memory waits for the disk when it is the backlog's turn.
const DISK_PATIENCE: Duration = Duration::from_millis(100);

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
        live: Streak::new(settings.retry),
        backlog: Streak::new(settings.retry),
        backlog_is_next: false,
        reading: None,
        breaker: Breaker::new(settings.breaker.failures, settings.breaker.open_for),
        limiter: settings.requests_per_second.map(Limiter::new),
        linger: settings.linger,
        closing: Closing::new(stop, flush_for),
        board: Arc::clone(&board),
    };
    // Its requests have a deadline, and a disk that hangs is nothing that a restart would mend: it is alive for as long
    // as it is polled.
    beating(|| board.beat(task.clone(), Instant::now()), delivery.run()).await;
}

struct Delivery {
    target: Target,
    reader: Reader,
    /// The settings', or less if the target takes less.
    limits: Limits,
    linger: Duration,
    breaker: Breaker,
    limiter: Option<Limiter>,
    closing: Closing,
    live: Streak,
    backlog: Streak,
    /// Live batches leave capacity: the next request is for the backlog.
    backlog_is_next: bool,
    reading: Option<Reading>,
    report: Report,
    board: Arc<Board>,
}

/// Where a batch comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Live,
    Backlog,
}

/// How a lane fares. A batch that the target cannot digest holds up its own lane and not the other.
struct Streak {
    stuck: Stuck,
    pauses: backoff::Pauses,
    rests_until: Option<Instant>,
    /// The other lane got through since this one failed last.
    other_works: bool,
}

/// A part of the backlog that is on its way from the disk, which may take its time.
struct Reading {
    limits: Limits,
    batch: JoinHandle<Option<Batch>>,
}

impl Streak {
    fn new(retry: backoff::Policy) -> Self {
        Self { stuck: Stuck::default(), pauses: retry.pauses(), rests_until: None, other_works: false }
    }

    fn rests_for(&self) -> Duration {
        self.rests_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now()))
    }
}

impl Delivery {
    async fn run(mut self) {
        while let Some((lane, batch)) = self.next_batch().await {
            let goes_on = match self.deliver(lane, batch).await {
                Some(Step::Go) => true,
                Some(Step::Retry { after, words }) => self.wait_to_retry(lane, after, &words).await,
                Some(Step::Hold { words }) => self.wait_for_a_person(&words),
                None => false,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Waits for something to send, and for leave to send it. `None`: the service stops, and there is nothing left that
    /// would have to be sent.
    async fn next_batch(&mut self) -> Option<(Lane, Batch)> {
        loop {
            self.closing.or_stop(self.reader.wait()).await;
            let limits = self.permitted().await?;
            if self.closing.has_begun() {
                self.within_limit().await?;
                return self.reader.peek_live(limits).map(|batch| (Lane::Live, batch));
            }
            let live_in = self.live_in(limits);
            let backlog_in = (self.reader.held().backlog_records > 0).then(|| self.backlog.rests_for());
            if live_in == Some(Duration::ZERO) && !(self.backlog_is_next && backlog_in == Some(Duration::ZERO)) {
                self.within_limit().await?;
                if let Some(batch) = self.reader.peek_live(limits) {
                    self.backlog_is_next = batch.len() < limits.records.get() && !self.reader.is_full(limits);
                    return Some((Lane::Live, batch));
                }
                continue;
            }
            if backlog_in == Some(Duration::ZERO) {
                if let Some(batch) = self.read_backlog(limits, live_in).await {
                    self.backlog_is_next = false;
                    self.within_limit().await?;
                    return Some((Lane::Backlog, batch));
                }
                continue;
            }
            let rest = [live_in, backlog_in].into_iter().flatten().min().unwrap_or(DISK_PAUSE);
            let company = async {
                tokio::select! {
                    () = sleep(rest) => {}
                    () = self.reader.until_full(limits), if self.live.rests_for().is_zero() => {}
                }
            };
            self.closing.or_stop(company).await;
        }
    }

    /// When what is in memory is to be sent. `None`: there is nothing.
    fn live_in(&self, limits: Limits) -> Option<Duration> {
        let waits_for = self.reader.live_waits_for()?;
        let company_comes =
            if self.reader.is_full(limits) { Duration::ZERO } else { self.linger.saturating_sub(waits_for) };
        Some(company_comes.max(self.live.rests_for()))
    }

    /// `None`: it is not there yet, and something else is to be done, or it cannot be read now.
    async fn read_backlog(&mut self, limits: Limits, live_in: Option<Duration>) -> Option<Batch> {
        let mut reading = match self.reading.take() {
            Some(reading) if reading.limits == limits => reading,
            _ => Reading { limits, batch: self.reader.read_backlog(limits) },
        };
        let live_in = if self.backlog_is_next { live_in.map(|wait| wait.max(DISK_PATIENCE)) } else { live_in };
        let mut read = None;
        self.closing
            .or_stop(async {
                tokio::select! {
                    biased;
                    batch = &mut reading.batch => read = Some(batch),
                    () = sleep(live_in.unwrap_or(DISK_PAUSE)) => {}
                }
            })
            .await;
        match read {
            None => {
                self.reading = Some(reading);
                // The disk is slow: what is in memory does not wait for it.
                self.backlog_is_next = false;
                None
            }
            Some(batch) => {
                let batch = batch.expect("reading does not panic");
                if batch.is_none() {
                    // Damaged, which is counted, or the disk did not give it, which is told.
                    self.backlog.rests_until = Some(now() + DISK_PAUSE);
                }
                batch
            }
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

    /// Waits until the number of requests per second allows one more. `None`: there is no time left.
    async fn within_limit(&mut self) -> Option<()> {
        match &self.limiter {
            Some(limiter) => self.closing.within(limiter.ready()).await,
            None => Some(()),
        }
    }

    /// At the stop: nobody else will keep the records.
    fn must_insist(&self) -> bool {
        self.board.spool.is_degraded()
    }

    /// Sends a batch, in parts if need be, until it is settled or has to wait. `None`: there is no time left.
    async fn deliver(&mut self, lane: Lane, batch: Batch) -> Option<Step> {
        self.report.next_batch(lane);
        self.streak(lane).stuck.next_batch();
        let mut first = batch.id(0);
        let mut is_first_request = true;
        let mut isolation = Isolation::of(batch);
        while let Some(isolation) = &mut isolation
            && let Some(part) = isolation.next()
        {
            if !is_first_request {
                self.within_limit().await?;
            }
            is_first_request = false;
            let verdict = self.send(lane, part).await?;
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

    async fn send(&mut self, lane: Lane, part: &Batch) -> Option<Verdict> {
        let began = tokio::time::Instant::now();
        let sent = self.closing.within(Box::pin(self.target.send(part))).await?;
        let is_probe = self.breaker.is_probing();
        let verdict = judge(&sent, part, clock::now());
        let verdict = self.streak(lane).stuck.handle(&sent.answer, verdict, is_probe);
        self.report.answered(part.len(), &sent, &verdict, began.elapsed());
        match &verdict {
            Verdict::Stored => self.report.stored(part.len()),
            Verdict::Refused { lines, others: Others::Stored } => self.report.stored(part.len() - lines.len()),
            Verdict::Split { limit: SizeLimit::Said, words } => self.learn_limit(part, words),
            _ => {}
        }
        // Who names a bad line has looked at all of them: it works.
        let was_asked = !matches!(sent.answer, Answer::NoneFit);
        if was_asked && matches!(verdict, Verdict::Stored | Verdict::Refused { .. }) {
            self.succeeded(lane);
        }
        Some(verdict)
    }

    fn succeeded(&mut self, lane: Lane) {
        self.report.reached(self.target.describe());
        self.breaker.succeeded();
        self.report.circuit(self.breaker.circuit());
        let (this, other) = match lane {
            Lane::Live => (&mut self.live, &mut self.backlog),
            Lane::Backlog => (&mut self.backlog, &mut self.live),
        };
        this.pauses.reset();
        this.rests_until = None;
        other.other_works = true;
        self.report.lane_works(lane);
    }

    fn streak(&mut self, lane: Lane) -> &mut Streak {
        match lane {
            Lane::Live => &mut self.live,
            Lane::Backlog => &mut self.backlog,
        }
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
    async fn wait_to_retry(&mut self, lane: Lane, after: Option<Duration>, words: &str) -> bool {
        let streak = self.streak(lane);
        let pause = streak.pauses.next_pause().max(after.unwrap_or_default());
        if std::mem::take(&mut streak.other_works) && after.is_none() {
            streak.rests_until = Some(now() + pause);
            self.report.lane_failed(lane, words);
            return true;
        }
        self.failed(words, false);
        if self.closing.has_begun() && !self.must_insist() {
            return false;
        }
        let was_closing = self.closing.has_begun();
        // Once the breaker is open, it is the one who says when.
        let pause = if self.breaker.circuit() == Circuit::Open { after.unwrap_or_default() } else { pause };
        let goes_on = self.closing.pause(pause).await;
        if !was_closing && self.closing.has_begun() {
            // Little time is left: it begins again with short waits.
            self.streak(lane).pauses.reset();
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
