//! Everything that is asked of Home Assistant's recorder.
//!
//! [`recorder`] asks: one connection, one walk through a time, one policy for errors, pauses and reconnects. With it
//! [`gaps`] fetches what happened while nobody listened, [`import`] brings in the years before, and [`verify`] compares
//! what the recorder knows with what a target has.

pub mod gaps;
pub mod import;
pub mod recorder;
pub mod verify;
