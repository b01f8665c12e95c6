//! One of several targets is dead: the others have everything, and it is named with its own option.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fake::answer;
use crate::service::{Place, Service, output, printed};
use crate::world::{Database, Mood, World};

/// A second database, at which nobody listens yet.
fn with_mirror(options: &mut Value) -> Database {
    let mirror = Database::new();
    options["mirrors"] = json!([{"url": mirror.url(), "api": "v1"}]);
    mirror
}

/// Runs a command to its end, with these options and the data of `place`.
fn ended(place: &Place, options: &Value, arguments: &[&str]) -> (Option<i32>, String) {
    let path = place.data().with_file_name("command-options.json");
    fs::write(&path, options.to_string()).unwrap();
    let data = place.data();
    let place = ["--options", path.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
    let ended = output(&[arguments, &place].concat());
    (ended.status.code(), printed(&ended))
}

#[test]
fn an_import_fills_the_healthy_one_and_goes_on_with_the_other_when_it_is_back() {
    let (world, place) = (World::new(), Place::new());
    let mut options = world.options();
    let mirror = with_mirror(&mut options);
    world.home.storm(100);
    let (code, told) = ended(&place, &options, &["import", "--no-statistics"]);
    assert_eq!(code, Some(69), "{told}");
    assert!(world.database.has(&world.expected()), "the healthy one has everything");
    assert!(told.contains("mirror_1: not all of it was written: "), "{told}");
    assert!(told.contains("mirrors.1.url") && !told.contains("influxdb.url"), "its own option: {told}");

    world.open(&mirror);
    world.database.forget();
    let (code, told) = ended(&place, &options, &["import", "--no-statistics"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("it went on where it had stopped"), "{told}");
    assert!(mirror.has(&world.expected()), "{told}");
    assert!(world.database.lines().is_empty(), "it lacked nothing");
}

/// The healthy one is interrupted as well: each goes on where it was, and neither is taken for done.
#[test]
fn an_import_that_is_interrupted_for_one_and_has_left_another_behind_goes_on_with_both() {
    let (world, place) = (World::new(), Place::new());
    let mut options = world.options();
    options["delivery"]["batch_points"] = json!(200);
    let mirror = with_mirror(&mut options);
    world.home.storm(50);
    // The mirror is dead from the first batch on; the other one dies later.
    let requests = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    world.database.is(Mood::By(std::sync::Arc::new(move |_: &_| {
        let is_late = requests.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 10;
        is_late.then(|| answer(503, "busy"))
    })));
    let (code, told) = ended(&place, &options, &["import", "--no-statistics"]);
    assert_eq!(code, Some(69), "{told}");
    assert!(told.contains("influxdb: ") && told.contains("mirror_1: "), "{told}");
    let stored = world.database.points().0.len();
    assert!(stored > 0 && !world.database.has(&world.present()), "it was interrupted: {stored}");

    world.database.is(Mood::Well);
    let (code, told) = ended(&place, &options, &["import", "--no-statistics"]);
    assert_eq!(code, Some(69), "the mirror is still dead: {told}");
    assert!(world.database.has(&world.expected()), "{told}");
    world.open(&mirror);
    let (code, told) = ended(&place, &options, &["import", "--no-statistics"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(mirror.has(&world.expected()), "{told}");
}

#[test]
fn with_nobody_alive_an_import_names_all_of_them_and_goes_on_later() {
    let place = Place::new();
    let world = World::deserted();
    world.open_gate();
    let mut options = world.options();
    let mirror = with_mirror(&mut options);
    world.home.storm(20);
    let (code, told) = ended(&place, &options, &["import", "--no-statistics"]);
    assert_eq!(code, Some(69), "{told}");
    assert!(told.contains("influxdb.url") && told.contains("mirrors.1.url"), "{told}");
    world.open_database();
    world.open(&mirror);
    let (code, told) = ended(&place, &options, &["import", "--no-statistics"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(world.database.has(&world.expected()) && mirror.has(&world.expected()), "{told}");
}

#[test]
fn verify_compares_the_healthy_one_and_names_the_other() {
    let (world, place) = (World::new(), Place::new());
    let mut options = world.options();
    let _mirror = with_mirror(&mut options);
    let (code, told) = ended(&place, &options, &["verify"]);
    assert_eq!(code, Some(69), "{told}");
    // The database of this story takes points, and has none for who asks.
    assert!(told.contains("\ninfluxdb: ") && told.contains(" known, 0 present"), "{told}");
    assert!(told.contains("mirror_1: not verified: ") && told.contains("mirrors.1.url"), "{told}");
    options["influxdb"]["url"] = json!("http://127.0.0.1:1");
    let (code, told) = ended(&place, &options, &["verify"]);
    assert_eq!(code, Some(69), "{told}");
    assert!(told.contains("influxdb.url") && told.contains("mirrors.1.url"), "{told}");
}

/// Its share of the disk is full for ever, and gaps are closed for the other all the same.
#[test]
fn a_gap_is_closed_for_the_healthy_one_although_the_disk_is_full_of_what_the_other_lacks() {
    let (world, place) = (World::new(), Place::new());
    let mut options = world.options();
    let _mirror = with_mirror(&mut options);
    options["delivery"]["spool_megabytes"] = json!(1);
    let mut service = Service::start_at(&place, place.command(Some(&options), &[]));
    service.wait_for_reason("mirror_1");
    service.wait_until("it has heard the present", |_| world.database.has(&world.present()));
    let is_full = |service: &Service| service.metric("points_dropped_total{target=\"mirror_1\"}") > 0;
    service.wait_until("the disk is full", |service| {
        world.home.storm(500);
        std::thread::sleep(Duration::from_millis(50));
        is_full(service)
    });
    for gaps in 1..=2 {
        world.home.turn(|knobs| knobs.answer_502 = true);
        world.home.restart();
        service.wait_for_reason("home_assistant: connecting");
        world.home.storm(200);
        world.home.turn(|knobs| knobs.answer_502 = false);
        service.wait_until("the gap is closed", |service| service.metric("gaps_closed_total") >= gaps);
        service
            .wait_until("all of it is written", |service| service.metric("points_pending{target=\"influxdb\"}") == 0);
        let (there, expected) = (world.database.points().0, world.expected());
        let missing: Vec<_> = expected.difference(&there).collect();
        assert!(missing.is_empty(), "{} of {} are missing: {:?}", missing.len(), expected.len(), missing[0]);
    }
    assert_eq!(service.metric("points_dropped_total{target=\"influxdb\"}"), 0);
    service.stop();
}
