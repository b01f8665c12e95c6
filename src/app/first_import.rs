//! Import at the first start (`history.import_on_first_start`): noted on disk before the first request, and retried, also at
//! later starts, until it is done.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use crate::config::settings::Settings;
use crate::history::import::cursor::{self, Imports};
use crate::runtime::file::replace;
use crate::runtime::repeats::{Repeats, Worth};
use crate::status::board::Board;

/// In the folder for what must survive a restart.
const FILE: &str = "first-import.json";
/// After the first failure; twice as long after each further one.
const PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

#[derive(Serialize, Deserialize)]
struct Note {
    done: bool,
}

pub(super) struct FirstImport {
    path: PathBuf,
    due: Instant,
    pause: Duration,
    failures: Repeats<String>,
}

impl FirstImport {
    /// `None`: nobody wishes for it, it is done, or there was a start before anybody wished for it. It blocks.
    pub(super) fn open(settings: &Settings, board: &Board) -> Option<Self> {
        if !settings.history.import_on_first_start {
            return None;
        }
        let data_dir = &settings.place.data_dir;
        let path = data_dir.join(FILE);
        let is_first = board.targets.iter().all(|target| target.backlog.watermark.get().is_none());
        // Versions before this one noted it nowhere else.
        let was_begun = data_dir.join(cursor::FILE).exists();
        let is_unfinished = || Imports::load(data_dir).is_ok_and(|imports| imports.has_all());
        match read(&path) {
            Ok(Some(Note { done: false })) => {}
            Ok(None) if is_first && !was_begun || was_begun && is_unfinished() => note(&path, false),
            Ok(_) => return None,
            Err(err) if err.kind() != io::ErrorKind::InvalidData && err.kind() != io::ErrorKind::UnexpectedEof => {
                warn!(
                    "cannot read {}: {err}; it is not known whether the import at the first start is done",
                    path.display()
                );
                return None;
            }
            Err(err) => {
                warn!("{} is damaged ({err}): the import at the first start is done once more", path.display());
                note(&path, false);
            }
        }
        Some(Self { path, due: Instant::now(), pause: PAUSE, failures: Repeats::default() })
    }

    pub(super) async fn due(&self) {
        sleep_until(self.due).await;
    }

    pub(super) fn failed(&mut self, words: &str) {
        let seconds = self.pause.as_secs();
        match self.failures.failed(words.to_owned(), std::time::Instant::now()) {
            Worth::Nothing => debug!("the import at the first start: {words}; trying again in {seconds} s"),
            _ => warn!("the import at the first start: {words}; trying again until it is done"),
        }
        self.due = Instant::now() + self.pause;
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
    }

    pub(super) fn done(self) {
        info!("the import at the first start is done");
        note(&self.path, true);
    }
}

fn read(path: &Path) -> io::Result<Option<Note>> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

fn note(path: &Path, done: bool) {
    let text = serde_json::to_vec(&Note { done }).expect("a word can always be written");
    if let Err(err) = replace(path, &text) {
        warn!("cannot write {}: {err}; it is not noted whether the import at the first start is done", path.display());
    }
}
