//! Frames in, messages out: recorded, made up, broken and mutated.

use proptest::prelude::*;

use super::{Message, decode};
use crate::model::fate::Unreadable;
use crate::model::time::Timestamp;
use crate::model::value::Value;

const SNAPSHOT: &str = include_str!("../../../../tests/fixtures/hass/snapshot.json");
const ARRAY: &str = include_str!("../../../../tests/fixtures/hass/array.json");
const ADDED: &str = include_str!("../../../../tests/fixtures/hass/added.json");

/// How many entities a frame gives, and what is unreadable in it.
fn check(frame: &str, entities: usize, unreadable: &[Unreadable]) {
    let decoded = decode(frame);
    let shown: String = frame.chars().take(200).collect();
    assert_eq!(decoded.unreadable, unreadable, "{shown}");
    let found: usize = decoded
        .messages
        .iter()
        .map(|message| match message {
            Message::Event { entities, .. } => {
                entities.added.iter().flatten().count() + entities.changed.len() + entities.removed.len()
            }
            _ => 0,
        })
        .sum();
    assert_eq!(found, entities, "{shown}");
}

#[test]
fn recorded_messages_are_what_they_are() {
    let one = |text| {
        let mut frame = decode(text);
        assert_eq!((frame.messages.len(), frame.unreadable.len()), (1, 0), "{text}");
        frame.messages.remove(0)
    };
    let version = "2025.4.4".into();
    assert_eq!(
        one(include_str!("../../../../tests/fixtures/hass/auth_required.json")),
        Message::AuthRequired { ha_version: "2025.4.4".into() }
    );
    assert_eq!(
        one(include_str!("../../../../tests/fixtures/hass/auth_ok.json")),
        Message::AuthOk { ha_version: version }
    );
    assert_eq!(
        one(include_str!("../../../../tests/fixtures/hass/auth_invalid.json")),
        Message::AuthInvalid { message: "Invalid access token or password".into() }
    );
    assert_eq!(
        one(include_str!("../../../../tests/fixtures/hass/result_success.json")),
        Message::Result { id: 1, outcome: Ok(None) }
    );
    assert_eq!(one(include_str!("../../../../tests/fixtures/hass/pong.json")), Message::Pong { id: 3 });
    for (text, code) in [
        (include_str!("../../../../tests/fixtures/hass/result_unknown_command.json"), "unknown_command"),
        (include_str!("../../../../tests/fixtures/hass/result_invalid_format.json"), "invalid_format"),
    ] {
        assert!(matches!(one(text), Message::Result { outcome: Err(failure), .. } if failure.code == code));
    }
}

