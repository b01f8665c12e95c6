//! Lines that a database refused for good, kept on disk for whoever can repair the cause and send them again; and some of
//! the events that no line can be made of, for whoever can repair the rule.
//!
//! It knows files, and nothing of targets, tasks or the network. Its functions block.
//!
//! The rules it keeps:
//!
//! - A letter is one line of JSON. The files of the folder are in the order of time, and only the last one grows.
//! - Two processes may use a folder: the service adds while the `replay` command removes. Each operation holds the
//!   folder's lock, for its own length only.
//! - It is bounded: beyond the limit the oldest file goes, and its letters are counted.
//! - A line that cannot be read is skipped and counted. Nothing but the limit takes it away: a person may read it.

pub mod allowance;
mod folder;
pub mod letter;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::folder::{Folder, Piece, Version, letters};
use self::letter::DeadLetter;

/// The name of their folder where the service keeps what must survive a restart.
pub const FOLDER: &str = "dead-letters";

/// What the letters may take on disk.
pub const LIMIT_BYTES: u64 = 16 * 1024 * 1024;

/// A file that is larger gets no more letters.
const FILE_BYTES: u64 = 1024 * 1024;

/// Cheap to clone; all clones are one store. Each operation opens the files afresh.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    folder: Folder,
    limit_bytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Files with letters that a power cut would take.
    unsynced: BTreeSet<u64>,
    /// What was counted in a file, so that nothing is read twice.
    counted: HashMap<u64, (Version, Count)>,
}

/// What happened to older letters when new ones came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct Added {
    /// Letters that had to go because of the limit.
    pub evicted: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub letters: u64,
    /// Lines that are no letters.
    pub unreadable: u64,
}

/// None of the letters is kept.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    #[error("cannot use the folder {}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl Store {
    /// Touches nothing: the folder is made when the first letter comes, and one that is not there holds no letters.
    #[must_use]
    pub fn open(folder: impl Into<PathBuf>, limit_bytes: u64) -> Self {
        let folder = Folder::new(folder.into());
        Self { shared: Arc::new(Shared { folder, limit_bytes, state: Mutex::default() }) }
    }

    /// Keeps all of these letters or none, with one write. They survive a crash of the program at once, and a power cut
    /// after [`Self::sync`].
    ///
    /// The file that they are written to stays whatever the limit.
    pub fn add(&self, letters: &[DeadLetter]) -> Result<Added, AddError> {
        if letters.is_empty() {
            return Ok(Added::default());
        }
        let mut bytes = Vec::new();
        for letter in letters {
            serde_json::to_writer(&mut bytes, letter).expect("texts make JSON, and memory takes it");
            bytes.push(b'\n');
        }
        let Shared { folder, .. } = &*self.shared;
        let mut state = self.state();
        let refused = |source| AddError::Folder { path: folder.path().to_owned(), source };
        fs::create_dir_all(folder.path()).map_err(refused)?;
        let _lock = folder.lock().map_err(refused)?;
        let number = match folder.pieces().map_err(refused)?.last() {
            Some(last) if last.version.length + bytes.len() as u64 <= FILE_BYTES => last.number,
            Some(last) => last.number + 1,
            None => 1,
        };
        folder.append(number, bytes).map_err(|source| AddError::Write { path: folder.file(number), source })?;
        state.unsynced.insert(number);
        Ok(Added { evicted: self.evict(&mut state, number) })
    }

    /// Makes what was added safe from a power cut. Costs nothing when nothing was.
    pub fn sync(&self) -> io::Result<()> {
        let unsynced = std::mem::take(&mut self.state().unsynced);
        if unsynced.is_empty() {
            return Ok(());
        }
        let folder = &self.shared.folder;
        let synced = unsynced.iter().try_for_each(|number| folder.sync(*number)).and_then(|()| folder.sync_names());
        if synced.is_err() {
            self.state().unsynced.extend(unsynced);
        }
        synced
    }

    /// The newest letters first, at most `limit` of them; those of one target, if one is named.
    pub fn list(&self, limit: usize, target: Option<&str>) -> io::Result<Vec<DeadLetter>> {
        let folder = &self.shared.folder;
        let _lock = folder.lock_to_read()?;
        let mut listed = Vec::new();
        for piece in folder.pieces()?.iter().rev() {
            if listed.len() >= limit {
                break;
            }
            let bytes = fs::read(folder.file(piece.number))?;
            let wanted = |letter: &DeadLetter| target.is_none_or(|target| letter.target == target);
            let found = letters(&bytes).flatten().filter(wanted).collect::<Vec<_>>();
            listed.extend(found.into_iter().rev().take(limit - listed.len()));
        }
        Ok(listed)
    }

    /// What is kept now. Reads only what has changed since the last time.
    pub fn count(&self) -> io::Result<Count> {
        let folder = &self.shared.folder;
        let mut state = self.state();
        let _lock = folder.lock_to_read()?;
        let pieces = folder.pieces()?;
        state.counted.retain(|number, _| pieces.iter().any(|piece| piece.number == *number));
        let mut sum = Count::default();
        for piece in &pieces {
            let Count { letters, unreadable } = self.count_in(&mut state, piece)?;
            sum.letters += letters;
            sum.unreadable += unreadable;
        }
        Ok(sum)
    }

    /// Removes these letters and returns how many were there. When it fails, some may be gone.
    pub fn remove(&self, ids: &HashSet<String>) -> io::Result<u64> {
        let folder = &self.shared.folder;
        if ids.is_empty() || !folder.path().exists() {
            return Ok(0);
        }
        let _lock = folder.lock()?;
        let mut removed = 0;
        for piece in folder.pieces()? {
            removed += folder.remove_from(piece.number, ids)?;
        }
        if removed > 0 {
            folder.sync_names()?;
        }
        Ok(removed)
    }

    /// Makes room, oldest first, but keeps the file `newest`. The lock is held.
    fn evict(&self, state: &mut State, newest: u64) -> u64 {
        let folder = &self.shared.folder;
        let mut evicted = 0;
        let result = folder.pieces().and_then(|pieces| {
            let mut bytes: u64 = pieces.iter().map(|piece| piece.version.length).sum();
            for piece in pieces.iter().filter(|piece| piece.number != newest) {
                if bytes <= self.shared.limit_bytes {
                    break;
                }
                // A file that cannot be read any more is no reason to fill the disk.
                let count = self.count_in(state, piece).unwrap_or_default();
                fs::remove_file(folder.file(piece.number))?;
                evicted += count.letters;
                bytes -= piece.version.length;
            }
            Ok(())
        });
        // The new letters are kept, which is what was asked for; the next ones try again.
        if let Err(err) = result {
            tracing::warn!("cannot remove the oldest dead letters: {err}");
        }
        evicted
    }

    fn count_in(&self, state: &mut State, piece: &Piece) -> io::Result<Count> {
        if let Some((version, count)) = state.counted.get(&piece.number)
            && *version == piece.version
        {
            return Ok(*count);
        }
        let bytes = fs::read(self.shared.folder.file(piece.number))?;
        let mut count = Count::default();
        for letter in letters(&bytes) {
            match letter {
                Some(_) => count.letters += 1,
                None => count.unreadable += 1,
            }
        }
        state.counted.insert(piece.number, (piece.version, count));
        Ok(count)
    }

    /// Nothing in it is half done when a thread that holds it panics.
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
