//! What becomes of real payloads, and of those that nothing sends.

use std::num::NonZeroU32;

use bytes::Bytes;

use super::{NoPoint, fill};
use crate::model::event::Message;
use crate::model::fate::{Filtered, Refused};
use crate::model::point::{FieldValue, Point};
use crate::model::time::Timestamp;
use crate::rules::{Field, FieldType, JsonPath, Mapping, Part, Payload, PayloadTime, TimeFormat};

const ARRIVED: Timestamp = Timestamp::from_micros(7);

const LAMP: &str = include_str!("../../../../tests/fixtures/mqtt/zigbee2mqtt_lamp.json");
const AFTER_PAIRING: &str = include_str!("../../../../tests/fixtures/mqtt/zigbee2mqtt_sensor_after_pairing.json");
const TASMOTA: &str = include_str!("../../../../tests/fixtures/mqtt/tasmota_sensor.json");

fn path(keys: &[&str]) -> JsonPath {
    JsonPath(keys.iter().map(|&key| key.to_owned()).collect())
}

fn literal(text: &str) -> Part {
    Part::Literal(text.into())
}

fn object() -> Payload {
    Payload::Object { separator: "_".into(), types: Vec::new() }
}

fn mapping(payload: Payload) -> Mapping {
    Mapping { measurement: literal("m"), tags: Vec::new(), payload, ignore_fields: Vec::new(), time: None }
}

/// The point as `measurement; tags; fields`, with the number of those left out if it is not zero.
fn printed(mapping: &Mapping, topic: &str, text: &str) -> Result<String, NoPoint> {
    let message = Message {
        topic: topic.into(),
        payload: Bytes::copy_from_slice(text.as_bytes()),
        retained: false,
        arrived: ARRIVED,
        receipt: 1,
    };
    let mut point = Point::default();
    // Whatever the buffer held before is gone.
    point.set_tag("old", "tag");
    point.push_field(&["old"], FieldValue::Float(1.0));
    let omitted = fill(mapping, &message, text, &[("site".into(), "home".into())], &mut point)?;
    let tags: Vec<_> = point.tags().map(|(key, value)| format!("{key}={value}")).collect();
    let fields: Vec<_> = point
        .fields()
        .map(|(key, value)| match value {
            FieldValue::Float(number) => format!("{key}={number}"),
            FieldValue::Integer(number) => format!("{key}={number}i"),
            FieldValue::Boolean(truth) => format!("{key}={truth}"),
            FieldValue::Text(text) => format!("{key}={text:?}"),
        })
        .collect();
    let mut line = format!("{}; {}; {}", point.measurement(), tags.join(" "), fields.join(" "));
    if omitted > 0 {
        line = format!("{line}; {omitted} omitted");
    }
    if point.time() != ARRIVED {
        line = format!("{line}; {}", point.time());
    }
    Ok(line)
}

fn check(mapping: &Mapping, topic: &str, text: &str, expected: &str) {
    assert_eq!(printed(mapping, topic, text).as_deref(), Ok(expected), "{topic} {text}");
}

fn check_refused(mapping: &Mapping, text: &str, reason: Refused) {
    assert_eq!(printed(mapping, "a/b", text), Err(NoPoint::Refused(reason)), "{text}");
}

#[test]
fn a_lamp_of_zigbee2mqtt_is_one_point() {
    let mut lamp = mapping(object());
    lamp.measurement = literal("zigbee");
    lamp.tags = vec![("device".into(), Part::LevelsFrom(NonZeroU32::new(2).unwrap()))];
    lamp.ignore_fields = vec!["update*".into(), "color_mode".into(), "last_seen_str".into()];
    lamp.time = Some(PayloadTime { path: path(&["last_seen"]), format: TimeFormat::Rfc3339 });
    let expected = "zigbee; device=kitchen/lamp site=home; brightness=180 color_h=28 color_s=65 color_temp=370 \
                    color_x=0.4582 color_y=0.4099 linkquality=102 state_str=\"ON\"; 2026-02-14T18:30:05.000000Z";
    check(&lamp, "zigbee2mqtt/kitchen/lamp", LAMP, expected);
}

#[test]
fn what_is_null_is_left_out() {
    let expected = "m; site=home; contact=1 humidity=44.72 linkquality=76 temperature=21.34 voltage=3005";
    check(&mapping(object()), "zigbee2mqtt/door", AFTER_PAIRING, expected);
}

