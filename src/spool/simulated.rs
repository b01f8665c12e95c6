//! A folder in memory, for tests. It knows what would survive a power cut, and it fails when it is told to.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use super::storage::{Listed, Storage};

/// Cheap to clone; all clones are the same folder.
#[derive(Clone)]
pub(super) struct Simulated(Arc<Mutex<Folder>>);

#[derive(Default)]
struct Folder {
    files: BTreeMap<String, usize>,
    /// What `files` is after a power cut.
    durable_files: BTreeMap<String, usize>,
    contents: Vec<Content>,
    failures: Vec<(Operation, ErrorKind)>,
    counts: BTreeMap<Operation, u64>,
}

#[derive(Default, Clone)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// A failed sync forgot these: no later one brings them to the disk.
    forgotten: Vec<Range<usize>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Create,
    Open,
    Write,
    Read,
    Truncate,
    Sync,
    SyncNames,
    Remove,
    Replace,
}

/// What a power cut makes of bytes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsynced {
    Lost,
    /// The first part of them is there.
    Torn(u8),
    /// The file is as long as it was, and they are zeros.
    Zeroed,
    Kept,
}

impl Simulated {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Folder::default())))
    }

    /// The next call of this operation fails; a write leaves half of its bytes behind.
    pub(super) fn fail_next(&self, operation: Operation, kind: ErrorKind) {
        self.lock().failures.push((operation, kind));
    }

    pub(super) fn heal(&self) {
        self.lock().failures.clear();
    }

    pub(super) fn count(&self, operation: Operation) -> u64 {
        self.lock().counts.get(&operation).copied().unwrap_or_default()
    }

    /// Everybody who had a file open must be gone.
    pub(super) fn cut_power(&self, unsynced: Unsynced) {
        let mut folder = self.lock();
        if unsynced != Unsynced::Lost {
            folder.durable_files = folder.files.clone();
        }
        for content in &mut folder.contents {
            let before = content.durable.len().min(content.bytes.len());
            match unsynced {
                Unsynced::Lost => {}
                Unsynced::Torn(part) => {
                    let rest = content.bytes[before..].to_vec();
                    let kept = rest.len() * usize::from(part) / 256;
                    content.durable.extend_from_slice(&rest[..kept]);
                }
                Unsynced::Zeroed => content.durable.resize(content.bytes.len().max(before), 0),
                Unsynced::Kept => content.durable.clone_from(&content.bytes),
            }
            content.bytes.clone_from(&content.durable);
            content.forgotten.clear();
        }
        folder.files = folder.durable_files.clone();
        folder.failures.clear();
    }

    /// What a failed sync forgot is not read any more, because the system needed the memory for something else.
    pub(super) fn evict(&self) {
        for content in &mut self.lock().contents {
            for lost in &content.forgotten {
                let end = lost.end.min(content.bytes.len());
                content.bytes[lost.start.min(end)..end].fill(0);
            }
        }
    }

    /// A durable file with this content.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        let mut folder = self.lock();
        let content = Content { bytes: bytes.to_vec(), durable: bytes.to_vec(), ..Content::default() };
        folder.contents.push(content);
        let place = folder.contents.len() - 1;
        folder.files.insert(name.to_owned(), place);
        folder.durable_files.insert(name.to_owned(), place);
    }

    /// As [`Simulated::put`], of a file that is there.
    pub(super) fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.bytes(name);
        change(&mut bytes);
        self.put(name, &bytes);
    }

    pub(super) fn take_away(&self, name: &str) {
        let mut folder = self.lock();
        folder.files.remove(name);
        folder.durable_files.remove(name);
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.lock().files.keys().cloned().collect()
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let folder = self.lock();
        folder.contents[folder.files[name]].bytes.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Folder> {
        self.0.lock().unwrap()
    }
}

