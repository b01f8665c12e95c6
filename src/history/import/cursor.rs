//! How far imports are: a small file, replaced as a whole each time that every target has some more.
//!
//! It has a place for each import that is not done, so that a short one does not make a long one forget where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::time::Timestamp;
use crate::runtime::file::replace;

pub const FILE: &str = "import.json";
const VERSION: u32 = 2;
/// Of imports that somebody began and never ended the newest so many are remembered.
const MOST: usize = 8;

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
    /// Points without a number, of a target that keeps numbers only.
    #[serde(default)]
    pub not_representable: u64,
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
    /// Its targets are those that lack the rest.
    pub wish: Wish,
    /// All targets of the import, in the order of the options. Versions before this one had no others.
    #[serde(default)]
    pub ordered: Vec<String>,
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
    pub totals: Totals,
}

/// The imports that are not done, the one that was worked at last at the end.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Imports {
    version: u32,
    imports: Vec<Cursor>,
}

/// Why nobody knows how far imports were.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("{} is damaged ({cause})", path.display())]
    Damaged { path: PathBuf, cause: serde_json::Error },
    #[error("{} is of another version of this program ({version})", path.display())]
    Foreign { path: PathBuf, version: u32 },
}

impl Cursor {
    #[must_use]
    pub fn new(wish: Wish, from: Timestamp, until: Timestamp) -> Self {
        Self {
            raw_done: !wish.raw,
            ordered: wish.targets.clone(),
            wish,
            began_at: from.as_micros(),
            until: until.as_micros(),
            reached: from.as_micros(),
            oldest: BTreeMap::new(),
            statistics_of: BTreeSet::new(),
            totals: Totals::default(),
        }
    }

    fn is_of(&self, wish: &Wish) -> bool {
        let ordered = if self.ordered.is_empty() { &self.wish.targets } else { &self.ordered };
        *ordered == wish.targets && Wish { targets: wish.targets.clone(), ..self.wish.clone() } == *wish
    }

    /// The beginning of the oldest hour that raw rows of the entity are in; hours before it are the statistics' own.
    #[must_use]
    pub fn statistics_until(&self, entity: &str) -> Timestamp {
        const HOUR: i64 = 3_600 * 1_000_000;
        let oldest = self.oldest.get(entity).copied().unwrap_or(self.until);
        Timestamp::from_micros(oldest.min(self.until).div_euclid(HOUR) * HOUR)
    }
}

impl Imports {
    /// What earlier runs left. It blocks.
    ///
    /// # Errors
    /// Nobody knows how far they were: what they did is done once more, which changes nothing in a database.
    pub fn load(data_dir: &Path) -> Result<Self, LoadError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let path = data_dir.join(FILE);
        let text = match std::fs::read(&path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(cause) => return Err(LoadError::Unreadable { path, cause }),
            Ok(text) => text,
        };
        let damaged = |cause| LoadError::Damaged { path: path.clone(), cause };
        match serde_json::from_slice(&text).map_err(damaged)? {
            Versioned { version: VERSION } => serde_json::from_slice(&text).map_err(damaged),
            // It had one place, for the last import, done or not.
            Versioned { version: 1 } => {
                let done = serde_json::from_slice(&text).is_ok_and(|Done { done }| done);
                let imports = if done { Vec::new() } else { vec![serde_json::from_slice(&text).map_err(damaged)?] };
                Ok(Self { version: VERSION, imports })
            }
            Versioned { version } => Err(LoadError::Foreign { path, version }),
        }
    }

    /// Where to go on with what is wished for, for targets of which none was `tried`. There may be several: each names the
    /// targets that are as far.
    #[must_use]
    pub fn of(&self, wish: &Wish, tried: &[String]) -> Option<Cursor> {
        let is_left = |cursor: &&Cursor| !cursor.wish.targets.iter().any(|target| tried.contains(target));
        self.imports.iter().rev().filter(|cursor| cursor.is_of(wish)).find(is_left).cloned()
    }

    /// It begins anew.
    pub fn forget(&mut self, wish: &Wish) {
        self.imports.retain(|cursor| !cursor.is_of(wish));
    }

    /// Whether one of everything that there is was begun.
    #[must_use]
    pub fn has_all(&self) -> bool {
        self.imports.iter().any(|cursor| (cursor.wish.from, cursor.wish.until) == (None, None))
    }

    /// So far it is now.
    pub fn put(&mut self, cursor: Cursor) {
        self.remove(&cursor);
        self.imports.push(cursor);
        let too_many = self.imports.len().saturating_sub(MOST);
        self.imports.drain(..too_many);
    }

    /// It is done.
    pub fn remove(&mut self, cursor: &Cursor) {
        self.imports.retain(|other| (&other.wish, &other.ordered) != (&cursor.wish, &cursor.ordered));
    }

    /// It blocks, and is safe from a power cut when it returns.
    ///
    /// # Errors
    /// The disk does not take it: what is there stays.
    pub fn store(&self, data_dir: &Path) -> io::Result<()> {
        let file = Self { version: VERSION, imports: self.imports.clone() };
        replace(&data_dir.join(FILE), &serde_json::to_vec(&file).expect("texts and numbers can always be written"))
    }
}

