//! One service for one data folder: two would give the same records the same ids, and delete each other's files.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use tracing::warn;

/// Held until it is dropped, or the process is gone, however it went.
pub(super) struct Lock {
    /// `None`: the folder takes none, and so no records either. That is no reason not to deliver from memory.
    _file: Option<File>,
}

impl Lock {
    /// # Errors
    /// Another process has it, and nothing else.
    pub(super) fn take(folder: &Path) -> Result<Self, Taken> {
        let path = folder.join("lock");
        let locked = fs::create_dir_all(folder).and_then(|()| open(&path)).and_then(|file| match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(err)) => Err(err),
        });
        match locked {
            Ok(Some(file)) => Ok(Self { _file: Some(file) }),
            Ok(None) => Err(Taken(folder.display().to_string())),
            Err(err) => {
                warn!("cannot lock {}, so a second service on this folder would not be noticed: {err}", path.display());
                Ok(Self { _file: None })
            }
        }
    }
}

/// A folder that can only be read may hold the lock of an earlier run, which is as good.
fn open(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(path).or_else(|err| File::open(path).map_err(|_| err))
}

/// Somebody else has it.
#[derive(Debug, thiserror::Error)]
#[error("another ha-ingestor works in {0}: stop it first, or give this one a folder of its own with --data-dir")]
pub(super) struct Taken(String);

#[cfg(test)]
mod tests {
    use super::Lock;

    #[test]
    fn the_second_on_a_folder_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let first = Lock::take(&data).unwrap();
        let refusal = Lock::take(&data).err().expect("it is taken");
        assert!(refusal.to_string().contains(data.to_str().unwrap()), "{refusal}");
        drop(first);
        assert!(Lock::take(&data).is_ok());
    }

    #[test]
    fn a_folder_that_takes_no_lock_is_no_reason_not_to_start() {
        let folder = tempfile::tempdir().unwrap();
        let in_the_way = folder.path().join("data");
        std::fs::write(&in_the_way, "a file").unwrap();
        assert!(Lock::take(&in_the_way).is_ok());
    }
}
