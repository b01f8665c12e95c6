//! What rules do with single values: scale, offset, limits, decimal places, type, unit.
//!
//! In this order: unit, scale, offset, limits, decimal places, type. A text has only a type: one that is read as a number
//! then goes the way of numbers. What has not the type that a rule wants is refused, because a field that changes its type
//! is refused by the database.

use std::sync::Arc;

use super::python::{number, text};
use super::state::{NoPoint, StateFields};
use super::treatment::Treatment;

use crate::model::fate::Refused;
use crate::model::point::{FieldValue, Point};
use crate::model::units::Conversion;
use crate::model::value::{Attributes, Value};
use crate::rules::{FieldActions, FieldType};

/// What rules say about one field.
#[derive(Debug, Clone)]
pub struct FieldRule {
    pub name: String,
    pub actions: FieldActions,
    /// The one that said something about it last.
    pub rule: Arc<str>,
}

/// What a value became.
#[derive(Debug, Clone, PartialEq)]
pub enum Made {
    Float(f64),
    Integer(i64),
    Boolean(bool),
    Text(String),
}

/// What becomes of an entity's unit.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Unit {
    /// No rule says anything, or the entity has none.
    #[default]
    Kept,
    Converted(Conversion, String),
    /// It does not measure what the rule's unit measures: the value stays as it is.
    Foreign(String),
}

/// The names of the fields of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    pub state: String,
    pub value: String,
}

impl FieldRule {
    #[must_use]
    pub fn new(name: &str, actions: &FieldActions, rule: &Arc<str>) -> Self {
        Self { name: name.to_owned(), actions: actions.clone(), rule: Arc::clone(rule) }
    }

    /// A more specific rule says something too. It is silent about what it does not name.
    pub fn add(&mut self, more: &FieldActions, rule: &Arc<str>) {
        let own = &mut self.actions;
        own.unit = more.unit.clone().or_else(|| own.unit.take());
        own.scale = more.scale.or(own.scale);
        own.offset = more.offset.or(own.offset);
        own.min = more.min.or(own.min);
        own.max = more.max.or(own.max);
        own.round = more.round.or(own.round);
        own.cast = more.cast.or(own.cast);
        self.rule = Arc::clone(rule);
    }

    /// What becomes of the unit of an entity with these attributes.
    #[must_use]
    pub fn unit(&self, attributes: &Attributes) -> Unit {
        let (Some(wanted), Some(Value::Text(own))) = (&self.actions.unit, attributes.get("unit_of_measurement")) else {
            return Unit::Kept;
        };
        match Conversion::between(own, wanted) {
            Some(conversion) => Unit::Converted(conversion, wanted.clone()),
            None => Unit::Foreign(own.to_string()),
        }
    }

    /// A number that is not finite comes out as [`Made::Float`].
    pub fn apply(&self, number: f64, unit: &Unit) -> Result<Made, Refused> {
        let actions = &self.actions;
        let mut number = match unit {
            Unit::Converted(conversion, _) => conversion.apply(number),
            Unit::Kept | Unit::Foreign(_) => number,
        };
        number = number * actions.scale.unwrap_or(1.0) + actions.offset.unwrap_or(0.0);
        // A number that is none stays so: the limits are for those that are.
        if let Some(min) = actions.min.filter(|min| number < *min) {
            number = min;
        }
        if let Some(max) = actions.max.filter(|max| number > *max) {
            number = max;
        }
        if let Some(places) = actions.round {
            number = rounded(number, places);
        }
        if !number.is_finite() {
            return Ok(Made::Float(number));
        }
        match actions.cast {
            None | Some(FieldType::Float) => Ok(Made::Float(number)),
            Some(FieldType::Integer) => whole(number).map(Made::Integer),
            Some(FieldType::Boolean) => Ok(Made::Boolean(number != 0.0)),
            Some(FieldType::Text) => {
                let mut written = String::new();
                match whole(number) {
                    // As a person writes it: `21`, not `21.0`.
                    #[expect(
                        clippy::cast_precision_loss,
                        clippy::float_cmp,
                        reason = "the comparison sees what is lost"
                    )]
                    Ok(whole) if whole as f64 == number => written = whole.to_string(),
                    _ => text::write_float(number, &mut written),
                }
                Ok(Made::Text(written))
            }
        }
    }

    /// `None` if the text stays as it is.
    pub fn apply_to_text(&self, text: &str) -> Result<Option<Made>, Refused> {
        match self.actions.cast {
            None | Some(FieldType::Text) => Ok(None),
            Some(FieldType::Boolean) => truth(text).map(|truth| Some(Made::Boolean(truth))).ok_or(Refused::WrongType),
            Some(FieldType::Float | FieldType::Integer) => {
                let number = number::parse_float(text).ok_or(Refused::WrongType)?;
                self.apply(number, &Unit::Kept).map(Some)
            }
        }
    }

    pub fn apply_to_field(&self, value: FieldValue<'_>) -> Result<Option<Made>, Refused> {
        match value {
            FieldValue::Float(number) => self.apply(number, &Unit::Kept).map(Some),
            FieldValue::Text(text) => self.apply_to_text(text),
            FieldValue::Integer(_) | FieldValue::Boolean(_) => Ok(None),
        }
    }
}

