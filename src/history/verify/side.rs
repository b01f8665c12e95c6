//! The targets: what is asked of each, what it lacks, and what is written again. One that fails leaves the others alone.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::sleep;

use super::compare::{Expected, Finding, Measure, compare};
use super::report::{Counts, NotVerified, Tally};
use super::{Course, Period, Plan, Progress, TargetError, VerifyError};
use crate::config::settings::NamedTarget;
use crate::deliver::carrier::Carrier;
use crate::influx::in_options_of;
use crate::influx::query::{Found, Question, Reader};
use crate::line::read::Series;
use crate::model::time::Timestamp;

/// How often it is looked whether a point is there that was just written, a second apart: the service gathers points before it
/// sends them, and some databases find them after a moment.
const LOOKS: u32 = 10;
/// What is not older may be on its way.
const ON_ITS_WAY_NANOS: i64 = 60 * 1_000_000_000;
const SECOND: Duration = Duration::from_secs(1);
const GRAIN_OF_MILLIS: i64 = 1_000_000;

/// The targets that are compared, and those that cannot be.
pub(super) struct Sides<'a> {
    pub(super) open: Vec<Side<'a>>,
    pub(super) failed: Vec<NotVerified>,
}

impl<'a> Sides<'a> {
    /// # Errors
    /// No target can be reached, or an option of one is wrong.
    pub(super) async fn open(plan: &Plan<'a>) -> Result<Self, VerifyError> {
        let mut sides = Self { open: Vec::new(), failed: Vec::new() };
        for target in &plan.targets {
            let open = |source| VerifyError::Open { name: target.name.clone(), source };
            let mut reader = Reader::open(&target.place, plan.delivery).map_err(open)?;
            let carrier =
                if plan.repair { Some(Carrier::open(&target.place, plan.delivery).map_err(open)?) } else { None };
            match reader.connect().await {
                Ok(()) => sides.open.push(Side::new(target, reader, carrier)),
                Err(err) => sides.failed.push(not_verified(target, &err.into())),
            }
        }
        sides.not_nobody()?;
        Ok(sides)
    }

    /// How far back each target keeps what it has.
    ///
    /// # Errors
    /// No target tells.
    pub(super) async fn learn_retention(&mut self, plan: &Plan<'a>, period: Period) -> Result<(), VerifyError> {
        for mut side in std::mem::take(&mut self.open) {
            side.reader.settle().await;
            match side.reader.oldest(plan.now).await {
                Ok(oldest) => {
                    side.kept_from = oldest.map(Timestamp::as_nanos).filter(|from| *from > period.from.as_nanos());
                    self.open.push(side);
                }
                Err(err) => self.failed.push(not_verified(side.target, &err.into())),
            }
        }
        self.not_nobody()
    }

    /// Compares what is expected of this part of the period.
    ///
    /// # Errors
    /// No target is left.
    pub(super) async fn compare(
        &mut self,
        course: &Course,
        plan: &Plan<'a>,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<(), VerifyError> {
        for mut side in std::mem::take(&mut self.open) {
            match side.compare(course, plan, from, until).await {
                Ok(()) => self.open.push(side),
                Err(err) => self.failed.push(not_verified(side.target, &err)),
            }
        }
        self.not_nobody()
    }

    pub(super) fn told(&self, period: Period, reached: Timestamp) -> Progress {
        let total = self.open.first().map(|side| side.tally.total()).unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "a share for people")]
        let share = |to: Timestamp| (to.as_micros() - period.from.as_micros()) as f64;
        let done = share(reached) / share(period.until).max(1.0);
        Progress { waiting: None, done, reached: Some(reached), known: total.known, missing: total.missing }
    }

    /// With none left, there is nothing to ask Home Assistant for.
    fn not_nobody(&self) -> Result<(), VerifyError> {
        if !self.open.is_empty() {
            return Ok(());
        }
        let words = self.failed.iter().map(|failed| format!("{}: {}", failed.target, failed.why));
        Err(VerifyError::NoTarget(words.collect()))
    }
}

fn not_verified(target: &NamedTarget, err: &TargetError) -> NotVerified {
    NotVerified { target: target.name.clone(), why: in_options_of(&target.name, &err.to_string()) }
}

/// One target, and what was found out about it.
pub(super) struct Side<'a> {
    pub(super) target: &'a NamedTarget,
    pub(super) reader: Reader,
    carrier: Option<Carrier>,
    /// In nanoseconds. What is older is not kept.
    pub(super) kept_from: Option<i64>,
    pub(super) tally: Tally,
    pub(super) repaired: u64,
    pub(super) not_kept: u64,
}

impl<'a> Side<'a> {
    fn new(target: &'a NamedTarget, reader: Reader, carrier: Option<Carrier>) -> Self {
        Self { target, reader, carrier, kept_from: None, tally: Tally::default(), repaired: 0, not_kept: 0 }
    }

