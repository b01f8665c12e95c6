//! Where entities were, from run to run: read at the start, written down when somebody moves one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::pipeline::places::Places;
use crate::places_file;
use crate::runtime::alive::beating;
use crate::runtime::repeats::{Ended, Repeats, Worth};
use crate::status::board::Board;

/// In the folder for what must survive a restart.
pub(super) const FILE: &str = "places.json";

/// Those that were written down, or none.
pub(super) fn load(path: &Path) -> Places {
    match places_file::load(path) {
        Ok(places) => places.unwrap_or_default(),
        Err(err) => {
            error!("{err}");
            Places::default()
        }
    }
}

/// Writes down what the pipeline sends, the newest only, until `stop`: by then the pipeline has ended.
pub(super) async fn keep(
    path: PathBuf,
    mut changed: watch::Receiver<String>,
    board: Arc<Board>,
    stop: CancellationToken,
) {
    let mut failures = Repeats::default();
    let work = async {
        loop {
            tokio::select! {
                biased;
                Ok(()) = changed.changed() => {}
                () = stop.cancelled() => return,
            }
            let (path, json) = (path.clone(), changed.borrow_and_update().clone());
            let stored = spawn_blocking(move || places_file::store(&path, &json)).await;
            match stored.expect("writing does not panic") {
                Ok(()) => {
                    if let Some(Ended { failures, .. }) = failures.recovered(Instant::now()) {
                        info!("the places of entities are written down again, after {failures} failures");
                    }
                }
                Err(err) => {
                    if failures.failed((), Instant::now()) != Worth::Nothing {
                        warn!("{err}: after a restart points that are written again may have other registry tags");
                    }
                }
            }
        }
    };
    beating(|| board.beat("places", Instant::now()), work).await;
}
