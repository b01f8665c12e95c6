//! Which entities there were, from run to run: history is asked by name, and an entity that is gone now, or has another
//! name, had changes.
//!
//! A small file in the data folder, written when there are new ones.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::history::recorder::renames::{Noted, Rename};
use crate::model::entity::EntityId;
use crate::model::registries::Registries;
use crate::model::time::Timestamp;
use crate::runtime::file::replace_in_background;

const NAME: &str = "entities.json";
/// Some integrations make an entity for everything that passes by.
const MOST: usize = 50_000;
const MOST_RENAMES: usize = 1_000;

pub(super) struct EntityList {
    path: PathBuf,
    file: File,
    is_written: bool,
    /// The file was there, and nobody has asked yet.
    was_there: bool,
}

#[derive(Default, Serialize, Deserialize)]
struct File {
    entities: BTreeSet<String>,
    /// What those that are registered were called last, by the ids of the registry.
    #[serde(default)]
    registered: BTreeMap<String, String>,
    /// Who was called otherwise, the latest last.
    #[serde(default)]
    renames: Vec<Noted>,
}

impl EntityList {
    /// What the file says, or nobody if it says nothing that can be used.
    pub(super) async fn load(data_dir: &Path) -> Self {
        let path = data_dir.join(NAME);
        let text = tokio::fs::read(&path).await.unwrap_or_default();
        let file: File = serde_json::from_slice(&text).unwrap_or_default();
        let was_there = !file.entities.is_empty();
        Self { path, file, is_written: true, was_there }
    }

    pub(super) fn add<'a>(&mut self, entities: impl IntoIterator<Item = &'a EntityId>) {
        for entity in entities {
            let entities = &mut self.file.entities;
            if entities.len() < MOST && !entities.contains(entity.as_str()) {
                entities.insert(entity.as_str().to_owned());
                self.is_written = false;
            }
        }
    }

    /// Takes over what those that are registered are called now. Returns who was called otherwise. `since`: when the entity of
    /// this name got it.
    pub(super) fn register(&mut self, registries: &Registries, since: impl Fn(&EntityId) -> Timestamp) -> Vec<Rename> {
        let mut renamed = Vec::new();
        for (entity, registered) in &registries.entities {
            let Some(id) = &registered.id else { continue };
            let names = &mut self.file.registered;
            if names.get(&**id).is_some_and(|name| name == entity.as_str())
                || (names.len() >= MOST && !names.contains_key(&**id))
            {
                continue;
            }
            self.is_written = false;
            let before = names.insert(id.to_string(), entity.as_str().to_owned());
            let before = before.and_then(|name| EntityId::parse(&name).ok());
            renamed.extend(before.map(|before| Rename { before, now: entity.clone(), at: since(entity) }));
        }
        self.file.renames.extend(renamed.iter().map(Noted::from));
        let too_many = self.file.renames.len().saturating_sub(MOST_RENAMES);
        self.file.renames.drain(..too_many);
        renamed
    }

    /// Whether an earlier run left the file. It says so once.
    pub(super) fn take_earlier_run(&mut self) -> bool {
        std::mem::take(&mut self.was_there)
    }

    pub(super) fn renames(&self) -> Vec<Rename> {
        self.file.renames.iter().filter_map(Noted::read).collect()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = EntityId> {
        self.file.entities.iter().filter_map(|id| EntityId::parse(id).ok())
    }

    /// The file is replaced as a whole, if there is anything new.
    pub(super) async fn store(&mut self) -> io::Result<()> {
        if self.is_written {
            return Ok(());
        }
        let text = serde_json::to_vec(&self.file).expect("names are text");
        replace_in_background(self.path.clone(), text).await?;
        self.is_written = true;
        Ok(())
    }
}

/// Everybody who was known to the service whose data this is, and what they were called before.
pub async fn known(data_dir: &Path) -> (Vec<EntityId>, Vec<Rename>) {
    let list = EntityList::load(data_dir).await;
    (list.all().collect(), list.renames())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::{EntityList, NAME};
    use crate::history::recorder::renames::Rename;
    use crate::model::entity::EntityId;
    use crate::model::registries::{Registered, Registries};
    use crate::model::time::Timestamp;

    #[tokio::test]
    async fn who_was_known_is_known_in_the_next_run() {
        let folder = TempDir::new().unwrap();
        let entity = EntityId::parse("sensor.a").unwrap();
        let mut known = EntityList::load(folder.path()).await;
        assert!(!known.take_earlier_run());
        known.add([&entity]);
        known.store().await.unwrap();
        let mut next = EntityList::load(folder.path()).await;
        assert_eq!(next.all().collect::<Vec<_>>(), [entity]);
        assert!(next.take_earlier_run() && !next.take_earlier_run(), "it is said once");
        std::fs::write(folder.path().join(NAME), "{").unwrap();
        assert_eq!(EntityList::load(folder.path()).await.all().count(), 0);
        std::fs::write(folder.path().join(NAME), r#"{"entities":["sensor.b"]}"#).unwrap();
        assert_eq!(EntityList::load(folder.path()).await.all().count(), 1, "as the first version wrote it");
    }

    #[tokio::test]
    async fn another_name_of_the_same_entity_is_noticed_once() {
        let folder = TempDir::new().unwrap();
        let called = |name: &str| {
            let registered = Registered { id: Some("4711".into()), ..Registered::default() };
            Registries { entities: [(EntityId::parse(name).unwrap(), registered)].into() }
        };
        let at = |_: &EntityId| Timestamp::from_micros(7);
        let mut known = EntityList::load(folder.path()).await;
        assert_eq!(known.register(&called("sensor.a"), at), []);
        assert_eq!(known.register(&called("sensor.a"), at), []);
        known.store().await.unwrap();
        let mut known = EntityList::load(folder.path()).await;
        let [before, now] = ["sensor.a", "sensor.b"].map(|name| EntityId::parse(name).unwrap());
        let rename = Rename { before, now, at: Timestamp::from_micros(7) };
        assert_eq!(known.register(&called("sensor.b"), at), std::slice::from_ref(&rename));
        assert_eq!(known.register(&called("sensor.b"), at), []);
        known.store().await.unwrap();
        assert_eq!(super::known(folder.path()).await.1, [rename]);
    }
}
