//! Our schema and our filter against those of a real Home Assistant 2025.4, without a home.
//!
//! The states are random but the same in every run, and made to collide: names such as `value`, `time_` and `a_str`
//! beside `value`, `time` and `a`.

use std::sync::Arc;

use ha_ingestor::config::settings::{EntitySet, Filter, MeasurementFrom, Schema};
use ha_ingestor::demo::json::push_attributes;
use ha_ingestor::model::entity::EntityId;
use ha_ingestor::model::event::{Event, StateChange};
use ha_ingestor::model::point::{FieldValue, Point};
use ha_ingestor::model::time::Timestamp;
use ha_ingestor::model::value::{Attributes, Value};
use ha_ingestor::pipeline::{Fate, Pipeline, filter};
use ha_ingestor::rules::Rules;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::json;

use crate::peers::home_assistant::python;
use crate::support::python::ask;

pub fn home_assistant(questions: &[String]) -> Option<Vec<serde_json::Value>> {
    ask(&python()?, "converter.py", questions)
}

const NAMES: [&str; 34] = [
    "friendly_name",
    "unit_of_measurement",
    "device_class",
    "icon",
    "a",
    "a_",
    "a_str",
    "a__",
    "a__str",
    "value",
    "value_",
    "value_str",
    "value__str",
    "state",
    "state_",
    "state_str",
    "state__str",
    "time",
    "time_",
    "time__",
    "time_str",
    "domain",
    "entity_id",
    "options",
    "b",
    "b_str",
    "b_str_",
    "b_str_str",
    "Ä ö",
    "x=y",
    "with space",
    "",
    "c",
    "source",
];

fn states() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![
            "on",
            "off",
            "open",
            "closed",
            "home",
            "not_home",
            "locked",
            "unlocked",
            "above_horizon",
            "below_horizon",
            "unknown",
            "unavailable",
            "",
            "On",
            "opening",
            "nan",
            "-inf",
            "1e400",
            " 5 ",
            "two\nlines",
            "\n",
            "٤٢",
        ])
        .prop_map(String::from),
        any::<f32>().prop_map(|number| number.to_string()),
        "[0-9]{1,6}[.]?[0-9]{0,3}",
        "[ -~]{0,10}",
    ]
}

fn values() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        select(vec![
            "",
            "°C",
            "W",
            "\n",
            "a\r\nb",
            "12",
            "1_000",
            "nan",
            "Infinity",
            "1e999",
            "Hall 12",
            "v1.25",
            "10.0.0.1",
            "2026-01-01T00:00:00+00:00",
            "it's",
            "say \"x\"",
            "back\\slash",
            "٤٢ x",
            "None",
        ])
        .prop_map(String::from),
        "[ -~]{0,8}",
        "[a0-9.\u{2028}é]{0,6}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-500i64..500).prop_map(Value::Int),
        any::<u64>().prop_map(|number| i64::try_from(number).map_or(Value::UInt(number), Value::Int)),
        any::<f32>().prop_map(|number| Value::Float(if number.is_finite() { f64::from(number) } else { 0.5 })),
        text.prop_map(|text| Value::Text(text.into())),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            3 => proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| Value::List(items.into())),
            1 => inner.prop_map(|item| Value::Map([("k".into(), item)].into())),
        ]
    })
}

fn changes() -> impl Strategy<Value = StateChange> {
    let names = subsequence(&NAMES[..], 0..12).prop_shuffle();
    let attributes = names.prop_flat_map(|names| {
        let values = proptest::collection::vec(values(), names.len());
        values.prop_map(move |values| names.iter().map(|name| Arc::from(*name)).zip(values).collect::<Attributes>())
    });
    (select(vec!["sensor.a", "light.b.c", "switch.kitchen"]), states(), attributes).prop_map(
        |(entity, state, attributes)| StateChange {
            entity: EntityId::parse(entity).unwrap(),
            state: state.into(),
            attributes: Arc::new(attributes),
            last_updated: Timestamp::from_micros(1_771_093_805_123_456),
            context: None,
        },
    )
}

fn schemas() -> impl Strategy<Value = Schema> {
    let measurement =
        select(vec![MeasurementFrom::UnitOfMeasurement, MeasurementFrom::DomainDeviceClass, MeasurementFrom::EntityId]);
    let name = || select(vec![None, None, Some("name".to_owned()), Some("two\nlines".to_owned()), Some(String::new())]);
    let tags = subsequence(vec![("source", "HA"), ("domain", "xx"), ("entity_id", ""), ("t", "a\nb")], 0..3);
    // Without those that end in `_str`: there we ignore what Home Assistant does not.
    let ignorable: Vec<_> = NAMES.into_iter().filter(|name| !name.ends_with("_str")).collect();
    let names = |names: Vec<&'static str>| subsequence(names, 0..4);
    (measurement, name(), name(), tags, names(NAMES.to_vec()), names(ignorable)).prop_map(
        |(measurement, default_measurement, override_measurement, tags, tags_attributes, ignore_attributes)| Schema {
            measurement,
            default_measurement,
            override_measurement,
            tags: tags.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            tags_attributes: tags_attributes.into_iter().map(String::from).collect(),
            ignore_attributes: ignore_attributes.into_iter().map(String::from).collect(),
            registry_tags: Vec::new(),
        },
    )
}

