//! What rules, the retention of a database and a start of Home Assistant leave out is not missing; what is lost is.

use std::fs;

use ha_ingestor::demo::state::State;
use ha_ingestor::model::time::Timestamp;
use ha_ingestor::model::value::Value as Attribute;
use ha_ingestor::runtime::clock;
use serde_json::Value;

use super::{Bench, DATABASE, counts, lacking};
use crate::import::{days_ago, import_with};
use crate::points::{Place, Points, points};
use crate::support::http;
use crate::support::influxd::{Influxd, identifier};

const HOUR: i64 = 3_600_000_000_000;
const MINUTE: i64 = 60_000_000_000;
/// A point each five minutes, in the simulated home.
const THROTTLED: &str = "living_room_temperature";
const BEATING: &str = "living_room_humidity";
const PACE: &str = "
rules:
  - {match: {entities: sensor.living_room_temperature}, throttle: 10m}
  - {match: {entities: sensor.living_room_humidity}, heartbeat: 2m}
";

fn import(bench: &Bench, influxd: &Influxd, days: i64) -> String {
    let [from, to] = days_ago(days);
    let options = bench.options(&influxd.url());
    let (code, told) =
        import_with(bench.folder.path(), &options, &["--from", &from, "--to", &to, "--no-statistics", "--restart"]);
    assert_eq!(code, Some(0), "{told}");
    told
}

fn all(influxd: &Influxd) -> Points {
    points(influxd, DATABASE, i64::MIN + 10, i64::MAX - 10)
}

fn of<'a>(points: &'a Points, entity: &str) -> Vec<&'a Place> {
    points.keys().filter(|place| place.series.tags["entity_id"] == entity).collect()
}

fn write(influxd: &Influxd, line: &str) {
    let answer = http::post(influxd.address, &format!("/write?db={DATABASE}"), &[], line).unwrap();
    assert_eq!(answer.status, 204, "{answer:?}");
}

fn rules(bench: &Bench, rules: &str) {
    fs::create_dir_all(bench.folder.path().join("data")).unwrap();
    fs::write(bench.folder.path().join("data/rules.yaml"), rules).unwrap();
}

/// What the report says of an entity of the domain `sensor`.
fn entity<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut entities = report["targets"][0]["entities"].as_array().unwrap().iter();
    let wanted = format!("sensor.{name}");
    entities.find(|entity| entity["entity"] == *wanted).unwrap_or_else(|| panic!("{wanted}: {report}"))
}

