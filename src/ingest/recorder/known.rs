//! Which entities there were, from run to run: history is asked by name, and an entity that is gone now had changes.
//!
//! A small file in the data folder, written when there are new ones.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::entity::EntityId;

const NAME: &str = "entities.json";
/// Some integrations make an entity for everything that passes by.
const MOST: usize = 50_000;

pub(super) struct Known {
    path: PathBuf,
    entities: BTreeSet<String>,
    is_written: bool,
}

#[derive(Serialize, Deserialize)]
struct File {
    entities: BTreeSet<String>,
}

impl Known {
    /// What the file says, or nobody if it says nothing that can be used.
    pub(super) async fn load(data_dir: &Path) -> Self {
        let path = data_dir.join(NAME);
        let text = tokio::fs::read(&path).await.unwrap_or_default();
        let file: Option<File> = serde_json::from_slice(&text).ok();
        let entities = file.map(|file| file.entities).unwrap_or_default();
        Self { path, entities, is_written: true }
    }

    pub(super) fn add<'a>(&mut self, entities: impl IntoIterator<Item = &'a EntityId>) {
        for entity in entities {
            if self.entities.len() < MOST && !self.entities.contains(entity.as_str()) {
                self.entities.insert(entity.as_str().to_owned());
                self.is_written = false;
            }
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = EntityId> {
        self.entities.iter().filter_map(|id| EntityId::parse(id).ok())
    }

    /// The file is replaced as a whole, if there is anything new.
    pub(super) async fn store(&mut self) -> io::Result<()> {
        if self.is_written {
            return Ok(());
        }
        let text = serde_json::to_vec(&File { entities: self.entities.clone() }).expect("names are text");
        let next = self.path.with_extension("json.next");
        tokio::fs::write(&next, text).await?;
        tokio::fs::rename(&next, &self.path).await?;
        self.is_written = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::{Known, NAME};
    use crate::model::entity::EntityId;

    #[tokio::test]
    async fn who_was_known_is_known_in_the_next_run() {
        let folder = TempDir::new().unwrap();
        let entity = EntityId::parse("sensor.a").unwrap();
        let mut known = Known::load(folder.path()).await;
        known.add([&entity]);
        known.store().await.unwrap();
        assert_eq!(Known::load(folder.path()).await.all().collect::<Vec<_>>(), [entity]);
        std::fs::write(folder.path().join(NAME), "{").unwrap();
        assert_eq!(Known::load(folder.path()).await.all().count(), 0);
    }
}
