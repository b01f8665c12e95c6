//! Home Assistant's WebSocket messages, text for text: the order of keys and the place of `id` included.
//!
//! Nothing here knows a socket. `session` decides which message is sent when.

use std::cell::OnceCell;

use super::json::{push, push_attributes, push_float, push_joined, push_optional, push_pairs, push_text};
use super::state::{Change, Context, Happening, State};
use super::time::iso;

/// The version whose messages these are.
pub const VERSION: &str = "2025.4.4";

#[must_use]
pub fn auth_required() -> String {
    format!("{{\"type\":\"auth_required\",\"ha_version\":\"{VERSION}\"}}")
}

#[must_use]
pub fn auth_ok() -> String {
    format!("{{\"type\":\"auth_ok\",\"ha_version\":\"{VERSION}\"}}")
}

#[must_use]
pub fn auth_invalid(message: &str) -> String {
    let mut out = String::from("{\"type\":\"auth_invalid\",\"message\":");
    push_text(&mut out, message);
    out.push('}');
    out
}

#[must_use]
pub fn pong(id: u64) -> String {
    format!("{{\"id\":{id},\"type\":\"pong\"}}")
}

/// A result whose value is JSON already.
#[must_use]
pub fn result(id: u64, json: &str) -> String {
    format!("{{\"id\":{id},\"type\":\"result\",\"success\":true,\"result\":{json}}}")
}

/// Two of the registries are answered with spaces after two of the colons.
#[must_use]
pub fn spaced_result(id: u64, json: &str) -> String {
    format!("{{\"id\":{id},\"type\": \"result\",\"success\":true,\"result\": {json}}}")
}

/// `id` is absent if the command had none that can be repeated.
#[must_use]
pub fn error(id: Option<u64>, code: &str, message: &str) -> String {
    let id = id.map_or_else(|| "null".to_owned(), |id| id.to_string());
    let mut out =
        format!("{{\"id\":{id},\"type\":\"result\",\"success\":false,\"error\":{{\"code\":\"{code}\",\"message\":");
    push_text(&mut out, message);
    out.push_str("}}");
    out
}

/// An event of `history/stream`.
#[must_use]
pub fn stream(id: u64, states: &str, from: f64, to: f64) -> String {
    let mut out = format!("{{\"id\":{id},\"type\":\"event\",\"event\":{{\"states\":{states},\"start_time\":");
    push_float(&mut out, from);
    out.push_str(",\"end_time\":");
    push_float(&mut out, to);
    out.push_str("}}");
    out
}

/// The first event of `subscribe_entities`.
#[must_use]
pub fn snapshot<'a>(id: u64, states: impl Iterator<Item = (&'a str, &'a State)>) -> String {
    let mut out = format!("{{\"id\":{id},\"type\":\"event\",\"event\":{{\"a\":");
    push_joined(&mut out, ('{', '}'), states, |out, (entity_id, state)| push_compressed(out, entity_id, state));
    out.push_str("}}");
    out
}

/// The result of `get_states`.
#[must_use]
pub fn states<'a>(states: impl Iterator<Item = (&'a str, &'a State)>) -> String {
    let mut out = String::new();
    push_joined(&mut out, ('[', ']'), states, |out, (entity_id, state)| push_full(out, entity_id, Some(state)));
    out
}

/// One happening as the messages of all sessions: each form is written at most once, without the id that ends it.
pub struct Broadcast<'a> {
    happening: &'a Happening,
    compressed: OnceCell<String>,
    full: OnceCell<String>,
}

impl<'a> Broadcast<'a> {
    #[must_use]
    pub fn new(happening: &'a Happening) -> Self {
        Self { happening, compressed: OnceCell::new(), full: OnceCell::new() }
    }

    #[must_use]
    pub fn happening(&self) -> &'a Happening {
        self.happening
    }

    /// For `subscribe_entities`. `None` for what is no change of a state.
    #[must_use]
    pub fn compressed(&self, id: u64) -> Option<String> {
        let Happening::State(change) = self.happening else { return None };
        Some(with_id(self.compressed.get_or_init(|| compressed(change)), id))
    }

    /// For `subscribe_events`.
    #[must_use]
    pub fn full(&self, id: u64) -> String {
        with_id(self.full.get_or_init(|| full(self.happening)), id)
    }
}

fn with_id(message: &str, id: u64) -> String {
    let mut out = String::with_capacity(message.len() + 24);
    out.push_str(message);
    push(&mut out, format_args!(",\"id\":{id}}}"));
    out
}

