//! Keeps the requests to a target below the number per second that the user allows.

use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::time::sleep;

pub(super) struct Limiter {
    limiter: DefaultDirectRateLimiter,
    clock: DefaultClock,
}

impl Limiter {
    pub(super) fn new(per_second: NonZeroU32) -> Self {
        // Evenly: a burst is what the user wants to spare the server.
        let quota = Quota::per_second(per_second).allow_burst(NonZeroU32::MIN);
        Self { limiter: RateLimiter::direct(quota), clock: DefaultClock::default() }
    }

    /// Returns when a request may be made, and counts it.
    pub(super) async fn ready(&self) {
        // The limiter's own way to wait starts a thread for its timers.
        while let Err(early) = self.limiter.check() {
            sleep(early.wait_time_from(self.clock.now())).await;
        }
    }
}
