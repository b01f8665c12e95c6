//! Keeps some of the events that no line can be made of, as dead letters: enough to see what is wrong with a rule.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::Receiver;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::dead_letters::Store;
use crate::dead_letters::allowance::Allowance;
use crate::dead_letters::letter::{DeadLetter, Ids};
use crate::model::refused::RefusedEvent;
use crate::runtime::clock;
use crate::runtime::repeats::{Repeats, Worth};
use crate::status::board::Board;

/// The most that may wait for the disk. Sent by the pipeline, received by [`keep`]. When it is full, further ones are only
/// counted: the pipeline waits for nobody.
pub(super) const WAITING: usize = 256;

/// Until `stop`: by then the pipeline has ended, and what it sent is still kept.
pub(super) async fn keep(
    letters: Store,
    mut refused: Receiver<RefusedEvent>,
    board: Arc<Board>,
    stop: CancellationToken,
) {
    let mut allowance = Allowance::default();
    let mut failures = Repeats::default();
    let ids = Ids::new();
    let mut events = Vec::new();
    loop {
        tokio::select! {
            biased;
            count = refused.recv_many(&mut events, WAITING) => if count == 0 {
                stop.cancelled().await;
                return;
            },
            () = stop.cancelled() => return,
        }
        let now = clock::now();
        let kept = events.drain(..).filter(|event| allowance.admit(event, now));
        let kept: Vec<DeadLetter> = kept.map(|event| DeadLetter::of_event(event, ids.next(), now)).collect();
        if kept.is_empty() {
            continue;
        }
        let store = letters.clone();
        let added =
            spawn_blocking(move || store.add(&kept).map(|added| (added, store.count().unwrap_or_default()))).await;
        match added.expect("the store does not panic") {
            Ok((added, count)) => {
                board.dead_letters.evicted.add(added.evicted);
                board.dead_letters.kept.set(count.letters);
                failures.recovered(Instant::now());
            }
            Err(err) => {
                if failures.failed((), Instant::now()) != Worth::Nothing {
                    warn!("events that cannot be written are only counted: the disk does not take dead letters: {err}");
                }
            }
        }
    }
}
