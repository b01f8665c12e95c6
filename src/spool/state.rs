//! What the spool notes beside its segments: which records each reader still lacks, and how far it is safe.
//!
//! The note is a help, not a truth. Without it, or with one that is damaged or old, records are sent again; none is
//! lost. So it is written without a sync, and its checksum only has to tell that it is not to be believed.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::model::time::Timestamp;

use super::progress::Progress;
use super::storage::Storage;

pub(super) const NAME: &str = "state.json";
const FORMAT: u8 = 1;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    format: u8,
    pub(super) next_id: u64,
    /// What is pending below this id was on the disk.
    pub(super) safe_id: u64,
    pub(super) readers: BTreeMap<String, ReaderState>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ReaderState {
    /// Without the open one, which begins at `next_id` at the latest.
    pub(super) pending: Vec<Range<u64>>,
    pub(super) watermark_micros: Option<i64>,
    /// Of the earliest record that went although the reader lacked it.
    #[serde(default)]
    pub(super) torn_micros: Option<i64>,
    /// Of the oldest record that the reader lacks.
    #[serde(default)]
    pub(super) oldest_micros: Option<i64>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Loaded {
    State(State),
    None,
    /// It is there and not to be believed.
    Damaged,
    /// It is sound, and of a format that is not ours.
    Newer {
        format: u8,
    },
}

#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    checksum: u32,
    #[serde(borrow)]
    state: &'a RawValue,
}

#[derive(Deserialize)]
struct Format {
    format: u8,
}

impl State {
    pub(super) fn new(next_id: u64, safe_id: u64, readers: BTreeMap<String, ReaderState>) -> Self {
        Self { format: FORMAT, next_id, safe_id, readers }
    }

    /// `missing`: records are gone that the reader lacked.
    pub(super) fn progress(&self, reader: &str, missing: bool) -> Progress {
        let Some(noted) = self.readers.get(reader) else { return Progress::default() };
        let time = |micros: Option<i64>| micros.map(Timestamp::from_micros);
        let mut progress = Progress::noted(time(noted.watermark_micros), time(noted.torn_micros));
        if missing {
            progress.lose(time(noted.oldest_micros));
        }
        progress
    }
}

/// Whether a file of this name is the note, or one that was about to become it.
pub(super) fn is_ours(name: &str) -> bool {
    name.strip_prefix(NAME).is_some_and(|rest| rest.is_empty() || rest == ".new")
}

pub(super) fn save<S: Storage>(storage: &S, state: &State) -> io::Result<()> {
    let state = serde_json::value::to_raw_value(state)?;
    let sealed = Sealed { checksum: crc32fast::hash(state.get().as_bytes()), state: &state };
    storage.replace(NAME, &serde_json::to_vec(&sealed)?)
}

/// A note that cannot be read is as good as a damaged one.
pub(super) fn load<S: Storage>(storage: &S) -> Loaded {
    match storage.read(NAME) {
        Ok(Some(bytes)) => decode(&bytes).unwrap_or(Loaded::Damaged),
        Ok(None) => Loaded::None,
        Err(_) => Loaded::Damaged,
    }
}

fn decode(bytes: &[u8]) -> Option<Loaded> {
    let sealed: Sealed<'_> = serde_json::from_slice(bytes).ok()?;
    let text = sealed.state.get();
    if crc32fast::hash(text.as_bytes()) != sealed.checksum {
        return None;
    }
    let Format { format } = serde_json::from_str(text).ok()?;
    if format != FORMAT {
        return Some(Loaded::Newer { format });
    }
    serde_json::from_str(text).ok().map(Loaded::State)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Loaded, NAME, ReaderState, Sealed, State, load, save};
    use crate::spool::simulated::Simulated;

    fn state() -> State {
        let reader = ReaderState { pending: vec![3..5, 9..12], watermark_micros: Some(-7), ..ReaderState::default() };
        State::new(12, 10, BTreeMap::from([("influxdb".to_owned(), reader)]))
    }

    #[test]
    fn what_is_noted_is_believed_until_a_bit_of_it_changes() {
        let storage = Simulated::new();
        assert_eq!(load(&storage), Loaded::None);
        save(&storage, &state()).unwrap();
        assert_eq!(load(&storage), Loaded::State(state()));
        let sound = storage.bytes(NAME);
        for bit in 0..sound.len() * 8 {
            let mut bytes = sound.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            storage.put(NAME, &bytes);
            assert_eq!(load(&storage), Loaded::Damaged, "bit {bit}");
        }
        storage.put(NAME, &[]);
        assert_eq!(load(&storage), Loaded::Damaged);
    }

    #[test]
    fn a_note_of_another_format_is_told_apart_from_a_damaged_one() {
        let storage = Simulated::new();
        let text = r#"{"format":2,"anything":[]}"#;
        let raw = serde_json::value::RawValue::from_string(text.to_owned()).unwrap();
        let sealed = Sealed { checksum: crc32fast::hash(text.as_bytes()), state: &raw };
        storage.put(NAME, &serde_json::to_vec(&sealed).unwrap());
        assert_eq!(load(&storage), Loaded::Newer { format: 2 });
    }
}
