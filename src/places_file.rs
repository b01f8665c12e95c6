//! Where the places of entities are written down, so that a point of last week that is written again next week has the
//! tags it had: one small file, replaced as a whole.
//!
//! It blocks: call it off the async workers. What is in the file is [`Places::to_json`]'s business.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::pipeline::places::{Places, ReadError};
use crate::runtime::file::replace;

/// Of a home of 10,000 entities it has about one MiB. What is much larger is not ours, and is not read into memory.
const MAX_BYTES: u64 = 64 << 20;

/// Why the places are not known. In each case the service goes on with those that it learns.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("{} is of no use, {cause}; points that are written again have today's tags", path.display())]
    Useless { path: PathBuf, cause: ReadError },
    #[error("{} is of no use, it is larger than {} MiB; points that are written again have today's tags", .0.display(), MAX_BYTES >> 20)]
    TooLarge(PathBuf),
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {cause}", path.display())]
pub struct StoreError {
    path: PathBuf,
    cause: io::Error,
}

/// `None` if there is no such file: nothing was ever written down.
pub fn load(path: &Path) -> Result<Option<Places>, LoadError> {
    let unreadable = |cause| LoadError::Unreadable { path: path.to_owned(), cause };
    let useless = |cause| LoadError::Useless { path: path.to_owned(), cause };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(unreadable(err)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(LoadError::TooLarge(path.to_owned()));
    }
    let json = std::str::from_utf8(&bytes).map_err(|_| useless(ReadError::Nonsense("it is not text")))?;
    Places::from_json(json).map(Some).map_err(useless)
}

/// Replaces the file. `json` is [`Places::to_json`]: the places themselves stay where they are used meanwhile.
pub fn store(path: &Path, json: &str) -> Result<(), StoreError> {
    replace(path, json.as_bytes()).map_err(|cause| StoreError { path: path.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{LoadError, MAX_BYTES, load, store};
    use crate::config::settings::RegistryTag;
    use crate::pipeline::places::Places;

    #[test]
    fn what_was_stored_is_loaded_and_what_is_damaged_is_said_aloud() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("places.json");
        assert!(load(&path).unwrap().is_none());
        let json = Places::new(&[RegistryTag::Area]).to_json();
        store(&path, "half").unwrap();
        let said = load(&path).unwrap_err().to_string();
        assert!(said.starts_with(&format!("{} is of no use, it is damaged: ", path.display())), "{said}");
        store(&path, &json).unwrap();
        assert_eq!(load(&path).unwrap().unwrap().to_json(), json);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else stays behind");

        fs::write(&path, [0xff]).unwrap();
        assert!(matches!(load(&path), Err(LoadError::Useless { .. })));
        fs::File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(matches!(load(&path), Err(LoadError::TooLarge(_))));
        assert!(matches!(load(folder.path()), Err(LoadError::Unreadable { .. })));
        let said = store(&path.join("places.json"), &json).unwrap_err().to_string();
        assert!(said.starts_with("cannot write "), "{said}");
    }
}
