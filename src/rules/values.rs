//! The single values of the file: what a name, an entity, a topic or a length of time may be.

use std::num::NonZeroU32;
use std::time::Duration;

use super::faults::{Faults, Place};
use super::read::{Read, choice, group, text_as};
use super::tree::Tree;
use super::{FieldType, JsonPath, Part, TimeFormat};
use crate::config::check::filter::{is_glob, wrong_letters};
use crate::config::faults::shown;
use crate::model::entity::EntityId;
use crate::model::topic::TopicFilter;

/// Text of at least one letter, in one line.
#[derive(Debug)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
pub(super) struct Name(#[cfg_attr(test, schemars(length(min = 1)))] pub(super) String);

impl Read for Name {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        text_as(tree, at, faults, |text| {
            if text.trim().is_empty() {
                Err("is empty: give it a text, or remove it".to_owned())
            } else if text.contains(['\n', '\r']) {
                Err("must be one line".to_owned())
            } else {
                Ok(Self(text.to_owned()))
            }
        })
    }
}

/// A domain such as `sensor`.
#[derive(Debug)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
pub(super) struct Domain(pub(super) String);

impl Read for Domain {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        let Name(text) = Name::read(tree, at, faults)?;
        let problem = if text.contains('.') || is_glob(&text) {
            Some("is not a domain like sensor: put it under `entities`".to_owned())
        } else {
            wrong_letters(&text, "")
        };
        accepted(text, problem, at, faults).map(Self)
    }
}

/// An entity id, or a pattern over entity ids.
#[derive(Debug)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
pub(super) struct Entity(pub(super) String);

impl Entity {
    pub(super) fn is_glob(&self) -> bool {
        is_glob(&self.0)
    }
}

impl Read for Entity {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        let Name(text) = Name::read(tree, at, faults)?;
        let problem = if is_glob(&text) {
            wrong_glob(&text)
        } else if EntityId::parse(&text).is_err() {
            Some("is not an entity id like sensor.kitchen_temperature, nor a pattern like sensor.*".to_owned())
        } else {
            wrong_letters(&text, ".")
        };
        accepted(text, problem, at, faults).map(Self)
    }
}

/// A pattern over entity ids.
#[derive(Debug)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
pub(super) struct EntityGlob(pub(super) String);

impl Read for EntityGlob {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        let Name(text) = Name::read(tree, at, faults)?;
        let problem = wrong_glob(&text);
        accepted(text, problem, at, faults).map(Self)
    }
}

fn wrong_glob(text: &str) -> Option<String> {
    let unclosed = text.rfind('[').is_some_and(|open| !text[open + 1..].contains(']'));
    if unclosed { Some("has a `[` that no `]` closes".to_owned()) } else { wrong_letters(text, ".*?[]!-") }
}

fn accepted(text: String, problem: Option<String>, at: &Place, faults: &mut Faults<'_>) -> Option<String> {
    match problem {
        None => Some(text),
        Some(problem) => {
            faults.at(at, format_args!("`{}` {problem}", shown(&text)));
            None
        }
    }
}

/// A type of events, such as `automation_triggered`.
#[derive(Debug)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
pub(super) struct EventType(pub(super) String);

impl Read for EventType {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        let Name(text) = Name::read(tree, at, faults)?;
        let comes_anyway = ["state_changed", "state_reported", "*"].contains(&text.as_str());
        let problem = comes_anyway.then(|| "cannot be asked for: changes of states are written anyway".to_owned());
        accepted(text, problem, at, faults).map(Self)
    }
}

impl Read for TopicFilter {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        text_as(tree, at, faults, |text| {
            Self::parse(text).map_err(|err| format!("`{}` is not a topic: {err}", shown(text)))
        })
    }
}

/// A length of time: seconds, or a text such as `90s`, `10m` or `1h30m`.
#[derive(Debug)]
pub(super) struct Span(pub(super) Duration);

impl Read for Span {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        const LONGEST: Duration = Duration::from_hours(366 * 24);
        let length = match tree {
            Tree::Integer(_) | Tree::Float(_) => f64::read(tree, at, faults)?,
            Tree::Text(text) => match seconds_of(text) {
                Some(seconds) => seconds,
                None => {
                    faults.at(at, format_args!("`{}` is not a length of time like 90s, 10m or 1h30m", shown(text)));
                    return None;
                }
            },
            other => {
                faults.wrong(at, "seconds, or a length of time like 10m", other);
                return None;
            }
        };
        if length < 0.0 {
            faults.at(at, "must not be negative");
            return None;
        }
        match Duration::try_from_secs_f64(length) {
            Ok(length) if length <= LONGEST => Some(Self(length)),
            _ => {
                faults.at(at, "must be at most 366d");
                None
            }
        }
    }
}

