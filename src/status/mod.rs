//! What the outside may know: one value, [`snapshot::Snapshot`], taken from the [`board::Board`] that every part
//! writes to. It does not know how it is shown.

pub mod board;
pub mod history;
pub mod mqtt;
pub mod rules;
pub mod snapshot;
pub mod target;
