//! What becomes of an event: the filter, what was seen before, the rules, the schema.
//!
//! `Pipeline` decides and is silent: it knows no task, no channel and no clock, and it makes points, not lines. Every
//! event that goes in comes out as exactly one [`Fate`], some of them later.

mod entity;
pub mod filter;
pub mod fired;
pub mod frontier;
pub mod glob;
pub mod mqtt;
pub mod pace;
pub mod past;
pub mod places;
pub mod python;
pub mod schema;
pub mod selection;
pub mod state;
pub mod task;
pub mod transform;
pub mod treatment;
pub mod twice;
pub mod words;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::entity::{Desk, Known, Outcome, Teller};
use self::mqtt::{Messages, Reading, Settled};
use self::places::Places;
use self::treatment::Decision;
use crate::model::entity::EntityId;
use crate::model::event::{ContextId, Event, Fired, Message, Source, StateChange};
use crate::model::fate::{Filtered, Refused};
use crate::model::point::Point;
use crate::model::registries::Registries;
use crate::model::time::Timestamp;
use crate::rules::Rules;

pub struct Pipeline {
    rules: Arc<Rules>,
    desk: Desk,
    messages: Messages,
    /// One entry per entity that exists: the source reports what was removed, also while nobody was listening.
    known: HashMap<EntityId, Known>,
    /// Changes that waited when their entity was removed. Their turn is now.
    released: VecDeque<StateChange>,
    /// When so many entities are known those are looked for that can be forgotten.
    forget_at: usize,
    last_receipt: u64,
    /// Of the last message or event of the bus.
    point: Point,
    /// The last change that came out because time passed.
    due: Option<StateChange>,
    /// Of an entity that was removed while one of its changes waited.
    gone: Known,
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
    pub change: &'a StateChange,
}

/// Why a change is written as it is, in the words of the options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub filter: filter::Verdict,
    pub measurement_from: &'static str,
    /// Which rules say something about the entity.
    pub decisions: Vec<Decision>,
    /// Why its unit is not the one that a rule wants, if it is not.
    pub unit: Option<String>,
}

impl Pipeline {
    #[must_use]
    pub fn new(rules: &Arc<Rules>) -> Self {
        Self {
            rules: Arc::clone(rules),
            desk: Desk::new(rules),
            messages: Messages::new(rules),
            known: HashMap::new(),
            released: VecDeque::new(),
            forget_at: MOST_KNOWN,
            last_receipt: 0,
            point: Point::default(),
            due: None,
            gone: Known::default(),
        }
    }

    /// Takes the places that an earlier run knew.
    #[must_use]
    pub fn with_places(mut self, places: Places) -> Self {
        self.desk.recall(places, &self.rules);
        self
    }

    #[must_use]
    pub fn places(&self) -> &Places {
        self.desk.places()
    }

    /// Other rules apply from `now` on, also to what waits. Returns whether [`Self::places`] are others.
    pub fn follow(&mut self, rules: &Arc<Rules>, now: Timestamp) -> bool {
        self.messages.follow(rules);
        let moved = self.desk.follow(rules, now, &self.known);
        for (entity, known) in &mut self.known {
            self.desk.look_again(entity, known);
        }
        self.rules = Arc::clone(rules);
        moved
    }

    /// Something else is known about the entities from `now` on. Returns whether [`Self::places`] are others.
    pub fn learn(&mut self, registries: Arc<Registries>, now: Timestamp) -> bool {
        self.desk.learn(registries, now, &self.known)
    }

    #[must_use]
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// For how long a change of Home Assistant's own may wait for its turn, as things are.
    #[must_use]
    pub fn longest_wait(&self) -> Duration {
        if self.desk.held() == 0 && self.released.is_empty() {
            return Duration::ZERO;
        }
        self.rules.rules.iter().filter_map(|rule| rule.actions.throttle).max().unwrap_or_default()
    }

