//! Rows of the simulated recorder. Those that are queued or uncommitted are hidden from history.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::state::State;

/// Limit of rows over all entities; the oldest are dropped.
const MAX_ROWS: usize = 100_000;

/// Rows by the entity's index in the home. Times are in seconds; a state of `None` is a removal.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// Oldest first.
    rows: VecDeque<(usize, f64, Option<Arc<State>>)>,
    /// Entities that the recorder excludes.
    pub(super) left_out: HashSet<usize>,
    /// Start of the queue while the recorder is held, as during a backup.
    held: Option<f64>,
    /// Commit interval and time of the last commit. `None`: commits at once.
    commits: Option<(f64, f64)>,
}

impl Records {
    pub(super) fn add(&mut self, place: usize, at: f64, state: Option<Arc<State>>) {
        if self.left_out.contains(&place) {
            return;
        }
        if self.rows.len() == MAX_ROWS {
            self.rows.pop_front();
        }
        self.rows.push_back((place, at, state));
    }

    /// End of the visible history, if some rows are hidden.
    pub(super) fn until(&self) -> Option<f64> {
        self.held.into_iter().chain(self.commits.map(|(_, until)| until)).reduce(f64::min)
    }

    /// Visible rows of the entity at this index; both bounds are exclusive.
    pub(super) fn of(&self, place: usize, from: f64, to: f64) -> impl Iterator<Item = (f64, Option<Arc<State>>)> + '_ {
        let to = self.until().map_or(to, |until| to.min(until));
        let first = self.rows.partition_point(|(_, at, _)| *at <= from);
        let end = self.rows.partition_point(|(_, at, _)| *at < to).max(first);
        let rows = self.rows.range(first..end).filter(move |(of, ..)| *of == place);
        rows.map(|(_, at, state)| (*at, state.clone()))
    }

    /// Removes rows older than `before`.
    pub(super) fn purge(&mut self, before: f64) {
        self.rows.retain(|(_, at, _)| *at >= before);
    }

    /// Queues everything from `since` on, as during a backup, until called with `None`.
    pub(super) fn hold(&mut self, since: Option<f64>) {
        self.held = since;
    }

    /// Number of queued rows.
    pub(super) fn queued(&self) -> usize {
        self.held.map_or(0, |held| self.rows.len() - self.rows.partition_point(|(_, at, _)| *at < held))
    }

    pub(super) fn commit_every(&mut self, seconds: f64, now: f64) {
        self.commits = Some((seconds, now));
    }

    /// Commits if the interval has passed at `now`.
    pub(super) fn pass(&mut self, now: f64) {
        if let Some((every, until)) = &mut self.commits
            && self.held.is_none()
            && now - *until >= *every
        {
            *until = now;
        }
    }

    /// Commits everything until `now`, unless held. Returns whether it did.
    pub(super) fn commit(&mut self, now: f64) -> bool {
        if let Some((_, until)) = &mut self.commits
            && self.held.is_none()
        {
            *until = until.max(now);
        }
        self.held.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::Records;

    fn shown(records: &Records) -> Vec<f64> {
        records.of(0, 0.0, 100.0).map(|(at, _)| at).collect()
    }

    #[test]
    fn what_is_not_committed_is_in_no_queue_and_not_in_the_history() {
        let mut records = Records::default();
        records.commit_every(60.0, 1.0);
        for at in [10.0, 20.0] {
            records.add(0, at, None);
        }
        records.pass(50.0);
        assert_eq!((shown(&records), records.queued()), (vec![], 0));
        assert!(records.commit(15.0));
        assert_eq!(shown(&records), [10.0]);
        records.pass(75.0);
        assert_eq!(shown(&records), [10.0, 20.0]);
    }

    #[test]
    fn while_it_is_held_nothing_is_committed() {
        let mut records = Records::default();
        records.commit_every(60.0, 1.0);
        records.add(0, 10.0, None);
        records.hold(Some(5.0));
        assert!(!records.commit(20.0));
        records.pass(90.0);
        assert_eq!((shown(&records), records.queued()), (vec![], 1));
        records.hold(None);
        assert!(records.commit(20.0));
        assert_eq!(shown(&records), [10.0]);
    }
}
