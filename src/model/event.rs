//! What a source reports: an entity changed or is gone, something happened in the home, a message came.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::entity::EntityId;
use super::fate::reasons;
use super::registries::Registries;
use super::time::Timestamp;
use super::value::Attributes;

reasons! {
    /// Who reported an event: the label `source` of the metrics.
    Source {
        HomeAssistant = "home_assistant",
        Mqtt = "mqtt",
        /// Nobody: a value that stayed as it was is written again, because a rule asks for it.
        Heartbeat = "heartbeat",
        /// Home Assistant's recorder: what was missed.
        History = "history",
    }
}

/// What a source hands to the pipeline at once. The order in which it hands things over is that in which they count.
#[derive(Debug)]
pub enum Arrival {
    /// Each of them is counted as received, and has one fate.
    Events(Vec<Event>),
    /// This is now known about the entities. It is no event.
    Registries(Arc<Registries>),
    /// A session with Home Assistant begins to tell what happens, its first states next. Between the last one and this
    /// there is a gap. Sessions are numbered from 1 in a run of the program. It is no event.
    Live { session: u64 },
}

/// What Home Assistant's recorder tells of a gap, for the pipeline.
#[derive(Debug)]
pub enum Past {
    /// Rows of one entity, oldest first, with what the recorder leaves out put back as far as it matters. Each is counted
    /// as received, and has one fate.
    Rows(Vec<StateChange>),
    /// Of the gap everything before this time was told, and the recorder has no more to come for it.
    Reached(Timestamp),
    /// The gap is closed: everything from `from` until the states that `session` began with was told, or cannot be had, and
    /// then that was reported. `done` is called once all of it is in the spool, and so in the books of every target.
    Closed { session: u64, from: Timestamp, until: Timestamp, done: Acknowledgement },
}

/// What is to be done once the pipeline has handled something, and all that came before it.
pub struct Acknowledgement(Box<dyn FnOnce() + Send>);

impl Acknowledgement {
    pub fn new(act: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(act))
    }

    pub fn give(self) {
        (self.0)();
    }
}

impl fmt::Debug for Acknowledgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acknowledgement")
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Changed(StateChange),
    /// Home Assistant began anew, and the entity is as it was before, with a new time.
    Restored(StateChange),
    /// The entity was removed. Home Assistant gives no time for it.
    Removed(EntityId),
    /// An event of Home Assistant's bus that is no change of a state.
    Fired(Fired),
    /// A message of the MQTT broker. What it means is the pipeline's to say.
    Message(Message),
}

/// A state that an entity took, or attributes that changed under it. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct StateChange {
    pub entity: EntityId,
    pub state: Arc<str>,
    pub attributes: Arc<Attributes>,
    /// Home Assistant's `last_updated`, which is also the `time_fired` of the event.
    pub last_updated: Timestamp,
    /// Home Assistant's `context.id`: what caused the change.
    pub context: Option<ContextId>,
}

/// An event of Home Assistant's bus, such as `automation_triggered`.
#[derive(Debug, Clone, PartialEq)]
pub struct Fired {
    pub event_type: Arc<str>,
    /// The event's `data`, in its order.
    pub data: Attributes,
    pub time_fired: Timestamp,
    pub context: Option<ContextId>,
    /// What caused the cause.
    pub parent: Option<ContextId>,
    /// The `user_id`: 32 hexadecimal digits.
    pub user: Option<Arc<str>>,
}

/// A message of the MQTT broker, as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub topic: Arc<str>,
    pub payload: Bytes,
    /// It came because we subscribed, not because something happened.
    pub retained: bool,
    pub arrived: Timestamp,
    /// Its number in this run of the program, from 1. The broker is told that a message is safe in the order of these.
    pub receipt: u64,
}

impl Message {
    /// No longer payload is looked at. Of one that is, the source may leave out what follows the first byte too many.
    pub const MOST_PAYLOAD_BYTES: usize = 1 << 20;
}

/// A ULID: 26 ASCII characters, kept in place so that an event carries it without an allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContextId([u8; 26]);

impl ContextId {
    /// `None` for anything but 26 printable ASCII characters: Home Assistant makes no other ids.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 26] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_alphanumeric).then_some(Self(bytes))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only ASCII letters and digits pass `parse`")
    }
}

impl fmt::Display for ContextId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ContextId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