    /// What came in and has no fate yet.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.messages.waiting() + self.desk.held() + self.released.len() as u64
    }

    /// When [`Self::next_due`] should be asked. `None`: not before something comes in.
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        if !self.released.is_empty() {
            return Some(Timestamp::from_micros(i64::MIN));
        }
        [self.messages.due_at(), self.desk.due_at()].into_iter().flatten().min()
    }

    /// The receipt up to which every message has a fate. Zero: none has come.
    #[must_use]
    pub fn settled_receipt(&self) -> u64 {
        self.unsettled_receipt().map_or(self.last_receipt, |unsettled| unsettled - 1)
    }

    /// The receipt of the oldest message that has no fate yet. A value that a rule holds back has one.
    #[must_use]
    pub fn unsettled_receipt(&self) -> Option<u64> {
        self.messages.oldest_receipt()
    }

    /// Decides the fate of one event. `now` is the time of the wall clock.
    #[must_use]
    pub fn handle(&mut self, event: &Event, now: Timestamp) -> Fate<'_> {
        match event {
            Event::Restored(_) if self.rules.skip_restored => Fate::Filtered(Filtered::Restored),
            Event::Changed(change) | Event::Restored(change) => {
                let known = self.known.entry(change.entity.clone()).or_default();
                let has_company = self.messages.have_states();
                let teller = Teller { source: Source::HomeAssistant, is_exact: true, has_company };
                self.desk.decide(known, change, teller, now).lend(known, change)
            }
            Event::Fired(fired) => self.handle_fired(fired),
            Event::Message(message) => self.handle_message(message, now),
            Event::Removed(entity) => {
                let held = self.known.remove(entity).and_then(|mut known| self.desk.end(&mut known));
                self.released.extend(held);
                Fate::Filtered(Filtered::Removed)
            }
        }
    }

    fn handle_fired(&mut self, fired: &Fired) -> Fate<'_> {
        if !self.rules.events.iter().any(|wanted| *wanted == *fired.event_type) {
            return Fate::Filtered(Filtered::NotAskedFor);
        }
        let omitted = fired::shape(fired, self.desk.tags(), &mut self.point);
        Fate::Point { point: &self.point, omitted, context: fired.context, rule: None }
    }

    fn handle_message(&mut self, message: &Message, now: Timestamp) -> Fate<'_> {
        self.last_receipt = message.receipt;
        match self.messages.read(message, self.desk.tags(), &mut self.point, now) {
            Reading::Point { omitted, rule } => {
                Fate::Point { point: &self.point, omitted, context: None, rule: Some(rule) }
            }
            Reading::Waiting => Fate::Waiting,
            Reading::Filtered(reason) => Fate::Filtered(reason),
            Reading::Refused { reason, rule } => Fate::Refused { reason, rule: Some(rule) },
        }
    }

    /// The next thing whose time has come. At the stop `now` is the end of time: then everything that waits comes out.
    /// `home_is_live`: Home Assistant would tell if a value changed, so that one can be written again as it was.
    #[must_use]
    pub fn next_due(&mut self, now: Timestamp, home_is_live: bool) -> Option<Due<'_>> {
        let (change, made_by, outcome) = self.decide_due(now, home_is_live)?;
        let change = &*self.due.insert(change);
        let known = self.known.get(&change.entity).unwrap_or(&self.gone);
        Some(Due { made_by, fate: outcome.lend(known, change), change })
    }

    fn decide_due(&mut self, now: Timestamp, home_is_live: bool) -> Option<(StateChange, Option<Source>, Outcome)> {
        loop {
            if let Some(change) = self.released.pop_front() {
                return Some(self.decide_gone(change));
            }
            if let Some(Settled { change, is_exact }) = self.messages.next_settled(now) {
                if self.known.len() >= self.forget_at {
                    self.forget();
                }
                let known = self.known.entry(change.entity.clone()).or_default();
                let teller = Teller { source: Source::Mqtt, is_exact, has_company: true };
                match self.desk.decide(known, &change, teller, now) {
                    // From one wait to the next.
                    Outcome::Waiting => continue,
                    outcome => return Some((change, None, outcome)),
                }
            }
            let entity = self.desk.take_due(now)?;
            let known = self.known.get_mut(&entity).expect("what the agenda has of an entity goes with it");
            if let Some(due) = self.desk.decide_due(known, now, home_is_live) {
                return Some(due);
            }
        }
    }

    /// Makes room among the entities. Of what is forgotten a change may be told a second time, to the same point.
    fn forget(&mut self) {
        let desk = &mut self.desk;
        self.known.retain(|_, known| {
            let stays = !known.is_dispensable();
            if !stays {
                let held = desk.end(known);
                debug_assert!(held.is_none(), "what holds something is not dispensable");
            }
            stays
        });
        // Nobody looks for what is not there at every message.
        self.forget_at = MOST_KNOWN.max(self.known.len() * 2);
    }

    /// A change that waited when its entity was removed.
    fn decide_gone(&mut self, change: StateChange) -> (StateChange, Option<Source>, Outcome) {
        // The entity may be back, and then its point is its own.
        let known = match self.known.get_mut(&change.entity) {
            Some(known) => known,
            None => {
                self.gone = Known::default();
                &mut self.gone
            }
        };
        let outcome = self.desk.decide_held(known, &change);
        (change, None, outcome)
    }

    /// Whether the filter lets this entity pass.
    #[must_use]
    pub fn wants(&self, entity: &EntityId) -> bool {
        self.desk.wants(entity)
    }

    /// What decided about a change. It changes nothing.
    #[must_use]
    pub fn explain(&self, change: &StateChange) -> Explanation {
        self.desk.explain(change)
    }

    /// What rules say in vain, for people: words that match none of the entities known so far, units that do not fit.
    #[must_use]
    pub fn unmatched(&self) -> Vec<String> {
        self.desk.in_vain(self.known.values())
    }
}

/// Entities that only messages tell of are forgotten when there are more: nobody says when one of them is gone.
const MOST_KNOWN: usize = 65_536;

/// After everything that can happen.
pub const END_OF_TIME: Timestamp = Timestamp::from_micros(i64::MAX);

impl Outcome {
    /// With the point, if it is one.
    fn lend<'a>(self, known: &'a Known, change: &StateChange) -> Fate<'a> {
        match self {
            Self::Point => Fate::Point {
                point: &known.shape.point,
                omitted: known.shape.omitted,
                context: change.context,
                rule: known.rule(),
            },
            Self::Filtered(reason) => Fate::Filtered(reason),
            Self::Duplicate => Fate::Duplicate,
            Self::Waiting => Fate::Waiting,
            Self::Refused { reason, rule } => Fate::Refused { reason, rule: Some(rule) },
        }
    }
}

#[cfg(test)]
mod story;

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
