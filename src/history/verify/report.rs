//! What was found out, for people and for programs.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::Serialize;

use crate::model::time::Timestamp;

const HOUR_MICROS: i64 = 3_600_000_000;

/// `known` is what Home Assistant knows and the rules let pass; each of those is present, missing or at another time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub known: u64,
    pub present: u64,
    pub missing: u64,
    pub extra: u64,
    pub differing_timestamps: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub from: String,
    pub until: String,
    pub home_assistant: String,
    pub targets: Vec<TargetReport>,
    /// Those that could not be compared, or not to the end.
    pub not_verified: Vec<NotVerified>,
    pub cannot_be_verified: Vec<Unverifiable>,
    /// Entities that somebody named and nobody knows.
    pub unknown: Vec<Unknown>,
    /// What else a reader should know.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetReport {
    pub target: String,
    pub server: String,
    /// It keeps nothing that is older.
    pub verifiable_from: Option<String>,
    pub total: Counts,
    /// Points that were missing and have been written.
    pub repaired: u64,
    /// Points without a number, which this database does not keep.
    pub not_kept: u64,
    pub entities: Vec<EntityReport>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NotVerified {
    pub target: String,
    /// In words that say what to do.
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EntityReport {
    pub entity: String,
    /// No rule shifts, leaves out or repeats points of it.
    pub exact: bool,
    #[serde(flatten)]
    pub total: Counts,
    pub hours: Vec<HourReport>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HourReport {
    /// When it begins.
    pub hour: String,
    #[serde(flatten)]
    pub counts: Counts,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unverifiable {
    pub entity: String,
    pub reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unknown {
    pub entity: String,
    /// Those that are called nearly so.
    pub nearest: Vec<String>,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.known += other.known;
        self.present += other.present;
        self.missing += other.missing;
        self.extra += other.extra;
        self.differing_timestamps += other.differing_timestamps;
    }
}

impl Counts {
    #[must_use]
    pub fn differs(&self) -> bool {
        self.missing + self.extra + self.differing_timestamps > 0
    }
}

impl Report {
    /// Whether a target lacks anything.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.targets.iter().any(|target| target.total.missing + target.total.differing_timestamps > 0)
    }
}

/// What is counted of one target, by entity and hour.
#[derive(Debug, Default)]
pub struct Tally {
    hours: BTreeMap<(usize, i64), Counts>,
}

impl Tally {
    pub fn at(&mut self, entity: usize, nanos: i64) -> &mut Counts {
        self.hours.entry((entity, nanos.div_euclid(HOUR_MICROS * 1_000))).or_default()
    }

    /// Points that nobody knows of are no finding if nobody knows anything of the entity.
    pub fn forget_extra(&mut self, is_unknown: impl Fn(usize) -> bool) {
        for ((entity, _), counts) in &mut self.hours {
            if is_unknown(*entity) {
                counts.extra = 0;
            }
        }
    }

    pub fn add(&mut self, entity: usize, hour: i64, counts: Counts) {
        *self.hours.entry((entity, hour)).or_default() += counts;
    }

    #[must_use]
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.hours.values().for_each(|counts| total += *counts);
        total
    }

    /// Entities with points that Home Assistant does not know.
    pub fn with_extra(&self) -> impl Iterator<Item = usize> {
        self.hours.iter().filter(|(_, counts)| counts.extra > 0).map(|((entity, _), _)| *entity)
    }

    pub fn into_hours(self) -> impl Iterator<Item = ((usize, i64), Counts)> {
        self.hours.into_iter()
    }

    /// Entities in the order of their places. `describe` gives the name, and whether it is compared exactly.
    #[must_use]
    pub fn entities(&self, describe: impl Fn(usize) -> (String, bool)) -> Vec<EntityReport> {
        let mut entities: Vec<EntityReport> = Vec::new();
        let mut last = None;
        for ((place, hour), counts) in &self.hours {
            if *counts == Counts::default() {
                continue;
            }
            if last.replace(*place) != Some(*place) {
                let (entity, exact) = describe(*place);
                entities.push(EntityReport { entity, exact, total: Counts::default(), hours: Vec::new() });
            }
            let report = entities.last_mut().expect("one was pushed");
            report.total += *counts;
            let hour = Timestamp::from_micros(hour * HOUR_MICROS).to_string();
            report.hours.push(HourReport { hour, counts: *counts });
        }
        entities
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, Tally};

    #[test]
    fn hours_add_up_by_entity() {
        let mut tally = Tally::default();
        tally.at(1, 0).missing += 1;
        tally.at(1, 3_599_999_999_999).known += 2;
        tally.at(1, 3_600_000_000_000).known += 4;
        tally.at(0, 0).extra += 9;
        tally.at(2, 0).known += 1;
        tally.forget_extra(|entity| entity == 0);
        let entities = tally.entities(|place| (format!("e.{place}"), place == 1));
        let [one, two] = &entities[..] else { panic!("{entities:?}") };
        assert_eq!((&*one.entity, one.exact, &*two.entity, two.exact), ("e.1", true, "e.2", false));
        assert_eq!(one.total, Counts { known: 6, missing: 1, ..Counts::default() });
        assert_eq!(one.hours[1].hour, "1970-01-01T01:00:00.000000Z");
        assert!(one.total.differs() && !two.total.differs());
    }
}
