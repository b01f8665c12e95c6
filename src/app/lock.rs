//! One service for one data folder: two would give the same records the same ids, and delete each other's files.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use anyhow::{Context, bail};

/// Held until it is dropped, or the process is gone, however it went.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("lock");
        fs::create_dir_all(folder).with_context(|| format!("cannot make the data folder {}", folder.display()))?;
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => bail!(Taken(folder.display().to_string())),
            Err(TryLockError::Error(err)) => Err(err).with_context(|| format!("cannot lock {}", path.display())),
        }
    }
}

/// Somebody else has it.
#[derive(Debug, thiserror::Error)]
#[error("another ha-ingestor works in {0}: stop it first, or give this one a folder of its own with --data-dir")]
pub(super) struct Taken(String);
