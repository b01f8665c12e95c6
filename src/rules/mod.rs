//! What is written, and under which names: the options and the file `rules.yaml` made one.
//!
//! These are the things that are true once both were checked. `rules.yaml` may change while the service runs; then there is
//! another value of [`Rules`], and whoever works by them gets it.
//!
//! [`load`] is the one door: the text becomes a `tree`, the tree the types of the `file`, and these become [`Rules`], or
//! every fault with its line and column. It reads no file: `app` does.

mod faults;
mod file;
mod home_assistant;
mod make;
mod read;
mod topics;
mod tree;
mod values;
mod yaml11;

#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use self::faults::{Fault, Faults, Place};
pub use self::faults::{InvalidRules, Warning};
use self::file::File;
use self::read::Read as _;
use self::tree::Tree;
use crate::config::settings::{Filter, RegistryNames, Schema};
use crate::model::topic::TopicFilter;

/// The largest file that is read, in bytes.
pub const MOST_BYTES: usize = 1 << 20;

/// What the file and the options say together. `text` is what the file holds; `options` is what the options say alone.
pub fn load(text: &str, options: &Rules) -> Result<(Rules, Vec<Warning>), InvalidRules> {
    if text.len() > MOST_BYTES {
        let words = format!("the file has {} bytes, and may have at most {MOST_BYTES}", text.len());
        return Err(InvalidRules::one(Fault { at: None, words }));
    }
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut faults = Faults::of(text);
    let mut warnings = Vec::new();
    let file = match Tree::parse(text).map_err(InvalidRules::one)? {
        Tree::Null => File::default(),
        tree => File::read(&tree, &Place::default(), &mut faults).unwrap_or_default(),
    };
    let rules = make::make(file, options, &mut faults, &mut warnings);
    faults.into_result((rules, warnings))
}

/// Everything that decides what becomes of an event.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules {
    /// Of Home Assistant's entities, whichever way their changes come.
    pub filter: Filter,
    /// For what no rule says otherwise.
    pub schema: Schema,
    /// In the order in which they apply: of two that say something about the same, the later one counts.
    pub rules: Vec<Rule>,
    /// The first that matches a topic says what its messages mean.
    pub topics: Vec<Topic>,
    /// Messages under these are meant for nobody here.
    pub ignored_topics: Vec<TopicFilter>,
    /// Types of events that are written, besides changes of states.
    pub events: Vec<String>,
    /// States that Home Assistant restored at its own start are left out.
    pub skip_restored: bool,
}

/// What is done with some entities.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// As a user finds it: its `name`, else its place, such as `rules[2]` or `influxdb.component_config.sensor.power`.
    pub name: Arc<str>,
    pub selection: Selection,
    pub actions: Actions,
}

/// Which entities. One that is in a list of each kind that is not empty; a selection without any list is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    pub domains: Vec<String>,
    /// Patterns as in [`crate::config::settings::EntitySet`].
    pub entity_globs: Vec<String>,
    pub entities: Vec<String>,
    pub registry: RegistryNames,
    /// Of the attribute `device_class`.
    pub device_classes: Vec<String>,
}

/// What is done. `None` and empty lists say nothing, so that a less specific rule may.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Actions {
    /// Nothing is written.
    pub drop: Option<bool>,
    /// The measurement, as `override_measurement` of Home Assistant's `component_config`.
    pub override_measurement: Option<String>,
    /// From the measurement that there would be to another name.
    pub rename_measurements: Option<Vec<(String, String)>>,
    /// Replaces the list of a less specific rule, as Home Assistant does; the global list counts in addition.
    pub ignore_attributes: Option<Vec<String>>,
    /// Only these attributes are written. Empty: none is.
    pub keep_attributes: Option<Vec<String>>,
    /// In addition to the global list.
    pub tags_attributes: Option<Vec<String>>,
    /// In addition to the global ones, which they may replace.
    pub tags: Option<Vec<(String, String)>>,
    /// From the name that a field would have to another.
    pub rename_fields: Option<Vec<(String, String)>>,
    /// What is done with the numbers of a field. `value` is that of the state.
    pub fields: Option<Vec<(String, FieldActions)>>,
    /// What the texts of the state are as numbers, in addition to those that Home Assistant knows (`on`, `open`, ...).
    pub state_numbers: Option<Vec<(String, f64)>>,
    /// At most one point in this time; the last value is written when its turn comes. Zero: no limit.
    pub throttle: Option<Duration>,
    /// A value that stays as it is is written again after this time. Zero: it is not.
    pub heartbeat: Option<Duration>,
    /// Not if only attributes changed.
    pub only_state_changes: Option<bool>,
}

/// What is done with one field, in this order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldActions {
    /// To this unit, from that of the entity's `unit_of_measurement`; of `value` only. The unit that is written (as the
    /// measurement, or as a field) is then this one.
    pub unit: Option<String>,
    pub scale: Option<f64>,
    pub offset: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// Decimal places.
    pub round: Option<u8>,
    pub cast: Option<FieldType>,
}

/// The type that a field is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    Float,
    Integer,
    Boolean,
    Text,
}

/// What the messages of some topics mean.
#[derive(Debug, Clone, PartialEq)]
pub struct Topic {
    /// Its `name`, else its place, such as `mqtt.topics[0]`.
    pub name: Arc<str>,
    pub filter: TopicFilter,
    /// Whether messages are wanted that the broker kept from before.
    pub retained: bool,
    pub meaning: Meaning,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Meaning {
    /// What Home Assistant's `mqtt_statestream` publishes below the topic before `#`.
    StateStream,
    /// What Home Assistant's `mqtt_eventstream` publishes.
    EventStream,
    /// A point of their own.
    Point(Mapping),
}

/// How a message becomes a point.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    pub measurement: Part,
    pub tags: Vec<(String, Part)>,
    pub payload: Payload,
    /// Not written, by the name that the field would have; a `*` at the end stands for any text.
    pub ignore_fields: Vec<String>,
    pub time: Option<PayloadTime>,
}

/// A piece of text that a message gives, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Literal(String),
    /// A level of the topic, from 1; from the last one backwards if negative (-1 is the last).
    Level(i32),
    /// All levels from this one on, with their slashes.
    LevelsFrom(NonZeroU32),
    /// What is at this place in the payload.
    Json(JsonPath),
}

/// Keys from the outside to the inside; a number is also a place in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath(pub Vec<String>);

#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// One value: a number becomes the field `value`; a text becomes `state`, and `value` if Home Assistant knows its number
    /// (`on`, `open`, ...). With a type it is `value` of that type.
    Raw { cast: Option<FieldType> },
    /// Every value of a JSON object, by its keys joined with the separator: numbers and truth values as numbers, anything
    /// else as text with `_str` after its name.
    Object { separator: String, types: Vec<(String, FieldType)> },
    /// These values of a JSON payload.
    Fields(Vec<Field>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub name: String,
    pub path: JsonPath,
    /// `None`: as it comes, with `_str` after the name of a text.
    pub cast: Option<FieldType>,
}

/// Where the time of a message is. One without it is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct PayloadTime {
    pub path: JsonPath,
    pub format: TimeFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeFormat {
    /// With an offset: `2026-02-14T18:30:05.123+01:00`.
    Rfc3339,
    UnixSeconds,
    UnixMilliseconds,
    UnixMicroseconds,
    UnixNanoseconds,
}

impl Rules {
    /// Those of the options alone.
    #[must_use]
    pub fn of(filter: Filter, schema: Schema, events: Vec<String>) -> Self {
        Self { filter, schema, events, ..Self::default() }
    }
}