#[test]
fn a_plug_of_tasmota_is_one_point_with_exact_types() {
    let separator = ".".into();
    let types = vec![
        ("ENERGY.Power".to_owned(), FieldType::Integer),
        ("Switches.0".to_owned(), FieldType::Boolean),
        ("AM2301".to_owned(), FieldType::Text),
        ("TempUnit".to_owned(), FieldType::Text),
    ];
    let mut plug = mapping(Payload::Object { separator, types });
    plug.tags = vec![("device".into(), Part::Level(2)), ("kind".into(), Part::Level(-1))];
    plug.ignore_fields = ["Time", "ENERGY.T*", "ENERGY.Re*", "ENERGY.Y*", "ENERGY.A*", "ENERGY.F*", "ENERGY.Period"]
        .map(String::from)
        .to_vec();
    let expected = "m; device=plug kind=SENSOR site=home; \
                    AM2301=\"{\\\"DewPoint\\\":9.5,\\\"Humidity\\\":51.3,\\\"Temperature\\\":19.8}\" \
                    ENERGY.Current=0.238 ENERGY.Power=42i ENERGY.Voltage=231 Switches.0=true Switches.1_str=\"OFF\" \
                    TempUnit=\"C\"";
    check(&plug, "tele/plug/SENSOR", TASMOTA, expected);
}

#[test]
fn some_values_of_a_payload_have_names_of_their_own() {
    let field = |name: &str, keys: &[&str], cast| Field { name: name.into(), path: path(keys), cast };
    let mut plug = mapping(Payload::Fields(vec![
        field("power", &["ENERGY", "Power"], None),
        field("total", &["ENERGY", "Total"], Some(FieldType::Text)),
        field("first", &["Switches", "0"], None),
        field("second", &["Switches", "1"], Some(FieldType::Boolean)),
        field("climate", &["AM2301"], None),
        field("missing", &["ENERGY", "Frequency"], Some(FieldType::Float)),
        field("ignored", &["Time"], None),
    ]));
    plug.ignore_fields = vec!["ignored".into()];
    plug.measurement = Part::Json(path(&["TempUnit"]));
    plug.tags = vec![
        ("volts".into(), Part::Json(path(&["ENERGY", "Voltage"]))),
        ("none".into(), Part::Json(path(&["ENERGY"]))),
        ("beyond".into(), Part::Level(4)),
    ];
    let expected = "C; site=home volts=231; climate_str=\"{\\\"DewPoint\\\":9.5,\\\"Humidity\\\":51.3,\\\"Temperature\\\":19.8}\" \
                    first_str=\"ON\" power=42 second=false total=\"112.045\"";
    check(&plug, "tele/plug/SENSOR", TASMOTA, expected);
}

