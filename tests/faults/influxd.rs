//! The same with a real InfluxDB 1.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::metrics::MAIN;
use crate::mount::Mount;
use crate::oracle::{Story, end, metrics};
use crate::service::Service;
use crate::support::influxd::{Influxd, identifier};
use crate::world::Key;

const DATABASE: &str = "home";

/// A story whose database is a real one.
fn story(influxd: &Influxd, durability: &str) -> Story {
    let mut story = Story::new(durability);
    story.options["influxdb"] = json!({"url": influxd.url(), "api": "v1", "database": DATABASE});
    story.options["delivery"]["request_timeout_seconds"] = json!(5);
    // One name for all of it: one question finds everything.
    story.options["schema"] = json!({"override_measurement": "states"});
    story
}

/// Entity and time of every point.
fn stored(influxd: &Influxd) -> BTreeSet<Key> {
    let results = influxd.query(DATABASE, "SELECT * FROM states GROUP BY domain, entity_id");
    let mut keys = BTreeSet::new();
    for series in results[0]["series"].as_array().unwrap_or(&Vec::new()) {
        let tag = |name: &str| series["tags"][name].as_str().unwrap().to_owned();
        let entity = format!("{}.{}", tag("domain"), tag("entity_id"));
        for row in series["values"].as_array().unwrap() {
            let nanos = row[0].as_i64().unwrap();
            keys.insert((entity.clone(), ha_ingestor::model::time::Timestamp::from_micros(nanos / 1_000)));
        }
    }
    keys
}

/// The database has all of it, except these, and nothing else.
fn check(story: &Story, influxd: &Influxd, except: &[Key]) {
    let stored = stored(influxd);
    let mut expected = story.world.expected();
    for key in except {
        assert!(expected.remove(key), "{key:?} never happened");
    }
    let missing: Vec<_> = expected.difference(&stored).collect();
    assert!(missing.is_empty(), "{} are missing: {:?}", missing.len(), missing.first());
    assert_eq!(stored.difference(&expected).next(), None);
}

fn finish(story: &Story, influxd: &Influxd, mut service: Service) {
    story.drain_within(&mut service, Duration::from_mins(1));
    service.wait_until_ready();
    end(service);
    check(story, influxd, &[]);
}

#[test]
fn a_real_database_that_is_killed_in_the_middle_gets_everything() {
    let Some(mut influxd) = Influxd::start() else { return };
    influxd.create_database(DATABASE);
    let mut story = story(&influxd, "balanced");
    let service = story.start();
    for _ in 0..3 {
        story.storm(2_000);
        influxd.kill();
        story.storm(500);
        influxd.start_again();
    }
    finish(&story, &influxd, service);
}

#[test]
fn a_real_database_that_is_dropped_and_made_again_gets_what_came_after() {
    let Some(influxd) = Influxd::start() else { return };
    let mut story = story(&influxd, "balanced");
    let mut service = story.start();
    story.storm(500);
    service.wait_for_reason("the database does not exist");
    influxd.create_database(DATABASE);
    story.drain_within(&mut service, Duration::from_mins(1));
    check(&story, &influxd, &[]);

    let before = story.world.expected();
    influxd.query("", &format!("DROP DATABASE {}", identifier(DATABASE)));
    story.storm(500);
    service.wait_for_reason("the database does not exist");
    influxd.create_database(DATABASE);
    story.drain_within(&mut service, Duration::from_mins(1));
    let missing: BTreeSet<_> = story.world.expected().difference(&stored(&influxd)).cloned().collect();
    assert!(missing.is_subset(&before), "what was dropped is gone, what came after is there");
    end(service);
}

#[test]
fn a_real_retention_policy_that_is_missing_holds_everything_back() {
    let Some(influxd) = Influxd::start() else { return };
    influxd.create_database(DATABASE);
    let mut story = story(&influxd, "balanced");
    story.options["influxdb"]["retention_policy"] = json!("years");
    let mut service = story.start();
    story.storm(300);
    service.wait_for_reason("retention policy");
    // Not only the visit before it found that out.
    service.wait_until("a write was refused", |service| {
        metrics(service).count("write_requests_total", &[("target", MAIN), ("outcome", "hold")]) > 0
    });
    let policy =
        format!("CREATE RETENTION POLICY years ON {} DURATION INF REPLICATION 1 DEFAULT", identifier(DATABASE));
    influxd.query("", &policy);
    finish(&story, &influxd, service);
}

