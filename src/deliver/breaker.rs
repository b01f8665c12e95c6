//! The circuit breaker before a target: decides whether a request is made at all.
//!
//! Closed, requests are made. After so many failures in a row, or one that needs a person, it opens: for a while none is
//! made, because each costs time and money on both sides. Then it is half open: one small request is made. If the target
//! takes it, the circuit closes; otherwise it opens again.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::status::snapshot::Circuit;

#[derive(Debug)]
pub(super) struct Breaker {
    /// In a row, until it opens.
    most_failures: NonZeroU32,
    open_for: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen,
}

/// Whether a request may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permit {
    Full,
    /// A small one, to see.
    Probe,
    NotBefore(Instant),
}

impl Breaker {
    pub(super) fn new(most_failures: NonZeroU32, open_for: Duration) -> Self {
        Self { most_failures, open_for, state: State::Closed { failures: 0 } }
    }

    pub(super) fn ask(&mut self, now: Instant) -> Permit {
        match self.state {
            State::Closed { .. } => Permit::Full,
            State::Open { until } if now < until => Permit::NotBefore(until),
            State::Open { .. } | State::HalfOpen => {
                self.state = State::HalfOpen;
                Permit::Probe
            }
        }
    }

    /// The target works.
    pub(super) fn succeeded(&mut self) {
        self.state = State::Closed { failures: 0 };
    }

    /// `needs_a_person`: nothing that we do will change it.
    pub(super) fn failed(&mut self, needs_a_person: bool, now: Instant) {
        let failures = match self.state {
            State::Closed { failures } => failures + 1,
            State::Open { .. } | State::HalfOpen => self.most_failures.get(),
        };
        self.state = if needs_a_person || failures >= self.most_failures.get() {
            State::Open { until: now + self.open_for }
        } else {
            State::Closed { failures }
        };
    }

    pub(super) fn is_probing(&self) -> bool {
        self.state == State::HalfOpen
    }

    pub(super) fn circuit(&self) -> Circuit {
        match self.state {
            State::Closed { .. } => Circuit::Closed,
            State::Open { .. } => Circuit::Open,
            State::HalfOpen => Circuit::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::{Duration, Instant};

    use super::{Breaker, Permit};
    use crate::status::snapshot::Circuit;

    const OPEN_FOR: Duration = Duration::from_secs(30);

    fn breaker() -> Breaker {
        Breaker::new(NonZeroU32::new(3).unwrap(), OPEN_FOR)
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_a_success_starts_the_count_anew() {
        let (mut breaker, now) = (breaker(), Instant::now());
        for _ in 0..2 {
            breaker.failed(false, now);
            breaker.failed(false, now);
            assert_eq!(breaker.ask(now), Permit::Full);
            breaker.succeeded();
        }
        for _ in 0..3 {
            assert_eq!(breaker.circuit(), Circuit::Closed);
            breaker.failed(false, now);
        }
        assert_eq!((breaker.circuit(), breaker.ask(now)), (Circuit::Open, Permit::NotBefore(now + OPEN_FOR)));
    }

    #[test]
    fn a_probe_decides_whether_it_closes_or_opens_again() {
        let (mut breaker, start) = (breaker(), Instant::now());
        breaker.failed(true, start);
        assert_eq!(breaker.ask(start), Permit::NotBefore(start + OPEN_FOR), "one is enough if a person is needed");
        let later = start + OPEN_FOR;
        assert_eq!((breaker.ask(later), breaker.circuit()), (Permit::Probe, Circuit::HalfOpen));
        breaker.failed(false, later);
        assert_eq!(breaker.ask(later), Permit::NotBefore(later + OPEN_FOR), "one is enough for a probe");
        assert_eq!(breaker.ask(later + OPEN_FOR), Permit::Probe);
        breaker.succeeded();
        assert_eq!((breaker.ask(later), breaker.circuit()), (Permit::Full, Circuit::Closed));
    }
}
