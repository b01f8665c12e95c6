//! What was found when the spool was opened, and who lacks it.

use std::fmt;
use std::io;
use std::ops::Range;

use super::pending::Pending;
use super::state::State;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot list the files of the spool: {0}")]
    List(#[source] io::Error),
    /// Nothing was touched.
    #[error("`{file}` of the spool has the format {version}, which a newer version of this program wrote")]
    NewerFormat { file: String, version: u8 },
}

impl OpenError {
    pub(super) fn newer(file: &str, version: u8) -> Self {
        Self::NewerFormat { file: file.to_owned(), version }
    }
}

/// What was there when the spool was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// In the order of the readers.
    pub readers: Vec<RecoveredReader>,
    /// Readers that are no longer among them, with the number of records that they lacked; these are gone.
    pub dropped_readers: Vec<(String, u64)>,
    pub findings: Vec<Finding>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoveredReader {
    /// Records that wait on the disk.
    pub records: u64,
    /// Records that were on the disk and are not any more. They are not among `records`.
    pub missing: u64,
}

/// What is not as it should be in the folder. None of it keeps the spool from working.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// No file of ours. It stays.
    Foreign { file: String },
    /// A segment that bears the name of another one. It stays.
    Misnamed { file: String },
    /// A segment that cannot be read now. It counts as sound, and is tried again when its records are needed.
    Unreadable { file: String, why: String },
    /// A segment that is empty, or all of it damaged. It is removed.
    NoRecords { file: String },
    /// The end of a segment was being written, or is damaged.
    Torn { file: String, bytes: u64 },
    /// It was read, and might not survive a power cut.
    Unsynced { file: String, why: String },
    /// What the readers have taken is not known: they get everything once more.
    StateDamaged,
    /// The same, and there are records.
    StateMissing,
    /// The disk takes nothing.
    ReadOnly { why: String },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { file } => write!(f, "`{file}` is no file of the spool and is ignored"),
            Self::Misnamed { file } => write!(f, "`{file}` bears the name of another segment and is ignored"),
            Self::Unreadable { file, why } => write!(f, "`{file}` cannot be read and is tried again: {why}"),
            Self::NoRecords { file } => write!(f, "`{file}` holds no record that can be read and is removed"),
            Self::Torn { file, bytes } => write!(f, "the last {bytes} bytes of `{file}` are no whole record"),
            Self::Unsynced { file, why } => write!(f, "`{file}` might not survive a power cut: {why}"),
            Self::StateDamaged => f.write_str("it is not known what was delivered: all records are sent once more"),
            Self::StateMissing => f.write_str("it was not noted what was delivered: all records are sent once more"),
            Self::ReadOnly { why } => write!(f, "nothing can be written: {why}"),
        }
    }
}

/// What a reader lacks of what is on the disk.
pub(super) fn claim(
    name: &str,
    state: Option<&State>,
    on_disk: &[Range<u64>],
    next_id: u64,
) -> (Pending, RecoveredReader) {
    let (lacked, safe_id) = match state {
        // Old records are not the business of a new reader.
        Some(state) => match state.readers.get(name) {
            Some(reader) => (Pending::of(reader.pending.iter().cloned(), state.next_id), state.safe_id),
            None => (Pending::from(next_id), 0),
        },
        None => (Pending::from(0), 0),
    };
    let there = on_disk.iter().flat_map(|ids| lacked.within(ids.clone()));
    let pending = Pending::of(there, next_id);
    let missing = lacked.count(0..safe_id) - pending.count(0..safe_id.min(next_id));
    (pending.clone(), RecoveredReader { records: pending.count(0..next_id), missing })
}
