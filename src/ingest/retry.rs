//! When to try again. Pure, but for the dice of the pauses.

use std::time::Duration;

use crate::runtime::backoff::{self, Policy};

/// The pauses between sessions.
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    pub failures: Policy,
    /// A wrong token stays wrong until somebody changes it, and each try is a failed login in Home Assistant: it shows
    /// a notification, and may ban the address. Doubled each time.
    pub wrong_token: Duration,
    pub longest_wrong_token: Duration,
    /// After a session of this length the next one begins at once, and the pauses start anew.
    pub good_session: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            failures: Policy { first: Duration::from_millis(500), longest: Duration::from_secs(30) },
            wrong_token: Duration::from_mins(1),
            longest_wrong_token: Duration::from_hours(1),
            good_session: Duration::from_mins(1),
        }
    }
}

pub struct Retry {
    pauses: Pauses,
    failures: backoff::Pauses,
    wrong_token: Duration,
}

impl Retry {
    #[must_use]
    pub fn new(pauses: Pauses) -> Self {
        Self { pauses, failures: pauses.failures.pauses(), wrong_token: pauses.wrong_token }
    }

    /// The pause after a session that was live for `live`; `None` if it never was.
    pub fn after_session(&mut self, live: Option<Duration>) -> Duration {
        if live.is_some() {
            self.wrong_token = self.pauses.wrong_token;
        }
        if live.is_some_and(|live| live >= self.pauses.good_session) {
            self.failures.reset();
            return Duration::ZERO;
        }
        self.failures.next_pause()
    }

    pub fn after_wrong_token(&mut self) -> Duration {
        let pause = self.wrong_token;
        self.wrong_token = (2 * pause).min(self.pauses.longest_wrong_token);
        pause
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Pauses, Retry};

    #[test]
    fn after_a_good_session_the_next_begins_at_once_and_a_short_one_counts_as_a_failure() {
        let pauses = Pauses::default();
        let mut retry = Retry::new(pauses);
        let short = Some(Duration::from_secs(59));
        assert!(retry.after_session(short) <= pauses.failures.first);
        let longest = (0..100).map(|_| retry.after_session(short)).max().unwrap();
        assert!(longest > Duration::from_secs(10) && longest <= pauses.failures.longest, "{longest:?}");
        assert_eq!(retry.after_session(Some(Duration::from_mins(1))), Duration::ZERO);
        assert!(retry.after_session(None) <= pauses.failures.first);
    }

    #[test]
    fn a_wrong_token_is_tried_less_and_less_until_one_was_right() {
        let mut retry = Retry::new(Pauses::default());
        let minutes: Vec<_> = (0..8).map(|_| retry.after_wrong_token().as_secs() / 60).collect();
        assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 60, 60]);
        retry.after_session(None);
        assert_eq!(retry.after_wrong_token(), Duration::from_hours(1));
        retry.after_session(Some(Duration::ZERO));
        assert_eq!(retry.after_wrong_token(), Duration::from_mins(1));
    }
}
