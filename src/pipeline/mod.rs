//! What becomes of an event: the filter, what was seen before, the rules, the schema.
//!
//! `Pipeline` decides and is silent: it knows no task, no channel and no clock, and it makes points, not lines. Every
//! event that goes in comes out as exactly one [`Fate`], some of them later.

pub mod filter;
pub mod fired;
pub mod glob;
pub mod mqtt;
pub mod places;
pub mod python;
pub mod schema;
pub mod task;
pub mod twice;
pub mod words;

use std::collections::HashMap;
use std::sync::Arc;

use self::filter::Filter;
use self::schema::{Schema, Shape};
use crate::model::entity::EntityId;
use crate::model::event::{ContextId, Event, Source, StateChange};
use crate::model::fate::{Filtered, Refused};
use crate::model::point::Point;
use crate::model::registries::Registries;
use crate::model::time::Timestamp;
use crate::rules::Rules;

pub struct Pipeline {
    filter: Filter,
    schema: Schema,
    /// One entry per entity that exists: the source reports what was removed, also while nobody was listening.
    known: HashMap<EntityId, Known>,
}

/// The fate of one event.
#[derive(Debug)]
pub enum Fate<'a> {
    /// To be written. The point is sorted, and may have no field at all; `omitted` numbers were not finite. `rule` is the
    /// one that changed it last, or whose point it is.
    Point { point: &'a Point, omitted: u32, context: Option<ContextId>, rule: Option<Arc<str>> },
    /// Not meant to be written.
    Filtered(Filtered),
    /// Handled before: a new session begins with the states that the one before has already told, and the same change may
    /// come through two sources.
    Duplicate,
    /// Its turn comes later, out of [`Pipeline::next_due`], or a newer one takes its place.
    Waiting,
    /// It cannot become a point, in the words of the rule that wants one.
    Refused { reason: Refused, rule: Option<Arc<str>> },
}

/// What comes out of the pipeline because time passed.
#[derive(Debug)]
pub struct Due<'a> {
    /// Set if nobody handed it in: then it is counted as received, and from here.
    pub made_by: Option<Source>,
    /// Never [`Fate::Waiting`].
    pub fate: Fate<'a>,
}

/// Why a change is written as it is, in the words of the options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    pub filter: filter::Verdict,
    pub measurement_from: &'static str,
}

struct Known {
    /// The lists of the filter are searched once for each entity, not at every event.
    allowed: bool,
    newest: Option<Timestamp>,
    shape: Shape,
}

impl Pipeline {
    #[must_use]
    pub fn new(rules: &Arc<Rules>) -> Self {
        Self { filter: Filter::new(&rules.filter), schema: Schema::new(rules.schema.clone()), known: HashMap::new() }
    }

    /// Other rules apply from now on.
    pub fn follow(&mut self, rules: &Arc<Rules>) {
        *self = Self::new(rules);
    }

    /// Something else is known about the entities from `now` on.
    pub fn learn(&mut self, _registries: Arc<Registries>, _now: Timestamp) {}

