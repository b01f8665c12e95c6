//! How patiently something outside is tried again: one policy for every call that leaves the process.
//!
//! Full jitter: each pause is drawn evenly from nothing to its step, and the steps double up to the longest. So many
//! ingestors that lost the same server do not return all at once.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The first step.
    pub first: Duration,
    /// The longest step.
    pub longest: Duration,
}

/// The pauses of one row of failures; begin a new one after a success.
#[derive(Debug)]
pub struct Pauses {
    policy: Policy,
    steps: ExponentialBackoff,
}

impl Policy {
    #[must_use]
    pub fn pauses(self) -> Pauses {
        // backon's own jitter adds to a step instead of drawing from it.
        let steps = ExponentialBuilder::new().with_min_delay(self.first).with_max_delay(self.longest);
        Pauses { policy: self, steps: steps.without_max_times().build() }
    }
}

impl Pauses {
    /// Never ends.
    pub fn next_pause(&mut self) -> Duration {
        self.steps.next().unwrap_or(self.policy.longest).mul_f64(fastrand::f64())
    }

    /// After a success.
    pub fn reset(&mut self) {
        *self = self.policy.pauses();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Policy;

    #[test]
    fn pauses_are_drawn_evenly_from_steps_that_double_up_to_the_longest() {
        let policy = Policy { first: Duration::from_millis(100), longest: Duration::from_secs(1) };
        let steps = [100, 200, 400, 800, 1_000, 1_000];
        let (mut low, mut high) = ([f64::MAX; 6], [0.0_f64; 6]);
        for _ in 0..500 {
            let mut pauses = policy.pauses();
            for at in 0..steps.len() {
                let share = pauses.next_pause().as_secs_f64() * 1_000.0 / f64::from(steps[at]);
                (low[at], high[at]) = (low[at].min(share), high[at].max(share));
            }
        }
        assert!(low.iter().all(|share| *share < 0.1), "{low:?}");
        assert!(high.iter().all(|share| (0.9..=1.0).contains(share)), "{high:?}");
    }

    #[test]
    fn after_a_success_the_steps_begin_anew() {
        let mut pauses = Policy { first: Duration::from_millis(1), longest: Duration::from_hours(1) }.pauses();
        for _ in 0..100 {
            pauses.next_pause();
        }
        pauses.reset();
        assert!(pauses.next_pause() <= Duration::from_millis(1));
    }
}
