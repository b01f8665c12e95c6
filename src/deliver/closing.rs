//! How long to go on once the service was asked to stop.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

pub(super) struct Closing {
    stop: CancellationToken,
    flush_for: Duration,
    deadline: Option<Instant>,
}

impl Closing {
    /// `flush_for`: from the signal to the end of all trying.
    pub(super) fn new(stop: CancellationToken, flush_for: Duration) -> Self {
        Self { stop, flush_for, deadline: None }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.deadline.is_some()
    }

    /// Returns as soon as the service is asked to stop, at the latest when the work is done.
    pub(super) async fn or_stop(&mut self, work: impl Future<Output = ()>) {
        if self.has_begun() {
            return;
        }
        tokio::select! {
            () = self.stop.cancelled() => self.begin(),
            () = work => {}
        }
    }

    /// Works on when the service is asked to stop, but not past the deadline. `None`: it has passed.
    pub(super) async fn within<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            let Some(deadline) = self.deadline else {
                tokio::select! {
                    done = &mut work => return Some(done),
                    () = self.stop.cancelled() => self.begin(),
                }
                continue;
            };
            tokio::select! {
                // What is done is done, even at the last moment.
                biased;
                done = &mut work => return Some(done),
                () = sleep_until(deadline) => return None,
            }
        }
    }

    /// A wait before the next attempt. It ends when the service is asked to stop: then it is tried at once. `false`:
    /// the time that is left is shorter.
    pub(super) async fn pause(&mut self, wait: Duration) -> bool {
        match self.deadline {
            None => self.or_stop(sleep(wait)).await,
            Some(deadline) if Instant::now() + wait >= deadline => return false,
            Some(_) => sleep(wait).await,
        }
        true
    }

    fn begin(&mut self) {
        self.deadline = Some(Instant::now() + self.flush_for);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::time::{Instant, sleep};
    use tokio_util::sync::CancellationToken;

    use super::Closing;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn work_goes_on_after_the_signal_but_not_past_the_deadline() {
        let stop = CancellationToken::new();
        let mut closing = Closing::new(stop.clone(), 5 * SECOND);
        let began = Instant::now();
        let ((), done) = tokio::join!(
            async {
                sleep(SECOND).await;
                stop.cancel();
            },
            closing.within(sleep(3 * SECOND)),
        );
        assert_eq!((done, began.elapsed()), (Some(()), 3 * SECOND));
        assert_eq!(closing.within(pending::<()>()).await, None);
        assert_eq!(began.elapsed(), 6 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_with_the_signal_and_is_refused_when_too_long() {
        let stop = CancellationToken::new();
        let mut closing = Closing::new(stop.clone(), 5 * SECOND);
        stop.cancel();
        let began = Instant::now();
        assert!(closing.pause(60 * SECOND).await, "one attempt follows at once");
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(closing.pause(4 * SECOND).await);
        assert!(!closing.pause(SECOND).await);
        assert_eq!(began.elapsed(), 4 * SECOND);
    }
}
