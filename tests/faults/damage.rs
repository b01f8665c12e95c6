//! What is found on the disk at the start is not what was put there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::metrics::{MAIN, Metrics};
use crate::oracle::{Story, end, lines_by_key, metrics};
use crate::service::Service;
use crate::world::Key;

const RECORDS: u64 = 400;

/// A spool with a backlog that a killed service left behind, and the service that finds it.
struct Left {
    story: Story,
    /// What was in it, file by file.
    files: Vec<(PathBuf, Vec<u8>)>,
    owed: BTreeSet<Key>,
    state: PathBuf,
}

/// What a damage cost.
struct Cost {
    /// Acknowledged, and not in the database.
    missing: i64,
    metrics: Metrics,
}

impl Left {
    fn behind() -> Self {
        let mut story = Story::new("strict");
        story.world.database.close();
        let mut service = story.start();
        story.storm(RECORDS / 2);
        story.wait_until_safe(&mut service);
        story.storm(RECORDS / 2);
        story.wait_until_safe(&mut service);
        let owed = story.world.expected();
        service.kill();
        story.world.open_database();
        let entries = fs::read_dir(story.spool()).unwrap().map(|entry| entry.unwrap().path());
        let files = entries.filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        let state = story.spool().join("state.json");
        assert!(!story.segments().is_empty(), "everything that is safe is on disk");
        Self { story, files, owed, state }
    }

    /// The newest file that holds records, and its content.
    fn newest(&self) -> (PathBuf, Vec<u8>) {
        let held = |path: &PathBuf| self.files.iter().find(|(known, _)| known == path).unwrap().1.clone();
        let newest = self.story.segments().into_iter().rfind(|path| held(path).len() > 1_000).unwrap();
        let content = held(&newest);
        (newest, content)
    }

    /// Puts everything as it was, damages it, lets a service deliver what it finds, and counts.
    fn after(&mut self, damage: impl FnOnce(&Path)) -> Cost {
        let _ = fs::remove_dir_all(self.story.spool());
        fs::create_dir_all(self.story.spool()).unwrap();
        for (path, content) in &self.files {
            fs::write(path, content).unwrap();
        }
        self.story.world.database.forget();
        damage(&self.story.spool());
        let mut service = self.story.start_alone();
        self.story.drain(&mut service);
        let metrics = metrics(&service);
        end(service);
        let stored = lines_by_key(MAIN, &self.story.world.database.lines());
        assert!(stored.keys().all(|key| self.owed.contains(key)), "it delivers what nobody wrote");
        let missing = self.owed.iter().filter(|key| !stored.contains_key(*key)).count();
        Cost { missing: i64::try_from(missing).unwrap(), metrics }
    }
}

#[test]
fn what_is_not_damaged_is_delivered_whole() {
    let cost = Left::behind().after(|_| {});
    assert_eq!((cost.missing, cost.metrics.of(MAIN, "points_dropped_total")), (0, 0));
    assert_eq!(cost.metrics.count("wal_corrupt_records_total", &[]), 0);
}

#[test]
fn a_flipped_byte_costs_one_record_and_is_counted() {
    let mut left = Left::behind();
    let (newest, content) = left.newest();
    // Clear of the head, and of the last records, where damage may look like a write that was cut off.
    for part in 1..12 {
        let at = content.len() * part / 14 + 64;
        let cost = left.after(|_| {
            let mut content = content.clone();
            content[at] ^= 0x55;
            fs::write(&newest, content).unwrap();
        });
        assert_eq!(cost.missing, 1, "at {at} of {}", content.len());
        assert_eq!(cost.metrics.dropped(MAIN, "damaged"), 1, "at {at}");
        assert_eq!(cost.metrics.count("wal_corrupt_records_total", &[]), 1, "at {at}");
    }
}

/// A torn write: what stands before it is there.
#[test]
fn a_tail_that_is_cut_anywhere_costs_only_what_was_cut_off() {
    let mut left = Left::behind();
    let (newest, content) = left.newest();
    for cut in [1, 2, 3, 5, 9, 17, 31, 60, 100, 150, 1_000, content.len() / 2] {
        let cost = left.after(|_| fs::write(&newest, &content[..content.len() - cut]).unwrap());
        let most = i64::try_from(cut / 40 + 1).unwrap();
        assert!(cost.missing <= most, "{} are missing after a cut of {cut}", cost.missing);
    }
}