impl Made {
    #[must_use]
    pub fn is_finite(&self) -> bool {
        !matches!(self, Self::Float(number) if !number.is_finite())
    }

    #[must_use]
    pub fn as_field(&self) -> FieldValue<'_> {
        match self {
            Self::Float(number) => FieldValue::Float(*number),
            Self::Integer(number) => FieldValue::Integer(*number),
            Self::Boolean(truth) => FieldValue::Boolean(*truth),
            Self::Text(text) => FieldValue::Text(text),
        }
    }
}

/// What rules do with the fields that attributes made. Returns how many numbers were left out.
pub fn apply_to_attributes(treatment: &Treatment, of_state: StateFields, point: &mut Point) -> Result<u32, NoPoint> {
    let mut omitted = 0;
    for field in &treatment.fields {
        if matches!((field.name.as_str(), of_state.value, of_state.state), ("value", true, _) | ("state", _, true)) {
            continue;
        }
        let Some((_, value)) = point.fields().find(|(name, _)| *name == field.name) else { continue };
        match field.apply_to_field(value).map_err(|reason| NoPoint::refused(reason, &field.rule))? {
            Some(made) if made.is_finite() => point.set_field(&field.name, made.as_field()),
            Some(_) => {
                point.remove_field(&field.name);
                omitted += 1;
            }
            None => {}
        }
    }
    Ok(omitted)
}

/// Gives fields other names, all at once, so that two may change theirs. Returns what those of the state are called then.
#[must_use]
pub fn rename_fields(renames: &[(String, String)], point: &mut Point) -> Option<Box<Renamed>> {
    let mut of_state = None;
    let between = |number: usize| format!("\0{number}");
    let present: Vec<usize> = (0..renames.len()).filter(|number| point.has_field(&renames[*number].0)).collect();
    for number in &present {
        point.rename_field(&renames[*number].0, &between(*number));
    }
    for number in present {
        let (from, to) = &renames[number];
        let mut name = to.clone();
        while point.has_field(&name) {
            name.push('_');
        }
        point.rename_field(&between(number), &name);
        if from == "state" || from == "value" {
            let own = || Box::new(Renamed { state: "state".to_owned(), value: "value".to_owned() });
            let called: &mut Box<Renamed> = of_state.get_or_insert_with(own);
            *if from == "state" { &mut called.state } else { &mut called.value } = name;
        }
    }
    of_state
}

/// To the nearest decimal number, by what the number really is, as Python's `round` does it: `2.675` is a hair less than that,
/// and with two places `2.67`.
fn rounded(number: f64, places: u8) -> f64 {
    // Beyond that no binary number of this size has digits.
    let places = usize::from(places.min(17));
    format!("{number:.places$}").parse().unwrap_or(number)
}

/// The nearest whole number.
fn whole(number: f64) -> Result<i64, Refused> {
    // The next number below 2^63 and the lowest that there is.
    const RANGE: std::ops::RangeInclusive<f64> = -9_223_372_036_854_775_808.0..=9_223_372_036_854_774_784.0;
    let nearest = number.round();
    if !RANGE.contains(&nearest) {
        return Err(Refused::WrongType);
    }
    #[expect(clippy::cast_possible_truncation, reason = "a whole number within the range")]
    Ok(nearest as i64)
}

