//! Devices that speak MQTT, and a broker that goes away.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::options;
use crate::ingestor::Ingestor;
use crate::points::{Field, Points, points};
use crate::support::influxd::Influxd;
use crate::support::mosquitto::{Mosquitto, PERSISTENT};

const DATABASE: &str = "devices";

/// A message has its number as a tag, and its time in the payload or none.
const NUMBERED: &str = "
mqtt:
  topics:
    - {name: Timed, topic: timed, measurement: timed, tags: {n: {json: n}}, fields: {n: n}, time: {json: ts, format: unix_us}}
    - {name: Untimed, topic: untimed, measurement: untimed, tags: {n: {json: n}}, fields: {n: n}}
";

#[test]
fn what_devices_send_is_written_and_what_means_nothing_is_kept_with_the_name_of_its_rule() {
    const NOT_JSON: u64 = 300;
    let Some(influxd) = Influxd::start() else { return };
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let rules = "mqtt: {topics: [{name: Zigbee, preset: zigbee2mqtt, tags: {site: home}}]}";
    let mut ingestor = Ingestor::start_with_rules(&options(&influxd, DATABASE, &mosquitto), rules);
    ingestor.wait_until_alive();
    ingestor.wait_for("mqtt_topic_filters", |count| count == 1);

    let lamp =
        r#"{"state":"ON","brightness":77,"color":{"x":0.3},"linkquality":120,"contact":true,"update":{"state":null}}"#;
    let devices = ["lamp", "Küche/Temperatur °C", "a b, c=d \\", " ", "//", "🌡️"];
    let not_json: String = (0..NOT_JSON).fold(String::new(), |mut lines, number| {
        writeln!(lines, "{{half {number}").unwrap();
        lines
    });
    for device in devices {
        let topic = format!("zigbee2mqtt/{device}");
        mosquitto.publish(&topic, lamp);
        mosquitto.publish_with(&["-t", &topic], b"{\"a\": \"\xff\xfe\"}");
    }
    mosquitto.publish_lines("zigbee2mqtt/lamp", &not_json);
    mosquitto.publish_with(&["-t", "zigbee2mqtt/large"], &vec![b'1'; 5 << 20]);
    mosquitto.publish_with(&["-t", "zigbee2mqtt/empty"], b"");
    for (topic, payload) in
        [("bridge/state", "online"), ("lamp/set", r#"{"state":"OFF"}"#), ("lamp/availability", "online")]
    {
        mosquitto.publish(&format!("zigbee2mqtt/{topic}"), payload);
    }
    mosquitto.publish("elsewhere/lamp", lamp);
    mosquitto.publish("zigbee2mqtt/last", r#"{"battery": 12.5}"#);
    let sent = devices.len() as u64 * 2 + NOT_JSON + 2 + 3 + 1;
    ingestor.wait_for("events_received_total{source=\"mqtt\"}", |count| count >= sent);
    ingestor.wait_until_settled();
    assert_eq!(ingestor.count("events_received_total{source=\"mqtt\"}"), sent);

    let mut found: BTreeMap<String, _> = BTreeMap::new();
    for (place, fields) in points(&influxd, DATABASE, 0, i64::MAX) {
        assert_eq!(place.series.measurement, "zigbee2mqtt");
        assert_eq!(place.series.tags["site"], "home");
        assert!(found.insert(place.series.tags["device"].clone(), fields).is_none(), "{place}");
    }
    assert_eq!(found.remove("last").unwrap()["battery"], Field::Number(12.5));
    assert_eq!(found.len(), devices.len(), "{:?}", found.keys());
    for (device, fields) in &found {
        let values = ["brightness", "color_x", "linkquality", "contact", "state_str"].map(|name| fields.get(name));
        let expected = [77.0, 0.3, 120.0, 1.0].map(Field::Number).into_iter().chain([Field::Text("ON".into())]);
        assert!(
            values.into_iter().eq(expected.map(Some).collect::<Vec<_>>().iter().map(Option::as_ref)),
            "{device}: {fields:?}"
        );
    }
    assert!(found.contains_key("lamp") && found.contains_key("Küche/Temperatur °C"), "{:?}", found.keys());

    let refused = |reason: &str| ingestor.count(&format!("points_refused_total{{reason=\"{reason}\"}}"));
    assert_eq!((refused("not_text"), refused("payload_too_large")), (devices.len() as u64, 1));
    let letters = ingestor.get("/api/dead-letters?target=-&limit=1000");
    let letters = letters["letters"].as_array().unwrap();
    for reason in ["not_json", "not_text", "payload_too_large"] {
        assert!(letters.iter().any(|letter| letter["reason"] == reason), "{reason} is not in {letters:?}");
    }
    assert!(letters.iter().all(|letter| letter["rule"] == "Zigbee"), "{letters:?}");
    let log = ingestor.log();
    assert!(log.lines().count() < 40, "a flood in the log:\n{log}");
    ingestor.stop();
}

#[test]
fn each_message_is_one_point_although_the_broker_is_restarted_and_killed() {
    let Some(mut influxd) = Influxd::start() else { return };
    let Some(mut mosquitto) = Mosquitto::start(PERSISTENT) else { return };
    let mut ingestor = Ingestor::start_with_rules(&options(&influxd, DATABASE, &mosquitto), NUMBERED);
    ingestor.wait_until_alive();
    ingestor.wait_for("mqtt_topic_filters", |count| count == 2);

    let mut next = 0;
    for round in 0..20 {
        if round == 10 {
            // What is sent now is under way until it answers.
            influxd.freeze();
        }
        publish(&mosquitto, &mut next, 100);
        if round == 10 {
            ingestor.wait_for("mqtt_unacknowledged_messages", |count| count > 0);
            mosquitto.stop();
            mosquitto.start_again();
            influxd.thaw();
        }
    }
    ingestor.wait_for("points_written_total", |count| count >= next / 2);
    influxd.kill();
    publish(&mosquitto, &mut next, 500);
    ingestor.wait_for("mqtt_unacknowledged_messages", |count| count > 0);
    mosquitto.save();
    mosquitto.kill();
    ingestor.wait_for("mqtt_connected", |connected| connected == 0);
    mosquitto.start_again();
    ingestor.wait_for("mqtt_connected", |connected| connected == 1);
    publish(&mosquitto, &mut next, 100);
    influxd.start_again();
    ingestor.wait_for("points_written_total", |count| count >= next);
    ingestor.wait_until_settled();

    assert!(ingestor.count("mqtt_redelivered_messages_total") > 0, "nothing came again");
    let numbers = times_of_numbers(&points(&influxd, DATABASE, 0, i64::MAX));
    let wrong: Vec<_> = (0..next).filter(|number| numbers.get(number).map_or(0, Vec::len) != 1).collect();
    assert!(wrong.is_empty(), "not exactly once of {next}: {:?}", &wrong[..wrong.len().min(20)]);
    assert_eq!(numbers.len() as u64, next);
    ingestor.stop();
}

#[test]
fn twenty_thousand_messages_at_full_speed_are_all_in_the_database() {
    const COUNT: u64 = 20_000;
    /// Four times what a service has that was flooded so far.
    const MOST_MEMORY: u64 = 160 << 20;
    let Some(influxd) = Influxd::start() else { return };
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let mut ingestor = Ingestor::start_with_rules(&options(&influxd, DATABASE, &mosquitto), TIMED);
    ingestor.wait_until_alive();
    ingestor.wait_for("mqtt_topic_filters", |count| count == 1);
    let lines = numbered(0..COUNT);
    let started = Instant::now();
    mosquitto.publish_lines("timed", &lines);
    ingestor.wait_for("points_written_total", |count| count >= COUNT);
    let seconds = started.elapsed().as_secs_f64();
    ingestor.wait_until_settled();
    let found = points(&influxd, DATABASE, 0, i64::MAX);
    let numbers: std::collections::BTreeSet<String> = found.values().map(|fields| fields["n"].to_string()).collect();
    assert_eq!((found.len() as u64, numbers.len() as u64), (COUNT, COUNT));
    let peak = ingestor.peak_memory();
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let speed = COUNT as f64 / seconds;
    eprintln!("{COUNT} messages: {speed:.0}/s from mosquitto_pub to InfluxDB, at most {} MiB", peak >> 20);
    assert!(peak < MOST_MEMORY, "{peak} bytes");
    ingestor.stop();
}

/// Without a tag: one series.
const TIMED: &str = "
mqtt:
  topics:
    - {topic: timed, measurement: timed, fields: {n: n}, time: {json: ts, format: unix_us}}
";

/// So many messages of both kinds.
fn publish(mosquitto: &Mosquitto, next: &mut u64, count: u64) {
    let middle = *next + count / 2;
    mosquitto.publish_lines("timed", &numbered(*next..middle));
    mosquitto.publish_lines("untimed", &numbered(middle..*next + count));
    *next += count;
}

fn numbered(numbers: std::ops::Range<u64>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    numbers.fold(String::new(), |mut lines, number| {
        writeln!(lines, r#"{{"n": {number}, "ts": {}}}"#, now + u128::from(number)).unwrap();
        lines
    })
}

fn times_of_numbers(points: &Points) -> BTreeMap<u64, Vec<i64>> {
    let mut times: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    for place in points.keys() {
        times.entry(place.series.tags["n"].parse().unwrap()).or_default().push(place.time);
    }
    times
}
