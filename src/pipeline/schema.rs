//! How a change becomes a point: the schema of Home Assistant's own `influxdb` integration, field for field.
//!
//! It follows the integration step by step, oddities included, because years of dashboards read what those steps left
//! behind. Two repairs that Home Assistant made later always apply: line breaks in texts become spaces, and a number
//! named `time` is renamed, since InfluxDB refuses that name. What JSON cannot tell (a tuple from a list) is printed as
//! JSON has it.
//!
//! What rules of the user do comes on top, at the step that it changes; without any, nothing is different.

use std::sync::{Arc, Weak};

use super::places::Place;
use super::python::{number, text};
use super::state::{NoPoint, State, StateFields, no_value};
use super::transform::{Made, Renamed, Unit, apply_to_attributes, rename_fields};
use super::treatment::Treatment;
use crate::config::settings::{self, MeasurementFrom, RegistryTag};
use crate::model::event::StateChange;
use crate::model::point::{FieldValue, Point};
use crate::model::value::{Attributes, Value};

pub struct Schema {
    measurement: MeasurementFrom,
    default_measurement: Option<String>,
    tags: Vec<(String, String)>,
    registry_tags: Vec<RegistryTag>,
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
    /// Whose tags are in the point.
    place: Option<Arc<Place>>,
    /// What became of the unit among these attributes.
    unit: Unit,
    /// The names that rules gave to the fields of the state. `None`: their own.
    renamed: Option<Box<Renamed>>,
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
    pub fn new(settings: &settings::Schema) -> Self {
        Self {
            measurement: settings.measurement,
            default_measurement: settings.default_measurement.as_deref().map(line_of).filter(|name| !name.is_empty()),
            tags: settings.tags.iter().map(|(key, value)| (key.clone(), line_of(value))).collect(),
            registry_tags: settings.registry_tags.clone(),
            key: String::new(),
            text: String::new(),
            digits: String::new(),
        }
    }

    /// The tags that every point gets.
    #[must_use]
    pub fn tags(&self) -> &[(String, String)] {
        &self.tags
    }

    /// Whether points have tags of the registries.
    #[must_use]
    pub fn wants_places(&self) -> bool {
        !self.registry_tags.is_empty()
    }

    /// Makes `shape` tell of `change`, or says why that tells nothing. A shape is new, or of the same entity. `place` is where
    /// the entity was at that time.
    pub fn shape(
        &mut self,
        change: &StateChange,
        treatment: &Treatment,
        place: Option<&Arc<Place>>,
        shape: &mut Shape,
    ) -> Result<(), NoPoint> {
        if let Some(reason) = no_value(&change.state) {
            return Err(NoPoint::Filtered(reason));
        }
        let state = State::read(&change.state, &treatment.state_numbers);
        if !treatment.fields.is_empty() {
            let made = self.shape_by_rules(change, state, treatment, place, shape);
            if made.is_err() {
                shape.forget();
            }
            return made;
        }
        if !shape.is_of(change, place) || shape.state_fields != state.fields() {
            self.shape_attributes(change, state.fields(), treatment, place, shape)?;
        }
        let renamed = shape.renamed.as_deref();
        if let Some(text) = state.text {
            let name = renamed.map_or("state", |renamed| &renamed.state);
            shape.point.set_field(name, FieldValue::Text(&text::join_lines(text)));
        }
        if let Some(value) = state.value.filter(|value| value.is_finite()) {
            let name = renamed.map_or("value", |renamed| &renamed.value);
            shape.point.set_field(name, FieldValue::Float(value));
        }
        shape.point.set_time(change.last_updated);
        Ok(())
    }

