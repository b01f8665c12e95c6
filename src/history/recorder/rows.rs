//! The answer of `history/history_during_period`, read.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::windows::Window;

use crate::model::entity::EntityId;
use crate::model::event::StateChange;
use crate::model::json::{Json, Object, Text};
use crate::model::time::Timestamp;
use crate::model::value::Attributes;

/// What happened in a window.
#[derive(Debug, Default, PartialEq)]
pub struct Rows {
    /// In the order of the answer; of each entity the oldest first.
    pub entities: Vec<(EntityId, Vec<Row>)>,
    /// Rows that are not what rows are, and those of entities that nobody asked about.
    pub unreadable: u64,
    /// Of the answer.
    pub bytes: usize,
}

/// A state that an entity had. Its attributes are without those that the recorder does not keep.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub state: Arc<str>,
    pub attributes: Arc<Attributes>,
    pub last_updated: Timestamp,
    /// When the state itself became what it is.
    pub last_changed: Timestamp,
}

impl Rows {
    #[must_use]
    pub fn count(&self) -> u64 {
        self.entities.iter().map(|(_, rows)| rows.len() as u64).sum()
    }
}

impl Row {
    /// As the session would have told it, but for the context, which history does not have.
    #[must_use]
    pub fn into_change(self, entity: &EntityId) -> StateChange {
        StateChange {
            entity: entity.clone(),
            state: self.state,
            attributes: self.attributes,
            last_updated: self.last_updated,
            context: None,
        }
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    /// `null` (before 2026: and an empty text, which may be a state, after) where the entity was removed.
    #[serde(borrow)]
    s: Option<Text<'a>>,
    #[serde(borrow, default)]
    a: Option<&'a RawValue>,
    lu: f64,
    lc: Option<f64>,
}

/// Reads `result`, the answer for `window`. What is not within its time is left out, as are removals.
///
/// # Errors
/// It is not an object.
pub fn read(result: &str, window: &Window) -> Result<Rows, serde_json::Error> {
    let lists: Object<'_, &RawValue> = serde_json::from_str(result)?;
    let asked: HashSet<&str> = window.entities.iter().map(EntityId::as_str).collect();
    let mut rows = Rows::default();
    for (id, list) in lists.0 {
        let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(list.get()) else {
            rows.unreadable += 1;
            continue;
        };
        let Some(entity) = EntityId::parse(&id).ok().filter(|entity| asked.contains(entity.as_str())) else {
            rows.unreadable += list.len() as u64;
            continue;
        };
        let mut read = Vec::with_capacity(list.len());
        // Attributes mostly stay as they were, letter for letter.
        let mut before: Option<(&str, Arc<Attributes>)> = None;
        for raw in list {
            let Some((row, attributes)) = read_row(raw.get(), before.take()) else {
                rows.unreadable += 1;
                continue;
            };
            before = attributes;
            read.extend(row.filter(|row| (window.from..window.until).contains(&row.last_updated)));
        }
        // Two rows of one moment come in the order of the database, which is that of the times otherwise.
        read.sort_by_key(|row: &Row| row.last_updated);
        if !read.is_empty() {
            rows.entities.push((entity, read));
        }
    }
    Ok(rows)
}

type Shared<'a> = Option<(&'a str, Arc<Attributes>)>;

