//! One state as `get_states`, `state_changed` and the REST API give it, with times as text.

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::model::entity::{EntityId, InvalidEntityId};
use crate::model::event::StateChange;
use crate::model::time::Timestamp;
use crate::model::value::Attributes;

use super::wire::{Context, Json, Object, Text};

/// Why a text is not a state.
#[derive(Debug, thiserror::Error)]
pub enum InvalidState {
    #[error("not a state: {0}")]
    Json(#[from] serde_json::Error),
    #[error("`entity_id` is not an entity id: {0}")]
    EntityId(#[from] InvalidEntityId),
    #[error("`last_updated` is not a time with an offset, such as 2026-02-14T18:30:05.123456+00:00")]
    Time,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    entity_id: Text<'a>,
    state: Text<'a>,
    #[serde(default)]
    attributes: Object<'a, Json>,
    last_updated: Option<Text<'a>>,
    #[serde(default)]
    context: Context,
}

/// Reads one state object. `now` is its time if it does not tell one.
pub fn parse_state(json: &str, now: Timestamp) -> Result<StateChange, InvalidState> {
    let body: Body<'_> = serde_json::from_str(json)?;
    let last_updated = match body.last_updated {
        Some(text) => parse_time(&text.0).ok_or(InvalidState::Time)?,
        None => now,
    };
    let attributes: Attributes = body.attributes.0.into_iter().map(|(name, value)| (name.into(), value.0)).collect();
    Ok(StateChange {
        entity: EntityId::parse(&body.entity_id.0)?,
        state: body.state.0.into(),
        attributes: attributes.into(),
        last_updated,
        context: body.context.0,
    })
}

/// Python's `isoformat()` leaves the fraction out when it is zero.
pub(super) fn parse_time(text: &str) -> Option<Timestamp> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let micros = moment.unix_timestamp_nanos().div_euclid(1_000);
    i64::try_from(micros).ok().map(Timestamp::from_micros)
}

#[cfg(test)]
mod tests {
    use super::{InvalidState, parse_state, parse_time};
    use crate::model::time::Timestamp;
    use crate::model::value::Value;

    const NOW: Timestamp = Timestamp::from_micros(7);

    #[test]
    fn times_are_exact_to_the_microsecond() {
        let table = [
            ("2026-11-23T13:16:49.560759+00:00", Some(1_795_439_809_560_759)),
            ("2026-11-23T13:16:49+00:00", Some(1_795_439_809_000_000)),
            ("2026-11-23T14:16:49.5+01:00", Some(1_795_439_809_500_000)),
            ("2026-11-23T13:16:49.000001Z", Some(1_795_439_809_000_001)),
            ("1969-12-31T23:59:59.999999+00:00", Some(-1)),
            ("2026-11-23T13:16:49", None),
            ("2026-11-23", None),
            ("", None),
        ];
        for (text, micros) in table {
            assert_eq!(parse_time(text), micros.map(Timestamp::from_micros), "{text}");
        }
    }

    #[test]
    fn every_recorded_state_is_read() {
        let states = include_str!("../../../../tests/fixtures/hass/states.jsonl");
        for line in states.lines() {
            let state = parse_state(line, NOW).unwrap();
            assert!(state.context.is_some() && state.last_updated != NOW, "{line}");
        }
        assert_eq!(states.lines().count(), 40);
    }

    #[test]
    fn a_state_without_a_time_is_of_now_and_unknown_keys_do_not_matter() {
        let state = parse_state(r#"{"entity_id":"sensor.p","state":"1","attributes":{"x":28.0,"n":28},"z":[]}"#, NOW);
        let state = state.unwrap();
        assert_eq!((state.entity.as_str(), &*state.state, state.last_updated), ("sensor.p", "1", NOW));
        let attributes: Vec<_> = state.attributes.iter().collect();
        assert_eq!(attributes, [("x", &Value::Float(28.0)), ("n", &Value::Int(28))]);
    }

    #[test]
    fn what_is_no_state_says_why() {
        let time = r#"{"entity_id":"a.b","state":"1","last_updated":"yesterday"}"#;
        assert!(matches!(parse_state(time, NOW), Err(InvalidState::Time)));
        assert!(matches!(parse_state(r#"{"entity_id":"ab","state":"1"}"#, NOW), Err(InvalidState::EntityId(_))));
        for text in ["", "[]", "{}", r#"{"entity_id":"a.b"}"#, r#"{"entity_id":"a.b","state":5}"#] {
            assert!(matches!(parse_state(text, NOW), Err(InvalidState::Json(_))), "{text}");
        }
    }
}
