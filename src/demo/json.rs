//! Home Assistant's JSON: compact, keys in the order given, text left as it is wherever JSON allows.

use std::fmt::{Arguments, Write};

use crate::model::value::{Attributes, Value};

/// Text as it stands, such as a name that is known to need no escapes.
pub fn push(out: &mut String, text: Arguments<'_>) {
    out.write_fmt(text).expect("a text takes any text");
}

/// A text in quotes.
pub fn push_text(out: &mut String, text: &str) {
    let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::to_string(text).expect("any text is JSON"));
    }
}

/// `null` where there is no text.
pub fn push_optional(out: &mut String, text: Option<&str>) {
    match text {
        Some(text) => push_text(out, text),
        None => out.push_str("null"),
    }
}

/// A number that was a float stays one: `21.0`, not `21`. What is no number becomes `null`.
pub fn push_float(out: &mut String, number: f64) {
    if number.is_finite() {
        out.push_str(zmij::Buffer::new().format(number));
    } else {
        out.push_str("null");
    }
}

pub fn push_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Int(number) => out.push_str(&number.to_string()),
        Value::UInt(number) => out.push_str(&number.to_string()),
        Value::Float(number) => push_float(out, *number),
        Value::Text(text) => push_text(out, text),
        Value::List(items) => {
            push_joined(out, ('[', ']'), items.iter(), push_value);
        }
        Value::Map(pairs) => {
            push_joined(out, ('{', '}'), pairs.iter(), |out, (name, value)| {
                push_text(out, name);
                out.push(':');
                push_value(out, value);
            });
        }
    }
}

pub fn push_attributes(out: &mut String, attributes: &Attributes) {
    push_pairs(out, attributes.iter());
}

/// An object of the given names and values.
pub fn push_pairs<'a>(out: &mut String, pairs: impl Iterator<Item = (&'a str, &'a Value)>) {
    push_joined(out, ('{', '}'), pairs, |out, (name, value)| {
        push_text(out, name);
        out.push(':');
        push_value(out, value);
    });
}

/// Items between brackets, with commas.
pub fn push_joined<T>(
    out: &mut String,
    brackets: (char, char),
    items: impl Iterator<Item = T>,
    push: impl Fn(&mut String, T),
) {
    out.push(brackets.0);
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(',');
        }
        push(out, item);
    }
    out.push(brackets.1);
}

/// What a client sent, as the values that entities hold. Numbers without a fraction stay whole.
#[must_use]
pub fn read_value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::Bool(*truth),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, Some(whole)) => Value::UInt(whole),
            (None, None) => number.as_f64().map_or(Value::Null, Value::Float),
        },
        serde_json::Value::String(text) => Value::Text(text.as_str().into()),
        serde_json::Value::Array(items) => Value::List(items.iter().map(read_value).collect()),
        serde_json::Value::Object(pairs) => {
            Value::Map(pairs.iter().map(|(name, value)| (name.as_str().into(), read_value(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{push_value, read_value};

    fn check(json: &str) {
        let parsed: serde_json::Value = serde_json::from_str(json).unwrap();
        let mut out = String::new();
        push_value(&mut out, &read_value(&parsed));
        assert_eq!(out, json);
    }

    #[test]
    fn what_is_read_is_written_again() {
        for json in [
            "null",
            "true",
            "-3",
            "21.0",
            "1795448982.4989934",
            "18446744073709551615",
            r#""a \"b\" \\ \n é中🎵""#,
            r#""ends with a backslash \\""#,
            r#"[1,[],{"a":{}}]"#,
        ] {
            check(json);
        }
    }
}
