//! An event that cannot be written, told to whoever keeps such events.

use std::sync::Arc;

use super::event::ContextId;
use super::fate::Refused;
use super::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedEvent {
    /// When it happened.
    pub time: Timestamp,
    pub context: Option<ContextId>,
    /// The rule that wanted a point of it.
    pub rule: Option<Arc<str>>,
    pub reason: Refused,
    /// The entity id or the topic, a space, and the event as short text.
    pub what: String,
}
