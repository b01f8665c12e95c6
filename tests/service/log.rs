//! What the log says, where, and how much.

use std::fs;

use serde_json::json;

use crate::service::{Place, Service, lines_with};
use crate::world::{Mood, World};

const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn the_level_is_changed_while_it_runs_and_one_batch_is_followed() {
    let (world, place) = (World::new(), Place::new());
    let mut options = world.options();
    options["log"] = json!({"file": true});
    let mut service = Service::start_at(&place, place.command(Some(&options), &[]));
    service.wait_until_ready();
    let level = |service: &Service| service.get("/api/log").json()["level"].as_str().unwrap().to_owned();
    assert_eq!((level(&service).as_str(), service.said("batch ").len()), ("info", 0));

    let answer = service.send("PUT", "/api/log", &[JSON], r#"{"level": "debug"}"#);
    assert_eq!((answer.status, level(&service).as_str()), (200, "debug"));
    world.database.is(Mood::CannotParse("spoiled"));
    world.home.set("sensor.spoiled", "spoiled", std::iter::empty().collect()).unwrap();
    service.wait_until("a line is set aside", |service| service.metric("points_dead_lettered_total") == 1);
    let asked = service.ask("GET", "/api/dead-letters", &[("x-correlation-id", "who-asked-7")]);
    assert_eq!(asked.headers["x-correlation-id"], "who-asked-7");
    let letters = asked.json();
    let letter = &letters["letters"][0];
    let batch = letter["batch"].as_str().unwrap();
    assert!(!service.said(&format!("batch {batch}: ")).is_empty(), "{letter}");
    assert!(service.said("request=who-asked-7").iter().any(|line| line.contains("GET /api/dead-letters")));

    service.send("PUT", "/api/log", &[JSON], r#"{"level": "info"}"#);
    let before = service.said(" DEBUG ").len();
    let written = service.metric("points_written_total");
    world.home.storm(100);
    service.wait_until("more is written", |service| service.metric("points_written_total") > written + 50);
    assert_eq!((before > 3, service.said(" DEBUG ").len()), (true, before));

    let shown = service.stop().log;
    let file = fs::read_to_string(place.data().join("log/ha-ingestor.log")).unwrap();
    // Each line is stamped where it is written.
    let unstamped = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split_once('Z').map_or(line, |(_, rest)| rest).to_owned()).collect()
    };
    assert_eq!(unstamped(&file), unstamped(&shown));
}

#[test]
fn a_log_file_that_cannot_be_written_is_said_and_stops_nobody() {
    let (world, place) = (World::new(), Place::new());
    let mut options = world.options();
    options["log"] = json!({"file": true});
    fs::create_dir_all(place.data()).unwrap();
    fs::write(place.data().join("log"), "a file, not a folder").unwrap();
    let mut service = Service::start_at(&place, place.command(Some(&options), &[]));
    service.wait_until_ready();
    let log = service.stop().log;
    let told = lines_with(&log, "cannot write the log to ");
    assert!(told.len() == 1 && told[0].contains("set `log.file` to false"), "{log}");
}
