//! Crashes, two users at once, and the limit.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::letter::{DeadLetter, Ids};
use super::{AddError, Added, Count, FILE_BYTES, LIMIT_BYTES, Store};
use crate::model::time::Timestamp;

fn letter(id: &str, target: &str) -> DeadLetter {
    DeadLetter {
        id: id.to_owned(),
        at: Timestamp::from_micros(1),
        target: target.to_owned(),
        reason: "refused_by_database".to_owned(),
        words: "field type conflict".to_owned(),
        batch: "7".to_owned(),
        context: None,
        time: Timestamp::from_micros(0),
        line: "m value=1 0".to_owned(),
        rule: None,
        event: None,
    }
}

const EACH: usize = 300;

/// Long enough for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(20);

/// A store in a folder that is not there yet.
fn store(limit_bytes: u64) -> (TempDir, PathBuf, Store) {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("dead-letters");
    (place, folder.clone(), Store::open(folder, limit_bytes))
}

fn add(store: &Store, ids: &[&str]) -> u64 {
    let letters: Vec<DeadLetter> = ids.iter().map(|id| letter(id, "influxdb")).collect();
    store.add(&letters).unwrap().evicted
}

/// The newest first.
fn ids(store: &Store) -> Vec<String> {
    store.list(usize::MAX, None).unwrap().into_iter().map(|letter| letter.id).collect()
}

fn some(ids: &[&str]) -> HashSet<String> {
    ids.iter().map(ToString::to_string).collect()
}

fn count(letters: u64, unreadable: u64) -> Count {
    Count { letters, unreadable }
}

fn append(path: &Path, bytes: &[u8]) {
    fs::File::options().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn what_was_added_is_listed_the_newest_first_after_a_restart_too() {
    let (_place, folder, store) = store(LIMIT_BYTES);
    assert_eq!((ids(&store), store.count().unwrap()), (vec![], count(0, 0)));
    assert_eq!(store.remove(&some(&["a"])).unwrap(), 0);
    assert!(!folder.exists(), "who only asks leaves nothing behind");
    assert_eq!(add(&store, &["a", "b"]), 0);
    assert_eq!(store.add(&[letter("c", "mirror_1")]).unwrap(), Added::default());
    store.sync().unwrap();
    let store = Store::open(folder, LIMIT_BYTES);
    assert_eq!(ids(&store), ["c", "b", "a"]);
    assert_eq!(store.list(2, None).unwrap().len(), 2);
    assert_eq!(store.list(9, Some("mirror_1")).unwrap(), [letter("c", "mirror_1")]);
    assert_eq!(store.count().unwrap(), count(3, 0));
    assert_eq!(store.remove(&some(&["b", "x"])).unwrap(), 1);
    assert_eq!(ids(&store), ["c", "a"]);
    assert_eq!(store.count().unwrap(), count(2, 0));
    assert_eq!(store.remove(&some(&["a", "c"])).unwrap(), 2);
    assert_eq!(store.count().unwrap(), count(0, 0));
    store.sync().unwrap();
}

/// A crash may tear the last line at any byte.
#[test]
fn a_torn_line_costs_itself_and_no_other() {
    let whole = format!("{}\n", serde_json::to_string(&letter("torn", "influxdb")).unwrap());
    for cut in 1..whole.len() {
        let (_place, folder, store) = store(LIMIT_BYTES);
        add(&store, &["a"]);
        append(&folder.join("0000000001.jsonl"), &whole.as_bytes()[..cut]);
        // Only the line end is missing: nothing is lost.
        let is_whole = cut == whole.len() - 1;
        let (expected, counted) =
            if is_whole { (vec!["b", "torn", "a"], count(3, 0)) } else { (vec!["b", "a"], count(2, 1)) };
        add(&store, &["b"]);
        assert_eq!(
            (ids(&store), store.count().unwrap()),
            (expected.iter().map(ToString::to_string).collect(), counted)
        );
    }
}

#[test]
fn a_line_that_cannot_be_read_is_counted_and_never_removed() {
    let (_place, folder, store) = store(LIMIT_BYTES);
    add(&store, &["a"]);
    let path = folder.join("0000000001.jsonl");
    append(&path, b"\xff\xfe not ours\n\n{\"id\":\"a\"}\n");
    add(&store, &["b"]);
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    assert_eq!((ids(&store), store.count().unwrap()), (vec!["b".into(), "a".into()], count(2, 2)));
    assert_eq!(store.remove(&some(&["a", "b"])).unwrap(), 2);
    assert_eq!(store.count().unwrap(), count(0, 2));
    assert_eq!(fs::read(&path).unwrap(), b"\xff\xfe not ours\n{\"id\":\"a\"}\n");
    assert!(folder.join("notes.txt").exists());
}

#[test]
fn beyond_the_limit_the_oldest_files_go_and_are_counted_exactly() {
    let (_place, folder, store) = store(3 * FILE_BYTES);
    let names = Ids::new();
    let (mut added, mut evicted) = (0, 0);
    for turn in 0..40 {
        let letters: Vec<DeadLetter> = (0..1_000).map(|_| letter(&names.next(), "influxdb")).collect();
        added += letters.len() as u64;
        evicted += store.add(&letters).unwrap().evicted;
        if turn == 20 {
            append(&folder.join("0000000003.jsonl"), b"no letter\n");
        }
        let bytes: u64 = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes <= 3 * FILE_BYTES, "{bytes}");
    }
    assert!(evicted > 5_000, "{evicted}");
    let kept = ids(&store);
    assert_eq!((kept.len() as u64, store.count().unwrap().letters), (added - evicted, added - evicted));
    let newest: HashSet<_> = (evicted + 1..=added).map(|count| format!("-{count}")).collect();
    assert!(kept.iter().all(|id| newest.contains(&id[16..])), "the newest are kept");
}