#[test]
fn recorded_frames_are_read_whole() {
    check(SNAPSHOT, SNAPSHOT.matches(r#""lc":"#).count(), &[]);
    check(ARRAY, ARRAY.matches(r#""type":"event""#).count(), &[]);
    check(include_str!("../../../../tests/fixtures/hass/snapshot_empty.json"), 0, &[]);
    check(include_str!("../../../../tests/fixtures/hass/removed.json"), 1, &[]);
}

#[test]
fn both_ways_of_reading_agree() {
    for text in [SNAPSHOT, ARRAY, ADDED] {
        assert_eq!(super::wire::read(text).unwrap(), super::salvage::take_apart(text).messages);
    }
}

#[test]
fn only_the_smallest_unreadable_piece_is_lost() {
    use Unreadable::{Attribute, Entity, Frame, Message};
    let good = r#"{"type":"event","event":{"a":{"a.b":{"s":"1","lc":1.0}}},"id":2}"#;
    let table: [(&str, usize, &[Unreadable]); 22] = [
        ("", 0, &[Frame]),
        ("{", 0, &[Frame]),
        ("null", 0, &[Message]),
        ("[1, GOOD]", 1, &[Message]),
        ("[GOOD, GOOD", 0, &[Frame]),
        (r#"[{"type":"event","event":{"a":NaN},"id":2}]"#, 0, &[Frame]),
        (r#"[{"type":5,"id":2}, GOOD]"#, 1, &[Message]),
        (r#"[{"type":"event","event":{"a":{"a.b":{"s":"1","lc":1.0}}}}, GOOD]"#, 1, &[Message]),
        (r#"[{"type":"event","event":7,"id":2}, GOOD]"#, 1, &[Message]),
        (r#"[{"type":"result","id":2}, GOOD]"#, 1, &[Message]),
        (r#"[{"type":"news","event":7,"id":"x"}, GOOD]"#, 1, &[]),
        (r#"{"type":"event","event":{"a":7,"c":[],"r":"x"},"id":2}"#, 0, &[Message, Message, Message]),
        (r#"{"type":"event","event":{"a":{"a.b":{"s":"1"},"a.c":{"s":"1","lc":1.0}}},"id":2}"#, 1, &[Entity]),
        (r#"{"type":"event","event":{"a":{"a.b":{"s":1,"lc":1.0}}},"id":2}"#, 0, &[Entity]),
        (r#"{"type":"event","event":{"a":{"a.b":{"s":"1","lc":1e300}}},"id":2}"#, 0, &[Entity]),
        (r#"{"type":"event","event":{"c":{"a.b":{"+":{"s":1}},"a.c":{"+":{"s":"1"}}}},"id":2}"#, 1, &[Entity]),
        (
            r#"{"type":"event","event":{"c":{"a.b":{"+":7},"a.c":{"-":7},"a.d":7}},"id":2}"#,
            0,
            &[Entity, Entity, Entity],
        ),
        (r#"{"type":"event","event":{"r":["a.b",7]},"id":2}"#, 1, &[Entity]),
        (r#"{"type":"event","event":{"a":{"a.b":{"s":"1","a":{"x":1e400,"y":1},"lc":1.0}}},"id":2}"#, 1, &[Attribute]),
        (r#"{"type":"event","event":{"a":{"a.b":{"s":"1","a":7,"lc":1.0}}},"id":2}"#, 1, &[Attribute]),
        (r#"{"type":"event","event":{"a":{"a.b":{"s":"1","a":{"x":"\ud800"},"lc":1.0}}},"id":2}"#, 1, &[Attribute]),
        (r#"{"type":"event","event":{"a":{"a.b":{"s":"1","c":[7],"lc":1}}},"id":2,"z":{"y":[1e400]}}"#, 1, &[]),
    ];
    for (frame, entities, unreadable) in table {
        check(&frame.replace("GOOD", good), entities, unreadable);
    }
}

#[test]
fn one_broken_entity_among_a_thousand_costs_one() {
    let entity = |number: usize| match number {
        500 => r#""a.e500":{"s":null,"a":{},"lc":1.0}"#.to_owned(),
        _ => format!(r#""a.e{number}":{{"s":"{number}","a":{{"n":{number}}},"lc":1.0}}"#),
    };
    let entities: Vec<_> = (0..1_000).map(entity).collect();
    let frame = format!(r#"{{"type":"event","event":{{"a":{{{}}}}},"id":2}}"#, entities.join(","));
    check(&frame, 999, &[Unreadable::Entity]);
}

#[test]
fn an_attribute_that_became_unreadable_does_not_keep_its_old_value() {
    let text =
        r#"{"type":"event","event":{"c":{"a.b":{"+":{"a":{"x":1e400,"y":2},"lu":1.0},"-":{"a":["z"]}}}},"id":2}"#;
    let frame = decode(text);
    let Message::Event { entities, .. } = &frame.messages[0] else { panic!("an event") };
    let change = &entities.changed[0].1;
    assert_eq!(change.set, [("y".into(), Value::Int(2))]);
    assert_eq!(change.unset, ["z", "x"]);
    assert_eq!(change.last_updated, Some(Timestamp::from_micros(1_000_000)));
}

#[test]
fn nesting_without_end_costs_the_attribute() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let frame = format!(
        r#"{{"type":"event","event":{{"a":{{"a.b":{{"s":"1","a":{{"x":{deep},"y":1}},"lc":1.0}}}}}},"id":2,"z":{deep}}}"#
    );
    check(&frame, 1, &[Unreadable::Attribute]);
    check(&deep, 0, &[Unreadable::Message]);
    check(&"[".repeat(100_000), 0, &[Unreadable::Frame]);
    check(&r#"{"a":"#.repeat(100_000), 0, &[Unreadable::Frame]);
}

#[test]
fn an_attribute_that_would_take_too_much_memory_is_lost_and_nothing_else() {
    let frame = |value: &str| {
        format!(
            r#"{{"type":"event","event":{{"a":{{"a.b":{{"s":"1","a":{{"x":{value},"y":[1]}},"lc":1.0}}}}}},"id":2}}"#
        )
    };
    let list = |length: usize| format!("[{}1]", "1,".repeat(length - 1));
    let map = |length: usize| format!(r#"{{{}"k":1}}"#, r#""k":1,"#.repeat(length - 1));
    for fits in [list(40_000), map(20_000), format!("\"{}\"", "x".repeat(1_000_000))] {
        check(&frame(&fits), 1, &[]);
    }
    for too_large in
        [list(45_000), map(30_000), format!("\"{}\"", "x".repeat(1 << 20)), format!("[[{}]]", list(45_000))]
    {
        let text = frame(&too_large);
        check(&text, 1, &[Unreadable::Attribute]);
        let Message::Event { entities, .. } = decode(&text).messages.remove(0) else { panic!("an event") };
        let attributes = &entities.added.as_ref().unwrap()[0].1.attributes;
        assert_eq!(attributes[..], [("y".into(), Value::List([Value::Int(1)].into()))]);
    }
}

#[test]
fn of_repeated_keys_the_last_one_counts() {
    let text = r#"{"type":"x","type":"pong","id":1,"id":2}"#;
    assert_eq!(decode(text).unreadable, [Unreadable::Message]);
    let text = r#"{"type":"event","id":1,"id":2,"event":{"a":{"a.b":{"s":"1","s":"2","lc":1.0}}}}"#;
    let frame = decode(text);
    let Message::Event { id: 2, entities } = &frame.messages[0] else { panic!("an event of 2") };
    assert_eq!(entities.added.as_ref().unwrap()[0].1.state, "2");
}

#[test]
fn a_text_without_escapes_is_borrowed_and_a_huge_one_is_read() {
    let text = format!(r#"{{"type":"auth_ok","ha_version":"{}"}}"#, "x".repeat(5 << 20));
    let Message::AuthOk { ha_version } = decode(&text).messages.remove(0) else { panic!("auth_ok") };
    assert!(matches!(ha_version, std::borrow::Cow::Borrowed(version) if version.len() == 5 << 20));
}

proptest! {
    #[test]
    fn any_text_is_survived(text in ".*") {
        let frame = decode(&text);
        prop_assert!(!frame.messages.is_empty() || !frame.unreadable.is_empty() || text.trim_start().starts_with('['));
    }

    #[test]
    fn a_real_frame_with_any_bytes_changed_is_survived(
        array in any::<bool>(),
        start in 0_usize..4_000,
        length in 1_usize..4_000,
        bytes in prop::collection::vec((0_usize..4_000, any::<u8>()), 0..8),
        json in prop::collection::vec((0_usize..4_000, prop::sample::select(br#"{}[]",:0123456789.eE-+tfn\u"#.to_vec())), 0..4),
    ) {
        let whole = if array { ARRAY } else { ADDED };
        let mut frame = whole.as_bytes().to_vec();
        for (at, byte) in bytes.into_iter().chain(json) {
            let at = at % frame.len();
            frame[at] = byte;
        }
        let _whole_but_changed = decode(&String::from_utf8_lossy(&frame));
        let start = start % frame.len();
        let end = (start + length).min(frame.len());
        let _piece = decode(&String::from_utf8_lossy(&frame[start..end]));
    }

    #[test]
    fn attribute_values_come_back_as_they_were_sent(value in json_value(), name in ".*", state in ".*") {
        let sent = serde_json::json!({"type": "event", "id": 2, "event": {"a": {"a.b": {"s": state, "a": {&name: value}, "lc": 1.5}}}});
        let text = sent.to_string();
        let frame = decode(&text);
        prop_assert!(frame.unreadable.is_empty());
        let Message::Event { entities, .. } = &frame.messages[0] else { panic!("an event") };
        let added = &entities.added.as_ref().unwrap()[0].1;
        prop_assert_eq!(&*added.state, state.as_str());
        prop_assert_eq!(&*added.attributes[0].0, name.as_str());
        prop_assert_eq!(back(&added.attributes[0].1), value);
    }
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        prop::num::f64::NORMAL.prop_map(Into::into),
        ".*".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((".*", inner), 0..4)
                .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn back(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Int(number) => (*number).into(),
        Value::UInt(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Text(text) => (&**text).into(),
        Value::List(items) => items.iter().map(back).collect(),
        Value::Map(pairs) => {
            serde_json::Value::Object(pairs.iter().map(|(key, value)| (key.to_string(), back(value))).collect())
        }
    }
}
