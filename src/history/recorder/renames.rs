//! Earlier names of entities, and until when each was valid.
//!
//! When somebody gives an entity another name, Home Assistant's history of it moves to the new one, as if it had always been
//! called so. What was written before is in the database under the name of that time, and so is everything that is written
//! of that time later. Where the new name had a past of its own, Home Assistant leaves both where they are.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Recorder, RecorderError};
use crate::model::entity::EntityId;
use crate::model::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    pub before: EntityId,
    pub now: EntityId,
    /// Start of the new name, by Home Assistant's clock.
    pub at: Timestamp,
}

/// Serialized form of a [`Rename`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    pub before: String,
    pub now: String,
    pub at_micros: i64,
}

/// Renames whose history moved to the new name, by that name, the latest first.
#[derive(Debug, Clone, Default)]
pub struct Renames(HashMap<EntityId, Vec<Rename>>);

impl Renames {
    /// Asks the recorder for which renames the history moved.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn that_moved(renames: &[Rename], recorder: &mut Recorder) -> Result<Self, RecorderError> {
        let mut latest_first: Vec<&Rename> = renames.iter().filter(|rename| rename.before.is_valid()).collect();
        latest_first.sort_by_key(|rename| std::cmp::Reverse(rename.at));
        let mut moved = Self::default();
        for rename in latest_first {
            // What is under the old name now may be the past of another entity that was given it later.
            let last = Timestamp::from_micros(rename.at.as_micros() - 1);
            let is_of_another = moved.name_at(&rename.before, last) != &rename.before;
            if is_of_another || !recorder.reaches_back(std::slice::from_ref(&rename.before), rename.at).await? {
                moved.0.entry(rename.now.clone()).or_default().push(rename.clone());
            }
        }
        Ok(moved)
    }

    #[must_use]
    pub fn new(moved: impl IntoIterator<Item = Rename>) -> Self {
        let mut renames: HashMap<EntityId, Vec<Rename>> = HashMap::new();
        for rename in moved {
            renames.entry(rename.now.clone()).or_default().push(rename);
        }
        for of_one in renames.values_mut() {
            of_one.sort_by_key(|rename| std::cmp::Reverse(rename.at));
        }
        Self(renames)
    }

    /// Returns the name that the entity had at `time`.
    #[must_use]
    pub fn name_at<'a>(&'a self, entity: &'a EntityId, time: Timestamp) -> &'a EntityId {
        let (mut name, mut until) = (entity, Timestamp::from_micros(i64::MAX));
        // Each step goes back in time, so that names that go round in a circle end, too.
        while let Some(rename) = self.before(name, time, until) {
            (name, until) = (&rename.before, rename.at);
        }
        name
    }

    /// Iterates over the renames of the entity, the latest first.
    pub fn of<'a>(&'a self, entity: &'a EntityId) -> impl Iterator<Item = &'a Rename> {
        let mut next = self.before(entity, Timestamp::from_micros(i64::MIN), Timestamp::from_micros(i64::MAX));
        std::iter::from_fn(move || {
            let rename = next?;
            next = self.before(&rename.before, Timestamp::from_micros(i64::MIN), rename.at);
            Some(rename)
        })
    }

    /// Finds the latest rename to `name` after `time` and before `until`.
    fn before(&self, name: &EntityId, time: Timestamp, until: Timestamp) -> Option<&Rename> {
        self.0.get(name)?.iter().find(|rename| rename.at > time && rename.at < until)
    }
}

impl Noted {
    #[must_use]
    pub fn read(&self) -> Option<Rename> {
        let [before, now] = [&self.before, &self.now].map(|name| EntityId::parse(name).ok());
        Some(Rename { before: before?, now: now?, at: Timestamp::from_micros(self.at_micros) })
    }
}

impl From<&Rename> for Noted {
    fn from(rename: &Rename) -> Self {
        let Rename { before, now, at } = rename;
        Self { before: before.to_string(), now: now.to_string(), at_micros: at.as_micros() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Noted, Rename, Renames};
    use crate::model::entity::EntityId;
    use crate::model::time::Timestamp;

    fn id(name: &str) -> EntityId {
        EntityId::parse(name).unwrap()
    }

    fn rename(before: &str, now: &str, at: i64) -> Rename {
        Rename { before: id(before), now: id(now), at: Timestamp::from_micros(at) }
    }

    fn check(renames: &[Rename], name: &str, expected: &[(i64, &str)]) {
        let renames = Renames::new(renames.iter().cloned());
        for (time, expected) in expected {
            let found = renames.name_at(&id(name), Timestamp::from_micros(*time)).to_string();
            assert_eq!(found, *expected, "{name} at {time}");
        }
    }

    #[test]
    fn each_time_has_its_name() {
        let twice = [rename("x.b", "x.c", 20), rename("x.a", "x.b", 10)];
        check(&twice, "x.c", &[(25, "x.c"), (20, "x.c"), (19, "x.b"), (10, "x.b"), (9, "x.a")]);
        check(&twice, "x.b", &[(25, "x.b"), (5, "x.a")]);
        check(&twice, "x.d", &[(5, "x.d")]);
        let names: Vec<String> = Renames::new(twice).of(&id("x.c")).map(|rename| rename.before.to_string()).collect();
        assert_eq!(names, ["x.b", "x.a"]);
    }

    #[test]
    fn names_that_go_round_in_a_circle_end() {
        let circle = [rename("x.a", "x.b", 10), rename("x.b", "x.a", 20), rename("x.a", "x.b", 30)];
        check(&circle, "x.b", &[(35, "x.b"), (25, "x.a"), (15, "x.b"), (5, "x.a")]);
        let same = [rename("x.a", "x.a", 10)];
        check(&same, "x.a", &[(5, "x.a"), (15, "x.a")]);
    }

    #[test]
    fn a_name_that_was_given_to_another_entity_has_two_pasts() {
        let given_on = [rename("x.a", "x.old", 10), rename("x.new", "x.a", 20)];
        check(&given_on, "x.old", &[(15, "x.old"), (5, "x.a")]);
        check(&given_on, "x.a", &[(25, "x.a"), (15, "x.new"), (5, "x.new")]);
    }

    #[test]
    fn what_is_written_down_is_read_back() {
        let rename = rename("x.a", "x.b", 7);
        assert_eq!(Noted::from(&rename).read(), Some(rename.clone()));
        assert_eq!(Noted { before: "none".into(), ..Noted::from(&rename) }.read(), None);
    }
}
