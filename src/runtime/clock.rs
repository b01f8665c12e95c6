//! The only place that reads the wall clock. Everything else is given the time.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::time::Timestamp;

/// The wall clock. Before 1970 it is 1970.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the place that the ban points to")]
pub fn now() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
}
