//! Brings in what was before: the recorder's raw history, and for the hours before that its statistics.
//!
//! It goes past the spool, straight to the targets, so that years of history never take the room of what happens now. A
//! [`cursor`] on disk says what every target has; it may be killed at any moment and goes on there. What it writes twice
//! is written once.

mod asking;
pub mod cursor;
pub mod hours;
mod part;
mod points;

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use self::cursor::{Cursor, Imports, LoadError, Totals, Wish};
use self::part::Part;
use crate::config::settings::{Delivery, HomeAssistant, NamedTarget};
use crate::history::recorder::RecorderError;
use crate::influx::OpenError;
use crate::model::time::Timestamp;
use crate::pipeline::places::Places;
use crate::rules::Rules;

const HOUR_MICROS: i64 = 3_600 * 1_000_000;

/// What is to be imported.
pub struct Plan<'a> {
    pub home: &'a HomeAssistant,
    pub rules: &'a Arc<Rules>,
    /// What the service knows of where entities were.
    pub places: Places,
    pub delivery: &'a Delivery,
    pub targets: Vec<&'a NamedTarget>,
    pub wish: Wish,
    /// Nothing is written, only counted.
    pub dry_run: bool,
    /// What an earlier run left is not gone on with.
    pub restart: bool,
    pub data_dir: &'a Path,
    /// The wall clock.
    pub now: Timestamp,
}

/// How far it is.
#[derive(Debug, Clone)]
pub struct Progress {
    /// What is being done, for people.
    pub phase: String,
    /// From 0 to 1, of the phase.
    pub done: f64,
    pub totals: Totals,
}

impl Progress {
    fn waiting(words: &str) -> Self {
        Self { phase: words.to_owned(), done: 0.0, totals: Totals::default() }
    }
}

/// Why it ended before its end. What was done stays done.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{source}{}", advice(source))]
    Recorder {
        #[from]
        source: RecorderError,
    },
    #[error("Home Assistant's answer cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("{name}: {source}")]
    Open { name: String, source: OpenError },
    /// All of them gave up.
    #[error("{}", .0.join("\n"))]
    NoTarget(Vec<String>),
    /// Those that lacked the same did.
    #[error("no target takes what is imported")]
    Targets,
    #[error("cannot write down how far the import is: {0}")]
    Cursor(#[from] std::io::Error),
    #[error("stopped before the end")]
    Stopped,
}

fn advice(err: &RecorderError) -> &'static str {
    match err {
        RecorderError::Off => ": there is no history to import",
        RecorderError::Migrating | RecorderError::NotCommitted { .. } => ": try again when it is done",
        _ => "",
    }
}

/// What was done.
#[derive(Debug)]
pub struct Summary {
    pub cursor: Cursor,
    /// It went on where an earlier run had stopped.
    pub resumed: bool,
    /// Targets that gave up, with the reason: the same import goes on with them.
    pub failed: Vec<(String, String)>,
    /// What else a reader should know.
    pub notes: Vec<String>,
}

/// Imports until the end, or until `stop`.
pub async fn run(
    plan: Plan<'_>,
    progress: &mut (dyn FnMut(Progress) + Send),
    stop: &CancellationToken,
) -> Result<Summary, ImportError> {
    tokio::select! {
        outcome = import(&plan, progress) => outcome,
        // What is under way may be waiting for somebody else: it begins again where it was noted.
        () = stop.cancelled() => Err(ImportError::Stopped),
    }
}

/// Targets that are not as far as others are done one part after the other.
async fn import(plan: &Plan<'_>, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<Summary, ImportError> {
    let (mut imports, mut notes) = (Imports::default(), Vec::new());
    if !plan.dry_run {
        match load(plan.data_dir).await {
            Ok(loaded) => imports = loaded,
            Err(err) => notes.push(format!("{err}: how far earlier imports were is not known, this one begins anew")),
        }
    }
    if plan.restart {
        imports.forget(&plan.wish);
    }
    let mut earlier = imports.of(&plan.wish, &[]);
    let (mut tried, mut done, mut failed) = (Vec::new(), None, Vec::new());
    loop {
        tried.extend(earlier.as_ref().map_or(&plan.wish, |cursor| &cursor.wish).targets.iter().cloned());
        let mut part = Part::begin(plan, progress, imports, earlier).await?;
        let outcome = part.all().await;
        failed.append(&mut part.failed);
        notes.append(&mut part.notes);
        let Part { cursor, recorder, resumed, imports: left, .. } = part;
        imports = left;
        match outcome {
            Ok(()) => done = Some((cursor, resumed)),
            Err(ImportError::Targets) => {}
            Err(err) => return Err(err),
        }
        recorder.end().await;
        earlier = imports.of(&plan.wish, &tried);
        if earlier.is_none() || plan.dry_run {
            break;
        }
    }
    match done {
        Some((cursor, resumed)) => Ok(Summary { cursor, resumed, failed, notes }),
        None => {
            let words = failed.iter().map(|(name, words)| format!("{name}: {words}"));
            Err(ImportError::NoTarget(words.collect()))
        }
    }
}

async fn load(data_dir: &Path) -> Result<Imports, LoadError> {
    let data_dir = data_dir.to_owned();
    tokio::task::spawn_blocking(move || Imports::load(&data_dir)).await.expect("reading does not panic")
}

async fn store(imports: &Imports, data_dir: &Path) -> Result<(), ImportError> {
    let (imports, data_dir) = (imports.clone(), data_dir.to_owned());
    let stored = tokio::task::spawn_blocking(move || imports.store(&data_dir)).await;
    Ok(stored.expect("writing does not panic")?)
}
