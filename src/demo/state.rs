//! What Home Assistant holds of an entity, and what happens to it.

use std::sync::Arc;

use crate::model::time::Timestamp;
use crate::model::value::Attributes;

/// Who caused a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    pub id: String,
    pub user_id: Option<&'static str>,
}

/// The state of one entity. Times are seconds since 1970 in a double, as Home Assistant keeps them.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub state: Arc<str>,
    pub attributes: Attributes,
    pub last_changed: f64,
    pub last_updated: f64,
    pub context: Context,
}

/// An entity took another state or other attributes, came or went.
#[derive(Debug, Clone)]
pub struct Change {
    pub entity_id: Arc<str>,
    pub old: Option<Arc<State>>,
    /// `None`: the entity was removed.
    pub new: Option<Arc<State>>,
    pub at: f64,
    pub context: Context,
}

/// What the event bus carries.
#[derive(Debug, Clone)]
pub enum Happening {
    State(Change),
    /// Any other event.
    Other {
        event_type: String,
        /// A JSON object.
        data: String,
        at: f64,
        context: Context,
    },
}

/// One line of the books: what was changed, for tests to compare with what arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub entity_id: Arc<str>,
    /// Rounded as Python rounds it, so equal to what a correct reader computes.
    pub last_updated: Timestamp,
    /// `None`: the entity was removed.
    pub state: Option<Arc<str>>,
}

impl Change {
    #[must_use]
    pub fn entry(&self) -> Entry {
        Entry {
            entity_id: Arc::clone(&self.entity_id),
            last_updated: Timestamp::from_unix_seconds(self.at).expect("the simulated clock stays in this century"),
            state: self.new.as_ref().map(|new| Arc::clone(&new.state)),
        }
    }
}

impl Happening {
    #[must_use]
    pub fn event_type(&self) -> &str {
        match self {
            Self::State(_) => "state_changed",
            Self::Other { event_type, .. } => event_type,
        }
    }

    #[must_use]
    pub fn context(&self) -> &Context {
        match self {
            Self::State(change) => &change.context,
            Self::Other { context, .. } => context,
        }
    }
}