#[test]
fn more_at_once_than_the_limit_is_kept_until_the_next_come() {
    let (_place, _folder, store) = store(1);
    assert_eq!(add(&store, &["a", "b"]), 0);
    assert_eq!(add(&store, &["c"]), 0, "the file is not full");
    let huge = DeadLetter { line: "x".repeat(2 * 1024 * 1024), ..letter("d", "influxdb") };
    assert_eq!(store.add(&[huge]).unwrap().evicted, 3);
    assert_eq!(add(&store, &["e"]), 1);
    assert_eq!(ids(&store), ["e"]);
}

/// Each store opens files and locks of its own, as a second process would.
#[test]
fn who_adds_and_who_removes_at_once_do_not_disturb_each_other() {
    let (_place, folder, service) = store(LIMIT_BYTES);
    let names = Ids::new();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    let added = [letter(&names.next(), "influxdb"), letter(&names.next(), "mirror_1")];
                    assert_eq!(service.add(&added).unwrap().evicted, 0);
                }
            });
        }
        scope.spawn(|| {
            let replay = Store::open(&folder, LIMIT_BYTES);
            let deadline = Instant::now() + PATIENCE;
            let mut removed = 0;
            while removed < 2 * EACH as u64 {
                assert!(Instant::now() < deadline, "letters are gone that nobody removed");
                let listed = replay.list(usize::MAX, Some("influxdb")).unwrap();
                removed += replay.remove(&listed.into_iter().map(|letter| letter.id).collect()).unwrap();
                service.sync().unwrap();
                assert_eq!(service.count().unwrap().unreadable, 0);
            }
        });
    });
    let left = service.list(usize::MAX, None).unwrap();
    assert_eq!(left.len(), 2 * EACH);
    assert!(left.iter().all(|letter| letter.target == "mirror_1"));
    assert_eq!(service.count().unwrap(), count(2 * EACH as u64, 0));
}

#[test]
fn another_process_is_waited_for() {
    let (_place, folder, store) = store(LIMIT_BYTES);
    add(&store, &["a"]);
    let lock = fs::File::open(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let tried = Command::new("flock").args(["--nonblock"]).arg(folder.join("lock")).arg("true").status().unwrap();
    assert!(!tried.success(), "the lock is one that processes share");
    let (done, is_done) = mpsc::channel();
    std::thread::scope(|scope| {
        let store = &store;
        scope.spawn(move || done.send(add(store, &["b"])).unwrap());
        assert!(is_done.recv_timeout(Duration::from_millis(200)).is_err(), "the lock is held");
        drop(lock);
    });
    assert_eq!(ids(&store), ["b", "a"]);
}

#[test]
fn a_disk_that_takes_nothing_is_named_and_costs_nothing_that_is_kept() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("a file");
    fs::write(&file, "").unwrap();
    let refused = Store::open(file.join("dead-letters"), LIMIT_BYTES).add(&[letter("a", "influxdb")]);
    assert!(matches!(refused, Err(AddError::Folder { .. })), "{refused:?}");

    let (_place, folder, store) = store(LIMIT_BYTES);
    add(&store, &["a"]);
    // What is no file cannot be written to.
    fs::create_dir(folder.join("0000000002.jsonl")).unwrap();
    let refused = store.add(&[letter("b", "influxdb")]);
    assert!(matches!(refused, Err(AddError::Write { .. })), "{refused:?}");
    fs::remove_dir(folder.join("0000000002.jsonl")).unwrap();
    assert_eq!(ids(&store), ["a"]);
}
