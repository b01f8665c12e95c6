//! Flux, and the annotated CSV in which InfluxDB 2 answers.

use std::collections::BTreeMap;

use serde_json::json;

use super::Found;
use crate::line::read::Series;
use crate::model::time::Timestamp;

/// The first columns of each row, which are no tags: an annotation, the name of the result, the number of the table.
const OWN_COLUMNS: usize = 3;

pub(super) fn body(bucket: &str, fields: &[&(String, String)], from: Timestamp, until: Timestamp) -> String {
    let mut by_measurement: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (measurement, field) in fields {
        by_measurement.entry(measurement).or_default().push(format!("r._field == {}", text(field)));
    }
    let one = |(measurement, fields): (&str, Vec<String>)| {
        format!("r._measurement == {} and ({})", text(measurement), fields.join(" or "))
    };
    let condition = by_measurement.into_iter().map(one).collect::<Vec<_>>().join(" or ");
    let flux = format!(
        "from(bucket: {}) |> range(start: {from}, stop: {until}) |> filter(fn: (r) => {condition}) \
         |> drop(columns: [\"_start\", \"_stop\", \"_value\"])",
        text(bucket)
    );
    json!({"query": flux, "type": "flux", "dialect": {"header": true, "annotations": [], "delimiter": ","}}).to_string()
}

/// A text of Flux.
fn text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${"))
}

/// Reads CSV line by line: the first line of a table names its columns, and an empty one ends the answer, or comes before
/// a table with other columns.
#[derive(Default)]
pub(super) struct Table {
    columns: Vec<String>,
    /// A quoted value goes on in the next line.
    begun: String,
}

impl Table {
    pub(super) fn read(&mut self, line: &[u8], found: &mut Found) -> Result<(), String> {
        let line = str::from_utf8(line).map_err(|err| err.to_string())?.trim_end_matches('\r');
        if self.begun.is_empty() {
            line.clone_into(&mut self.begun);
        } else {
            self.begun.push('\n');
            self.begun.push_str(line);
        }
        if self.begun.matches('"').count() % 2 == 1 {
            return Ok(());
        }
        let row = std::mem::take(&mut self.begun);
        if row.is_empty() || row.starts_with('#') {
            self.columns.clear();
            return Ok(());
        }
        let cells = cells(&row);
        if self.columns.is_empty() {
            self.columns = cells;
            return Ok(());
        }
        // A tag may be called `error` as well.
        let is_error = self.columns.iter().skip_while(|column| column.is_empty()).eq(["error", "reference"]);
        if is_error {
            return Err(cells.into_iter().find(|cell| !cell.is_empty()).unwrap_or_default());
        }
        if cells.len() != self.columns.len() {
            return Err(format!("a row has {} values for {} columns", cells.len(), self.columns.len()));
        }
        self.take(&cells, found)
    }

    /// To be called at the end. Whoever is between us and the server may not notice that an answer is cut off.
    pub(super) fn finish(&self) -> Result<(), String> {
        if self.columns.is_empty() && self.begun.is_empty() {
            return Ok(());
        }
        Err("it is cut off before its end".to_owned())
    }

    fn take(&self, cells: &[String], found: &mut Found) -> Result<(), String> {
        let mut series = Series::default();
        let mut nanos = None;
        for (column, cell) in self.columns.iter().zip(cells).skip(OWN_COLUMNS) {
            match column.as_str() {
                "_time" => nanos = nanos_of(cell),
                "_measurement" => series.measurement.clone_from(cell),
                name if name.starts_with('_') || cell.is_empty() => {}
                name => drop(series.tags.insert(name.to_owned(), cell.clone())),
            }
        }
        found.entry(series).or_default().push(nanos.ok_or("a row without a time")?);
        Ok(())
    }
}

/// `2026-11-24T02:00:00.123456Z`, exactly.
pub(super) fn nanos_of(text: &str) -> Option<i64> {
    use time::format_description::well_known::Rfc3339;
    let moment = time::OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(moment.unix_timestamp_nanos()).ok()
}

/// RFC 4180.
fn cells(row: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    let mut letters = row.chars().peekable();
    while let Some(letter) = letters.next() {
        let cell = cells.last_mut().expect("there is always one");
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            letter => cell.push(letter),
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::{Found, Table, body};
    use crate::model::time::Timestamp;

    fn read(csv: &str) -> Result<Found, String> {
        let (mut found, mut table) = (Found::new(), Table::default());
        csv.split_terminator('\n').try_for_each(|line| table.read(line.as_bytes(), &mut found))?;
        table.finish()?;
        Ok(found)
    }

    #[test]
    fn tables_of_several_series_are_read() {
        let csv = ",result,table,_time,_field,_measurement,domain,entity_id\r\n\
                   ,_result,0,2026-11-24T02:00:00.123456Z,value,°C,sensor,\"a \"\"b\"\", c\"\r\n\
                   ,_result,0,2026-11-24T02:00:01Z,value,°C,sensor,\"a \"\"b\"\", c\"\r\n\r\n\
                   ,result,table,_time,_field,_measurement,domain\r\n\
                   ,_result,1,2026-11-24T02:00:00Z,state,m,\r\n\r\n";
        let found = read(csv).unwrap();
        assert_eq!(found.len(), 2);
        let (series, times) = found.iter().find(|(series, _)| series.measurement == "°C").unwrap();
        assert_eq!(series.tags["entity_id"], "a \"b\", c");
        assert_eq!(times, &[1_795_485_600_123_456_000, 1_795_485_601_000_000_000]);
        assert!(found.keys().any(|series| series.measurement == "m" && series.tags.is_empty()));
        assert!(read("").unwrap().is_empty());
    }

    #[test]
    fn an_error_in_a_success_is_one() {
        assert_eq!(read("error,reference\r\nout of memory,897\r\n").unwrap_err(), "out of memory");
        let begun = ",result,table,_time,_measurement,error\r\n,_result,0,2026-11-24T02:00:00Z,m,x\r\n\r\n";
        assert_eq!(read(begun).unwrap().keys().next().unwrap().tags["error"], "x", "a tag may have that name");
        let late = format!("{begun},error,reference\r\n,out of memory,\r\n");
        assert_eq!(read(&late).unwrap_err(), "out of memory");
    }

    #[test]
    fn an_answer_without_its_end_is_none() {
        let whole = ",result,table,_time,_measurement,a\r\n,_result,0,2026-11-24T02:00:00Z,m,\"x y\"\r\n\r\n";
        for end in 1..whole.len() - 1 {
            assert!(read(&whole[..end]).is_err(), "{:?}", &whole[..end]);
        }
        assert!(read(whole).is_ok());
    }

    #[test]
    fn texts_cannot_end_early() {
        let fields = ("m\"${x}".to_owned(), "v".to_owned());
        let asked = body("b\\", &[&fields], Timestamp::from_micros(0), Timestamp::from_micros(1));
        let asked: serde_json::Value = serde_json::from_str(&asked).unwrap();
        let expected = r#"from(bucket: "b\\") |> range(start: 1970-01-01T00:00:00.000000Z, stop: 1970-01-01T00:00:00.000001Z) |> filter(fn: (r) => r._measurement == "m\"\${x}" and (r._field == "v")) |> drop(columns: ["_start", "_stop", "_value"])"#;
        assert_eq!(asked["query"], expected);
    }
}
