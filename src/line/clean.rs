//! Makes a point writable that is not: the slow path of the encoder, for the few points that need it.
//!
//! Nothing is dropped that can be kept: a name loses what cannot be read back, and a key that is reserved or taken gets
//! an underscore. Of two tags or fields whose keys end up equal the last one given stays, as in InfluxDB 1.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::escape::{Slot, backslash_is_ambiguous_before};
use crate::model::point::{FieldValue, Point};

pub(super) struct Cleaned {
    /// Sorted, every key once, every name writable.
    pub(super) point: Point,
    pub(super) adjusted_texts: u32,
    pub(super) omitted_fields: u32,
}

pub(super) fn clean(point: &Point) -> Cleaned {
    let mut adjusted_texts = 0;
    let mut omitted_fields = 0;

    let measurement = name(point.measurement(), Slot::Measurement);
    adjusted_texts += changes(&measurement);

    let mut tags = BTreeMap::new();
    for (key, value) in point.tags().filter(|(_, value)| !value.is_empty()) {
        if key.is_empty() {
            adjusted_texts += 1;
            continue;
        }
        let (key, value) = (tag_key(key), name(value, Slot::Tag));
        adjusted_texts += changes(&key) + changes(&value);
        if tags.insert(key, value).is_some() {
            adjusted_texts += 1;
        }
    }

    let mut fields = BTreeMap::new();
    for (key, value) in point.fields() {
        if key.is_empty() || !is_writable(value) {
            omitted_fields += 1;
            continue;
        }
        let mut key = field_key(key);
        // InfluxDB 3 has one column of a name, for a tag or for a field.
        while tags.contains_key(&key) {
            key.to_mut().push('_');
        }
        adjusted_texts += changes(&key);
        if fields.insert(key, value).is_some() {
            omitted_fields += 1;
        }
    }

    let mut point = Point::default();
    point.set_measurement(&[&measurement]);
    for (key, value) in &tags {
        point.set_tag(key, value);
    }
    for (key, value) in &fields {
        point.push_field(&[key], *value);
    }
    Cleaned { point, adjusted_texts, omitted_fields }
}

/// Line protocol has no way to say "not a number" or "infinite".
pub(super) fn is_writable(value: FieldValue<'_>) -> bool {
    !matches!(value, FieldValue::Float(number) if !number.is_finite())
}

/// Tags of these names make InfluxDB 2 refuse the line; InfluxDB 1 and 3 refuse `time`.
pub(super) fn is_reserved_tag(key: &str) -> bool {
    matches!(key, "time" | "_field" | "_measurement")
}

/// Fields of this name are lost in InfluxDB 1 and refused by InfluxDB 3.
pub(super) fn is_reserved_field(key: &str) -> bool {
    key == "time"
}

/// A line that begins with `#` is a comment, which InfluxDB confirms and discards; there is no escape. `#` is the unit
/// of real sensors, so it is written as the full-width character that looks alike.
pub(super) fn begins_a_comment(measurement: &str) -> bool {
    measurement.starts_with('#')
}

#[expect(clippy::ptr_arg, reason = "whether it is borrowed is the question")]
fn changes(text: &Cow<'_, str>) -> u32 {
    u32::from(matches!(text, Cow::Owned(_)))
}

fn tag_key(key: &str) -> Cow<'_, str> {
    let mut key = name(key, Slot::Tag);
    if is_reserved_tag(&key) {
        key.to_mut().push('_');
    }
    key
}

fn field_key(key: &str) -> Cow<'_, str> {
    let mut key = name(key, Slot::FieldKey);
    if is_reserved_field(&key) {
        key.to_mut().push('_');
    }
    key
}

/// The name with everything replaced that is not read back everywhere; borrowed if there is nothing.
fn name(text: &str, slot: Slot) -> Cow<'_, str> {
    let replace = |(at, character): (usize, char)| match character {
        '#' if at == 0 && slot == Slot::Measurement => '\u{ff03}',
        '"' if slot == Slot::FieldKey => '\'',
        '\\' if backslash_is_ambiguous_before(text.as_bytes().get(at + 1)) => '/',
        character if character.is_ascii_control() => ' ',
        character => character,
    };
    let clean: String = text.char_indices().map(replace).collect();
    if clean == text { Cow::Borrowed(text) } else { Cow::Owned(clean) }
}

#[cfg(test)]
mod tests {
    use super::name;
    use crate::line::escape::Slot;

    #[test]
    fn only_what_cannot_be_read_back_is_replaced() {
        let table = [
            ("#", "\u{ff03}", "#", "#"),
            ("##", "\u{ff03}#", "##", "##"),
            (" #", " #", " #", " #"),
            ("\"a\"", "\"a\"", "\"a\"", "'a'"),
            (r"a\b", r"a\b", r"a\b", r"a\b"),
            (r"a\", "a/", "a/", "a/"),
            (r"\\\", "///", "///", "///"),
            (r"\,\=\ \a", r"/,/=/ \a", r"/,/=/ \a", r"/,/=/ \a"),
            ("\\\"", "/\"", "/\"", "/'"),
            ("\\\n", "/ ", "/ ", "/ "),
            ("a\r\nb\t\0\u{7f}", "a  b   ", "a  b   ", "a  b   "),
            (
                "°\u{85}\u{a0}\u{2028}🏠",
                "°\u{85}\u{a0}\u{2028}🏠",
                "°\u{85}\u{a0}\u{2028}🏠",
                "°\u{85}\u{a0}\u{2028}🏠",
            ),
        ];
        for (given, measurement, tag, field_key) in table {
            assert_eq!(name(given, Slot::Measurement), measurement, "{given:?}");
            assert_eq!(name(given, Slot::Tag), tag, "{given:?}");
            assert_eq!(name(given, Slot::FieldKey), field_key, "{given:?}");
        }
    }
}
