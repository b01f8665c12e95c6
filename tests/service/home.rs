//! What Home Assistant may do to it.

use std::time::Duration;

use ha_ingestor::config::secret::Secret;
use ha_ingestor::model::value::{Attributes, Value};
use serde_json::json;

use crate::service::Service;
use crate::world::{ENTITIES, World};

/// The number of the command that subscribes to the states: before it are one for arrays, two for each of the five
/// registries, and one for each type of `events`.
const STATES: u64 = 1 + 2 * 5 + 3 + 1;

#[test]
fn every_change_is_in_the_database_exactly_once() {
    let world = World::new();
    let mut service = Service::start(&world.options());
    service.wait_until_ready();
    for _ in 0..10 {
        world.home.storm(50);
    }
    service.wait_until("everything is stored", |_| world.database.has(&world.expected()));
    assert!(world.database.requests().iter().any(|request| request.header("content-encoding") == Some("gzip")));
    // The database has a batch before the service has its answer.
    service.wait_until("everything is counted", |service| service.page().is_settled());
    assert_eq!(service.metric("events_received_total"), 500 + ENTITIES as u64);
    assert_eq!(service.metric("points_written_total"), world.expected().len() as u64);
    let ended = service.stop();
    assert_eq!(world.database.points(), (world.expected(), true));
    assert!(!ended.log.contains("WARN") && !ended.log.contains("ERROR"), "{}", ended.log);
}

#[test]
fn a_home_that_cannot_be_reached_is_waited_for() {
    let world = World::deserted();
    world.open_database();
    let mut service = Service::start(&world.options());
    service.wait_for_reason("home_assistant: nothing listens at 127.0.0.1:");
    service.wait_until("it tries again", |service| service.metric("ha_failures_total") >= 2);
    assert_eq!(service.said("check the address, and that Home Assistant runs; trying again").len(), 1);
    world.open_gate();
    service.wait_until("everything is stored", |_| world.database.has(&world.expected()));
    service.wait_until_ready();
    service.stop();
    assert_eq!(world.database.points(), (world.expected(), true));
}

#[test]
fn a_home_assistant_that_starts_is_no_fault_and_is_waited_for() {
    let world = World::new();
    world.home.turn(|knobs| knobs.answer_502 = true);
    let mut service = Service::start(&world.options());
    service.wait_for_reason("home_assistant: connecting; Home Assistant is starting");
    service.wait_for_log("Home Assistant is starting: waiting for it");
    assert_eq!(service.metric("ha_failures_total"), 0);
    world.home.turn(|knobs| knobs.answer_502 = false);
    service.wait_until_ready();
    let ended = service.stop();
    assert!(!ended.log.contains("WARN") && !ended.log.contains("ERROR"), "{}", ended.log);
    assert_eq!(world.database.points(), (world.expected(), true));
}

#[test]
fn a_wrong_token_is_tried_once_and_the_right_one_works_after_a_restart() {
    let world = World::new();
    world.home.turn(|knobs| knobs.token = Secret::new("another"));
    let mut options = world.options();
    let mut service = Service::start(&options);
    service.wait_for_reason("home_assistant: Home Assistant does not accept the token");
    // Each try counts as a failed login in Home Assistant, which bans who fails too often.
    service.wait_until("some time has passed", |service| service.metric("uptime_seconds") >= 4);
    assert_eq!(world.visits(), 1);
    assert_eq!(service.metric("ha_failures_total"), 1);
    let errors = service.said("create a new long-lived access token and enter it");
    assert!(errors.len() == 1 && errors[0].contains("ERROR"), "{}", service.log());
    service.stop();

    options["home_assistant"]["token"] = json!("another");
    let mut service = Service::start(&options);
    service.wait_until_ready();
    service.stop();
    assert_eq!(world.database.points(), (world.expected(), true));
}

#[test]
fn a_home_that_hangs_up_every_second_is_called_again_and_no_state_is_lost() {
    let world = World::new();
    let mut service = Service::start(&world.options());
    service.wait_until_ready();
    world.home.turn(|knobs| {
        knobs.disconnect_every = Some(Duration::from_secs(1));
        knobs.events_per_second = 100.0;
    });
    service.wait_until("it was hung up on", |service| service.metric("ha_sessions_total") >= 4);
    service.wait_for_reason("home_assistant: Home Assistant closed the connection");
    world.home.turn(|knobs| {
        knobs.disconnect_every = None;
        knobs.events_per_second = 0.0;
    });
    service.wait_until_ready();
    service.wait_until("what happened between the calls is stored", |_| world.database.has(&world.expected()));
    assert_eq!(world.database.points().0, world.expected());
    assert!(service.metric("points_duplicate_suppressed_total") > 0);
    service.stop();
}

