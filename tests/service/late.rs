//! Home Assistant has less than it will have: its recorder has not committed yet, or its entities are not there yet.

use std::time::Duration;

use ha_ingestor::demo::home::Home;
use ha_ingestor::model::value::Attributes;
use serde_json::{Value, json};

use crate::service::{Place, Service};
use crate::world::{Mood, World};

/// The network is away while `meanwhile` happens.
fn away(service: &mut Service, world: &World, meanwhile: impl FnOnce()) {
    world.home.turn(|knobs| knobs.answer_502 = true);
    world.home.restart();
    service.wait_for_reason("home_assistant: connecting");
    meanwhile();
    world.home.turn(|knobs| knobs.answer_502 = false);
}

fn closes(service: &mut Service, world: &World, gaps: u64) {
    service.wait_until("the gap is closed", |service| service.metric("gaps_closed_total") == gaps);
    service.wait_until("everything is written", |service| service.metric("points_pending") == 0);
    let (present, expected) = (world.database.points().0, world.expected());
    let missing: Vec<_> = expected.difference(&present).collect();
    assert!(missing.is_empty(), "{} of {} are missing: {missing:?}", missing.len(), expected.len());
    assert_eq!(service.metric("gap_open"), 0);
    assert_eq!(service.metric("gaps_not_closed_total"), 0, "{}", service.get("/api/history").body);
}

/// How often the recorder was asked for rows since the last call.
fn asked(world: &World) -> usize {
    world.home.home_mut(|home| std::mem::take(&mut home.trouble.asked)).len()
}

#[test]
fn a_recorder_that_commits_once_a_minute_is_made_to_commit() {
    let world = World::new();
    world.home.home_mut(|home| home.commit_every(60));
    let mut service = Service::start(&world.options());
    service.wait_until_ready();
    for gaps in 1..=3 {
        away(&mut service, &world, || {
            world.home.storm(200);
            assert!(world.home.set("sensor.last", &gaps.to_string(), Attributes::default()).is_some());
        });
        closes(&mut service, &world, gaps);
        assert_eq!(asked(&world), 1, "one pass is enough");
    }
    assert_eq!(world.home.home(Home::backlog), 0, "no figure of the recorder tells that it has not committed");
    service.stop();
}

#[test]
fn as_long_as_nobody_says_that_all_is_committed_the_gap_stays_open() {
    let (world, place) = (World::new(), Place::new());
    world.home.home_mut(|home| home.commit_every(60));
    let options = world.options();
    let mut service = Service::start_at(&place, place.command(Some(&options), &[]));
    service.wait_until_ready();
    service.stop();
    world.home.storm(50);
    world.home.home_mut(|home| home.trouble.never_commits = true);
    let mut service = Service::start_at(&place, place.command(Some(&options), &[]));
    service.wait_until("it says what it waits for", |service| {
        service.get("/api/history").json()["gap"]["phase"] == "waiting until the recorder has committed"
    });
    world.home.storm(10);
    service.wait_until("the present is stored", |_| world.database.has(&world.present()));
    assert_eq!((service.metric("gap_open"), service.metric("history_rows_total")), (1, 0));
    world.home.home_mut(|home| home.trouble.never_commits = false);
    closes(&mut service, &world, 1);
    service.stop();
}

#[test]
fn a_home_that_answers_before_its_entities_are_there_has_no_gap() {
    let world = World::new();
    let mut service = Service::start(&world.options());
    service.wait_until_ready();
    away(&mut service, &world, || {
        world.home.storm(100);
        assert!(world.home.set("sensor.gone_at_the_start", "1", Attributes::default()).is_some());
        world.home.fall_asleep();
    });
    service.wait_until("it waits for Home Assistant", |service| {
        service.get("/api/history").json()["gap"]["phase"] == "waiting until Home Assistant has started"
    });
    assert_eq!(service.metric("gap_open"), 1);
    world.home.wake_up();
    world.home.storm(20);
    service.wait_until("the present is stored", |_| world.database.has(&world.present()));
    closes(&mut service, &world, 1);
    service.stop();
}

/// The first answer is empty in every session: there is nothing yet that the filter names.
#[test]
fn a_filter_that_names_what_comes_later_has_no_gap() {
    let world = World::new();
    let mut options = world.options();
    options["filter"] = json!({"include_entities": ["sensor.later_*"]});
    let mut service = Service::start(&options);
    service.wait_until("it is connected", |service| service.metric("ha_connected") == 1);
    service.wait_until("nothing is missing", |service| service.metric("gap_open") == 0);
    std::thread::sleep(Duration::from_secs(1));
    let mut made = Vec::new();
    away(&mut service, &world, || {
        for value in 0..20 {
            made.extend(world.home.set("sensor.later_one", &value.to_string(), Attributes::default()));
        }
    });
    service.wait_until("everything is stored", |_| world.database.points().0.len() >= made.len());
    assert_eq!(made.len(), 20);
    service.wait_until("the gap is closed", |service| service.metric("gaps_closed_total") == 1);
    assert_eq!(service.metric("gap_open"), 0);
    service.stop();
}

#[test]
fn a_first_session_that_ends_before_any_database_has_anything_leaves_a_gap() {
    let world = World::new();
    world.database.is(Mood::Late(Duration::from_secs(4)));
    let mut options = world.options();
    options["delivery"]["request_timeout_seconds"] = json!(30);
    let mut service = Service::start(&options);
    service.wait_until("it is connected", |service| service.metric("ha_connected") == 1);
    service.wait_until("nothing is missing", |service| service.metric("gap_open") == 0);
    // The first batch is on its way. Once it has arrived, it is known until when the database has everything.
    world.home.turn(|knobs| knobs.answer_502 = true);
    world.home.restart();
    world.home.storm(100);
    world.home.turn(|knobs| knobs.answer_502 = false);
    closes(&mut service, &world, 1);
    service.stop();
}

#[test]
fn the_absence_is_told_and_not_what_is_fetched_twice() {
    let world = World::new();
    let mut service = Service::start(&world.options());
    service.wait_until_ready();
    away(&mut service, &world, || std::thread::sleep(Duration::from_secs(2)));
    service.wait_until("the gap is closed", |service| service.metric("gaps_closed_total") == 1);
    let said = service.said("closing a gap: away from Home Assistant for ");
    assert_eq!(said.len(), 1, "{}", service.log());
    let seconds = service.sample("gap_seconds_total");
    assert!((2.0..20.0).contains(&seconds), "{seconds} {said:?}");
    let told: Value = service.get("/api/history").json();
    assert!(told["gap"].is_null(), "{told}");
    service.stop();
}
