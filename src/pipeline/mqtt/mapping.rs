//! How a message becomes a point of its own.
//!
//! Pure. The point is refused as a whole if any part of it is not what the rule says; values that are not there are left
//! out. Names and texts are on one line, as everywhere.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::Value;

use super::Reading;
use super::json::{self, Made};
use crate::model::event::Message;
use crate::model::fate::{Filtered, Refused};
use crate::model::point::{FieldValue, Point};
use crate::pipeline::python::number::parse_float;
use crate::pipeline::python::text::join_lines;
use crate::pipeline::words::number_of;
use crate::rules::{Field, FieldType, Mapping, Part, Payload};

/// Objects and lists inside each other. No device sends a tenth of it.
const MAX_LEVELS: usize = 32;

/// Values of one message. A database takes more, but each of them is a column there for ever.
const MAX_FIELDS: usize = 1_000;

/// Why a message is no point.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoPoint {
    Filtered(Filtered),
    Refused(Refused),
}

impl NoPoint {
    pub(super) fn reading(self, rule: &Arc<str>) -> Reading {
        match self {
            Self::Filtered(reason) => Reading::Filtered(reason),
            Self::Refused(reason) => Reading::Refused { reason, rule: rule.clone() },
        }
    }
}

impl From<Refused> for NoPoint {
    fn from(reason: Refused) -> Self {
        Self::Refused(reason)
    }
}

/// Makes `point`, sorted, tell what `text`, the payload of the message, says, and returns how many numbers were left out
/// because they are not finite.
pub(super) fn fill(
    mapping: &Mapping,
    message: &Message,
    text: &str,
    tags: &[(String, String)],
    point: &mut Point,
) -> Result<u32, NoPoint> {
    let document =
        if needs_json(mapping) { Some(serde_json::from_str(text).map_err(|_| Refused::NotJson)?) } else { None };
    let document: Option<&Value> = document.as_ref();
    point.clear();
    point.set_time(message.arrived);
    if let Some(time) = &mapping.time {
        let value = document.and_then(|document| json::at(document, &time.path));
        point.set_time(value.and_then(|value| json::time(value, time.format)).ok_or(Refused::NoTime)?);
    }
    match name(&mapping.measurement, &message.topic, document) {
        Some(measurement) if !measurement.is_empty() => point.set_measurement(&[&measurement]),
        _ => return Err(Refused::NoMeasurement.into()),
    }
    for (key, value) in tags {
        point.set_tag(key, value);
    }
    // Whoever writes a tag for some topics means it more than for all points.
    for (key, part) in &mapping.tags {
        if let Some(value) = name(part, &message.topic, document) {
            point.set_tag(key, &value);
        }
    }
    let mut fields = Fields { point, ignored: &mapping.ignore_fields, given: 0, left_out: 0, omitted: 0 };
    match (&mapping.payload, document) {
        (Payload::Object { separator, types }, Some(document @ Value::Object(_))) => {
            fields.add_all(document, &mut String::new(), 0, separator, types)?;
        }
        (Payload::Fields(wanted), Some(document)) => fields.add_wanted(document, wanted)?,
        (Payload::Raw { cast: None }, _) => fields.add_state(text),
        (Payload::Raw { cast: Some(to) }, _) => fields.add("value", "", &json::cast_text(text, *to)?),
        (Payload::Object { .. } | Payload::Fields(_), _) => return Err(Refused::NotJson.into()),
    }
    let Fields { given, left_out, omitted, .. } = fields;
    if point.fields().next().is_none() {
        // What a rule takes away as a whole was not meant to be written.
        let meant = given > 0 && given == left_out;
        return Err(if meant { NoPoint::Filtered(Filtered::DroppedByRule) } else { Refused::NoFields.into() });
    }
    point.sort();
    Ok(omitted)
}

fn needs_json(mapping: &Mapping) -> bool {
    let mut parts = std::iter::once(&mapping.measurement).chain(mapping.tags.iter().map(|(_, part)| part));
    !matches!(mapping.payload, Payload::Raw { .. })
        || mapping.time.is_some()
        || parts.any(|part| matches!(part, Part::Json(_)))
}

