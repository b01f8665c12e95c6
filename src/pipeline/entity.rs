//! What becomes of the changes of one entity: whether they are wanted, whether they were seen before, their pace and shape.

use std::collections::HashMap;
use std::sync::Arc;

use super::Explanation;
use super::pace::{Agenda, Beat, Held, Pace};
use super::places::Places;
use super::schema::{Schema, Shape};
use super::state::{NoPoint, no_value};
use super::transform::Unit;
use super::treatment::{Treatment, Treatments};
use super::twice::Told;
use crate::model::entity::EntityId;
use crate::model::event::{Source, StateChange};
use crate::model::fate::{Filtered, Refused};
use crate::model::registries::Registries;
use crate::model::time::Timestamp;
use crate::model::value::{Attributes, Value};
use crate::rules::Rules;

/// What is remembered of an entity.
#[derive(Default)]
pub(super) struct Known {
    /// Of the [`Desk`] when the treatment was found. Zero: never.
    generation: u64,
    /// The lists and rules are searched once for each entity, not at every change. `None`: the filter leaves it out.
    treatment: Option<Arc<Treatment>>,
    /// With which the treatment was found, if that matters.
    device_class: Option<Box<str>>,
    /// Of the changes that Home Assistant's own connection told.
    newest: Option<Timestamp>,
    /// Of the points that were made, whoever told of them.
    newest_point: Option<Timestamp>,
    pub(super) shape: Shape,
    /// Only while there is a second source.
    told: Option<Box<Told>>,
    /// Only if a rule asks for it.
    pace: Option<Box<Pace>>,
}

/// The fate of a change. The point is the one in [`Known::shape`].
#[derive(Debug)]
pub(super) enum Outcome {
    Point,
    Filtered(Filtered),
    Duplicate,
    Waiting,
    Refused { reason: Refused, rule: Arc<str> },
}

/// Who told of a change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Teller {
    pub(super) source: Source,
    /// Whether the time of the change is Home Assistant's own.
    pub(super) is_exact: bool,
    /// Whether another source may tell of it as well.
    pub(super) has_company: bool,
}

/// What is the same for all entities.
pub(super) struct Desk {
    treatments: Treatments,
    schema: Schema,
    places: Places,
    agenda: Agenda,
    generation: u64,
    /// Changes that wait for their turn.
    held: u64,
}

impl Desk {
    pub(super) fn new(rules: &Rules) -> Self {
        Self {
            treatments: Treatments::new(rules),
            schema: Schema::new(&rules.schema),
            places: Places::new(&rules.schema.registry_tags),
            agenda: Agenda::default(),
            generation: 1,
            held: 0,
        }
    }

    /// Returns whether other places are known of entities.
    pub(super) fn follow(&mut self, rules: &Rules, now: Timestamp, known: &HashMap<EntityId, Known>) -> bool {
        let registries = Arc::clone(self.treatments.registries());
        self.places.follow(&rules.schema.registry_tags);
        let moved = self.places.learn(&registries, now, |entity| known.get(entity)?.newest_point);
        self.treatments = Treatments::new(rules);
        // The generation is new in any case.
        let _ = self.treatments.learn(registries);
        self.schema = Schema::new(&rules.schema);
        self.generation += 1;
        moved
    }

    /// Returns whether other places are known of entities.
    pub(super) fn learn(
        &mut self,
        registries: Arc<Registries>,
        now: Timestamp,
        known: &HashMap<EntityId, Known>,
    ) -> bool {
        let moved = self.places.learn(&registries, now, |entity| known.get(entity)?.newest_point);
        if self.treatments.learn(registries) {
            self.generation += 1;
        }
        moved
    }

    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// Takes what an earlier run knew in the place of nothing.
    pub(super) fn recall(&mut self, mut places: Places, rules: &Rules) {
        places.follow(&rules.schema.registry_tags);
        self.places = places;
    }

    /// The tags that every point gets.
    pub(super) fn tags(&self) -> &[(String, String)] {
        self.schema.tags()
    }

    pub(super) fn held(&self) -> u64 {
        self.held
    }

    pub(super) fn due_at(&self) -> Option<Timestamp> {
        self.agenda.first_at()
    }

