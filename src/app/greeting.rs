//! Visits to the target while there is nothing to write: a home in which nothing happens is to be ready too, and to notice
//! that its database is gone.
//!
//! While records wait, the delivery knows better than any visit how the target is, and this is silent.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::settings::{Delivery, Target};
use crate::influx::{in_options_of, probe};
use crate::model::time::Timestamp;
use crate::runtime::clock;
use crate::status::snapshot::LinkState;
use crate::status::target::TargetBoard;

/// Between two visits, and how long a successful write speaks for itself.
const EVERY: Duration = Duration::from_secs(30);

pub(super) async fn run(target: &Target, delivery: &Delivery, board: &TargetBoard, stop: &CancellationToken) {
    loop {
        if is_due(target, board) {
            tokio::select! {
                () = stop.cancelled() => return,
                () = visit(target, delivery, board) => {}
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(EVERY) => {}
        }
    }
}

/// A folder that took a file once is not asked again: asking is writing.
fn is_due(target: &Target, board: &TargetBoard) -> bool {
    let is_reached = board.link.state() == LinkState::Connected;
    let is_archive = matches!(target, Target::Archive(_));
    board.books.held.get() == 0 && !wrote_lately(board) && !(is_archive && is_reached)
}

fn wrote_lately(board: &TargetBoard) -> bool {
    let age = |success: Timestamp| clock::now().as_micros() - success.as_micros();
    board
        .writes
        .last_success
        .get()
        .is_some_and(|success| age(success) < EVERY.as_micros().try_into().unwrap_or(i64::MAX))
}

async fn visit(target: &Target, delivery: &Delivery, board: &TargetBoard) {
    let before = board.link.state();
    let findings = probe::probe(target, delivery).await;
    // A batch that came meanwhile knows better.
    if board.books.held.get() > 0 || wrote_lately(board) {
        return;
    }
    match findings.iter().find(|found| !found.good) {
        None => {
            let what = findings.first().map_or("", |found| &found.words);
            if before != LinkState::Connected {
                info!(target_name = board.name, "{}: it is there: {what}", board.name);
            }
            board.link.connected(what, clock::now());
        }
        Some(fault) => {
            let words = in_options_of(&board.name, &fault.words);
            if before != LinkState::Failing {
                warn!(target_name = board.name, "{}: it would not take points now: {words}", board.name);
            }
            board.link.failed(&words, clock::now());
        }
    }
}
