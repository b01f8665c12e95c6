//! The values that every part shares, with the rules they keep.
//!
//! Nothing here knows where a value came from, how it travels or who uses it.

pub mod entity;
pub mod event;
pub mod fate;
pub mod json;
pub mod point;
pub mod record;
pub mod refused;
pub mod registries;
pub mod time;
pub mod topic;
pub mod units;
pub mod value;
