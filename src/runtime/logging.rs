//! The log: one line for people, or one JSON object for machines, on standard output, which the Supervisor's log panel
//! shows; and, for whoever wishes, the same in files that take turns.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use file_rotate::compression::Compression;
use file_rotate::suffix::AppendCount;
use file_rotate::{ContentLimit, FileRotate};
use tracing::Level;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::settings::{Log, LogFormat};

/// Below the folder for what must survive a restart.
pub const FILE: &str = "log/ha-ingestor.log";

/// The newest, and four older ones.
const FILES: usize = 5;
const FILE_BYTES: usize = 10 << 20;

/// Lines on their way to a file. A disk that hangs must not hold up the service: further lines are not in the file.
const WAITING_LINES: usize = 2_048;

/// The log while it runs. When the last clone goes, the file has every line.
#[derive(Clone)]
pub struct Control(Arc<Parts>);

struct Parts {
    level: Mutex<Level>,
    filter: Option<reload::Handle<EnvFilter, Registry>>,
    /// Lines that are not in the file.
    lost: Option<ErrorCounter>,
    _file: Option<WorkerGuard>,
}

impl Control {
    /// Of a log that was not started here.
    #[must_use]
    pub fn detached(level: Level) -> Self {
        Self(Arc::new(Parts { level: Mutex::new(level), filter: None, lost: None, _file: None }))
    }

    #[must_use]
    pub fn level(&self) -> Level {
        *self.0.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the next start.
    pub fn set_level(&self, level: Level) {
        *self.0.level.lock().unwrap_or_else(PoisonError::into_inner) = level;
        if let Some(filter) = &self.0.filter {
            // It fails only when the log has ended.
            let _ = filter.reload(what_counts(level));
        }
    }

    /// Lines that the log file lacks, because the disk was too slow.
    #[must_use]
    pub fn lost_lines(&self) -> u64 {
        self.0.lost.as_ref().map_or(0, |lost| lost.dropped_lines() as u64)
    }
}

/// Starts the log of the process. Called once; a second call changes nothing.
pub fn start(log: Log, data_dir: &Path) -> Control {
    let (filter, handle) = reload::Layer::new(what_counts(log.level));
    let (file, no_file) = match log.file.then(|| open(&data_dir.join(FILE))) {
        Some(Ok(file)) => (Some(file), None),
        Some(Err(err)) => (None, Some(err)),
        None => (None, None),
    };
    let lost = file.as_ref().map(|(writer, _)| writer.error_counter());
    let (writer, guard) = file.unzip();
    let with_target = log.level > Level::INFO;
    let screen = fmt::layer().with_target(with_target).with_ansi(io::stdout().is_terminal());
    let paper = writer.map(|writer| fmt::layer().with_target(with_target).with_ansi(false).with_writer(writer));
    let layers: Vec<Box<dyn Layer<_> + Send + Sync>> = match log.format {
        LogFormat::Text => [Some(screen.boxed()), paper.map(Layer::boxed)].into_iter().flatten().collect(),
        LogFormat::Json => {
            let paper = paper.map(|paper| paper.json().flatten_event(true).boxed());
            [Some(screen.json().flatten_event(true).boxed()), paper].into_iter().flatten().collect()
        }
    };
    if tracing_subscriber::registry().with(filter).with(layers).try_init().is_err() {
        tracing::debug!("the log was already started");
        return Control::detached(log.level);
    }
    if let Some(err) = no_file {
        tracing::warn!("{err}");
    }
    Control(Arc::new(Parts { level: Mutex::new(log.level), filter: Some(handle), lost, _file: guard }))
}

/// There is a log on standard output all the same.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the log to {}: {source}; free or repair the disk, or set `log.file` to false", path.display())]
struct NoFile {
    path: PathBuf,
    source: io::Error,
}

/// The files of an earlier run are gone on with.
fn open(path: &Path) -> Result<(NonBlocking, WorkerGuard), NoFile> {
    let no_file = |source| NoFile { path: path.to_owned(), source };
    std::fs::create_dir_all(path.parent().unwrap_or(path)).map_err(no_file)?;
    // The crate takes a file that cannot be opened for one that takes everything.
    std::fs::File::options().append(true).create(true).open(path).map_err(no_file)?;
    let files = FileRotate::new(
        path,
        AppendCount::new(FILES - 1),
        ContentLimit::BytesSurpassed(FILE_BYTES),
        Compression::None,
        None,
    );
    Ok(NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES).lossy(true).finish(files))
}

/// The libraries below us speak of their own connections at every level; their warnings are enough.
fn what_counts(level: Level) -> EnvFilter {
    let own = format!("ha_ingestor={level}");
    EnvFilter::default()
        .add_directive(LevelFilter::WARN.into())
        .add_directive(own.parse().expect("a crate name and a level make a directive"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::{FILE, FILE_BYTES, FILES, open};

    #[test]
    fn files_take_turns_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let line = |number: usize| format!("{number:07} {}\n", "x".repeat(FILE_BYTES / 16));
        let lines = 16 * (FILES + 2);
        for half in [0..lines / 2, lines / 2..lines] {
            let (writer, guard) = open(&path).unwrap();
            for number in half {
                writer.clone().write_all(line(number).as_bytes()).unwrap();
            }
            drop(guard);
        }
        let mut names: Vec<_> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|file| file.unwrap().path()).collect();
        names.sort();
        assert_eq!(names.len(), FILES, "{names:?}");
        // From the oldest to the newest.
        names[1..].reverse();
        names.rotate_left(1);
        let kept = names.iter().map(|name| fs::read_to_string(name).unwrap()).collect::<String>();
        let first = lines - kept.lines().count();
        assert!(kept.len() > (FILES - 1) * FILE_BYTES && first > 0, "{first}");
        assert!(kept.lines().enumerate().all(|(at, line)| line.starts_with(&format!("{:07} ", first + at))));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_said() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("log"), "a file").unwrap();
        let told = open(&folder.path().join(FILE)).err().unwrap().to_string();
        assert!(told.contains("log/ha-ingestor.log: ") && told.ends_with("or set `log.file` to false"), "{told}");
    }
}