#[test]
fn what_the_pace_of_an_entity_left_out_or_added_is_neither_missing_nor_extra() {
    let Some(influxd) = Influxd::start() else { return };
    influxd.create_database(DATABASE);
    let (bench, url) = (Bench::new(), influxd.url());
    rules(&bench, PACE);
    // It began earlier than what is verified: the slots of a throttle do not lie where ours lie.
    import(&bench, &influxd, 2);
    let stored = all(&influxd);
    let (throttled, beating) = (of(&stored, THROTTLED), of(&stored, BEATING));
    assert!(throttled.len() < 160 && beating.len() > 240, "{} and {}", throttled.len(), beating.len());
    // As a heartbeat writes the last value again.
    let beats: Vec<String> = beating
        .iter()
        .map(|place| format!("%,domain=sensor,entity_id={BEATING} value=50 {}", place.time + 2 * MINUTE))
        .collect();
    assert!(beating.iter().all(|place| place.series.measurement == "%"));
    write(&influxd, &beats.join("\n"));

    let (code, report) = bench.json(&url, &[]);
    let [known, present, missing, extra, differing] = counts(&report);
    assert_eq!((code, missing, extra, differing), (Some(0), 0, 0, 0), "{report}");
    assert!(known > 1_000 && known == present, "{known} known, {present} present");
    let entities = report["targets"][0]["entities"].as_array().unwrap().iter();
    let inexact: Vec<&Value> = entities.filter(|entity| entity["exact"] != true).map(|one| &one["entity"]).collect();
    assert_eq!(inexact, ["sensor.living_room_humidity", "sensor.living_room_temperature"]);
    let (_, told) = bench.verify(&url, &["--all"]);
    assert_eq!(told.matches("not compared exactly").count(), 2, "{told}");

    // An hour of both is lost.
    let begin = clock::now().as_nanos() / HOUR * HOUR - 5 * HOUR;
    let lost = |entity: &str| {
        let within = |place: &&&Place| (begin..begin + HOUR).contains(&place.time);
        of(&stored, entity).iter().filter(within).count() as u64
    };
    let (lost_throttled, lost_beating) = (lost(THROTTLED), lost(BEATING));
    for (measurement, entity) in [("°C", THROTTLED), ("%", BEATING)] {
        let (measurement, until) = (identifier(measurement), begin + HOUR);
        let condition = format!("time >= {begin} AND time < {until} AND entity_id = '{entity}'");
        influxd.query(DATABASE, &format!("DELETE FROM {measurement} WHERE {condition}"));
    }
    let (code, report) = bench.json(&url, &[]);
    assert_eq!(code, Some(1), "{report}");
    let hour = Timestamp::from_micros(begin / 1_000).to_string();
    let hours: Vec<_> = lacking(&report).into_iter().collect();
    let expected = ["sensor.living_room_humidity", "sensor.living_room_temperature"];
    assert_eq!(hours, expected.map(|name| (name.to_owned(), vec![hour.clone()])));
    assert_eq!(entity(&report, BEATING)["missing"], lost_beating);
    // Near the edges of the hour another point may be the one that was expected.
    let missing = entity(&report, THROTTLED)["missing"].as_u64().unwrap();
    assert!(lost_throttled >= 4 && missing >= 2 && missing <= lost_throttled, "{missing} of {lost_throttled}");
    println!("of the lost hour: throttled {missing} of {lost_throttled}, heartbeat {lost_beating} of {lost_beating}");

    assert_eq!(bench.json(&url, &["--repair"]).0, Some(0));
    let (code, report) = bench.json(&url, &[]);
    assert_eq!((code, counts(&report)), (Some(0), [known, known, 0, 0, 0]), "{report}");
}

#[test]
fn what_a_database_does_not_keep_any_more_is_neither_missing_nor_extra() {
    let Some(influxd) = Influxd::start() else { return };
    influxd.create_database(DATABASE);
    let (bench, url) = (Bench::new(), influxd.url());
    let short = "DURATION 6h REPLICATION 1 SHARD DURATION 1h DEFAULT";
    influxd.query("", &format!("CREATE RETENTION POLICY \"short\" ON {DATABASE} {short}"));
    let told = import(&bench, &influxd, 2);
    let (code, report) = bench.json(&url, &[]);
    let [known, present, missing, extra, differing] = counts(&report);
    assert_eq!((code, missing, extra, differing), (Some(0), 0, 0, 0), "{report}");
    assert!(known > 300 && known < 700 && known == present, "{known} known, {present} present: {told}");
    let from = Timestamp::from_rfc3339(report["targets"][0]["verifiable_from"].as_str().unwrap()).unwrap();
    let six_hours_ago = clock::now().as_nanos() - 6 * HOUR;
    assert!((six_hours_ago - 2 * MINUTE..six_hours_ago).contains(&from.as_nanos()), "{from}");
    let (_, told) = bench.verify(&url, &[]);
    assert!(told.contains("it keeps nothing from before "), "{told}");
    assert_eq!(bench.json(&url, &["--repair"]).1["targets"][0]["repaired"], 0);

    let stored = all(&influxd);
    let lost = of(&stored, BEATING)[40];
    influxd.query(DATABASE, &format!("DELETE FROM \"%\" WHERE time = {} AND entity_id = '{BEATING}'", lost.time));
    let (code, report) = bench.json(&url, &[]);
    let [_, _, missing, extra, _] = counts(&report);
    assert_eq!((code, missing, extra), (Some(1), 1, 0), "{report}");

    // What is thrown away soon is still there: everything is written, and then kept for a shorter time.
    let long = "DURATION INF REPLICATION 1 SHARD DURATION 1h DEFAULT";
    influxd.query("", &format!("CREATE RETENTION POLICY \"long\" ON {DATABASE} {long}"));
    import(&bench, &influxd, 2);
    let (code, report) = bench.json(&url, &[]);
    let [whole, ..] = counts(&report);
    assert!(code == Some(0) && report["targets"][0]["verifiable_from"].is_null() && whole > 1_500, "{report}");
    influxd.query("", &format!("ALTER RETENTION POLICY \"long\" ON {DATABASE} DURATION 6h SHARD DURATION 1h"));
    let (code, report) = bench.json(&url, &[]);
    let [known, present, missing, extra, differing] = counts(&report);
    assert_eq!((code, missing, extra, differing), (Some(0), 0, 0, 0), "{report}");
    assert!(known > 300 && known < 700 && known == present, "{known} known, {present} present");
}