/// Between frames that make no sense are frames that do; the second kind arrives, the first kind is counted.
#[test]
fn frames_that_make_no_sense_are_counted_and_cost_nothing_else() {
    let world = World::new();
    // One message a frame: in a frame of several, broken text would take the others with it.
    world.home.turn(|knobs| knobs.coalesce = false);
    let mut service = Service::start(&world.options());
    service.wait_until_ready();
    // The first loss makes the service end its subscription and begin another one.
    let again = STATES + 2;
    let event = |body: &str| format!(r#"{{"type":"event","event":{body},"id":{again}}}"#);
    let garbage = [
        ("ha_unreadable_total{reason=\"frame\"}", "no JSON".to_owned()),
        ("ha_unreadable_total{reason=\"frame\"}", event(r#"{"a":{}}"#)[..20].to_owned()),
        ("ha_unreadable_total{reason=\"frame\"}", String::new()),
        ("ha_unreadable_total{reason=\"frame\"}", "[".repeat(100_000)),
        ("ha_unreadable_total{reason=\"message\"}", format!(r#"{{"type":"event","id":{STATES}}}"#)),
        ("ha_unreadable_total{reason=\"message\"}", r#"{"type":"pong","id":-1}"#.to_owned()),
        ("ha_unreadable_total{reason=\"message\"}", "[17]".to_owned()),
        ("ha_unreadable_total{reason=\"entity\"}", event(r#"{"a":{"nodot":{"s":"1","a":{},"lc":1.0}}}"#)),
        ("ha_unreadable_total{reason=\"entity\"}", event(r#"{"a":{"sensor.x":{"s":"1","a":{},"lc":1e30}}}"#)),
        ("ha_unreadable_total{reason=\"unknown_entity\"}", event(r#"{"c":{"sensor.nobody":{"+":{"s":"1"}}}}"#)),
        ("ha_unreadable_total{reason=\"unknown_entity\"}", event(r#"{"r":["sensor.nobody"]}"#)),
        ("ha_unknown_messages_total", r#"{"type":"event","event":{"a":{}},"id":99}"#.to_owned()),
        ("ha_unknown_messages_total", r#"{"type":"never heard of"}"#.to_owned()),
        ("ha_unknown_messages_total", format!(r#"{{"type":"long","x":"{}"}}"#, "x".repeat(60 << 20))),
    ];
    for (at, (counter, frame)) in garbage.iter().enumerate() {
        let before = service.metric(counter);
        let begin = frame.chars().take(60).collect::<String>();
        world.home.garbage(frame);
        assert!(world.home.set("sensor.good", &at.to_string(), Attributes::default()).is_some());
        service.wait_until(&begin, |service| service.metric(counter) == before + 1);
        service.wait_until(&format!("what follows {begin}"), |_| world.database.has(&world.expected()));
    }
    assert_eq!(service.metric("ha_sessions_total"), 1, "no session was lost over it");
    service.stop();
    assert_eq!(world.database.points(), (world.expected(), true));
}

#[test]
fn what_is_only_odd_arrives() {
    let world = World::new();
    world.home.turn(|knobs| knobs.coalesce = false);
    let mut service = Service::start(&world.options());
    service.wait_until_ready();
    let odd =
        ["sensor.Ä \n=,\"x\"", "SENSOR.upper", "sensor.with.dots", "sensor.\\", "日本.東京 ☃", "sensor.back\\slash"];
    for id in odd {
        let attributes: Attributes = [
            ("unit_of_measurement".into(), Value::Text("a b,c=\"d\"\\".into())),
            ("line\nbreak".into(), Value::Text("one\ntwo\r\"quoted\" \\".into())),
            ("".into(), Value::Text("no name".into())),
            ("time".into(), Value::Int(5)),
        ]
        .into_iter()
        .collect();
        assert!(world.home.set(id, "1", attributes).is_some());
    }
    let number =
        r#"{"a":{"sensor.large":{"s":"5","a":{"huge":1e400,"small":2,"max":18446744073709551616},"lc":1795448700.5}}}"#;
    world.home.garbage(&format!(r#"{{"type":"event","event":{number},"id":{STATES}}}"#));
    let points = ENTITIES + odd.len() + 1;
    service.wait_until("all of it is stored", |service| service.metric("events_received_total") == points as u64);
    let unreadable = "ha_unreadable_total{reason=\"attribute\"}";
    service.wait_until("1e400 is counted, after the others", |service| service.metric(unreadable) == 1);
    service.stop();
    let lines = world.database.lines();
    assert_eq!(lines.len(), world.expected().len() + 1);
    let large = lines.iter().find(|line| line.contains("entity_id=large")).unwrap();
    assert!(
        large.contains("small=2") && large.contains("max=1.8446744073709552e+19") && !large.contains("huge"),
        "{large}"
    );
    // A line break in a name becomes a space, in all dialects.
    let (stored, _) = world.database.points();
    for id in ["sensor.Ä  =,\"x\"", "SENSOR.upper", "sensor.with.dots", "日本.東京 ☃", "sensor.back\\slash"] {
        assert!(stored.iter().any(|(entity, _)| entity == id), "{id:?} is not among {stored:?}");
    }
}
