//! Twelve states and the lines that Home Assistant's own `influxdb` integration wrote for them.
//!
//! The lines were recorded from an InfluxDB behind Home Assistant 2025.4.4; only `time_` is from 2026.11.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

use std::sync::Arc;

use ha_ingestor::config::settings::{MeasurementFrom, Schema};
use ha_ingestor::ingest::hass::protocol::parse_state;
use ha_ingestor::line::encode::{Encoded, encode};
use ha_ingestor::model::event::Event;
use ha_ingestor::model::time::Timestamp;
use ha_ingestor::pipeline::{Fate, Pipeline};
use ha_ingestor::rules::Rules;

fn check(schema: Schema, entity: &str, state: &str, attributes: &str, expected: &str) {
    let mut pipeline = Pipeline::new(&Arc::new(Rules { schema, ..Rules::default() }));
    let state = format!(r#"{{"entity_id": "{entity}", "state": "{state}", "attributes": {attributes}}}"#);
    let change = parse_state(&state, Timestamp::from_micros(1_771_093_805_123_456)).unwrap();
    match pipeline.handle(&Event::Changed(change), Timestamp::from_micros(0)) {
        Fate::Point { point, .. } => {
            let mut line = Vec::new();
            assert_eq!(encode(point, &mut line).unwrap(), Encoded::default(), "nothing had to be changed");
            assert_eq!(String::from_utf8(line).unwrap(), expected);
        }
        other => panic!("{entity}: {other:?}"),
    }
}

#[test]
fn states_of_all_kinds_become_the_recorded_lines() {
    check(
        Schema::default(),
        "sensor.living_room_temperature",
        "21.5",
        r#"{"state_class": "measurement", "unit_of_measurement": "°C", "device_class": "temperature",
            "friendly_name": "Living Room Temperature"}"#,
        r#"°C,domain=sensor,entity_id=living_room_temperature device_class_str="temperature",friendly_name_str="Living Room Temperature",state_class_str="measurement",value=21.5 1771093805123456000"#,
    );
    check(
        Schema::default(),
        "binary_sensor.front_door",
        "on",
        r#"{"device_class": "door", "friendly_name": "Front Door"}"#,
        r#"binary_sensor.front_door,domain=binary_sensor,entity_id=front_door device_class_str="door",friendly_name_str="Front Door",state="on",value=1 1771093805123456000"#,
    );
    check(
        Schema::default(),
        "climate.hall",
        "heat",
        r#"{"hvac_modes": ["off", "heat"], "min_temp": 7, "max_temp": 35, "current_temperature": 20.4,
            "temperature": 21, "hvac_action": "heating", "friendly_name": "Hall 12", "supported_features": 1}"#,
        r#"climate.hall,domain=climate,entity_id=hall current_temperature=20.4,friendly_name=12,friendly_name_str="Hall 12",hvac_action_str="heating",hvac_modes_str="['off', 'heat']",max_temp=35,min_temp=7,state="heat",supported_features=1,temperature=21 1771093805123456000"#,
    );
    check(
        Schema::default(),
        "light.kitchen",
        "on",
        r#"{"rgb_color": [255, 199, 142], "hs_color": [28.0, 65.0], "brightness": 180}"#,
        r#"light.kitchen,domain=light,entity_id=kitchen brightness=180,hs_color_str="[28.0, 65.0]",rgb_color=255199142,rgb_color_str="[255, 199, 142]",state="on",value=1 1771093805123456000"#,
    );
    check(
        Schema::default(),
        "device_tracker.phone",
        "not_home",
        r#"{"latitude": 52.1, "source_type": "gps"}"#,
        r#"device_tracker.phone,domain=device_tracker,entity_id=phone latitude=52.1,source_type_str="gps",state="not_home",value=0 1771093805123456000"#,
    );
    check(
        Schema::default(),
        "sensor.grid_import",
        "12345.678",
        r#"{"unit_of_measurement": "kWh", "last_reset": "2026-01-01T00:00:00+00:00"}"#,
        r#"kWh,domain=sensor,entity_id=grid_import last_reset=2.0260101e+17,last_reset_str="2026-01-01T00:00:00+00:00",value=12345.678 1771093805123456000"#,
    );
}

#[test]
fn options_change_the_lines_as_recorded() {
    let power = r#"{"unit_of_measurement": "W", "device_class": "power", "friendly_name": "P"}"#;
    check(
        Schema { measurement: MeasurementFrom::DomainDeviceClass, ..Schema::default() },
        "sensor.p",
        "100",
        power,
        r#"sensor__power,domain=sensor,entity_id=p friendly_name_str="P",unit_of_measurement_str="W",value=100 1771093805123456000"#,
    );
    check(
        Schema { measurement: MeasurementFrom::EntityId, ..Schema::default() },
        "sensor.p",
        "100",
        power,
        r#"sensor.p,domain=sensor,entity_id=p device_class_str="power",friendly_name_str="P",unit_of_measurement_str="W",value=100 1771093805123456000"#,
    );
    check(
        Schema { override_measurement: Some("hass".into()), ..Schema::default() },
        "sensor.p",
        "100",
        power,
        r#"hass,domain=sensor,entity_id=p device_class_str="power",friendly_name_str="P",unit_of_measurement_str="W",value=100 1771093805123456000"#,
    );
    check(
        Schema { default_measurement: Some("state".into()), ..Schema::default() },
        "switch.p",
        "off",
        r#"{"friendly_name": "P"}"#,
        r#"state,domain=switch,entity_id=p friendly_name_str="P",state="off",value=0 1771093805123456000"#,
    );
    check(
        Schema {
            tags: vec![("source".into(), "HA".into())],
            tags_attributes: vec!["friendly_name".into(), "x".into(), "y".into()],
            ..Schema::default()
        },
        "sensor.p",
        "100",
        r#"{"unit_of_measurement": "kWh", "friendly_name": "My Power, A=B", "x": null, "y": ""}"#,
        r"kWh,domain=sensor,entity_id=p,friendly_name=My\ Power\,\ A\=B,source=HA value=100 1771093805123456000",
    );
}

#[test]
fn every_kind_of_attribute_becomes_the_recorded_fields() {
    check(
        Schema::default(),
        "sensor.x",
        "5",
        r#"{"a": null, "b": true, "c": "12", "d": "nan", "f": "1_000", "g": "v1.25", "i": "10.0.0.1", "m": "Sensor 3",
            "n": [], "value": 7, "state": "abc", "l": "", "time": "10"}"#,
        r#"sensor.x,domain=sensor,entity_id=x a_str="None",b=1,c=12,f=1000,g=1.25,g_str="v1.25",i_str="10.0.0.1",l_str="",m_str="Sensor 3",n_str="[]",state_str="abc",time_=10,value=5,value_=7 1771093805123456000"#,
    );
}
