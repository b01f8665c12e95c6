//! How a change becomes a point: the schema of Home Assistant's own `influxdb` integration, field for field.
//!
//! It follows the integration step by step, oddities included, because years of dashboards read what those steps left
//! behind. Two repairs that Home Assistant made later always apply: line breaks in texts become spaces, and a number
//! named `time` is renamed, since InfluxDB refuses that name. What JSON cannot tell (a tuple from a list) is printed as
//! JSON has it.

use std::sync::{Arc, Weak};

use super::python::{number, text};
use crate::config::settings::{self, MeasurementFrom};
use crate::model::event::StateChange;
use crate::model::fate::Filtered;
use crate::model::point::{FieldValue, Point};
use crate::model::value::{Attributes, Value};

pub struct Schema {
    measurement: MeasurementFrom,
    default_measurement: Option<String>,
    override_measurement: Option<String>,
    tags: Vec<(String, String)>,
    tags_attributes: Names,
    ignore_attributes: Names,
    // Buffers, so that shaping an event allocates nothing.
    key: String,
    text: String,
    digits: String,
}

/// The point of an entity's last change, kept for its next one: most often only the state is another, and what was made
/// of the attributes still holds.
#[derive(Default)]
pub struct Shape {
    /// Sorted.
    pub point: Point,
    /// Numbers left out because they are not finite: InfluxDB cannot store them.
    pub omitted: u32,
    /// The attributes in the point, known by where they lie. A weak reference keeps the place from being used for others
    /// and does not make whoever changes the attributes copy them.
    attributes: Weak<Attributes>,
    /// The names that were taken when the attributes got theirs.
    state_fields: StateFields,
}

/// What a state tells: a number, a text, or a text that stands for a number.
#[derive(Clone, Copy)]
struct State<'a> {
    text: Option<&'a str>,
    value: Option<f64>,
}

/// Which fields a state makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct StateFields {
    state: bool,
    value: bool,
    /// The value is not finite: its field keeps the name from the attributes, and then goes.
    omitted: bool,
}

/// Where the measurement of a point comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Override,
    Unit,
    DeviceClass,
    /// The entity has no device class.
    Domain,
    Default,
    EntityId,
}

impl Source {
    /// The option or attribute that decided, as users know it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Override => "override_measurement",
            Self::Unit => "unit_of_measurement",
            Self::DeviceClass => "domain__device_class",
            Self::Domain => "domain (no device_class)",
            Self::Default => "default_measurement",
            Self::EntityId => "entity_id",
        }
    }
}

impl Schema {
    #[must_use]
    pub fn new(settings: settings::Schema) -> Self {
        let one_line = |name: Option<String>| name.map(|name| line_of(&name)).filter(|name| !name.is_empty());
        Self {
            measurement: settings.measurement,
            default_measurement: one_line(settings.default_measurement),
            override_measurement: one_line(settings.override_measurement),
            tags: settings.tags.into_iter().map(|(key, value)| (key, line_of(&value))).collect(),
            tags_attributes: Names::new(settings.tags_attributes),
            ignore_attributes: Names::new(settings.ignore_attributes),
            key: String::new(),
            text: String::new(),
            digits: String::new(),
        }
    }

    /// Makes `shape` tell of `change`, or says why that tells nothing. A shape is new, or of the same entity.
    pub fn shape(&mut self, change: &StateChange, shape: &mut Shape) -> Result<(), Filtered> {
        if let Some(reason) = no_value(&change.state) {
            return Err(reason);
        }
        let state = State::read(&change.state);
        if shape.attributes.as_ptr() != Arc::as_ptr(&change.attributes) || shape.state_fields != state.fields() {
            self.shape_attributes(change, state.fields(), shape);
        }
        if let Some(text) = state.text {
            shape.point.set_field("state", FieldValue::Text(&text::join_lines(text)));
        }
        if let Some(value) = state.value.filter(|value| value.is_finite()) {
            shape.point.set_field("value", FieldValue::Float(value));
        }
        shape.point.set_time(change.last_updated);
        Ok(())
    }