fn question(schema: &Schema, change: &StateChange) -> String {
    let tags: serde_json::Map<_, _> = schema.tags.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let options = json!({
        "measurement_attr": schema.measurement,
        "default_measurement": schema.default_measurement,
        "override_measurement": schema.override_measurement,
        "tags": tags,
        "tags_attributes": schema.tags_attributes,
        "ignore_attributes": schema.ignore_attributes,
    });
    let (entity, state) = (json!(change.entity.as_str()), json!(*change.state));
    // In their order: it decides which of two names that collide is the first.
    let mut attributes = String::new();
    push_attributes(&mut attributes, &change.attributes);
    format!(r#"{{"entity_id": {entity}, "state": {state}, "attributes": {attributes}, "options": {options}}}"#)
}

/// A sorted point in the form in which the other side answers.
pub fn as_answer(point: &Point) -> serde_json::Value {
    let fields = point.fields().map(|(key, value)| match value {
        FieldValue::Float(number) => json!([key, number]),
        FieldValue::Text(text) => json!([key, text]),
        other => panic!("the schema writes floats and texts only, not {other:?}"),
    });
    json!({
        "measurement": point.measurement(),
        "tags": point.tags().map(|(key, value)| json!([key, value])).collect::<Vec<_>>(),
        "fields": fields.collect::<Vec<_>>(),
    })
}

#[test]
fn every_point_is_the_one_that_home_assistant_makes() {
    let mut runner = TestRunner::deterministic();
    let strategy = (schemas(), changes());
    let cases: Vec<_> = (0..4000).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    let questions: Vec<_> = cases.iter().map(|(schema, change)| question(schema, change)).collect();
    let Some(answers) = home_assistant(&questions) else { return };
    let mut compared = 0;
    for (((schema, change), question), answer) in cases.into_iter().zip(questions).zip(answers) {
        let mut pipeline = Pipeline::new(&Arc::new(Rules { schema, ..Rules::default() }));
        let ours = match pipeline.handle(&Event::Changed(change), Timestamp::from_micros(0)) {
            Fate::Point { point, .. } => as_answer(point),
            Fate::Filtered(_) => serde_json::Value::Null,
            other => panic!("nothing came before: {other:?}"),
        };
        // A unit that is nothing but a line break leaves Home Assistant with an empty measurement, which no database
        // takes. To us it is no unit.
        if answer["measurement"] != "" {
            assert_eq!(ours, answer, "{question}");
            compared += 1;
        }
    }
    assert!(compared > 3900, "only {compared} cases were comparable");
}

/// A list that is empty, names something else, or names the entity.
fn lists() -> impl Iterator<Item = [usize; 6]> {
    (0..729).map(|number: usize| std::array::from_fn(|list| number / 3usize.pow(u32::try_from(list).unwrap()) % 3))
}

#[test]
fn the_filter_says_what_home_assistant_says_for_every_combination_of_lists() {
    let entity = EntityId::parse("light.kitchen").unwrap();
    let set = |which: &[usize]| {
        let choose = |which: usize, other: &str, own: &str| match which {
            0 => vec![],
            1 => vec![other.to_owned()],
            _ => vec![own.to_owned()],
        };
        EntitySet {
            domains: choose(which[0], "fan", "light"),
            entities: choose(which[1], "light.hall", "light.kitchen"),
            entity_globs: choose(which[2], "*.hall", "*.k[h-j]tchen"),
            ..EntitySet::default()
        }
    };
    let filters: Vec<_> =
        lists().map(|which| Filter { include: set(&which[..3]), exclude: set(&which[3..]) }).collect();
    let questions: Vec<_> = filters
        .iter()
        .map(|Filter { include, exclude }| {
            let question = json!({
                "include_domains": include.domains,
                "include_entities": include.entities,
                "include_globs": include.entity_globs,
                "exclude_domains": exclude.domains,
                "exclude_entities": exclude.entities,
                "exclude_globs": exclude.entity_globs,
                "entity_id": entity.as_str(),
            });
            question.to_string()
        })
        .collect();
    let Some(answers) = home_assistant(&questions) else { return };
    let mut repaired_since = 0;
    for ((settings, question), answer) in filters.iter().zip(&questions).zip(answers) {
        let verdict = filter::Filter::new(settings).judge(&entity);
        if verdict.allowed == answer {
            continue;
        }
        // The one case that newer releases decide otherwise: named in both lists, and included by nothing but names.
        let EntitySet { domains, entities, entity_globs, .. } = &settings.include;
        assert!(domains.is_empty() && entity_globs.is_empty() && entities == &settings.exclude.entities, "{question}");
        assert!(verdict.allowed, "{question}");
        repaired_since += 1;
    }
    assert_eq!(repaired_since, 3);
}
