//! Tasks that belong together: they start together, stop together, and none of them ends unnoticed.

use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// A set of tasks with one stop signal.
///
/// A task is given the signal and ends itself at a safe point.
pub struct Group {
    name: &'static str,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    names: Vec<(Id, Cow<'static, str>)>,
    /// Time at the stop that no group before this one may use up.
    reserve: Duration,
}

/// A task ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
#[error("the task `{task}` of the group `{group}` ended by itself{}", if *.panicked { " with a panic" } else { "" })]
pub struct EndedEarly {
    pub group: &'static str,
    pub task: Cow<'static, str>,
    pub panicked: bool,
}

impl Group {
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, stop: CancellationToken::new(), tasks: JoinSet::new(), names: Vec::new(), reserve: Duration::ZERO }
    }

    /// Keeps this much of the grace for the group, however late the ones before it are.
    #[must_use]
    pub fn with_reserve(self, reserve: Duration) -> Self {
        Self { reserve, ..self }
    }

    pub fn spawn<F, T>(&mut self, task: impl Into<Cow<'static, str>>, start: F)
    where
        F: FnOnce(CancellationToken) -> T,
        T: Future<Output = ()> + Send + 'static,
    {
        let id = self.tasks.spawn(start(self.stop.clone())).id();
        self.names.push((id, task.into()));
    }

    /// Waits for the first task that ends. Pending for ever if there is none.
    pub async fn first_end(&mut self) -> EndedEarly {
        let (id, panicked) = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => (id, false),
            Some(Err(err)) => (err.id(), err.is_panic()),
            None => return std::future::pending().await,
        };
        let task = self
            .names
            .iter()
            .find(|(known, _)| *known == id)
            .map_or(Cow::Borrowed("unnamed"), |(_, name)| name.clone());
        EndedEarly { group: self.name, task, panicked }
    }
}

/// Waits for the first task of any group that ends.
pub async fn first_end(groups: &mut [Group]) -> EndedEarly {
    let ends: Vec<_> = groups.iter_mut().map(|group| Box::pin(group.first_end())).collect();
    if ends.is_empty() {
        return std::future::pending().await;
    }
    futures_util::future::select_all(ends).await.0
}

/// Stops the groups in the given order, each fully before the next, all within `grace`.
///
/// Returns the names of the groups that did not end in time; their tasks are aborted.
pub async fn shut_down(groups: Vec<Group>, grace: Duration) -> Vec<&'static str> {
    let end = Instant::now() + grace;
    let mut reserved: Duration = groups.iter().map(|group| group.reserve).sum();
    let mut late = Vec::new();
    for mut group in groups {
        group.stop.cancel();
        reserved -= group.reserve;
        let drained = async { while group.tasks.join_next().await.is_some() {} };
        if timeout_at(end.checked_sub(reserved).unwrap_or(end), drained).await.is_err() {
            group.tasks.abort_all();
            late.push(group.name);
        }
    }
    late
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::{Group, first_end, shut_down};

    #[tokio::test(start_paused = true)]
    async fn groups_stop_in_order_and_the_late_one_is_named() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut groups = Vec::new();
        for (name, needed) in [("inputs", 1), ("pipeline", 2), ("delivery", 60)] {
            let mut group = Group::new(name);
            let order = Arc::clone(&order);
            group.spawn(name, |stop| async move {
                stop.cancelled().await;
                tokio::time::sleep(Duration::from_secs(needed)).await;
                order.lock().unwrap().push(name);
            });
            groups.push(group);
        }
        assert_eq!(shut_down(groups, Duration::from_secs(30)).await, ["delivery"]);
        assert_eq!(*order.lock().unwrap(), ["inputs", "pipeline"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_reserved_for_a_group_is_not_used_up_by_those_before_it() {
        let second = Duration::from_secs(1);
        let mut hangs = Group::new("delivery");
        hangs.spawn("hangs", |_| std::future::pending());
        let mut needs_two = Group::new("spool").with_reserve(3 * second);
        needs_two.spawn("needs_two", |stop| async move {
            stop.cancelled().await;
            tokio::time::sleep(2 * second).await;
        });
        let began = tokio::time::Instant::now();
        assert_eq!(shut_down(vec![hangs, needs_two], 8 * second).await, ["delivery"]);
        assert_eq!(began.elapsed(), 7 * second);
    }

    #[tokio::test]
    async fn a_panic_is_an_end_that_is_noticed() {
        let mut group = Group::new("inputs");
        group.spawn("waits", |stop| async move { stop.cancelled().await });
        group.spawn("breaks", |_| async { panic!("broken on purpose") });
        let ended = first_end(&mut [group]).await;
        assert_eq!((&*ended.task, ended.panicked), ("breaks", true));
    }
}
