//! A task that waits for somebody else is alive, and says so.

use std::future::Future;
use std::pin::pin;

use tokio::time::interval;

use super::BEAT;

/// Does `work`, and calls `beat` all the while. Every wait in `work` must have its own end.
pub async fn beating<F: Future>(beat: impl Fn(), work: F) -> F::Output {
    let mut work = pin!(work);
    let mut beats = interval(BEAT);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = beats.tick() => beat(),
        }
    }
}