/// Without the closing brace of the message.
pub(super) fn compressed(change: &Change) -> String {
    let mut out = String::with_capacity(256);
    out.push_str("{\"type\":\"event\",\"event\":");
    match (&change.old, &change.new) {
        (_, None) => {
            out.push_str("{\"r\":[");
            push_text(&mut out, &change.entity_id);
            out.push_str("]}");
        }
        (None, Some(new)) => {
            out.push_str("{\"a\":{");
            push_compressed(&mut out, &change.entity_id, new);
            out.push_str("}}");
        }
        (Some(old), Some(new)) => {
            out.push_str("{\"c\":{");
            push_text(&mut out, &change.entity_id);
            out.push(':');
            push_difference(&mut out, old, new);
            out.push_str("}}");
        }
    }
    out
}

fn push_compressed(out: &mut String, entity_id: &str, state: &State) {
    push_text(out, entity_id);
    out.push_str(":{\"s\":");
    push_text(out, &state.state);
    out.push_str(",\"a\":");
    push_attributes(out, &state.attributes);
    out.push_str(",\"c\":");
    if state.context.user_id.is_none() {
        push_text(out, &state.context.id);
    } else {
        push_context(out, &state.context);
    }
    out.push_str(",\"lc\":");
    push_float(out, state.last_changed);
    if state.last_changed.total_cmp(&state.last_updated).is_ne() {
        out.push_str(",\"lu\":");
        push_float(out, state.last_updated);
    }
    out.push('}');
}

/// What is new under `+`, the names of attributes that are gone under `-`.
fn push_difference(out: &mut String, old: &State, new: &State) {
    out.push_str("{\"+\":{");
    if old.state != new.state {
        out.push_str("\"s\":");
        push_text(out, &new.state);
        out.push(',');
    }
    // Whoever reads it takes `lc` for both.
    let (key, time) = if old.last_changed.total_cmp(&new.last_changed).is_ne() {
        ("\"lc\":", new.last_changed)
    } else {
        ("\"lu\":", new.last_updated)
    };
    out.push_str(key);
    push_float(out, time);
    out.push_str(",\"c\":");
    if old.context.user_id == new.context.user_id {
        push_text(out, &new.context.id);
    } else {
        out.push_str("{\"user_id\":");
        push_optional(out, new.context.user_id);
        out.push_str(",\"id\":");
        push_text(out, &new.context.id);
        out.push('}');
    }
    let changed = || new.attributes.iter().filter(|(name, value)| old.attributes.get(name) != Some(*value));
    if changed().next().is_some() {
        out.push_str(",\"a\":");
        push_pairs(out, changed());
    }
    out.push('}');
    let gone = || old.attributes.iter().filter(|(name, _)| new.attributes.get(name).is_none());
    if gone().next().is_some() {
        out.push_str(",\"-\":{\"a\":");
        push_joined(out, ('[', ']'), gone(), |out, (name, _)| push_text(out, name));
        out.push('}');
    }
    out.push('}');
}

/// Without the closing brace of the message.
fn full(happening: &Happening) -> String {
    let mut out = String::with_capacity(1200);
    out.push_str("{\"type\":\"event\",\"event\":{\"event_type\":");
    let (at, context) = match happening {
        Happening::State(change) => {
            out.push_str("\"state_changed\",\"data\":{\"entity_id\":");
            push_text(&mut out, &change.entity_id);
            out.push_str(",\"old_state\":");
            push_full(&mut out, &change.entity_id, change.old.as_deref());
            out.push_str(",\"new_state\":");
            push_full(&mut out, &change.entity_id, change.new.as_deref());
            out.push('}');
            (change.at, &change.context)
        }
        Happening::Other { event_type, data, at, context } => {
            push_text(&mut out, event_type);
            out.push_str(",\"data\":");
            out.push_str(data);
            (*at, context)
        }
    };
    push(&mut out, format_args!(",\"origin\":\"LOCAL\",\"time_fired\":\"{}\",\"context\":", iso(at)));
    push_context(&mut out, context);
    out.push('}');
    out
}

fn push_full(out: &mut String, entity_id: &str, state: Option<&State>) {
    let Some(state) = state else {
        out.push_str("null");
        return;
    };
    out.push_str("{\"entity_id\":");
    push_text(out, entity_id);
    out.push_str(",\"state\":");
    push_text(out, &state.state);
    out.push_str(",\"attributes\":");
    push_attributes(out, &state.attributes);
    let (changed, updated) = (iso(state.last_changed), iso(state.last_updated));
    push(
        out,
        format_args!(
            ",\"last_changed\":\"{changed}\",\"last_reported\":\"{updated}\",\"last_updated\":\"{updated}\",\"context\":"
        ),
    );
    push_context(out, &state.context);
    out.push('}');
}

