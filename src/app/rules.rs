//! The file `rules.yaml`: read at the start, and again whenever it changes.
//!
//! It is looked at every two seconds. That works on every file system and for editors that put a new file in the place of
//! the old one. What is found is taken when it is found twice, so that a file is not read while somebody writes it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::settings::{RulesFile, Settings};
use crate::rules::{self, InvalidRules, Rules};
use crate::runtime::alive::beating;
use crate::runtime::clock;
use crate::status::board::Board;

const EVERY: Duration = Duration::from_secs(2);

/// The rules cannot be used. `Display` is one line per fault.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnusableRules {
    #[error("{}", each_with_its_file(.file, .faults))]
    Invalid { file: String, faults: InvalidRules },
    #[error("cannot read {file}: {problem}")]
    Unreadable { file: String, problem: String },
}

fn each_with_its_file(file: &str, invalid: &InvalidRules) -> String {
    invalid.faults().iter().map(|fault| format!("{file}: {fault}")).collect::<Vec<_>>().join("\n")
}

/// What was found where the file should be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Text(String),
    Nothing,
    Unreadable(String),
}

/// Rules that count, and what they were made of.
pub(super) struct Loaded {
    pub(super) rules: Arc<Rules>,
    pub(super) warnings: Vec<String>,
    file: RulesFile,
    /// What the options say alone.
    options: Rules,
    found: Found,
}

impl Loaded {
    /// What counts, for people.
    pub(super) fn summary(&self) -> String {
        match self.found {
            Found::Text(_) => format!("{}: {}", self.file.path.display(), counts(&self.rules)),
            _ => format!("{} is not there: the options alone count", self.file.path.display()),
        }
    }

    /// Says what counts in the log and on the board.
    pub(super) fn announce(&self, board: &Board) {
        if matches!(self.found, Found::Text(_)) {
            info!("{}", self.summary());
        }
        warn_of(&self.warnings, &self.file);
        let file = self.file.path.display().to_string();
        board.rules.started(
            &file,
            self.rules.rules.len(),
            self.rules.topics.len(),
            self.warnings.clone(),
            clock::now(),
        );
    }
}

fn counts(rules: &Rules) -> String {
    let number = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    format!("{}, {}", number(rules.rules.len(), "rule"), number(rules.topics.len(), "topic"))
}

fn warn_of(warnings: &[String], file: &RulesFile) {
    for warning in warnings {
        warn!("{}: {warning}", file.path.display());
    }
}

/// What the options and the file say together.
pub(super) fn load(settings: &Settings) -> Result<Loaded, UnusableRules> {
    let options = Rules {
        skip_restored: settings.history.skip_restored,
        ..Rules::of(settings.filter.clone(), settings.schema.clone(), settings.events.clone())
    };
    let file = settings.place.rules.clone();
    let found = look(&file.path);
    let (rules, warnings) = judge(&found, &file, &options)?;
    Ok(Loaded { rules: Arc::new(rules), warnings, file, options, found })
}

/// Reads what is there, but no more than a file of rules may hold.
fn look(path: &Path) -> Found {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(rules::MOST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Found::Text(text),
            // The end may have been cut within a letter.
            Err(cut) if cut.as_bytes().len() > rules::MOST_BYTES => {
                Found::Text(String::from_utf8_lossy(cut.as_bytes()).into_owned())
            }
            Err(_) => Found::Unreadable("it is not UTF-8 text: save it as UTF-8".to_owned()),
        },
        // Whoever cannot have a file there has none.
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Found::Nothing,
        Err(err) => Found::Unreadable(err.to_string()),
    }
}

fn judge(found: &Found, file: &RulesFile, options: &Rules) -> Result<(Rules, Vec<String>), UnusableRules> {
    let name = || file.path.display().to_string();
    let text = match found {
        Found::Text(text) => text,
        Found::Nothing if !file.must_be_there => return Ok((options.clone(), Vec::new())),
        Found::Nothing => {
            return Err(UnusableRules::Unreadable { file: name(), problem: "it is not there".to_owned() });
        }
        Found::Unreadable(problem) => {
            return Err(UnusableRules::Unreadable { file: name(), problem: problem.clone() });
        }
    };
    match rules::load(text, options) {
        Ok((rules, warnings)) => Ok((rules, warnings.iter().map(ToString::to_string).collect())),
        Err(faults) => Err(UnusableRules::Invalid { file: name(), faults }),
    }
}

/// Decides when what is found is another file, and whole.
struct Watcher {
    taken: Found,
    /// Found once.
    candidate: Option<Found>,
}

impl Watcher {
    fn see(&mut self, found: Found) -> Option<&Found> {
        if found == self.taken {
            self.candidate = None;
            return None;
        }
        if self.candidate.as_ref() != Some(&found) {
            self.candidate = Some(found);
            return None;
        }
        self.candidate = None;
        self.taken = found;
        Some(&self.taken)
    }
}

