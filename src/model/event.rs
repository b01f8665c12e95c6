//! What a source reports: an entity changed, or it is gone.

use std::fmt;
use std::sync::Arc;

use super::entity::EntityId;
use super::fate::reasons;
use super::time::Timestamp;
use super::value::Attributes;

reasons! {
    /// Who reported an event: the label `source` of the metrics.
    Source {
        HomeAssistant = "home_assistant",
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Changed(StateChange),
    /// The entity was removed. Home Assistant gives no time for it.
    Removed(EntityId),
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
