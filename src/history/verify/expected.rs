//! The points that Home Assistant knows of one step of time, ready to be compared.

use std::collections::{BTreeSet, HashMap};

use super::compare::Expected;
use crate::line::encode::encode;
use crate::line::read::{Series, read};
use crate::model::point::Point;
use crate::model::record::{Batch, Record};
use crate::model::time::Timestamp;

/// The name that a state goes by, if it is a number and if it is none.
const STATE_FIELDS: [&str; 2] = ["value", "state"];

/// Which fields are asked for, so that a point of each is found: measurement and field.
#[derive(Debug, Default)]
pub struct Asked {
    pub any: BTreeSet<(String, String)>,
    pub numbers: BTreeSet<(String, String)>,
}

#[derive(Debug, Default)]
pub struct Expectations {
    /// Ascending in each series, once sorted.
    pub series: HashMap<Series, Vec<Expected>>,
    lines: Vec<u8>,
}

impl Expectations {
    /// What cannot be a line is not expected. Returns the series.
    pub fn expect(&mut self, entity: usize, point: &Point, is_optional: bool, asked: &mut Asked) -> Option<Series> {
        let start = self.lines.len();
        encode(point, &mut self.lines).ok()?;
        let line = read(&self.lines[start..])?;
        self.lines.push(b'\n');
        let measurement = &line.series.measurement;
        let has = |key: &&str| line.fields.iter().any(|field| field.key == *key);
        let first = line.fields.first().map(|field| field.key.as_str());
        let name = STATE_FIELDS.into_iter().find(has).or(first)?;
        let is_number = |key: &str| line.fields.iter().any(|field| field.key == key && !field.is_text);
        let numbers = line.fields.iter().find(|field| !field.is_text).map(|field| field.key.as_str());
        let number = STATE_FIELDS.into_iter().find(|key| is_number(key)).or(numbers);
        asked.any.insert((measurement.clone(), name.to_owned()));
        if let Some(number) = number {
            asked.numbers.insert((measurement.clone(), number.to_owned()));
        }
        let has_number = number.is_some();
        let expected = Expected { nanos: line.nanos, entity, is_optional, line: start..self.lines.len(), has_number };
        self.series.entry(line.series.clone()).or_default().push(expected);
        Some(line.series)
    }

    pub fn sort(&mut self) {
        for points in self.series.values_mut() {
            // Of two at the same time the first counts: the one that says more.
            points.sort_by_key(|point| (point.nanos, point.is_optional, !point.has_number));
        }
    }

    pub fn clear(&mut self) {
        self.series.clear();
        self.lines.clear();
    }

    /// Lines to be written, in parts of at most so many points and about so many bytes.
    pub fn batches<'a>(
        &'a self,
        points: &'a [Expected],
        most_points: usize,
        most_bytes: usize,
    ) -> impl Iterator<Item = Batch> + 'a {
        let mut rest = points.iter().peekable();
        std::iter::from_fn(move || {
            let mut batch = Batch::default();
            while let Some(point) = rest.peek() {
                if !batch.is_empty()
                    && (batch.len() >= most_points || batch.bytes().len() + point.line.len() > most_bytes)
                {
                    break;
                }
                let time = Timestamp::from_micros(point.nanos.div_euclid(1_000));
                let bytes = &self.lines[point.line.clone()];
                batch.push(batch.len() as u64, Record { time, context: None, bytes });
                rest.next();
            }
            (!batch.is_empty()).then_some(batch)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, Expectations};
    use crate::model::point::{FieldValue, Point};
    use crate::model::time::Timestamp;

    fn check(fields: &[(&str, FieldValue<'_>)], any: &str, number: Option<&str>) {
        let mut point = Point::default();
        point.set_measurement(&["m"]);
        for (key, value) in fields {
            point.push_field(&[*key], *value);
        }
        point.set_time(Timestamp::from_micros(3));
        let (mut step, mut asked) = (Expectations::default(), Asked::default());
        let series = step.expect(4, &point, false, &mut asked).unwrap();
        assert_eq!(step.series[&series][0].has_number, number.is_some());
        assert_eq!(asked.any.into_iter().collect::<Vec<_>>(), [("m".to_owned(), any.to_owned())]);
        let numbers: Vec<_> = asked.numbers.into_iter().map(|(_, field)| field).collect();
        assert_eq!(numbers, number.into_iter().collect::<Vec<_>>());
        let batches: Vec<_> = step.batches(&step.series[&series], 10, 10).collect();
        assert!(batches.len() == 1 && batches[0].bytes().ends_with(b" 3000\n"), "{batches:?}");
    }

    #[test]
    fn the_field_that_every_such_point_has_is_asked_for() {
        let (text, number) = (FieldValue::Text("x"), FieldValue::Float(1.0));
        check(&[("a", number), ("state", text), ("value", number)], "value", Some("value"));
        check(&[("a", number), ("state", text)], "state", Some("a"));
        check(&[("a_str", text), ("b", number)], "a_str", Some("b"));
        check(&[("state", text)], "state", None);
    }
}
