//! What every entity's state is now: Home Assistant sends differences, events carry the whole.
//!
//! Pure: no socket, no time. The states outlive a connection; the snapshot that begins the next one replaces them, and
//! tells which entities went away meanwhile.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::model::entity::EntityId;
use crate::model::event::{Event, StateChange};
use crate::model::fate::Unreadable;
use crate::model::time::Timestamp;
use crate::model::value::{Attributes, Value};

use super::protocol::{Added, Change, Entities, Pairs};

#[derive(Default)]
pub struct States {
    entities: HashMap<EntityId, StateChange>,
    /// Something of these was lost. A difference to what is held of them would be a state that never was.
    stale: HashSet<EntityId>,
    names: Names,
    /// Entities that were not known before, until somebody asks for them.
    appeared: Vec<(EntityId, Timestamp)>,
    /// Home Assistant began anew before the last snapshot: when, and what was held then of entities that it has not told of
    /// since.
    restart: Option<Restart>,
}

struct Restart {
    /// `None`: it answered before its entities were there.
    began: Option<Timestamp>,
    before: HashMap<EntityId, StateChange>,
}

/// What came of the messages of one frame.
#[derive(Debug, Default, PartialEq)]
pub struct Applied {
    pub events: Vec<Event>,
    pub unreadable: Vec<Unreadable>,
}

impl States {
    #[must_use]
    pub fn len(&self) -> usize {
        self.entities.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entities.is_empty()
    }

    /// Takes the states of all entities. Those that are not among them are removed, unless the snapshot is not `whole`:
    /// then a missing one may be a lost one, and is stale.
    pub fn take_snapshot(&mut self, snapshot: Entities<'_>, whole: bool, applied: &mut Applied) {
        self.look_for_a_restart(&snapshot);
        let present: HashSet<&str> = snapshot.added.iter().flatten().map(|(id, _)| &**id).collect();
        if whole {
            self.stale.clear();
            self.entities.retain(|id, _| {
                let stays = present.contains(id.as_str());
                if !stays {
                    applied.events.push(Event::Removed(id.clone()));
                }
                stays
            });
        } else {
            self.stale.extend(self.entities.keys().filter(|id| !present.contains(id.as_str())).cloned());
        }
        self.apply(snapshot, applied);
    }

    /// Home Assistant holds no state that is older than itself. One that starts may have none at all.
    fn look_for_a_restart(&mut self, snapshot: &Entities<'_>) {
        let began = snapshot.added.iter().flatten().map(|(_, added)| added.last_updated).min();
        let Some(newest) = self.newest() else { return };
        if began.is_none_or(|began| began > newest) {
            self.restart = Some(Restart { began, before: self.entities.clone() });
        }
    }

    /// When Home Assistant began anew, if it did since the session before and its first states tell.
    #[must_use]
    pub fn home_began(&self) -> Option<Timestamp> {
        self.restart.as_ref().and_then(|restart| restart.began)
    }

    /// Whether it began anew and told of no entity yet when it was asked first.
    #[must_use]
    pub fn is_restarting(&self) -> bool {
        self.restart.as_ref().is_some_and(|restart| restart.began.is_none())
    }

    /// The latest time of any state.
    #[must_use]
    pub fn newest(&self) -> Option<Timestamp> {
        self.entities.values().map(|state| state.last_updated).max()
    }

    /// Entities that were told of for the first time since this was asked last, with the times of their states.
    pub fn take_appeared(&mut self) -> Vec<(EntityId, Timestamp)> {
        std::mem::take(&mut self.appeared)
    }

    /// Takes the content of one event, in the order in which it happened.
    pub fn apply(&mut self, entities: Entities<'_>, applied: &mut Applied) {
        for (id, added) in entities.added.into_iter().flatten() {
            match self.add(&id, added, &mut applied.unreadable) {
                Some(event) => applied.events.push(event),
                None => applied.unreadable.push(Unreadable::Entity),
            }
        }
        for (id, change) in entities.changed {
            match self.change(&id, change, &mut applied.unreadable) {
                Some(event) => applied.events.push(event),
                None => applied.unreadable.push(Unreadable::UnknownEntity),
            }
        }
        for id in entities.removed {
            self.stale.remove(&*id);
            match self.entities.remove_entry(&*id) {
                Some((entity, _)) => applied.events.push(Event::Removed(entity)),
                None => applied.unreadable.push(Unreadable::UnknownEntity),
            }
        }
        for id in entities.unread {
            if let Some((entity, _)) = self.entities.get_key_value(&*id) {
                self.stale.insert(entity.clone());
            }
        }
    }

