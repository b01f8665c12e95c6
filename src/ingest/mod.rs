//! Where events come from.

pub mod hass;
