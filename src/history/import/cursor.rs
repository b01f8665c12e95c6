//! How far an import is: a small file, replaced as a whole each time that every target has some more.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::model::time::Timestamp;
use crate::runtime::file::replace;

pub const FILE: &str = "import.json";
const VERSION: u32 = 1;

/// What is imported: another wish is another import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// In microseconds. `None`: as far back as there is.
    pub from: Option<i64>,
    /// `None`: until the import began.
    pub until: Option<i64>,
    pub raw: bool,
    pub statistics: bool,
    /// Whether statistics get the field `value` too.
    pub value: bool,
    /// What the targets are.
    pub targets: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Of the recorder's raw history.
    pub rows: u64,
    /// Of its statistics.
    pub hours: u64,
    /// That were written to every target, or would be.
    pub points: u64,
    /// Rows that the rules leave out, as they do with live changes.
    pub filtered: u64,
    /// Points that are older than what a target keeps.
    pub expired: u64,
    /// Points that a target refused, by its words.
    pub refused: BTreeMap<String, u64>,
    /// Rows that cannot be read, and answers that are too large.
    pub unreadable: u64,
    /// Statistics that belong to no entity.
    pub external: u64,
    /// Entities with statistics, and without a state now: what their unit and tags would be nobody knows.
    #[serde(default)]
    pub gone: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    version: u32,
    pub wish: Wish,
    /// Of the period: microseconds.
    pub began_at: i64,
    pub until: i64,
    /// Raw history before this is done.
    pub reached: i64,
    pub raw_done: bool,
    /// The oldest raw row of each entity.
    pub oldest: BTreeMap<String, i64>,
    /// Entities whose statistics are done.
    pub statistics_of: BTreeSet<String>,
    pub done: bool,
    pub totals: Totals,
}

impl Cursor {
    #[must_use]
    pub fn new(wish: Wish, from: Timestamp, until: Timestamp) -> Self {
        Self {
            version: VERSION,
            raw_done: !wish.raw,
            wish,
            began_at: from.as_micros(),
            until: until.as_micros(),
            reached: from.as_micros(),
            oldest: BTreeMap::new(),
            statistics_of: BTreeSet::new(),
            done: false,
            totals: Totals::default(),
        }
    }

    /// What an earlier run left, if it wished for the same and was not done. It blocks.
    #[must_use]
    pub fn load(data_dir: &Path, wish: &Wish) -> Option<Self> {
        let text = std::fs::read(data_dir.join(FILE)).ok()?;
        let cursor: Self = serde_json::from_slice(&text).ok()?;
        (cursor.version == VERSION && cursor.wish == *wish && !cursor.done).then_some(cursor)
    }

    /// It blocks, and is safe from a power cut when it returns.
    ///
    /// # Errors
    /// The disk does not take it: what is there stays.
    pub fn store(&self, data_dir: &Path) -> io::Result<()> {
        replace(&data_dir.join(FILE), &serde_json::to_vec(self).expect("texts and numbers can always be written"))
    }

    /// The beginning of the oldest hour that raw rows of the entity are in; hours before it are the statistics' own.
    #[must_use]
    pub fn statistics_until(&self, entity: &str) -> Timestamp {
        const HOUR: i64 = 3_600 * 1_000_000;
        let oldest = self.oldest.get(entity).copied().unwrap_or(self.until);
        Timestamp::from_micros(oldest.min(self.until).div_euclid(HOUR) * HOUR)
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::{Cursor, FILE, Wish};
    use crate::model::time::Timestamp;

    fn wish() -> Wish {
        Wish { from: None, until: Some(9), raw: true, statistics: true, value: true, targets: vec!["a".into()] }
    }

    #[test]
    fn an_import_goes_on_where_it_was_and_another_one_begins_anew() {
        let folder = TempDir::new().unwrap();
        let mut cursor = Cursor::new(wish(), Timestamp::from_micros(1), Timestamp::from_micros(9));
        cursor.reached = 5;
        cursor.store(folder.path()).unwrap();
        assert_eq!(Cursor::load(folder.path(), &wish()), Some(cursor.clone()));
        assert_eq!(Cursor::load(folder.path(), &Wish { value: false, ..wish() }), None);
        cursor.done = true;
        cursor.store(folder.path()).unwrap();
        assert_eq!(Cursor::load(folder.path(), &wish()), None, "there is nothing left to do");
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(Cursor::load(folder.path(), &wish()), None);
    }

    #[test]
    fn statistics_end_with_the_hour_before_the_oldest_row() {
        let until = Timestamp::from_micros(10 * 3_600_000_000);
        let mut cursor = Cursor::new(wish(), Timestamp::from_micros(0), until);
        cursor.oldest.insert("sensor.a".into(), 3_600_000_000 * 5 + 17);
        assert_eq!(cursor.statistics_until("sensor.a"), Timestamp::from_micros(3_600_000_000 * 5));
        assert_eq!(cursor.statistics_until("sensor.b"), until);
    }
}