    /// `None` if the id is not one.
    fn add(&mut self, id: &str, added: Added<'_>, unreadable: &mut Vec<Unreadable>) -> Option<Event> {
        let entity = match self.entities.get_key_value(id) {
            Some((known, _)) => known.clone(),
            None => {
                let entity = EntityId::parse(id).ok()?;
                self.appeared.push((entity.clone(), added.last_updated));
                entity
            }
        };
        let mut attributes = Attributes::with_capacity(added.attributes.len().min(MAX_ATTRIBUTES));
        set_all(&mut attributes, added.attributes, &mut self.names, unreadable);
        let state = StateChange {
            entity: entity.clone(),
            state: added.state.into(),
            attributes: attributes.into(),
            last_updated: added.last_updated,
            context: added.context,
        };
        self.stale.remove(&entity);
        let before = self.restart.as_mut().and_then(|restart| restart.before.remove(&entity));
        self.entities.insert(entity, state.clone());
        let is_as_before =
            before.is_some_and(|before| before.state == state.state && before.attributes == state.attributes);
        Some(if is_as_before { Event::Restored(state) } else { Event::Changed(state) })
    }

    /// `None` if there is nothing to change, or nothing that can be relied on.
    fn change(&mut self, id: &str, change: Change<'_>, unreadable: &mut Vec<Unreadable>) -> Option<Event> {
        if self.stale.contains(id) {
            return None;
        }
        let held = self.entities.get_mut(id)?;
        if let Some(state) = change.state {
            held.state = state.into();
        }
        if !change.set.is_empty() || !change.unset.is_empty() {
            // Copies only while an earlier event of this entity is still on its way.
            let attributes = Arc::make_mut(&mut held.attributes);
            for name in &change.unset {
                attributes.remove(name);
            }
            set_all(attributes, change.set, &mut self.names, unreadable);
        }
        if let Some(restart) = &mut self.restart {
            restart.before.remove(id);
        }
        held.last_updated = change.last_updated.unwrap_or(held.last_updated);
        held.context = change.context.or(held.context);
        Some(Event::Changed(held.clone()))
    }
}

/// Attributes are searched one by one, so an absurd number of them would stall the session. Home Assistant's own
/// entities have some ten to fifty.
const MAX_ATTRIBUTES: usize = 10_000;

fn set_all(attributes: &mut Attributes, pairs: Pairs<'_, Value>, names: &mut Names, unreadable: &mut Vec<Unreadable>) {
    for (name, value) in pairs {
        // Most often the name is there, and need not be looked up among all names.
        if let Some(old) = attributes.get_mut(&name) {
            *old = value;
        } else if attributes.len() < MAX_ATTRIBUTES {
            attributes.set(names.shared(name), value);
        } else {
            unreadable.push(Unreadable::Attribute);
        }
    }
}

/// Attribute names, each kept once: a home has thousands of entities and some hundred names.
#[derive(Default)]
struct Names(HashSet<Arc<str>>);

impl Names {
    /// Bounded, because an integration may make names out of data.
    const MAX: usize = 4_096;
    const MAX_BYTES: usize = 128;

    fn shared(&mut self, name: Cow<'_, str>) -> Arc<str> {
        if let Some(known) = self.0.get(&*name) {
            return Arc::clone(known);
        }
        let shared: Arc<str> = name.into();
        if self.0.len() < Self::MAX && shared.len() <= Self::MAX_BYTES {
            self.0.insert(Arc::clone(&shared));
        }
        shared
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Applied, MAX_ATTRIBUTES, Names, States};
    use crate::ingest::hass::protocol::{Message, decode};
    use crate::model::event::{Event, StateChange};
    use crate::model::fate::Unreadable;
    use crate::model::time::Timestamp;
    use crate::model::value::Value;

    const KITCHEN: &str = include_str!("../../../tests/fixtures/hass/added.json");

    /// Applies the events of frames; the first one is a snapshot if `snapshot`.
    fn apply(states: &mut States, snapshot: bool, frames: &[&str]) -> Applied {
        let mut applied = Applied::default();
        let mut snapshot = snapshot;
        for frame in frames {
            for message in decode(frame).messages {
                let Message::Event { entities, .. } = message else { continue };
                if std::mem::take(&mut snapshot) {
                    states.take_snapshot(entities, true, &mut applied);
                } else {
                    states.apply(entities, &mut applied);
                }
            }
        }
        applied
    }

    fn changes(applied: &Applied) -> Vec<&StateChange> {
        applied
            .events
            .iter()
            .filter_map(|event| if let Event::Changed(change) = event { Some(change) } else { None })
            .collect()
    }

