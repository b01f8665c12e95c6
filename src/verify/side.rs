//! One target: what is asked of it, what it lacks, and what is written again.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::sleep;

use super::compare::{Expected, Finding, Measure, compare};
use super::report::{Counts, Tally};
use super::{Plan, VerifyError, Walk};
use crate::config::settings::NamedTarget;
use crate::deliver::carrier::Carrier;
use crate::influx::query::{Found, Question, Reader};
use crate::line::read::Series;
use crate::model::time::Timestamp;

/// How often it is looked whether a repaired point is there, a second apart: some databases find it after a moment.
const LOOKS: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);
const GRAIN_OF_MILLIS: i64 = 1_000_000;

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
    pub(super) async fn open(target: &'a NamedTarget, plan: &Plan<'_>) -> Result<Self, VerifyError> {
        let name = &target.name;
        let open = |source| VerifyError::Open { name: name.clone(), source };
        let read = |source| VerifyError::Read { name: name.clone(), source };
        let mut reader = Reader::open(&target.place, plan.delivery).map_err(open)?;
        reader.connect().await.map_err(read)?;
        reader.settle().await;
        let retention = reader.retention().await.map_err(read)?;
        let kept_from = retention
            .map(|kept| plan.now.as_nanos().saturating_sub(i64::try_from(kept.as_nanos()).unwrap_or(i64::MAX)));
        let carrier = if plan.repair { Some(Carrier::open(&target.place, plan.delivery).map_err(open)?) } else { None };
        let kept_from = kept_from.filter(|kept| *kept > plan.from.as_nanos());
        Ok(Self { target, reader, carrier, kept_from, tally: Tally::default(), repaired: 0, not_kept: 0 })
    }

    pub(super) async fn compare(
        &mut self,
        walk: &Walk,
        plan: &Plan<'_>,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<(), VerifyError> {
        let found = self.find(walk, from, until).await?;
        let (mut tally, mut missing) = self.judge(walk, &found, from, until);
        if !missing.is_empty() && self.carrier.is_some() {
            let written = self.write(walk, plan, &missing).await?;
            let before = missing.len();
            for look in 0..LOOKS {
                self.reader.settle().await;
                let found = self.find(walk, from, until).await?;
                (tally, missing) = self.judge(walk, &found, from, until);
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
            let points = walk.step.series.values().flatten();
            self.not_kept += points.filter(|point| !point.has_number).count() as u64;
        }
        Ok(())
    }

    async fn find(&mut self, walk: &Walk, from: Timestamp, until: Timestamp) -> Result<Found, VerifyError> {
        // Whole milliseconds, and as much more as rules may shift a point.
        let slack = walk.roster.most_slack() / 1_000;
        let from = (from.as_micros() - slack).div_euclid(1_000) * 1_000;
        let until = (until.as_micros() + slack + 999).div_euclid(1_000) * 1_000;
        let numbers = self.reader.keeps_numbers_only();
        let question = Question {
            fields: if numbers { &walk.asked.numbers } else { &walk.asked.any },
            from: Timestamp::from_micros(from),
            until: Timestamp::from_micros(until),
        };
        let name = &self.target.name;
        self.reader.find(&question).await.map_err(|source| VerifyError::Read { name: name.clone(), source })
    }

    /// What there is to count, and the points that are missing.
    fn judge(&self, walk: &Walk, found: &Found, from: Timestamp, until: Timestamp) -> (Tally, Vec<Expected>) {
        let numbers = self.reader.keeps_numbers_only();
        let mut tally = Tally::default();
        let mut missing = Vec::new();
        let mut seen = BTreeSet::new();
        let known_from = if walk.reaches_back { i64::MIN } else { walk.first.map_or(i64::MAX, Timestamp::as_nanos) };
        // What it should not have any more may still be there, until it is thrown away by the day or the week.
        let known_from = known_from.max(self.kept_from.unwrap_or(i64::MIN));
        let mut judge_one = |owner: usize, expected: &[Expected], times: &[i64]| {
            let watched = &walk.roster.entities[owner];
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
        for (series, points) in &walk.step.series {
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
            if let Some(owner) = walk.owner(series) {
                judge_one(owner, &[], times);
            }
        }
        (tally, missing)
    }

    /// Returns how many were taken.
    async fn write(&mut self, walk: &Walk, plan: &Plan<'_>, missing: &[Expected]) -> Result<usize, VerifyError> {
        let Some(carrier) = &mut self.carrier else { return Ok(0) };
        let (points, bytes) = (plan.delivery.batch_points.get(), plan.delivery.batch_bytes.get());
        let mut written = 0;
        for batch in walk.step.batches(missing, points, bytes) {
            let count = batch.len();
            let outcome = carrier.carry(batch, &mut |_| {}).await;
            if let Some(words) = outcome.gave_up {
                return Err(VerifyError::Repair { name: self.target.name.clone(), words });
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
