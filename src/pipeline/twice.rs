//! Whether the same change was told before, by another source.
//!
//! Pure. Two real changes are never taken for one, however quickly they follow each other: each change that one source told
//! answers for at most one of another source.
//!
//! Two changes whose times are both Home Assistant's own are the same if the times are. If one of the times is that of an
//! arrival, the state decides: the two are the same if they say the same, the arrival is not long after the other, and
//! nothing else was taken for either. Each source tells in order, so what was told before a change that was answered for
//! will not be told again.
//!
//! Of two sources that both were away for a while, one change each, with arrival times and the same state within
//! ten seconds, one may stand for both. That cannot be seen from outside.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::model::event::{Source, StateChange};
use crate::model::time::Timestamp;

/// How long after the change its message may arrive.
const LATEST: Duration = Duration::from_secs(10);

/// How much earlier, by the clocks: Home Assistant's is never ahead of its own message, but it may run on another machine.
const EARLIEST: Duration = Duration::from_secs(2);

/// Changes of an entity that are kept. A source that is further behind is believed to tell something new.
const MAX_KEPT: usize = 32;

/// What was told of one entity lately, the oldest first.
#[derive(Debug, Default)]
pub struct Told {
    changes: VecDeque<Change>,
}

#[derive(Debug)]
struct Change {
    source: Source,
    time: Timestamp,
    is_exact: bool,
    state: Arc<str>,
    /// A change of another source was the same, or none will be any more.
    is_answered: bool,
}

impl Told {
    /// Notes a change, and says whether another source has told it already. `is_exact`: its time is Home Assistant's own.
    /// The same exact time from the same source is the same change as well.
    #[must_use]
    pub fn has_been_told(&mut self, change: &StateChange, source: Source, is_exact: bool) -> bool {
        let is_same_time = |told: &&mut Change| told.is_exact && is_exact && told.time == change.last_updated;
        if let Some(told) = self.changes.iter_mut().find(is_same_time) {
            if told.source != source {
                told.is_answered = true;
            }
            return true;
        }
        let answer = self.changes.iter().position(|told| told.answers_for(change, source, is_exact));
        if let Some(answer) = answer {
            for told in self.changes.iter_mut().take(answer + 1).filter(|told| told.source != source) {
                told.is_answered = true;
            }
        }
        if self.changes.len() == MAX_KEPT {
            self.changes.pop_front();
        }
        self.changes.push_back(Change {
            source,
            time: change.last_updated,
            is_exact,
            state: change.state.clone(),
            is_answered: answer.is_some(),
        });
        answer.is_some()
    }
}

impl Change {
    /// Of two exact times, and of two changes of the same source, this says nothing.
    fn answers_for(&self, change: &StateChange, source: Source, is_exact: bool) -> bool {
        let delay = match (self.is_exact, is_exact) {
            (true, false) => micros_between(self.time, change.last_updated),
            (false, true) => micros_between(change.last_updated, self.time),
            (false, false) => micros_between(self.time, change.last_updated).abs(),
            (true, true) => return false,
        };
        self.source != source
            && !self.is_answered
            && self.state == change.state
            && (-micros(EARLIEST)..=micros(LATEST)).contains(&delay)
    }
}

fn micros_between(earlier: Timestamp, later: Timestamp) -> i64 {
    later.as_micros().saturating_sub(earlier.as_micros())
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).expect("some seconds fit")
}

#[cfg(test)]
mod tests;
