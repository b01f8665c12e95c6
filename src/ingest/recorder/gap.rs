//! From when until when something is missing, and what of it history cannot give back.
//!
//! Pure. All times are Home Assistant's: our own clock may be another one.

use std::collections::HashMap;

use crate::model::entity::EntityId;
use crate::model::time::Timestamp;

/// So much more is fetched at the beginning: what is written twice is written once.
const OVERLAP_MICROS: i64 = 30 * 1_000_000;
/// The recorder writes what happened within seconds: so much of the end is fetched a second time.
const SECOND_PASS_MICROS: i64 = 5 * 60 * 1_000_000;
/// A state as new as this may not be written yet by the recorder.
const FRESH_MICROS: i64 = 1_000_000;

/// Everything from `from` until `until` is to be fetched, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub from: Timestamp,
    pub until: Timestamp,
}

impl Gap {
    /// `watermark`: until when everything is known; `newest`: of the states with which the session began.
    #[must_use]
    pub fn between(watermark: Timestamp, newest: Timestamp) -> Self {
        let ahead = (watermark.as_micros() - newest.as_micros()).max(0);
        // Home Assistant's clock was set back by at least that much: what was told lies at times that come again.
        let from = watermark.as_micros().min(newest.as_micros()) - ahead - OVERLAP_MICROS;
        Self { from: Timestamp::from_micros(from), until: newest }
    }

    /// What the recorder may have written after the first pass.
    #[must_use]
    pub fn end(self) -> Self {
        let from = Timestamp::from_micros(self.until.as_micros() - SECOND_PASS_MICROS);
        Self { from: from.max(self.from), ..self }
    }

    /// Until when everything was told, so that the recorder had a state of whoever was known, if it still has it.
    #[must_use]
    pub fn known_until(self) -> Timestamp {
        Timestamp::from_micros(self.from.as_micros() + OVERLAP_MICROS)
    }

    /// The first moment that is not part of it.
    #[must_use]
    pub fn past_end(self) -> Timestamp {
        Timestamp::from_micros(self.until.as_micros() + 1)
    }
}

/// What the history has of the gap, and what it must have.
#[derive(Debug, Default)]
pub struct Evidence {
    /// States of this moment that began in the gap.
    awaited: HashMap<EntityId, Timestamp>,
    /// The first row of each entity.
    first: HashMap<EntityId, Timestamp>,
}

impl Evidence {
    /// `states`: when each entity's state of now began.
    #[must_use]
    pub fn of<'a>(gap: Gap, states: impl Iterator<Item = (&'a EntityId, Timestamp)>) -> Self {
        let end = gap.until.as_micros() - FRESH_MICROS;
        let within = states.filter(|(_, since)| *since > gap.from && since.as_micros() <= end);
        Self { awaited: within.map(|(entity, since)| (entity.clone(), since)).collect(), first: HashMap::new() }
    }

    /// The history has a row of this time.
    pub fn saw(&mut self, entity: &EntityId, time: Timestamp) {
        if self.awaited.get(entity) == Some(&time) {
            self.awaited.remove(entity);
        }
        match self.first.get_mut(entity) {
            Some(first) => *first = time.min(*first),
            None => drop(self.first.insert(entity.clone(), time)),
        }
    }

    /// What the history lacks, with the time that it lacks.
    pub fn missing(&self) -> impl Iterator<Item = (&EntityId, Timestamp)> {
        self.awaited.iter().map(|(entity, since)| (entity, *since))
    }

    /// When the history of this entity begins in the gap.
    #[must_use]
    pub fn first(&self, entity: &EntityId) -> Option<Timestamp> {
        self.first.get(entity).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::{Evidence, Gap};
    use crate::model::entity::EntityId;
    use crate::model::time::Timestamp;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_gap_begins_before_what_is_known_ends() {
        assert_eq!(Gap::between(at(1_000), at(2_000)), Gap { from: at(970), until: at(2_000) });
        assert_eq!(Gap::between(at(1_000), at(1_000)), Gap { from: at(970), until: at(1_000) });
        assert_eq!(Gap { from: at(0), until: at(2_000) }.end(), Gap { from: at(1_700), until: at(2_000) });
        assert_eq!(Gap { from: at(1_900), until: at(2_000) }.end().from, at(1_900));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_the_gap_longer_by_as_much() {
        // An hour ahead until second 1000 of the true time; back, and connected again ten minutes later.
        let gap = Gap::between(at(1_000 + 3_600), at(1_600));
        assert!(gap.from < at(1_000) && gap.until == at(1_600), "{gap:?}");
    }

    #[test]
    fn a_state_that_began_in_the_gap_and_is_not_in_the_history_is_missing() {
        let gap = Gap { from: at(100), until: at(200) };
        let [a, b, c, d] = ["x.a", "x.b", "x.c", "x.d"].map(|id| EntityId::parse(id).unwrap());
        let states = [(&a, at(150)), (&b, at(150)), (&c, at(50)), (&d, at(200))];
        let mut evidence = Evidence::of(gap, states.into_iter());
        evidence.saw(&a, at(140));
        evidence.saw(&a, at(150));
        evidence.saw(&b, at(140));
        assert_eq!(evidence.missing().collect::<Vec<_>>(), [(&b, at(150))]);
        assert_eq!([&b, &c].map(|entity| evidence.first(entity)), [Some(at(140)), None]);
    }
}