/// Numbers, each with its unit, one after the other.
fn seconds_of(text: &str) -> Option<f64> {
    let (text, sign) = match text.trim().strip_prefix('-') {
        Some(rest) => (rest, -1.0),
        None => (text.trim(), 1.0),
    };
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_ends = after.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_ends);
        let unit = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        rest = after.trim_start();
    }
    (!text.is_empty()).then_some(sign * seconds)
}

impl Read for FieldType {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        let known =
            [("float", Self::Float), ("integer", Self::Integer), ("boolean", Self::Boolean), ("text", Self::Text)];
        choice(tree, at, faults, &known)
    }
}

impl Read for TimeFormat {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        let known = [
            ("rfc3339", Self::Rfc3339),
            ("unix_s", Self::UnixSeconds),
            ("unix_ms", Self::UnixMilliseconds),
            ("unix_us", Self::UnixMicroseconds),
            ("unix_ns", Self::UnixNanoseconds),
        ];
        choice(tree, at, faults, &known)
    }
}

/// Keys with dots between, or, where a key holds a dot itself, a list of keys.
impl Read for JsonPath {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        if matches!(tree, Tree::List(_)) {
            let keys: Vec<Name> = Read::read(tree, at, faults)?;
            if keys.is_empty() {
                faults.at(at, "names no key");
            }
            return Some(Self(keys.into_iter().map(|Name(key)| key).collect()));
        }
        text_as(tree, at, faults, |text| {
            let keys: Vec<String> = text.split('.').map(String::from).collect();
            if keys.iter().any(String::is_empty) {
                return Err(format!("`{}` is not a path of keys like data.flow", shown(text)));
            }
            Ok(Self(keys))
        })
    }
}

group! {
    /// Where a text comes from: exactly one of these.
    pub(super) struct PartKeys {
        /// A level of the topic, from 1; -1 is the last.
        level: i64,
        /// All levels of the topic from this one on, with their slashes.
        levels_from: i64,
        /// What is at this place in a JSON payload.
        json: JsonPath,
    }
}

impl Read for Part {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        if !matches!(tree, Tree::Map(_)) {
            return Name::read(tree, at, faults).map(|Name(text)| Self::Literal(text));
        }
        match PartKeys::read(tree, at, faults)? {
            PartKeys { level: Some(level), levels_from: None, json: None } => {
                match i32::try_from(level).ok().filter(|level| *level != 0) {
                    Some(level) => return Some(Self::Level(level)),
                    None => faults.at(&at.key("level"), "levels count from 1, or from -1 at the end"),
                }
            }
            PartKeys { level: None, levels_from: Some(first), json: None } => {
                match u32::try_from(first).ok().and_then(NonZeroU32::new) {
                    Some(first) => return Some(Self::LevelsFrom(first)),
                    None => faults.at(&at.key("levels_from"), "levels count from 1"),
                }
            }
            PartKeys { level: None, levels_from: None, json: Some(path) } => return Some(Self::Json(path)),
            // Something of it was wrong, and is reported already, or there is too much or nothing.
            _ => {
                let Tree::Map(entries) = tree else { return None };
                if entries.len() != 1 {
                    faults.at(at, "must have exactly one of level, levels_from, json");
                }
            }
        }
        None
    }
}

/// What editors are told about the types that are not derived.
#[cfg(test)]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::super::{FieldType, JsonPath, Part, TimeFormat};
    use super::{PartKeys, Span};
    use crate::model::topic::TopicFilter;

    macro_rules! inline {
        ($kind:ty, $generator:ident => $schema:expr) => {
            impl JsonSchema for $kind {
                fn inline_schema() -> bool {
                    true
                }

                fn schema_name() -> Cow<'static, str> {
                    stringify!($kind).into()
                }

                fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                    $schema
                }
            }
        };
    }

    inline!(Span, _generator => json_schema!({
        "anyOf": [
            {"type": "number", "minimum": 0},
            {"type": "string", "pattern": r"^\s*([0-9.]+(ms|s|m|min|h|d)\s*)+$"},
        ]
    }));
    inline!(JsonPath, _generator => json_schema!({
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]
    }));
    inline!(Part, generator => {
        let keys = generator.subschema_for::<PartKeys>();
        json_schema!({"anyOf": [{"type": "string", "minLength": 1}, keys]})
    });
    inline!(FieldType, _generator => json_schema!({"enum": ["float", "integer", "boolean", "text"]}));
    inline!(TimeFormat, _generator => json_schema!({"enum": ["rfc3339", "unix_s", "unix_ms", "unix_us", "unix_ns"]}));
    inline!(TopicFilter, _generator => json_schema!({"type": "string", "minLength": 1}));
}
