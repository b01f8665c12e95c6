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

    /// With the share that is there: by day, by entity, by target.
    #[must_use]
    pub fn figures(&self) -> Value {
        let of_entity = |days: &BTreeMap<String, Day>| {
            let shown: BTreeMap<&String, Value> = days.iter().map(|(name, day)| (name, day.figure())).collect();
            let mut figure = sum(days.values()).figure();
            figure["days"] = json!(shown);
            figure
        };
        let of_target = |entities: &BTreeMap<String, BTreeMap<String, Day>>| {
            let shown: BTreeMap<&String, Value> = entities.iter().map(|(name, days)| (name, of_entity(days))).collect();
            let mut figure = sum(entities.values().flat_map(BTreeMap::values)).figure();
            figure["entities"] = json!(shown);
            figure
        };
        let targets: BTreeMap<&String, Value> = self.targets.iter().map(|(name, all)| (name, of_target(all))).collect();
        json!({ "targets": targets })
    }
}

impl Day {
    fn figure(self) -> Value {
        #[expect(clippy::cast_precision_loss, reason = "a share of counts far below 2^53")]
        let ratio =
            if self.known == 0 { 1.0 } else { (self.known - self.missing.min(self.known)) as f64 / self.known as f64 };
        json!({"known": self.known, "missing": self.missing, "ratio": ratio})
    }
}

fn sum<'a>(days: impl Iterator<Item = &'a Day>) -> Day {
    days.fold(Day::default(), |sum, day| Day { known: sum.known + day.known, missing: sum.missing + day.missing })
}

#[cfg(test)]
mod tests {
    use super::Coverage;
    use crate::model::time::Timestamp;
    use crate::verify::report::{Counts, EntityReport, HourReport, Report, TargetReport};

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
            cannot_be_verified: vec![],
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
        let figures = again.figures();
        let entity = &figures["targets"]["influxdb"]["entities"]["a.b"];
        assert_eq!(entity["days"]["2026-11-22"], serde_json::json!({"known": 10, "missing": 1, "ratio": 0.9}));
        assert_eq!(entity["days"]["2026-11-23"]["ratio"], 1.0);
        assert_eq!((&entity["known"], &entity["ratio"]), (&20.into(), &0.95.into()));
        assert_eq!(figures["targets"]["influxdb"]["ratio"], 0.95);
        assert_eq!(Coverage::from_json("half"), None);
    }
}