    /// Everything but the state, whose fields are there and empty.
    fn shape_attributes(&mut self, change: &StateChange, state_fields: StateFields, shape: &mut Shape) {
        let source = self.source(change);
        let point = &mut shape.point;
        point.clear();
        point.set_tag("domain", change.entity.domain());
        point.set_tag("entity_id", change.entity.object_id());
        self.set_measurement(source, change, point);
        if state_fields.state {
            point.set_field("state", FieldValue::Text(""));
        }
        if state_fields.value {
            point.set_field("value", FieldValue::Float(0.0));
        }
        let mut omitted = 0;
        for (name, value) in change.attributes.iter() {
            if self.tags_attributes.contains(name) {
                self.set_tag(name, value, point);
            } else if !self.leaves_out(name, source) {
                omitted += self.set_field(name, value, point);
            }
        }
        if state_fields.omitted {
            point.remove_field("value");
            omitted += 1;
        }
        rename_time(point);
        for (key, value) in &self.tags {
            point.set_tag(key, value);
        }
        point.sort();
        shape.omitted = omitted;
        shape.attributes = Arc::downgrade(&change.attributes);
        shape.state_fields = state_fields;
    }

    #[must_use]
    pub fn source(&self, change: &StateChange) -> Source {
        if self.override_measurement.is_some() {
            return Source::Override;
        }
        let named = match self.measurement {
            MeasurementFrom::EntityId => Some(Source::EntityId),
            MeasurementFrom::DomainDeviceClass => match change.attributes.get("device_class") {
                None | Some(Value::Null) => Some(Source::Domain),
                Some(_) => Some(Source::DeviceClass),
            },
            MeasurementFrom::UnitOfMeasurement => match change.attributes.get("unit_of_measurement") {
                None | Some(Value::Null) => None,
                Some(Value::Text(unit)) if text::join_lines(unit).is_empty() => None,
                Some(_) => Some(Source::Unit),
            },
        };
        named.unwrap_or(if self.default_measurement.is_some() { Source::Default } else { Source::EntityId })
    }

    fn set_measurement(&mut self, source: Source, change: &StateChange, point: &mut Point) {
        self.text.clear();
        match source {
            Source::Override => self.text.push_str(self.override_measurement.as_deref().unwrap_or_default()),
            Source::Default => self.text.push_str(self.default_measurement.as_deref().unwrap_or_default()),
            Source::EntityId => self.text.push_str(change.entity.as_str()),
            Source::Domain => self.text.push_str(change.entity.domain()),
            Source::Unit => write_attribute(change, "unit_of_measurement", &mut self.text),
            Source::DeviceClass => {
                self.text.push_str(change.entity.domain());
                self.text.push_str("__");
                write_attribute(change, "device_class", &mut self.text);
            }
        }
        point.set_measurement(&[&text::join_lines(&self.text)]);
    }

    /// An attribute that became the measurement is not repeated as a field.
    fn leaves_out(&self, name: &str, source: Source) -> bool {
        match source {
            Source::Unit if name == "unit_of_measurement" => true,
            Source::DeviceClass if name == "device_class" => true,
            _ => self.ignore_attributes.contains(name),
        }
    }

    fn set_tag(&mut self, name: &str, value: &Value, point: &mut Point) {
        self.text.clear();
        if *value != Value::Null {
            text::write_str(value, &mut self.text);
        }
        point.set_tag(name, &text::join_lines(&self.text));
    }

    /// Adds an attribute as a number, or as a text with the number that it holds. Returns how many numbers were left
    /// out.
    fn set_field(&mut self, name: &str, value: &Value, point: &mut Point) -> u32 {
        self.key.clear();
        self.key.push_str(name);
        if point.has_field(name) {
            self.key.push('_');
        }
        let number = as_float(value).or_else(|| self.set_text(value, point));
        match number {
            Some(number) if number.is_finite() => point.set_field(&self.key, FieldValue::Float(number)),
            // A field that had this name goes too, as it does in the integration.
            Some(_) => {
                point.remove_field(&self.key);
                return 1;
            }
            None => {}
        }
        0
    }

