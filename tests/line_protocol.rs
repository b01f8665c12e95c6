//! Whatever a point holds, its line means the same to every reader of line protocol.

use std::collections::BTreeMap;

use ha_ingestor::line::encode::{Encoded, encode};
use ha_ingestor::model::fate::Refused;
use ha_ingestor::model::point::{FieldValue, Point};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use support::nasty::points;
use support::readers::{read_as_influxdb_1, read_as_influxdb_3};
use support::reading::{Reading, Value, promised};

mod support {
    pub(crate) mod nasty;
    pub(crate) mod readers;
    pub(crate) mod reading;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_point_becomes_one_line_that_every_reader_understands_or_is_refused_by_name(
        point in points(prop_oneof![any::<i64>(), i64::MIN / 1_000..i64::MAX / 1_000, 0_i64..2_000_000_000_000_000])
    ) {
        let point = point.point();
        let mut line = b"before\n".to_vec();
        let outcome = encode(&point, &mut line);
        let line = String::from_utf8(line).unwrap();
        let line = line.strip_prefix("before\n").unwrap();
        match (outcome, promised(&point)) {
            (Ok(encoded), Some(promised)) => {
                prop_assert!(!line.contains(['\n', '\r']), "{:?}", line);
                prop_assert_eq!(read_as_influxdb_3(line), Ok(promised.clone()), "{:?}", line);
                prop_assert_eq!(read_as_influxdb_1(line), Ok(promised.clone()), "{:?}", line);
                let omitted = point.fields().count() - promised.fields.len();
                prop_assert_eq!(usize::try_from(encoded.omitted_fields).unwrap(), omitted);
                let unchanged = as_given(&point).is_some_and(|given| given == promised);
                prop_assert_eq!(encoded == Encoded::default(), unchanged, "{:?}", line);
            }
            (Err(refused), None) => {
                prop_assert_eq!(line, "");
                let expected = if point.time().as_micros().checked_mul(1_000).is_none() {
                    Refused::TimeOutOfRange
                } else if point.measurement().is_empty() {
                    Refused::NoMeasurement
                } else {
                    Refused::NoFields
                };
                prop_assert_eq!(refused, expected);
            }
            (outcome, promised) => prop_assert!(false, "{:?} instead of {:?}", outcome, promised),
        }
    }
}

#[test]
fn the_readers_see_what_a_careless_encoder_would_do() {
    // Without these the property above could hold because the readers take everything.
    let table = [
        r"m,a=x\,b=y f=1 1",  // the tag swallows its separator
        r"m,a=x\\,b=y f=1 1", // InfluxDB 1 reads one tag, InfluxDB 3 two
        r"m\ f=1 1",
        "m f=1\nn f=2 1",
        "#m f=1 1",
        "m,time=1 f=1 1",
        "m time=1 1",
        "m,a= f=1 1",
        "m,a=1,a=2 f=1 1",
        "m f=NaN 1",
        "m f=inf 1",
        "m f=+1 1",
        "m f=1",
        "m  1",
    ];
    for line in table {
        let (v1, v3) = (read_as_influxdb_1(line), read_as_influxdb_3(line));
        assert!(v1.is_err() || v1 != v3, "{line:?} is read as {v1:?}");
    }
}

/// The reading of a line that needed no change. `None` if a field is there twice.
fn as_given(point: &Point) -> Option<Reading> {
    let tags: BTreeMap<_, _> = point
        .tags()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let mut fields = BTreeMap::new();
    for (key, value) in point.fields() {
        let value = match value {
            FieldValue::Float(number) => Value::Float(number),
            FieldValue::Integer(number) => Value::Integer(number),
            FieldValue::Boolean(truth) => Value::Boolean(truth),
            FieldValue::Text(text) => Value::Text(text.to_owned()),
        };
        if fields.insert(key.to_owned(), value).is_some() {
            return None;
        }
    }
    let nanos = point.time().as_micros().checked_mul(1_000)?;
    Some(Reading { measurement: point.measurement().to_owned(), tags, fields, nanos })
}