#[test]
fn zeros_at_the_tail_cost_only_what_they_cover() {
    let mut left = Left::behind();
    let (newest, content) = left.newest();
    let cost = left.after(|_| {
        let mut content = content.clone();
        content.extend([0; 4096]);
        fs::write(&newest, content).unwrap();
    });
    assert_eq!(cost.missing, 0);
    let half = content.len() / 2;
    let cost = left.after(|_| {
        let mut content = content.clone();
        content[half..].fill(0);
        fs::write(&newest, content).unwrap();
    });
    let records = i64::try_from(left.owed.len()).unwrap();
    assert!(cost.missing > 0 && cost.missing < records, "{} of {records} are missing", cost.missing);
}

#[test]
fn segments_that_are_empty_zero_cut_or_gone_are_no_reason_not_to_start() {
    let mut left = Left::behind();
    let (newest, content) = left.newest();
    let damages: [&dyn Fn(&Path); 5] = [
        &|path| fs::write(path, "").unwrap(),
        &|path| fs::write(path, vec![0; content.len()]).unwrap(),
        &|path| fs::write(path, &content[..7]).unwrap(),
        &|path| fs::write(path, b"this is no segment at all, but a letter to a friend".repeat(100)).unwrap(),
        &|path| fs::remove_file(path).unwrap(),
    ];
    for (at, damage) in damages.iter().enumerate() {
        let cost = left.after(|_| damage(&newest));
        assert!(cost.missing > 0, "damage {at}");
        // Its head is gone, so nobody can know that a file held anything, except from its neighbours and the state.
        assert!(cost.metrics.of(MAIN, "points_dropped_total") <= cost.missing, "damage {at}");
    }
    // The service takes new records after any of it.
    let mut service = left.story.start();
    left.story.storm(100);
    left.story.drain(&mut service);
    end(service);
}

#[test]
fn without_its_state_everything_on_disk_is_delivered_again() {
    let mut left = Left::behind();
    let state = left.state.clone();
    for content in [None, Some(""), Some("{"), Some("[]"), Some("{\"next_id\": -5}"), Some("\0\0\0\0\0\0\0\0")] {
        let cost = left.after(|_| match content {
            None => drop(fs::remove_file(&state)),
            Some(content) => fs::write(&state, content).unwrap(),
        });
        assert_eq!(cost.missing, 0, "{content:?}");
    }
}

#[test]
fn what_others_put_into_the_folder_is_left_alone() {
    let mut left = Left::behind();
    let strange = ["README.txt", ".DS_Store", "0000", "segment", "99999999999999999999999.seg", "lost+found/x"];
    let cost = left.after(|spool| {
        for name in strange {
            let path = spool.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "not yours").unwrap();
        }
    });
    assert_eq!(cost.missing, 0);
    for name in strange {
        let path = left.story.spool().join(name);
        assert_eq!(fs::read_to_string(&path).unwrap_or_default(), "not yours", "{name}");
    }
}

/// After a downgrade: nothing is guessed, nothing is touched.
#[test]
fn a_format_of_the_future_is_refused_with_a_sentence_and_not_touched() {
    let left = Left::behind();
    let (newest, content) = left.newest();
    let state = format!("{{\"format\":77,\"anything\":[{}]}}", "1,".repeat(9) + "1");
    let state = format!("{{\"checksum\":{},\"state\":{state}}}", crc32fast::hash(state.as_bytes()));
    let mut segment = content.clone();
    segment[7] = 77;
    let checksum = crc32fast::hash(&segment[..24]);
    segment[24..28].copy_from_slice(&checksum.to_le_bytes());
    for (path, future) in [(&left.state, state.into_bytes()), (&newest, segment)] {
        let present = fs::read(path).unwrap();
        fs::write(path, future).unwrap();
        let before = contents(&left.story);
        let started = Service::try_start_at(&left.story.place, left.story.command(&left.story.options));
        let Err((status, said)) = started else { panic!("it starts") };
        assert_eq!(status.code(), Some(78), "{said}");
        assert!(said.contains("format 77") && said.contains("newer"), "{said}");
        assert_eq!(contents(&left.story), before);
        fs::write(path, present).unwrap();
    }
}

fn contents(story: &Story) -> Vec<(PathBuf, Vec<u8>)> {
    let mut paths: Vec<_> = fs::read_dir(story.spool()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}