    /// Adds the text under the key with `_str`, and returns the number in it.
    fn set_text(&mut self, value: &Value, point: &mut Point) -> Option<f64> {
        let written = match value {
            Value::Text(text) => text,
            other => {
                self.text.clear();
                text::write_str(other, &mut self.text);
                self.text.as_str()
            }
        };
        let line = text::join_lines(written);
        let plain = self.key.len();
        self.key.push_str("_str");
        // Users ignore what they see in the database, and there the name ends in `_str`.
        if !self.ignore_attributes.contains(&self.key) {
            point.set_field(&self.key, FieldValue::Text(&line));
        }
        self.key.truncate(plain);
        number::digits_of(&line, &mut self.digits)
    }
}

impl<'a> State<'a> {
    fn read(text: &'a str) -> Self {
        if let Some(value) = number::parse_float(text) {
            return Self { text: None, value: Some(value) };
        }
        let value = match text {
            "on" | "locked" | "above_horizon" | "open" | "home" => Some(1.0),
            "off" | "unlocked" | "below_horizon" | "closed" | "not_home" => Some(0.0),
            _ => None,
        };
        Self { text: Some(text), value }
    }

    fn fields(self) -> StateFields {
        StateFields {
            state: self.text.is_some(),
            value: self.value.is_some(),
            omitted: self.value.is_some_and(|value| !value.is_finite()),
        }
    }
}

/// A few names, sorted: quicker to search than a hash table, and most often empty.
struct Names(Box<[String]>);

impl Names {
    fn new(mut names: Vec<String>) -> Self {
        names.sort_unstable();
        Self(names.into())
    }

    fn contains(&self, name: &str) -> bool {
        self.0.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
    }
}

fn no_value(state: &str) -> Option<Filtered> {
    match state {
        "" => Some(Filtered::Empty),
        "unknown" => Some(Filtered::Unknown),
        "unavailable" => Some(Filtered::Unavailable),
        _ => None,
    }
}

/// InfluxDB refuses a field named `time`. The text `time_str` is none.
fn rename_time(point: &mut Point) {
    if point.has_field("time") {
        let mut name = String::from("time_");
        while point.has_field(&name) {
            name.push('_');
        }
        point.rename_field("time", &name);
    }
}

/// Python's `float(value)` of what JSON can hold.
#[expect(clippy::cast_precision_loss, reason = "Python rounds to the nearest float as well")]
fn as_float(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(truth) => Some(f64::from(*truth)),
        Value::Int(number) => Some(*number as f64),
        Value::UInt(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Text(text) => number::parse_float(text),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    }
}

fn write_attribute(change: &StateChange, name: &str, out: &mut String) {
    if let Some(value) = change.attributes.get(name) {
        text::write_str(value, out);
    }
}