pub(super) fn push_context(out: &mut String, context: &Context) {
    out.push_str("{\"id\":");
    push_text(out, &context.id);
    out.push_str(",\"parent_id\":null,\"user_id\":");
    push_optional(out, context.user_id);
    out.push('}');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Broadcast, auth_invalid, auth_ok, auth_required, error, pong, result, snapshot, spaced_result};
    use crate::demo::json::read_value;
    use crate::demo::state::{Change, Context, Happening, State};
    use crate::model::value::Attributes;

    const USER: Option<&str> = Some("4adb158305204f719656c102f0704a7b");

    /// Attributes from pairs, because a JSON map would lose their order.
    fn state(
        state: &str,
        attributes: &[(&str, &str)],
        times: [f64; 2],
        id: &str,
        user_id: Option<&'static str>,
    ) -> State {
        let pair = |(name, json): &(&str, &str)| ((*name).into(), read_value(&serde_json::from_str(json).unwrap()));
        State {
            state: state.into(),
            attributes: attributes.iter().map(pair).collect::<Attributes>(),
            last_changed: times[0],
            last_updated: times[1],
            context: Context { id: id.to_owned(), user_id },
        }
    }

    fn change(entity_id: &str, old: Option<State>, new: Option<State>) -> Happening {
        let last = new.as_ref().or(old.as_ref()).unwrap();
        let (at, context) = (last.last_updated, last.context.clone());
        Happening::State(Change {
            entity_id: entity_id.into(),
            old: old.map(Arc::new),
            new: new.map(Arc::new),
            at,
            context,
        })
    }

    fn check_compressed(entity_id: &str, old: Option<State>, new: Option<State>, expected: &str) {
        assert_eq!(Broadcast::new(&change(entity_id, old, new)).compressed(7).unwrap(), expected);
    }

    // The expected texts of this module are frames of Home Assistant 2025.4.4.

    #[test]
    fn the_greeting_and_plain_answers_are_home_assistants() {
        assert_eq!(auth_required(), r#"{"type":"auth_required","ha_version":"2025.4.4"}"#);
        assert_eq!(auth_ok(), r#"{"type":"auth_ok","ha_version":"2025.4.4"}"#);
        assert_eq!(
            auth_invalid("Invalid access token or password"),
            r#"{"type":"auth_invalid","message":"Invalid access token or password"}"#
        );
        assert_eq!(pong(100), r#"{"id":100,"type":"pong"}"#);
        assert_eq!(result(113, "null"), r#"{"id":113,"type":"result","success":true,"result":null}"#);
        assert_eq!(spaced_result(4, "[]"), r#"{"id":4,"type": "result","success":true,"result": []}"#);
        assert_eq!(
            error(Some(15), "unknown_command", "Unknown command."),
            r#"{"id":15,"type":"result","success":false,"error":{"code":"unknown_command","message":"Unknown command."}}"#
        );
        assert_eq!(
            error(None, "invalid_format", "Message incorrectly formatted."),
            r#"{"id":null,"type":"result","success":false,"error":{"code":"invalid_format","message":"Message incorrectly formatted."}}"#
        );
    }

    #[test]
    fn a_snapshot_leaves_out_what_is_the_same_or_empty() {
        let both = state(
            "49",
            &[("k", "59"), ("unit_of_measurement", "\"°C\"")],
            [1_795_439_842.803_082, 1_795_439_842.810_092_2],
            "01M84HK5A16A7Z2383P99V9HQY",
            USER,
        );
        let one = state(
            "off",
            &[("editable", "false"), ("friendly_name", "\"E2E bool\"")],
            [1_795_448_982.498_803_4; 2],
            "01M84HJJZ2F0M45NFKKQ5RFZB4",
            None,
        );
        let states = [("sensor.lab2", &both), ("input_boolean.e2e_bool", &one)];
        assert_eq!(
            snapshot(7, states.into_iter()),
            concat!(
                r#"{"id":7,"type":"event","event":{"a":{"sensor.lab2":{"s":"49","a":{"k":59,"unit_of_measurement":"°C"},"#,
                r#""c":{"id":"01M84HK5A16A7Z2383P99V9HQY","parent_id":null,"user_id":"4adb158305204f719656c102f0704a7b"},"#,
                r#""lc":1795439842.803082,"lu":1795439842.8100922},"input_boolean.e2e_bool":{"s":"off","#,
                r#""a":{"editable":false,"friendly_name":"E2E bool"},"c":"01M84HJJZ2F0M45NFKKQ5RFZB4","lc":1795448982.4988034}}}}"#
            )
        );
    }

    #[test]
    fn a_difference_holds_what_is_new_and_names_what_is_gone() {
        let old = state(
            "49",
            &[("k", "59"), ("attribution", "\"x\""), ("supported_features", "1")],
            [1_795_439_842.803_082; 2],
            "01M848VR2Z68389Q3KSRZ0BB60",
            None,
        );
        let new = state("99", &[("k", "61")], [1_795_439_845.471_906_2; 2], "01M848VR2Z68389Q3KSRZ0BB6W", None);
        check_compressed(
            "sensor.lab2",
            Some(old),
            Some(new.clone()),
            r#"{"type":"event","event":{"c":{"sensor.lab2":{"+":{"s":"99","lc":1795439845.4719062,"c":"01M848VR2Z68389Q3KSRZ0BB6W","a":{"k":61}},"-":{"a":["attribution","supported_features"]}}}},"id":7}"#,
        );
        let newer = state(
            "99",
            &[("k", "62")],
            [1_795_439_845.471_906_2, 1_795_439_845.482_048],
            "01M848VR3A5N0C3CQ8W0XWZ8S7",
            None,
        );
        check_compressed(
            "sensor.lab2",
            Some(new.clone()),
            Some(newer),
            r#"{"type":"event","event":{"c":{"sensor.lab2":{"+":{"lu":1795439845.482048,"c":"01M848VR3A5N0C3CQ8W0XWZ8S7","a":{"k":62}}}}},"id":7}"#,
        );
        check_compressed("sensor.lab2", Some(new), None, r#"{"type":"event","event":{"r":["sensor.lab2"]},"id":7}"#);
    }

    #[test]
    fn a_context_is_an_object_only_while_the_user_is_new() {
        let boolean = |on: &str, at: f64, id: &str, user| state(on, &[("editable", "false")], [at; 2], id, user);
        let before = boolean("off", 1_795_448_982.498_803_4, "01M84HJJZ2F0M45NFKKQ5RFZB4", None);
        let called = boolean("on", 1_795_449_004.298_690_8, "01M84HK88APNNDZTZHHC1ZPDAY", USER);
        let again = boolean("off", 1_795_449_005.5, "01M84HK9DYGS5QKK20M30DGEFN", USER);
        check_compressed(
            "input_boolean.e2e_bool",
            Some(before),
            Some(called.clone()),
            r#"{"type":"event","event":{"c":{"input_boolean.e2e_bool":{"+":{"s":"on","lc":1795449004.2986908,"c":{"user_id":"4adb158305204f719656c102f0704a7b","id":"01M84HK88APNNDZTZHHC1ZPDAY"}}}}},"id":7}"#,
        );
        check_compressed(
            "input_boolean.e2e_bool",
            Some(called),
            Some(again),
            r#"{"type":"event","event":{"c":{"input_boolean.e2e_bool":{"+":{"s":"off","lc":1795449005.5,"c":"01M84HK9DYGS5QKK20M30DGEFN"}}}},"id":7}"#,
        );
    }

    #[test]
    fn a_state_changed_event_carries_both_states_in_full() {
        let attributes = [("initial", "null"), ("min", "0.0"), ("unit_of_measurement", "\"W\"")];
        let old = state("0.0", &attributes, [1_795_448_982.498_993_4; 2], "01M84HJJZ2M83NMT5G26EZ8DFX", None);
        let new =
            state("49001.281175375", &attributes, [1_795_449_001.282_504_6; 2], "01M84HK5A16A7Z2383P99V9HQY", USER);
        assert_eq!(
            Broadcast::new(&change("input_number.e2e_num", Some(old), Some(new))).full(110),
            concat!(
                r#"{"type":"event","event":{"event_type":"state_changed","data":{"entity_id":"input_number.e2e_num","#,
                r#""old_state":{"entity_id":"input_number.e2e_num","state":"0.0","attributes":{"initial":null,"min":0.0,"#,
                r#""unit_of_measurement":"W"},"last_changed":"2026-11-23T15:49:42.498993+00:00","#,
                r#""last_reported":"2026-11-23T15:49:42.498993+00:00","last_updated":"2026-11-23T15:49:42.498993+00:00","#,
                r#""context":{"id":"01M84HJJZ2M83NMT5G26EZ8DFX","parent_id":null,"user_id":null}},"#,
                r#""new_state":{"entity_id":"input_number.e2e_num","state":"49001.281175375","attributes":{"initial":null,"#,
                r#""min":0.0,"unit_of_measurement":"W"},"last_changed":"2026-11-23T15:50:01.282505+00:00","#,
                r#""last_reported":"2026-11-23T15:50:01.282505+00:00","last_updated":"2026-11-23T15:50:01.282505+00:00","#,
                r#""context":{"id":"01M84HK5A16A7Z2383P99V9HQY","parent_id":null,"#,
                r#""user_id":"4adb158305204f719656c102f0704a7b"}}},"origin":"LOCAL","#,
                r#""time_fired":"2026-11-23T15:50:01.282505+00:00","context":{"id":"01M84HK5A16A7Z2383P99V9HQY","#,
                r#""parent_id":null,"user_id":"4adb158305204f719656c102f0704a7b"}},"id":110}"#
            )
        );
    }
}
