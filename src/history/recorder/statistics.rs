//! Long-term statistics: what the recorder keeps of every hour for ever, as questions and answers.
//!
//! Pure.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::model::entity::EntityId;
use crate::model::json::{Object, Text};
use crate::model::time::Timestamp;

/// One hour of one entity. A measurement has a mean and extremes, a total has a state and a sum.
#[derive(Debug, Clone, PartialEq)]
pub struct Hour {
    /// When it began.
    pub start: Timestamp,
    pub mean: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub state: Option<f64>,
    pub sum: Option<f64>,
}

/// Statistics that there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub entity: EntityId,
    /// Of its unit, such as `temperature`. `None`: there is no other unit that it could be converted to.
    pub unit_class: Option<String>,
    /// That the recorder keeps it in.
    pub unit: Option<String>,
}

/// The result of `recorder/list_statistic_ids`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub described: Vec<Described>,
    /// Statistics that belong to no entity (`domain:name`).
    pub external: u64,
    /// What is in the list and describes none.
    pub unreadable: u64,
}

/// The hours of some entities.
#[derive(Debug, Default, PartialEq)]
pub struct Hours {
    /// In the order of the answer.
    pub entities: Vec<(EntityId, Vec<Hour>)>,
    /// Hours that are not what hours are, and those of entities that nobody asked about.
    pub unreadable: u64,
}

#[derive(Deserialize)]
struct Listed<'a> {
    #[serde(borrow)]
    statistic_id: Cow<'a, str>,
    #[serde(borrow, default)]
    unit_class: Option<Text<'a>>,
    #[serde(borrow, default)]
    statistics_unit_of_measurement: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Body {
    /// Milliseconds.
    start: f64,
    mean: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    state: Option<f64>,
    sum: Option<f64>,
}

/// # Errors
/// It is no list.
pub fn read_ids(result: &str) -> Result<Listing, serde_json::Error> {
    let listed: Vec<&RawValue> = serde_json::from_str(result)?;
    let mut listing = Listing::default();
    for raw in listed {
        let Ok(listed) = serde_json::from_str::<Listed<'_>>(raw.get()) else {
            listing.unreadable += 1;
            continue;
        };
        let Some(entity) = EntityId::parse(&listed.statistic_id).ok().filter(EntityId::is_valid) else {
            listing.external += 1;
            continue;
        };
        let text = |text: Option<Text<'_>>| text.map(|text| text.0.into_owned());
        let unit = text(listed.statistics_unit_of_measurement);
        listing.described.push(Described { entity, unit_class: text(listed.unit_class), unit });
    }
    Ok(listing)
}

/// The command for the hours of these entities from `from` (inclusive) until `until` (exclusive). `unit`: of which class, and
/// which it is to be: without it the recorder converts to the unit that it shows at the moment.
#[must_use]
pub fn question(entities: &[EntityId], from: Timestamp, until: Timestamp, unit: Option<(&str, &str)>) -> Value {
    let ids: Vec<&str> = entities.iter().map(EntityId::as_str).collect();
    let mut question = json!({
        "type": "recorder/statistics_during_period",
        "start_time": from.to_string(),
        "end_time": until.to_string(),
        "statistic_ids": ids,
        "period": "hour",
        "types": ["mean", "min", "max", "state", "sum"],
    });
    if let Some((class, unit)) = unit {
        question["units"] = json!({ class: unit });
    }
    question
}

/// Reads the result for the hours of `asked` that begin from `from` (inclusive) until `until` (exclusive). Others are left
/// out.
///
/// # Errors
/// It is not an object.
pub fn read_hours(
    result: &str,
    asked: &[EntityId],
    from: Timestamp,
    until: Timestamp,
) -> Result<Hours, serde_json::Error> {
    let lists: Object<'_, &RawValue> = serde_json::from_str(result)?;
    let asked: HashSet<&str> = asked.iter().map(EntityId::as_str).collect();
    let mut read = Hours::default();
    for (id, list) in lists.0 {
        let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(list.get()) else {
            read.unreadable += 1;
            continue;
        };
        let Some(entity) = EntityId::parse(&id).ok().filter(|entity| asked.contains(entity.as_str())) else {
            read.unreadable += list.len() as u64;
            continue;
        };
        let mut hours = Vec::with_capacity(list.len());
        for raw in list {
            match read_hour(raw.get()) {
                Some(hour) => hours.extend(Some(hour).filter(|hour| (from..until).contains(&hour.start))),
                None => read.unreadable += 1,
            }
        }
        if !hours.is_empty() {
            read.entities.push((entity, hours));
        }
    }
    Ok(read)
}

