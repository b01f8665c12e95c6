//! Decides which of many failures in a row are worth a line in the log: the first, the first of another kind, and a
//! sign of life every ten minutes.

use std::time::{Duration, Instant};

/// How long the same thing is not said again.
pub const EVERY: Duration = Duration::from_mins(10);

/// Failures since it worked last. `Kind` is what makes two of them equal in the eyes of a reader.
#[derive(Debug)]
pub struct Repeats<Kind>(Option<Streak<Kind>>);

#[derive(Debug)]
struct Streak<Kind> {
    kind: Kind,
    failures: u64,
    since: Instant,
    said: Instant,
}

/// What is worth saying about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    /// It begins, or it is of another kind than before.
    First,
    Again {
        failures: u64,
        lasts: Duration,
    },
    Nothing,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    pub lasted: Duration,
    pub failures: u64,
}

impl<Kind> Default for Repeats<Kind> {
    fn default() -> Self {
        Self(None)
    }
}

impl<Kind: PartialEq> Repeats<Kind> {
    pub fn failed(&mut self, kind: Kind, now: Instant) -> Worth {
        let Some(streak) = &mut self.0 else {
            self.0 = Some(Streak { kind, failures: 1, since: now, said: now });
            return Worth::First;
        };
        streak.failures += 1;
        let worth = if streak.kind != kind {
            Worth::First
        } else if now.saturating_duration_since(streak.said) >= EVERY {
            Worth::Again { failures: streak.failures, lasts: now.saturating_duration_since(streak.since) }
        } else {
            return Worth::Nothing;
        };
        streak.said = now;
        streak.kind = kind;
        worth
    }

    /// It works again: the next failure is a new one.
    pub fn recovered(&mut self, now: Instant) -> Option<Ended> {
        let streak = self.0.take()?;
        Some(Ended { lasted: now.saturating_duration_since(streak.since), failures: streak.failures })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Ended, Repeats, Worth};

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn a_failure_is_said_when_it_begins_every_ten_minutes_and_when_it_ends() {
        let start = Instant::now();
        let mut repeats = Repeats::default();
        assert_eq!(repeats.failed("refused", start), Worth::First);
        let worths = (1..=21).map(|minute| repeats.failed("refused", start + minute * MINUTE));
        let said: Vec<Worth> = worths.filter(|worth| *worth != Worth::Nothing).collect();
        let again = |failures, minutes| Worth::Again { failures, lasts: minutes * MINUTE };
        assert_eq!(said, [again(11, 10), again(21, 20)]);
        assert_eq!(repeats.failed("no such host", start + 22 * MINUTE), Worth::First);
        assert_eq!(repeats.failed("no such host", start + 31 * MINUTE), Worth::Nothing);
        assert_eq!(repeats.failed("no such host", start + 32 * MINUTE), again(25, 32));
        assert_eq!(repeats.recovered(start + 33 * MINUTE), Some(Ended { lasted: 33 * MINUTE, failures: 25 }));
        assert_eq!(repeats.recovered(start + 34 * MINUTE), None);
        assert_eq!(repeats.failed("no such host", start + 35 * MINUTE), Worth::First);
    }
}
