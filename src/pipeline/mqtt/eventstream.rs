//! What Home Assistant's `mqtt_eventstream` publishes: every event of its bus, each in one message.
//!
//! A message is `{"event_type": ..., "event_data": ...}`, and that of `state_changed` holds the new state as the WebSocket
//! gives it. Other events have no time and no context here, so they are taken from the WebSocket only. Pure.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Settled;
use super::mapping::NoPoint;
use crate::model::entity::EntityId;
use crate::model::event::{ContextId, Message, StateChange};
use crate::model::fate::{Filtered, Refused};
use crate::model::json::{Json, Object, Text};
use crate::model::time::Timestamp;
use crate::model::value::Attributes;

#[derive(Deserialize)]
struct Published<'a> {
    #[serde(borrow)]
    event_type: Text<'a>,
    event_data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct StateChanged<'a> {
    /// Null if the entity was removed.
    #[serde(borrow)]
    new_state: Option<NewState<'a>>,
}

#[derive(Deserialize)]
struct NewState<'a> {
    #[serde(borrow)]
    entity_id: Text<'a>,
    state: Text<'a>,
    #[serde(default)]
    attributes: Object<'a, Json>,
    last_updated: Option<Text<'a>>,
    context: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Context<'a> {
    #[serde(borrow)]
    id: Text<'a>,
}

/// The change that a message tells of. Without `last_updated`, which every Home Assistant sends, it is one of the arrival.
pub(super) fn read(message: &Message, text: &str) -> Result<Settled, NoPoint> {
    let published: Published<'_> = serde_json::from_str(text).map_err(|_| Refused::NotJson)?;
    if &*published.event_type.0 != "state_changed" {
        return Err(NoPoint::Filtered(Filtered::NotAskedFor));
    }
    let data = published.event_data.ok_or(Refused::NotJson)?;
    let data: StateChanged<'_> = serde_json::from_str(data.get()).map_err(|_| Refused::NotJson)?;
    let Some(state) = data.new_state else {
        return Err(NoPoint::Filtered(Filtered::Removed));
    };
    let last_updated = match state.last_updated {
        Some(text) => Some(Timestamp::from_rfc3339(&text.0).ok_or(Refused::NoTime)?),
        None => None,
    };
    let attributes: Attributes =
        state.attributes.0.into_iter().map(|(name, Json(value))| (name.into(), value)).collect();
    let change = StateChange {
        entity: EntityId::parse(&state.entity_id.0).map_err(|_| Refused::NotJson)?,
        state: state.state.0.into(),
        attributes: attributes.into(),
        last_updated: last_updated.unwrap_or(message.arrived),
        context: state.context.and_then(context),
    };
    Ok(Settled { change, is_exact: last_updated.is_some() })
}

/// Whatever else stands there is no context, and no reason to lose the state it belongs to.
fn context(raw: &RawValue) -> Option<ContextId> {
    let context: Context<'_> = serde_json::from_str(raw.get()).ok()?;
    ContextId::parse(&context.id.0)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::read;
    use crate::model::event::Message;
    use crate::model::fate::{Filtered, Refused};
    use crate::model::time::Timestamp;
    use crate::model::value::Value;
    use crate::pipeline::mqtt::Settled;
    use crate::pipeline::mqtt::mapping::NoPoint;

    const ARRIVED: Timestamp = Timestamp::from_micros(7);

    fn read_text(text: &str) -> Result<Settled, NoPoint> {
        let message =
            Message { topic: "events".into(), payload: Bytes::new(), retained: false, arrived: ARRIVED, receipt: 1 };
        read(&message, text)
    }

    #[test]
    fn a_changed_state_has_the_time_and_the_context_of_home_assistant() {
        let Settled { change, is_exact } =
            read_text(include_str!("../../../tests/fixtures/mqtt/eventstream_state_changed.json")).unwrap();
        assert_eq!((change.entity.as_str(), &*change.state, is_exact), ("sensor.greenhouse_temperature", "21.5", true));
        assert_eq!(change.last_updated.to_string(), "2026-02-14T18:30:05.123456Z");
        assert_eq!(change.context.unwrap().as_str(), "01KHF2T8D3X5N7Q9S1V3W5Y7Z9");
        let attributes: Vec<_> = change.attributes.iter().collect();
        assert_eq!(
            attributes[..2],
            [("state_class", &Value::Text("measurement".into())), ("unit_of_measurement", &Value::Text("°C".into()))]
        );
        assert_eq!(attributes.len(), 4);
    }

    #[test]
    fn what_is_no_change_has_a_reason() {
        let state = |rest: &str| {
            format!(
                r#"{{"event_type":"state_changed","event_data":{{"new_state":{{"entity_id":"a.b","state":"1"{rest}}}}}}}"#
            )
        };
        for (text, expected) in [
            (
                r#"{"event_type":"call_service","event_data":{"domain":"light"}}"#.to_owned(),
                NoPoint::Filtered(Filtered::NotAskedFor),
            ),
            (r#"{"event_type":"homeassistant_close"}"#.to_owned(), NoPoint::Filtered(Filtered::NotAskedFor)),
            (
                r#"{"event_type":"state_changed","event_data":{"entity_id":"a.b","new_state":null}}"#.to_owned(),
                NoPoint::Filtered(Filtered::Removed),
            ),
            (r#"{"event_type":"state_changed","event_data":null}"#.to_owned(), NoPoint::Refused(Refused::NotJson)),
            (
                r#"{"event_type":"state_changed","event_data":{"new_state":{"entity_id":"ab","state":"1"}}}"#
                    .to_owned(),
                NoPoint::Refused(Refused::NotJson),
            ),
            (state(r#","last_updated":"yesterday""#), NoPoint::Refused(Refused::NoTime)),
            (state(r#","attributes":[1]"#), NoPoint::Refused(Refused::NotJson)),
            (state("")[1..].to_owned(), NoPoint::Refused(Refused::NotJson)),
            (r#"{"event_type":5}"#.to_owned(), NoPoint::Refused(Refused::NotJson)),
            ("online".to_owned(), NoPoint::Refused(Refused::NotJson)),
        ] {
            assert_eq!(read_text(&text), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_state_without_a_time_or_with_a_strange_context_is_read() {
        for context in ["null", "5", r#""x""#, r#"{"id":null}"#, r#"{"id":"short"}"#] {
            let text = format!(
                r#"{{"event_type":"state_changed","event_data":{{"new_state":{{"entity_id":"a.b","state":"1","context":{context}}}}}}}"#
            );
            let Settled { change, is_exact } = read_text(&text).unwrap();
            assert_eq!((change.last_updated, change.context, is_exact), (ARRIVED, None, false), "{context}");
        }
    }
}
