//! What a message of the MQTT broker means: the first topic of `rules.yaml` that matches it says so.
//!
//! It may be a point of its own (`mapping`), a change of a state that Home Assistant publishes (`eventstream`,
//! `statestream`), or a part of one. Changes wait (`waiting`) until they are complete and the WebSocket, which is quicker,
//! has told of them. Pure: the time is an argument.
//!
//! Every message has exactly one [`Reading`]. Before what it means is asked, in this order: `ignored_topic`, `not_mapped`,
//! `retained`, `payload_too_large`, `empty` (that is how a message that the broker kept is deleted), `not_text`.

mod eventstream;
mod json;
mod mapping;
mod statestream;
mod waiting;

use std::collections::HashMap;
use std::sync::Arc;

use self::statestream::StateStream;
use self::waiting::{Room, Waiting};
use crate::model::event::{Message, StateChange};
use crate::model::fate::{Filtered, Refused};
use crate::model::point::Point;
use crate::model::time::Timestamp;
use crate::model::topic::TopicFilter;
use crate::rules::{Meaning, Rules, Topic};

/// A longer payload is not looked at.
const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// Topics whose meaning is kept, and how long such a topic is. When there are more, all are asked again.
const MAX_DECIDED: usize = 16_384;
const MAX_DECIDED_BYTES: usize = 512;

/// Knows the topics, and what waits for its other half.
#[derive(Default)]
pub struct Messages {
    topics: Vec<Topic>,
    ignored_topics: Vec<TopicFilter>,
    /// The filters are searched once for each topic, not at every message.
    decided: HashMap<Arc<str>, Decision>,
    stream: StateStream,
    room: Room,
}

/// What is done with the messages of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Ignored,
    NotMapped,
    /// A place in the list of topics.
    Mapped(usize),
}

/// What a message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// The point given was made to tell of it, and is sorted. `omitted` numbers were not finite.
    Point {
        omitted: u32,
        rule: Arc<str>,
    },
    /// A change of a state, or the beginning of one. It comes out of [`Messages::next_settled`].
    Waiting,
    Filtered(Filtered),
    Refused {
        reason: Refused,
        rule: Arc<str>,
    },
}

/// A change of a state, with all that was told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    pub change: StateChange,
    /// Whether its time is Home Assistant's own. If not, it is that of the message's arrival.
    pub is_exact: bool,
}

impl Messages {
    #[must_use]
    pub fn new(rules: &Rules) -> Self {
        Self { topics: rules.topics.clone(), ignored_topics: rules.ignored_topics.clone(), ..Self::default() }
    }

    /// Other topics apply to what comes. What waits goes on waiting for its other half.
    pub fn follow(&mut self, rules: &Rules) {
        self.topics.clone_from(&rules.topics);
        self.ignored_topics.clone_from(&rules.ignored_topics);
        self.decided.clear();
        if !self.have_states() {
            self.stream.forget();
        }
    }

    /// Whether changes of states may come out.
    #[must_use]
    pub fn have_states(&self) -> bool {
        self.topics.iter().any(|topic| matches!(topic.meaning, Meaning::StateStream | Meaning::EventStream))
    }

    /// `tags` are those that every point gets; `now` is the time of the wall clock.
    pub fn read(&mut self, message: &Message, tags: &[(String, String)], point: &mut Point, now: Timestamp) -> Reading {
        let topic = match self.decide(&message.topic) {
            Decision::Ignored => return Reading::Filtered(Filtered::IgnoredTopic),
            Decision::NotMapped => return Reading::Filtered(Filtered::NotMapped),
            Decision::Mapped(place) => &self.topics[place],
        };
        let rule = &topic.name;
        if message.retained && !topic.retained {
            return Reading::Filtered(Filtered::Retained);
        }
        if message.payload.len() > MAX_PAYLOAD_BYTES {
            return Reading::Refused { reason: Refused::PayloadTooLarge, rule: rule.clone() };
        }
        if message.payload.is_empty() {
            return Reading::Filtered(Filtered::Empty);
        }
        let Ok(text) = std::str::from_utf8(&message.payload) else {
            return Reading::Refused { reason: Refused::NotText, rule: rule.clone() };
        };
        let outcome = match &topic.meaning {
            Meaning::Point(mapping) => match mapping::fill(mapping, message, text, tags, point) {
                Ok(omitted) => return Reading::Point { omitted, rule: rule.clone() },
                Err(no_point) => Err(no_point),
            },
            Meaning::StateStream => self.stream.read(topic, message, text, &mut self.room, now),
            Meaning::EventStream => eventstream::read(message, text).map(|settled| {
                let (receipt, bytes) = (message.receipt, message.payload.len());
                self.room.enter(Waiting { settled, receipt, bytes, place: None }, now);
            }),
        };
        match outcome {
            Ok(()) => Reading::Waiting,
            Err(no_point) => no_point.reading(rule),
        }
    }

    /// The oldest change that nothing more is expected of. At the end of time that is any.
    pub fn next_settled(&mut self, now: Timestamp) -> Option<Settled> {
        let (number, Waiting { mut settled, place, .. }) = self.room.leave(now)?;
        if let Some(place) = place {
            self.stream.settle(&place, number, &mut settled);
        }
        Some(settled)
    }

    /// How many changes wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.room.len() as u64
    }

    /// When the next of them has settled, if nothing more comes. In the past if more wait than should.
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        self.room.due_at()
    }

    /// The receipt of the oldest message of them.
    #[must_use]
    pub fn oldest_receipt(&self) -> Option<u64> {
        self.room.oldest_receipt()
    }

    fn decide(&mut self, topic: &Arc<str>) -> Decision {
        if let Some(decision) = self.decided.get(topic) {
            return *decision;
        }
        let decision = if self.ignored_topics.iter().any(|filter| filter.matches(topic)) {
            Decision::Ignored
        } else {
            let place = self.topics.iter().position(|known| known.filter.matches(topic));
            place.map_or(Decision::NotMapped, Decision::Mapped)
        };
        if topic.len() <= MAX_DECIDED_BYTES {
            if self.decided.len() == MAX_DECIDED {
                self.decided.clear();
            }
            self.decided.insert(topic.clone(), decision);
        }
        decision
    }
}

#[cfg(test)]
mod tests;
