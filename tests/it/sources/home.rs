//! One home, heard in every way that there is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::options;
use crate::ingestor::Ingestor;
use crate::peers::home_assistant::{Change, HomeAssistant, Load, Setup};
use crate::points::{Field, Fields, Place, Points, points};
use crate::registries::Owner;
use crate::support::influxd::Influxd;
use crate::support::mosquitto::Mosquitto;
use crate::support::process::wait_until;

const LOAD: Load = Load { count: 1_000, rate: 100, entities: 120, seed: 5, nasty: false };
const STREAMS: &str = "
mqtt:
  topics:
    - {preset: mqtt_statestream, topic: stream/#}
    - {preset: mqtt_eventstream, topic: home/events}
";

/// Also on a machine that builds something else at the same time.
const SOON: Duration = Duration::from_mins(1);

#[test]
fn every_change_is_one_point_whether_it_is_told_once_or_in_three_ways() {
    let Some(influxd) = Influxd::start() else { return };
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let Some(home) = HomeAssistant::start(Setup { mqtt: Some(mosquitto.address.port()), ..Setup::default() }) else {
        return;
    };
    let mut all_ways = options(&influxd, "all_ways", &mosquitto);
    all_ways["home_assistant"] = json!({"url": home.url(), "token": home.token()});
    let mut ingestors = [all_ways, options(&influxd, "mqtt_only", &mosquitto)]
        .map(|options| Ingestor::start_with_rules(&options, STREAMS));
    for ingestor in &mut ingestors {
        ingestor.wait_until_alive();
        ingestor.wait_for("mqtt_topic_filters", |count| count == 2);
    }
    ingestors[0].wait_until_ready();

    let started = now();
    let ledger = home.load(LOAD);
    let flag = json!({"entity_id": "input_boolean.flag"});
    for service in ["turn_on", "turn_off", "turn_on"] {
        home.call(&format!("input_boolean.{service}"), &flag);
    }
    assert_eq!(ledger.len(), LOAD.count);
    // The last of all, so that all is there when it is.
    home.set_state("sensor.the_end", "1", &json!({}));

    let mut flags = Vec::new();
    for (ingestor, database) in ingestors.iter_mut().zip(["all_ways", "mqtt_only"]) {
        wait_until(&format!("{database} has the last change"), SOON, || {
            let found = places(&points(&influxd, database, started, i64::MAX));
            found.keys().any(|(entity, _)| entity == "sensor.the_end").then_some(())
        });
        ingestor.wait_until_settled();
        let found = places(&points(&influxd, database, started, i64::MAX));
        must_be_the_ledger(database, &ledger, &found);
        flags.push(found.into_keys().filter(|(entity, _)| entity == "input_boolean.flag").collect::<BTreeSet<_>>());
        assert_eq!(ingestor.count("points_refused_total") + ingestor.count("points_dropped_total"), 0);
    }
    // Each of them was told by both streams, and by the WebSocket.
    assert!(ingestors[0].count("points_duplicate_suppressed_total") >= 2 * LOAD.count as u64);
    assert!(ingestors[1].count("points_duplicate_suppressed_total") >= LOAD.count as u64);
    assert_eq!(flags[0].len(), 3, "{flags:?}");
    assert_eq!(flags[0], flags[1]);
    for ingestor in ingestors {
        ingestor.stop();
    }
}

#[test]
fn places_are_those_of_the_time_of_a_point_and_rules_change_while_all_goes_on() {
    const DATABASE: &str = "home";
    let Some(influxd) = Influxd::start() else { return };
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let Some(home) = HomeAssistant::start(Setup { mqtt: Some(mosquitto.address.port()), ..Setup::default() }) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut owner = runtime.block_on(Owner::connect(&home));
    let mut ask = |kind: &str, command| runtime.block_on(owner.ask(kind, command));
    let [kitchen, hall] =
        ["Galley", "Hall"].map(|name| ask("config/area_registry/create", json!({"name": name}))["area_id"].clone());
    for (entity, area) in [("sensor.twice_the_level", &kitchen), ("sensor.the_note", &kitchen)] {
        ask("config/entity_registry/update", json!({"entity_id": entity, "area_id": area}));
    }
    let mut options = options(&influxd, DATABASE, &mosquitto);
    options["home_assistant"] = json!({"url": home.url(), "token": home.token()});
    options["schema"] = json!({"registry_tags": ["area"]});
    let in_the_hall = "rules: [{name: Hall, match: {areas: Hall}, tags: {lit: dimly}}]\n";
    let mut ingestor = Ingestor::start_with_rules(&options, in_the_hall);
    ingestor.wait_until_ready();
    let stored = |entity: &str| of_entity(&influxd, DATABASE, entity);
    let change = |number: u32| {
        home.call("input_number.set_value", &json!({"entity_id": "input_number.level", "value": number}));
        home.call("input_text.set_value", &json!({"entity_id": "input_text.note", "value": number.to_string()}));
    };
    change(1);
    let has = |entity: &str, area: &str| stored(entity).iter().any(|(place, _)| tag(place, "area") == area);
    wait_until("points are in the kitchen", SOON, || {
        (has("twice_the_level", "Galley") && has("the_note", "Galley")).then_some(())
    });

    // One gets another room, and one another name as well.
    let before = now();
    ask("config/entity_registry/update", json!({"entity_id": "sensor.the_note", "area_id": hall}));
    let renamed = json!({"entity_id": "sensor.twice_the_level", "new_entity_id": "sensor.double", "area_id": hall});
    ask("config/entity_registry/update", renamed);
    let mut number = 1;
    wait_until("points are in the hall", SOON, || {
        number += 1;
        change(number);
        (has("double", "Hall") && has("the_note", "Hall")).then_some(())
    });
    let after = now();
    change(number + 1);
    ingestor.wait_until_settled();
    ingestor.restart();
    ingestor.wait_until_ready();
    change(number + 2);
    // The present state of the home was written again, and this after it.
    wait_until("the last note is there", SOON, || {
        let is_last = |fields: &Fields| fields.get("value") == Some(&Field::Number(f64::from(number + 2)));
        stored("the_note").iter().any(|(_, fields)| is_last(fields)).then_some(())
    });
    ingestor.wait_until_settled();
    must_be_one_series_each(&places(&points(&influxd, DATABASE, 0, i64::MAX)));
    for entity in ["twice_the_level", "double", "the_note"] {
        for (place, _) in stored(entity) {
            let (area, lit) = (tag(&place, "area"), tag(&place, "lit"));
            assert_eq!(lit == "dimly", area == "Hall", "{place}");
            assert!(place.time >= before || area == "Galley", "{place}");
            assert!(place.time <= after || area == "Hall", "{place}");
        }
    }

    rules_change_while_all_goes_on(&home, &influxd, DATABASE, &mut ingestor);
    ingestor.stop();
}

fn rules_change_while_all_goes_on(home: &HomeAssistant, influxd: &Influxd, database: &str, ingestor: &mut Ingestor) {
    let set = |number: u32| {
        let flag = if number.is_multiple_of(2) { "turn_off" } else { "turn_on" };
        home.call(&format!("input_boolean.{flag}"), &json!({"entity_id": "input_boolean.flag"}));
        home.call("input_number.set_value", &json!({"entity_id": "input_number.level", "value": number}));
    };
    let levels = |field: &str| -> BTreeSet<String> {
        let found = of_entity(influxd, database, "level");
        found.into_iter().filter_map(|(_, fields)| fields.get(field).map(ToString::to_string)).collect()
    };
    let flags = || of_entity(influxd, database, "flag").len();
    set(1_001);
    wait_until("the level is there", SOON, || levels("value").contains("1001.0").then_some(()));
    let before = flags();

    ingestor.change_rules(
        "
events: [automation_triggered, call_service]
rules:
  - {name: No flag, match: {entities: input_boolean.flag}, drop: true}
  - {match: {entities: input_number.level}, rename_fields: {value: height}}
",
    );
    ingestor.wait_for("rules_reloads_total{result=\"applied\"}", |count| count == 1);
    // The session hears of the new types of events a moment later.
    wait_until("events are written", SOON, || {
        home.call("counter.increment", &json!({"entity_id": "counter.visits"}));
        has_event(influxd, database, &[("event_type", "call_service"), ("service", "increment")]).then_some(())
    });
    set(1_002);
    wait_until("the level has another name", SOON, || levels("height").contains("1002.0").then_some(()));
    home.fire("night_falls");
    wait_until("an automation is written", SOON, || {
        has_event(influxd, database, &[("event_type", "automation_triggered"), ("entity_id", "automation.night")])
            .then_some(())
    });

    ingestor.change_rules("rules: [{drop: true, thorttle: 5}]");
    ingestor.wait_for("rules_valid", |valid| valid == 0);
    assert_eq!(ingestor.count("rules_reloads_total{result=\"refused\"}"), 1);
    assert_eq!(ingestor.get("/api/rules")["rules"][0], "No flag");
    set(1_003);
    wait_until("the rules from before stay", SOON, || levels("height").contains("1003.0").then_some(()));
    ingestor.wait_until_settled();
    assert_eq!(flags(), before);
    assert!(!levels("value").contains("1002.0") && !levels("value").contains("1003.0"));
    assert!(ingestor.log().contains("unknown key `rules[0].thorttle`"), "{}", ingestor.log());
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

/// How many series have a point of this entity at this microsecond.
fn places(points: &Points) -> BTreeMap<(String, i64), usize> {
    let mut places = BTreeMap::new();
    for place in points.keys() {
        let tags = &place.series.tags;
        if let (Some(domain), Some(entity)) = (tags.get("domain"), tags.get("entity_id")) {
            assert_eq!(place.time % 1_000, 0, "{place}");
            *places.entry((format!("{domain}.{entity}"), place.time / 1_000)).or_default() += 1;
        }
    }
    places
}

fn must_be_one_series_each(found: &BTreeMap<(String, i64), usize>) {
    let several: Vec<_> = found.iter().filter(|(_, series)| **series != 1).take(10).collect();
    assert!(several.is_empty(), "in several series: {several:?}");
}

/// Every change once, and nothing else of the same entities.
fn must_be_the_ledger(database: &str, ledger: &[Change], found: &BTreeMap<(String, i64), usize>) {
    must_be_one_series_each(found);
    let made: BTreeSet<_> = ledger.iter().map(|change| (change.entity_id.clone(), change.micros)).collect();
    let entities: BTreeSet<_> = ledger.iter().map(|change| change.entity_id.as_str()).collect();
    let found: BTreeSet<_> = found.keys().filter(|(entity, _)| entities.contains(entity.as_str())).cloned().collect();
    let (lacking, invented): (Vec<_>, Vec<_>) = (made.difference(&found).collect(), found.difference(&made).collect());
    assert!(
        lacking.is_empty() && invented.is_empty(),
        "{database} of {} changes lacks {}, {:?}, and has besides {}, {:?}",
        made.len(),
        lacking.len(),
        &lacking[..lacking.len().min(5)],
        invented.len(),
        &invented[..invented.len().min(5)]
    );
}

/// Entities of two domains may have the same name: those of the tests do not.
fn of_entity(influxd: &Influxd, database: &str, name: &str) -> Vec<(Place, Fields)> {
    let found = points(influxd, database, 0, i64::MAX).into_iter();
    found.filter(|(place, _)| tag(place, "entity_id") == name && !tag(place, "domain").is_empty()).collect()
}

fn tag<'a>(place: &'a Place, name: &str) -> &'a str {
    place.series.tags.get(name).map_or("", String::as_str)
}

fn has_event(influxd: &Influxd, database: &str, tags: &[(&str, &str)]) -> bool {
    let found = points(influxd, database, 0, i64::MAX);
    found.keys().any(|place| {
        place.series.measurement == "ha_event" && tags.iter().all(|(name, value)| tag(place, name) == *value)
    })
}
