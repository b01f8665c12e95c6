//! Options as they were typed, settings as they are true.

pub mod secret;
pub mod settings;
