//! Blocks `influxdb:` as people have them in configuration.yaml: read by a real Home Assistant and its integration, and by
//! us. Both are given the same states, and have to choose the same ones and make the same points of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ha_ingestor::ingest::hass::protocol::parse_state;
use ha_ingestor::model::event::Event;
use ha_ingestor::model::time::Timestamp;
use ha_ingestor::pipeline::{Fate, Pipeline};
use ha_ingestor::rules::{Rules, load};
use serde_json::{Value, json};

use crate::converter::{as_answer, home_assistant};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The blocks whose name begins so, or all others.
fn blocks(wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let folder = fs::read_dir(fixtures().join("influxdb_blocks")).unwrap();
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|kind| kind == "yaml"));
    files.retain(|file| wanted(&file.file_stem().unwrap().to_string_lossy()));
    files.sort();
    files
}

/// Of a real home, and made ones beside them.
fn states() -> Vec<Value> {
    let files = ["hass/states.jsonl", "influxdb_blocks/states.jsonl"].map(|file| fixtures().join(file));
    let texts: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    texts.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn compare(blocks: &[PathBuf]) {
    let states = states();
    assert!(states.len() >= 50);
    let cases: Vec<(&PathBuf, &Value)> =
        blocks.iter().flat_map(|block| states.iter().map(move |state| (block, state))).collect();
    let question = |(block, state): &(&PathBuf, &Value)| {
        let (entity, text, attributes) = (&state["entity_id"], &state["state"], &state["attributes"]);
        json!({"block": block, "entity_id": entity, "state": text, "attributes": attributes}).to_string()
    };
    let questions: Vec<String> = cases.iter().map(question).collect();
    let Some(answers) = home_assistant(&questions) else { return };
    let (mut points, mut none) = (0, 0);
    for ((block, state), answer) in cases.into_iter().zip(answers) {
        let text = fs::read_to_string(block).unwrap();
        let (rules, _) =
            load(&text, &Rules::default()).unwrap_or_else(|faults| panic!("{}: {faults}", block.display()));
        let change = parse_state(&state.to_string(), Timestamp::from_micros(1_771_093_805_123_456)).unwrap();
        let mut pipeline = Pipeline::new(&Arc::new(rules));
        let ours = match pipeline.handle(&Event::Changed(change), Timestamp::from_micros(0)) {
            Fate::Point { point, .. } => as_answer(point),
            Fate::Filtered(_) => Value::Null,
            other => panic!("nothing came before: {other:?}"),
        };
        assert_eq!(ours, answer, "{}: {state}", block.display());
        if ours.is_null() { none += 1 } else { points += 1 }
    }
    assert!(points > 10 * blocks.len() && none > blocks.len(), "{points} points and {none} states without one");
}

#[test]
fn blocks_choose_and_name_as_they_do_in_home_assistant() {
    let blocks = blocks(|name| !name.starts_with("component_config"));
    assert!(blocks.len() >= 12, "{blocks:?}");
    compare(&blocks);
}

#[test]
fn blocks_with_component_config_name_as_they_do_in_home_assistant() {
    let blocks = blocks(|name| name.starts_with("component_config"));
    assert!(blocks.len() >= 3, "{blocks:?}");
    compare(&blocks);
}

/// What Home Assistant makes of the tags of a block, or that it refuses it.
fn tags_or_refusal(texts: &[String]) {
    let questions: Vec<String> = texts.iter().map(|text| json!({ "text": text }).to_string()).collect();
    let Some(answers) = home_assistant(&questions) else { return };
    for (text, answer) in texts.iter().zip(answers) {
        let ours = match load(text, &Rules::default()) {
            Ok((rules, _)) => {
                let mut tags = rules.schema.tags;
                tags.sort();
                json!(tags)
            }
            Err(_) => Value::Null,
        };
        assert_eq!(ours, answer, "{text}");
    }
}

#[test]
fn words_without_quotes_are_the_texts_that_they_are_in_home_assistant() {
    let words = "yes Yes yEs no NO on ON off Off y n true True TRUE tRUE false null Null ~ 0 -0 +0 00 5 +5 -5 05 08 010 -010 \
                 0b11 0b12 -0b1 0o10 0x1F 0xg -0x1 1_000 1__0_ _1 1_ 12:30:45 -1:30 1:60 0:30 1:3 1:30:61 1.0 1. .5 -.5 +.5 . \
                 1.10 1e3 1.0e3 1.0e+3 1.5E-7 1.e+3 1:30.5 1:30.5e+1 1_0.5_0 .5_ ._5 .inf -.INF +.Inf .iNf .nan .NaN -.nan \
                 1.2.3 10.0.0.1 v1.2 2026-01-01 12e03 0.1e1 1e400 99999999999999999999 123456789012345678901234567890 \
                 1.0e+400 0.1 100000000000000000.0 1.0e-5 0x 0b";
    let quoted =
        ["\"yes\"", "'5'", "\"010\"", "!!str yes", "|\n      yes", ">-\n      1.0", "''", "&a yes", "\"1e3\" # no"];
    let words = words.split_whitespace().chain(quoted);
    let texts: Vec<String> = words.map(|word| format!("influxdb:\n  tags:\n    x: {word}\n    y: z\n")).collect();
    tags_or_refusal(&texts);
    let keys = ["yes", "5", "010", "1.10", "\"yes\"", "null", "x y", "12:30:45", "~"];
    tags_or_refusal(&keys.map(|key| format!("influxdb: {{tags: {{ {key}: a }} }}")));
}

#[test]
fn what_home_assistant_refuses_in_a_block_we_refuse() {
    let keys = [
        "include:",
        "exclude: []",
        "include: {}",
        "include: {domains: }",
        "include: {domains: {a: b}}",
        "include: {domains: [[a]]}",
        "include: {domains: [a, ]}",
        "include: {domains: [null]}",
        "include: {entities: }",
        "include: {entities: []}",
        "include: {entities: sensor.a}",
        "include: {entities: 'sensor.a,'}",
        "include: {entities: [sensor.a, 'sensor.b,sensor.c']}",
        "include: {entities: [sensor]}",
        "include: {entities: [sensor.a.b]}",
        "include: {entities: [sensor.a__b]}",
        "include: {entities: [sensor._a]}",
        "include: {entities: [sensor.a_]}",
        "include: {entities: [ÄSENSOR.a]}",
        "include: {entities: [sensor.2]}",
        "include: {entities: [1.5]}",
        "include: {entity_glob: a}",
        "tags:",
        "tags: a",
        "tags: {a: }",
        "tags: {a: [b]}",
        "tags_attributes: {a: b}",
        "tags_attributes: [{a: b}]",
        "ignore_attributes: 5",
        "measurement_attr: unit",
        "measurement_attr:",
        "measurement_attr: Entity_Id",
        "default_measurement:",
        "default_measurement: []",
        "override_measurement: {}",
        "component_config:",
        "component_config: []",
        "component_config: {sensor: {}}",
        "component_config: {sensor.a: }",
        "component_config: {Sensor.A: {}}",
        "component_config: {sensor.a: {override: x}}",
        "component_config: {sensor.a: {ignore_attributes: }}",
        "component_config: {sensor.a: {override_measurement: }}",
        "component_config_glob: {5: {}}",
        "component_config_domain: {yes: {override_measurement: 5}}",
        "component_config_domain: {~: {}}",
        "unknown: 5",
    ];
    tags_or_refusal(&keys.map(|key| format!("influxdb:\n  {key}\n")));
}
