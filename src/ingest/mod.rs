//! Where events come from.

pub mod hass;
pub mod mqtt;
pub mod recorder;
pub mod retry;