    fn event(content: &str) -> String {
        format!(r#"{{"type":"event","event":{content},"id":2}}"#)
    }

    #[test]
    fn recorded_changes_give_whole_states() {
        let mut states = States::default();
        let applied = apply(
            &mut states,
            false,
            &[
                KITCHEN,
                include_str!("../../../tests/fixtures/hass/changed_state.json"),
                include_str!("../../../tests/fixtures/hass/changed_attributes.json"),
                include_str!("../../../tests/fixtures/hass/changed_removed_attributes.json"),
            ],
        );
        let changes = changes(&applied);
        let seen: Vec<_> = changes.iter().map(|change| (&*change.state, change.attributes.get("n").cloned())).collect();
        let n = |number| Some(Value::Int(number));
        assert_eq!(seen, [("21.5", n(7)), ("22.0", n(7)), ("22.0", n(8)), ("23", n(9))]);
        assert!(changes.iter().all(|change| change.context.is_some() && change.entity.as_str() == "fix.kitchen"));
        assert!(changes.is_sorted_by(|a, b| a.last_updated < b.last_updated));
        assert!(changes.windows(2).all(|pair| pair[0].context != pair[1].context), "each write has its own");
        let names: Vec<_> = changes[3].attributes.iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            [
                "unit_of_measurement",
                "friendly_name",
                "n",
                "x",
                "big",
                "neg",
                "list",
                "mixed",
                "map",
                "yes",
                "emoji",
                "new"
            ]
        );
        let first = &changes[0].attributes;
        assert_eq!(first.get("friendly_name"), Some(&Value::Text("Kitchen \"north\"".into())));
        assert_eq!(first.get("x"), Some(&Value::Float(28.0)));
        assert_eq!(first.get("big"), Some(&Value::UInt(u64::MAX)));
        assert_eq!(first.get("neg"), Some(&Value::Int(-3)));
        let map =
            [("z".into(), Value::Int(1)), ("a".into(), Value::Map([("k".into(), Value::Text("v".into()))].into()))];
        assert_eq!(first.get("map"), Some(&Value::Map(map.into())));
    }

