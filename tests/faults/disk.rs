//! A disk that is full, slow, read-only, or fails.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::metrics::MAIN;
use crate::mount::Mount;
use crate::oracle::{Story, metrics};
use crate::service::Service;

const MIB: u64 = 1 << 20;

/// `/ready` says that the disk does not take records, and the service is well.
fn wait_until_degraded(service: &mut Service) {
    service.wait_until("it says that the disk takes nothing", |service| {
        assert_eq!(service.get("/health").status, 200, "a restart would not help");
        metrics(service).count("wal_degraded", &[]) == 1
    });
    let ready = service.get("/ready");
    assert!(ready.status == 503 && (ready.body.contains("disk") || ready.body.contains("spool")), "{ready:?}");
}

fn wait_until_recovered(service: &mut Service) {
    service.wait_until("the disk takes records again", |service| metrics(service).count("wal_degraded", &[]) == 0);
}

#[test]
fn a_full_disk_is_told_and_what_it_held_is_safe_and_it_goes_on_when_there_is_room() {
    let mut story = Story::new("strict");
    let Some(disk) = Mount::new(&story.place.data(), 3 * MIB) else { return };
    story.world.database.close();
    let mut service = story.start();
    story.storm(100);
    story.wait_until_safe(&mut service);
    story.storm(30_000);
    wait_until_degraded(&mut service);
    // Memory goes on.
    story.storm(100);
    let owed = i64::try_from(story.world.expected().len()).unwrap();
    service.wait_until("everything is held", |service| metrics(service).of(MAIN, "points_pending") >= owed);
    disk.grows_to(64 * MIB);
    wait_until_recovered(&mut service);
    story.wait_until_safe(&mut service);
    story.kill(service);
    story.world.open_database();
    let service = story.start();
    story.finish_complete(service);
}

#[test]
fn a_full_disk_empties_itself_into_the_database() {
    let mut story = Story::new("balanced");
    let Some(_disk) = Mount::new(&story.place.data(), 3 * MIB) else { return };
    story.world.database.close();
    let mut service = story.start();
    story.storm(30_000);
    wait_until_degraded(&mut service);
    story.world.open_database();
    story.drain(&mut service);
    story.storm(100);
    wait_until_recovered(&mut service);
    story.finish_complete(service);
}

