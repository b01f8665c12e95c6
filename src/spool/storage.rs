//! What the spool needs of a folder, and the folder itself.
//!
//! A file is written at places that the caller names, so that a write which failed half-way leaves no position behind
//! that nobody knows. The order in which things become durable is the caller's business: [`Storage::sync`] for what is
//! in a file, [`Storage::sync_names`] for which files there are.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use crate::runtime::file;

pub trait Storage: Send + Sync + 'static {
    type File: Send;

    /// The files, in any order.
    fn list(&self) -> io::Result<Vec<Listed>>;

    /// An empty file for writing and reading, in the place of one with that name.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// A file for reading.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// # Errors
    /// Some of the bytes may be there after an error.
    fn write_at(&self, file: &Self::File, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// How many bytes were read: fewer than there is room for only at the end of the file.
    fn read_at(&self, file: &Self::File, at: u64, into: &mut [u8]) -> io::Result<usize>;

    fn truncate(&self, file: &Self::File, length: u64) -> io::Result<()>;

    /// # Errors
    /// What was written since the last time may be lost, and a second attempt on the same file proves nothing: the
    /// system reports such an error once and forgets the bytes.
    fn sync(&self, file: &Self::File) -> io::Result<()>;

    /// Makes durable which files there are.
    fn sync_names(&self) -> io::Result<()>;

    fn remove(&self, name: &str) -> io::Result<()>;

    /// All of a small file. `None` if there is none.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Puts a small file in the place of another in one step, and makes sure of it.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub bytes: u64,
}

/// A folder of the system.
#[derive(Debug, Clone)]
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Touches nothing: the folder is made with its first file.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }
}

impl Storage for Disk {
    type File = File;

    fn list(&self) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(listed),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let about = match entry.metadata() {
                Ok(about) => about,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if about.is_file() {
                listed.push(Listed { name: entry.file_name().to_string_lossy().into_owned(), bytes: about.len() });
            }
        }
        Ok(listed)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        std::fs::create_dir_all(&self.folder)?;
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(self.folder.join(name))
    }

    fn open(&self, name: &str) -> io::Result<File> {
        File::open(self.folder.join(name))
    }

    fn write_at(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn read_at(&self, file: &File, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match file.read_at(&mut into[done..], at + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.folder.join(name))
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.folder.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        file::replace(&self.folder.join(name), bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Disk, Listed, Storage};

    #[test]
    fn a_folder_keeps_what_is_written_where_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path().join("spool"));
        let file = disk.create("a").unwrap();
        disk.write_at(&file, 0, b"hello world").unwrap();
        disk.truncate(&file, 5).unwrap();
        disk.write_at(&file, 5, b"!").unwrap();
        disk.sync(&file).unwrap();
        disk.sync_names().unwrap();
        let mut into = [0; 9];
        assert_eq!(disk.read_at(&disk.open("a").unwrap(), 1, &mut into).unwrap(), 5);
        assert_eq!(&into[..5], b"ello!");
        assert_eq!(disk.list().unwrap(), [Listed { name: "a".to_owned(), bytes: 6 }]);
        disk.remove("a").unwrap();
        assert_eq!(disk.list().unwrap(), []);
    }

    #[test]
    fn a_small_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path());
        assert_eq!(disk.read("state").unwrap(), None);
        for text in [&b"a long one"[..], b"short"] {
            disk.replace("state", text).unwrap();
            assert_eq!(disk.read("state").unwrap().as_deref(), Some(text));
        }
        assert_eq!(disk.list().unwrap().len(), 1);
    }
}
