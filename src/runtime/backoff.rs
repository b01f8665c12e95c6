//! Pauses that grow: doubled each time up to the longest, with up to the whole of each added at random, so that many
//! ingestors do not return all at once.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The random part comes after the limit: the longest pause is twice `longest`.
#[must_use]
pub fn backoff(first: Duration, longest: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new().with_min_delay(first).with_max_delay(longest).with_jitter().without_max_times().build()
}