impl Folder {
    fn begin(&mut self, operation: Operation) -> io::Result<()> {
        *self.counts.entry(operation).or_default() += 1;
        match self.failures.iter().position(|(failing, _)| *failing == operation) {
            Some(place) => Err(self.failures.remove(place).1.into()),
            None => Ok(()),
        }
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.files.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Storage for Simulated {
    type File = usize;

    fn list(&self) -> io::Result<Vec<Listed>> {
        let folder = self.lock();
        let listed = |(name, place): (&String, &usize)| Listed {
            name: name.clone(),
            bytes: folder.contents[*place].bytes.len() as u64,
        };
        Ok(folder.files.iter().map(listed).collect())
    }

    fn create(&self, name: &str) -> io::Result<usize> {
        let mut folder = self.lock();
        folder.begin(Operation::Create)?;
        folder.contents.push(Content::default());
        let place = folder.contents.len() - 1;
        folder.files.insert(name.to_owned(), place);
        Ok(place)
    }

    fn open(&self, name: &str) -> io::Result<usize> {
        let mut folder = self.lock();
        folder.begin(Operation::Open)?;
        folder.find(name)
    }

    fn write_at(&self, file: &usize, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut folder = self.lock();
        let outcome = folder.begin(Operation::Write);
        let bytes = if outcome.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        let content = &mut folder.contents[*file].bytes;
        let at = usize::try_from(at).unwrap();
        assert!(at <= content.len(), "a write leaves no hole");
        content.resize(content.len().max(at + bytes.len()), 0);
        content[at..at + bytes.len()].copy_from_slice(bytes);
        outcome
    }

    fn read_at(&self, file: &usize, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut folder = self.lock();
        folder.begin(Operation::Read)?;
        let content = &folder.contents[*file].bytes;
        let from = usize::try_from(at).unwrap().min(content.len());
        let count = into.len().min(content.len() - from);
        into[..count].copy_from_slice(&content[from..from + count]);
        Ok(count)
    }

    fn truncate(&self, file: &usize, length: u64) -> io::Result<()> {
        let mut folder = self.lock();
        folder.begin(Operation::Truncate)?;
        let length = usize::try_from(length).unwrap();
        folder.contents[*file].bytes.resize(length, 0);
        Ok(())
    }

    fn sync(&self, file: &usize) -> io::Result<()> {
        let mut folder = self.lock();
        let outcome = folder.begin(Operation::Sync);
        let content = &mut folder.contents[*file];
        if outcome.is_err() {
            content.forgotten.push(content.durable.len()..content.bytes.len());
            return outcome;
        }
        content.durable.clone_from(&content.bytes);
        for lost in &content.forgotten {
            let end = lost.end.min(content.durable.len());
            content.durable[lost.start.min(end)..end].fill(0);
        }
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut folder = self.lock();
        folder.begin(Operation::SyncNames)?;
        folder.durable_files = folder.files.clone();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut folder = self.lock();
        folder.begin(Operation::Remove)?;
        folder.find(name)?;
        folder.files.remove(name);
        Ok(())
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let mut folder = self.lock();
        folder.begin(Operation::Read)?;
        Ok(folder.find(name).ok().map(|place| folder.contents[place].bytes.clone()))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut folder = self.lock();
        folder.begin(Operation::Replace)?;
        // As on a disk that only says that it has synced: what a power cut leaves of it is for `cut_power` to say.
        folder.contents.push(Content { bytes: bytes.to_vec(), ..Content::default() });
        let place = folder.contents.len() - 1;
        folder.files.insert(name.to_owned(), place);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::{Operation, Simulated, Unsynced};
    use crate::spool::storage::Storage as _;

    fn after(unsynced: Unsynced, second_sync: bool) -> Option<Vec<u8>> {
        let storage = Simulated::new();
        let file = storage.create("a").unwrap();
        storage.sync_names().unwrap();
        storage.write_at(&file, 0, b"safe").unwrap();
        storage.sync(&file).unwrap();
        storage.write_at(&file, 4, b"more").unwrap();
        if second_sync {
            storage.fail_next(Operation::Sync, ErrorKind::Other);
            assert!(storage.sync(&file).is_err());
            storage.sync(&file).unwrap();
        }
        storage.cut_power(unsynced);
        storage.names().contains(&"a".to_owned()).then(|| storage.bytes("a"))
    }

    #[test]
    fn a_power_cut_takes_what_was_not_synced_and_only_that() {
        for (unsynced, left) in [
            (Unsynced::Lost, &b"safe"[..]),
            (Unsynced::Torn(128), b"safemo"),
            (Unsynced::Zeroed, b"safe\0\0\0\0"),
            (Unsynced::Kept, b"safemore"),
        ] {
            assert_eq!(after(unsynced, false).as_deref(), Some(left), "{unsynced:?}");
        }
    }

    #[test]
    fn a_sync_after_a_failed_one_says_yes_and_saves_nothing() {
        assert_eq!(after(Unsynced::Lost, true).as_deref(), Some(&b"safe\0\0\0\0"[..]));
    }

    #[test]
    fn a_name_that_was_not_synced_is_lost_or_comes_back() {
        let storage = Simulated::new();
        storage.create("new").unwrap();
        storage.put("old", b"x");
        storage.remove("old").unwrap();
        storage.cut_power(Unsynced::Lost);
        assert_eq!(storage.names(), ["old"]);
    }
}