/// The row, unless it is a removal, and its attributes for the next. `None`: it cannot be read.
fn read_row<'a>(text: &'a str, before: Shared<'a>) -> Option<(Option<Row>, Shared<'a>)> {
    let body: Body<'a> = serde_json::from_str(text).ok()?;
    let Some(state) = body.s.filter(|state| !state.0.is_empty()) else { return Some((None, before)) };
    let last_updated = Timestamp::from_unix_seconds(body.lu)?;
    let last_changed = body.lc.map_or(Some(last_updated), Timestamp::from_unix_seconds)?;
    let raw = body.a.map_or("{}", RawValue::get);
    let attributes = match before {
        Some((same, attributes)) if same == raw => attributes,
        _ => {
            let pairs: Object<'_, Json> = serde_json::from_str(raw).ok()?;
            Arc::new(pairs.0.into_iter().map(|(name, value)| (name.into(), value.0)).collect())
        }
    };
    let row = Row { state: state.0.into(), attributes: Arc::clone(&attributes), last_updated, last_changed };
    Some((Some(row), Some((raw, attributes))))
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::history::recorder::windows::Window;
    use crate::model::entity::EntityId;
    use crate::model::time::Timestamp;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    /// For `a.b`, `a.c` and `sensor.lab2`.
    fn window(from: i64, until: i64) -> Window {
        let entities = ["a.b", "a.c", "sensor.lab2"].map(|id| EntityId::parse(id).unwrap());
        Window { entities: entities.into(), from: at(from), until: at(until) }
    }

    /// `entity state attributes last_updated last_changed`, by line.
    fn shown(result: &str, from: i64, until: i64) -> (Vec<String>, u64) {
        let rows = read(result, &window(from, until)).unwrap();
        let lines = rows.entities.iter().flat_map(|(entity, rows)| {
            rows.iter().map(move |row| {
                let names: Vec<&str> = row.attributes.iter().map(|(name, _)| name).collect();
                let (updated, changed) = (row.last_updated.as_micros(), row.last_changed.as_micros());
                format!("{entity} {} {} {updated} {changed}", row.state, names.join("+"))
            })
        });
        (lines.collect(), rows.unreadable)
    }

    #[test]
    fn rows_have_the_times_that_live_changes_have() {
        let answer = r#"{"sensor.lab2":[{"s":"20","a":{"k":0},"lu":1795439842.618874},
            {"s":"20","a":{"k":1,"z":[]},"lu":1795439842.6224735,"lc":1795439842.618874}]}"#;
        let expected = [
            "sensor.lab2 20 k 1795439842618874 1795439842618874",
            "sensor.lab2 20 k+z 1795439842622473 1795439842618874",
        ];
        assert_eq!(shown(answer, 0, i64::MAX), (expected.map(String::from).into(), 0));
    }

    #[test]
    fn what_is_outside_of_the_window_and_removals_are_left_out() {
        let answer = r#"{"a.b":[{"s":"1","a":{},"lu":1.0},{"s":"2","a":{},"lu":2.0},{"s":null,"a":{},"lu":2.5},
            {"s":"","a":{},"lu":2.6},{"s":"unknown","a":{},"lu":2.7},{"s":"3","a":{},"lu":3.0}],"a.c":[]}"#;
        let expected = ["a.b 2  2000000 2000000", "a.b unknown  2700000 2700000"];
        assert_eq!(shown(answer, 2_000_000, 3_000_000), (expected.map(String::from).into(), 0));
        assert_eq!(shown("{}", 0, 1), (vec![], 0));
    }

    #[test]
    fn what_is_no_row_costs_nothing_else() {
        let answer = r#"{"a.b":[7,{"s":1,"lu":1.0},{"s":"x","lu":"1"},{"s":"x","a":[],"lu":1.0},{"s":"y","lu":1.0}],
            "none":[{"s":"x","lu":1.0}]}"#;
        assert_eq!(shown(answer, 0, 2_000_000), (vec!["a.b y  1000000 1000000".to_owned()], 5));
        assert_eq!(shown(r#"{"a.b":7,"a.c":[{"s":"1","lu":1.0}]}"#, 0, 2_000_000).1, 1, "no list of rows");
        let foreign = r#"{"c.d":[{"s":"1","lu":1.0},{"s":"2","lu":1.5}],"a.c":[{"s":"1","lu":1.0}]}"#;
        assert_eq!(
            shown(foreign, 0, 2_000_000),
            (vec!["a.c 1  1000000 1000000".to_owned()], 2),
            "nobody asked about c.d"
        );
        for cut_off in ["", "[]", r#"{"a.b":[{"s":"1""#] {
            assert!(read(cut_off, &window(0, 1)).is_err(), "{cut_off}");
        }
    }

    #[test]
    fn attributes_that_stay_are_kept_once() {
        let answer =
            r#"{"a.b":[{"s":"1","a":{"k":0},"lu":1.0},{"s":"2","a":{"k":0},"lu":2.0},{"s":"3","a":{"k":1},"lu":3.0}]}"#;
        let rows = read(answer, &window(0, i64::MAX)).unwrap();
        let [one, two, three] = &rows.entities[0].1[..] else { panic!("{rows:?}") };
        assert!(std::sync::Arc::ptr_eq(&one.attributes, &two.attributes));
        assert_ne!(two.attributes, three.attributes);
    }
}
