//! Keeps what `verify` found out, in the folder for what must survive a restart.

use std::path::Path;

use anyhow::Context;

use crate::model::time::Timestamp;
use crate::places_file;
use crate::verify::coverage::Coverage;
use crate::verify::report::Report;

pub(super) const FILE: &str = "coverage.json";

/// It blocks.
pub(super) fn keep(data_dir: &Path, report: &Report, now: Timestamp) -> anyhow::Result<()> {
    let path = data_dir.join(FILE);
    let mut coverage = load(&path);
    coverage.merge(report, now);
    std::fs::create_dir_all(data_dir).with_context(|| format!("cannot make {}", data_dir.display()))?;
    // A file like any other that is replaced as a whole.
    places_file::store(&path, &coverage.to_json()).context("what was found out is not kept")
}

/// What cannot be read is as if it was not there: the next `verify` finds it out again.
pub(super) fn load(path: &Path) -> Coverage {
    std::fs::read_to_string(path).ok().and_then(|text| Coverage::from_json(&text)).unwrap_or_default()
}
