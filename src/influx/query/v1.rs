//! `InfluxQL`, and the pieces in which InfluxDB 1 answers.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

use super::Found;
use crate::line::read::Series;
use crate::model::time::Timestamp;

#[derive(Deserialize)]
pub(super) struct Piece {
    #[serde(default)]
    pub(super) results: Vec<Result>,
    pub(super) error: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Result {
    #[serde(default)]
    series: Vec<Rows>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Rows {
    name: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<Time>,
}

/// The first column of a row.
struct Time(i64);

/// One statement for each measurement: over several, a field has only one of the types that it has.
pub(super) fn statements(
    fields: &[&(String, String)],
    policy: Option<&str>,
    from: Timestamp,
    until: Timestamp,
) -> String {
    let mut by_measurement: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (measurement, field) in fields {
        by_measurement.entry(measurement).or_default().push(identifier(field));
    }
    let policy = policy.map(|policy| format!("{}.", identifier(policy))).unwrap_or_default();
    let statement = |(measurement, fields): (&str, Vec<String>)| {
        let (from, until) = (from.as_nanos(), until.as_nanos());
        let (fields, measurement) = (fields.join(","), identifier(measurement));
        format!("SELECT {fields} FROM {policy}{measurement} WHERE time >= {from} AND time < {until} GROUP BY *")
    };
    by_measurement.into_iter().map(statement).collect::<Vec<_>>().join(";")
}

pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// One piece of an answer.
pub(super) fn read(line: &[u8], found: &mut Found) -> std::result::Result<(), String> {
    for result in read_piece(line)? {
        for rows in result.series {
            let tags = rows.tags.into_iter().filter(|(_, value)| !value.is_empty()).collect();
            let times = found.entry(Series { measurement: rows.name, tags }).or_default();
            times.extend(rows.values.iter().map(|time| time.0));
        }
    }
    Ok(())
}

pub(super) fn read_piece(line: &[u8]) -> std::result::Result<Vec<Result>, String> {
    if line.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let piece: Piece = serde_json::from_slice(line).map_err(|err| err.to_string())?;
    match piece.error.or_else(|| piece.results.iter().find_map(|result| result.error.clone())) {
        Some(error) => Err(error),
        None => Ok(piece.results),
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Row;
        impl<'de> Visitor<'de> for Row {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row that begins with its time")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut row: A) -> std::result::Result<Time, A::Error> {
                let time = row.next_element()?.ok_or_else(|| serde::de::Error::invalid_length(0, &self))?;
                while row.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Time(time))
            }
        }
        deserializer.deserialize_seq(Row)
    }
}

#[cfg(test)]
mod tests {
    use super::{Found, read, statements};
    use crate::model::time::Timestamp;

    #[test]
    fn names_are_what_they_are_whatever_is_in_them() {
        let fields = [("a \"b\\".to_owned(), "va,lue".to_owned()), ("m".to_owned(), "x".to_owned())];
        let (from, until) = (Timestamp::from_micros(1), Timestamp::from_micros(2));
        let asked = statements(&[&fields[0], &fields[1]], Some("one year"), from, until);
        let expected = r#"SELECT "va,lue" FROM "one year"."a \"b\\" WHERE time >= 1000 AND time < 2000 GROUP BY *;SELECT "x" FROM "one year"."m" WHERE time >= 1000 AND time < 2000 GROUP BY *"#;
        assert_eq!(asked, expected);
    }

    #[test]
    fn pieces_add_up_and_an_error_in_a_success_is_one() {
        let mut found = Found::new();
        let one = r#"{"results":[{"statement_id":0,"series":[{"name":"m","tags":{"a":"x y","b":""},"columns":["time","value"],"values":[[1000,1.5],[2000,null]],"partial":true}],"partial":true}]}"#;
        read(one.as_bytes(), &mut found).unwrap();
        read(one.replace("1000", "3000").as_bytes(), &mut found).unwrap();
        read(br#"{"results":[{"statement_id":0}]}"#, &mut found).unwrap();
        read(b"", &mut found).unwrap();
        let (series, times) = found.iter().next().unwrap();
        assert_eq!((&*series.measurement, series.tags.len(), &*series.tags["a"]), ("m", 1, "x y"));
        assert_eq!(times, &[1000, 2000, 3000, 2000]);
        for bad in [r#"{"results":[{"error":"database not found: x"}]}"#, r#"{"error":"timeout"}"#, "{"] {
            assert!(read(bad.as_bytes(), &mut found).is_err(), "{bad}");
        }
    }
}
