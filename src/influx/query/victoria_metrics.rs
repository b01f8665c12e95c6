//! `/api/v1/export` of VictoriaMetrics.
//!
//! It keeps each field as a series of its own, named by measurement and field, to the millisecond, and adds a tag `db`.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::Found;
use crate::line::read::Series;
use crate::model::time::Timestamp;

/// The tag with the name of the database.
const DATABASE: &str = "db";
const NAME: &str = "__name__";

/// From the name of a series to the measurements that it may be of.
pub(super) struct Names<'a>(HashMap<String, Vec<&'a str>>);

#[derive(Deserialize)]
struct Exported {
    metric: BTreeMap<String, String>,
    timestamps: Vec<i64>,
}

impl<'a> Names<'a> {
    pub(super) fn of(fields: &[&'a (String, String)]) -> Self {
        let mut names: HashMap<String, Vec<&'a str>> = HashMap::new();
        for (measurement, field) in fields {
            names.entry(format!("{measurement}_{field}")).or_default().push(measurement);
        }
        Self(names)
    }

    /// A form. Both bounds are inclusive there, and milliseconds here.
    pub(super) fn question(&self, from: Timestamp, until: Timestamp) -> String {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        let mut names: Vec<&String> = self.0.keys().collect();
        names.sort_unstable();
        for name in names {
            form.append_pair("match[]", &format!("{{{NAME}={}}}", quoted(name)));
        }
        form.append_pair("start", &seconds(from.as_micros().div_euclid(1_000)));
        form.append_pair("end", &seconds((until.as_micros() - 1).div_euclid(1_000)));
        form.append_pair("max_rows_per_line", "10000");
        form.finish()
    }

    pub(super) fn read(&self, line: &[u8], database: &str, found: &mut Found) -> Result<(), String> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let Exported { mut metric, timestamps } = serde_json::from_slice(line).map_err(|err| err.to_string())?;
        if metric.remove(DATABASE).is_some_and(|own| own != database) {
            return Ok(());
        }
        let name = metric.remove(NAME).unwrap_or_default();
        for measurement in self.0.get(&name).into_iter().flatten() {
            let series = Series { measurement: (*measurement).to_owned(), tags: metric.clone() };
            found.entry(series).or_default().extend(timestamps.iter().map(|millis| millis.saturating_mul(1_000_000)));
        }
        Ok(())
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn seconds(millis: i64) -> String {
    format!("{}.{:03}", millis.div_euclid(1_000), millis.rem_euclid(1_000))
}

#[cfg(test)]
mod tests {
    use super::{Found, Names};
    use crate::model::time::Timestamp;

    #[test]
    fn a_series_is_found_by_the_name_that_it_has_there() {
        let fields = [
            ("a\"b".to_owned(), "value".to_owned()),
            ("x".to_owned(), "y_z".to_owned()),
            ("x_y".to_owned(), "z".to_owned()),
        ];
        let names = Names::of(&fields.iter().collect::<Vec<_>>());
        let asked = names.question(Timestamp::from_micros(1_999), Timestamp::from_micros(3_000));
        let pairs: Vec<_> = url::form_urlencoded::parse(asked.as_bytes()).collect();
        assert_eq!(pairs[0].1, r#"{__name__="a\"b_value"}"#);
        assert_eq!((&*pairs[2].1, &*pairs[3].1), ("0.001", "0.002"));

        let mut found = Found::new();
        let read = |line: &str, found: &mut Found| names.read(line.as_bytes(), "home", found);
        read(
            r#"{"metric":{"__name__":"a\"b_value","db":"home","t":"1"},"values":[1,2],"timestamps":[1,2]}"#,
            &mut found,
        )
        .unwrap();
        read(r#"{"metric":{"__name__":"a\"b_value","db":"other","t":"1"},"values":[1],"timestamps":[9]}"#, &mut found)
            .unwrap();
        let (series, times) = found.iter().next().unwrap();
        assert_eq!((&*series.measurement, series.tags.len(), &times[..]), ("a\"b", 1, &[1_000_000, 2_000_000][..]));
        read(r#"{"metric":{"__name__":"x_y_z"},"values":[1],"timestamps":[1]}"#, &mut found).unwrap();
        assert_eq!(found.len(), 3, "who can tell which of them it is");
        assert!(read("{", &mut found).is_err());
    }
}
