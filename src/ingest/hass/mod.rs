//! Home Assistant's WebSocket API as a source of events.

pub mod protocol;
pub mod states;
