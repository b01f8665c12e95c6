//! Where events come from.

pub mod hass;
pub mod mqtt;
pub mod retry;
