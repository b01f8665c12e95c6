//! A point on its way to a line: measurement, tags, fields, time.
//!
//! A `Point` is a buffer that is filled, encoded and filled again: all its text lies in one string, so that shaping an
//! event allocates nothing once the buffer has grown. It checks nothing; `line` decides what can be written and how.

use super::time::Timestamp;

/// A piece of the point's text.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

#[derive(Debug, Clone, Copy)]
enum Stored {
    Float(f64),
    Integer(i64),
    Boolean(bool),
    Text(Span),
}

/// The value of a field: the types that every dialect of line protocol knows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FieldValue<'a> {
    Float(f64),
    Integer(i64),
    Boolean(bool),
    Text(&'a str),
}

#[derive(Debug, Clone)]
pub struct Point {
    text: String,
    measurement: Span,
    tags: Vec<(Span, Span)>,
    fields: Vec<(Span, Stored)>,
    time: Timestamp,
}

impl Default for Point {
    fn default() -> Self {
        Self {
            text: String::new(),
            measurement: Span { start: 0, end: 0 },
            tags: Vec::new(),
            fields: Vec::new(),
            time: Timestamp::from_micros(0),
        }
    }
}

impl Point {
    /// Forgets everything but the memory it holds.
    pub fn clear(&mut self) {
        *self = Self {
            text: std::mem::take(&mut self.text),
            tags: std::mem::take(&mut self.tags),
            fields: std::mem::take(&mut self.fields),
            ..Self::default()
        };
        self.text.clear();
        self.tags.clear();
        self.fields.clear();
    }

    pub fn set_time(&mut self, time: Timestamp) {
        self.time = time;
    }

    pub fn set_measurement(&mut self, parts: &[&str]) {
        self.measurement = self.keep(parts);
    }

    /// Adds a tag, or replaces the value of the tag of that name. InfluxDB has no empty tags: an empty value takes the
    /// tag away.
    pub fn set_tag(&mut self, key: &str, value: &str) {
        if value.is_empty() {
            let text = &self.text;
            return self.tags.retain(|(known, _)| &text[known.range()] != key);
        }
        let value = self.keep(&[value]);
        let known = self.tags.iter().position(|(known, _)| &self.text[known.range()] == key);
        match known {
            Some(at) => self.tags[at].1 = value,
            None => {
                let key = self.keep(&[key]);
                self.tags.push((key, value));
            }
        }
    }

    /// Adds a field whose key is `parts` joined. Keys are not checked for repetition: ask [`Point::has_field`].
    pub fn push_field(&mut self, parts: &[&str], value: FieldValue<'_>) {
        let key = self.keep(parts);
        let value = self.store(value);
        self.fields.push((key, value));
    }

    /// Adds a field, or replaces the value of the field of that name.
    pub fn set_field(&mut self, key: &str, value: FieldValue<'_>) {
        let Some(at) = self.find_field(key) else {
            return self.push_field(&[key], value);
        };
        // A text that lies last makes room for the next, so that a point whose state is set again and again does not
        // grow.
        if let Stored::Text(old) = self.fields[at].1
            && old.end == self.offset()
        {
            self.text.truncate(old.start as usize);
        }
        self.fields[at].1 = self.store(value);
    }

    /// Takes a field away, if it is there.
    pub fn remove_field(&mut self, key: &str) {
        if let Some(at) = self.find_field(key) {
            self.fields.remove(at);
        }
    }

    /// Gives a field, if it is there, another name. That name must be free.
    pub fn rename_field(&mut self, key: &str, name: &str) {
        if let Some(at) = self.find_field(key) {
            self.fields[at].0 = self.keep(&[name]);
        }
    }

    #[must_use]
    pub fn has_field(&self, key: &str) -> bool {
        self.find_field(key).is_some()
    }

    /// Sorts tags and fields by the bytes of their keys; equal keys stay in the order in which they came.
    pub fn sort(&mut self) {
        let text = self.text.as_bytes();
        self.tags.sort_by(|(a, _), (b, _)| text[a.range()].cmp(&text[b.range()]));
        self.fields.sort_by(|(a, _), (b, _)| text[a.range()].cmp(&text[b.range()]));
    }

    #[must_use]
    pub fn measurement(&self) -> &str {
        &self.text[self.measurement.range()]
    }

