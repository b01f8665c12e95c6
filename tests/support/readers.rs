//! Two readers of line protocol: by the rules of InfluxDB 1 and 2, and by those of InfluxDB 3.

use std::collections::BTreeMap;

use influxdb_line_protocol::{FieldValue, parse_lines};

use super::reading::{Reading, Value};

/// InfluxDB 3: the parser that the server uses, and the rules that the server adds to it.
pub(crate) fn read_as_influxdb_3(line: &str) -> Result<Reading, String> {
    let mut lines = parse_lines(line);
    let parsed = lines.next().ok_or("no line was found")?.map_err(|error| error.to_string())?;
    if lines.next().is_some() {
        return Err("more than one line was found".into());
    }
    let mut tags = BTreeMap::new();
    let mut fields = BTreeMap::new();
    for (key, value) in parsed.series.tag_set.iter().flatten() {
        if tags.insert(key.to_string(), value.to_string()).is_some() {
            return Err(format!("tag {key:?} is there twice"));
        }
    }
    for (key, value) in &parsed.field_set {
        let value = match value {
            FieldValue::I64(number) => Value::Integer(*number),
            FieldValue::F64(number) => Value::Float(*number),
            FieldValue::Boolean(truth) => Value::Boolean(*truth),
            FieldValue::String(text) => Value::Text(text.to_string()),
            FieldValue::U64(number) => return Err(format!("{number} is an unsigned number")),
        };
        if tags.contains_key(key.as_str()) || fields.insert(key.to_string(), value).is_some() {
            return Err(format!("column {key:?} is there twice"));
        }
    }
    if tags.contains_key("time") || fields.contains_key("time") {
        return Err("the column \"time\" is reserved".into());
    }
    let nanos = parsed.timestamp.ok_or("no time was found")?;
    Ok(Reading { measurement: parsed.series.measurement.to_string(), tags, fields, nanos })
}

/// InfluxDB 1 and 2, as their answers show them: whether a character is escaped is decided by the one byte before it,
/// and only the escapes of separators are ever taken away.
pub(crate) fn read_as_influxdb_1(line: &str) -> Result<Reading, String> {
    let line = line.trim_start_matches([' ', '\t', '\0']);
    if line.starts_with('#') {
        return Err("the line is a comment".into());
    }
    let (series, rest) = cut(line, " ").ok_or("the fields are missing")?;

    let (measurement, mut rest_of_series) = match cut(series, ",") {
        Some((measurement, tags)) => (measurement, Some(tags)),
        None => (series, None),
    };
    if measurement.is_empty() {
        return Err("the measurement is missing".into());
    }
    let mut tags = BTreeMap::new();
    while let Some(text) = rest_of_series {
        let (tag, rest) = match cut(text, ",") {
            Some((tag, rest)) => (tag, Some(rest)),
            None => (text, None),
        };
        rest_of_series = rest;
        let (key, value) = cut(tag, "=").ok_or("a tag has no value")?;
        if key.is_empty() || value.is_empty() || cut(value, "=").is_some() {
            return Err(format!("tag {tag:?} is malformed"));
        }
        let key = unescape(key, ",= ");
        if ["time", "_field", "_measurement"].contains(&key.as_str()) {
            return Err(format!("tag {key:?} is reserved"));
        }
        if tags.insert(key, unescape(value, ",= ")).is_some() {
            return Err("a tag is there twice".into());
        }
    }

    let mut fields = BTreeMap::new();
    let mut rest = rest;
    loop {
        let (key, after) = cut(rest, "=").ok_or("a field has no value")?;
        if key.is_empty() || cut(key, ", ").is_some() {
            return Err(format!("field key {key:?} is malformed"));
        }
        let (value, after) = read_value(after)?;
        let key = unescape(key, ",= \"");
        if key == "time" {
            return Err("the field \"time\" is discarded".into());
        }
        fields.insert(key, value);
        match after.split_at_checked(1) {
            Some((",", next)) => rest = next,
            Some((" ", time)) => {
                let nanos: i64 = time.parse().map_err(|error| format!("time {time:?}: {error}"))?;
                if !(i64::MIN + 2..i64::MAX).contains(&nanos) {
                    return Err("the time is out of range".into());
                }
                return Ok(Reading { measurement: unescape(measurement, ",= \""), tags, fields, nanos });
            }
            _ => return Err(format!("{after:?} follows a field")),
        }
    }
}

/// The value at the beginning of the text, and what follows it.
fn read_value(text: &str) -> Result<(Value, &str), String> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => return Ok((Value::Text(value), &quoted[at + 1..])),
                '\\' if quoted[at + 1..].starts_with(['"', '\\']) => {
                    value.extend(characters.next().map(|(_, next)| next));
                }
                _ => value.push(character),
            }
        }
        return Err("a text does not end".into());
    }
    let (literal, after) = text.split_at(text.find([',', ' ']).unwrap_or(text.len()));
    let value = match literal {
        "true" => Value::Boolean(true),
        "false" => Value::Boolean(false),
        _ if !literal.starts_with(|first: char| first.is_ascii_digit() || first == '-') => {
            return Err(format!("{literal:?} is no value"));
        }
        _ => match literal.strip_suffix('i') {
            Some(digits) => Value::Integer(digits.parse().map_err(|error| format!("{literal:?}: {error}"))?),
            None => Value::Float(literal.parse().map_err(|error| format!("{literal:?}: {error}"))?),
        },
    };
    Ok((value, after))
}

/// Cuts at the first of the separators that has no backslash directly before it.
fn cut<'a>(text: &'a str, separators: &str) -> Option<(&'a str, &'a str)> {
    let at =
        text.char_indices().find(|(at, character)| separators.contains(*character) && !text[..*at].ends_with('\\'))?.0;
    Some((&text[..at], &text[at + 1..]))
}

fn unescape(text: &str, escaped: &str) -> String {
    escaped
        .chars()
        .fold(text.to_owned(), |text, character| text.replace(&format!("\\{character}"), &character.to_string()))
}
