//! Small files that are replaced as a whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tokio::task::spawn_blocking;

/// Replaces the file, and makes its folder. A power cut leaves the old file or the new one, and never a part of one. It
/// blocks.
///
/// # Errors
/// The disk says no; what was there stays.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // The name is part of the folder.
    File::open(folder)?.sync_all()
}

/// As [`replace`], for a task.
///
/// # Errors
/// As [`replace`].
pub async fn replace_in_background(path: PathBuf, bytes: Vec<u8>) -> io::Result<()> {
    spawn_blocking(move || replace(&path, &bytes)).await.expect("writing does not panic")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::replace;

    #[test]
    fn the_new_file_is_in_the_place_of_the_old_one_and_nothing_else_stays_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/state.json");
        for text in ["first", "second and longer", ""] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_replaced_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        replace(&path, b"old").unwrap();
        // A folder where the new file would be written first.
        fs::create_dir(folder.path().join("a.json.new")).unwrap();
        replace(&path, b"new").unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }
}
