//! From when until when something is missing, and what of it history cannot give back.
//!
//! Pure. All times are Home Assistant's: our own clock may be another one.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::entity::EntityId;
use crate::model::time::Timestamp;

/// So much more is fetched at the beginning: what is written twice is written once.
const OVERLAP_MICROS: i64 = 30 * 1_000_000;
/// What is lacking and is not older than this may have been in the recorder's hands when it was told to commit.
const IN_HAND_MICROS: i64 = 60 * 1_000_000;

/// Everything from `from` until `until` is missing, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub from: Timestamp,
    pub until: Timestamp,
    /// Rows may have later times, if Home Assistant's clock was set back in the gap.
    rows_until: Timestamp,
}

impl Gap {
    /// `watermark`: until when everything is known; `now`: what Home Assistant's clock says; `away`: how long ago it was that
    /// somebody listened, if that is known.
    #[must_use]
    pub fn between(watermark: Timestamp, now: Timestamp, away: Option<Duration>) -> Self {
        let (known, now) = (watermark.as_micros(), now.as_micros());
        // If Home Assistant's clock was set back, what was told lies at times that come again.
        let (listened, rows_until) = match away.map(|away| i64::try_from(away.as_micros()).unwrap_or(i64::MAX)) {
            Some(away) => (now.saturating_sub(away), known.saturating_add(away)),
            // It was by that much at least.
            None => (now.saturating_sub((known - now).max(0)), known),
        };
        Self {
            from: Timestamp::from_micros(known.min(listened).saturating_sub(OVERLAP_MICROS)),
            until: Timestamp::from_micros(now),
            rows_until: Timestamp::from_micros(now.max(rows_until)),
        }
    }

    /// Until when everything was told, so that the recorder had a state of whoever was known, if it still has it.
    #[must_use]
    pub fn known_until(self) -> Timestamp {
        Timestamp::from_micros(self.from.as_micros() + OVERLAP_MICROS)
    }

    /// How long nobody listened, as far as times can tell.
    #[must_use]
    pub fn length(self) -> Duration {
        let micros = self.until.as_micros().saturating_sub(self.known_until().as_micros());
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// When the last minute of it begins.
    #[must_use]
    pub fn last_minute(self) -> Timestamp {
        Timestamp::from_micros(self.until.as_micros() - IN_HAND_MICROS).max(self.from)
    }

    /// The first moment of which no row belongs to it.
    #[must_use]
    pub fn past_end(self) -> Timestamp {
        Timestamp::from_micros(self.rows_until.as_micros() + 1)
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
        let within = states.filter(|(_, since)| *since > gap.from && *since < gap.past_end());
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

    /// Those of whom the last minute of the gap may still come: the recorder takes a change from its queue a moment before it
    /// has anything to commit.
    #[must_use]
    pub fn in_hand(&self, gap: Gap) -> Vec<EntityId> {
        let since = gap.last_minute();
        let missing = self.missing().filter(|(_, at)| *at >= since);
        missing.map(|(entity, _)| entity.clone()).collect()
    }

    /// When the history of this entity begins in the gap.
    #[must_use]
    pub fn first(&self, entity: &EntityId) -> Option<Timestamp> {
        self.first.get(entity).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Evidence, Gap};
    use crate::model::entity::EntityId;
    use crate::model::time::Timestamp;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    /// From when until when, and the last moment of which there may be rows.
    fn check(watermark: i64, now: i64, away: Option<u64>, expected: [i64; 3]) {
        let gap = Gap::between(at(watermark), at(now), away.map(Duration::from_secs));
        let last = Timestamp::from_micros(gap.past_end().as_micros() - 1);
        assert_eq!([gap.from, gap.until, last], expected.map(at), "{gap:?}");
    }

    #[test]
    fn a_gap_begins_before_what_is_known_ends() {
        check(1_000, 2_000, None, [970, 2_000, 2_000]);
        check(1_000, 1_000, None, [970, 1_000, 1_000]);
        // In a quiet home nothing was told for a long time before it was left.
        check(1_000, 2_000, Some(5), [970, 2_000, 2_000]);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_the_gap_longer_by_as_much() {
        // An hour ahead until second 1000 of the true time; back, and connected again ten minutes later.
        check(1_000 + 3_600, 1_600, None, [1_600 - 3_000 - 30, 1_600, 4_600]);
        check(1_000 + 3_600, 1_600, Some(600), [970, 1_600, 5_200]);
        // Away for longer than it was set back by: the watermark is in the past again, and too late all the same.
        check(1_000 + 600, 2_000, Some(1_000), [970, 2_000, 2_600]);
    }

    #[test]
    fn a_state_that_began_in_the_gap_and_is_not_in_the_history_is_missing() {
        let gap = Gap::between(at(130), at(200), None);
        let [a, b, c, d] = ["x.a", "x.b", "x.c", "x.d"].map(|id| EntityId::parse(id).unwrap());
        let states = [(&a, at(130)), (&b, at(130)), (&c, at(50)), (&d, at(200))];
        let mut evidence = Evidence::of(gap, states.into_iter());
        evidence.saw(&a, at(120));
        evidence.saw(&a, at(130));
        evidence.saw(&b, at(120));
        assert_eq!(
            evidence.in_hand(gap),
            std::slice::from_ref(&d),
            "what is lacking for more than a minute does not come any more"
        );
        evidence.saw(&d, at(200));
        assert_eq!(evidence.missing().collect::<Vec<_>>(), [(&b, at(130))]);
        assert_eq!([&b, &c].map(|entity| evidence.first(entity)), [Some(at(120)), None]);
    }
}
