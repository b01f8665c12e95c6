//! Until when everything that Home Assistant told has gone through the pipeline, without a gap.
//!
//! Pure. A session tells everything from its first states on. What happened before it is not known until the gap between
//! is closed, and only then does what it told count.

use std::time::Duration;

use crate::model::time::Timestamp;

#[derive(Debug, Default)]
pub struct Frontier {
    session: u64,
    /// Nothing is missing before what the session tells.
    has_no_gap: bool,
    /// The newest time that the session told.
    told: Option<Timestamp>,
}

impl Frontier {
    /// A session begins.
    pub fn begin(&mut self, session: u64) {
        *self = Self { session, ..Self::default() };
    }

    /// The session told of changes; this is the newest of them. Times of one frame are in no order, and later frames are
    /// later unless Home Assistant's clock was set.
    pub fn tell(&mut self, newest: Timestamp) {
        self.told = Some(newest);
    }

    /// Before `session` everything until `until` is known. Returns until when it is from now on.
    #[must_use]
    pub fn close(&mut self, session: u64, until: Timestamp) -> Timestamp {
        if session != self.session {
            return until;
        }
        self.has_no_gap = true;
        self.told.map_or(until, |told| told.max(until))
    }

    /// Until when nothing is missing. `held`: so long ago something may have come that still waits for its turn. `None`: what
    /// the session told does not count yet.
    #[must_use]
    pub fn reached(&self, held: Duration) -> Option<Timestamp> {
        let told = self.told.filter(|_| self.has_no_gap)?;
        let held = i64::try_from(held.as_micros()).unwrap_or(i64::MAX);
        Some(Timestamp::from_micros(told.as_micros().saturating_sub(held)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Frontier;
    use crate::model::time::Timestamp;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn what_a_session_tells_counts_when_the_gap_before_it_is_closed() {
        let mut frontier = Frontier::default();
        frontier.begin(1);
        frontier.tell(at(10));
        assert_eq!(frontier.reached(Duration::ZERO), None);
        frontier.tell(at(12));
        assert_eq!(frontier.close(1, at(10)), at(12));
        assert_eq!(frontier.reached(Duration::ZERO), Some(at(12)));
        frontier.tell(at(20));
        assert_eq!(frontier.reached(Duration::from_micros(5)), Some(at(15)), "what waits is not written yet");
    }

    #[test]
    fn a_gap_that_is_closed_too_late_counts_for_itself() {
        let mut frontier = Frontier::default();
        frontier.begin(1);
        frontier.tell(at(10));
        frontier.begin(2);
        frontier.tell(at(30));
        assert_eq!(frontier.close(1, at(9)), at(9));
        assert_eq!(frontier.reached(Duration::ZERO), None, "between the sessions there is another one");
    }
}