#[test]
fn states_that_home_assistant_restored_are_not_missing_where_they_are_left_out() {
    let Some(influxd) = Influxd::start() else { return };
    influxd.create_database(DATABASE);
    let bench = Bench::new();
    let verify = |skip_restored: bool, arguments: &[&str]| {
        let mut options = bench.options(&influxd.url());
        options["history"] = serde_json::json!({"skip_restored": skip_restored});
        let (code, report) = bench.json_with(&options, arguments);
        (code, counts(&report))
    };
    import(&bench, &influxd, 2);
    let (code, [known, ..]) = verify(true, &[]);
    assert_eq!(code, Some(0));

    let before = clock::now().to_string();
    bench.home.begin_anew();
    // Now and then a sensor of the home is unavailable, which is no point.
    let is_written = |state: &State| !["unavailable", "unknown", ""].contains(&&*state.state);
    let states = bench.home.home(|home| home.states().filter(|(_, state)| is_written(state)).count() as u64);
    assert!(states >= 5);
    // As the service works with this option: nothing was written. One really new state is, and is lost.
    assert_eq!(verify(true, &[]), (Some(0), [known, known, 0, 0, 0]));
    assert_eq!(verify(false, &[]), (Some(1), [known + states, known, states, 0, 0]));
    // Also where all that is known of an entity from the period is that it was restored.
    assert_eq!(verify(true, &["--from", &before]), (Some(0), [0; 5]));
    assert_eq!(verify(false, &["--from", &before]), (Some(1), [states, 0, states, 0, 0]));
    let attributes = [("unit_of_measurement".into(), Attribute::Text("°C".into()))].into_iter().collect();
    bench.home.set("sensor.living_room_temperature", "99", attributes).unwrap();
    assert_eq!(verify(true, &["--from", &before]), (Some(1), [1, 0, 1, 0, 0]));

    // As it works without: all of it is there, and that is not too much.
    import(&bench, &influxd, 2);
    let all = known + states + 1;
    for skip_restored in [false, true] {
        assert_eq!(verify(skip_restored, &[]), (Some(0), [all, all, 0, 0, 0]), "{skip_restored}");
    }
}

#[test]
fn the_reach_of_the_history_is_that_of_the_entities_that_are_asked_for() {
    let Some(influxd) = Influxd::start() else { return };
    influxd.create_database(DATABASE);
    let (bench, url) = (Bench::new(), influxd.url());
    import(&bench, &influxd, 2);
    let attributes = [("unit_of_measurement".into(), Attribute::Text("W".into()))].into_iter().collect();
    bench.home.set("sensor.late", "5", attributes).unwrap();
    import(&bench, &influxd, 2);
    // From a time of which the recorder knows nothing any more, as far as this entity goes.
    let old = clock::now().as_nanos() - 7 * HOUR - 1_000;
    write(&influxd, &format!("W,domain=sensor,entity_id=late value=6 {old}"));
    let begins = |report: &Value| report["notes"].to_string().contains("history begins at");
    let (code, report) = bench.json(&url, &["--entity", "sensor.late"]);
    assert_eq!((code, counts(&report)), (Some(0), [1, 1, 0, 0, 0]), "{report}");
    assert!(begins(&report), "{report}");
    let until = Timestamp::from_micros(old / 1_000 + 1_000_000).to_string();
    let (code, report) = bench.json(&url, &["--entity", "sensor.late", "--to", &until]);
    assert_eq!((code, counts(&report)), (Some(0), [0; 5]), "{report}");
    assert!(report["notes"].to_string().contains("no history of this time"), "{report}");
    let (code, report) = bench.json(&url, &[]);
    let [_, _, missing, extra, _] = counts(&report);
    assert_eq!((code, missing, extra), (Some(0), 0, 1), "{report}");
    assert!(!begins(&report), "{report}");
}
