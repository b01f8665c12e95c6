//! What a database understands of a line, and what it should understand of a point.

use std::collections::BTreeMap;

use ha_ingestor::model::point::{FieldValue, Point};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    pub(crate) measurement: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) fields: BTreeMap<String, Value>,
    pub(crate) nanos: i64,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Float(f64),
    Integer(i64),
    Boolean(bool),
    Text(String),
}

/// Floats are compared by their bits: a negative zero is not a zero.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Boolean(a), Self::Boolean(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            _ => false,
        }
    }
}

/// The promise of the encoder, written down a second time: slowly, character by character, without its code.
/// `None` for a point that cannot be written. Limits of length are not in it.
pub(crate) fn promised(point: &Point) -> Option<Reading> {
    let nanos = i64::try_from(i128::from(point.time().as_micros()) * 1_000).ok()?;

    let mut measurement = cleaned(point.measurement());
    if measurement.starts_with('#') {
        measurement.replace_range(..1, "\u{ff03}");
    }

    let mut tags = BTreeMap::new();
    for (key, value) in point.tags() {
        if key.is_empty() || value.is_empty() {
            continue;
        }
        let mut key = cleaned(key);
        if ["time", "_field", "_measurement"].contains(&key.as_str()) {
            key += "_";
        }
        tags.insert(key, cleaned(value));
    }

    let mut fields = BTreeMap::new();
    for (key, value) in point.fields() {
        let value = match value {
            FieldValue::Float(number) if !number.is_finite() => continue,
            FieldValue::Float(number) => Value::Float(number),
            FieldValue::Integer(number) => Value::Integer(number),
            FieldValue::Boolean(truth) => Value::Boolean(truth),
            FieldValue::Text(text) => Value::Text(text.replace(['\n', '\r'], " ")),
        };
        if key.is_empty() {
            continue;
        }
        let mut key = cleaned(key).replace('"', "'");
        if key == "time" {
            key += "_";
        }
        while tags.contains_key(&key) {
            key += "_";
        }
        fields.insert(key, value);
    }

    if measurement.is_empty() || fields.is_empty() {
        return None;
    }
    Some(Reading { measurement, tags, fields, nanos })
}

/// From the back, so that each character knows what follows it.
fn cleaned(name: &str) -> String {
    let mut backwards = Vec::new();
    // The end of a name is as bad after a backslash as a separator.
    let mut next_separates = true;
    for character in name.chars().rev() {
        let (written, separates) = match character {
            '\\' if next_separates => ('/', true),
            '\\' => ('\\', true),
            ',' | '=' | ' ' | '"' => (character, true),
            '\0'..='\u{1f}' | '\u{7f}' => (' ', true),
            _ => (character, false),
        };
        backwards.push(written);
        next_separates = separates;
    }
    backwards.iter().rev().collect()
}
