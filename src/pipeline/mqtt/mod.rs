//! What a message of the MQTT broker means: the first topic of `rules.yaml` that matches it says so.
//!
//! It may be a point of its own, a change of a state that Home Assistant publishes, or a part of one. Pure: the time is an
//! argument.

use std::sync::Arc;

use crate::model::event::{Message, StateChange};
use crate::model::fate::{Filtered, Refused};
use crate::model::point::Point;
use crate::model::time::Timestamp;
use crate::rules::Rules;

/// Knows the topics, and what waits for its other half.
#[derive(Default)]
pub struct Messages {}

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
    pub fn new(_rules: &Rules) -> Self {
        Self {}
    }

    /// Whether changes of states may come out.
    #[must_use]
    pub fn have_states(&self) -> bool {
        false
    }

    /// `tags` are those that every point gets; `now` is the time of the wall clock.
    pub fn read(
        &mut self,
        _message: &Message,
        _tags: &[(String, String)],
        _point: &mut Point,
        _now: Timestamp,
    ) -> Reading {
        Reading::Filtered(Filtered::NotMapped)
    }

    /// The oldest change that nothing more is expected of. At the end of time that is any.
    pub fn next_settled(&mut self, _now: Timestamp) -> Option<Settled> {
        None
    }

    /// How many changes wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        0
    }

    /// When the next of them has settled, if nothing more comes.
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        None
    }

    /// The receipt of the oldest message of them.
    #[must_use]
    pub fn oldest_receipt(&self) -> Option<u64> {
        None
    }
}
