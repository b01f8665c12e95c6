//! Keeps what `verify` found out, in the folder for what must survive a restart, and shows it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::history::verify::coverage::Coverage;
use crate::history::verify::report::Report;
use crate::model::time::Timestamp;
use crate::runtime::alive::beating;
use crate::runtime::file::replace;
use crate::status::board::Board;

pub(super) const FILE: &str = "coverage.json";

/// How soon the figures of a run are shown, whoever made it: the command is a program of its own.
const EVERY: Duration = Duration::from_secs(5);

/// It blocks.
pub(super) fn keep(data_dir: &Path, report: &Report, now: Timestamp) -> anyhow::Result<()> {
    let path = data_dir.join(FILE);
    let mut coverage = load(&path);
    coverage.merge(report, now);
    replace(&path, coverage.to_json().as_bytes())
        .with_context(|| format!("cannot write {}: what was found out is not kept", path.display()))
}

/// What cannot be read is as if it was not there: the next `verify` finds it out again. It blocks.
pub(super) fn load(path: &Path) -> Coverage {
    fs::read_to_string(path).ok().and_then(|text| Coverage::from_json(&text)).unwrap_or_default()
}

/// Shows the totals of each target, until `stop`.
pub(super) async fn watch(data_dir: PathBuf, board: Arc<Board>, stop: CancellationToken) {
    let path = data_dir.join(FILE);
    let mut shown = None;
    let work = async {
        loop {
            let found = changed(&path);
            if found != shown {
                let path = path.clone();
                let coverage = spawn_blocking(move || load(&path)).await.expect("reading a file does not panic");
                for (name, known, missing) in coverage.totals() {
                    if let Some(target) = board.targets.iter().find(|target| target.name == name) {
                        target.verified(known, missing);
                    }
                }
                shown = found;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    };
    beating(|| board.beat("coverage", Instant::now()), work).await;
}

fn changed(path: &Path) -> Option<(SystemTime, u64)> {
    let about = fs::metadata(path).ok()?;
    Some((about.modified().ok()?, about.len()))
}
