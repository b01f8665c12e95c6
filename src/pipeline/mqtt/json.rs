//! Values out of a payload of JSON: by their place, as a field of a type, as a piece of a name, as a time.
//!
//! Pure. Of a key that an object holds twice the last one counts. A number that does not fit 64 bits is no JSON.

use std::borrow::Cow;

use serde_json::{Number, Value};

use crate::model::fate::Refused;
use crate::model::time::Timestamp;
use crate::pipeline::python::number::parse_float;
use crate::pipeline::python::text::join_lines;
use crate::rules::{FieldType, JsonPath, TimeFormat};

/// A field that a value makes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Made<'a> {
    Float(f64),
    Integer(i64),
    Boolean(bool),
    Text(Cow<'a, str>),
}

/// What is at a place. Keys of objects are compared as they are; a number is also a place in a list, from 0.
pub(super) fn at<'a>(document: &'a Value, path: &JsonPath) -> Option<&'a Value> {
    path.0.iter().try_fold(document, |value, key| match value {
        Value::Object(members) => members.get(key),
        Value::Array(items) => key.parse::<usize>().ok().and_then(|place| items.get(place)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    })
}

/// A value as it comes: numbers and truth values as numbers, so that a field never changes its type; anything else as
/// text, a list or an object as its JSON. `None` for null.
pub(super) fn plain(value: &Value) -> Option<Made<'_>> {
    match value {
        Value::Null => None,
        Value::Bool(truth) => Some(Made::Float(f64::from(*truth))),
        Value::Number(number) => Some(Made::Float(float(number))),
        Value::String(text) => Some(Made::Text(join_lines(text))),
        Value::Array(_) | Value::Object(_) => Some(Made::Text(Cow::Owned(value.to_string()))),
    }
}

/// A value as a type. `Ok(None)` for null.
///
/// | to | from a number | from a truth value | from a text |
/// | --- | --- | --- | --- |
/// | float | as it is | 1 or 0 | what Python's `float` reads: `12.5`, ` 1e3 ` |
/// | integer | without a fraction, in 64 bits | 1 or 0 | as a number |
/// | boolean | 1 and 0 | as it is | `on`, `true`, `1`, `off`, `false`, `0` in any case |
/// | text | as JSON writes it | `true` or `false` | as it is, on one line |
///
/// A list or an object is text only: its JSON. Everything else is the wrong type.
pub(super) fn cast(value: &Value, to: FieldType) -> Result<Option<Made<'_>>, Refused> {
    let made = match (value, to) {
        (Value::Null, _) => return Ok(None),
        (Value::String(text), _) => return cast_text(text, to).map(Some),
        (Value::Bool(truth), FieldType::Boolean) => Some(Made::Boolean(*truth)),
        (Value::Bool(truth), FieldType::Float) => Some(Made::Float(f64::from(*truth))),
        (Value::Bool(truth), FieldType::Integer) => Some(Made::Integer(i64::from(*truth))),
        (Value::Number(number), FieldType::Float) => Some(Made::Float(float(number))),
        (Value::Number(number), FieldType::Integer) => match number.as_i64() {
            Some(integer) => Some(Made::Integer(integer)),
            None => whole(float(number)).map(Made::Integer),
        },
        (Value::Number(number), FieldType::Boolean) => truth_of(float(number)).map(Made::Boolean),
        (other, FieldType::Text) => Some(Made::Text(Cow::Owned(other.to_string()))),
        (Value::Array(_) | Value::Object(_), _) => None,
    };
    made.map(Some).ok_or(Refused::WrongType)
}

/// A text as a type, as [`cast`] says.
pub(super) fn cast_text(text: &str, to: FieldType) -> Result<Made<'_>, Refused> {
    let made = match to {
        FieldType::Text => Some(Made::Text(join_lines(text))),
        FieldType::Float => parse_float(text).map(Made::Float),
        FieldType::Integer => match text.trim().parse() {
            Ok(integer) => Some(Made::Integer(integer)),
            Err(_) => parse_float(text).and_then(whole).map(Made::Integer),
        },
        FieldType::Boolean => match text.trim() {
            word if is_any(word, &["on", "true", "1"]) => Some(Made::Boolean(true)),
            word if is_any(word, &["off", "false", "0"]) => Some(Made::Boolean(false)),
            _ => None,
        },
    };
    made.ok_or(Refused::WrongType)
}