    /// What came in and has no fate yet.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        0
    }

    /// When [`Self::next_due`] should be asked. `None`: not before something comes in.
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        None
    }

    /// The next thing whose time has come. At the stop `now` is the end of time: then everything that waits comes out.
    /// `home_is_live`: Home Assistant would tell if a value changed, so that one can be written again as it was.
    #[must_use]
    pub fn next_due(&mut self, _now: Timestamp, _home_is_live: bool) -> Option<Due<'_>> {
        None
    }

    /// The receipt of the oldest message that has no fate yet.
    #[must_use]
    pub fn unsettled_receipt(&self) -> Option<u64> {
        None
    }

    /// Decides the fate of one event. `now` is the time of the wall clock.
    #[must_use]
    pub fn handle(&mut self, event: &Event, _now: Timestamp) -> Fate<'_> {
        let change = match event {
            Event::Changed(change) => change,
            Event::Fired(_) => return Fate::Filtered(Filtered::NotAskedFor),
            Event::Message(_) => return Fate::Filtered(Filtered::NotMapped),
            Event::Removed(entity) => {
                self.known.remove(entity);
                return Fate::Filtered(Filtered::Removed);
            }
        };
        let known = self.known.entry(change.entity.clone()).or_insert_with_key(|entity| Known {
            allowed: self.filter.allows(entity),
            newest: None,
            shape: Shape::default(),
        });
        if !known.allowed {
            return Fate::Filtered(Filtered::NotIncluded);
        }
        // A change that is older than the newest is late, not repeated.
        if known.newest == Some(change.last_updated) {
            return Fate::Duplicate;
        }
        known.newest = known.newest.max(Some(change.last_updated));
        match self.schema.shape(change, &mut known.shape) {
            Ok(()) => Fate::Point {
                point: &known.shape.point,
                omitted: known.shape.omitted,
                context: change.context,
                rule: None,
            },
            Err(reason) => Fate::Filtered(reason),
        }
    }

    /// What decided about a change. It changes nothing.
    #[must_use]
    pub fn explain(&self, change: &StateChange) -> Explanation {
        Explanation { filter: self.filter.judge(&change.entity), measurement_from: self.schema.source(change).label() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Fate, Pipeline};
    use crate::model::entity::EntityId;
    use crate::model::event::{Event, StateChange};
    use crate::model::fate::Reason as _;
    use crate::model::time::Timestamp;
    use crate::model::value::Value;
    use crate::rules::Rules;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);

    fn pipeline() -> Pipeline {
        let mut rules = Rules::default();
        rules.filter.exclude.entity_globs.push("*.hidden*".into());
        Pipeline::new(&Arc::new(rules))
    }

    fn changed(entity: &str, state: &str, micros: i64) -> Event {
        Event::Changed(StateChange {
            entity: EntityId::parse(entity).unwrap(),
            state: state.into(),
            attributes: Arc::new([("a".into(), Value::Int(1))].into_iter().collect()),
            last_updated: Timestamp::from_micros(micros),
            context: None,
        })
    }

    fn removed(entity: &str) -> Event {
        Event::Removed(EntityId::parse(entity).unwrap())
    }

    /// Each event with its fate: `point`, `duplicate` or the label of a reason.
    fn check(events: &[(Event, &str)]) -> Pipeline {
        let mut pipeline = pipeline();
        for (event, expected) in events {
            let fate = match pipeline.handle(event, NOW) {
                Fate::Point { .. } => "point",
                Fate::Duplicate => "duplicate",
                Fate::Filtered(reason) => reason.label(),
                Fate::Waiting => "waiting",
                Fate::Refused { reason, .. } => reason.label(),
            };
            assert_eq!(fate, *expected, "{event:?}");
        }
        pipeline
    }

    #[test]
    fn a_repeated_state_is_a_duplicate_and_a_quick_or_late_change_is_not() {
        check(&[
            (changed("sensor.a", "1", 100), "point"),
            (changed("sensor.a", "1", 100), "duplicate"),
            (changed("sensor.b", "1", 100), "point"),
            (changed("sensor.a", "1", 101), "point"),
            (changed("sensor.a", "1", 99), "point"),
            (changed("sensor.a", "1", 101), "duplicate"),
        ]);
    }

    #[test]
    fn what_is_not_meant_to_be_written_has_a_reason() {
        check(&[
            (changed("sensor.hidden_a", "1", 1), "not_included"),
            (changed("sensor.hidden_a", "unknown", 2), "not_included"),
            (changed("sensor.a", "unavailable", 1), "unavailable"),
            (changed("sensor.a", "unknown", 2), "unknown"),
            (changed("sensor.a", "", 3), "empty"),
            (removed("sensor.a"), "removed"),
        ]);
    }

    #[test]
    fn nothing_is_kept_of_an_entity_that_was_removed() {
        let pipeline = check(&[
            (changed("sensor.a", "1", 1), "point"),
            (changed("sensor.hidden", "1", 1), "not_included"),
            (removed("sensor.a"), "removed"),
            (removed("sensor.hidden"), "removed"),
            (removed("sensor.never_seen"), "removed"),
        ]);
        assert!(pipeline.known.is_empty());
        check(&[
            (changed("sensor.a", "1", 1), "point"),
            (removed("sensor.a"), "removed"),
            (changed("sensor.a", "1", 1), "point"),
        ]);
    }

    #[test]
    fn a_point_is_sorted_and_carries_the_time_of_the_event() {
        let mut pipeline = pipeline();
        let event = changed("light.a", "on", 1_500);
        let Fate::Point { point, omitted: 0, .. } = pipeline.handle(&event, NOW) else {
            panic!("a light that is on is a point")
        };
        let keys: Vec<_> = point.tags().map(|(key, _)| key).chain(point.fields().map(|(key, _)| key)).collect();
        assert_eq!(keys, ["domain", "entity_id", "a", "state", "value"]);
        assert_eq!(point.time(), Timestamp::from_micros(1_500));
    }

    #[test]
    fn an_explanation_names_the_rule_and_the_source() {
        let pipeline = pipeline();
        for (entity, allowed, because) in
            [("sensor.a", true, "in no exclude list"), ("sensor.hidden", false, "matches exclude.entity_globs")]
        {
            let Event::Changed(change) = changed(entity, "1", 1) else { panic!("`changed` makes a change") };
            let told = pipeline.explain(&change);
            assert_eq!((told.filter.allowed, told.filter.because), (allowed, because));
            assert_eq!(told.measurement_from, "entity_id");
        }
    }
}
