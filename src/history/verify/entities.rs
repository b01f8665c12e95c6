//! The entities that are verified, and what their rows tell besides points. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use crate::history::recorder::missing_attributes::put_back;
use crate::history::recorder::rows::Row;
use crate::model::entity::EntityId;
use crate::model::event::StateChange;
use crate::model::time::Timestamp;
use crate::model::value::{Attributes, Value};
use crate::pipeline::treatment::Treatments;
use crate::rules::Rules;

/// One entity.
#[derive(Debug)]
pub struct Watched {
    pub id: EntityId,
    /// At most one point in this time, in nanoseconds: which one is not foreseen.
    pub slack_nanos: i64,
    /// No rule shifts, leaves out or repeats points.
    pub is_exact: bool,
    only_state_changes: bool,
    present: Option<StateChange>,
    /// Rows of the period.
    rows: u64,
    has_present_row: bool,
    last: Option<(Arc<str>, Arc<Attributes>)>,
}

pub struct Roster {
    pub entities: Vec<Watched>,
    places: HashMap<EntityId, usize>,
    /// Attributes that are tags for some entity.
    tags: Vec<String>,
    skip_restored: bool,
}

impl Roster {
    /// `present`: what each entity is now, if it is there.
    #[must_use]
    pub fn new(
        entities: Vec<(EntityId, Option<StateChange>)>,
        rules: &Rules,
        treatments: &Treatments,
        skip_restored: bool,
    ) -> Self {
        let mut tags = rules.schema.tags_attributes.clone();
        tags.extend(rules.rules.iter().filter_map(|rule| rule.actions.tags_attributes.as_ref()).flatten().cloned());
        let watch = |(id, present): (EntityId, Option<StateChange>)| {
            let class = present.as_ref().and_then(|present| match present.attributes.get("device_class") {
                Some(Value::Text(class)) => Some(class.to_string()),
                _ => None,
            });
            let treatment = treatments.preview(&id, class.as_deref());
            let slack = treatment.throttle.unwrap_or_default();
            Watched {
                id,
                slack_nanos: i64::try_from(slack.as_nanos()).unwrap_or(i64::MAX),
                is_exact: slack.is_zero() && treatment.heartbeat.is_none_or(|beat| beat.is_zero()),
                only_state_changes: treatment.only_state_changes,
                present,
                rows: 0,
                has_present_row: false,
                last: None,
            }
        };
        let entities: Vec<Watched> = entities.into_iter().map(watch).collect();
        let places = (0..).zip(&entities).map(|(place, watched)| (watched.id.clone(), place)).collect();
        Self { entities, places, tags, skip_restored }
    }

    /// Points of this name are of that entity too, unless there is one that is called so now.
    pub fn also_called(&mut self, place: usize, before: &EntityId) {
        self.places.entry(before.clone()).or_insert(place);
    }

    #[must_use]
    pub fn ids(&self) -> Vec<EntityId> {
        self.entities.iter().map(|watched| watched.id.clone()).collect()
    }

    #[must_use]
    pub fn place(&self, entity: &str) -> Option<usize> {
        self.places.get(entity).copied()
    }

    /// The states of this moment, where there are any.
    pub fn present(&self) -> impl Iterator<Item = StateChange> {
        self.entities.iter().filter_map(|watched| watched.present.clone())
    }

    /// What an entity was when the period began.
    pub fn learn_what_was_before(&mut self, entity: &EntityId, row: &Row) {
        if let Some(place) = self.place(entity.as_str()) {
            self.entities[place].last = Some((Arc::clone(&row.state), Arc::clone(&row.attributes)));
        }
    }

    /// A row as it would have come live, and whether it does no harm if there is no point of it.
    pub fn take(&mut self, place: usize, row: Row) -> (StateChange, bool) {
        let watched = &mut self.entities[place];
        watched.rows += 1;
        let present = watched.present.as_ref();
        watched.has_present_row |= present.is_some_and(|present| present.last_updated == row.last_updated);
        let is_same_state = row.last_changed != row.last_updated;
        let is_repeated = watched
            .last
            .as_ref()
            .is_some_and(|(state, attributes)| *state == row.state && *attributes == row.attributes);
        // Restored at a start of Home Assistant: nothing is new but the time.
        let looks_restored = self.skip_restored && !is_same_state && is_repeated;
        // What it was before the period is nothing that has a point here, but it was the same.
        let is_second = watched.only_state_changes && watched.rows == 1 && is_same_state;
        watched.last = Some((Arc::clone(&row.state), Arc::clone(&row.attributes)));
        let attributes = put_back(&row.attributes, present.map(|present| &*present.attributes), &self.tags);
        (Row { attributes, ..row }.into_change(&self.entities[place].id), looks_restored || is_second)
    }