/// A value as a tag or a measurement. `None` for what has no name: null, a list, an object.
pub(super) fn name(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(join_lines(text)),
        Value::Bool(_) | Value::Number(_) => Some(Cow::Owned(value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A value as a time: a text with an offset, or a number, also as text, of its unit. What is finer than a microsecond is
/// cut off. `None` outside the years 1677 to 2262, which is what a line can say.
pub(super) fn time(value: &Value, format: TimeFormat) -> Option<Timestamp> {
    let time = match format {
        TimeFormat::Rfc3339 => Timestamp::from_rfc3339(value.as_str()?)?,
        TimeFormat::UnixSeconds => match integer(value) {
            Some(seconds) => Timestamp::from_micros(seconds.checked_mul(1_000_000)?),
            None => Timestamp::from_unix_seconds(decimal(value)?)?,
        },
        TimeFormat::UnixMilliseconds => Timestamp::from_micros(integer(value)?.checked_mul(1_000)?),
        TimeFormat::UnixMicroseconds => Timestamp::from_micros(integer(value)?),
        TimeFormat::UnixNanoseconds => Timestamp::from_micros(integer(value)?.div_euclid(1_000)),
    };
    time.as_micros().checked_mul(1_000).map(|_| time)
}

fn float(number: &Number) -> f64 {
    number.as_f64().expect("without arbitrary precision every number of JSON is read as one of 64 bits")
}

/// A number without a fraction. Above 2^53 some of them are another number already, but they are whole.
#[expect(clippy::cast_possible_truncation, reason = "whole, and within the range of 64 bits")]
fn whole(number: f64) -> Option<i64> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    (number.fract() == 0.0 && (-BEYOND..BEYOND).contains(&number)).then_some(number as i64)
}

fn truth_of(number: f64) -> Option<bool> {
    match number {
        0.0 => Some(false),
        1.0 => Some(true),
        _ => None,
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| whole(float(number))),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn decimal(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => Some(float(number)),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn is_any(word: &str, words: &[&str]) -> bool {
    words.iter().any(|known| word.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use serde_json::Value;

    use super::{Made, at, cast, name, plain, time};
    use crate::model::fate::Refused;
    use crate::model::time::Timestamp;
    use crate::rules::{FieldType, JsonPath, TimeFormat};

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    fn text(text: &str) -> Made<'_> {
        Made::Text(Cow::Borrowed(text))
    }

    #[test]
    fn a_place_is_named_by_keys_and_by_numbers_of_lists() {
        let document = json(r#"{"a":{"b.c":[10,{"d":null}],"0":"zero"},"a b":1,"a":{"b.c":[7,{"d":8}],"0":"twice"}}"#);
        for (path, expected) in [
            (&["a", "b.c", "0"][..], Some("7")),
            (&["a", "b.c", "1", "d"], Some("8")),
            (&["a", "0"], Some("\"twice\"")),
            (&["a b"], Some("1")),
            (&["a", "b.c", "2"], None),
            (&["a", "b.c", "-1"], None),
            (&["a", "b.c", "x"], None),
            (&["A"], None),
            (&["a b", "c"], None),
        ] {
            let path = JsonPath(path.iter().map(|&key| key.to_owned()).collect());
            assert_eq!(at(&document, &path).map(ToString::to_string).as_deref(), expected, "{path:?}");
        }
        assert_eq!(at(&json("[1]"), &JsonPath(Vec::new())), Some(&json("[1]")));
    }

    #[test]
    fn a_value_as_it_comes_is_a_number_or_a_text() {
        for (value, expected) in [
            ("null", None),
            ("true", Some(Made::Float(1.0))),
            ("false", Some(Made::Float(0.0))),
            ("18446744073709551615", Some(Made::Float(18_446_744_073_709_551_615.0))),
            ("-3", Some(Made::Float(-3.0))),
            (r#""12""#, Some(text("12"))),
            (r#""a\nb""#, Some(text("a b"))),
            (r#"[1, {"b":2,"a":"x"}]"#, Some(text(r#"[1,{"a":"x","b":2}]"#))),
        ] {
            assert_eq!(plain(&json(value)), expected, "{value}");
        }
    }

    #[test]
    fn a_value_becomes_a_type_or_is_refused() {
        use FieldType::{Boolean, Float, Integer, Text};
        for (value, to, expected) in [
            ("12", Float, Some(Made::Float(12.0))),
            (r#"" 12.5 ""#, Float, Some(Made::Float(12.5))),
            ("true", Float, Some(Made::Float(1.0))),
            (r#""on""#, Float, None),
            (r#""""#, Float, None),
            ("[1]", Float, None),
            ("12", Integer, Some(Made::Integer(12))),
            ("12.0", Integer, Some(Made::Integer(12))),
            ("1.5", Integer, None),
            ("-9223372036854775808", Integer, Some(Made::Integer(i64::MIN))),
            ("9223372036854775808", Integer, None),
            ("1e300", Integer, None),
            (r#""9223372036854775807""#, Integer, Some(Made::Integer(i64::MAX))),
            (r#""1.5""#, Integer, None),
            (r#""2.0""#, Integer, Some(Made::Integer(2))),
            (r#""nan""#, Integer, None),
            ("false", Integer, Some(Made::Integer(0))),
            ("true", Boolean, Some(Made::Boolean(true))),
            (r#""ON""#, Boolean, Some(Made::Boolean(true))),
            (r#""False""#, Boolean, Some(Made::Boolean(false))),
            ("1", Boolean, Some(Made::Boolean(true))),
            ("0.0", Boolean, Some(Made::Boolean(false))),
            ("2", Boolean, None),
            (r#""open""#, Boolean, None),
            ("{}", Boolean, None),
            ("1.50", Text, Some(text("1.5"))),
            ("28.0", Text, Some(text("28.0"))),
            ("true", Text, Some(text("true"))),
            (r#""a""#, Text, Some(text("a"))),
            (r#"{"a":[1]}"#, Text, Some(text(r#"{"a":[1]}"#))),
        ] {
            assert_eq!(cast(&json(value), to), expected.map(Some).ok_or(Refused::WrongType), "{value} {to:?}");
        }
        for to in [Float, Integer, Boolean, Text] {
            assert_eq!(cast(&Value::Null, to), Ok(None));
        }
    }

    #[test]
    fn what_has_no_name_names_nothing() {
        for (value, expected) in
            [("\"a\\nb\"", Some("a b")), ("12.50", Some("12.5")), ("true", Some("true")), ("null", None), ("[]", None)]
        {
            assert_eq!(name(&json(value)).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn times_are_texts_with_an_offset_or_numbers_of_a_unit() {
        use TimeFormat::{Rfc3339, UnixMicroseconds, UnixMilliseconds, UnixNanoseconds, UnixSeconds};
        for (value, format, expected) in [
            (r#""2026-02-14T19:30:05.123456789+01:00""#, Rfc3339, Some(1_771_093_805_123_456)),
            (r#""2026-02-14T18:30:05""#, Rfc3339, None),
            ("1771093805", Rfc3339, None),
            ("1771093805", UnixSeconds, Some(1_771_093_805_000_000)),
            ("1771093805.123456", UnixSeconds, Some(1_771_093_805_123_456)),
            (r#""1771093805""#, UnixSeconds, Some(1_771_093_805_000_000)),
            (r#"" 1771093805.5 ""#, UnixSeconds, Some(1_771_093_805_500_000)),
            ("-1", UnixSeconds, Some(-1_000_000)),
            ("9223372037", UnixSeconds, None),
            ("1e30", UnixSeconds, None),
            (r#""inf""#, UnixSeconds, None),
            (r#""NaN""#, UnixSeconds, None),
            ("1771093805123", UnixMilliseconds, Some(1_771_093_805_123_000)),
            ("1771093805123.0", UnixMilliseconds, Some(1_771_093_805_123_000)),
            ("1771093805123.5", UnixMilliseconds, None),
            ("9223372036854775807", UnixMilliseconds, None),
            (r#""1771093805123456""#, UnixMicroseconds, Some(1_771_093_805_123_456)),
            ("9223372036854775807", UnixMicroseconds, None),
            ("1771093805123456789", UnixNanoseconds, Some(1_771_093_805_123_456)),
            ("-1", UnixNanoseconds, Some(-1)),
            ("9223372036854775807", UnixNanoseconds, Some(9_223_372_036_854_775)),
            ("null", UnixSeconds, None),
            ("true", UnixSeconds, None),
            (r#""soon""#, UnixSeconds, None),
        ] {
            assert_eq!(time(&json(value), format).map(Timestamp::as_micros), expected, "{value} {format:?}");
        }
    }
}
