//! Stopped, frozen, and started again.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::metrics::MAIN;
use crate::oracle::{Story, end, metrics};
use crate::world::Mood;

/// How long it is frozen.
const FROZEN: Duration = Duration::from_mins(1);

#[test]
fn stopped_with_a_backlog_an_open_request_and_a_dead_database_it_ends_in_time_and_keeps_all() {
    for mood in [Some(Mood::Silent), Some(Mood::Drips), Some(Mood::Says(503, "busy")), None] {
        let mut story = Story::new("balanced");
        story.options["delivery"]["request_timeout_seconds"] = json!(60);
        match mood {
            Some(mood) => story.world.database.is(mood),
            None => story.world.database.close(),
        }
        let mut service = story.start();
        story.storm(500);
        let owed = i64::try_from(story.world.expected().len()).unwrap();
        service.wait_until("all of it has come", |service| metrics(service).of(MAIN, "points_pending") == owed);
        let began = Instant::now();
        assert_eq!(service.exit_code(Duration::from_secs(10)), Some(0), "{}", service.log());
        assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
        let log = service.log();
        assert!(!log.contains("panicked") && !log.contains("are lost"), "{log}");
        if !story.world.database.is_open() {
            story.world.open_database();
        }
        story.world.database.is(Mood::Well);
        let mut service = story.start_alone();
        assert_eq!(metrics(&service).of(MAIN, "points_recovered_total"), owed);
        story.drain(&mut service);
        story.check_complete();
        end(service);
    }
}

#[test]
fn stopped_with_a_full_memory_it_keeps_all() {
    let mut story = Story::new("balanced");
    story.options["delivery"]["memory_megabytes"] = json!(12);
    story.world.database.close();
    let mut service = story.start();
    // Almost the half from which on it would go to disk by itself.
    story.storm(12_000);
    let owed = i64::try_from(story.world.expected().len()).unwrap();
    service.wait_until("all of it has come", |service| metrics(service).of(MAIN, "points_pending") == owed);
    end(service);
    story.world.open_database();
    let service = story.start();
    story.finish_complete(service);
}

#[test]
fn frozen_for_a_minute_it_goes_on_where_it_was() {
    let mut story = Story::new("strict");
    let mut service = story.start();
    story.storm(100);
    story.wait_until_safe(&mut service);
    story.world.database.is(Mood::Late(Duration::from_millis(500)));
    story.storm(200);
    service.signal("STOP");
    story.storm(200);
    thread::sleep(FROZEN);
    service.signal("CONT");
    story.storm(100);
    story.world.database.is(Mood::Well);
    story.finish_complete(service);
}

/// Stopped and started again and again with nobody to deliver to: the numbers go on, nothing is lost or doubled.
#[test]
fn many_starts_without_a_database_add_up() {
    let mut story = Story::new("balanced");
    story.world.database.close();
    for _ in 0..5 {
        let mut service = story.start();
        story.storm(100);
        let sent = i64::try_from(story.world.present().len() + 100).unwrap();
        service.wait_until("all of it waits", |service| {
            let page = metrics(service);
            page.count("events_received_total", &[]) >= sent && page.books(MAIN).balance()
        });
        end(service);
    }
    story.world.open_database();
    let service = story.start();
    story.finish_complete(service);
}