/// `None`: it cannot be read.
fn read_hour(text: &str) -> Option<Hour> {
    let Body { start, mean, min, max, state, sum } = serde_json::from_str(text).ok()?;
    let start = Timestamp::from_unix_seconds(start / 1_000.0)?;
    Some(Hour { start, mean, min, max, state, sum })
}

#[cfg(test)]
mod tests {
    use super::{Described, Hour, Hours, Listing, question, read_hours, read_ids};
    use crate::model::entity::EntityId;
    use crate::model::time::Timestamp;

    #[test]
    fn statistics_of_entities_are_listed_and_others_counted() {
        let answer = r#"[{"statistic_id":"sensor.a","unit_class":"temperature","statistics_unit_of_measurement":"°F"},
            {"statistic_id":"sensor.b","unit_class":null},{"statistic_id":"tibber:energy","unit_class":"energy"},
            7,{"statistic_id":null},{"statistic_id":"sensor.c","unit_class":[]}]"#;
        let described = |id: &str, class: Option<&str>| Described {
            entity: EntityId::parse(id).unwrap(),
            unit_class: class.map(str::to_owned),
            unit: class.map(|_| "°F".to_owned()),
        };
        let described = vec![described("sensor.a", Some("temperature")), described("sensor.b", None)];
        assert_eq!(read_ids(answer).unwrap(), Listing { described, external: 1, unreadable: 3 });
        assert!(read_ids("{}").is_err());
    }

    #[test]
    fn hours_have_what_their_kind_has() {
        let answer = r#"{"sensor.a":[{"start":1795428000000,"end":1795431600000,"mean":20.0,"min":19.0,"max":21.0}],
            "sensor.b":[{"start":1795428000000,"end":1,"state":5,"sum":7.5,"mean":null}]}"#;
        let start = Timestamp::from_micros(1_795_428_000_000_000);
        let hour = Hour { start, mean: None, min: None, max: None, state: None, sum: None };
        let expected = vec![
            (
                EntityId::parse("sensor.a").unwrap(),
                vec![Hour { mean: Some(20.0), min: Some(19.0), max: Some(21.0), ..hour.clone() }],
            ),
            (EntityId::parse("sensor.b").unwrap(), vec![Hour { state: Some(5.0), sum: Some(7.5), ..hour }]),
        ];
        assert_eq!(read(answer), Hours { entities: expected, unreadable: 0 });
    }

    /// For `sensor.a` and `sensor.b`, and for that hour only.
    fn read(answer: &str) -> Hours {
        let asked = ["sensor.a", "sensor.b"].map(|id| EntityId::parse(id).unwrap());
        let [from, until] = [1_795_428_000, 1_795_431_600].map(|second| Timestamp::from_micros(second * 1_000_000));
        read_hours(answer, &asked, from, until).unwrap()
    }

    #[test]
    fn hours_that_are_none_cost_nothing_else() {
        let answer = r#"{"sensor.a":[7,{"start":"noon"},{"mean":1},{"start":1e300,"mean":1},{"start":null},
            {"start":1795428000000,"mean":"warm"},{"start":1795428000000,"mean":1e999},{"start":1795428000000,"mean":2}],
            "sensor.b":7,"sensor.foreign":[{"start":1795428000000,"mean":1},{"start":1795428000000,"mean":1}]}"#;
        let hours = read(answer);
        let [(entity, kept)] = &hours.entities[..] else { panic!("{hours:?}") };
        assert_eq!(
            (entity.as_str(), kept.len(), kept[0].mean, hours.unreadable),
            ("sensor.a", 1, Some(2.0), 7 + 1 + 2)
        );
        for cut_off in ["", "[]", r#"{"sensor.a":[{"#] {
            assert!(
                read_hours(cut_off, &[], Timestamp::from_micros(0), Timestamp::from_micros(1)).is_err(),
                "{cut_off}"
            );
        }
    }

    #[test]
    fn hours_of_another_time_are_left_out() {
        let answer = r#"{"sensor.a":[{"start":1795424400000,"mean":1},{"start":1795428000000,"mean":2},
            {"start":1795431600000,"mean":3},{"start":1795428000,"mean":4}]}"#;
        let hours = read(answer);
        let means: Vec<_> = hours.entities.iter().flat_map(|(_, hours)| hours).map(|hour| hour.mean).collect();
        assert_eq!((means, hours.unreadable), (vec![Some(2.0)], 0));
    }

    #[test]
    fn the_unit_is_pinned() {
        let entity = EntityId::parse("sensor.a").unwrap();
        let at = Timestamp::from_micros(0);
        let asked = question(&[entity], at, at, Some(("temperature", "°C")));
        assert_eq!(asked["units"], serde_json::json!({"temperature": "°C"}));
        assert_eq!(asked["start_time"], "1970-01-01T00:00:00.000000Z");
    }
}
