//! What Home Assistant's `mqtt_statestream` publishes: one change of a state in several messages.
//!
//! Below the base topic, for each change of an entity and in this order: `<domain>/<object_id>/state` with the state as
//! it is; if `publish_timestamps` is set `last_updated` and `last_changed`; if `publish_attributes` is set each attribute
//! under its name, as JSON. Home Assistant waits for the broker after each of them, so the messages of two quick changes
//! of an entity lie between each other: `state`, `state`, `last_updated`, `last_updated`. Therefore each part belongs to
//! the oldest change of the entity that still lacks it, unless that one is complete: messages that lie between each other
//! take turns, so a change is complete when the next one has had two messages since.
//!
//! - A change has the time of its `last_updated`, else that of the arrival of its `state`.
//! - A change has the attributes that came with it. If none came (they are not published, or the connection broke) it has
//!   those that were last told of the entity. `unit_of_measurement` and `device_class`, which name the measurement, stay
//!   until others come: a message that is late must not move a series.
//! - A part that comes when no change of the entity waits is kept for its next change if it is an attribute, and has no
//!   use if it is a time.
//!
//! An attribute that is named `state` cannot be told from a state, and is taken for one. Pure.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Settled;
use super::mapping::NoPoint;
use super::waiting::{Number, Room, Waiting};
use crate::model::entity::EntityId;
use crate::model::event::{Message, StateChange};
use crate::model::fate::{Filtered, Refused};
use crate::model::json::Json;
use crate::model::time::Timestamp;
use crate::model::value::Attributes;
use crate::rules::Topic;

/// Attributes that a series is named by.
const NAMING: [&str; 2] = ["unit_of_measurement", "device_class"];

/// Home Assistant's own database keeps at most 16 KiB of all attributes of a state.
const MAX_ATTRIBUTE_BYTES: usize = 64 * 1024;
const MAX_ATTRIBUTES: usize = 256;

/// Of how many entities attributes are kept, and how much. Beyond that all of them that have no change under way are
/// forgotten; they come again with the next changes.
const MAX_ENTITIES: usize = 16_384;
const MAX_KEPT_BYTES: usize = 16 << 20;

/// What is known of the entities, each by the topic above its messages: two Home Assistants may know the same entity.
#[derive(Default)]
pub(super) struct StateStream {
    entities: HashMap<Box<str>, Entity>,
    kept_bytes: usize,
}

#[derive(Default)]
struct Entity {
    under_way: VecDeque<UnderWay>,
    /// As they were last told.
    attributes: Arc<Attributes>,
    /// How much was received for them.
    bytes: usize,
}

/// A change that parts are still expected of.
struct UnderWay {
    number: Number,
    has_last_changed: bool,
    attributes: Attributes,
    bytes: usize,
    /// Messages of the next change since the last one of this.
    overtaken: u8,
}

/// Two messages of one change in a row: the one before it sends no more.
const OVERTAKEN: u8 = 2;

/// One message of the stream.
enum Part<'a> {
    State,
    LastUpdated(Timestamp),
    LastChanged,
    Attribute(&'a str),
}

impl<'a> Part<'a> {
    /// An attribute may have the name of a time; it is a text in quotes then, if it is a time at all.
    fn of(name: &'a str, text: &str) -> Self {
        match name {
            "state" => Self::State,
            "last_updated" => Timestamp::from_rfc3339(text).map_or(Self::Attribute(name), Self::LastUpdated),
            "last_changed" if Timestamp::from_rfc3339(text).is_some() => Self::LastChanged,
            _ => Self::Attribute(name),
        }
    }
}

impl StateStream {
    /// Reads one message. `Ok(())`: a change began, and waits in the room.
    pub(super) fn read(
        &mut self,
        topic: &Topic,
        message: &Message,
        text: &str,
        room: &mut Room,
        now: Timestamp,
    ) -> Result<(), NoPoint> {
        let base_levels = topic.filter.as_str().split('/').filter(|level| *level != "#").count();
        let Some((place, entity, what)) = split(&message.topic, base_levels) else {
            return Err(NoPoint::Filtered(Filtered::NotMapped));
        };
        let part = Part::of(what, text);
        if self.entities.len() >= MAX_ENTITIES || self.kept_bytes > MAX_KEPT_BYTES {
            self.forget();
        }
        match part {
            Part::State => {
                let change = StateChange {
                    entity,
                    state: text.into(),
                    attributes: Arc::default(),
                    last_updated: message.arrived,
                    context: None,
                };
                let waiting = Waiting {
                    settled: Settled { change, is_exact: false },
                    receipt: message.receipt,
                    bytes: text.len(),
                    place: Some(place.into()),
                };
                let number = room.enter(waiting, now);
                let entity = self.entities.entry(place.into()).or_default();
                let attributes = Attributes::with_capacity(entity.attributes.len());
                entity.under_way.push_back(UnderWay {
                    number,
                    has_last_changed: false,
                    attributes,
                    bytes: 0,
                    overtaken: 0,
                });
                entity.take_turn(entity.under_way.len() - 1);
                return Ok(());
            }
            Part::LastUpdated(time) => {
                if let Some(entity) = self.entities.get_mut(place) {
                    entity.set_time(time, room, now);
                }
            }
            Part::LastChanged => {
                if let Some(entity) = self.entities.get_mut(place)
                    && let Some(at) = entity.first_lacking(|change| change.has_last_changed)
                {
                    entity.under_way[at].has_last_changed = true;
                    entity.complete(at, 0, room, now);
                }
            }
            Part::Attribute(name) => self.set_attribute(place, name, text, room, now)?,
        }
        Err(NoPoint::Filtered(Filtered::PartOfState))
    }

