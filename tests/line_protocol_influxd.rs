//! A real InfluxDB 1 stores of every line exactly what the encoder promises.

#![allow(clippy::disallowed_methods, reason = "tests are told by the environment where the real peers are")]
#![expect(clippy::unwrap_used, reason = "the helpers of a test fail it where something is not as expected")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use ha_ingestor::line::encode::{Encoded, encode};
use proptest::prelude::{Just, Strategy};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use support::nasty::points;
use support::reading::{Reading, Value, promised};
use support::server::{Server, find, free_address};

mod support {
    pub(crate) mod nasty;
    pub(crate) mod reading;
    pub(crate) mod server;
}

const POINTS: usize = 2_000;
const FIRST_MICROS: i64 = 1_771_093_805_123_456;

#[test]
fn a_real_influxdb_1_reads_every_line_as_promised() {
    let Some(program) = find("HA_INGESTOR_TEST_INFLUXD", "influxd") else { return };
    let directory = tempfile::tempdir().unwrap();
    let server = start(&program, directory.path());
    let (status, answer) = server.request("POST", "/query?q=CREATE%20DATABASE%20test", "");
    assert_eq!(status, 200, "{answer}");

    let (lines, expected, adjusted) = nasty_lines();
    assert!(adjusted > POINTS / 4, "only {adjusted} points were nasty");
    let (status, answer) = server.request("POST", "/write?db=test&precision=ns", &lines);
    assert_eq!(status, 204, "{answer}");

    let mut stored = read_everything(&server, &expected);
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
fn read_everything(server: &Server, expected: &BTreeMap<i64, Reading>) -> BTreeMap<i64, Reading> {
    // One statement for each measurement: in one for all of them, a field has one type for all of them.
    let measurements: BTreeSet<_> = expected.values().map(|reading| reading.measurement.as_str()).collect();
    let mut query = String::new();
    for measurement in measurements {
        let quoted = measurement.replace('\\', r"\\").replace('"', r#"\""#);
        write!(query, "SELECT * FROM \"{quoted}\" GROUP BY *;").unwrap();
    }
    let mut form = "q=".to_owned();
    for byte in query.bytes() {
        write!(form, "%{byte:02X}").unwrap();
    }
    let (status, answer) = server.request("POST", "/query?db=test&epoch=ns", &form);
    assert_eq!(status, 200, "{answer}");

    let answer: Answer = serde_json::from_str(&answer).unwrap();
    let mut stored = BTreeMap::new();
    for series in answer.results.into_iter().flat_map(|result| result.series) {
        // InfluxDB names every tag of the measurement, with an empty value where there is none.
        let tags: BTreeMap<_, _> = series.tags.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        for row in series.values {
            let nanos = row[0].as_i64().unwrap();
            let wanted = expected.get(&nanos).map(|reading| &reading.fields);
            let mut fields = BTreeMap::new();
            for (key, value) in series.columns.iter().zip(row).skip(1).filter(|(_, value)| !value.is_null()) {
                fields.insert(key.clone(), field(&value, wanted.and_then(|fields| fields.get(key))));
            }
            let reading = Reading { measurement: series.name.clone(), tags: tags.clone(), fields, nanos };
            assert_eq!(stored.insert(nanos, reading), None, "two points at {nanos}");
        }
    }
    stored
}

#[derive(serde::Deserialize)]
struct Answer {
    results: Vec<Statement>,
}

#[derive(serde::Deserialize)]
struct Statement {
    #[serde(default)]
    series: Vec<Series>,
}

#[derive(serde::Deserialize)]
struct Series {
    name: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    columns: Vec<String>,
    values: Vec<Vec<serde_json::Value>>,
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

fn start(program: &Path, directory: &Path) -> Server {
    let (http, rpc) = (free_address(), free_address());
    let data = directory.display();
    let settings = format!(
        r#"
reporting-disabled = true
bind-address = "{rpc}"
[meta]
  dir = "{data}/meta"
[data]
  dir = "{data}/data"
  wal-dir = "{data}/wal"
  query-log-enabled = false
[monitor]
  store-enabled = false
[subscriber]
  enabled = false
[http]
  bind-address = "{http}"
  log-enabled = false
"#
    );
    let file = directory.join("influxdb.conf");
    std::fs::write(&file, settings).unwrap();
    Server::start(Command::new(program).arg("run").arg("-config").arg(&file), http, "/ping")
}
