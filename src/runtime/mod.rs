//! What any service needs and no domain: groups of tasks, the end, the clock, the log, patience.

pub mod alive;
pub mod backoff;
pub mod clock;
pub mod file;
pub mod group;
pub mod logging;
pub mod repeats;
pub mod signal;

use std::time::Duration;

/// How often a task says that it is alive, at least.
pub const BEAT: Duration = Duration::from_secs(5);

/// A task that has been silent for this long is stuck: a restart would help.
pub const STUCK: Duration = Duration::from_mins(1);
