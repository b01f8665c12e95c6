//! Points that no home should send: every text may stand anywhere, and the texts are chosen to hurt.

use ha_ingestor::model::point::{FieldValue, Point};
use ha_ingestor::model::time::Timestamp;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;

/// Whole names that mean something to somebody.
const WORDS: &[&str] = &["time", "_field", "_measurement", "domain", "domain_", "value", "value_", "#", ""];

const ASCII: &[&str] = &[
    ",", "=", " ", "\\", "\\", "\"", "'", "#", "\n", "\r", "\t", "\0", "\u{1b}", "\u{7f}", "/", "a", "n", "true", "1",
    "2i", "-", "_",
];

const UNICODE: &[&str] =
    &["°C", "é", "µg/m³", "🏠", "客厅", "\u{ff03}", "\u{85}", "\u{a0}", "\u{2028}", "\u{feff}", "e\u{301}"];

#[derive(Debug, Clone)]
pub(crate) struct NastyPoint {
    measurement: String,
    tags: Vec<(String, String)>,
    fields: Vec<(String, NastyValue)>,
    micros: i64,
    /// As the pipeline hands it over.
    sorted: bool,
}

#[derive(Debug, Clone)]
enum NastyValue {
    Float(f64),
    Integer(i64),
    Boolean(bool),
    Text(String),
}

impl NastyPoint {
    pub(crate) fn point(&self) -> Point {
        let mut point = Point::default();
        point.set_time(Timestamp::from_micros(self.micros));
        point.set_measurement(&[&self.measurement]);
        for (key, value) in &self.tags {
            point.set_tag(key, value);
        }
        for (key, value) in &self.fields {
            let value = match value {
                NastyValue::Float(number) => FieldValue::Float(*number),
                NastyValue::Integer(number) => FieldValue::Integer(*number),
                NastyValue::Boolean(truth) => FieldValue::Boolean(*truth),
                NastyValue::Text(text) => FieldValue::Text(text),
            };
            point.push_field(&[key], value);
        }
        if self.sorted {
            point.sort();
        }
        point
    }
}

/// `micros` gives the time of each point.
pub(crate) fn points(micros: impl Strategy<Value = i64>) -> impl Strategy<Value = NastyPoint> {
    (text(), vec((text(), text()), 0..5), vec((text(), value()), 0..6), micros, any::<bool>()).prop_map(
        |(measurement, tags, fields, micros, sorted)| NastyPoint { measurement, tags, fields, micros, sorted },
    )
}

fn value() -> impl Strategy<Value = NastyValue> {
    prop_oneof![
        any::<f64>().prop_map(NastyValue::Float),
        any::<u64>().prop_map(|bits| NastyValue::Float(f64::from_bits(bits))),
        prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-0.0), Just(28.0), Just(1e-5)]
            .prop_map(NastyValue::Float),
        any::<i64>().prop_map(NastyValue::Integer),
        any::<bool>().prop_map(NastyValue::Boolean),
        text().prop_map(NastyValue::Text),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => vec(piece(), 0..6).prop_map(|pieces| pieces.concat()),
        3 => select(WORDS).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

/// Separators, what escapes them, what ends a line or a text, and a few ordinary letters between them.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        5 => select(ASCII).prop_map(str::to_owned),
        1 => select(UNICODE).prop_map(str::to_owned),
    ]
}