    /// The same where rules do something with the values of fields.
    fn shape_by_rules(
        &mut self,
        change: &StateChange,
        state: State<'_>,
        treatment: &Treatment,
        place: Option<&Arc<Place>>,
        shape: &mut Shape,
    ) -> Result<(), NoPoint> {
        let is_kept = shape.is_of(change, place);
        if !is_kept {
            shape.unit = treatment.field("value").map(|field| field.unit(&change.attributes)).unwrap_or_default();
        }
        let mut fields = state.fields();
        let mut text = None;
        if let (Some(written), Some(field)) = (state.text, treatment.field("state")) {
            text = field.apply_to_text(written).map_err(|reason| NoPoint::refused(reason, &field.rule))?;
            fields.omitted_state = text.as_ref().is_some_and(|made| !made.is_finite());
        }
        let mut value = state.value.map(Made::Float);
        if let (Some(number), Some(field)) = (state.value.filter(|value| value.is_finite()), treatment.field("value")) {
            let made = field.apply(number, &shape.unit).map_err(|reason| NoPoint::refused(reason, &field.rule))?;
            fields.omitted = !made.is_finite();
            value = Some(made);
        }
        if !is_kept || shape.state_fields != fields {
            self.shape_attributes(change, fields, treatment, place, shape)?;
        }
        let renamed = shape.renamed.as_deref();
        if let Some(written) = state.text.filter(|_| !fields.omitted_state) {
            let name = renamed.map_or("state", |renamed| &renamed.state);
            let line = text::join_lines(written);
            shape.point.set_field(name, text.as_ref().map_or(FieldValue::Text(&line), Made::as_field));
        }
        if let Some(value) = value.filter(Made::is_finite) {
            let name = renamed.map_or("value", |renamed| &renamed.value);
            shape.point.set_field(name, value.as_field());
        }
        shape.point.set_time(change.last_updated);
        Ok(())
    }

    /// Everything but the state, whose fields are there and empty.
    fn shape_attributes(
        &mut self,
        change: &StateChange,
        state_fields: StateFields,
        treatment: &Treatment,
        place: Option<&Arc<Place>>,
        shape: &mut Shape,
    ) -> Result<(), NoPoint> {
        let source = self.source(change, treatment);
        let converted = match &shape.unit {
            Unit::Converted(_, unit) => Some(Value::Text(unit.as_str().into())),
            Unit::Kept | Unit::Foreign(_) => None,
        };
        let point = &mut shape.point;
        point.clear();
        point.set_tag("domain", change.entity.domain());
        point.set_tag("entity_id", change.entity.object_id());
        for (tag, text) in place.iter().flat_map(|place| &place.0) {
            if self.registry_tags.contains(tag) {
                point.set_tag(tag_name(*tag), &text::join_lines(text));
            }
        }
        self.set_measurement(source, change, converted.as_ref(), treatment, point);
        if state_fields.state {
            point.set_field("state", FieldValue::Text(""));
        }
        if state_fields.value {
            point.set_field("value", FieldValue::Float(0.0));
        }
        let mut omitted = 0;
        for (name, value) in change.attributes.iter() {
            let value = converted.as_ref().filter(|_| name == "unit_of_measurement").unwrap_or(value);
            if treatment.tags_attributes.contains(name) {
                self.set_tag(name, value, point);
            } else if !self.leaves_out(name, source, treatment) {
                omitted += self.set_field(name, value, treatment, point);
            }
        }
        if state_fields.omitted {
            point.remove_field("value");
            omitted += 1;
        }
        if state_fields.omitted_state {
            point.remove_field("state");
            omitted += 1;
        }
        rename_time(point);
        omitted += apply_to_attributes(treatment, state_fields, point)?;
        shape.renamed = rename_fields(&treatment.rename_fields, point);
        for (key, value) in self.tags.iter().chain(&treatment.tags) {
            point.set_tag(key, value);
        }
        point.sort();
        shape.omitted = omitted;
        shape.attributes = Arc::downgrade(&change.attributes);
        shape.state_fields = state_fields;
        shape.place = place.cloned();
        Ok(())
    }