    /// The entity whose turn has come.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<EntityId> {
        self.agenda.take(now).map(|(_, entity)| entity)
    }

    /// Decides the fate of a change that was handed in.
    pub(super) fn decide(
        &mut self,
        known: &mut Known,
        change: &StateChange,
        teller: Teller,
        now: Timestamp,
    ) -> Outcome {
        self.find_treatment(known, change);
        let Some(treatment) = &known.treatment else { return Outcome::Filtered(Filtered::NotIncluded) };
        if treatment.drops {
            return Outcome::Filtered(Filtered::DroppedByRule);
        }
        if teller.source == Source::HomeAssistant {
            // A change that is older than the newest is late, not repeated.
            if known.newest == Some(change.last_updated) {
                self.arm(known, change, now);
                return Outcome::Duplicate;
            }
            known.newest = known.newest.max(Some(change.last_updated));
        }
        if teller.has_company
            && known.told.get_or_insert_default().has_been_told(change, teller.source, teller.is_exact)
        {
            return Outcome::Duplicate;
        }
        if treatment.has_pace() {
            // A broker keeps messages for those who are away. Home Assistant's own connection tells of the present.
            let is_present = teller.source == Source::HomeAssistant
                || known.newest.is_none_or(|newest| newest <= change.last_updated);
            return self.decide_in_pace(known, change, is_present, now);
        }
        self.shape(known, change)
    }

    fn decide_in_pace(&mut self, known: &mut Known, change: &StateChange, is_present: bool, now: Timestamp) -> Outcome {
        let Some(treatment) = known.treatment.clone() else { return Outcome::Filtered(Filtered::NotIncluded) };
        let pace = known.pace.get_or_insert_default();
        if is_present
            && treatment.only_state_changes
            && pace.has_seen(&change.state)
            && no_value(&change.state).is_none()
        {
            return Outcome::Filtered(Filtered::SameState);
        }
        let outcome = self.shape(known, change);
        let is_point = matches!(outcome, Outcome::Point);
        let pace = known.pace.get_or_insert_default();
        if is_present {
            pace.see(change, is_point);
        }
        if !is_point {
            return outcome;
        }
        if let Some(throttle) = treatment.throttle
            && !pace.lets_pass(change.last_updated, throttle)
        {
            return match pace.hold(change, throttle, now, &mut self.agenda) {
                Held::Waits => {
                    self.held += 1;
                    Outcome::Waiting
                }
                Held::Replaces => Outcome::Filtered(Filtered::Throttled),
            };
        }
        if let Some(heartbeat) = treatment.heartbeat.filter(|_| is_present) {
            pace.wrote(change, heartbeat, now, &mut self.agenda);
        }
        outcome
    }

    /// What is to be done with an entity whose turn has come: `None` if it is nothing. `made_by` is set if nobody handed the
    /// change in.
    pub(super) fn decide_due(
        &mut self,
        known: &mut Known,
        now: Timestamp,
        home_is_live: bool,
    ) -> Option<(StateChange, Option<Source>, Outcome)> {
        let pace = known.pace.as_mut()?;
        if let Some(held) = pace.release() {
            self.held -= 1;
            let outcome = self.decide_held(known, &held);
            if matches!(outcome, Outcome::Point)
                && let (Some(treatment), Some(pace)) = (&known.treatment, &mut known.pace)
                && let Some(heartbeat) = treatment.heartbeat
                && pace.is_last(&held)
            {
                pace.wrote(&held, heartbeat, now, &mut self.agenda);
            }
            return Some((held, None, outcome));
        }
        pace.forget_entry();
        let repeated = pace.repeated()?.clone();
        self.find_treatment(known, &repeated);
        let pace = known.pace.as_mut()?;
        let Some(heartbeat) = known.treatment.as_ref().filter(|found| !found.drops).and_then(|found| found.heartbeat)
        else {
            pace.rest();
            return None;
        };
        let Beat::Due(change) = pace.beat(heartbeat, now, home_is_live, &mut self.agenda) else { return None };
        match self.shape(known, &change) {
            Outcome::Point => Some((change, Some(Source::Heartbeat), Outcome::Point)),
            // The rules have changed since, and do not let it through any more.
            _ => {
                known.pace.as_mut()?.rest();
                None
            }
        }
    }

    /// The fate of a change that waited for its turn: the rules may have changed since it came.
    pub(super) fn decide_held(&mut self, known: &mut Known, change: &StateChange) -> Outcome {
        self.find_treatment(known, change);
        match &known.treatment {
            None => Outcome::Filtered(Filtered::NotIncluded),
            Some(treatment) if treatment.drops => Outcome::Filtered(Filtered::DroppedByRule),
            Some(_) => self.shape(known, change),
        }
    }

    /// The entity was removed. What waits is given back, and counts as waiting until it has a fate.
    pub(super) fn end(&mut self, known: &mut Known) -> Option<StateChange> {
        let held = known.pace.as_mut()?.end(&mut self.agenda);
        self.held -= u64::from(held.is_some());
        held
    }

    /// Other rules apply to an entity: a heartbeat may come earlier than it would have.
    pub(super) fn look_again(&mut self, entity: &EntityId, known: &mut Known) {
        if let Some(pace) = &mut known.pace {
            pace.look_again(entity, &mut self.agenda);
        }
    }

    pub(super) fn wants(&self, entity: &EntityId) -> bool {
        self.treatments.judge(entity).allowed
    }

    /// What decided about a change. It changes nothing.
    pub(super) fn explain(&self, change: &StateChange) -> Explanation {
        let treatment = self.treatments.preview(&change.entity, class_of(&change.attributes));
        let unit = treatment.field("value").map(|field| (field, field.unit(&change.attributes)));
        Explanation {
            filter: self.treatments.judge(&change.entity),
            measurement_from: self.schema.source(change, &treatment).label(),
            unit: unit.and_then(|(field, unit)| foreign_unit(&unit, field.actions.unit.as_deref(), &field.rule)),
            decisions: treatment.decisions,
        }
    }

    /// What is written in rules and comes to nothing, for people. Each entity's unit is asked once.
    pub(super) fn in_vain<'a>(&self, known: impl Iterator<Item = &'a Known>) -> Vec<String> {
        let mut told: Vec<String> = self.treatments.unmet().collect();
        for known in known {
            let field = known.treatment.as_ref().and_then(|treatment| treatment.field("value"));
            let Some(field) = field else { continue };
            let words = foreign_unit(known.shape.unit(), field.actions.unit.as_deref(), &field.rule);
            if let Some(words) = words.filter(|words| !told.contains(words)) {
                told.push(words);
            }
        }
        told
    }

    /// A heartbeat begins with a state that was told before, if the rule is newer than it.
    fn arm(&mut self, known: &mut Known, change: &StateChange, now: Timestamp) {
        let Some(heartbeat) = known.treatment.as_ref().and_then(|treatment| treatment.heartbeat) else { return };
        let pace = known.pace.get_or_insert_default();
        if !pace.beats() && !pace.holds() && no_value(&change.state).is_none() {
            pace.wrote(change, heartbeat, now, &mut self.agenda);
        }
    }

    fn find_treatment(&mut self, known: &mut Known, change: &StateChange) {
        let is_current = known.generation == self.generation;
        if is_current && !self.treatments.depends_on_class() {
            return;
        }
        let class = class_of(&change.attributes);
        if is_current
            && (!known.shape.has_other_attributes(&change.attributes) || known.device_class.as_deref() == class)
        {
            return;
        }
        known.generation = self.generation;
        known.device_class = class.filter(|_| self.treatments.depends_on_class()).map(Box::from);
        let found = self.treatments.find(&change.entity, class);
        let beats = found.as_ref().is_some_and(|found| !found.drops && found.heartbeat.is_some());
        if let Some(pace) = known.pace.as_mut().filter(|_| !beats) {
            // What is written meanwhile is not noted, and would not be what a later heartbeat brings back.
            pace.rest();
        }
        known.shape.forget();
        known.treatment = found;
    }

    /// Makes the point of an entity that is wanted.
    fn shape(&mut self, known: &mut Known, change: &StateChange) -> Outcome {
        let Some(treatment) = &known.treatment else { return Outcome::Filtered(Filtered::NotIncluded) };
        let place = if self.schema.wants_places() { self.places.of(&change.entity, change.last_updated) } else { None };
        match self.schema.shape(change, treatment, place, &mut known.shape) {
            Ok(()) => {
                known.newest_point = known.newest_point.max(Some(change.last_updated));
                Outcome::Point
            }
            Err(NoPoint::Filtered(reason)) => Outcome::Filtered(reason),
            Err(NoPoint::Refused { reason, rule }) => Outcome::Refused { reason, rule },
        }
    }
}

impl Known {
    /// Whether nothing would be missed if it were forgotten: Home Assistant's own connection does not tell of it, and
    /// nothing waits.
    pub(super) fn is_dispensable(&self) -> bool {
        self.newest.is_none() && !self.pace.as_ref().is_some_and(|pace| pace.holds())
    }

    /// The rule that has the last word on this entity.
    pub(super) fn rule(&self) -> Option<Arc<str>> {
        self.treatment.as_ref()?.rule.clone()
    }
}

fn class_of(attributes: &Attributes) -> Option<&str> {
    match attributes.get("device_class") {
        Some(Value::Text(class)) => Some(class),
        _ => None,
    }
}

fn foreign_unit(unit: &Unit, wanted: Option<&str>, rule: &str) -> Option<String> {
    let (Unit::Foreign(own), Some(wanted)) = (unit, wanted) else { return None };
    Some(format!("{rule}: `{own}` cannot be converted to `{wanted}`, such values are written as they are"))
}