/// Sends other rules when the file changes; when it is wrong, those from before stay.
pub(super) async fn watch(
    loaded: Loaded,
    sender: watch::Sender<Arc<Rules>>,
    board: Arc<Board>,
    stop: CancellationToken,
) {
    let Loaded { file, options, found, .. } = loaded;
    let mut watcher = Watcher { taken: found, candidate: None };
    let work = async {
        loop {
            tokio::time::sleep(EVERY).await;
            let path = file.path.clone();
            let found = tokio::task::spawn_blocking(move || look(&path)).await.expect("looking does not panic");
            if let Some(found) = watcher.see(found) {
                follow(found, &file, &options, &sender, &board);
            }
        }
    };
    // A disk that does not answer leaves the rules as they are, and keeps nobody from stopping.
    let work = beating(|| board.beat("rules", Instant::now()), work);
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

fn follow(found: &Found, file: &RulesFile, options: &Rules, sender: &watch::Sender<Arc<Rules>>, board: &Board) {
    let name = file.path.file_name().unwrap_or_default().display();
    match judge(found, file, options) {
        Ok((rules, warnings)) => {
            let counted = counts(&rules);
            board.rules.applied(rules.rules.len(), rules.topics.len(), warnings.clone(), clock::now());
            sender.send_if_modified(|current| {
                let is_other = **current != rules;
                if is_other {
                    *current = Arc::new(rules);
                }
                is_other
            });
            // Whoever reads the log finds it so.
            match found {
                Found::Text(_) => info!("{name} was read again: {counted}"),
                _ => warn!("{name} is gone: the options alone count"),
            }
            warn_of(&warnings, file);
        }
        Err(unusable) => {
            board.rules.refused(unusable.to_string(), clock::now());
            let mut words = unusable.to_string();
            write!(words, "\nthe rules from before stay").expect("writing to a string cannot fail");
            for line in words.lines() {
                error!("{line}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use tempfile::TempDir;
    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;

    use super::{EVERY, Found, Watcher, load, watch as watch_file};
    use crate::config::place::Flags;
    use crate::model::time::Timestamp;
    use crate::status::board::Board;

    fn text(text: &str) -> Found {
        Found::Text(text.to_owned())
    }

    #[test]
    fn a_change_counts_once_it_was_found_twice() {
        let mut watcher = Watcher { taken: text("a"), candidate: None };
        let mut see = |found: Found| watcher.see(found).is_some();
        assert!(!see(text("a")));
        // An editor writes, and is seen in the middle of it.
        assert!(!see(text("b")) && !see(text("bc")) && see(text("bc")) && !see(text("bc")));
        // Another one takes the file away for a moment.
        assert!(!see(Found::Nothing) && !see(text("bc")));
        assert!(!see(Found::Nothing) && see(Found::Nothing) && !see(Found::Nothing));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_changes_is_followed_and_a_wrong_one_is_not() {
        let folder = TempDir::new().unwrap();
        let flags = Flags { data_dir: Some(folder.path().to_owned()), ..Flags::default() };
        let settings = crate::config::load(&flags, []).unwrap();
        let file = folder.path().join("rules.yaml");
        let loaded = load(&settings).unwrap();
        assert!(loaded.summary().contains("is not there"), "{}", loaded.summary());

        let board = Arc::new(Board::new(Instant::now(), Timestamp::from_micros(0)));
        loaded.announce(&board);
        let (sender, mut receiver) = watch::channel(Arc::clone(&loaded.rules));
        let stop = CancellationToken::new();
        let (watched, stopping) = (Arc::clone(&board), stop.clone());
        let story = async move {
            let seen = || board.snapshot(Instant::now(), Timestamp::from_micros(0)).rules;
            fs::write(&file, "rules: [{drop: true}]").unwrap();
            receiver.changed().await.unwrap();
            assert_eq!(receiver.borrow_and_update().rules.len(), 1);
            assert_eq!((seen().valid, seen().rules, seen().reloads.applied), (true, 1, 1));

            fs::write(&file, "rules: [{dorp: true}]").unwrap();
            while seen().valid {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let error = seen().error.unwrap();
            assert!(error.contains("rules.yaml: line 1, column 10: unknown key `rules[0].dorp`"), "{error}");
            assert_eq!((seen().rules, seen().reloads.applied, seen().reloads.refused), (1, 1, 1));

            fs::remove_file(&file).unwrap();
            receiver.changed().await.unwrap();
            assert_eq!(receiver.borrow_and_update().rules.len(), 0);
            assert_eq!((seen().valid, seen().error, seen().reloads.applied), (true, None, 2));

            // Nothing happens, so nothing is sent.
            tokio::time::sleep(EVERY * 5).await;
            assert!(!receiver.has_changed().unwrap());
            stopping.cancel();
        };
        tokio::join!(watch_file(loaded, sender, watched, stop), story);
    }

    #[test]
    fn a_file_that_somebody_named_has_to_be_there_and_to_be_text() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("mine.yaml");
        let flags = Flags { rules: Some(file.clone()), ..Flags::default() };
        let settings = crate::config::load(&flags, []).unwrap();
        let told = || load(&settings).err().map(|err| err.to_string()).unwrap_or_default();
        assert!(told().ends_with("mine.yaml: it is not there"), "{}", told());
        fs::write(&file, [0xff, b'a']).unwrap();
        assert!(told().ends_with("mine.yaml: it is not UTF-8 text: save it as UTF-8"), "{}", told());
        fs::write(&file, "a: 1\nb: 2").unwrap();
        assert_eq!(told().lines().filter(|line| line.contains("mine.yaml: line ")).count(), 2, "{}", told());
        fs::write(&file, "ü".repeat(crate::rules::MOST_BYTES)).unwrap();
        assert!(told().contains("may have at most 1048576"), "{}", told());
        fs::write(&file, "").unwrap();
        assert_eq!(told(), "");
    }
}