    /// A change has left the room: completes it with what is known of the entity.
    pub(super) fn settle(&mut self, place: &str, number: Number, settled: &mut Settled) {
        let Some(entity) = self.entities.get_mut(place) else { return };
        let Some(at) = entity.under_way.iter().position(|change| change.number == number) else { return };
        let Some(change) = entity.under_way.remove(at) else { return };
        if !change.attributes.is_empty() {
            let mut attributes = change.attributes;
            for name in NAMING {
                if let (None, Some(value)) = (attributes.get(name), entity.attributes.get(name)) {
                    attributes.set(name.into(), value.clone());
                }
            }
            // The same place in memory tells that nothing changed.
            if attributes != *entity.attributes {
                entity.attributes = Arc::new(attributes);
            }
            self.kept_bytes = self.kept_bytes + change.bytes - entity.bytes;
            entity.bytes = change.bytes;
        }
        settled.change.attributes = entity.attributes.clone();
    }

    fn set_attribute(
        &mut self,
        place: &str,
        name: &str,
        text: &str,
        room: &mut Room,
        now: Timestamp,
    ) -> Result<(), Refused> {
        if text.len() > MAX_ATTRIBUTE_BYTES {
            return Err(Refused::PayloadTooLarge);
        }
        let Json(value) = serde_json::from_str(text).map_err(|_| Refused::NotJson)?;
        let entity = match self.entities.get_mut(place) {
            Some(entity) => entity,
            None => self.entities.entry(place.into()).or_default(),
        };
        let bytes = name.len() + text.len();
        let lacking = entity.first_lacking(|change| change.attributes.get(name).is_some());
        let newest = entity.under_way.len().checked_sub(1);
        let Some(at) = lacking.or(newest) else {
            if entity.attributes.get(name).is_none() && entity.attributes.len() == MAX_ATTRIBUTES {
                return Err(Refused::PayloadTooLarge);
            }
            Arc::make_mut(&mut entity.attributes).set(name.into(), value);
            entity.bytes += bytes;
            self.kept_bytes += bytes;
            return Ok(());
        };
        let change = &mut entity.under_way[at];
        if lacking.is_some() && change.attributes.len() == MAX_ATTRIBUTES {
            return Err(Refused::PayloadTooLarge);
        }
        change.attributes.set(name.into(), value);
        change.bytes += bytes;
        // What only repeats itself must not keep a change waiting for ever.
        if lacking.is_some() {
            entity.complete(at, bytes, room, now);
        }
        Ok(())
    }

    /// All entities that have no change under way.
    pub(super) fn forget(&mut self) {
        self.entities.retain(|_, entity| !entity.under_way.is_empty());
        self.kept_bytes = self.entities.values().map(|entity| entity.bytes).sum();
    }
}

impl Entity {
    /// The oldest change that is not complete and lacks something.
    fn first_lacking(&self, has: impl Fn(&UnderWay) -> bool) -> Option<usize> {
        let open = self.first_open();
        self.under_way.iter().skip(open).position(|change| !has(change)).map(|at| open + at)
    }

    /// The oldest change that is not complete.
    fn first_open(&self) -> usize {
        self.under_way.iter().rposition(|change| change.overtaken >= OVERTAKEN).map_or(0, |at| at + 1)
    }

    /// Gives a time to the oldest change without one.
    ///
    /// If every change has one, the first time belonged to a change whose state was published before anybody listened:
    /// then each has that of the next.
    fn set_time(&mut self, time: Timestamp, room: &mut Room, now: Timestamp) {
        let open = self.first_open();
        let mut times = Vec::with_capacity(self.under_way.len() + 1);
        for at in open..self.under_way.len() {
            let Some(waiting) = room.get_mut(self.under_way[at].number) else { continue };
            if !waiting.settled.is_exact {
                waiting.settled.is_exact = true;
                waiting.settled.change.last_updated = time;
                return self.complete(at, 0, room, now);
            }
            times.push(waiting.settled.change.last_updated);
        }
        // The broker delivers again what we did not confirm.
        if times.contains(&time) {
            return;
        }
        times.push(time);
        for (change, time) in self.under_way.iter().skip(open).zip(times.into_iter().skip(1)) {
            if let Some(waiting) = room.get_mut(change.number) {
                waiting.settled.change.last_updated = time;
            }
        }
    }

    /// A part came for a change. It waits on, and with it those after it, so that an entity's changes leave in their order.
    fn complete(&mut self, part_of: usize, bytes: usize, room: &mut Room, now: Timestamp) {
        self.take_turn(part_of);
        for (at, change) in self.under_way.iter().enumerate().skip(part_of) {
            room.prolong(change.number, if at == part_of { bytes } else { 0 }, now);
        }
    }

    fn take_turn(&mut self, at: usize) {
        self.under_way[at].overtaken = 0;
        if let Some(before) = at.checked_sub(1) {
            let overtaken = &mut self.under_way[before].overtaken;
            *overtaken = overtaken.saturating_add(1);
        }
    }
}

/// The topic above an entity's messages, the entity, and what the message tells of it. `None` for a topic that is no
/// entity's.
fn split(topic: &str, base_levels: usize) -> Option<(&str, EntityId, &str)> {
    let mut levels = topic.splitn(base_levels + 3, '/').skip(base_levels);
    let (domain, object_id, what) = (levels.next()?, levels.next()?, levels.next()?);
    if domain.contains('.') || object_id.is_empty() || what.is_empty() {
        return None;
    }
    let entity = EntityId::parse(&format!("{domain}.{object_id}")).ok()?;
    let place = &topic[..topic.len() - what.len() - 1];
    Some((place, entity, what))
}

#[cfg(test)]
mod tests;
