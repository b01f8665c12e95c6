//! The peers that only these stories need. The databases are in `tests/support`.

pub mod home_assistant;
pub mod prometheus;
pub mod recorder_database;
