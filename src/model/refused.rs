//! An event that cannot become a line, as it is kept for a person to look at.

use std::fmt::Write;
use std::sync::Arc;

use super::event::{ContextId, Event, StateChange};
use super::fate::Refused;
use super::time::Timestamp;
use super::value::{Attributes, Value};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedEvent {
    /// Of the event.
    pub time: Timestamp,
    pub context: Option<ContextId>,
    /// The one that asked for something else, or whose point it would have been.
    pub rule: Option<Arc<str>>,
    pub reason: Refused,
    /// The entity, the topic or the type, and the event as JSON. Its end is cut off if it is long.
    pub what: String,
}

impl RefusedEvent {
    /// Of [`Self::what`].
    pub const MAX_BYTES: usize = 4_096;

    #[must_use]
    pub fn new(event: &Event, reason: Refused, rule: Option<Arc<str>>) -> Self {
        match event {
            Event::Changed(change) | Event::Restored(change) => Self::of_change(change, reason, rule),
            Event::Removed(entity) => {
                Self { time: Timestamp::from_micros(0), context: None, rule, reason, what: entity.to_string() }
            }
            Event::Fired(fired) => {
                let mut what = format!("{} {{\"data\":", fired.event_type);
                write_attributes(&fired.data, &mut what);
                what.push('}');
                Self { time: fired.time_fired, context: fired.context, rule, reason, what: short(what) }
            }
            Event::Message(message) => {
                let start = &message.payload[..message.payload.len().min(Self::MAX_BYTES)];
                let mut what = format!("{} {{\"payload\":", message.topic);
                write_text(&String::from_utf8_lossy(start), &mut what);
                let _ = write!(what, ",\"retained\":{}}}", message.retained);
                Self { time: message.arrived, context: None, rule, reason, what: short(what) }
            }
        }
    }

    #[must_use]
    pub fn of_change(change: &StateChange, reason: Refused, rule: Option<Arc<str>>) -> Self {
        let mut what = format!("{} {{\"state\":", change.entity);
        write_text(&change.state, &mut what);
        what.push_str(",\"attributes\":");
        write_attributes(&change.attributes, &mut what);
        what.push('}');
        Self { time: change.last_updated, context: change.context, rule, reason, what: short(what) }
    }

    /// The entity, the topic or the type.
    #[must_use]
    pub fn name(&self) -> &str {
        self.what.split(" {\"").next().unwrap_or_default()
    }
}

fn short(mut text: String) -> String {
    const MARK: &str = "...";
    if text.len() > RefusedEvent::MAX_BYTES {
        let end = text.floor_char_boundary(RefusedEvent::MAX_BYTES - MARK.len());
        text.truncate(end);
        text.push_str(MARK);
    }
    text
}

fn write_attributes(attributes: &Attributes, out: &mut String) {
    write_pairs(attributes.iter(), out);
}

fn write_pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a Value)>, out: &mut String) {
    out.push('{');
    for (at, (name, value)) in pairs.enumerate() {
        // The rest is cut off anyway.
        if out.len() > RefusedEvent::MAX_BYTES {
            return;
        }
        if at > 0 {
            out.push(',');
        }
        write_text(name, out);
        out.push(':');
        write_value(value, out);
    }
    out.push('}');
}

fn write_value(value: &Value, out: &mut String) {
    // Writing into a string cannot fail.
    let _ = match value {
        Value::Null => out.write_str("null"),
        Value::Bool(truth) => write!(out, "{truth}"),
        Value::Int(number) => write!(out, "{number}"),
        Value::UInt(number) => write!(out, "{number}"),
        Value::Float(number) => write!(out, "{number:?}"),
        Value::Text(text) => {
            write_text(text, out);
            Ok(())
        }
        Value::Map(pairs) => {
            write_pairs(pairs.iter().map(|(name, value)| (&**name, value)), out);
            Ok(())
        }
        Value::List(values) => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                if out.len() > RefusedEvent::MAX_BYTES {
                    return;
                }
                if at > 0 {
                    out.push(',');
                }
                write_value(value, out);
            }
            out.push(']');
            Ok(())
        }
    };
}

fn write_text(text: &str, out: &mut String) {
    let start = &text[..text.floor_char_boundary(RefusedEvent::MAX_BYTES)];
    out.push_str(&serde_json::Value::from(start).to_string());
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::RefusedEvent;
    use crate::model::entity::EntityId;
    use crate::model::event::{Event, Fired, Message, StateChange};
    use crate::model::fate::Refused;
    use crate::model::time::Timestamp;
    use crate::model::value::Value;

    fn change(attributes: &[(&str, Value)]) -> Event {
        Event::Changed(StateChange {
            entity: EntityId::parse("sensor.a").unwrap(),
            state: "2\"1".into(),
            attributes: Arc::new(attributes.iter().map(|(name, value)| (Arc::from(*name), value.clone())).collect()),
            last_updated: Timestamp::from_micros(7),
            context: None,
        })
    }

    fn check(event: &Event, expected: &str) {
        let refused = RefusedEvent::new(event, Refused::WrongType, Some("r".into()));
        assert_eq!((refused.what.as_str(), refused.time), (expected, Timestamp::from_micros(7)));
        assert_eq!(refused.name(), expected.split(' ').next().unwrap());
    }

    #[test]
    fn an_event_is_its_name_and_json() {
        let list = Value::List([Value::Null, Value::Bool(true), Value::Float(1.0)].into());
        let map = Value::Map([("k".into(), Value::Text("ü\n".into())), ("n".into(), Value::UInt(1 << 63))].into());
        let event = change(&[("list", list), ("map", map), ("n", Value::Int(-1))]);
        let json = r#"{"list":[null,true,1.0],"map":{"k":"ü\n","n":9223372036854775808},"n":-1}"#;
        check(&event, &format!(r#"sensor.a {{"state":"2\"1","attributes":{json}}}"#));
        let message = Message {
            topic: "home/a".into(),
            payload: Bytes::from_static(b"\xff{}"),
            retained: true,
            arrived: Timestamp::from_micros(7),
            receipt: 1,
        };
        check(&Event::Message(message), "home/a {\"payload\":\"\u{fffd}{}\",\"retained\":true}");
        let fired = Fired {
            event_type: "bell".into(),
            data: [("n".into(), Value::Int(1))].into_iter().collect(),
            time_fired: Timestamp::from_micros(7),
            context: None,
            parent: None,
            user: None,
        };
        check(&Event::Fired(fired), r#"bell {"data":{"n":1}}"#);
    }

    #[test]
    fn a_large_event_is_cut_off() {
        let text = Value::Text("ü".repeat(100_000).into());
        let list = Value::List(vec![text.clone(); 1_000].into());
        for value in [text, list] {
            let refused = RefusedEvent::new(&change(&[("a", value)]), Refused::WrongType, None);
            assert!((RefusedEvent::MAX_BYTES - 4..=RefusedEvent::MAX_BYTES).contains(&refused.what.len()));
            assert!(refused.what.ends_with("ü..."));
        }
    }
}
