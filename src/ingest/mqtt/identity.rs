//! Who we are to the broker, and what we asked it for: a small file in the data folder.
//!
//! The broker keeps a session under the client's name. Losing the file means a new name, and a new session.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::topic::TopicFilter;
use crate::runtime::file::replace_in_background;

const NAME: &str = "mqtt-session.json";

pub(super) struct Identity {
    path: PathBuf,
    known: Known,
}

#[derive(Serialize, Deserialize)]
struct Known {
    client_id: String,
    /// Topic filters that the broker may send messages for.
    subscribed: BTreeSet<String>,
}

impl Identity {
    /// What the file says, or somebody new if it says nothing that can be used.
    pub(super) async fn load(data_dir: &Path) -> Self {
        let path = data_dir.join(NAME);
        let text = tokio::fs::read(&path).await.unwrap_or_default();
        let known = serde_json::from_slice(&text).ok().filter(|known: &Known| is_ours(&known.client_id));
        let known = known.unwrap_or_else(|| Known {
            client_id: format!("ha-ingestor-{:08x}", fastrand::u32(..)),
            subscribed: BTreeSet::new(),
        });
        Self { path, known }
    }

    pub(super) fn client_id(&self) -> &str {
        &self.known.client_id
    }

    pub(super) fn availability_topic(&self) -> String {
        format!("ha-ingestor/{}/availability", self.known.client_id)
    }

    pub(super) fn subscribed(&self) -> Vec<TopicFilter> {
        self.known.subscribed.iter().filter_map(|filter| TopicFilter::parse(filter).ok()).collect()
    }

    /// Notes what the broker may send messages for. The file is replaced as a whole.
    pub(super) async fn subscribe_to<'a>(
        &mut self,
        filters: impl IntoIterator<Item = &'a TopicFilter>,
    ) -> io::Result<()> {
        let filters: BTreeSet<String> = filters.into_iter().map(ToString::to_string).collect();
        if filters == self.known.subscribed && tokio::fs::try_exists(&self.path).await.unwrap_or(false) {
            return Ok(());
        }
        self.known.subscribed = filters;
        let text = serde_json::to_vec(&self.known).expect("names and filters are text");
        replace_in_background(self.path.clone(), text).await
    }
}

/// A file that somebody edited must not make us somebody that the broker refuses.
fn is_ours(client_id: &str) -> bool {
    let random = client_id.strip_prefix("ha-ingestor-").unwrap_or_default();
    random.len() == 8 && random.bytes().all(|letter| letter.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::{Identity, NAME};
    use crate::model::topic::TopicFilter;

    #[tokio::test]
    async fn the_name_stays_and_so_does_what_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let filters = ["a/#", "b"].map(|text| TopicFilter::parse(text).unwrap());
        let mut first = Identity::load(folder.path()).await;
        first.subscribe_to(&filters).await.unwrap();
        let second = Identity::load(folder.path()).await;
        assert_eq!((second.client_id(), second.subscribed()), (first.client_id(), filters.to_vec()));
        assert!(first.availability_topic().ends_with("/availability"));
        let elsewhere = tempfile::tempdir().unwrap();
        assert_ne!(Identity::load(elsewhere.path()).await.client_id(), first.client_id());
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_used_means_a_new_name() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{", r#"{"client_id":"x/#","subscribed":[]}"#, r#"{"client_id":"ha-ingestor-0123456"}"#] {
            std::fs::write(folder.path().join(NAME), text).unwrap();
            let loaded = Identity::load(folder.path()).await;
            assert!(loaded.client_id().starts_with("ha-ingestor-") && loaded.subscribed().is_empty(), "{text}");
            assert_eq!(loaded.client_id().len(), "ha-ingestor-".len() + 8);
        }
    }
}