    async fn compare(
        &mut self,
        course: &Course,
        plan: &Plan<'_>,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<(), TargetError> {
        let (mut tally, mut missing) = self.look(course, from, until).await?;
        // What happened a moment ago is on its way, as long as more and more of it arrives.
        let young = course.period.committed.as_nanos() - ON_ITS_WAY_NANOS;
        for _ in 0..LOOKS {
            if !missing.iter().any(|point| point.nanos >= young) {
                break;
            }
            sleep(SECOND).await;
            self.reader.settle().await;
            (tally, missing) = self.look(course, from, until).await?;
        }
        if !missing.is_empty() && self.carrier.is_some() {
            let written = self.write(course, plan, &missing).await?;
            let before = missing.len();
            for look in 0..LOOKS {
                self.reader.settle().await;
                (tally, missing) = self.look(course, from, until).await?;
                if before - missing.len().min(before) >= written {
                    break;
                }
                if look + 1 < LOOKS {
                    sleep(SECOND).await;
                }
            }
            self.repaired += (before - missing.len().min(before)) as u64;
        }
        for ((entity, hour), counts) in tally.into_hours() {
            self.tally.add(entity, hour, counts);
        }
        if self.reader.keeps_numbers_only() {
            let points = course.expected.series.values().flatten();
            self.not_kept += points.filter(|point| !point.has_number).count() as u64;
        }
        Ok(())
    }

    /// What there is to count, and the points that are missing.
    async fn look(
        &mut self,
        course: &Course,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<(Tally, Vec<Expected>), TargetError> {
        let found = self.find(course, from, until).await?;
        Ok(self.judge(course, &found, from, until))
    }

    async fn find(&mut self, course: &Course, from: Timestamp, until: Timestamp) -> Result<Found, TargetError> {
        // Whole milliseconds, and as much more as rules may shift a point.
        let slack = course.roster.most_slack() / 1_000;
        let from = (from.as_micros() - slack).div_euclid(1_000) * 1_000;
        let until = (until.as_micros() + slack + 999).div_euclid(1_000) * 1_000;
        let numbers = self.reader.keeps_numbers_only();
        let question = Question {
            fields: if numbers { &course.asked.numbers } else { &course.asked.any },
            from: Timestamp::from_micros(from),
            until: Timestamp::from_micros(until),
        };
        Ok(self.reader.find(&question).await?)
    }

    /// What there is to count, and the points that are missing.
    fn judge(&self, course: &Course, found: &Found, from: Timestamp, until: Timestamp) -> (Tally, Vec<Expected>) {
        let numbers = self.reader.keeps_numbers_only();
        let mut tally = Tally::default();
        let mut missing = Vec::new();
        let mut seen = BTreeSet::new();
        let known_from =
            if course.reaches_back { i64::MIN } else { course.first.map_or(i64::MAX, Timestamp::as_nanos) };
        // What it should not have any more may still be there, until it is thrown away by the day or the week.
        let known_from = known_from.max(self.kept_from.unwrap_or(i64::MIN));
        let mut judge_one = |owner: usize, expected: &[Expected], times: &[i64]| {
            let watched = &course.roster.entities[owner];
            let measure = Measure {
                grain_nanos: if numbers { GRAIN_OF_MILLIS } else { 1 },
                slack_nanos: watched.slack_nanos,
                counts_extra: watched.is_exact,
                from_nanos: from.as_nanos().max(known_from),
                until_nanos: until.as_nanos(),
            };
            compare(expected, times, measure, &mut |finding| match finding {
                Finding::Present(point) | Finding::Differing(point) if numbers && !point.has_number => {}
                Finding::Present(point) => count(&mut tally, point, |counts| counts.present += 1),
                Finding::Differing(point) => count(&mut tally, point, |counts| counts.differing_timestamps += 1),
                Finding::Extra(nanos) => tally.at(owner, nanos).extra += 1,
                Finding::Missing(point) => {
                    missing.push(point.clone());
                    count(&mut tally, point, |counts| counts.missing += 1);
                }
            });
        };
        for (series, points) in &course.expected.series {
            let Some(first) = points.first() else { continue };
            let kept: Vec<Expected> = points
                .iter()
                .filter(|point| self.kept_from.is_none_or(|kept| point.nanos >= kept))
                .cloned()
                // A text may have had a number among attributes that the recorder leaves out (`editable`).
                .map(|point| Expected { is_optional: point.is_optional || numbers && !point.has_number, ..point })
                .collect();
            let series = if numbers { without_database(series) } else { series.clone() };
            let times = found.get(&series).map_or(&[][..], Vec::as_slice);
            judge_one(first.entity, &kept, times);
            seen.insert(series);
        }
        for (series, times) in found.iter().filter(|(series, _)| !seen.contains(*series)) {
            if let Some(owner) = course.owner(series) {
                judge_one(owner, &[], times);
            }
        }
        (tally, missing)
    }

    /// Returns how many were taken.
    async fn write(&mut self, course: &Course, plan: &Plan<'_>, missing: &[Expected]) -> Result<usize, TargetError> {
        let Some(carrier) = &mut self.carrier else { return Ok(0) };
        let (points, bytes) = (plan.delivery.batch_points.get(), plan.delivery.batch_bytes.get());
        let mut written = 0;
        for batch in course.expected.batches(missing, points, bytes) {
            let count = batch.len();
            let outcome = carrier.carry(batch, &mut |_| {}).await;
            if let Some(words) = outcome.gave_up {
                return Err(TargetError::Repair(words));
            }
            written += count - outcome.refused.len().min(count);
        }
        Ok(written)
    }
}

fn count(tally: &mut Tally, point: &Expected, add: impl FnOnce(&mut Counts)) {
    let counts = tally.at(point.entity, point.nanos);
    counts.known += 1;
    add(counts);
}

/// VictoriaMetrics has a tag `db` of its own.
fn without_database(series: &Series) -> Series {
    let mut series = series.clone();
    series.tags.remove("db");
    series
}
