//! The one question in Flux that a story needs, read by the grammar of Flux, and its answer in CSV.

use std::fmt::Write;

use ha_ingestor::model::time::Timestamp;

use crate::points::{Place, Points};

/// `and` binds closer than `or`.
enum Condition {
    Measurement(String),
    Field(String),
    All(Vec<Condition>),
    Any(Vec<Condition>),
}

impl Condition {
    fn holds(&self, measurement: &str, field: &str) -> bool {
        match self {
            Self::Measurement(name) => name == measurement,
            Self::Field(name) => name == field,
            Self::All(parts) => parts.iter().all(|part| part.holds(measurement, field)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(measurement, field)),
        }
    }
}

/// What is left of the question.
struct Rest<'a>(&'a str);

impl Rest<'_> {
    fn peek(&self, word: &str) -> bool {
        self.0.trim_start().starts_with(word)
    }

    fn take(&mut self, word: &str) -> Result<(), String> {
        let text = self.0.trim_start();
        self.0 = text.strip_prefix(word).ok_or_else(|| format!("expected `{word}` at `{text}`"))?;
        Ok(())
    }

    fn take_all(&mut self, words: &[&str]) -> Result<(), String> {
        words.iter().try_for_each(|word| self.take(word))
    }

    /// Up to what ends a literal that has no quotes.
    fn moment(&mut self) -> Result<i64, String> {
        let text = self.0.trim_start();
        let (moment, _) = text.split_once([',', ')']).ok_or("a time has no end")?;
        self.0 = &text[moment.len()..];
        Ok(Timestamp::from_rfc3339(moment).ok_or_else(|| format!("invalid time `{moment}`"))?.as_nanos())
    }

    fn text(&mut self) -> Result<String, String> {
        self.take("\"")?;
        let mut text = String::new();
        loop {
            let mut letters = self.0.chars();
            match letters.next().ok_or("a string has no end")? {
                '"' => {
                    self.0 = letters.as_str();
                    return Ok(text);
                }
                '$' if self.0.starts_with("${") => return Err("undefined identifier in an interpolation".to_owned()),
                '\\' if self.0.starts_with("\\${") => {
                    text.push_str("${");
                    self.0 = &self.0[3..];
                    continue;
                }
                '\\' => match letters.next() {
                    Some(escaped @ ('"' | '\\')) => text.push(escaped),
                    other => return Err(format!("invalid escape {other:?}")),
                },
                letter => text.push(letter),
            }
            self.0 = letters.as_str();
        }
    }

    fn any(&mut self) -> Result<Condition, String> {
        let mut parts = vec![self.all()?];
        while self.peek("or ") {
            self.take("or ")?;
            parts.push(self.all()?);
        }
        Ok(Condition::Any(parts))
    }

    fn all(&mut self) -> Result<Condition, String> {
        let mut parts = vec![self.one()?];
        while self.peek("and ") {
            self.take("and ")?;
            parts.push(self.one()?);
        }
        Ok(Condition::All(parts))
    }

    fn one(&mut self) -> Result<Condition, String> {
        if self.peek("(") {
            self.take("(")?;
            let inner = self.any()?;
            self.take(")")?;
            return Ok(inner);
        }
        if self.peek("r._measurement") {
            self.take_all(&["r._measurement", "=="])?;
            return Ok(Condition::Measurement(self.text()?));
        }
        self.take_all(&["r._field", "=="])?;
        Ok(Condition::Field(self.text()?))
    }
}

/// Tables by series and field: those with the columns of the one before go on without a heading.
pub fn answer(question: &str, bucket: &str, points: &Points) -> Result<String, String> {
    let mut rest = Rest(question);
    rest.take_all(&["from", "(", "bucket", ":"])?;
    let asked = rest.text()?;
    if asked != bucket {
        return Err(format!("failed to initialize execute state: could not find bucket {asked:?}"));
    }
    rest.take_all(&[")", "|>", "range", "(", "start", ":"])?;
    let from = rest.moment()?;
    rest.take_all(&[",", "stop", ":"])?;
    let until = rest.moment()?;
    if from >= until {
        return Err("cannot query an empty range".to_owned());
    }
    rest.take_all(&[")", "|>", "filter", "(", "fn", ":", "(", "r", ")", "=>"])?;
    let condition = rest.any()?;
    rest.take_all(&[")", "|>", "drop", "(", "columns", ":", "["])?;
    rest.take_all(&["\"_start\"", ",", "\"_stop\"", ",", "\"_value\"", "]", ")"])?;
    if !rest.0.trim().is_empty() {
        return Err(format!("unexpected `{}`", rest.0));
    }

    let mut rows: Vec<(&Place, &String)> = Vec::new();
    for (place, fields) in points.iter().filter(|(place, _)| (from..until).contains(&place.time)) {
        rows.extend(
            fields.keys().filter(|field| condition.holds(&place.series.measurement, field)).map(|field| (place, field)),
        );
    }
    rows.sort_by_key(|(place, field)| (&place.series, *field, place.time));
    Ok(csv(&rows))
}

fn csv(rows: &[(&Place, &String)]) -> String {
    let mut csv = String::new();
    let (mut columns, mut table, mut number) = (Vec::new(), None, 0);
    for (place, field) in rows {
        let own: Vec<&String> = place.series.tags.keys().collect();
        if table.replace((&place.series, *field)).is_some_and(|before| before != (&place.series, *field)) {
            number += 1;
        }
        if columns != own || csv.is_empty() {
            let end = if csv.is_empty() { "" } else { "\r\n" };
            write!(csv, "{end},result,table,_time,_field,_measurement{}\r\n", cells(own.iter().copied())).unwrap();
            columns = own;
        }
        let values = cells(place.series.tags.values());
        let (field, measurement) = (cell(field), cell(&place.series.measurement));
        write!(csv, ",_result,{number},{},{field},{measurement}{values}\r\n", moment(place.time)).unwrap();
    }
    csv + "\r\n"
}

/// As Go has times: no zeros at the end.
fn moment(nanos: i64) -> String {
    assert_eq!(nanos % 1_000, 0, "our times are of microseconds");
    let text = Timestamp::from_micros(nanos / 1_000).to_string();
    let short = text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.');
    format!("{short}Z")
}

/// Each after a comma.
fn cells<'a>(texts: impl Iterator<Item = &'a String>) -> String {
    texts.fold(String::new(), |row, text| row + "," + &cell(text))
}

fn cell(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) || text.starts_with(char::is_whitespace) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[test]
fn what_is_no_flux_is_not_understood() {
    let points = Points::new();
    let good = r#"from(bucket: "b") |> range(start: 2026-11-24T00:00:00Z, stop: 2026-11-24T01:00:00Z) |> filter(fn: (r) => r._measurement == "\${x}\"" and (r._field == "v" or r._field == "w")) |> drop(columns: ["_start", "_stop", "_value"])"#;
    assert_eq!(answer(good, "b", &points).unwrap(), "\r\n");
    for (from, to) in [
        ("\\${", "${"),
        ("\\\"", "\""),
        ("\"b\"", "\"c\""),
        ("T01", "T00"),
        ("\"v\" or", "'v' or"),
        ("|> drop", "|> keep"),
        ("\"v\"", "\"\\v\""),
    ] {
        assert!(answer(&good.replace(from, to), "b", &points).is_err(), "{from} {to}");
    }
}