/// Not a byte is free, and somebody else has them: what was delivered goes all the same.
#[test]
fn a_disk_that_others_filled_is_emptied_of_what_was_delivered() {
    let mut story = Story::new("strict");
    let Some(_disk) = Mount::new(&story.place.data(), 3 * MIB) else { return };
    story.world.database.close();
    let mut service = story.start();
    story.storm(3_000);
    story.wait_until_safe(&mut service);
    let ballast = story.place.data().join("ballast");
    assert!(fs::write(&ballast, vec![1; 4 << 20]).is_err(), "there is no room left");
    story.storm(100);
    wait_until_degraded(&mut service);
    assert!(!story.segments().is_empty());
    story.world.open_database();
    story.drain(&mut service);
    wait_until_recovered(&mut service);
    service.wait_until("its files are gone", |_| story.segments().is_empty());
    fs::remove_file(ballast).unwrap();
    story.finish_complete(service);
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_write_keeps_what_it_said_is_safe() {
    let Some(mut story) = Story::on_layer("strict") else { return };
    story.world.database.close();
    story.disk("write spool/* 1+ room 100000");
    let mut service = story.start();
    story.storm(20);
    story.wait_until_safe(&mut service);
    story.storm(1_000);
    wait_until_degraded(&mut service);
    story.disk_did("room");
    story.kill(service);
    story.disk("");
    story.world.open_database();
    let service = story.start();
    story.finish(service);
    assert!(story.acknowledged() > 0);
}

/// Linux tells of a failed fsync once, drops what was not written, and says "all is well" the next time.
#[test]
fn a_failed_fsync_is_never_believed_the_second_time() {
    let Some(mut story) = Story::on_layer("strict") else { return };
    story.world.database.close();
    let mut service = story.start();
    story.storm(50);
    story.wait_until_safe(&mut service);
    story.disk("sync spool/* 1 lose");
    story.storm(50);
    // Safe is only what a later fsync, of another file, has promised.
    story.wait_until_safe(&mut service);
    story.disk_did("lose");
    assert!(metrics(&service).count("wal_errors_total", &[("op", "sync")]) >= 1);
    story.kill(service);
    story.world.open_database();
    let service = story.start();
    story.finish_complete(service);
}

#[test]
fn with_an_fsync_that_always_fails_it_goes_on_in_memory_until_the_disk_heals() {
    let Some(mut story) = Story::on_layer("strict") else { return };
    story.world.database.close();
    let mut service = story.start();
    story.storm(50);
    story.wait_until_safe(&mut service);
    story.disk("sync * 1+ EIO");
    story.storm(200);
    wait_until_degraded(&mut service);
    story.disk("");
    wait_until_recovered(&mut service);
    story.wait_until_safe(&mut service);
    story.kill(service);
    story.world.open_database();
    let service = story.start();
    story.finish_complete(service);
}

#[test]
fn on_a_read_only_disk_it_starts_and_delivers_and_says_so() {
    let mut story = Story::new("strict");
    let Some(disk) = Mount::new(&story.place.data(), 3 * MIB) else { return };
    disk.may_be_written(false);
    let mut service = story.start();
    story.storm(100);
    story.drain(&mut service);
    wait_until_degraded(&mut service);
    story.check_complete();
    disk.may_be_written(true);
    story.world.database.close();
    story.storm(100);
    wait_until_recovered(&mut service);
    story.wait_until_safe(&mut service);
    story.world.open_database();
    story.finish_complete(service);
}

#[test]
fn where_nothing_may_be_written_it_starts_and_delivers_and_says_so() {
    for error in ["EACCES", "EROFS"] {
        let Some(mut story) = Story::on_layer("balanced") else { return };
        story.disk(&format!("open * 1+ {error}"));
        let mut service = story.start();
        story.storm(100);
        story.drain(&mut service);
        wait_until_degraded(&mut service);
        story.disk("");
        wait_until_recovered(&mut service);
        story.finish_complete(service);
    }
}

#[test]
fn a_disk_that_becomes_read_only_loses_nothing() {
    let Some(mut story) = Story::on_layer("strict") else { return };
    story.world.database.close();
    let mut service = story.start();
    story.storm(50);
    story.wait_until_safe(&mut service);
    story.disk("any * 1+ EROFS");
    story.storm(200);
    wait_until_degraded(&mut service);
    story.world.open_database();
    story.drain(&mut service);
    story.check_complete();
    story.disk("");
    wait_until_recovered(&mut service);
    story.finish_complete(service);
}

#[test]
fn a_backlog_that_cannot_be_read_waits_until_it_can() {
    let Some(mut story) = Story::on_layer("strict") else { return };
    story.world.database.close();
    let mut service = story.start();
    story.storm(300);
    story.wait_until_safe(&mut service);
    story.kill(service);
    let mut service = story.start();
    story.disk("read spool/* 1+ EIO");
    story.world.open_database();
    // What comes now is not held up by what cannot be read.
    story.storm(50);
    service.wait_until("what is new is stored", |_| story.world.database.has(&story.world.present()));
    service.wait_until("it has tried to read", |service| {
        assert_eq!(service.get("/health").status, 200);
        metrics(service).count("wal_errors_total", &[("op", "read")]) > 0
    });
    story.disk_did("EIO");
    story.disk("");
    story.finish_complete(service);
}

#[test]
fn files_that_cannot_be_removed_do_no_harm() {
    let Some(mut story) = Story::on_layer("strict") else { return };
    story.world.database.close();
    let mut service = story.start();
    story.storm(300);
    story.wait_until_safe(&mut service);
    story.disk("unlink * 1+ EIO");
    story.world.open_database();
    story.finish_complete(service);
    let service = story.start();
    story.finish_complete(service);
    story.disk("");
    let service = story.start();
    story.finish_complete(service);
}

#[test]
fn a_slow_disk_holds_up_nothing() {
    // What one database has and the other lacks goes to the disk all the time.
    let Some(story) = Story::on_layer("strict") else { return };
    let mut story = story.with_mirror();
    story.mirrors[0].close();
    story.disk("sync * 1+ wait 3000");
    let mut service = story.start();
    // Long enough for a sync to be on its way in most of the rounds.
    let end = Instant::now() + Duration::from_secs(8);
    while Instant::now() < end {
        let began = Instant::now();
        story.storm(50);
        service.wait_until("it is stored", |service| {
            assert_eq!(service.get("/health").status, 200);
            story.world.database.has(&story.world.expected())
        });
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    story.disk_did("sync");
    story.disk("");
    story.world.open(&story.mirrors[0]);
    story.finish_complete(service);
}

/// Somebody tidies up while it runs.
#[test]
fn segments_that_vanish_while_it_runs_are_counted_and_the_rest_is_delivered() {
    let mut story = Story::new("balanced");
    story.options["delivery"]["memory_megabytes"] = json!(1);
    story.world.database.close();
    let mut service = story.start();
    story.storm(10_000);
    story.wait_until_safe(&mut service);
    for segment in story.segments() {
        fs::remove_file(segment).unwrap();
    }
    story.world.open_database();
    story.drain(&mut service);
    let expected = story.world.expected();
    let missing = expected.difference(&story.world.database.points().0).count();
    assert_eq!(i64::try_from(missing).unwrap(), metrics(&service).of(MAIN, "points_dropped_total"));
    story.storm(100);
    story.drain(&mut service);
    service.wait_until_ready();
    crate::oracle::end(service);
}

/// The oldest go, and the number that is told is the number that is missing.
#[test]
fn at_the_cap_of_the_spool_the_oldest_go_and_are_counted_exactly() {
    let mut story = Story::new("balanced");
    story.options["delivery"]["memory_megabytes"] = json!(1);
    story.options["delivery"]["spool_megabytes"] = json!(1);
    story.world.home.turn(|knobs| knobs.coalesce = false);
    story.world.database.close();
    let mut service = story.start();
    for _ in 0..20 {
        story.storm(1_500);
        let sent = i64::try_from(story.world.expected().len()).unwrap();
        service.wait_until("all of it has come", |service| {
            let metrics = metrics(service);
            assert!(metrics.count("wal_size_bytes", &[]) <= metrics.count("wal_limit_bytes", &[]));
            metrics.count("events_received_total", &[]) >= sent && metrics.books(MAIN).balance()
        });
    }
    let dropped = metrics(&service).dropped(MAIN, "spool_full");
    assert!(dropped > 1_000, "{dropped}");
    story.world.open_database();
    story.drain(&mut service);
    let dropped = metrics(&service).of(MAIN, "points_dropped_total");
    let (stored, _) = story.world.database.points();
    let expected = story.world.expected();
    let missing: Vec<_> = expected.difference(&stored).collect();
    assert_eq!(i64::try_from(missing.len()).unwrap(), dropped);
    let newest_missing = missing.iter().map(|(_, time)| *time).max();
    assert!(newest_missing < stored.iter().map(|(_, time)| *time).min(), "what is there is the newest");
    service.wait_until_ready();
    crate::oracle::end(service);
}