    #[test]
    fn the_time_of_a_change_is_lu_or_else_lc_or_else_as_before() {
        let mut states = States::default();
        apply(&mut states, false, &[&event(r#"{"a":{"a.b":{"s":"1","a":{},"c":"x","lc":1.0,"lu":2.5}}}"#)]);
        for (content, micros) in [("", 2_500_000), (r#","lu":3.0"#, 3_000_000), (r#","lc":4.0"#, 4_000_000)] {
            let diff = event(&format!(r#"{{"c":{{"a.b":{{"+":{{"s":"2"{content}}}}}}}}}"#));
            let applied = apply(&mut states, false, &[&diff]);
            assert_eq!(changes(&applied)[0].last_updated, Timestamp::from_micros(micros), "{content}");
        }
    }

    #[test]
    fn an_event_on_its_way_does_not_change_with_the_state() {
        let mut states = States::default();
        let first = apply(&mut states, false, &[KITCHEN]);
        apply(&mut states, false, &[include_str!("../../../tests/fixtures/hass/changed_attributes.json")]);
        assert_eq!(changes(&first)[0].attributes.get("n"), Some(&Value::Int(7)));
    }

    #[test]
    fn a_snapshot_replaces_all_and_tells_who_is_gone() {
        let mut states = States::default();
        let two = event(r#"{"a":{"a.b":{"s":"1","lc":1.0},"a.c":{"s":"1","lc":1.0}}}"#);
        let one = event(r#"{"a":{"a.c":{"s":"2","lc":2.0}}}"#);
        apply(&mut states, true, &[&two]);
        let applied = apply(&mut states, true, &[&one]);
        assert!(matches!(&applied.events[0], Event::Removed(id) if id.as_str() == "a.b"));
        assert_eq!((changes(&applied).len(), states.len()), (1, 1));
        let empty = include_str!("../../../tests/fixtures/hass/snapshot_empty.json");
        apply(&mut states, true, &[empty]);
        assert!(states.is_empty());
    }

    #[test]
    fn a_snapshot_that_lost_a_piece_removes_nobody() {
        let mut states = States::default();
        apply(&mut states, true, &[&event(r#"{"a":{"a.b":{"s":"1","lc":1.0}}}"#)]);
        let text = event(r#"{"a":{"a.b":{"s":"1"}}}"#);
        let Message::Event { entities, .. } = decode(&text).messages.remove(0) else { panic!("an event") };
        let mut applied = Applied::default();
        states.take_snapshot(entities, false, &mut applied);
        assert_eq!((applied, states.len()), (Applied::default(), 1));
    }

    #[test]
    fn of_an_entity_that_lost_a_piece_nothing_is_made_up() {
        let whole = event(r#"{"a":{"a.b":{"s":"49","a":{"k":1},"lc":1.0}}}"#);
        let lost = event(r#"{"c":{"a.b":{"+":{"s":99,"lc":2.0}}}}"#);
        let later = event(r#"{"c":{"a.b":{"+":{"a":{"k":2},"lu":3.0}}}}"#);
        let mut states = States::default();
        let applied = apply(&mut states, true, &[&whole, &lost, &later]);
        let seen: Vec<_> = changes(&applied).iter().map(|change| change.last_updated.as_micros()).collect();
        assert_eq!((seen, &applied.unreadable[..]), (vec![1_000_000], &[Unreadable::UnknownEntity][..]));
        let applied = apply(&mut states, true, &[&whole, &later]);
        assert_eq!((changes(&applied).len(), applied.unreadable.len()), (2, 0), "the next snapshot tells");
        let removed = event(r#"{"r":["a.b"]}"#);
        assert_eq!(apply(&mut states, false, &[&lost, &removed]).events.len(), 1);
        assert!(states.stale.is_empty());
    }

    #[test]
    fn what_a_broken_snapshot_does_not_tell_is_not_relied_on() {
        let mut states = States::default();
        apply(&mut states, true, &[&event(r#"{"a":{"a.b":{"s":"1","lc":1.0}}}"#)]);
        let text = event(r#"{"a":{"a.c":{"s":"1","lc":1.0}}}"#);
        let Message::Event { entities, .. } = decode(&text).messages.remove(0) else { panic!("an event") };
        let mut applied = Applied::default();
        states.take_snapshot(entities, false, &mut applied);
        assert_eq!((applied.events.len(), states.len()), (1, 2));
        let change = |id| event(&format!(r#"{{"c":{{"{id}":{{"+":{{"lu":2.0}}}}}}}}"#));
        assert_eq!(apply(&mut states, false, &[&change("a.b")]).unreadable, [Unreadable::UnknownEntity]);
        assert_eq!(apply(&mut states, false, &[&change("a.c")]).events.len(), 1);
    }

    #[test]
    fn a_removal_is_an_event_and_what_was_never_announced_is_counted() {
        let mut states = States::default();
        let removed = include_str!("../../../tests/fixtures/hass/removed.json");
        let changed = include_str!("../../../tests/fixtures/hass/changed_state.json");
        let applied = apply(&mut states, false, &[changed, removed, KITCHEN, removed, changed]);
        assert!(matches!(&applied.events[..], [Event::Changed(_), Event::Removed(id)] if id.as_str() == "fix.kitchen"));
        assert_eq!(applied.unreadable, [Unreadable::UnknownEntity; 3]);
    }

    #[test]
    fn an_id_without_a_dot_is_counted_and_one_with_strange_characters_is_kept() {
        let mut states = States::default();
        let text = event(r#"{"a":{"nodot":{"s":"1","lc":1.0},"Sensor.Ä \n":{"s":"1","lc":1.0}}}"#);
        let applied = apply(&mut states, false, &[&text]);
        assert_eq!(changes(&applied)[0].entity.as_str(), "Sensor.Ä \n");
        assert_eq!(applied.unreadable, [Unreadable::Entity]);
    }

    #[test]
    fn names_are_shared_up_to_a_bound() {
        let mut names = Names::default();
        assert!(Arc::ptr_eq(&names.shared("a".into()), &names.shared("a".into())));
        for number in 0..2 * Names::MAX {
            names.shared(number.to_string().into());
        }
        names.shared("x".repeat(Names::MAX_BYTES + 1).into());
        assert_eq!(names.0.len(), Names::MAX);
    }

    #[test]
    fn an_absurd_number_of_attributes_is_cut() {
        let pairs: Vec<_> = (0..=MAX_ATTRIBUTES).map(|number| format!(r#""{number}":1"#)).collect();
        let text = event(&format!(r#"{{"a":{{"a.b":{{"s":"1","a":{{{}}},"lc":1.0}}}}}}"#, pairs.join(",")));
        let applied = apply(&mut States::default(), false, &[&text]);
        assert_eq!(changes(&applied)[0].attributes.len(), MAX_ATTRIBUTES);
        assert_eq!(applied.unreadable, [Unreadable::Attribute]);
    }
}
