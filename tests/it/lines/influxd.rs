//! A real InfluxDB 1 stores of every line exactly what the encoder promises.

use std::collections::{BTreeMap, HashMap};

use ha_ingestor::line::encode::{Encoded, encode};
use proptest::prelude::{Just, Strategy};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::points::{Table, select_all};
use crate::support::http;
use crate::support::influxd::Influxd;
use crate::support::nasty::points;
use crate::support::reading::{Reading, Value, promised};

const POINTS: usize = 2_000;
const FIRST_MICROS: i64 = 1_771_093_805_123_456;

#[test]
fn a_real_influxdb_1_reads_every_line_as_promised() {
    let Some(influxd) = Influxd::start() else { return };
    influxd.create_database("test");

    let (lines, expected, adjusted) = nasty_lines();
    assert!(adjusted > POINTS / 4, "only {adjusted} points were nasty");
    let answer = http::post(influxd.address, "/write?db=test&precision=ns", &[], &lines).unwrap();
    assert_eq!(answer.status, 204, "{answer:?}");

    let mut stored = read_everything(&influxd, &expected);
    for (nanos, expected) in expected {
        assert_eq!(stored.remove(&nanos), Some(expected));
    }
    assert_eq!(stored, BTreeMap::new(), "points that nobody wrote");
}

/// Lines, what they promise by time, and how many of them were changed on the way.
fn nasty_lines() -> (String, BTreeMap<i64, Reading>, usize) {
    let mut lines = Vec::new();
    let mut expected = BTreeMap::new();
    let mut adjusted = 0;
    let mut types = HashMap::new();
    let mut runner = TestRunner::deterministic();
    // The edges of what a time can be, and between them a day.
    let edge = i64::MAX / 1_000;
    let mut times = [-edge, edge, -1, 0].into_iter().chain((0..).map(|index| FIRST_MICROS + index * 40_000_001));
    let mut micros = times.next().unwrap();
    while expected.len() < POINTS {
        let point = points(Just(micros)).new_tree(&mut runner).unwrap().current().point();
        let Some(promised) = promised(&point) else { continue };
        // A field has one type in all points of a measurement.
        let same_types = promised.fields.iter().all(|(key, value)| {
            let field = (promised.measurement.clone(), key.clone());
            *types.entry(field).or_insert(std::mem::discriminant(value)) == std::mem::discriminant(value)
        });
        if same_types {
            let encoded = encode(&point, &mut lines).unwrap();
            adjusted += usize::from(encoded != Encoded::default());
            lines.push(b'\n');
            expected.insert(promised.nanos, promised);
            micros = times.next().unwrap();
        }
    }
    (String::from_utf8(lines).unwrap(), expected, adjusted)
}

/// All points by time. JSON has one kind of number: which one it is, `expected` tells.
fn read_everything(influxd: &Influxd, expected: &BTreeMap<i64, Reading>) -> BTreeMap<i64, Reading> {
    let mut stored = BTreeMap::new();
    for Table { name, tags, columns, values } in select_all(influxd, "test", "") {
        // InfluxDB names every tag of the measurement, with an empty value where there is none.
        let tags: BTreeMap<_, _> = tags.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        for row in values {
            let nanos = row[0].as_i64().unwrap();
            let wanted = expected.get(&nanos).map(|reading| &reading.fields);
            let mut fields = BTreeMap::new();
            for (key, value) in columns.iter().zip(row).skip(1).filter(|(_, value)| !value.is_null()) {
                fields.insert(key.clone(), field(&value, wanted.and_then(|fields| fields.get(key))));
            }
            let reading = Reading { measurement: name.clone(), tags: tags.clone(), fields, nanos };
            assert_eq!(stored.insert(nanos, reading), None, "two points at {nanos}");
        }
    }
    stored
}

fn field(json: &serde_json::Value, wanted: Option<&Value>) -> Value {
    match (json, wanted) {
        (serde_json::Value::Number(number), Some(Value::Integer(_))) => Value::Integer(number.as_i64().unwrap()),
        (serde_json::Value::Number(number), _) => Value::Float(number.as_f64().unwrap()),
        (serde_json::Value::Bool(truth), _) => Value::Boolean(*truth),
        (serde_json::Value::String(text), _) => Value::Text(text.clone()),
        other => panic!("no field value: {other:?}"),
    }
}
