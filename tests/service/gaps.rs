//! What happens while somebody is away is fetched from Home Assistant's history.

use std::fs;

use ha_ingestor::model::value::Attributes;
use serde_json::Value;

use crate::service::{Place, Service};
use crate::world::World;

/// Waits until everything that happened in the home is in the database, and no gap is open.
fn closes(service: &mut Service, world: &World) {
    service.wait_until("everything is stored", |_| world.database.has(&world.expected()));
    service.wait_until("the gap is closed", |service| service.metric("gap_open") == 0);
    assert_eq!(world.database.points().0, world.expected(), "nothing more than what happened");
}

#[test]
fn what_happens_while_it_is_dead_is_written_after_the_next_start() {
    let (world, place) = (World::new(), Place::new());
    let options = world.options();
    let start = || Service::start_at(&place, place.command(Some(&options), &[]));
    let mut service = start();
    service.wait_until_ready();
    world.home.storm(50);
    service.wait_until("everything is stored", |_| world.database.has(&world.expected()));
    service.wait_until("it is noted until when", |_| {
        let state = fs::read_to_string(place.data().join("spool/state.json")).unwrap_or_default();
        state.contains("\"watermark_micros\":1")
    });
    service.kill();
    world.home.storm(200);
    // Gone before anybody is there again.
    assert!(world.home.set("sensor.short_lived", "1", Attributes::default()).is_some());

    let mut service = start();
    closes(&mut service, &world);
    assert_eq!(service.metric("gaps_closed_total"), 1);
    assert!(service.metric("events_received_total{source=\"history\"}") >= 200);
    assert_eq!(service.said("closing a gap:").len(), 1, "{}", service.log());
    service.stop();
}

#[test]
fn a_first_start_has_no_gap_and_without_the_option_there_is_none_either() {
    let (world, place) = (World::new(), Place::new());
    let mut options = world.options();
    options["history"]["close_gaps"] = Value::Bool(false);
    for _ in 0..2 {
        let mut service = Service::start_at(&place, place.command(Some(&options), &[]));
        service.wait_until_ready();
        world.home.storm(10);
        service.wait_until("the present is stored", |_| world.database.has(&world.present()));
        service.wait_until("what it has is known", |service| {
            let seen = service.get("/health/dependencies/influxdb").json();
            seen["delivery"]["watermark"].is_string()
        });
        assert_eq!((service.metric("gap_open"), service.metric("history_rows_total")), (0, 0));
        service.stop();
        world.home.storm(10);
    }
}

#[test]
fn what_happens_while_home_assistant_cannot_be_reached_is_written_afterwards() {
    let world = World::new();
    let mut service = Service::start(&world.options());
    service.wait_until_ready();
    world.home.turn(|knobs| knobs.answer_502 = true);
    world.home.restart();
    service.wait_for_reason("home_assistant: connecting");
    world.home.storm(300);
    assert!(world.home.set("sensor.gone", "1", Attributes::default()).is_some());
    assert!(world.home.remove("sensor.gone").is_some());
    world.home.turn(|knobs| knobs.answer_502 = false);
    service.wait_until_ready();
    service.wait_until("the gap is closed", |service| service.metric("gaps_closed_total") == 1);
    // Nobody but the recorder has ever heard of it, and it is asked by name.
    let mut expected = world.expected();
    expected.retain(|(entity, _)| entity != "sensor.gone");
    service.wait_until("everything is stored", |_| world.database.has(&expected));
    service.stop();
}

