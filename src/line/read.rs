//! A line of line protocol becomes series, fields and time again, as every database reads it.
//!
//! It is the way back of [`super::encode`]: what compares lines with what a database holds begins here.

use std::collections::BTreeMap;

/// Measurement and tags: what a database knows a point by, together with its time.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    pub measurement: String,
    pub tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub series: Series,
    /// In the order of the line.
    pub fields: Vec<Field>,
    /// Nanoseconds since 1970.
    pub nanos: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub key: String,
    /// VictoriaMetrics keeps no texts.
    pub is_text: bool,
}

/// `None`: it is no line, or does not say when. Line ends at its end are none of its business.
#[must_use]
pub fn read(line: &[u8]) -> Option<Line> {
    let line = str::from_utf8(line).ok()?.trim_end_matches(['\r', '\n']);
    if line.starts_with('#') {
        return None;
    }
    let (measurement, rest) = name(line, &[',', ' ']);
    let mut series = Series { measurement, tags: BTreeMap::new() };
    let mut rest = rest;
    while let Some(tag) = rest.strip_prefix(',') {
        let (key, after) = name(tag, &['=']);
        let (value, after) = name(after.strip_prefix('=')?, &[',', ' ']);
        series.tags.insert(key, value);
        rest = after;
    }
    let mut fields = Vec::new();
    rest = rest.strip_prefix(' ')?;
    loop {
        let (key, after) = name(rest, &['=']);
        let (is_text, after) = skip_value(after.strip_prefix('=')?)?;
        fields.push(Field { key, is_text });
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Some(Line { series, fields, nanos: after.strip_prefix(' ')?.trim().parse().ok()? }),
        }
    }
}

/// The name up to one of the separators, without its escapes, and the rest.
fn name<'a>(text: &'a str, separators: &[char]) -> (String, &'a str) {
    let mut read = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, letter)) = chars.next() {
        if separators.contains(&letter) {
            return (read, &text[at..]);
        }
        match chars.peek() {
            // Before anything else a backslash is itself.
            Some((_, next @ (',' | '=' | ' '))) if letter == '\\' => {
                read.push(*next);
                chars.next();
            }
            _ => read.push(letter),
        }
    }
    (read, "")
}

/// Whether it is a text, and what follows it.
fn skip_value(text: &str) -> Option<(bool, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' '])?;
        return Some((false, &text[end..]));
    };
    let mut escaped = false;
    for (at, byte) in quoted.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some((true, &quoted[at + 1..])),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::line::encode::encode;
    use crate::model::point::{FieldValue, Point};
    use crate::model::time::Timestamp;

    #[test]
    fn what_was_encoded_is_read_back() {
        let mut point = Point::default();
        point.set_measurement(&["a, b=c \u{1f600}"]);
        point.set_tag("entity id", r#"x,y="z" \n"#);
        point.push_field(&["state, so=to say"], FieldValue::Text(r#"say "hi, you" \ value=1 2"#));
        point.push_field(&["value"], FieldValue::Float(1.5));
        point.set_time(Timestamp::from_micros(7));
        let mut line = Vec::new();
        encode(&point, &mut line).unwrap();
        let line = read(&line).unwrap();
        assert_eq!(line.series.measurement, "a, b=c \u{1f600}");
        assert_eq!(line.series.tags["entity id"], r#"x,y="z" \n"#);
        let fields: Vec<_> = line.fields.iter().map(|field| (&*field.key, field.is_text)).collect();
        assert_eq!(fields, [("state, so=to say", true), ("value", false)]);
        assert_eq!(line.nanos, 7_000);
    }

    #[test]
    fn what_is_no_line_is_none() {
        for text in ["", "m", "m 1", "m v=1", "m,t v=1 1", "m v=\"x 1", "m v=1 x", "# m v=1 1"] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
    }
}
