//! How it starts and how it ends.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::process::wait_until;
use crate::service::{PATIENCE, Place, Service, lines_with, make_unreadable, other_end};
use crate::world::{ENTITIES, Mood, World};

#[test]
fn without_any_option_it_runs_and_says_what_it_waits_for() {
    let service = Service::start_with(None, &[]);
    assert_eq!(service.get("/health").status, 200);
    let ready = service.get("/ready");
    assert_eq!(ready.status, 503);
    let reasons = ready.json()["reasons"].to_string();
    assert!(reasons.contains("home_assistant.url") && reasons.contains("influxdb.url"), "{reasons}");
    assert_eq!(service.said("WARN").len(), 2, "{}", service.log());
    let ended = service.stop();
    assert!(!ended.log.contains("ERROR"), "{}", ended.log);
}

#[test]
fn a_stop_flushes_what_still_waits_for_company() {
    let world = World::new();
    let mut options = world.options();
    options["delivery"]["linger_ms"] = json!(60_000);
    let mut service = Service::start(&options);
    service.wait_until("the home is known", |service| service.metric("ha_entities") == ENTITIES as u64);
    world.home.storm(500);
    let all = world.expected().len() as u64;
    service.wait_until("everything is held", |service| service.metric("points_pending") == all);
    assert!(world.database.lines().is_empty());
    let ended = service.stop();
    assert_eq!(world.database.points(), (world.expected(), true));
    assert!(ended.took < Duration::from_secs(4), "{:?}", ended.took);
    assert!(!ended.log.contains("ERROR"), "{}", ended.log);
}

#[test]
fn with_a_dead_database_a_stop_ends_in_time_and_says_how_much_waits_on_disk() {
    let dead = [Mood::Says(503, "busy"), Mood::Drips, Mood::Says(401, "{\"error\":\"authorization failed\"}")];
    for mood in dead {
        let world = World::new();
        world.database.is(mood);
        let mut service = Service::start_with(Some(&world.options()), &["--grace-seconds", "2"]);
        service.wait_until("the home is known", |service| service.metric("ha_entities") == ENTITIES as u64);
        world.home.storm(100);
        let all = world.expected().len() as u64;
        service.wait_until("everything is held", |service| service.metric("points_pending") == all);
        let ended = service.stop_within(Duration::from_secs(3));
        let sums = lines_with(&ended.log, &format!("0 points stored, {all} on disk for the next start"));
        assert_eq!(sums.len(), 1, "{}", ended.log);
        assert!(ended.took < Duration::from_millis(2_500), "{:?}", ended.took);
        assert!(world.database.lines().is_empty());
    }
}

#[test]
fn asked_a_second_time_it_ends_at_once_and_says_how_much_is_lost() {
    let world = World::new();
    world.database.is(Mood::Drips);
    let mut options = world.options();
    options["delivery"]["request_timeout_seconds"] = json!(60);
    let mut service = Service::start_with(Some(&options), &["--grace-seconds", "60"]);
    let all = world.expected().len() as u64;
    service.wait_until("everything is held", |service| service.metric("points_pending") == all);
    service.ask_to_stop();
    service.wait_for_log("SIGTERM: stopping within 60 s");
    let began = Instant::now();
    assert_eq!(service.exit_code(Duration::from_secs(5)), Some(70));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let log = service.log();
    assert_eq!(lines_with(&log, "records that were not on disk are lost").len(), 1, "{log}");
}

#[test]
fn where_neither_the_database_nor_the_disk_takes_anything_the_end_is_a_failure_with_a_number() {
    let world = World::new();
    world.database.is(Mood::Says(503, "busy"));
    let place = Place::new();
    // A file where the data folder should be.
    fs::write(place.data(), "").unwrap();
    let mut service = Service::start_at(&place, place.command(Some(&world.options()), &[]));
    service.wait_for_reason("spool: ");
    let all = world.expected().len() as u64;
    service.wait_until("everything is held", |service| service.metric("points_pending") == all);
    assert_eq!(service.exit_code(Duration::from_secs(8)), Some(70));
    let log = service.log();
    assert_eq!(lines_with(&log, &format!("{all} points are lost")).len(), 1, "{log}");
    assert!(lines_with(&log, "stopped: ")[0].contains("unaccounted=0"), "{log}");
}

/// A certificate on a share of the network that died: the read never returns, and no thread can be made to give it up.
#[test]
fn a_file_that_never_answers_does_not_keep_it_from_ending() {
    let world = World::deserted();
    world.open_database();
    let folder = tempfile::tempdir().unwrap();
    let certificate = folder.path().join("authority.pem");
    fs::write(&certificate, "").unwrap();
    let mut options = world.options();
    options["home_assistant"]["ca_certificate"] = json!(certificate);
    let mut service = Service::start(&options);
    service.wait_for_reason("home_assistant: cannot use the CA certificate");
    make_unreadable(&certificate);
    let _held = wait_until("it reads the certificate", PATIENCE, || other_end(&certificate));
    service.stop();
}
