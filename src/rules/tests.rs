//! The whole way, from a text to rules or faults.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::file::File;
use super::{FieldType, JsonPath, MOST_BYTES, Mapping, Meaning, Part, Payload, PayloadTime, Rules, TimeFormat, load};
use crate::config::settings::{EntitySet, Filter, MeasurementFrom, Schema};

#[track_caller]
fn rules(text: &str) -> Rules {
    load(text, &Rules::default()).unwrap_or_else(|faults| panic!("{text}\n{faults}")).0
}

#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    match load(text, &Rules::default()) {
        Ok((rules, _)) => panic!("nobody refused\n{text}\n{rules:?}"),
        Err(faults) => {
            let told: Vec<String> = faults.faults().iter().map(ToString::to_string).collect();
            assert_eq!(told, expected, "{text}");
        }
    }
}

/// Names in the order of precedence.
#[track_caller]
fn order(text: &str) -> Vec<String> {
    rules(text).rules.iter().map(|rule| rule.name.to_string()).collect()
}

#[test]
fn a_file_that_says_nothing_changes_nothing() {
    let mut options = Rules::of(Filter::default(), Schema::default(), vec!["x".to_owned()]);
    options.filter.exclude.domains.push("light".to_owned());
    options.schema.default_measurement = Some("m".to_owned());
    for text in [
        "",
        "\n",
        "# nothing\r\n",
        "---\n",
        "{}",
        "\u{feff}",
        "rules:\nmqtt: {topics: }\n",
        "influxdb:\n",
        "influxdb: {}",
    ] {
        let (rules, warnings) = load(text, &options).unwrap_or_else(|faults| panic!("{text:?}: {faults}"));
        assert_eq!(rules, options, "{text:?}");
        assert!(warnings.is_empty(), "{text:?}");
    }
}

#[test]
fn a_rule_is_read_in_full() {
    let made = rules(
        "
rules:
  - name: Power
    match: {domains: sensor, areas: [Kitchen, attic], device_classes: power, integrations: hue, labels: l, floors: f, devices: d}
    drop: no
    override_measurement: power
    rename_measurements: {W: power, '°C': temperature}
    ignore_attributes: icon
    keep_attributes: []
    tags_attributes: [friendly_name]
    tags: {site: home}
    rename_fields: {value: power}
    fields:
      value: {unit: kW, scale: 2, offset: -0.5, min: 0, max: 9e3, round: 2, cast: float}
      other: {cast: integer}
    state_numbers: {heat: 2, on: 1}
    throttle: 90
    heartbeat: 1h30m
    only_state_changes: true
",
    );
    let [rule] = made.rules.as_slice() else { panic!("{made:?}") };
    assert_eq!(&*rule.name, "Power");
    let selection = &rule.selection;
    assert_eq!(selection.domains, ["sensor"]);
    assert_eq!(selection.registry.areas, ["Kitchen", "attic"]);
    assert_eq!(selection.registry.integrations, ["hue"]);
    let registry = &selection.registry;
    assert_eq!(
        (&registry.labels[0], &registry.floors[0], &registry.devices[0]),
        (&"l".into(), &"f".into(), &"d".into())
    );
    assert_eq!(selection.device_classes, ["power"]);
    let actions = &rule.actions;
    assert_eq!(actions.drop, Some(false));
    assert_eq!(actions.override_measurement.as_deref(), Some("power"));
    let renames = [("W".into(), "power".into()), ("°C".into(), "temperature".into())];
    assert_eq!(actions.rename_measurements.as_deref(), Some(&renames[..]));
    assert_eq!(actions.ignore_attributes.as_deref(), Some(&["icon".to_owned()][..]));
    assert_eq!(actions.keep_attributes.as_deref(), Some(&[][..]));
    assert_eq!(actions.tags_attributes.as_deref(), Some(&["friendly_name".to_owned()][..]));
    assert_eq!(actions.tags.as_deref(), Some(&[("site".into(), "home".into())][..]));
    assert_eq!(actions.rename_fields.as_deref(), Some(&[("value".into(), "power".into())][..]));
    assert_eq!(actions.state_numbers.as_deref(), Some(&[("heat".into(), 2.0), ("on".into(), 1.0)][..]));
    assert_eq!(actions.throttle, Some(Duration::from_secs(90)));
    assert_eq!(actions.heartbeat, Some(Duration::from_mins(90)));
    assert_eq!(actions.only_state_changes, Some(true));
    let [(value, of_value), (other, of_other)] = actions.fields.as_deref().unwrap() else { panic!("{actions:?}") };
    assert_eq!((value.as_str(), other.as_str()), ("value", "other"));
    assert_eq!((of_value.unit.as_deref(), of_value.scale, of_value.offset), (Some("kW"), Some(2.0), Some(-0.5)));
    assert_eq!((of_value.min, of_value.max, of_value.round), (Some(0.0), Some(9000.0), Some(2)));
    assert_eq!((of_value.cast, of_other.cast), (Some(FieldType::Float), Some(FieldType::Integer)));
}

