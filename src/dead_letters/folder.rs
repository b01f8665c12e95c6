//! The files of a store: their names, their lock, and how a line gets into one and out of it.

use std::collections::HashSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::letter::DeadLetter;
use crate::runtime::file::replace;

pub(super) struct Folder(PathBuf);

/// A file with letters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) number: u64,
    pub(super) version: Version,
}

/// Changes with the content of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) length: u64,
    inode: u64,
    changed: (i64, i64),
}

/// What each line holds; `None`: no letter.
pub(super) fn letters(bytes: &[u8]) -> impl Iterator<Item = Option<DeadLetter>> {
    lines(bytes).map(|line| serde_json::from_slice(line).ok())
}

/// With their line ends, without the empty ones.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty())
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn file(&self, number: u64) -> PathBuf {
        self.0.join(format!("{number:010}.jsonl"))
    }

    /// Held until it is dropped. Opened anew each time, so that it keeps threads apart as well as processes.
    pub(super) fn lock(&self) -> io::Result<File> {
        let file = File::options().create(true).truncate(false).write(true).open(self.0.join("lock"))?;
        file.lock()?;
        Ok(file)
    }

    /// Makes no file: a disk that takes none can still be read. `None`: nobody has written here yet.
    pub(super) fn lock_to_read(&self) -> io::Result<Option<File>> {
        match File::open(self.0.join("lock")) {
            Ok(file) => {
                file.lock_shared()?;
                Ok(Some(file))
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// The oldest first.
    pub(super) fn pieces(&self) -> io::Result<Vec<Piece>> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(err) => return Err(err),
        };
        let mut pieces = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.parse().ok());
            if let Some(number) = number {
                pieces.push(Piece { number, version: Version::of(&entry.metadata()?) });
            }
        }
        pieces.sort_by_key(|piece| piece.number);
        Ok(pieces)
    }

    /// All of the bytes or none. A line that a crash tore stays what it is, and is ended first.
    pub(super) fn append(&self, number: u64, mut bytes: Vec<u8>) -> io::Result<()> {
        let mut file = File::options().read(true).append(true).create(true).open(self.file(number))?;
        let length = file.metadata()?.len();
        if length > 0 {
            let mut last = [0];
            file.seek(SeekFrom::Start(length - 1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                bytes.insert(0, b'\n');
            }
        }
        if let Err(err) = file.write_all(&bytes) {
            file.set_len(length)?;
            return Err(err);
        }
        Ok(())
    }

    /// A file that is gone needs no syncing, and whoever rewrote one has synced it.
    pub(super) fn sync(&self, number: u64) -> io::Result<()> {
        match File::open(self.file(number)) {
            Ok(file) => file.sync_data(),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(err) => Err(err),
        }
    }

    /// The names of the files, which are not in the files.
    pub(super) fn sync_names(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    /// Returns how many letters went. All other lines stay, byte for byte. After a crash the file is the old or the new
    /// one.
    pub(super) fn remove_from(&self, number: u64, ids: &HashSet<String>) -> io::Result<u64> {
        let path = self.file(number);
        let bytes = fs::read(&path)?;
        let mut kept = Vec::with_capacity(bytes.len());
        let mut removed = 0;
        for line in lines(&bytes) {
            match serde_json::from_slice::<DeadLetter>(line) {
                Ok(letter) if ids.contains(&letter.id) => removed += 1,
                _ => kept.extend_from_slice(line),
            }
        }
        if removed == 0 {
            return Ok(0);
        }
        if kept.is_empty() {
            fs::remove_file(&path)?;
            return Ok(removed);
        }
        replace(&path, &kept)?;
        Ok(removed)
    }
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        let changed = (metadata.mtime(), metadata.mtime_nsec());
        Self { length: metadata.len(), inode: metadata.ino(), changed }
    }
}
