//! Long-term statistics: what the recorder keeps of every hour for ever, as questions and answers.
//!
//! Pure.

use std::borrow::Cow;

use serde::Deserialize;
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

/// Reads the result of `recorder/list_statistic_ids`. Statistics that belong to no entity (`domain:name`) are left out, and
/// counted.
///
/// # Errors
/// It is not a list of them.
pub fn read_ids(result: &str) -> Result<(Vec<Described>, u64), serde_json::Error> {
    let listed: Vec<Listed<'_>> = serde_json::from_str(result)?;
    let all = listed.len();
    let of_entities = listed.into_iter().filter_map(|listed| {
        let entity = EntityId::parse(&listed.statistic_id).ok().filter(EntityId::is_valid)?;
        let text = |text: Option<Text<'_>>| text.map(|text| text.0.into_owned());
        let unit = text(listed.statistics_unit_of_measurement);
        Some(Described { entity, unit_class: text(listed.unit_class), unit })
    });
    let described: Vec<Described> = of_entities.collect();
    let external = all - described.len();
    Ok((described, external as u64))
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

/// Reads the result. What is not an entity's is left out.
///
/// # Errors
/// It is not an object of lists of hours.
pub fn read_hours(result: &str) -> Result<Vec<(EntityId, Vec<Hour>)>, serde_json::Error> {
    let lists: Object<'_, Vec<Body>> = serde_json::from_str(result)?;
    let read = lists.0.into_iter().filter_map(|(id, list)| {
        let hours = list.into_iter().filter_map(|body| {
            let start = Timestamp::from_unix_seconds(body.start / 1_000.0)?;
            let Body { mean, min, max, state, sum, .. } = body;
            Some(Hour { start, mean, min, max, state, sum })
        });
        Some((EntityId::parse(&id).ok()?, hours.collect()))
    });
    Ok(read.collect())
}

#[cfg(test)]
mod tests {
    use super::{Described, Hour, question, read_hours, read_ids};
    use crate::model::entity::EntityId;
    use crate::model::time::Timestamp;

    #[test]
    fn statistics_of_entities_are_listed_and_others_counted() {
        let answer = r#"[{"statistic_id":"sensor.a","unit_class":"temperature","statistics_unit_of_measurement":"°F"},
            {"statistic_id":"sensor.b","unit_class":null},{"statistic_id":"tibber:energy","unit_class":"energy"}]"#;
        let described = |id: &str, class: Option<&str>| Described {
            entity: EntityId::parse(id).unwrap(),
            unit_class: class.map(str::to_owned),
            unit: class.map(|_| "°F".to_owned()),
        };
        let expected = vec![described("sensor.a", Some("temperature")), described("sensor.b", None)];
        assert_eq!(read_ids(answer).unwrap(), (expected, 1));
        assert!(read_ids("{}").is_err());
    }

    #[test]
    fn hours_have_what_their_kind_has() {
        let answer = r#"{"sensor.a":[{"start":1795428000000,"end":1795431600000,"mean":20.0,"min":19.0,"max":21.0}],
            "sensor.b":[{"start":1795428000000,"end":1,"state":5,"sum":7.5,"mean":null}],"x":[]}"#;
        let start = Timestamp::from_micros(1_795_428_000_000_000);
        let hour = Hour { start, mean: None, min: None, max: None, state: None, sum: None };
        let expected = vec![
            (
                EntityId::parse("sensor.a").unwrap(),
                vec![Hour { mean: Some(20.0), min: Some(19.0), max: Some(21.0), ..hour.clone() }],
            ),
            (EntityId::parse("sensor.b").unwrap(), vec![Hour { state: Some(5.0), sum: Some(7.5), ..hour }]),
        ];
        assert_eq!(read_hours(answer).unwrap(), expected);
        assert!(read_hours(r#"{"sensor.a":[{"#).is_err());
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