fn line_of(text: &str) -> String {
    text::join_lines(text).into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Schema, Shape, Source};
    use crate::config::settings::{self, MeasurementFrom};
    use crate::model::entity::EntityId;
    use crate::model::event::StateChange;
    use crate::model::fate::Filtered;
    use crate::model::point::{FieldValue, Point};
    use crate::model::time::Timestamp;
    use crate::model::value::Value;

    fn change(state: &str, attributes: &[(&str, Value)]) -> StateChange {
        StateChange {
            entity: EntityId::parse("sensor.a").unwrap(),
            state: state.into(),
            attributes: Arc::new(attributes.iter().map(|(name, value)| (Arc::from(*name), value.clone())).collect()),
            last_updated: Timestamp::from_micros(1),
            context: None,
        }
    }

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    /// `expected` is the whole point as [`printed`].
    fn check(options: settings::Schema, state: &str, attributes: &[(&str, Value)], expected: &str) -> u32 {
        let mut shape = Shape::default();
        Schema::new(options).shape(&change(state, attributes), &mut shape).unwrap();
        assert_eq!(printed(&shape.point), expected);
        shape.omitted
    }

    /// `measurement; tags; fields`.
    fn printed(point: &Point) -> String {
        let tags: Vec<_> = point.tags().map(|(key, value)| format!("{key}={value}")).collect();
        let fields: Vec<_> = point
            .fields()
            .map(|(key, value)| match value {
                FieldValue::Float(number) => format!("{key}={number}"),
                FieldValue::Text(text) => format!("{key}={text:?}"),
                other => panic!("no schema of Home Assistant writes {other:?}"),
            })
            .collect();
        format!("{}; {}; {}", point.measurement(), tags.join(" "), fields.join(" "))
    }

    #[test]
    fn a_state_without_a_value_is_no_point() {
        let table = [("", Filtered::Empty), ("unknown", Filtered::Unknown), ("unavailable", Filtered::Unavailable)];
        for (state, reason) in table {
            assert_eq!(
                Schema::new(settings::Schema::default()).shape(&change(state, &[]), &mut Shape::default()),
                Err(reason)
            );
        }
    }

    /// The point of a kept shape is the one that a new shape gives.
    fn check_kept(change: &StateChange, kept: &mut Shape, schema: &mut Schema) {
        let mut new = Shape::default();
        schema.shape(change, &mut new).unwrap();
        schema.shape(change, kept).unwrap();
        assert_eq!((printed(&kept.point), kept.omitted), (printed(&new.point), new.omitted), "{change:?}");
        assert_eq!(kept.point.time(), change.last_updated);
    }

    #[test]
    fn a_kept_shape_tells_what_a_new_one_would_tell() {
        let states = ["21.5", "nan", "on", "heat", "5", "-inf", "off", "cool down", "a\nb", "7"];
        let names = ["value", "state", "value_", "state_", "time", "value_str"];
        let mut schema = Schema::new(settings::Schema::default());
        let mut kept = Shape::default();
        for number in 0..1_000 {
            let value = |at: usize| if (number + at).is_multiple_of(3) { text("nan") } else { text("Hall 12") };
            let attributes: Vec<_> = names.iter().enumerate().map(|(at, name)| (*name, value(at))).collect();
            let mut change = change(states[number % states.len()], &attributes[number % names.len()..]);
            for (at, state) in states.iter().enumerate() {
                change.state = (*state).into();
                change.last_updated = Timestamp::from_micros((number * 100 + at).try_into().unwrap());
                check_kept(&change, &mut kept, &mut schema);
            }
        }
    }

    #[test]
    fn attributes_that_changed_in_place_are_other_attributes() {
        let mut schema = Schema::new(settings::Schema::default());
        let mut kept = Shape::default();
        let mut change = change("1", &[("a", Value::Int(1))]);
        for number in 0..10 {
            check_kept(&change, &mut kept, &mut schema);
            Arc::make_mut(&mut change.attributes).set("a".into(), Value::Int(number));
        }
    }

    #[test]
    fn what_is_not_finite_is_left_out_and_counted() {
        let attributes = [("a", text("inf")), ("b", Value::Int(1)), ("value", Value::Int(7))];
        let omitted =
            check(settings::Schema::default(), "nan", &attributes, "sensor.a; domain=sensor entity_id=a; b=1 value_=7");
        assert_eq!(omitted, 2);
        assert_eq!(check(settings::Schema::default(), "1", &[], "sensor.a; domain=sensor entity_id=a; value=1"), 0);
        // The field that loses its name to a number that is not finite goes with it.
        let attributes = [("value_", Value::Int(7)), ("value", text("nan"))];
        assert_eq!(
            check(settings::Schema::default(), "1", &attributes, "sensor.a; domain=sensor entity_id=a; value=1"),
            1
        );
    }

    #[test]
    fn line_breaks_become_spaces_wherever_text_goes() {
        let options = settings::Schema {
            tags: vec![("site".into(), "my\nhome".into())],
            tags_attributes: vec!["room".into()],
            ..settings::Schema::default()
        };
        let attributes =
            [("unit_of_measurement", text("k\nW")), ("room", text("a\r\nb")), ("note", text("c\u{2028}d"))];
        let expected = "k W; domain=sensor entity_id=a room=a b site=my home; note_str=\"c d\" state=\"x y\"";
        check(options, "x\ny", &attributes, expected);
    }

    #[test]
    fn a_number_named_time_takes_the_next_free_name() {
        let attributes = [("time", text("10:30")), ("time_", Value::Int(1)), ("time__", Value::Int(2))];
        let expected = "sensor.a; domain=sensor entity_id=a; time_=1 time__=2 time___=1030 time_str=\"10:30\" value=0";
        check(settings::Schema::default(), "0", &attributes, expected);
    }

    #[test]
    fn a_name_that_is_taken_gets_an_underscore_and_a_text_replaces_what_has_its_name() {
        let attributes = [("a_str", Value::Int(5)), ("a", text("x")), ("state", text("on")), ("value", text("v"))];
        let expected =
            "sensor.a; domain=sensor entity_id=a; a_str=\"x\" state=\"on\" state__str=\"on\" value=1 value__str=\"v\"";
        check(settings::Schema::default(), "on", &attributes, expected);
    }

    #[test]
    fn tags_may_replace_those_of_the_entity_and_take_them_away() {
        let options = settings::Schema {
            tags: vec![("domain".into(), "xx".into()), ("empty".into(), String::new())],
            tags_attributes: vec!["entity_id".into(), "domain".into(), "on".into()],
            ignore_attributes: vec!["on".into()],
            ..settings::Schema::default()
        };
        let attributes = [("entity_id", Value::Null), ("domain", text("yy")), ("on", Value::Bool(true))];
        check(options, "1", &attributes, "sensor.a; domain=xx on=True; value=1");
    }

    #[test]
    fn an_attribute_can_be_ignored_by_its_name_and_its_text_by_the_name_of_the_field() {
        let attributes = [("icon", text("mdi:a")), ("name", text("Hall 12")), ("gone", text("Hall 12"))];
        let options = settings::Schema {
            ignore_attributes: vec!["name_str".into(), "icon_str".into(), "gone".into()],
            ..settings::Schema::default()
        };
        check(options, "1", &attributes, "sensor.a; domain=sensor entity_id=a; name=12 value=1");
    }

    #[test]
    fn the_measurement_comes_from_the_first_source_that_has_a_name() {
        use MeasurementFrom::{DomainDeviceClass, EntityId, UnitOfMeasurement};
        let unit = [("unit_of_measurement", text("W")), ("device_class", Value::Null)];
        let class = [("unit_of_measurement", text("\n")), ("device_class", text(""))];
        let odd = [("unit_of_measurement", Value::Bool(false))];
        let all = settings::Schema {
            default_measurement: Some("default".into()),
            override_measurement: Some("override".into()),
            ..settings::Schema::default()
        };
        let fallback = settings::Schema { override_measurement: Some(String::new()), ..all.clone() };
        let table = [
            (&all, UnitOfMeasurement, &unit[..], Source::Override, "override"),
            (&fallback, UnitOfMeasurement, &unit, Source::Unit, "W"),
            (&fallback, UnitOfMeasurement, &odd, Source::Unit, "False"),
            (&fallback, UnitOfMeasurement, &class, Source::Default, "default"),
            (&settings::Schema::default(), UnitOfMeasurement, &class, Source::EntityId, "sensor.a"),
            (&settings::Schema::default(), UnitOfMeasurement, &[], Source::EntityId, "sensor.a"),
            (&fallback, EntityId, &unit, Source::EntityId, "sensor.a"),
            (&fallback, DomainDeviceClass, &unit, Source::Domain, "sensor"),
            (&fallback, DomainDeviceClass, &class, Source::DeviceClass, "sensor__"),
        ];
        for (options, measurement, attributes, source, expected) in table {
            let mut schema = Schema::new(settings::Schema { measurement, ..options.clone() });
            let change = change("1", attributes);
            let mut shape = Shape::default();
            schema.shape(&change, &mut shape).unwrap();
            assert_eq!((schema.source(&change), shape.point.measurement()), (source, expected));
        }
    }
}