#[test]
fn lengths_of_time_are_read_as_people_write_them() {
    for (typed, millis) in [
        ("0", 0),
        ("90", 90_000),
        ("1.5", 1500),
        ("90s", 90_000),
        ("10m", 600_000),
        ("'1h 30m'", 5_400_000),
        ("2d", 172_800_000),
        ("250ms", 250),
    ] {
        let made = rules(&format!("rules: [{{throttle: {typed}}}]"));
        assert_eq!(made.rules[0].actions.throttle, Some(Duration::from_millis(millis)), "{typed}");
    }
}

#[test]
fn the_more_specific_rule_comes_later_and_the_block_before_the_rules_of_its_rank() {
    let made = order(
        "
rules:
  - {name: entity, match: {entities: sensor.a}, drop: true}
  - {name: both, match: {entities: [sensor.b, 'light.*'], areas: x}, drop: true}
  - {name: glob, match: {entity_globs: 'x.*', domains: x}, drop: true}
  - {name: area, match: {areas: x, domains: light}, drop: true}
  - {name: class, match: {device_classes: power}, drop: true}
  - {name: domain, match: {domains: light}, drop: true}
  - {name: all, drop: false}
  - {match: {domains: fan}, drop: true}
influxdb:
  component_config: {light.a: {override_measurement: m}}
  component_config_glob: {'*.b': {override_measurement: m}, '*.a': {ignore_attributes: []}}
  component_config_domain: {light: {override_measurement: m}}
",
    );
    assert_eq!(
        made,
        [
            "all",
            "influxdb.component_config_domain.light",
            "domain",
            "rules[7]",
            "area",
            "class",
            "influxdb.component_config_glob.*.b",
            "influxdb.component_config_glob.*.a",
            "both",
            "glob",
            "influxdb.component_config.light.a",
            "entity",
            "both",
        ]
    );
}

#[test]
fn an_id_is_meant_if_it_is_in_either_list() {
    let made = rules("rules: [{match: {entities: [sensor.a, 'b.*'], entity_globs: 'c.*'}, drop: true}]");
    let [patterns, ids] = made.rules.as_slice() else { panic!("{made:?}") };
    assert_eq!(patterns.selection.entity_globs, ["c.*", "b.*"]);
    assert!(patterns.selection.entities.is_empty() && ids.selection.entity_globs.is_empty());
    assert_eq!(ids.selection.entities, ["sensor.a"]);
}

#[test]
fn the_filter_and_the_events_of_the_file_replace_those_of_the_options() {
    let mut options = Rules::of(Filter::default(), Schema::default(), vec!["x".to_owned()]);
    options.filter.exclude.domains.push("light".to_owned());
    let text = "filter: {include: {domains: sensor, entities: [light.a, '*_x'], areas: attic}}\nevents: [a, b]";
    let (made, warnings) = load(text, &options).unwrap();
    let mut include =
        EntitySet { domains: vec!["sensor".into()], entities: vec!["light.a".into()], ..EntitySet::default() };
    include.entity_globs.push("*_x".into());
    include.registry.areas.push("attic".into());
    assert_eq!(made.filter, Filter { include, exclude: EntitySet::default() });
    assert_eq!(made.events, ["a", "b"]);
    assert_eq!(
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["filter counts, and not the option filter: empty one of them"]
    );
}