    #[must_use]
    pub fn source(&self, change: &StateChange, treatment: &Treatment) -> Source {
        if treatment.override_measurement.is_some() {
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

    /// `unit`: what the unit of the entity became, if it did.
    fn set_measurement(
        &mut self,
        source: Source,
        change: &StateChange,
        unit: Option<&Value>,
        treatment: &Treatment,
        point: &mut Point,
    ) {
        self.text.clear();
        match source {
            Source::Override => self.text.push_str(treatment.override_measurement.as_deref().unwrap_or_default()),
            Source::Default => self.text.push_str(self.default_measurement.as_deref().unwrap_or_default()),
            Source::EntityId => self.text.push_str(change.entity.as_str()),
            Source::Domain => self.text.push_str(change.entity.domain()),
            Source::Unit => match unit {
                Some(unit) => text::write_str(unit, &mut self.text),
                None => write_attribute(change, "unit_of_measurement", &mut self.text),
            },
            Source::DeviceClass => {
                self.text.push_str(change.entity.domain());
                self.text.push_str("__");
                write_attribute(change, "device_class", &mut self.text);
            }
        }
        let name = text::join_lines(&self.text);
        let renamed = treatment.rename_measurements.iter().find(|(from, _)| *from == *name);
        point.set_measurement(&[renamed.map_or(&*name, |(_, to)| to)]);
    }

    /// An attribute that became the measurement is not repeated as a field.
    fn leaves_out(&mut self, name: &str, source: Source, treatment: &Treatment) -> bool {
        match source {
            Source::Unit if name == "unit_of_measurement" => return true,
            Source::DeviceClass if name == "device_class" => return true,
            _ if treatment.ignore_attributes.contains(name) => return true,
            _ => {}
        }
        let Some(kept) = &treatment.keep_attributes else { return false };
        self.key.clear();
        self.key.push_str(name);
        self.key.push_str("_str");
        // Users keep what they see in the database as well.
        !kept.contains(name) && !kept.contains(&self.key)
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
    fn set_field(&mut self, name: &str, value: &Value, treatment: &Treatment, point: &mut Point) -> u32 {
        self.key.clear();
        self.key.push_str(name);
        if point.has_field(name) {
            self.key.push('_');
        }
        let number = as_float(value).or_else(|| self.set_text(value, treatment, point));
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
    fn set_text(&mut self, value: &Value, treatment: &Treatment, point: &mut Point) -> Option<f64> {
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
        if !treatment.ignore_attributes.contains(&self.key) {
            point.set_field(&self.key, FieldValue::Text(&line));
        }
        self.key.truncate(plain);
        number::digits_of(&line, &mut self.digits)
    }
}

impl Shape {
    /// What the rules say of the unit, and whether it can be done.
    #[must_use]
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    /// Whether `attributes` are not those that the point was made of.
    #[must_use]
    pub fn has_other_attributes(&self, attributes: &Arc<Attributes>) -> bool {
        self.attributes.as_ptr() != Arc::as_ptr(attributes)
    }

    /// The next change is told from the ground up.
    pub fn forget(&mut self) {
        self.attributes = Weak::new();
        self.unit = Unit::Kept;
    }

    /// Whether what was made of the attributes still holds.
    fn is_of(&self, change: &StateChange, place: Option<&Arc<Place>>) -> bool {
        let is_there = match (&self.place, place) {
            (None, None) => true,
            (Some(known), Some(place)) => Arc::ptr_eq(known, place),
            _ => false,
        };
        is_there && !self.has_other_attributes(&change.attributes)
    }
}

/// The name of the tag is that of the option.
const fn tag_name(tag: RegistryTag) -> &'static str {
    match tag {
        RegistryTag::Area => "area",
        RegistryTag::Floor => "floor",
        RegistryTag::Device => "device",
        RegistryTag::Labels => "labels",
        RegistryTag::Platform => "platform",
        RegistryTag::Category => "category",
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

/// Without line breaks, which mean the end of a point.
#[must_use]
pub fn line_of(text: &str) -> String {
    text::join_lines(text).into_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::{Strategy, any};
    use proptest::sample::{select, subsequence};
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;

    use super::{Schema, Shape, Source};
    use crate::config::settings::{self, MeasurementFrom};
    use crate::model::entity::EntityId;
    use crate::model::event::StateChange;
    use crate::model::fate::{Filtered, Refused};
    use crate::model::point::{FieldValue, Point};
    use crate::model::time::Timestamp;
    use crate::model::value::Value;
    use crate::pipeline::places::Place;
    use crate::pipeline::state::NoPoint;
    use crate::pipeline::treatment::Treatment;
    use crate::rules::{Actions, FieldActions, FieldType, Rule, Selection};

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

    /// Options and rules, and what they make of changes.
    struct Shaper {
        schema: Schema,
        treatment: Treatment,
        place: Option<Arc<Place>>,
    }

    impl Shaper {
        fn new(options: &settings::Schema, rules: &[Actions]) -> Self {
            let rules: Vec<Rule> = rules.iter().enumerate().map(|(at, actions)| rule(at, actions)).collect();
            let treatment = Treatment::of(&rules.iter().collect::<Vec<_>>(), options);
            Self { schema: Schema::new(options), treatment, place: None }
        }

        fn shape(&mut self, change: &StateChange, shape: &mut Shape) -> Result<(), NoPoint> {
            self.schema.shape(change, &self.treatment, self.place.as_ref(), shape)
        }
    }

    fn rule(at: usize, actions: &Actions) -> Rule {
        Rule { name: format!("r{at}").into(), selection: Selection::default(), actions: actions.clone() }
    }

    /// `expected` is the whole point as [`printed`].
    fn check(options: &settings::Schema, state: &str, attributes: &[(&str, Value)], expected: &str) -> u32 {
        check_rule(options, Actions::default(), state, attributes, expected)
    }

    fn check_rule(
        options: &settings::Schema,
        actions: Actions,
        state: &str,
        attributes: &[(&str, Value)],
        expected: &str,
    ) -> u32 {
        let mut shape = Shape::default();
        Shaper::new(options, &[actions]).shape(&change(state, attributes), &mut shape).unwrap();
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
                FieldValue::Integer(number) => format!("{key}={number}i"),
                FieldValue::Boolean(truth) => format!("{key}={truth}"),
            })
            .collect();
        format!("{}; {}; {}", point.measurement(), tags.join(" "), fields.join(" "))
    }

    #[test]
    fn a_state_without_a_value_is_no_point() {
        let table = [("", Filtered::Empty), ("unknown", Filtered::Unknown), ("unavailable", Filtered::Unavailable)];
        for (state, reason) in table {
            assert_eq!(
                Shaper::new(&settings::Schema::default(), &[]).shape(&change(state, &[]), &mut Shape::default()),
                Err(NoPoint::Filtered(reason))
            );
        }
    }

    /// The point of a kept shape is the one that a new shape gives.
    fn check_kept(change: &StateChange, kept: &mut Shape, shaper: &mut Shaper) {
        let mut new = Shape::default();
        assert_eq!(shaper.shape(change, kept), shaper.shape(change, &mut new), "{change:?}");
        assert_eq!((printed(&kept.point), kept.omitted), (printed(&new.point), new.omitted), "{change:?}");
        assert_eq!(kept.point.time(), change.last_updated);
    }

    #[test]
    fn a_kept_shape_tells_what_a_new_one_would_tell() {
        let states = ["21.5", "nan", "on", "heat", "5", "-inf", "off", "cool down", "a\nb", "7"];
        let names = ["value", "state", "value_", "state_", "time", "value_str"];
        let mut shaper = Shaper::new(&settings::Schema::default(), &[]);
        let mut kept = Shape::default();
        for number in 0..1_000 {
            let value = |at: usize| if (number + at).is_multiple_of(3) { text("nan") } else { text("Hall 12") };
            let attributes: Vec<_> = names.iter().enumerate().map(|(at, name)| (*name, value(at))).collect();
            let mut change = change(states[number % states.len()], &attributes[number % names.len()..]);
            for (at, state) in states.iter().enumerate() {
                change.state = (*state).into();
                change.last_updated = Timestamp::from_micros((number * 100 + at).try_into().unwrap());
                check_kept(&change, &mut kept, &mut shaper);
            }
        }
    }

    #[test]
    fn attributes_that_changed_in_place_are_other_attributes() {
        let mut shaper = Shaper::new(&settings::Schema::default(), &[]);
        let mut kept = Shape::default();
        let mut change = change("1", &[("a", Value::Int(1))]);
        for number in 0..10 {
            check_kept(&change, &mut kept, &mut shaper);
            Arc::make_mut(&mut change.attributes).set("a".into(), Value::Int(number));
        }
    }

    #[test]
    fn what_is_not_finite_is_left_out_and_counted() {
        let attributes = [("a", text("inf")), ("b", Value::Int(1)), ("value", Value::Int(7))];
        let omitted = check(
            &settings::Schema::default(),
            "nan",
            &attributes,
            "sensor.a; domain=sensor entity_id=a; b=1 value_=7",
        );
        assert_eq!(omitted, 2);
        assert_eq!(check(&settings::Schema::default(), "1", &[], "sensor.a; domain=sensor entity_id=a; value=1"), 0);
        // The field that loses its name to a number that is not finite goes with it.
        let attributes = [("value_", Value::Int(7)), ("value", text("nan"))];
        assert_eq!(
            check(&settings::Schema::default(), "1", &attributes, "sensor.a; domain=sensor entity_id=a; value=1"),
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
        check(&options, "x\ny", &attributes, expected);
    }

    #[test]
    fn a_number_named_time_takes_the_next_free_name() {
        let attributes = [("time", text("10:30")), ("time_", Value::Int(1)), ("time__", Value::Int(2))];
        let expected = "sensor.a; domain=sensor entity_id=a; time_=1 time__=2 time___=1030 time_str=\"10:30\" value=0";
        check(&settings::Schema::default(), "0", &attributes, expected);
    }

    #[test]
    fn a_name_that_is_taken_gets_an_underscore_and_a_text_replaces_what_has_its_name() {
        let attributes = [("a_str", Value::Int(5)), ("a", text("x")), ("state", text("on")), ("value", text("v"))];
        let expected =
            "sensor.a; domain=sensor entity_id=a; a_str=\"x\" state=\"on\" state__str=\"on\" value=1 value__str=\"v\"";
        check(&settings::Schema::default(), "on", &attributes, expected);
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
        check(&options, "1", &attributes, "sensor.a; domain=xx on=True; value=1");
    }

    #[test]
    fn an_attribute_can_be_ignored_by_its_name_and_its_text_by_the_name_of_the_field() {
        let attributes = [("icon", text("mdi:a")), ("name", text("Hall 12")), ("gone", text("Hall 12"))];
        let options = settings::Schema {
            ignore_attributes: vec!["name_str".into(), "icon_str".into(), "gone".into()],
            ..settings::Schema::default()
        };
        check(&options, "1", &attributes, "sensor.a; domain=sensor entity_id=a; name=12 value=1");
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
            let mut shaper = Shaper::new(&settings::Schema { measurement, ..options.clone() }, &[]);
            let change = change("1", attributes);
            let mut shape = Shape::default();
            shaper.shape(&change, &mut shape).unwrap();
            let found = shaper.schema.source(&change, &shaper.treatment);
            assert_eq!((found, shape.point.measurement()), (source, expected));
        }
    }

    fn pairs(text: &str) -> Vec<(String, String)> {
        let pair = |word: &str| word.split_once('=').map(|(key, value)| (key.into(), value.into()));
        text.split_whitespace().filter_map(pair).collect()
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(String::from).collect()
    }

    fn fields(of: &[(&str, FieldActions)]) -> Vec<(String, FieldActions)> {
        of.iter().map(|(name, actions)| ((*name).to_owned(), actions.clone())).collect()
    }

    #[test]
    fn a_rule_names_the_measurement() {
        let attributes = [("unit_of_measurement", text("W"))];
        let all = settings::Schema { override_measurement: Some("all".into()), ..settings::Schema::default() };
        let plain = settings::Schema::default();
        let own = |name: &str| Actions { override_measurement: Some(name.into()), ..Actions::default() };
        let unit = "domain=sensor entity_id=a; unit_of_measurement_str=\"W\" value=1";
        check_rule(&all, own("x"), "1", &attributes, &format!("x; {unit}"));
        check_rule(&all, own(""), "1", &attributes, &format!("all; {unit}"));
        let renaming = Actions { rename_measurements: Some(pairs("W=power all=everything")), ..Actions::default() };
        check_rule(&plain, renaming.clone(), "1", &attributes, "power; domain=sensor entity_id=a; value=1");
        check_rule(&all, renaming.clone(), "1", &attributes, &format!("everything; {unit}"));
        let both = Actions { override_measurement: Some("W".into()), ..renaming };
        check_rule(&all, both, "1", &attributes, &format!("power; {unit}"));
    }

    #[test]
    fn only_the_attributes_to_keep_are_written_and_ignoring_goes_before() {
        let options = settings::Schema {
            ignore_attributes: vec!["c".into()],
            tags_attributes: vec!["t".into()],
            ..settings::Schema::default()
        };
        let attributes =
            [("a", Value::Int(1)), ("b", text("x")), ("c", Value::Int(2)), ("d", Value::Int(3)), ("t", text("tag"))];
        let keeping = |list| Actions { keep_attributes: Some(words(list)), ..Actions::default() };
        check_rule(
            &options,
            keeping("a b_str c"),
            "1",
            &attributes,
            "sensor.a; domain=sensor entity_id=a t=tag; a=1 b_str=\"x\" value=1",
        );
        check_rule(&options, keeping(""), "1", &attributes, "sensor.a; domain=sensor entity_id=a t=tag; value=1");
        let ignoring = Actions { ignore_attributes: Some(words("a d b_str")), ..keeping("a b d") };
        check_rule(&options, ignoring, "1", &attributes, "sensor.a; domain=sensor entity_id=a t=tag; value=1");
    }

    #[test]
    fn tags_of_a_rule_come_last() {
        let options = settings::Schema {
            tags: vec![("site".into(), "home".into()), ("a".into(), "global".into())],
            ..settings::Schema::default()
        };
        let actions = Actions {
            tags: Some(pairs("site=cabin domain=x")),
            tags_attributes: Some(words("site a")),
            ..Actions::default()
        };
        let attributes = [("site", text("attribute")), ("a", text("attribute")), ("b", Value::Int(1))];
        check_rule(
            &options,
            actions,
            "1",
            &attributes,
            "sensor.a; a=global domain=x entity_id=a site=cabin; b=1 value=1",
        );
    }

    #[test]
    fn fields_get_other_names_and_a_name_that_is_taken_an_underscore() {
        let plain = settings::Schema::default();
        let attributes = [("a", Value::Int(1)), ("b", text("Hall 12"))];
        let renaming = |list| Actions { rename_fields: Some(pairs(list)), ..Actions::default() };
        let table = [
            ("value=power b_str=name", "21", "a=1 b=12 name=\"Hall 12\" power=21"),
            ("a=b b=a", "21", "a=12 b=1 b_str=\"Hall 12\" value=21"),
            ("a=value", "21", "b=12 b_str=\"Hall 12\" value=21 value_=1"),
            ("value=a", "21", "a=1 a_=21 b=12 b_str=\"Hall 12\""),
            ("a=x b=x", "21", "b_str=\"Hall 12\" value=21 x=1 x_=12"),
            ("state=mode value=is_on", "on", "a=1 b=12 b_str=\"Hall 12\" is_on=1 mode=\"on\""),
            ("none=x", "heat", "a=1 b=12 b_str=\"Hall 12\" state=\"heat\""),
        ];
        for (renames, state, expected) in table {
            let expected = format!("sensor.a; domain=sensor entity_id=a; {expected}");
            check_rule(&plain, renaming(renames), state, &attributes, &expected);
        }
    }

    #[test]
    fn numbers_of_a_field_are_changed_before_it_gets_another_name() {
        let plain = settings::Schema::default();
        let scaled = FieldActions { scale: Some(10.0), ..FieldActions::default() };
        let whole = FieldActions { cast: Some(FieldType::Integer), ..FieldActions::default() };
        let truth = FieldActions { cast: Some(FieldType::Boolean), ..FieldActions::default() };
        let actions = Actions {
            fields: Some(fields(&[
                ("value", scaled.clone()),
                ("a", whole),
                ("b_str", truth.clone()),
                ("none", scaled),
            ])),
            rename_fields: Some(pairs("a=c b_str=b")),
            ..Actions::default()
        };
        let attributes = [("a", Value::Float(2.6)), ("b", text("yes"))];
        let expected = "sensor.a; domain=sensor entity_id=a; b=true c=3i value=215";
        check_rule(&plain, actions, "21.5", &attributes, expected);
        let of_state = Actions { fields: Some(fields(&[("state", truth)])), ..Actions::default() };
        check_rule(&plain, of_state, "on", &[], "sensor.a; domain=sensor entity_id=a; state=true value=1");
    }

    #[test]
    fn what_has_not_the_type_of_the_rule_is_refused_in_its_name() {
        let whole = FieldActions { cast: Some(FieldType::Integer), ..FieldActions::default() };
        for (field, state, attributes) in [
            ("state", "heat", vec![]),
            ("value", "1e30", vec![]),
            ("a_str", "1", vec![("a", text("x"))]),
            ("a", "1", vec![("a", Value::Float(1e30))]),
        ] {
            let actions = Actions { fields: Some(fields(&[(field, whole.clone())])), ..Actions::default() };
            let mut shaper = Shaper::new(&settings::Schema::default(), &[actions]);
            let refused = NoPoint::Refused { reason: Refused::WrongType, rule: "r0".into() };
            assert_eq!(shaper.shape(&change(state, &attributes), &mut Shape::default()), Err(refused), "{field}");
        }
    }

    #[test]
    fn a_number_that_a_rule_makes_infinite_is_left_out_and_counted() {
        let huge = FieldActions { scale: Some(1e300), ..FieldActions::default() };
        let actions = Actions { fields: Some(fields(&[("value", huge.clone()), ("a", huge)])), ..Actions::default() };
        let attributes = [("a", Value::Float(1e300)), ("b", Value::Int(1))];
        let expected = "sensor.a; domain=sensor entity_id=a; b=1";
        assert_eq!(check_rule(&settings::Schema::default(), actions, "1e300", &attributes, expected), 2);
    }

    #[test]
    fn the_unit_that_is_written_is_the_one_of_the_number() {
        let kilowatts = FieldActions { unit: Some("kW".into()), round: Some(2), ..FieldActions::default() };
        let actions = Actions { fields: Some(fields(&[("value", kilowatts)])), ..Actions::default() };
        let by_unit = settings::Schema::default();
        let by_id = settings::Schema { measurement: MeasurementFrom::EntityId, ..by_unit.clone() };
        let tagged = settings::Schema { tags_attributes: vec!["unit_of_measurement".into()], ..by_id.clone() };
        let (watts, degrees) = ([("unit_of_measurement", text("W"))], [("unit_of_measurement", text("°C"))]);
        let of = "domain=sensor entity_id=a";
        check_rule(&by_unit, actions.clone(), "1234.5", &watts, &format!("kW; {of}; value=1.23"));
        let expected = format!("sensor.a; {of}; unit_of_measurement_str=\"kW\" value=1.23");
        check_rule(&by_id, actions.clone(), "1234.5", &watts, &expected);
        let expected = format!("sensor.a; {of} unit_of_measurement=kW; value=1.23");
        check_rule(&tagged, actions.clone(), "1234.5", &watts, &expected);
        // What cannot be converted stays under its own unit.
        check_rule(&by_unit, actions.clone(), "21.456", &degrees, &format!("°C; {of}; value=21.46"));
        check_rule(&by_unit, actions, "21.456", &[], &format!("sensor.a; {of}; value=21.46"));
    }

    #[test]
    fn a_rule_knows_the_number_of_a_text() {
        let actions =
            Actions { state_numbers: Some(vec![("heat".into(), 2.0), ("off".into(), -1.0)]), ..Actions::default() };
        for (state, expected) in
            [("heat", "state=\"heat\" value=2"), ("off", "state=\"off\" value=-1"), ("on", "state=\"on\" value=1")]
        {
            let expected = format!("sensor.a; domain=sensor entity_id=a; {expected}");
            check_rule(&settings::Schema::default(), actions.clone(), state, &[], &expected);
        }
    }

    #[test]
    fn tags_of_the_registries_are_those_of_the_place_and_anything_else_may_replace_them() {
        use settings::RegistryTag::{Area, Category, Floor};
        let options = settings::Schema {
            registry_tags: vec![Area, Floor],
            tags_attributes: vec!["floor".into()],
            ..settings::Schema::default()
        };
        let mut shaper = Shaper::new(&options, &[]);
        let place = |area: &str| {
            let tags = [(Area, area), (Floor, "ground"), (Category, "config")];
            Some(Arc::new(Place(tags.iter().map(|(tag, text)| (*tag, (*text).to_owned())).collect())))
        };
        let (plain, with_floor) = (change("1", &[]), change("1", &[("floor", text("first"))]));
        let mut shape = Shape::default();
        for (area, change, expected) in [
            (None, &plain, "domain=sensor entity_id=a"),
            (Some("Hall"), &plain, "area=Hall domain=sensor entity_id=a floor=ground"),
            (Some("My\nattic"), &plain, "area=My attic domain=sensor entity_id=a floor=ground"),
            (Some("Hall"), &with_floor, "area=Hall domain=sensor entity_id=a floor=first"),
            (None, &plain, "domain=sensor entity_id=a"),
        ] {
            shaper.place = area.and_then(place);
            shaper.shape(change, &mut shape).unwrap();
            assert_eq!(printed(&shape.point), format!("sensor.a; {expected}; value=1"));
        }
    }

    #[test]
    fn a_kept_shape_tells_what_a_new_one_would_tell_whatever_the_rules_are() {
        let mut runner = TestRunner::deterministic();
        let states = select(vec!["21.5", "nan", "on", "heat", "5", "1e300", "-inf", "off", "2\n1", "unknown", "x"]);
        let names = ["value", "state", "value_", "a", "a_str", "time", "unit_of_measurement"];
        let values = select(vec![text("W"), text("°C"), text("Hall 12"), text("nan"), Value::Int(7), Value::Null]);
        let attributes = (subsequence(names.to_vec(), 0..=5), vec(values, 5));
        let changes = vec((states, 0..4_usize), 1..12);
        let strategy = (vec(any_actions(), 0..4), vec(attributes, 4), changes);
        for _ in 0..2_000 {
            let (rules, attributes, changes) = strategy.new_tree(&mut runner).unwrap().current();
            let mut shaper = Shaper::new(&settings::Schema::default(), &rules);
            let attributes: Vec<_> = attributes
                .into_iter()
                .map(|(names, values)| change("", &names.into_iter().zip(values).collect::<Vec<_>>()).attributes)
                .collect();
            let mut kept = Shape::default();
            for (at, (state, which)) in changes.into_iter().enumerate() {
                let attributes = Arc::clone(&attributes[which]);
                let last_updated = Timestamp::from_micros(at.try_into().unwrap());
                let change = StateChange { attributes, last_updated, ..change(state, &[]) };
                let mut new = Shape::default();
                let made = shaper.shape(&change, &mut kept);
                assert_eq!(made, shaper.shape(&change, &mut new), "{change:?}, {rules:?}");
                if made.is_ok() {
                    let (kept, new) = ((printed(&kept.point), kept.omitted), (printed(&new.point), new.omitted));
                    assert_eq!(kept, new, "{change:?}, {rules:?}");
                }
            }
        }
    }

    fn any_actions() -> impl Strategy<Value = Actions> {
        let names = || select(vec!["value", "state", "a", "a_str", "unit_of_measurement", "W", "x"]);
        let name_pairs = || option::of(vec((names().prop_map(String::from), names().prop_map(String::from)), 0..3));
        let name_lists = || option::of(vec(names().prop_map(String::from), 0..3));
        let cast = select(vec![FieldType::Float, FieldType::Integer, FieldType::Boolean, FieldType::Text]);
        let unit = select(vec!["kW".to_owned(), "°F".to_owned()]);
        let field = (option::of(unit), option::of(select(vec![10.0, 1e300])), option::of(cast))
            .prop_map(|(unit, scale, cast)| FieldActions { unit, scale, cast, ..FieldActions::default() });
        let fields = option::of(vec((names().prop_map(String::from), field), 0..3));
        let numbers = option::of(vec((select(vec!["heat".to_owned(), "x".to_owned()]), any::<f64>()), 0..2));
        let lists = (name_lists(), name_lists(), name_lists());
        (lists, name_pairs(), name_pairs(), name_pairs(), fields, numbers).prop_map(
            |((ignored, kept, tagged), tags, renames, measurements, fields, state_numbers)| Actions {
                ignore_attributes: ignored,
                keep_attributes: kept,
                tags_attributes: tagged,
                tags,
                rename_fields: renames,
                rename_measurements: measurements,
                fields,
                state_numbers,
                ..Actions::default()
            },
        )
    }
}