fn name<'a>(part: &'a Part, topic: &'a str, document: Option<&'a Value>) -> Option<Cow<'a, str>> {
    match part {
        Part::Literal(text) => Some(join_lines(text)),
        Part::Level(0) => None,
        Part::Level(level) => {
            let place = usize::try_from(level.unsigned_abs()).ok()? - 1;
            let level = if *level > 0 { topic.split('/').nth(place) } else { topic.rsplit('/').nth(place) };
            level.map(join_lines)
        }
        Part::LevelsFrom(first) => {
            let skipped = usize::try_from(first.get()).ok()? - 1;
            let rest = topic.splitn(skipped.checked_add(1)?, '/').nth(skipped);
            rest.map(join_lines)
        }
        Part::Json(path) => json::at(document?, path).and_then(json::name),
    }
}

/// The fields of a point that is being made.
struct Fields<'a> {
    point: &'a mut Point,
    ignored: &'a [String],
    /// How many values there were, null apart.
    given: usize,
    /// How many of them the rule takes away.
    left_out: usize,
    omitted: u32,
}

impl Fields<'_> {
    /// A raw payload, by the rule of Home Assistant's states.
    fn add_state(&mut self, text: &str) {
        if let Some(number) = parse_float(text) {
            return self.add("value", "", &Made::Float(number));
        }
        self.add("state", "", &Made::Text(join_lines(text)));
        if let Some(number) = number_of(text) {
            self.add("value", "", &Made::Float(number));
        }
    }

    fn add_wanted(&mut self, document: &Value, wanted: &[Field]) -> Result<(), Refused> {
        for field in wanted {
            if let Some(value) = json::at(document, &field.path) {
                self.add_value(value, &field.name, field.cast)?;
            }
        }
        Ok(())
    }

    /// Every value below `value`, under the names of its keys. Of two values whose names are the same, the one whose keys
    /// come later in the alphabet stays.
    fn add_all(
        &mut self,
        value: &Value,
        name: &mut String,
        level: usize,
        separator: &str,
        types: &[(String, FieldType)],
    ) -> Result<(), Refused> {
        let cast = types.iter().find(|(known, _)| known == name).map(|(_, to)| *to);
        if cast.is_some() || !(value.is_object() || value.is_array()) {
            return self.add_value(value, name, cast);
        }
        if level == MAX_LEVELS {
            return Err(Refused::PayloadTooLarge);
        }
        let end = name.len();
        if level > 0 {
            name.push_str(separator);
        }
        let start = name.len();
        match value {
            Value::Object(members) => {
                for (key, member) in members {
                    name.truncate(start);
                    name.push_str(key);
                    self.add_all(member, name, level + 1, separator, types)?;
                }
            }
            Value::Array(items) => {
                for (place, item) in items.iter().enumerate() {
                    name.truncate(start);
                    write!(name, "{place}").expect("a String takes any text");
                    self.add_all(item, name, level + 1, separator, types)?;
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        name.truncate(end);
        Ok(())
    }

    fn add_value(&mut self, value: &Value, name: &str, cast: Option<FieldType>) -> Result<(), Refused> {
        let made = match cast {
            // What is not written needs no type.
            Some(_) if self.ignores(name) => json::plain(value),
            Some(to) => json::cast(value, to)?,
            None => json::plain(value),
        };
        let Some(made) = made else { return Ok(()) };
        if self.given == MAX_FIELDS {
            return Err(Refused::PayloadTooLarge);
        }
        // Who asks for a type gets the exact name; a text that just comes must not meet a number of that name.
        let suffix = if cast.is_none() && matches!(made, Made::Text(_)) { "_str" } else { "" };
        self.add(name, suffix, &made);
        Ok(())
    }

    fn add(&mut self, name: &str, suffix: &str, made: &Made<'_>) {
        self.given += 1;
        let key = if suffix.is_empty() { Cow::Borrowed(name) } else { Cow::Owned(format!("{name}{suffix}")) };
        if self.ignores(name) || self.ignores(&key) {
            self.left_out += 1;
            return;
        }
        let value = match made {
            Made::Float(number) if !number.is_finite() => {
                self.omitted += 1;
                return;
            }
            Made::Float(number) => FieldValue::Float(*number),
            Made::Integer(number) => FieldValue::Integer(*number),
            Made::Boolean(truth) => FieldValue::Boolean(*truth),
            Made::Text(text) => FieldValue::Text(text),
        };
        self.point.set_field(&key, value);
    }

    fn ignores(&self, name: &str) -> bool {
        self.ignored.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => pattern == name,
        })
    }
}

#[cfg(test)]
mod tests;