    pub fn tags(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tags.iter().map(|(key, value)| (&self.text[key.range()], &self.text[value.range()]))
    }

    pub fn fields(&self) -> impl Iterator<Item = (&str, FieldValue<'_>)> {
        self.fields.iter().map(|(key, value)| {
            let value = match value {
                Stored::Float(number) => FieldValue::Float(*number),
                Stored::Integer(number) => FieldValue::Integer(*number),
                Stored::Boolean(truth) => FieldValue::Boolean(*truth),
                Stored::Text(span) => FieldValue::Text(&self.text[span.range()]),
            };
            (&self.text[key.range()], value)
        })
    }

    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.time
    }

    fn find_field(&self, key: &str) -> Option<usize> {
        // Names differ in their lengths more often than not, and that is seen without the text.
        let is_key = |known: Span| known.range().len() == key.len() && &self.text[known.range()] == key;
        self.fields.iter().position(|(known, _)| is_key(*known))
    }

    fn store(&mut self, value: FieldValue<'_>) -> Stored {
        match value {
            FieldValue::Float(number) => Stored::Float(number),
            FieldValue::Integer(number) => Stored::Integer(number),
            FieldValue::Boolean(truth) => Stored::Boolean(truth),
            FieldValue::Text(text) => Stored::Text(self.keep(&[text])),
        }
    }

    fn keep(&mut self, parts: &[&str]) -> Span {
        let start = self.offset();
        for part in parts {
            self.text.push_str(part);
        }
        Span { start, end: self.offset() }
    }

    fn offset(&self) -> u32 {
        u32::try_from(self.text.len()).expect("the text of one point is far below 4 GiB: a frame has at most 64 MiB")
    }
}

impl Span {
    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

#[cfg(test)]
mod tests {
    use super::{FieldValue, Point};

    #[test]
    fn a_cleared_point_holds_nothing_of_the_one_before() {
        let mut point = Point::default();
        point.set_measurement(&["W"]);
        point.set_tag("domain", "sensor");
        point.push_field(&["friendly_name", "_str"], FieldValue::Text("P"));
        point.clear();
        assert_eq!((point.measurement(), point.tags().count(), point.fields().count()), ("", 0, 0));
    }

    #[test]
    fn a_tag_set_twice_has_the_last_value_and_sorting_orders_by_key() {
        let mut point = Point::default();
        point.set_tag("entity_id", "p");
        point.set_tag("domain", "sensor");
        point.set_tag("domain", "xx");
        point.push_field(&["value"], FieldValue::Float(1.0));
        point.push_field(&["a", "_str"], FieldValue::Text("t"));
        point.sort();
        assert_eq!(point.tags().collect::<Vec<_>>(), [("domain", "xx"), ("entity_id", "p")]);
        point.set_tag("domain", "");
        assert_eq!(point.tags().collect::<Vec<_>>(), [("entity_id", "p")]);
        let fields: Vec<_> = point.fields().collect();
        assert_eq!(fields, [("a_str", FieldValue::Text("t")), ("value", FieldValue::Float(1.0))]);
        assert!(point.has_field("a_str") && !point.has_field("a"));
    }

    #[test]
    fn a_field_can_be_replaced_renamed_and_taken_away() {
        let mut point = Point::default();
        point.set_field("time", FieldValue::Float(1.0));
        point.set_field("time", FieldValue::Text("t"));
        point.rename_field("time", "time_");
        point.set_field("value", FieldValue::Float(2.0));
        point.remove_field("value");
        point.remove_field("value");
        assert_eq!(point.fields().collect::<Vec<_>>(), [("time_", FieldValue::Text("t"))]);
    }

    #[test]
    fn a_text_that_is_set_again_and_again_does_not_make_the_point_grow() {
        let mut point = Point::default();
        point.set_field("state", FieldValue::Text(""));
        point.set_field("a_str", FieldValue::Text("A"));
        for text in ["heat", "off", "", "heat and cool"].repeat(100) {
            point.set_field("state", FieldValue::Text(text));
            let fields: Vec<_> = point.fields().collect();
            assert_eq!(fields, [("state", FieldValue::Text(text)), ("a_str", FieldValue::Text("A"))]);
        }
        assert_eq!(point.text, "statea_strAheat and cool");
    }
}