#[test]
fn a_gap_stays_open_while_the_recorder_is_off_or_behind() {
    let (world, place) = (World::new(), Place::new());
    let options = world.options();
    let mut service = Service::start_at(&place, place.command(Some(&options), &[]));
    service.wait_until_ready();
    service.stop();
    world.home.home_mut(|home| home.unload_recorder(true));
    world.home.storm(50);
    let mut service = Service::start_at(&place, place.command(Some(&options), &[]));
    service.wait_for_log("a gap stays open until it can be closed: Home Assistant's recorder is off");
    let watermark = service.sample("watermark_timestamp_seconds{target=\"influxdb\"}");
    world.home.storm(10);
    service.wait_until("the present is stored", |_| world.database.has(&world.present()));
    assert_eq!(service.metric("gap_open"), 1);
    let now = service.sample("watermark_timestamp_seconds{target=\"influxdb\"}");
    assert!((now - watermark).abs() < 1e-9, "it waits for the gap: {watermark} {now}");
    let told = service.get("/api/history").json();
    assert_eq!(told["gap"]["phase"], "Home Assistant's recorder is off");
    service.stop();

    world.home.home_mut(|home| {
        home.unload_recorder(false);
        home.hold_recorder(true);
    });
    world.home.storm(20);
    let mut service = Service::start_at(&place, place.command(Some(&options), &[]));
    service.wait_until("it waits for the recorder", |service| {
        let told = service.get("/api/history").json();
        told["gap"]["phase"].as_str().is_some_and(|phase| phase.starts_with("waiting until the recorder has written"))
    });
    world.home.home_mut(|home| home.hold_recorder(false));
    closes(&mut service, &world);
    service.stop();
}

#[test]
fn what_history_does_not_have_is_named() {
    let (world, place) = (World::new(), Place::new());
    let options = world.options();
    assert!(world.home.set("sensor.secret", "1", Attributes::default()).is_some());
    let mut service = Service::start_at(&place, place.command(Some(&options), &[]));
    service.wait_until_ready();
    service.stop();
    world.home.home_mut(|home| home.leave_unrecorded("sensor.secret"));
    assert!(world.home.set("sensor.secret", "2", Attributes::default()).is_some());
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(world.home.set("sensor.public", "1", Attributes::default()).is_some());

    let mut service = Service::start_at(&place, place.command(Some(&options), &[]));
    service.wait_until("the gap is closed", |service| service.metric("gaps_closed_total") == 1);
    let told = service.get("/api/history").json();
    let named: Vec<_> = told["not_closed"].as_array().unwrap().iter().map(|lacking| &lacking["entity"]).collect();
    assert_eq!(named, ["sensor.secret"], "{told}");
    assert_eq!(told["not_closed"][0]["why"], "not recorded");
    service.stop();
}

#[test]
fn a_state_that_home_assistant_restored_is_left_out_if_somebody_wishes_so() {
    let world = World::new();
    let mut options = world.options();
    options["history"]["skip_restored"] = Value::Bool(true);
    assert!(world.home.set("sensor.helper", "on", Attributes::default()).is_some());
    let mut service = Service::start(&options);
    service.wait_until_ready();
    service.wait_until("everything is stored", |_| world.database.has(&world.expected()));
    let before = world.database.points().0;
    world.home.turn(|knobs| knobs.answer_502 = true);
    world.home.restart();
    service.wait_for_reason("home_assistant: connecting");
    world.home.begin_anew();
    world.home.turn(|knobs| knobs.answer_502 = false);
    service.wait_until("the gap is closed", |service| service.metric("gaps_closed_total") == 1);
    let left_out = service.metric("events_filtered_total{reason=\"restored\"}");
    assert!(left_out > 0, "{}", service.log());
    service.stop();
    assert_eq!(world.database.points().0, before, "nothing changed");
}

#[test]
fn the_names_of_entities_outlive_the_program() {
    let (world, place) = (World::new(), Place::new());
    let mut service = Service::start_at(&place, place.command(Some(&world.options()), &[]));
    service.wait_until_ready();
    service.wait_until("they are written down", |_| place.data().join("entities.json").exists());
    service.stop();
    let text = fs::read_to_string(place.data().join("entities.json")).unwrap();
    let written: Value = serde_json::from_str(&text).unwrap();
    assert!(written["entities"].as_array().unwrap().len() >= 20, "{text}");
}
