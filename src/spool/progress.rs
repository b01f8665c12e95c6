//! Until when a reader has, or cannot lose any more, what the source told.
//!
//! Whoever appends says now and then that everything which the source told until some time was appended. A reader has
//! reached that time once it has all these records, or the disk has, or they are lost. The earliest time of what was lost is
//! kept, until somebody says that what is missing was appended once more.

use std::collections::VecDeque;

use crate::model::time::Timestamp;

/// Steps that wait. Beyond that a step takes the place of the last one, and is reached later.
const MOST_STEPS: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Each stands before the record with its id. The ids grow.
    steps: VecDeque<(u64, Step)>,
    reached: Option<Timestamp>,
    /// The earliest time of the records that went.
    torn: Option<Timestamp>,
    /// The same of those for which somebody appends what was missing.
    mending: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Told(Timestamp),
    /// What was missing from this time on was appended once more.
    Mended(Timestamp),
}

impl Progress {
    /// As an earlier run noted it.
    pub(super) fn noted(reached: Option<Timestamp>, torn: Option<Timestamp>) -> Self {
        Self { reached, torn, ..Self::default() }
    }

    /// The source's time such that everything it told until then is with the reader, set aside, on the disk, or counted as
    /// lost. It goes back only if the source's clock did.
    pub(super) fn reached(&self) -> Option<Timestamp> {
        self.reached
    }

    /// The earliest time of a record that went and was not appended once more.
    pub(super) fn torn(&self) -> Option<Timestamp> {
        [self.torn, self.mending].into_iter().flatten().min()
    }

    /// Everything until `until` was appended, `next_id` comes next.
    pub(super) fn told(&mut self, next_id: u64, until: Timestamp) {
        let is_full = self.steps.len() >= MOST_STEPS;
        match self.steps.back_mut() {
            Some((at, Step::Told(last))) if *at == next_id || is_full => (*at, *last) = (next_id, until),
            _ => self.steps.push_back((next_id, Step::Told(until))),
        }
    }

    /// What is missing will be appended once more. What goes from now on is not part of that.
    pub(super) fn begin_mending(&mut self) {
        self.mending = self.torn();
        self.torn = None;
    }

    /// It was appended, from `from` on; `next_id` comes next.
    pub(super) fn mended(&mut self, next_id: u64, from: Timestamp) {
        self.steps.push_back((next_id, Step::Mended(from)));
    }

    /// The reader has all records before this id, or the disk has.
    pub(super) fn advance(&mut self, safe_below: u64) {
        while let Some((_, step)) = self.steps.pop_front_if(|(at, _)| *at <= safe_below) {
            match step {
                Step::Told(until) => self.reached = Some(until),
                Step::Mended(from) => self.mending = self.mending.filter(|since| *since < from),
            }
        }
    }

    /// Records went although the reader lacked them; this is the earliest of their times, if it is known.
    pub(super) fn lose(&mut self, earliest: Option<Timestamp>) {
        // Without a time nobody can ask for them.
        self.torn = [self.torn, earliest.or(self.reached)].into_iter().flatten().min();
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_STEPS, Progress};
    use crate::model::time::Timestamp;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn a_time_is_reached_when_everything_before_it_is_safe() {
        let mut progress = Progress::default();
        progress.told(3, at(30));
        progress.told(3, at(35));
        progress.told(7, at(70));
        progress.advance(2);
        assert_eq!(progress.reached(), None);
        progress.advance(6);
        assert_eq!(progress.reached(), Some(at(35)));
        progress.advance(7);
        assert_eq!(progress.reached(), Some(at(70)));
        // The source's clock was set back.
        progress.told(8, at(50));
        progress.advance(8);
        assert_eq!(progress.reached(), Some(at(50)));
    }

    #[test]
    fn what_went_is_remembered_until_it_was_appended_once_more() {
        let mut progress = Progress::noted(Some(at(100)), None);
        progress.lose(Some(at(40)));
        progress.lose(Some(at(60)));
        assert_eq!(progress.torn(), Some(at(40)));
        progress.begin_mending();
        progress.mended(9, at(39));
        progress.advance(8);
        assert_eq!(progress.torn(), Some(at(40)), "what was appended is not safe yet");
        progress.advance(9);
        assert_eq!((progress.reached(), progress.torn()), (Some(at(100)), None));
    }

    #[test]
    fn what_goes_while_the_rest_is_mended_stays_missing() {
        let mut progress = Progress::noted(Some(at(100)), Some(at(40)));
        progress.begin_mending();
        progress.lose(Some(at(50)));
        progress.mended(1, at(40));
        progress.advance(1);
        assert_eq!(progress.torn(), Some(at(50)));
        progress.begin_mending();
        progress.mended(2, at(60));
        progress.advance(2);
        assert_eq!(progress.torn(), Some(at(50)), "it was not told from there on");
    }

    #[test]
    fn too_many_steps_become_one_that_is_reached_later() {
        let mut progress = Progress::default();
        let most = i64::try_from(MOST_STEPS).unwrap();
        for id in 1..=most + 5 {
            progress.told(id.unsigned_abs(), at(id));
        }
        assert_eq!(progress.steps.len(), MOST_STEPS);
        progress.advance(most.unsigned_abs());
        assert_eq!(progress.reached(), Some(at(most - 1)));
        progress.advance(most.unsigned_abs() + 5);
        assert_eq!(progress.reached(), Some(at(most + 5)));
    }
}
