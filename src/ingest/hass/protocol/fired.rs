//! An event of the bus in full: its data, its time, and who caused it.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::event;
use crate::model::fate::Unreadable;
use crate::model::json::{Json, Object};
use crate::model::time::Timestamp;
use crate::model::value::{Attributes, Value};

use super::Fired;
use super::salvage::attributes;
use super::wire::Context;

/// Values in the data of one event. They are searched one by one; real events have some ten.
const MAX_VALUES: usize = 1_000;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Contexts {
    id: Context,
    parent_id: Context,
    user_id: Option<Json>,
}

/// `None` if it does not tell its time. Of its data what can be read is taken, and the rest is counted in `lost`.
pub fn read_fired(fired: &Fired<'_>, lost: &mut Vec<Unreadable>) -> Option<event::Fired> {
    let time_fired = Timestamp::from_rfc3339(fired.time_fired.as_deref()?)?;
    let contexts: Contexts = fired.context.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    let user = match contexts.user_id {
        Some(Json(Value::Text(id))) if id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Some(id.into())
        }
        _ => None,
    };
    Some(event::Fired {
        event_type: fired.event_type.as_ref().into(),
        data: fired.data.map(|json| read_data(json, lost)).unwrap_or_default(),
        time_fired,
        context: contexts.id.0,
        parent: contexts.parent_id.0,
        user,
    })
}

fn read_data(json: &str, lost: &mut Vec<Unreadable>) -> Attributes {
    let pairs = match serde_json::from_str::<Object<'_, Json>>(json) {
        Ok(object) => object.0.into_iter().map(|(name, value)| (name, value.0)).collect(),
        Err(_) => attributes(serde_json::from_str::<&RawValue>(json).ok(), lost, &mut Vec::new()),
    };
    if pairs.len() > MAX_VALUES {
        lost.extend(pairs.iter().skip(MAX_VALUES).map(|_| Unreadable::Attribute));
    }
    pairs.into_iter().take(MAX_VALUES).map(|(name, value)| (name.as_ref().into(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::read_fired;
    use crate::ingest::hass::protocol::{Message, decode};
    use crate::model::event;
    use crate::model::fate::Unreadable;
    use crate::model::time::Timestamp;
    use crate::model::value::Value;

    const AUTOMATION: &str = concat!(
        r#"{"type":"event","event":{"event_type":"automation_triggered","data":{"name":"Light at night","#,
        r#""entity_id":"automation.light_at_night","source":"state of sun.sun"},"origin":"LOCAL","#,
        r#""time_fired":"2026-11-23T13:16:49.570408+00:00","context":{"id":"01M848TN12FCNDE0MBWYZF8N1Y","#,
        r#""parent_id":"01M848TN0R4WE8F83EYTTCB8AT","user_id":"1dc3d3068bcb41c8b7ae27c6e011a291"}},"id":12}"#
    );

    /// The event in a frame, and what of it was lost.
    fn check(frame: &str) -> (Option<event::Fired>, Vec<Unreadable>) {
        let decoded = decode(frame);
        assert!(decoded.unreadable.is_empty(), "{frame}");
        let Message::Fired { id: 12, fired } = &decoded.messages[0] else { panic!("fired: {frame}") };
        let mut lost = Vec::new();
        (read_fired(fired, &mut lost), lost)
    }

    #[test]
    fn an_event_is_read_whole() {
        let (fired, lost) = check(AUTOMATION);
        let fired = fired.unwrap();
        assert_eq!((&*fired.event_type, lost), ("automation_triggered", vec![]));
        assert_eq!(fired.time_fired, Timestamp::from_micros(1_795_439_809_570_408));
        assert_eq!(fired.data.get("entity_id"), Some(&Value::Text("automation.light_at_night".into())));
        assert_eq!(fired.data.len(), 3);
        assert_eq!(fired.context.unwrap().as_str(), "01M848TN12FCNDE0MBWYZF8N1Y");
        assert_eq!(fired.parent.unwrap().as_str(), "01M848TN0R4WE8F83EYTTCB8AT");
        assert_eq!(fired.user.as_deref(), Some("1dc3d3068bcb41c8b7ae27c6e011a291"));
    }

    #[test]
    fn what_is_odd_costs_as_little_as_it_can() {
        for context in [r#""context":7"#, r#""context":{"id":[1],"parent_id":{},"user_id":"short"}"#, r#""x":1"#] {
            let at = AUTOMATION.find(r#""context""#).unwrap();
            let (fired, lost) = check(&format!(r#"{}{context}}},"id":12}}"#, &AUTOMATION[..at]));
            let fired = fired.unwrap();
            assert_eq!((fired.context, fired.parent, fired.user, lost), (None, None, None, vec![]), "{context}");
        }
        let (fired, lost) = check(&AUTOMATION.replace(r#""name":"Light at night""#, r#""name":1e400"#));
        assert_eq!((fired.unwrap().data.len(), lost), (2, vec![Unreadable::Attribute]));
        let (fired, lost) = check(&AUTOMATION.replace("Light", r"\ud800"));
        assert_eq!((fired.unwrap().data.len(), lost), (2, vec![Unreadable::Attribute]));
        for no_time in [r#""time_fired":"soon""#, r#""time_fired":7"#, r#""t":"""#] {
            let text = AUTOMATION.replace(r#""time_fired":"2026-11-23T13:16:49.570408+00:00""#, no_time);
            assert_eq!(check(&text).0, None, "{no_time}");
        }
    }

    #[test]
    fn an_absurd_number_of_values_is_cut() {
        let many: Vec<_> = (0..1_003).map(|number| format!(r#""k{number}":1"#)).collect();
        let text = AUTOMATION.replace(r#""name":"Light at night""#, &many.join(","));
        let (fired, lost) = check(&text);
        assert_eq!((fired.unwrap().data.len(), lost), (1_000, vec![Unreadable::Attribute; 5]));
    }
}
