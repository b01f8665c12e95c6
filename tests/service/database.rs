//! What the database may do to it.

use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::service::Service;
use crate::world::{ENTITIES, Mood, World};

#[test]
fn a_database_that_is_not_there_yet_gets_everything_of_the_meantime() {
    let world = World::deserted();
    world.open_gate();
    let mut service = Service::start(&world.options());
    service.wait_for_reason("nothing listens there: check the port in influxdb.url");
    service.wait_until("the home is known", |service| service.metric("ha_entities") == ENTITIES as u64);
    world.home.storm(300);
    let all = world.expected().len() as u64;
    service.wait_until("everything is held", |service| service.metric("points_pending") == all);
    service.wait_for_log("cannot write: ");
    assert_eq!(service.said("cannot write: ").len(), 1);
    world.open_database();
    service.wait_until("everything is stored", |_| world.database.has(&world.expected()));
    service.wait_until_ready();
    service.wait_for_log("writing to api v1 again after");
    service.stop();
    assert_eq!(world.database.points(), (world.expected(), true));
}

/// Each mood with what `/ready` says about it; `None`: it is no fault.
#[test]
fn whatever_a_database_answers_nothing_is_lost_and_it_is_told_what_is_wrong() {
    let world = World::new();
    let mut service = Service::start(&world.options());
    service.wait_until("the first states are stored", |_| world.database.has(&world.expected()));
    service.wait_until_ready();
    let moods = [
        (Mood::Says(502, "<html><h1>502 Bad Gateway</h1></html>"), Some("the database answers 502: a web page")),
        (Mood::Says(429, ""), Some("the database answers 429")),
        (Mood::Breaks("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"resu"), Some("the connection broke")),
        (Mood::Breaks(""), Some("the connection broke")),
        (Mood::Breaks("SSH-2.0-OpenSSH_9.6\r\n\r\n"), Some("the answer is not HTTP")),
        (Mood::Drips, Some("no answer in time")),
        (Mood::TakesWith(200), None),
        (Mood::Slow(Duration::from_millis(300)), None),
    ];
    for (mood, reason) in moods {
        let before = service.metric("write_requests_total{outcome=\"stored\"}");
        world.database.is(mood);
        world.home.storm(100);
        if let Some(reason) = reason {
            service.wait_for_reason(reason);
            assert_eq!(service.metric("write_requests_total{outcome=\"stored\"}"), before);
            assert_eq!(service.metric("target_connected"), 0);
            world.database.is(Mood::Well);
        }
        service.wait_until("everything is stored", |_| world.database.has(&world.expected()));
        service.wait_until_ready();
    }
    assert_eq!(service.said("cannot write: ").len(), 6, "one line at the beginning of each");
    assert_eq!(service.said("writing to api v1 again after").len(), 6, "and one at the end");
    service.stop();
    assert_eq!(world.database.points(), (world.expected(), true));
}

/// The service asks only now and then whether somebody has acted, so these are told side by side.
#[test]
fn faults_that_need_a_person_are_told_and_heal_without_a_restart() {
    let faults = [
        (Mood::Says(401, "{\"error\":\"authorization failed\"}"), "check influxdb.token, or influxdb.username"),
        (Mood::Says(404, "{\"error\":\"database not found: \\\"home\\\"\"}"), "the database does not exist"),
        (Mood::Says(200, "<html>Welcome to the hotel</html>"), "a web page answered instead of the database"),
    ];
    thread::scope(|scope| {
        for (mood, advice) in faults {
            scope.spawn(move || {
                let world = World::new();
                world.database.is(mood);
                let mut options = world.options();
                options["delivery"]["breaker_open_seconds"] = json!(5);
                let mut service = Service::start(&options);
                service.wait_for_reason(advice);
                service.wait_for_log("nothing can be written until somebody acts");
                world.home.storm(100);
                world.database.is(Mood::Well);
                let errors = service.said("nothing can be written until somebody acts");
                assert!(errors.len() == 1 && errors[0].contains("ERROR") && errors[0].contains(advice), "{errors:?}");
                assert_eq!(service.metric("write_requests_total{outcome=\"hold\"}"), 1, "it does not hammer");
                let patience = "everything is stored after the next question";
                service.wait_until_within(Duration::from_secs(45), patience, |_| world.database.has(&world.expected()));
                service.wait_until_ready();
                service.stop();
                assert_eq!(world.database.points(), (world.expected(), true));
            });
        }
    });
}

#[test]
fn of_a_batch_with_one_bad_line_exactly_that_line_is_missing() {
    let world = World::new();
    world.database.is(Mood::CannotParse("entity_id=poison"));
    let mut options = world.options();
    options["delivery"]["linger_ms"] = json!(500);
    let mut service = Service::start(&options);
    service.wait_until_ready();
    world.home.storm(200);
    let poison = world.home.set("sensor.poison", "1", [].into_iter().collect()).unwrap();
    world.home.storm(200);
    let mut expected = world.expected();
    assert!(expected.remove(&("sensor.poison".to_owned(), poison.entry().last_updated)));
    service.wait_until("its neighbours are stored", |_| world.database.has(&expected));
    service.wait_until("it is counted", |service| {
        service.metric("points_dead_lettered_total{reason=\"unparsable\"}") == 1
    });
    service.wait_until_ready();
    let told = service.said(
        "the database refused 1 records, they are set aside as dead letters: unable to parse the line: invalid number",
    );
    assert!(told.len() == 1 && told[0].contains("WARN") && !told[0].contains("poison"), "{}", service.log());
    service.stop();
    assert_eq!(world.database.points(), (expected, true));
}

#[test]
fn when_the_spool_is_full_the_oldest_go_and_it_is_said_once() {
    let world = World::new();
    world.database.is(Mood::Says(503, "busy"));
    // A frame for each change, as in a home: the spool is full many times over.
    world.home.turn(|knobs| knobs.coalesce = false);
    let mut options = world.options();
    options["delivery"]["memory_megabytes"] = json!(1);
    options["delivery"]["spool_megabytes"] = json!(1);
    let mut service = Service::start(&options);
    service.wait_for_reason("influxdb: the database answers 503");
    world.home.storm(15_000);
    let all = 15_000 + ENTITIES as u64;
    service.wait_until("everything has come", |service| service.metric("events_received_total") == all);
    service.wait_until("everything is shaped", Service::books_balance);
    let dropped = |service: &Service| service.metric("points_dropped_total{reason=\"spool_full\"}");
    service.wait_until("the oldest go", |service| dropped(service) > 1_000);
    let said = service.said("the disk space for points that wait is full");
    assert!(said.len() == 1 && said[0].contains("WARN"), "it is said {} times", said.len());
    assert_eq!(service.get("/health").status, 200);

    world.database.is(Mood::Well);
    service.wait_until("the rest is stored", |service| service.metric("points_pending") == 0);
    service.wait_until_ready();
    let (stored, each_once) = world.database.points();
    assert!(each_once);
    let expected = world.expected();
    assert_eq!(stored.len() as u64 + dropped(&service), expected.len() as u64);
    let newest_dropped = expected.difference(&stored).map(|(_, time)| *time).max();
    let oldest_stored = stored.iter().map(|(_, time)| *time).min();
    assert!(newest_dropped < oldest_stored, "what is there is the newest");
    service.stop();
}