fn point(text: &str) -> Mapping {
    let made = rules(text);
    match made.topics.into_iter().next().expect("there is a topic").meaning {
        Meaning::Point(mapping) => mapping,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_topic_becomes_a_mapping() {
    let mapping = point(
        "
mqtt:
  ignore: a/#
  topics:
    - name: Water meter
      topic: meters/+/+
      retained: on
      measurement: water
      tags: {meter: {level: 2}, site: home, all: {levels_from: 2}, kind: {json: data.kind}, end: {level: -1}}
      fields: {flow: {json: data.flow, type: float}, total: data.0.total, odd: [a.b, c]}
      time: {json: ts, format: unix_ms}
",
    );
    let path = |keys: &[&str]| JsonPath(keys.iter().map(|key| (*key).to_owned()).collect());
    assert_eq!(mapping.measurement, Part::Literal("water".into()));
    let tags: Vec<(&str, &Part)> = mapping.tags.iter().map(|(name, part)| (name.as_str(), part)).collect();
    assert_eq!(
        tags,
        [
            ("meter", &Part::Level(2)),
            ("site", &Part::Literal("home".into())),
            ("all", &Part::LevelsFrom(2.try_into().unwrap())),
            ("kind", &Part::Json(path(&["data", "kind"]))),
            ("end", &Part::Level(-1)),
        ]
    );
    let Payload::Fields(fields) = mapping.payload else { panic!("{mapping:?}") };
    let fields: Vec<_> = fields.iter().map(|field| (field.name.as_str(), field.path.clone(), field.cast)).collect();
    assert_eq!(
        fields,
        [
            ("flow", path(&["data", "flow"]), Some(FieldType::Float)),
            ("total", path(&["data", "0", "total"]), None),
            ("odd", path(&["a.b", "c"]), None),
        ]
    );
    assert_eq!(mapping.time, Some(PayloadTime { path: path(&["ts"]), format: TimeFormat::UnixMilliseconds }));
}

#[test]
fn a_payload_is_json_unless_it_has_one_type() {
    let object = |separator: &str| Payload::Object { separator: separator.to_owned(), types: vec![] };
    for (keys, expected) in [
        ("", object("_")),
        (", separator: ''", object("")),
        (", payload: json", object("_")),
        (", type: integer", Payload::Raw { cast: Some(FieldType::Integer) }),
        (", payload: raw", Payload::Raw { cast: None }),
        (
            ", types: {a: text}, ignore_fields: update_*",
            Payload::Object { separator: "_".into(), types: vec![("a".into(), FieldType::Text)] },
        ),
    ] {
        let mapping = point(&format!("mqtt: {{topics: [{{topic: a/b, measurement: m{keys}}}]}}"));
        assert_eq!(mapping.payload, expected, "{keys}");
    }
}

#[test]
fn presets_are_mappings_that_may_be_refined() {
    let made = rules("mqtt: {topics: [{preset: zigbee2mqtt}, {preset: tasmota}]}");
    let ignored = |topic: &str| made.ignored_topics.iter().any(|filter| filter.matches(topic));
    for topic in [
        "zigbee2mqtt/bridge/state",
        "zigbee2mqtt/lamp/availability",
        "zigbee2mqtt/attic/left/lamp/set",
        "zigbee2mqtt/lamp/set/state",
        "zigbee2mqtt/lamp/get",
        "tele/plug/LWT",
    ] {
        assert!(ignored(topic), "{topic}");
    }
    for topic in ["zigbee2mqtt/lamp", "zigbee2mqtt/attic/lamp", "zigbee2mqtt/set", "tele/plug/SENSOR"] {
        assert!(!ignored(topic), "{topic}");
    }
    let filters: Vec<&str> = made.topics.iter().map(|topic| topic.filter.as_str()).collect();
    assert_eq!(filters, ["zigbee2mqtt/#", "tele/#"]);
    let Meaning::Point(tasmota) = &made.topics[1].meaning else { panic!("{made:?}") };
    assert_eq!(tasmota.tags, [("device".into(), Part::Level(2)), ("message".into(), Part::Level(-1))]);
    assert_eq!(tasmota.measurement, Part::Literal("tasmota".into()));

    let refined = point(
        "
mqtt:
  topics:
    - preset: zigbee2mqtt
      topic: home/z2m/#
      measurement: zigbee
      tags: {site: home, device: {level: 3}}
      ignore_fields: [update_*]
      types: {linkquality: integer}
",
    );
    assert_eq!(refined.measurement, Part::Literal("zigbee".into()));
    assert_eq!(refined.tags, [("site".into(), Part::Literal("home".into())), ("device".into(), Part::Level(3))]);
    assert_eq!(refined.ignore_fields, ["update_*"]);
    let plain = point("mqtt: {topics: [{preset: zigbee2mqtt, topic: home/z2m/#}]}");
    assert_eq!(plain.tags, [("device".into(), Part::LevelsFrom(3.try_into().unwrap()))]);

    let streams = rules(
        "mqtt: {topics: [{preset: mqtt_statestream, topic: ha/#, retained: true}, {preset: mqtt_eventstream, topic: ev}]}",
    );
    let meanings: Vec<_> = streams.topics.iter().map(|topic| (&topic.meaning, topic.retained)).collect();
    assert_eq!(meanings, [(&Meaning::StateStream, true), (&Meaning::EventStream, false)]);
}

#[test]
fn every_fault_is_told_at_once_with_its_line_and_column_and_what_to_do() {
    refused(
        "
filter:
  include:
    domain: sensor
    domains: [sensor.a, Light]
    entities: [kitchen, 'sensor.[a']
events: [state_changed, '']
rules:
  - match: {areas: [], domains: 5}
    trottle: 10m
  - name: a
    throttle: -5
    heartbeat: soon
    fields:
      value: {min: 5, max: 1, round: 99, scale: 0, cast: string}
      other: {unit: kW}
  - name: a
    drop: maybe
    tags: {x: 1, y: }
    state_numbers: {true: 1, heat: hot}
  - drop
  - match: {domains: light}
",
        &[
            "line 4, column 5: unknown key `filter.include.domain`: did you mean `domains`?",
            "line 5, column 15: filter.include.domains[0]: `sensor.a` is not a domain like sensor: put it under `entities`",
            "line 5, column 25: filter.include.domains[1]: `Light` never matches, ids are lower-case: did you mean `light`?",
            "line 6, column 16: filter.include.entities[0]: `kitchen` is not an entity id like sensor.kitchen_temperature, \
             nor a pattern like sensor.*",
            "line 6, column 25: filter.include.entities[1]: `sensor.[a` has a `[` that no `]` closes",
            "line 7, column 10: events[0]: `state_changed` cannot be asked for: changes of states are written anyway",
            "line 7, column 25: events[1]: is empty: give it a text, or remove it",
            "line 9, column 20: rules[0].match.areas: is an empty list: name something, or remove the line",
            "line 9, column 33: rules[0].match.domains: must be text, not a number: put it in quotes",
            "line 10, column 5: unknown key `rules[0].trottle`: did you mean `throttle`?",
            "line 12, column 15: rules[1].throttle: must not be negative",
            "line 13, column 16: rules[1].heartbeat: `soon` is not a length of time like 90s, 10m or 1h30m",
            "line 15, column 20: rules[1].fields.value.min: 5 is more than max, 1",
            "line 15, column 38: rules[1].fields.value.round: must be from 0 to 15 decimal places, not 99",
            "line 15, column 49: rules[1].fields.value.scale: must not be 0: every value would be the same",
            "line 15, column 58: rules[1].fields.value.cast: `string` is no choice: it can be float, integer, boolean, text",
            "line 16, column 21: rules[1].fields.other.unit: only `value` has a unit: use scale and offset",
            "line 17, column 11: rules[2].name: rules[1] has this name too: rename one of them",
            "line 18, column 11: rules[2].drop: must be true or false, not text",
            "line 19, column 15: rules[2].tags.x: must be text, not a number: put it in quotes",
            "line 19, column 21: rules[2].tags.y: has no value: give text, or remove the line",
            "line 20, column 21: rules[2].state_numbers.true: is a key that is no text: put it in quotes",
            "line 20, column 36: rules[2].state_numbers.heat: must be a number, not text",
            "line 21, column 5: rules[3]: must be a group of keys, not text",
            "line 22, column 5: rules[4]: says nothing to do: give it an action such as `drop: true`, or remove it",
        ],
    );
}

#[test]
fn a_unit_is_one_that_numbers_can_be_converted_to() {
    refused(
        "
rules:
  - fields: {value: {unit: kw}}
  - fields: {value: {unit: C}}
  - fields: {value: {unit: MVAR}}
  - fields: {value: {unit: EUR}}
  - fields: {value: {unit: mw}}
  - fields: {value: {unit: °F}}
  - fields: {power: {unit: parsec}}
",
        &[
            "line 3, column 28: rules[0].fields.value.unit: `kw` is no unit: did you mean `kW`?",
            "line 4, column 28: rules[1].fields.value.unit: `C` is no unit: did you mean `°C`?",
            "line 5, column 28: rules[2].fields.value.unit: `MVAR` is no unit: did you mean `mvar`?",
            "line 6, column 28: rules[3].fields.value.unit: `EUR` is no unit that numbers can be converted to: use scale and offset",
            "line 7, column 28: rules[4].fields.value.unit: `mw` is no unit: did you mean `mW` or `MW`?",
            "line 9, column 28: rules[6].fields.power.unit: only `value` has a unit: use scale and offset",
        ],
    );
}

#[test]
fn a_heartbeat_is_no_flood() {
    refused(
        "
rules:
  - heartbeat: 1ms
  - heartbeat: 0.00000001
  - heartbeat: 1
  - heartbeat: 0
",
        &[
            "line 3, column 16: rules[0].heartbeat: must be at least 1s, or 0 for none",
            "line 4, column 16: rules[1].heartbeat: must be at least 1s, or 0 for none",
        ],
    );
}

#[test]
fn faults_of_topics_say_what_is_missing_or_has_no_meaning() {
    refused(
        "
mqtt:
  ignore: [a/#/b]
  topics:
    - topic: a/b
    - measurement: m
    - {preset: zigbee}
    - {preset: mqtt_statestream}
    - {preset: mqtt_statestream, topic: a/+/b, tags: {a: b}}
    - {preset: tasmota, fields: {a: b}}
    - {topic: c, measurement: {level: 2}, tags: {a: {level: 0}, b: {level: 1, json: x}, c: {levels_from: 9}}}
    - {topic: c, measurement: m, type: float, time: {json: t, format: unix}}
    - {topic: d, measurement: {json: a..b}, fields: {a: {type: float}, b: {json: ''}}, separator: x}
    - {topic: e, measurement: m, payload: raw, tags: {a: {json: b}}}
    - {topic: f, measurement: m, time: {json: t}}
    - {topic: f, measurement: m}
",
        &[
            "line 3, column 12: mqtt.ignore[0]: `a/#/b` is not a topic: `#` stands alone in the last level, like `home/#`",
            "line 5, column 7: mqtt.topics[0]: needs `measurement` or `preset`: what the messages of a/b become",
            "line 6, column 7: mqtt.topics[1]: needs `topic`: whose messages it means, like meters/+/power",
            "line 7, column 16: mqtt.topics[2].preset: `zigbee` is no choice: it can be zigbee2mqtt, tasmota, mqtt_statestream, \
             mqtt_eventstream",
            "line 8, column 7: mqtt.topics[3]: needs `topic`: `base_topic` of mqtt_statestream, and /# after it",
            "line 9, column 41: mqtt.topics[4].topic: must be the base topic and /# after it, like home/#, for this preset",
            "line 9, column 48: mqtt.topics[4].tags: has no meaning here: mqtt_statestream knows what its messages mean",
            "line 10, column 25: mqtt.topics[5].fields: has no meaning here: the preset says which values there are",
            "line 11, column 31: mqtt.topics[6].measurement: there is no level 2: the topic c has 1",
            "line 11, column 61: mqtt.topics[6].tags.a.level: levels count from 1, or from -1 at the end",
            "line 11, column 68: mqtt.topics[6].tags.b: must have exactly one of level, levels_from, json",
            "line 11, column 92: mqtt.topics[6].tags.c: there is no level 9: the topic c has 1",
            "line 12, column 15: mqtt.topics[7].topic: is the same as that of mqtt.topics[6], which takes all its messages",
            "line 12, column 47: mqtt.topics[7].time: has no meaning here: a raw payload is one value",
            "line 12, column 71: mqtt.topics[7].time.format: `unix` is no choice: did you mean `unix_s`?",
            "line 13, column 38: mqtt.topics[8].measurement.json: `a..b` is not a path of keys like data.flow",
            "line 13, column 57: mqtt.topics[8].fields.a: needs `json`: where the value is in the payload",
            "line 13, column 82: mqtt.topics[8].fields.b.json: `` is not a path of keys like data.flow",
            "line 13, column 88: mqtt.topics[8].separator: has no meaning here: `fields` says which values are written",
            "line 14, column 58: mqtt.topics[9].tags.a: a raw payload has no keys: use level, or payload: json",
            "line 15, column 40: mqtt.topics[10].time: needs `json`, where the time is, and `format`, such as unix_s or rfc3339",
            "line 16, column 15: mqtt.topics[11].topic: is the same as that of mqtt.topics[10], which takes all its messages",
        ],
    );
}

#[test]
fn what_is_not_yaml_is_told_with_its_place() {
    refused(
        "rules:\n\t- drop: true\n",
        &["line 2, column 1: there is a tab here: indent with spaces, as YAML wants it"],
    );
    refused("rules: []\n---\nrules: []\n", &["there is a second document: remove the line `---` before it"]);
    refused("- a\n", &["line 1, column 1: : must be a group of keys, not a list"]);
    let faults = load("rules: [\r\n  {drop: true\r\n", &Rules::default()).unwrap_err().to_string();
    assert!(faults.starts_with("line 3, column 1: this is not YAML: "), "{faults}");
    refused(
        "rules: []\nmqtt: {}\nrules: []\r\nrules: []\n",
        &[
            "line 3, column 1: rules: is there twice: remove one of them",
            "line 4, column 1: rules: is there twice: remove one of them",
        ],
    );
}

#[test]
fn home_assistants_tags_are_refused_but_not_in_what_is_not_used() {
    let (_, warnings) =
        load("influxdb: {password: !secret influx, host: !include x, port: 8086}", &Rules::default()).unwrap();
    assert_eq!(
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["influxdb: host, port, password: not used here, the options decide where to write and how"]
    );
    refused(
        "influxdb: {tags: {a: !secret x}, include: !include y}\nrules: !include_dir_list rules\nevents: [!env z]\n",
        &[
            "line 1, column 22: influxdb.tags.a: `!secret` is known to Home Assistant only: write the value itself here",
            "line 1, column 43: influxdb.include: `!include` is known to Home Assistant only: write what the other file \
             holds here",
            "line 2, column 8: rules: `!include_dir_list` is known to Home Assistant only: write what the other file \
             holds here",
            "line 3, column 10: events[0]: `!env` is not known here: remove it",
        ],
    );
}

#[test]
fn anchors_and_merge_keys_are_written_out() {
    let made = rules(
        "
influxdb:
  tags: &tags {a: b}
rules:
  - &first
    match: {entities: &all [sensor.a, sensor.b]}
    drop: true
  - <<: *first
    drop: false
    tags: *tags
  - match: {entities: *all}
    <<: [*first, {throttle: 5}]
",
    );
    let drops: Vec<_> = made.rules.iter().map(|rule| rule.actions.drop).collect();
    assert_eq!(drops, [Some(true), Some(false), Some(true)]);
    assert!(made.rules.iter().all(|rule| rule.selection.entities == ["sensor.a", "sensor.b"]));
    assert_eq!(made.rules[2].actions.throttle, Some(Duration::from_secs(5)));
    // A fault in what is merged is told where that stands.
    refused(
        "rules:\n  - &first\n    drop: true\n    throttle: soon\n  - <<: *first\n",
        &[
            "line 4, column 15: rules[0].throttle: `soon` is not a length of time like 90s, 10m or 1h30m",
            "line 4, column 15: rules[1].throttle: `soon` is not a length of time like 90s, 10m or 1h30m",
        ],
    );
}

#[test]
fn a_bomb_of_aliases_is_refused_before_it_goes_off() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let before = format!("*a{}", level - 1);
        writeln!(bomb, "a{level}: &a{level} [{}]", [before.as_str(); 10].join(", ")).unwrap();
    }
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a, ".repeat(100_000));
    for text in [bomb, long] {
        let start = Instant::now();
        let faults = load(&text, &Rules::default()).unwrap_err().to_string();
        assert!(faults.contains("its aliases stand for more than fits into memory"), "{faults}");
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
}

#[test]
fn a_file_is_bounded_and_so_are_its_faults() {
    let large = "#".repeat(MOST_BYTES + 1);
    refused(&large, &["the file has 1048577 bytes, and may have at most 1048576"]);
    let deep = "[".repeat(1000) + &"]".repeat(1000);
    let faults = load(&format!("rules: {deep}"), &Rules::default()).unwrap_err().to_string();
    assert!(faults.contains("too deep in one another"), "{faults}");
    let faults = load(&format!("rules:\n{}", "- 5\n".repeat(1000)), &Rules::default()).unwrap_err();
    assert_eq!(faults.faults().len(), 51);
    assert_eq!(faults.faults()[50].to_string(), "and 950 more");
}

#[test]
fn a_block_says_what_it_says_to_home_assistant() {
    let (made, warnings) = load(
        "
influxdb:
  measurement_attr: domain__device_class
  default_measurement: state
  override_measurement: 5
  tags: {yes: no, port: 010, version: 1.10, quoted: \"yes\", said: !!str no, text: 'off', exponent: 1e3, 1: x}
  tags_attributes: friendly_name
  ignore_attributes: [icon, on]
  include:
    domains: sensor
    entities: Sensor.A , light.b
  exclude:
    entity_globs: ['*_x']
    entities: [LIGHT.C]
  component_config:
    Sensor.A: {override_measurement: ''}
  component_config_glob:
    '*.x': {ignore_attributes: a}
",
        &Rules::default(),
    )
    .unwrap();
    assert_eq!(warnings, []);
    let schema = &made.schema;
    assert_eq!(schema.measurement, MeasurementFrom::DomainDeviceClass);
    assert_eq!(
        (schema.default_measurement.as_deref(), schema.override_measurement.as_deref()),
        (Some("state"), Some("5"))
    );
    let tags: Vec<_> = schema.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(
        tags,
        [
            ("True", "False"),
            ("port", "8"),
            ("version", "1.1"),
            ("quoted", "yes"),
            ("said", "no"),
            ("text", "off"),
            ("exponent", "1e3"),
            ("1", "x"),
        ]
    );
    assert_eq!(schema.tags_attributes, ["friendly_name"]);
    assert_eq!(schema.ignore_attributes, ["icon", "True"]);
    assert_eq!(made.filter.include.domains, ["sensor"]);
    assert_eq!(made.filter.include.entities, ["sensor.a", "light.b"]);
    assert_eq!(made.filter.exclude.entity_globs, ["*_x"]);
    assert_eq!(made.filter.exclude.entities, ["light.c"]);
    let [glob, exact] = made.rules.as_slice() else { panic!("{made:?}") };
    assert_eq!(glob.actions.ignore_attributes.as_deref(), Some(&["a".to_owned()][..]));
    assert_eq!(glob.actions.override_measurement, None);
    assert_eq!(exact.selection.entities, ["sensor.a"]);
    assert_eq!(exact.actions.override_measurement.as_deref(), Some(""));
}

#[test]
fn what_home_assistant_refuses_in_a_block_is_refused() {
    refused(
        "
influxdb:
  hots: db
  measurement_attr: unit
  override_measurement:
  tags:
  include:
    domains: {a: b}
    entities: [sensor.a, nonsense, a__b.c]
  exclude:
    entities:
  component_config:
    sensor: {}
    sensor.b:
    sensor.c: {override_measurment: x}
",
        &[
            "line 3, column 3: unknown key `influxdb.hots`: did you mean `host`?",
            "line 4, column 21: influxdb.measurement_attr: `unit` is no choice: it can be unit_of_measurement, \
             domain__device_class, entity_id",
            "line 5, column 24: influxdb.override_measurement: has no value: give text, or remove the line",
            "line 6, column 8: influxdb.tags: has no value: give a group of keys, or remove the line",
            "line 8, column 14: influxdb.include.domains: must be text, not a group of keys",
            "line 9, column 26: influxdb.include.entities[1]: `nonsense` is no entity id like sensor.kitchen_temperature, as \
             Home Assistant says too",
            "line 9, column 36: influxdb.include.entities[2]: `a__b.c` is no entity id like sensor.kitchen_temperature, as \
             Home Assistant says too",
            "line 11, column 14: influxdb.exclude.entities: has no value: give a list of entity ids, or remove the line",
            "line 13, column 5: influxdb.component_config.sensor: `sensor` is no entity id like \
             sensor.kitchen_temperature, as Home Assistant says too",
            "line 14, column 14: influxdb.component_config.sensor.b: has no value: give a group of keys, or remove the line",
            "line 15, column 16: unknown key `influxdb.component_config.sensor.c.override_measurment`: did you mean \
             `override_measurement`?",
        ],
    );
    refused("influxdb: [{}, {}]", &["line 1, column 11: influxdb: must be one block, not several"]);
    refused(
        "influxdb: {include: {domains: a}}\nfilter: {exclude: {domains: b}}",
        &["line 2, column 1: filter: the block `influxdb` has include or exclude too: keep one of them"],
    );
}

#[test]
fn a_block_replaces_options_and_says_so() {
    let mut options = Rules::default();
    options.schema.tags = vec![("a".into(), "b".into())];
    options.schema.ignore_attributes = vec!["icon".into()];
    options.filter.include.domains = vec!["light".into()];
    let text = "influxdb: [{tags: {c: d}, default_measurement: m, include: {domains: sensor}}]";
    let (made, warnings) = load(text, &options).unwrap();
    assert_eq!(made.schema.tags, [("c".into(), "d".into())]);
    assert_eq!(made.schema.ignore_attributes, ["icon"]);
    assert_eq!(made.filter.include.domains, ["sensor"]);
    assert_eq!(
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "influxdb.tags counts, and not the option schema.tags: empty one of them",
            "influxdb.include and influxdb.exclude count, and not the option filter: empty one of them",
        ]
    );
}

#[test]
fn no_fault_shows_what_the_connection_needs() {
    const SECRET: &str = "hunter2";
    for text in [
        format!("influxdb: {{password: {SECRET}, token: {SECRET}, hots: {SECRET}, username: [{SECRET}]}}"),
        format!("influxdb: {{password: {SECRET}, tags: 5}}"),
        format!("influxdb:\n  password: {SECRET}: x\n"),
        format!("influxdb:\n  password: '{SECRET}\n"),
        format!("influxdb:\n  password: *{SECRET}\n"),
    ] {
        let told = format!("{:?}", load(&text, &Rules::default()).map_err(|faults| (faults.to_string(), faults)));
        assert!(told.starts_with("Err") && !told.contains(SECRET), "{text}: {told}");
    }
    let told = format!("{:?}", load(&format!("influxdb: {{password: {SECRET}}}"), &Rules::default()).unwrap());
    assert!(!told.contains(SECRET), "{told}");
}

/// The schema of the file as editors take it.
fn schema() -> Value {
    let mut schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<File>().to_value();
    without_nothing(&mut schema);
    schema["title"] = "rules.yaml of HA Ingestor".into();
    schema
}

/// A key that is left out is not there; a key without a value is a fault. The generator takes them for the same, and adds
/// nothing (`null`) to whatever a key may hold. Where we mean it, it is the third of three.
fn without_nothing(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(without_nothing),
        Value::Object(keys) => {
            keys.values_mut().for_each(without_nothing);
            if let Some(Value::Array(choices)) = keys.get("anyOf")
                && let [Value::Object(only), nothing] = choices.as_slice()
                && *nothing == serde_json::json!({"type": "null"})
            {
                let only = only.clone();
                keys.remove("anyOf");
                keys.extend(only);
            }
            if let Some(Value::Array(choices)) = keys.get_mut("enum") {
                choices.retain(|choice| !choice.is_null());
            }
            if let Some(Value::Array(kinds)) = keys.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [only] = kinds.as_slice() {
                    let only = only.clone();
                    keys.insert("type".to_owned(), only);
                }
            }
        }
        _ => {}
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_schema_for_editors_is_that_of_the_types() {
    let made = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    let file = root().join("addon/rules.schema.json");
    #[expect(clippy::disallowed_methods, reason = "only this way a person can ask a test for something")]
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&file, &made).unwrap();
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == made,
        "addon/rules.schema.json is not that of the types: UPDATE_SCHEMA=1 cargo test --lib the_schema_for_editors \
         writes it again"
    );
}

#[test]
fn every_example_of_the_documentation_is_right() {
    let text = fs::read_to_string(root().join("docs/rules.md")).unwrap();
    let examples: Vec<&str> =
        text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect();
    assert!(examples.len() > 10, "{} examples", examples.len());
    for example in examples {
        let made = rules(example);
        assert_ne!(made, Rules::default(), "it says nothing:\n{example}");
    }
}