#[test]
fn a_real_limit_of_the_body_is_found() {
    let Some(influxd) = Influxd::start_with("max-body-size = 20000") else { return };
    influxd.create_database(DATABASE);
    let mut story = story(&influxd, "balanced");
    story.options["delivery"]["compression"] = json!("none");
    let service = story.start();
    story.storm(3_000);
    finish(&story, &influxd, service);
}

/// A live entity changes the type of one of its fields: its points are set aside, all others flow.
#[test]
fn a_real_conflict_of_types_costs_only_the_points_in_conflict() {
    let Some(influxd) = Influxd::start() else { return };
    influxd.create_database(DATABASE);
    let mut story = story(&influxd, "balanced");
    // A field of this name is there already, as a text, and in the same shard: types are those of a shard.
    let line = "states,domain=sensor,entity_id=conflict odd=\"text\"";
    let written = crate::support::http::post(influxd.address, "/write?db=home", &[], line).unwrap();
    assert_eq!(written.status, 204, "{written:?}");
    let mut service = story.start();
    story.storm(300);
    let mut odd = Vec::new();
    for value in [1, 2, 3] {
        let attributes = [("odd".into(), ha_ingestor::model::value::Value::Int(value))].into_iter().collect();
        let change = story.world.home.set("sensor.conflict", &value.to_string(), attributes).unwrap();
        odd.push(("sensor.conflict".to_owned(), change.entry().last_updated));
        story.storm(100);
    }
    story.drain(&mut service);
    assert_eq!(metrics(&service).of(MAIN, "points_dead_lettered_total"), 3);
    service.wait_until_ready();
    let letters = service.get("/api/dead-letters").body;
    assert!(letters.contains("conflict"), "{letters}");
    end(service);
    let stored = stored(&influxd);
    let expected = story.world.expected();
    let missing: BTreeSet<_> = expected.difference(&stored).cloned().collect();
    assert_eq!(missing, odd.into_iter().collect());
}

#[test]
fn a_real_database_whose_disk_is_full_gets_everything_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Mount::new(&folder.path().join("data"), 6 << 20) else { return };
    let Some(mut influxd) = Influxd::start_in(folder.path().join("data"), "") else { return };
    influxd.create_database(DATABASE);
    let mut story = story(&influxd, "balanced");
    let mut service = story.start();
    story.storm(500);
    story.drain(&mut service);
    let ballast = folder.path().join("data/ballast");
    let _ = fs::write(&ballast, vec![0; 8 << 20]);
    story.storm(5_000);
    service.wait_until("it cannot be stored", |service| metrics(service).of(MAIN, "target_connected") == 0);
    fs::remove_file(ballast).unwrap();
    disk.grows_to(64 << 20);
    // InfluxDB 1 repeats the error of its log for ever, although there is room: whoever made some has to restart it.
    influxd.kill();
    influxd.start_again();
    finish(&story, &influxd, service);
}

/// So that nobody takes a broken question for an empty database.
#[test]
fn what_a_real_database_holds_is_read_back() {
    let Some(influxd) = Influxd::start() else { return };
    influxd.create_database(DATABASE);
    let lines = "states,domain=sensor,entity_id=a value=1 1795448700250000000\n\
                 states,domain=sensor,entity_id=b value=2 1795448700250000000";
    let written = crate::support::http::post(influxd.address, "/write?db=home", &[], lines).unwrap();
    assert_eq!(written.status, 204, "{written:?}");
    let keys = stored(&influxd);
    assert_eq!(keys.len(), 2);
    assert!(keys.iter().all(|(_, time)| time.as_micros() == 1_795_448_700_250_000));
    assert_eq!(influxd.query(DATABASE, "SHOW MEASUREMENTS")[0]["series"][0]["name"], Value::from("measurements"));
}