#[test]
fn a_raw_payload_is_read_like_a_state() {
    let raw = mapping(Payload::Raw { cast: None });
    for (text, fields) in [
        ("21.5", "value=21.5"),
        (" 1_000\n", "value=1000"),
        ("on", "state=\"on\" value=1"),
        ("not_home", "state=\"not_home\" value=0"),
        ("ON", "state=\"ON\""),
        ("heat\ncool", "state=\"heat cool\""),
        (r#"{"a":1}"#, "state=\"{\\\"a\\\":1}\""),
    ] {
        check(&raw, "a/b", text, &format!("m; site=home; {fields}"));
    }
    check_refused(&raw, "nan", Refused::NoFields);
    for (to, text, fields) in [
        (FieldType::Integer, "5.0", "value=5i"),
        (FieldType::Boolean, "OFF", "value=false"),
        (FieldType::Text, "5", "value=\"5\""),
        (FieldType::Float, "5", "value=5"),
    ] {
        check(&mapping(Payload::Raw { cast: Some(to) }), "a/b", text, &format!("m; site=home; {fields}"));
    }
    check_refused(&mapping(Payload::Raw { cast: Some(FieldType::Float) }), "on", Refused::WrongType);
}

#[test]
fn a_raw_payload_may_be_json_for_its_names_and_its_time() {
    let mut raw = mapping(Payload::Raw { cast: None });
    raw.measurement = Part::Json(path(&["name"]));
    check(&raw, "a/b", r#"{"name":"x"}"#, "x; site=home; state=\"{\\\"name\\\":\\\"x\\\"}\"");
    check_refused(&raw, "21.5", Refused::NoMeasurement);
    check_refused(&raw, "online", Refused::NotJson);
}

#[test]
fn levels_are_counted_from_both_ends() {
    for (part, expected) in [
        (Part::Level(1), Some("a")),
        (Part::Level(3), Some("c d")),
        (Part::Level(4), None),
        (Part::Level(-1), Some("c d")),
        (Part::Level(-3), Some("a")),
        (Part::Level(-4), None),
        (Part::Level(0), None),
        (Part::Level(i32::MIN), None),
        (Part::LevelsFrom(NonZeroU32::MIN), Some("a/b/c d")),
        (Part::LevelsFrom(NonZeroU32::new(2).unwrap()), Some("b/c d")),
        (Part::LevelsFrom(NonZeroU32::new(4).unwrap()), None),
        (Part::LevelsFrom(NonZeroU32::MAX), None),
        (literal(""), None),
    ] {
        let mut raw = mapping(Payload::Raw { cast: None });
        raw.measurement = part.clone();
        let got = printed(&raw, "a/b/c\nd", "1");
        let expected = expected.ok_or(NoPoint::Refused(Refused::NoMeasurement));
        assert_eq!(got, expected.map(|name| format!("{name}; site=home; value=1")), "{part:?}");
    }
}

#[test]
fn a_payload_that_is_not_what_the_rule_says_is_refused() {
    let whole = mapping(object());
    for text in ["[1]", "1", "{", "online", r#"{"a":NaN}"#, r#"{"a":1e999}"#, r#"{"a":1} x"#] {
        check_refused(&whole, text, Refused::NotJson);
    }
    for text in ["{}", r#"{"a":null,"b":{},"c":[]}"#] {
        check_refused(&whole, text, Refused::NoFields);
    }
    let mut timed = mapping(object());
    timed.time = Some(PayloadTime { path: path(&["t"]), format: TimeFormat::UnixSeconds });
    check(&timed, "a", r#"{"t":5,"a":1}"#, "m; site=home; a=1 t=5; 1970-01-01T00:00:05.000000Z");
    for text in [r#"{"a":1}"#, r#"{"t":null,"a":1}"#, r#"{"t":"x","a":1}"#] {
        check_refused(&timed, text, Refused::NoTime);
    }
    let typed = mapping(Payload::Object { separator: "_".into(), types: vec![("a".into(), FieldType::Integer)] });
    check_refused(&typed, r#"{"a":1.5,"b":1}"#, Refused::WrongType);
    check_refused(&typed, r#"{"a":{"b":1}}"#, Refused::WrongType);
    check(&typed, "a", r#"{"a":null,"b":1}"#, "m; site=home; b=1");
}

#[test]
fn what_a_rule_takes_away_needs_no_type_and_is_no_mistake() {
    let mut typed = mapping(Payload::Object { separator: "_".into(), types: vec![("a".into(), FieldType::Integer)] });
    typed.ignore_fields = vec!["a".into(), "b_str".into()];
    check(&typed, "a", r#"{"a":1.5,"c":1}"#, "m; site=home; c=1");
    let dropped = printed(&typed, "a", r#"{"a":1.5,"b":"x","c":null}"#);
    assert_eq!(dropped, Err(NoPoint::Filtered(Filtered::DroppedByRule)));
    // A number of the name of an ignored text is another field.
    check(&typed, "a", r#"{"b":2}"#, "m; site=home; b=2");
}

#[test]
fn a_number_that_is_not_finite_is_left_out_and_counted() {
    let types = vec![("a".into(), FieldType::Float), ("b".into(), FieldType::Float)];
    let floats = mapping(Payload::Object { separator: "_".into(), types });
    check(&floats, "a", r#"{"a":"nan","b":"-inf","c":1}"#, "m; site=home; c=1; 2 omitted");
    check_refused(&floats, r#"{"a":"nan"}"#, Refused::NoFields);
}

#[test]
fn of_two_values_of_one_name_one_stays() {
    check(&mapping(object()), "a", r#"{"a":1,"a":2}"#, "m; site=home; a=2");
    check(&mapping(object()), "a", r#"{"a_b":1,"a":{"b":2}}"#, "m; site=home; a_b=1");
    // A text of a name and a number of that name are two fields.
    check(&mapping(object()), "a", r#"{"a":"x","b":{"":3}}"#, "m; site=home; a_str=\"x\" b_=3");
}

#[test]
fn a_payload_as_deep_or_wide_as_no_device_sends_it_is_refused() {
    let nested = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    assert!(printed(&mapping(object()), "a", &nested(32)).is_ok());
    check_refused(&mapping(object()), &nested(33), Refused::PayloadTooLarge);
    // The reader of JSON has a limit of its own, which keeps the stack safe.
    check_refused(&mapping(object()), &nested(100_000), Refused::NotJson);
    let wide = |values: usize| format!(r#"{{"a":[{}null]}}"#, "1,".repeat(values));
    assert!(printed(&mapping(object()), "a", &wide(1_000)).is_ok());
    check_refused(&mapping(object()), &wide(1_001), Refused::PayloadTooLarge);
}

#[test]
fn a_tag_of_the_entry_replaces_the_one_that_every_point_gets() {
    let mut raw = mapping(Payload::Raw { cast: None });
    raw.tags = vec![("site".into(), literal("garden")), ("a".into(), literal("x\ny"))];
    check(&raw, "a", "1", "m; a=x y site=garden; value=1");
}
