//! What the comparisons with Python share: JSON in and out, a peer that answers lines, a point as text.

#![allow(dead_code, unreachable_pub, reason = "each test program is a crate that uses a part of it")]

use std::fmt;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use ha_ingestor::line::number::write_shortest;
use ha_ingestor::model::point::{FieldValue, Point};
use ha_ingestor::model::value::{Attributes, Value};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A `Value` that can be read from JSON, objects in their order.
pub struct Json(pub Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor).map(Json)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::UInt(number), Value::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Json(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, Json(item))) = map.next_entry::<Box<str>, Json>()? {
            entries.push((key, item));
        }
        Ok(Value::Map(entries.into()))
    }
}

pub fn attributes(json: &str) -> Attributes {
    match serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}")) {
        Json(Value::Map(entries)) => entries.into_iter().map(|(name, value)| (Arc::from(name), value)).collect(),
        Json(other) => panic!("attributes are an object, not {other:?}"),
    }
}

pub fn to_json(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(truth) => truth.to_string(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Text(text) => quoted(text),
        Value::List(items) => format!("[{}]", items.iter().map(to_json).collect::<Vec<_>>().join(",")),
        Value::Map(entries) => object(entries.iter().map(|(key, item)| (&**key, to_json(item)))),
    }
}

pub fn object<'a>(entries: impl Iterator<Item = (&'a str, String)>) -> String {
    let entries: Vec<_> = entries.map(|(key, json)| format!("{}:{json}", quoted(key))).collect();
    format!("{{{}}}", entries.join(","))
}

pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// A line of line protocol without its time. Only for comparing: it escapes, and checks nothing.
pub fn line(point: &Point) -> String {
    let pair = |key: &str, value: &str| format!("{}={value}", escaped(key, ",= "));
    let tags = point.tags().map(|(key, value)| pair(key, &escaped(value, ",= ")));
    let series: Vec<_> = std::iter::once(escaped(point.measurement(), ", ")).chain(tags).collect();
    let fields = point.fields().map(|(key, value)| match value {
        FieldValue::Float(number) => {
            let mut digits = Vec::new();
            write_shortest(number, &mut digits);
            pair(key, &String::from_utf8(digits).unwrap())
        }
        FieldValue::Text(text) => pair(key, &format!("\"{}\"", escaped(text, "\"\\"))),
        other => panic!("the schema writes floats and texts only, not {other:?}"),
    });
    format!("{} {}", series.join(","), fields.collect::<Vec<_>>().join(","))
}

fn escaped(text: &str, special: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if special.contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Puts all questions, one JSON value a line, to a Python program and returns its answers, one a line. `None` if there
/// is no such Python here.
pub fn ask(python: &str, program: &str, questions: &[String]) -> Option<Vec<String>> {
    let program = format!("{}/tests/peers/{program}", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python);
    command.args([program.as_str()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut peer = match command.spawn() {
        Ok(peer) => peer,
        Err(error) => {
            skip(&format!("cannot start {python}: {error}"));
            return None;
        }
    };
    // The programs read everything before they answer, so neither side waits for the other.
    let mut stdin = peer.stdin.take().unwrap();
    stdin.write_all((questions.join("\n") + "\n").as_bytes()).unwrap();
    drop(stdin);
    let output = peer.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} failed");
    let answers: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(String::from).collect();
    assert_eq!(answers.len(), questions.len(), "one answer per question");
    Some(answers)
}

#[expect(clippy::disallowed_methods, reason = "the place of the peer is known to whoever runs the tests")]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Says that a comparison did not take place, past the test runner, which hides what is printed. Where nothing may be
/// skipped, it fails.
#[expect(clippy::explicit_write, reason = "`eprintln!` is what the test runner hides")]
fn skip(why: &str) {
    assert!(environment("CI").is_none(), "{why}");
    writeln!(std::io::stderr(), "SKIPPED: {why}").unwrap();
}