#[derive(Deserialize)]
struct Done {
    done: bool,
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::{Cursor, FILE, Imports, LoadError, MOST, Wish};
    use crate::model::time::Timestamp;

    fn wish(from: i64) -> Wish {
        let targets = vec!["a".into(), "b".into()];
        Wish { from: Some(from), until: Some(9), raw: true, statistics: true, value: true, targets }
    }

    fn cursor(wish: Wish, reached: i64) -> Cursor {
        Cursor { reached, ..Cursor::new(wish, Timestamp::from_micros(1), Timestamp::from_micros(9)) }
    }

    #[test]
    fn each_import_goes_on_where_it_was() {
        let folder = TempDir::new().unwrap();
        let mut imports = Imports::load(folder.path()).unwrap();
        imports.put(cursor(wish(1), 5));
        imports.put(cursor(wish(2), 6));
        imports.put(cursor(wish(1), 7));
        imports.store(folder.path()).unwrap();
        let mut imports = Imports::load(folder.path()).unwrap();
        assert_eq!([1, 2].map(|from| imports.of(&wish(from), &[]).unwrap().reached), [7, 6]);
        assert_eq!(imports.of(&Wish { value: false, ..wish(1) }, &[]), None);
        imports.remove(&cursor(wish(1), 0));
        assert_eq!(imports.of(&wish(1), &[]), None, "there is nothing left to do");
        (0..20).for_each(|from| imports.put(cursor(wish(from), 5)));
        assert_eq!((imports.imports.len(), imports.of(&wish(0), &[])), (MOST, None));
    }

    #[test]
    fn targets_that_are_not_as_far_are_gone_on_with_one_after_the_other() {
        let mut imports = Imports::default();
        let part = |target: &str| {
            let targets = vec![target.to_owned()];
            Cursor { ordered: wish(1).targets, ..cursor(Wish { targets, ..wish(1) }, 5) }
        };
        imports.put(part("b"));
        imports.put(part("a"));
        let next = |imports: &Imports, tried: &[String]| imports.of(&wish(1), tried).map(|cursor| cursor.wish.targets);
        assert_eq!(next(&imports, &[]), Some(vec!["a".into()]));
        assert_eq!(next(&imports, &["a".into()]), Some(vec!["b".into()]));
        assert_eq!(next(&imports, &["a".into(), "b".into()]), None);
        // An import of one target alone is another import.
        let alone = Wish { targets: vec!["a".into()], ..wish(1) };
        assert_eq!(imports.of(&alone, &[]), None);
        imports.put(cursor(alone.clone(), 7));
        imports.remove(&part("a"));
        assert_eq!((next(&imports, &[]), imports.of(&alone, &[]).unwrap().reached), (Some(vec!["b".into()]), 7));
        imports.forget(&wish(1));
        assert_eq!((next(&imports, &[]), imports.of(&alone, &[]).unwrap().reached), (None, 7));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let folder = TempDir::new().unwrap();
        let check = |text: &str| {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            Imports::load(folder.path())
        };
        assert!(matches!(check("{"), Err(LoadError::Damaged { .. })));
        assert!(matches!(check(r#"{"version":2}"#), Err(LoadError::Damaged { .. })));
        let said = check(r#"{"version":9}"#).unwrap_err().to_string();
        assert!(said.ends_with("import.json is of another version of this program (9)"), "{said}");
        // As the first version wrote it.
        let mut first = serde_json::to_value(cursor(wish(1), 5)).unwrap();
        first["version"] = 1.into();
        for (done, expected) in [(false, Some(5)), (true, None)] {
            first["done"] = done.into();
            assert_eq!(check(&first.to_string()).unwrap().of(&wish(1), &[]).map(|cursor| cursor.reached), expected);
        }
    }

    #[test]
    fn statistics_end_with_the_hour_before_the_oldest_row() {
        let until = Timestamp::from_micros(10 * 3_600_000_000);
        let mut cursor = Cursor::new(wish(1), Timestamp::from_micros(0), until);
        cursor.oldest.insert("sensor.a".into(), 3_600_000_000 * 5 + 17);
        assert_eq!(cursor.statistics_until("sensor.a"), Timestamp::from_micros(3_600_000_000 * 5));
        assert_eq!(cursor.statistics_until("sensor.b"), until);
    }
}
