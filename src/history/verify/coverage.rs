//! How much of what Home Assistant knew is there, by target, entity and day, as the last `verify` of that day found it.
//! Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::report::Report;
use crate::model::time::Timestamp;

/// What is older is forgotten.
const MOST_DAYS: i64 = 400;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// Target, entity, day in UTC (`2026-11-24`).
    targets: BTreeMap<String, BTreeMap<String, BTreeMap<String, Day>>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Day {
    known: u64,
    missing: u64,
}

impl Coverage {
    /// A day that was verified before keeps the figures of whichever run knew more.
    pub fn merge(&mut self, report: &Report, now: Timestamp) {
        for target in &report.targets {
            let entities = self.targets.entry(target.target.clone()).or_default();
            for entity in &target.entities {
                let mut days: BTreeMap<String, Day> = BTreeMap::new();
                for hour in &entity.hours {
                    let day = days.entry(hour.hour.get(..10).unwrap_or_default().to_owned()).or_default();
                    day.known += hour.counts.known;
                    day.missing += hour.counts.missing;
                }
                let kept = entities.entry(entity.entity.clone()).or_default();
                for (name, day) in days.into_iter().filter(|(_, day)| day.known > 0) {
                    let before = kept.entry(name).or_default();
                    if day.known >= before.known {
                        *before = day;
                    }
                }
            }
        }
        self.forget(now);
    }

    fn forget(&mut self, now: Timestamp) {
        let oldest = Timestamp::from_micros(now.as_micros() - MOST_DAYS * 86_400 * 1_000_000).to_string();
        let oldest = &oldest[..10.min(oldest.len())];
        for entities in self.targets.values_mut() {
            for days in entities.values_mut() {
                days.retain(|day, _| day.as_str() >= oldest);
            }
            entities.retain(|_, days| !days.is_empty());
        }
    }

    /// `None`: it is not ours, or damaged.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are JSON")
    }

    /// With the share that is there: of each target, in all, by day and by entity; or of one entity, in all and by day.
    #[must_use]
    pub fn figures(&self, of: Option<&str>) -> Value {
        let figure = |entities: &BTreeMap<String, BTreeMap<String, Day>>| {
            let chosen = || entities.iter().filter(|(id, _)| of.is_none_or(|of| of == *id)).map(|(_, days)| days);
            let mut by_day: BTreeMap<&str, Day> = BTreeMap::new();
            for (name, day) in chosen().flatten() {
                by_day.entry(name).or_default().add(*day);
            }
            let mut figure = sum(chosen().flat_map(BTreeMap::values)).figure();
            figure["days"] = by_day.into_iter().map(|(name, day)| (name.to_owned(), day.figure())).collect();
            if of.is_none() {
                let by_entity = entities.iter().map(|(id, days)| (id.clone(), sum(days.values()).figure()));
                figure["entities"] = by_entity.collect();
            }
            figure
        };
        let targets: Value = self.targets.iter().map(|(name, entities)| (name.clone(), figure(entities))).collect();
        json!({ "targets": targets })
    }

    /// How many changes were looked for and how many were missing, by target.
    #[must_use]
    pub fn totals(&self) -> Vec<(String, u64, u64)> {
        let total = |(name, entities): (&String, &BTreeMap<String, BTreeMap<String, Day>>)| {
            let Day { known, missing } = sum(entities.values().flat_map(BTreeMap::values));
            (name.clone(), known, missing)
        };
        self.targets.iter().map(total).collect()
    }
}

impl Day {
    fn add(&mut self, other: Self) {
        self.known += other.known;
        self.missing += other.missing;
    }

    fn figure(self) -> Value {
        json!({"known": self.known, "missing": self.missing, "ratio": ratio(self.known, self.missing)})
    }
}

/// The share of what is known that is there, from 0 to 1; 1 where nothing is known.
#[must_use]
pub fn ratio(known: u64, missing: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share of counts far below 2^53")]
    let share = |part: u64| part as f64 / known as f64;
    if known == 0 { 1.0 } else { share(known.saturating_sub(missing)) }
}

fn sum<'a>(days: impl Iterator<Item = &'a Day>) -> Day {
    days.fold(Day::default(), |mut sum, day| {
        sum.add(*day);
        sum
    })
}

#[cfg(test)]
mod tests {
    use super::Coverage;
    use crate::history::verify::report::{Counts, EntityReport, HourReport, Report, TargetReport};
    use crate::model::time::Timestamp;

    fn report(hours: &[(&str, u64, u64)]) -> Report {
        let hours = hours.iter().map(|(hour, known, missing)| HourReport {
            hour: format!("{hour}:00:00.000000Z"),
            counts: Counts { known: *known, missing: *missing, ..Counts::default() },
        });
        let entity =
            EntityReport { entity: "a.b".into(), exact: true, total: Counts::default(), hours: hours.collect() };
        Report {
            from: String::new(),
            until: String::new(),
            home_assistant: String::new(),
            targets: vec![TargetReport {
                target: "influxdb".into(),
                server: String::new(),
                verifiable_from: None,
                total: Counts::default(),
                repaired: 0,
                not_kept: 0,
                entities: vec![entity],
            }],
            not_verified: Vec::new(),
            cannot_be_verified: vec![],
            unknown: vec![],
            notes: vec![],
        }
    }

    #[test]
    fn days_add_up_and_the_later_run_counts_if_it_knew_as_much() {
        let now = Timestamp::from_rfc3339("2026-11-24T00:00:00Z").unwrap();
        let mut coverage = Coverage::default();
        let hours =
            [("2026-11-22T01", 4, 1), ("2026-11-22T02", 6, 0), ("2026-11-23T00", 10, 2), ("2025-01-01T00", 1, 1)];
        coverage.merge(&report(&hours), now);
        coverage.merge(&report(&[("2026-11-23T00", 10, 0), ("2026-11-22T01", 4, 0)]), now);
        let again = Coverage::from_json(&coverage.to_json()).unwrap();
        assert_eq!(again, coverage);
        let figures = again.figures(None);
        let target = &figures["targets"]["influxdb"];
        assert_eq!(target["days"]["2026-11-22"], serde_json::json!({"known": 10, "missing": 1, "ratio": 0.9}));
        assert_eq!(target["days"]["2026-11-23"]["ratio"], 1.0);
        assert_eq!((&target["known"], &target["ratio"]), (&20.into(), &0.95.into()));
        assert_eq!(target["entities"]["a.b"], serde_json::json!({"known": 20, "missing": 1, "ratio": 0.95}));
        let of = |entity| again.figures(Some(entity))["targets"]["influxdb"].clone();
        assert_eq!((&of("a.b")["days"], &of("a.b")["entities"]), (&target["days"], &serde_json::Value::Null));
        assert_eq!(of("a.c"), serde_json::json!({"known": 0, "missing": 0, "ratio": 1.0, "days": {}}));
        assert_eq!(again.totals(), [("influxdb".to_owned(), 20, 1)]);
        assert_eq!(Coverage::from_json("half"), None);
    }
}