/// What texts say yes and no: those of JSON and YAML, and those that Home Assistant's states have.
fn truth(text: &str) -> Option<bool> {
    match text.trim().to_lowercase().as_str() {
        "true" | "on" | "yes" | "open" | "home" | "locked" | "above_horizon" => Some(true),
        "false" | "off" | "no" | "closed" | "not_home" | "unlocked" | "below_horizon" => Some(false),
        other => number::parse_float(other).filter(|number| !number.is_nan()).map(|number| number != 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::{FieldRule, Made, Unit};
    use crate::model::fate::Refused;
    use crate::model::value::{Attributes, Value};
    use crate::rules::{FieldActions, FieldType};

    fn rule(actions: &FieldActions) -> FieldRule {
        FieldRule::new("value", actions, &"r".into())
    }

    fn check(actions: &FieldActions, number: f64, expected: &Result<Made, Refused>) {
        assert_eq!(rule(actions).apply(number, &Unit::Kept), *expected, "{actions:?} of {number}");
    }

    fn attributes(unit: &str) -> Attributes {
        [("unit_of_measurement".into(), Value::Text(unit.into()))].into_iter().collect()
    }

    #[test]
    fn numbers_are_changed_in_the_documented_order() {
        let nothing = FieldActions::default();
        check(&nothing, 1.5, &Ok(Made::Float(1.5)));
        check(&FieldActions { scale: Some(2.0), offset: Some(1.0), ..nothing.clone() }, 3.0, &Ok(Made::Float(7.0)));
        let limited = FieldActions { scale: Some(10.0), min: Some(-5.0), max: Some(50.0), ..nothing.clone() };
        for (number, expected) in [(-1.0, -5.0), (1.0, 10.0), (6.0, 50.0), (f64::INFINITY, 50.0)] {
            check(&limited, number, &Ok(Made::Float(expected)));
        }
        // The limit is rounded, too, and the rounded number cast.
        let all = FieldActions { max: Some(20.56), round: Some(1), cast: Some(FieldType::Text), ..nothing };
        check(&all, 30.0, &Ok(Made::Text("20.6".into())));
    }

    #[test]
    fn numbers_are_rounded_by_their_decimal_digits() {
        let table = [
            (2.675, 2, 2.67),
            (1.005, 2, 1.0),
            (21.449_999, 1, 21.4),
            (-0.04, 1, -0.0),
            (1e300, 3, 1e300),
            (0.1 + 0.2, 17, 0.300_000_000_000_000_04),
            (12.5, 0, 12.0),
        ];
        for (number, places, expected) in table {
            check(&FieldActions { round: Some(places), ..FieldActions::default() }, number, &Ok(Made::Float(expected)));
        }
    }

    #[test]
    fn a_number_is_cast_or_refused() {
        let cast = |kind| FieldActions { cast: Some(kind), ..FieldActions::default() };
        check(&cast(FieldType::Float), 1.0, &Ok(Made::Float(1.0)));
        for (number, expected) in [(2.4, 2), (2.5, 3), (-2.5, -3), (-9.2e18, -9_200_000_000_000_000_000)] {
            check(&cast(FieldType::Integer), number, &Ok(Made::Integer(expected)));
        }
        check(&cast(FieldType::Integer), 9_223_372_036_854_775_808.0, &Err(Refused::WrongType));
        check(&cast(FieldType::Integer), -9.3e18, &Err(Refused::WrongType));
        check(&cast(FieldType::Boolean), 0.0, &Ok(Made::Boolean(false)));
        check(&cast(FieldType::Boolean), -0.1, &Ok(Made::Boolean(true)));
        check(&cast(FieldType::Text), 21.0, &Ok(Made::Text("21".into())));
        check(&cast(FieldType::Text), 0.5, &Ok(Made::Text("0.5".into())));
        check(&FieldActions { scale: Some(1e300), ..FieldActions::default() }, 1e300, &Ok(Made::Float(f64::INFINITY)));
    }

    #[test]
    fn a_text_is_cast_or_stays() {
        let made = |cast, text| {
            let actions = FieldActions { cast, scale: Some(10.0), ..FieldActions::default() };
            rule(&actions).apply_to_text(text)
        };
        assert_eq!(made(None, "12"), Ok(None));
        assert_eq!(made(Some(FieldType::Text), "12"), Ok(None));
        assert_eq!(made(Some(FieldType::Float), " 1.25 "), Ok(Some(Made::Float(12.5))));
        assert_eq!(made(Some(FieldType::Integer), "1.26"), Ok(Some(Made::Integer(13))));
        assert_eq!(made(Some(FieldType::Integer), "1 m"), Err(Refused::WrongType));
        for (text, expected) in [("On", true), ("closed", false), ("1", true), ("0.0", false), (" yes", true)] {
            assert_eq!(made(Some(FieldType::Boolean), text), Ok(Some(Made::Boolean(expected))), "{text}");
        }
        for text in ["maybe", "", "nan"] {
            assert_eq!(made(Some(FieldType::Boolean), text), Err(Refused::WrongType), "{text}");
        }
    }

    #[test]
    fn a_unit_is_converted_if_both_measure_the_same() {
        let to =
            |unit: &str| rule(&FieldActions { unit: Some(unit.into()), scale: Some(2.0), ..FieldActions::default() });
        let kilowatts = to("kW");
        let unit = kilowatts.unit(&attributes("W"));
        assert_eq!(kilowatts.apply(1_500.0, &unit), Ok(Made::Float(3.0)));
        assert!(matches!(unit, Unit::Converted(_, name) if name == "kW"));
        let unit = kilowatts.unit(&attributes("°C"));
        assert_eq!(kilowatts.apply(21.0, &unit), Ok(Made::Float(42.0)));
        assert_eq!(unit, Unit::Foreign("°C".into()));
        assert_eq!(kilowatts.unit(&Attributes::default()), Unit::Kept);
        assert_eq!(rule(&FieldActions::default()).unit(&attributes("W")), Unit::Kept);
    }
}
