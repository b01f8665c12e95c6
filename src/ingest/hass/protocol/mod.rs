//! What Home Assistant says and what it is told: frames of its WebSocket API as values, and back.
//!
//! Pure text work. It does not know what a message means for the session, nor which entities exist.
//!
//! A frame is one JSON message or an array of them. It is read in one pass (`wire`) that takes all or nothing. Only
//! if that fails is the frame taken apart (`salvage`), so that the smallest unreadable piece is lost and counted.
//! Text is borrowed from the frame wherever it holds no escapes.

mod command;
mod fired;
mod rows;
mod salvage;
mod state_object;
mod wire;

use std::borrow::Cow;

use serde::Deserialize;

use crate::model::event::ContextId;
use crate::model::fate::Unreadable;
use crate::model::time::Timestamp;
use crate::model::value::Value;

pub use command::{Command, encode};
pub use fired::read_fired;
pub use rows::Registry;
pub(super) use rows::{Row, read_rows};
pub use state_object::{InvalidState, parse_state};

/// What one frame holds.
#[derive(Debug, Default, PartialEq)]
pub struct Frame<'a> {
    pub messages: Vec<Message<'a>>,
    /// One entry for each piece that could not be read.
    pub unreadable: Vec<Unreadable>,
}

#[derive(Debug, PartialEq)]
pub enum Message<'a> {
    AuthRequired {
        ha_version: Cow<'a, str>,
    },
    AuthOk {
        ha_version: Cow<'a, str>,
    },
    AuthInvalid {
        message: Cow<'a, str>,
    },
    /// What a command that succeeded gave is JSON, not yet read.
    Result {
        id: u64,
        outcome: Result<Option<&'a str>, Failure<'a>>,
    },
    Pong {
        id: u64,
    },
    Event {
        id: u64,
        entities: Entities<'a>,
    },
    Fired {
        id: u64,
        fired: Fired<'a>,
    },
    /// A type that we never asked for.
    Unknown,
}

/// Why Home Assistant did not do what it was told.
#[derive(Debug, Default, PartialEq)]
pub struct Failure<'a> {
    pub code: Cow<'a, str>,
    pub message: Cow<'a, str>,
}

/// The content of an event of `subscribe_entities`.
#[derive(Debug, Default, PartialEq)]
pub struct Entities<'a> {
    /// States as a whole. `None` if the event does not speak of any; the snapshot of an empty home is `Some`.
    pub added: Option<Pairs<'a, Added<'a>>>,
    pub changed: Pairs<'a, Change<'a>>,
    pub removed: Vec<Cow<'a, str>>,
    /// Of these something was said that could not be read.
    pub unread: Vec<Cow<'a, str>>,
}

/// An event of `subscribe_events`: its parts are read only if somebody wants to know, see [`read_fired`].
#[derive(Debug, PartialEq)]
pub struct Fired<'a> {
    pub event_type: Cow<'a, str>,
    /// JSON.
    pub data: Option<&'a str>,
    pub time_fired: Option<Cow<'a, str>>,
    /// JSON.
    pub context: Option<&'a str>,
}

/// A JSON object in its order, repeated keys included.
pub type Pairs<'a, V> = Vec<(Cow<'a, str>, V)>;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(from = "wire::AddedBody<'de>", bound = "'de: 'a")]
pub struct Added<'a> {
    pub state: Cow<'a, str>,
    pub attributes: Pairs<'a, Value>,
    pub last_updated: Timestamp,
    pub context: Option<ContextId>,
}

/// The difference to the state before. `None` is "as before".
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(from = "wire::ChangeBody<'de>", bound = "'de: 'a")]
pub struct Change<'a> {
    pub state: Option<Cow<'a, str>>,
    pub set: Pairs<'a, Value>,
    pub unset: Vec<Cow<'a, str>>,
    pub last_updated: Option<Timestamp>,
    pub context: Option<ContextId>,
}

/// Reads one frame. Whatever the text is, it gives what can be read and counts what cannot.
#[must_use]
pub fn decode(text: &str) -> Frame<'_> {
    match wire::read(text) {
        Ok(messages) => Frame { messages, unreadable: Vec::new() },
        Err(_) => salvage::take_apart(text),
    }
}

#[cfg(test)]
mod tests;
