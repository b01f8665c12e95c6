//! When to try again, and when to say so.
//!
//! Pure, but for the dice: the delays are jittered, so that many ingestors do not return all at once.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The pauses between sessions.
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    pub first: Duration,
    pub longest: Duration,
    /// A wrong token stays wrong until somebody changes it, and each try counts against us in Home Assistant.
    pub wrong_token: Duration,
    /// After a session of this length the next one begins at once, and the pauses start anew.
    pub good_session: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(30),
            wrong_token: Duration::from_mins(1),
            good_session: Duration::from_mins(1),
        }
    }
}

pub struct Retry {
    pauses: Pauses,
    backoff: ExponentialBackoff,
}

impl Retry {
    #[must_use]
    pub fn new(pauses: Pauses) -> Self {
        Self { pauses, backoff: backoff(pauses) }
    }

    /// The pause after a session that was live for `live`; `None` if it never was.
    pub fn after_session(&mut self, live: Option<Duration>) -> Duration {
        if live.is_some_and(|live| live >= self.pauses.good_session) {
            self.backoff = backoff(self.pauses);
            return Duration::ZERO;
        }
        // backon adds its jitter after the limit.
        self.backoff.next().unwrap_or(self.pauses.longest).min(self.pauses.longest)
    }

    #[must_use]
    pub fn after_wrong_token(&self) -> Duration {
        self.pauses.wrong_token
    }
}

fn backoff(pauses: Pauses) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(pauses.first)
        .with_max_delay(pauses.longest)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Decides which of many equal failures are worth a line in the log: the first, and then one in ten minutes.
#[derive(Debug, Default)]
pub struct Repeats {
    text: String,
    times: u64,
    began: Duration,
    last_said: Duration,
}

/// What is worth saying about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worth {
    First,
    Again { times: u64, within: Duration },
    Nothing,
}

impl Repeats {
    const EVERY: Duration = Duration::from_mins(10);

    pub fn failed(&mut self, text: &str, now: Duration) -> Worth {
        if self.times == 0 || self.text != text {
            *self = Self { text: text.to_owned(), times: 1, began: now, last_said: now };
            return Worth::First;
        }
        self.times += 1;
        if now.saturating_sub(self.last_said) < Self::EVERY {
            return Worth::Nothing;
        }
        self.last_said = now;
        Worth::Again { times: self.times, within: now.saturating_sub(self.began) }
    }

    /// It works again: the next failure is a new one.
    pub fn recovered(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Pauses, Repeats, Retry, Worth};

    #[test]
    fn pauses_grow_to_the_longest_and_never_above() {
        let pauses = Pauses::default();
        let mut retry = Retry::new(pauses);
        let seen: Vec<_> = (0..20).map(|_| retry.after_session(None)).collect();
        assert!(seen[0] >= pauses.first && seen[0] <= 2 * pauses.first, "{seen:?}");
        assert!(seen.iter().all(|pause| *pause <= pauses.longest), "{seen:?}");
        assert_eq!(seen[19], pauses.longest);
    }

    #[test]
    fn after_a_good_session_the_next_begins_at_once_and_a_short_one_counts_as_a_failure() {
        let mut retry = Retry::new(Pauses::default());
        for _ in 0..10 {
            retry.after_session(Some(Duration::from_secs(59)));
        }
        assert!(retry.after_session(Some(Duration::from_secs(1))) >= Duration::from_secs(29));
        assert_eq!(retry.after_session(Some(Duration::from_mins(1))), Duration::ZERO);
        assert!(retry.after_session(None) <= Duration::from_secs(1));
    }

    #[test]
    fn the_same_failure_is_said_once_and_then_every_ten_minutes() {
        let mut repeats = Repeats::default();
        let at = Duration::from_secs;
        assert_eq!(repeats.failed("refused", at(100)), Worth::First);
        assert_eq!(repeats.failed("refused", at(130)), Worth::Nothing);
        assert_eq!(repeats.failed("refused", at(700)), Worth::Again { times: 3, within: at(600) });
        assert_eq!(repeats.failed("refused", at(1_299)), Worth::Nothing);
        assert_eq!(repeats.failed("refused", at(1_300)), Worth::Again { times: 5, within: at(1_200) });
        assert_eq!(repeats.failed("no such host", at(1_301)), Worth::First);
        repeats.recovered();
        assert_eq!(repeats.failed("no such host", at(1_302)), Worth::First);
    }
}
