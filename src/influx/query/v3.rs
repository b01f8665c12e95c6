//! SQL, and the lines of JSON in which InfluxDB 3 answers.
//!
//! A tag is a column like a field is, so the columns of a measurement are asked for first.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::Found;
use crate::line::read::Series;
use crate::model::time::Timestamp;

/// What the time is called in an answer. No tag of ours is called so.
const NANOS: &str = "__nanos";

/// The columns of each measurement, and which are tags.
#[derive(Default)]
pub(super) struct Columns(BTreeMap<String, BTreeMap<String, bool>>);

#[derive(Deserialize)]
struct Column {
    #[serde(rename = "table_name")]
    table: String,
    #[serde(rename = "column_name")]
    name: String,
    #[serde(rename = "data_type")]
    kind: String,
}

pub(super) fn columns(measurements: &BTreeSet<&str>) -> String {
    let names: Vec<String> = measurements.iter().map(|name| literal(name)).collect();
    format!(
        "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'iox' AND \
         table_name IN ({})",
        names.join(", ")
    )
}

impl Columns {
    pub(super) fn read(&mut self, line: &[u8]) -> Result<(), String> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let column: Column = serde_json::from_slice(line).map_err(|err| err.to_string())?;
        let is_tag = column.kind.starts_with("Dictionary");
        self.0.entry(column.table).or_default().insert(column.name, is_tag);
        Ok(())
    }

    /// `None`: the database has no such points.
    pub(super) fn select<'a>(
        &self,
        measurement: &str,
        fields: impl Iterator<Item = &'a str>,
        from: Timestamp,
        until: Timestamp,
    ) -> Option<String> {
        let columns = self.0.get(measurement)?;
        let known = fields.filter(|field| columns.contains_key(*field));
        let conditions: Vec<String> = known.map(|field| format!("{} IS NOT NULL", identifier(field))).collect();
        if conditions.is_empty() {
            return None;
        }
        let mut selected = vec![format!("CAST(time AS BIGINT) AS {}", identifier(NANOS))];
        selected.extend(columns.iter().filter(|(_, is_tag)| **is_tag).map(|(name, _)| identifier(name)));
        Some(format!(
            "SELECT {} FROM {} WHERE time >= TIMESTAMP {} AND time < TIMESTAMP {} AND ({})",
            selected.join(", "),
            identifier(measurement),
            literal(&from.to_string()),
            literal(&until.to_string()),
            conditions.join(" OR ")
        ))
    }
}

pub(super) fn read(line: &[u8], measurement: &str, found: &mut Found) -> Result<(), String> {
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    let row: BTreeMap<String, Value> = serde_json::from_slice(line).map_err(|err| err.to_string())?;
    let nanos = row.get(NANOS).and_then(Value::as_i64).ok_or("a row without a time")?;
    let tags = row.into_iter().filter_map(|(name, value)| match value {
        Value::String(value) if !value.is_empty() => Some((name, value)),
        _ => None,
    });
    let series = Series { measurement: measurement.to_owned(), tags: tags.collect() };
    found.entry(series).or_default().push(nanos);
    Ok(())
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::{Columns, Found, columns, read};
    use crate::model::time::Timestamp;

    #[test]
    fn tags_are_told_from_fields_and_names_are_what_they_are() {
        assert!(columns(&["it's"].into()).ends_with("table_name IN ('it''s')"));
        let mut known = Columns::default();
        for (name, kind) in
            [("time", "Timestamp(Nanosecond, None)"), ("a\"b", "Dictionary(Int32, Utf8)"), ("value", "Float64")]
        {
            let row = serde_json::json!({"table_name": "m", "column_name": name, "data_type": kind});
            known.read(row.to_string().as_bytes()).unwrap();
        }
        let select = |measurement, fields: [&'static str; 2]| {
            known.select(measurement, fields.into_iter(), Timestamp::from_micros(0), Timestamp::from_micros(1))
        };
        let expected = r#"SELECT CAST(time AS BIGINT) AS "__nanos", "a""b" FROM "m" WHERE time >= TIMESTAMP '1970-01-01T00:00:00.000000Z' AND time < TIMESTAMP '1970-01-01T00:00:00.000001Z' AND ("value" IS NOT NULL)"#;
        assert_eq!(select("m", ["value", "state"]).as_deref(), Some(expected));
        assert_eq!((select("m", ["x", "y"]), select("n", ["value", "state"])), (None, None));
    }

    #[test]
    fn a_row_is_a_point() {
        let mut found = Found::new();
        read(br#"{"__nanos":1000,"entity_id":"x y","area":null}"#, "m", &mut found).unwrap();
        read(b"", "m", &mut found).unwrap();
        let (series, times) = found.iter().next().unwrap();
        assert_eq!((series.tags.len(), &*series.tags["entity_id"], &times[..]), (1, "x y", &[1000][..]));
        assert!(read(br#"{"error":"x"}"#, "m", &mut found).is_err());
    }
}