    /// Why nothing is known about an entity. `from` and `until`: the period; `settled`: what is younger may not be
    /// X
    #[must_use]
    pub fn doubt(&self, place: usize, from: Timestamp, until: Timestamp, has_points: bool) -> Option<&'static str> {
        let watched = &self.entities[place];
        let changed = watched.present.as_ref().map(|present| present.last_updated);
        let lacks = changed.is_some_and(|at| (from..until).contains(&at)) && !watched.has_present_row;
        match (lacks, watched.rows) {
            (true, 0) => Some("Home Assistant does not record it"),
            (true, _) => Some("Home Assistant does not record all of it"),
            (false, 0) if has_points => Some("Home Assistant has no history of it in this time"),
            _ => None,
        }
    }

    /// Whether Home Assistant has the entity, or had it in the period.
    #[must_use]
    pub fn is_known(&self, place: usize) -> bool {
        self.entities[place].present.is_some() || self.has_rows(place)
    }

    #[must_use]
    pub fn has_rows(&self, place: usize) -> bool {
        self.entities[place].rows > 0
    }

    /// In nanoseconds.
    #[must_use]
    pub fn most_slack(&self) -> i64 {
        self.entities.iter().map(|watched| watched.slack_nanos).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Roster;
    use crate::history::recorder::rows::Row;
    use crate::model::entity::EntityId;
    use crate::model::event::StateChange;
    use crate::model::time::Timestamp;
    use crate::model::value::Attributes;
    use crate::pipeline::treatment::Treatments;
    use crate::rules::Rules;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn roster(present_at: Option<i64>) -> Roster {
        let entity = EntityId::parse("sensor.a").unwrap();
        let present = present_at.map(|second| StateChange {
            entity: entity.clone(),
            state: "1".into(),
            attributes: Arc::default(),
            last_updated: at(second),
            context: None,
        });
        let rules = Rules::default();
        Roster::new(vec![(entity, present)], &rules, &Treatments::new(&rules), true)
    }

    fn row(state: &str, updated: i64, changed: i64) -> Row {
        let attributes = Arc::new(Attributes::default());
        Row { state: state.into(), attributes, last_updated: at(updated), last_changed: at(changed) }
    }

    #[test]
    fn a_state_that_only_has_a_new_time_may_be_absent() {
        let mut roster = roster(None);
        let taken: Vec<bool> = [row("1", 1, 1), row("1", 2, 2), row("1", 3, 2), row("2", 4, 4)]
            .into_iter()
            .map(|row| roster.take(0, row).1)
            .collect();
        assert_eq!(taken, [false, true, false, false]);
    }

    #[test]
    fn what_was_before_the_period_is_not_new_in_it() {
        let mut roster = roster(None);
        let entity = EntityId::parse("sensor.a").unwrap();
        roster.learn_what_was_before(&entity, &row("1", 0, 0));
        assert!(roster.take(0, row("1", 2, 2)).1);
        assert!(!roster.take(0, row("2", 3, 3)).1);
    }

    #[test]
    fn what_is_not_recorded_is_found_by_the_present() {
        let doubt = |roster: &Roster, has_points| roster.doubt(0, at(10), at(20), has_points);
        assert_eq!(doubt(&roster(Some(15)), false), Some("Home Assistant does not record it"));
        assert_eq!(doubt(&roster(Some(5)), false), None);
        assert_eq!(doubt(&roster(Some(5)), true), Some("Home Assistant has no history of it in this time"));
        assert_eq!(doubt(&roster(Some(20)), false), None, "it is of a later time");
        assert!(!roster(None).is_known(0) && roster(Some(5)).is_known(0));
        let mut partly = roster(Some(15));
        partly.take(0, row("1", 12, 12));
        assert_eq!(doubt(&partly, false), Some("Home Assistant does not record all of it"));
        partly.take(0, row("1", 15, 15));
        assert_eq!(doubt(&partly, true), None);
    }
}
