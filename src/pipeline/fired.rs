//! How an event of Home Assistant's bus becomes a point of the measurement `ha_event`.
//!
//! - Tags are few, so that a talkative integration cannot fill the database with series: `event_type`; `entity_id`, in
//!   full, of any event whose data has an entity's id under that name; `domain` and `service` of `call_service`, where
//!   they can only be what Home Assistant has services for. Of other events, whose data anybody may fill, they are fields.
//! - Everything else in the data is a field, those inside of others by their keys joined with `_`. Numbers and truth
//!   values are numbers under the key; anything else is text under the key with `_str`, lists as Python prints them. So a
//!   key has one type for ever: a number whose key ends in `_str` itself gets another `_`.
//! - `context_id`, `context_parent_id` and `context_user_id` tell who caused it, and lead to what else that caused.
//! - What a key says is secret is never written: a lock's code is in the data of the service that opens it.

use super::python::text;
use crate::model::entity::EntityId;
use crate::model::event::Fired;
use crate::model::point::{FieldValue, Point};
use crate::model::value::Value;

const MEASUREMENT: &str = "ha_event";
/// Real events have some ten fields.
const MOST_FIELDS: usize = 200;
/// Maps inside of maps; what is deeper is text.
const DEEPEST: usize = 8;
/// The names of domains and services have at most so many bytes.
const LONGEST_NAME: usize = 64;
/// What else is in the point under these names: a number of the data must not be.
const TAKEN: [&str; 8] = [
    "context_id",
    "context_parent_id",
    "context_user_id",
    "domain",
    "entity_id",
    "event_type",
    "service",
    // InfluxDB refuses a field of this name.
    "time",
];

/// Makes `point`, sorted, tell of the event, and returns how many fields were left out, because they are not finite or
/// too many. `tags` are those that every point gets.
pub fn shape(fired: &Fired, tags: &[(String, String)], point: &mut Point) -> u32 {
    point.clear();
    point.set_measurement(&[MEASUREMENT]);
    point.set_time(fired.time_fired);
    point.set_tag("event_type", &text::join_lines(&fired.event_type));
    let mut fields = Fields { point, static_tags: tags, omitted: 0, key: String::new(), text: String::new() };
    for (name, value) in fired.data.iter() {
        match tag(&fired.event_type, name, value) {
            Some(text) => fields.point.set_tag(name, text),
            None => fields.add(name, value, 0),
        }
    }
    let omitted = fields.omitted;
    for (name, id) in [("context_id", &fired.context), ("context_parent_id", &fired.parent)] {
        if let Some(id) = id {
            point.set_field(name, FieldValue::Text(id.as_str()));
        }
    }
    if let Some(user) = &fired.user {
        point.set_field("context_user_id", FieldValue::Text(user));
    }
    for (key, value) in tags {
        point.set_tag(key, &text::join_lines(value));
    }
    point.sort();
    omitted
}

/// The value as a tag, if it may be one.
fn tag<'a>(event_type: &str, name: &str, value: &'a Value) -> Option<&'a str> {
    let Value::Text(text) = value else { return None };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let may = match name {
        "entity_id" => EntityId::parse(text).is_ok() && text.bytes().all(|byte| plain(byte) || byte == b'.'),
        "domain" | "service" if event_type == "call_service" => {
            (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(plain)
        }
        _ => false,
    };
    may.then_some(text)
}

struct Fields<'a> {
    point: &'a mut Point,
    static_tags: &'a [(String, String)],
    omitted: u32,
    /// The keys on the way to the value.
    key: String,
    text: String,
}

impl Fields<'_> {
    fn add(&mut self, name: &str, value: &Value, depth: usize) {
        if is_secret(name) {
            return;
        }
        let outer = self.key.len();
        if outer > 0 {
            self.key.push('_');
        }
        self.key.push_str(name);
        match value {
            Value::Null => {}
            Value::Map(pairs) if depth < DEEPEST => {
                for (name, value) in pairs {
                    self.add(name, value, depth + 1);
                }
            }
            Value::Text(text) => self.add_text(text),
            Value::List(_) | Value::Map(_) => {
                let mut text = std::mem::take(&mut self.text);
                text.clear();
                text::write_str(&without_secrets(value), &mut text);
                self.add_text(&text);
                self.text = text;
            }
            Value::Bool(truth) => self.add_number(f64::from(*truth)),
            #[expect(clippy::cast_precision_loss, reason = "attributes are written in the same way")]
            Value::Int(number) => self.add_number(*number as f64),
            #[expect(clippy::cast_precision_loss, reason = "attributes are written in the same way")]
            Value::UInt(number) => self.add_number(*number as f64),
            Value::Float(number) => self.add_number(*number),
        }
        self.key.truncate(outer);
    }

    fn add_number(&mut self, number: f64) {
        if !number.is_finite() || self.is_full() {
            self.omitted += 1;
            return;
        }
        let plain = self.key.len();
        while self.key.ends_with("_str") || self.is_taken() {
            self.key.push('_');
        }
        self.point.push_field(&[&self.key], FieldValue::Float(number));
        self.key.truncate(plain);
    }

    fn add_text(&mut self, text: &str) {
        if self.is_full() {
            self.omitted += 1;
            return;
        }
        let plain = self.key.len();
        self.key.push_str("_str");
        while self.is_taken() {
            self.key.truncate(self.key.len() - "_str".len());
            self.key.push_str("__str");
        }
        self.point.push_field(&[&self.key], FieldValue::Text(&text::join_lines(text)));
        self.key.truncate(plain);
    }

    /// Two ways through the data may lead to the same key.
    fn is_taken(&self) -> bool {
        let key = self.key.as_str();
        TAKEN.contains(&key) || self.point.has_field(key) || self.static_tags.iter().any(|(tag, _)| tag == key)
    }

    fn is_full(&self) -> bool {
        self.point.fields().count() >= MOST_FIELDS
    }
}

/// Whether a value under this key is for nobody's eyes. The words are looked for in the key without its case and
/// separators, so that `apiKey`, `API_KEY` and `api-key` are one; the short ones must stand alone, or `pin` would be found
/// in `spinning`.
fn is_secret(key: &str) -> bool {
    const ANYWHERE: [&str; 12] = [
        "password",
        "passwd",
        "passphrase",
        "passcode",
        "pincode",
        "secret",
        "token",
        "apikey",
        "accesskey",
        "privatekey",
        "credential",
        "authorization",
    ];
    const ALONE: [&str; 8] = ["code", "pin", "pass", "psk", "otp", "auth", "pwd", "cookie"];
    let squeezed: String = key.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    ANYWHERE.iter().any(|word| squeezed.contains(word))
        || words(key).any(|word| ALONE.contains(&word.as_str())) && !is_harmless_code(&squeezed)
}

/// Codes that say what something is.
fn is_harmless_code(squeezed: &str) -> bool {
    const OF: [&str; 12] = [
        "error", "status", "key", "country", "language", "color", "colour", "event", "state", "return", "exit",
        "result",
    ];
    squeezed.strip_suffix("code").is_some_and(|of| OF.contains(&of))
}

/// `pin` and `code` of `userPinCode` and of `pin-code`, in small letters.
fn words(key: &str) -> impl Iterator<Item = String> {
    let mut words = vec![String::new()];
    let mut small_before = false;
    for c in key.chars() {
        if !c.is_alphanumeric() || c.is_uppercase() && small_before {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().expect("there is always one").extend(c.to_lowercase());
        }
        small_before = c.is_lowercase();
    }
    words.into_iter()
}

/// A value that becomes one text, without what is secret in it.
fn without_secrets(value: &Value) -> Value {
    match value {
        Value::List(items) => Value::List(items.iter().map(without_secrets).collect()),
        Value::Map(pairs) => {
            let open = pairs.iter().filter(|(name, _)| !is_secret(name));
            Value::Map(open.map(|(name, value)| (name.clone(), without_secrets(value))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_FIELDS, is_secret, shape};
    use crate::ingest::hass::protocol::parse_state;
    use crate::line::encode::encode;
    use crate::model::event::{ContextId, Fired};
    use crate::model::point::Point;
    use crate::model::time::Timestamp;

    fn fired(event_type: &str, data: &str) -> Fired {
        let state = format!(r#"{{"entity_id":"a.b","state":"1","attributes":{data}}}"#);
        let data = parse_state(&state, Timestamp::from_micros(0)).unwrap().attributes;
        Fired {
            event_type: event_type.into(),
            data: (*data).clone(),
            time_fired: Timestamp::from_micros(1),
            context: None,
            parent: None,
            user: None,
        }
    }

    /// The line of an event, with the static tag `home=h`, and how many fields were left out.
    fn line(fired: &Fired) -> (String, u32) {
        let mut point = Point::default();
        let tags = [("home".to_owned(), "h".to_owned())];
        let omitted = shape(fired, &tags, &mut point);
        let mut line = Vec::new();
        encode(&point, &mut line).unwrap();
        (String::from_utf8(line).unwrap(), omitted)
    }

    fn check(event_type: &str, data: &str, expected: &str) {
        let (line, omitted) = line(&fired(event_type, data));
        assert_eq!((&*line, omitted), (&*format!("ha_event,{expected} 1000"), 0), "{data}");
    }

    #[test]
    fn the_three_usual_events_have_their_tags() {
        check(
            "automation_triggered",
            r#"{"name":"Light at night","entity_id":"automation.light","source":"state of sun.sun"}"#,
            r#"entity_id=automation.light,event_type=automation_triggered,home=h name_str="Light at night",source_str="state of sun.sun""#,
        );
        check(
            "script_started",
            r#"{"name":"Tea","entity_id":"script.tea"}"#,
            r#"entity_id=script.tea,event_type=script_started,home=h name_str="Tea""#,
        );
        check(
            "call_service",
            r#"{"domain":"light","service":"turn_on","service_data":{"entity_id":["light.a","light.b"],"brightness":255,"flash":null,"transition":1.5,"on":true}}"#,
            concat!(
                "domain=light,event_type=call_service,home=h,service=turn_on service_data_brightness=255,",
                r#"service_data_entity_id_str="['light.a', 'light.b']",service_data_on=1,service_data_transition=1.5"#
            ),
        );
    }

    #[test]
    fn only_what_is_bounded_is_a_tag() {
        check(
            "x",
            r#"{"domain":"d","service":"s","entity_id":"light.a"}"#,
            r#"entity_id=light.a,event_type=x,home=h domain_str="d",service_str="s""#,
        );
        check("x", r#"{"entity_id":"light a.b"}"#, r#"event_type=x,home=h entity_id_str="light a.b""#);
        check("x", r#"{"entity_id":["light.a"]}"#, r#"event_type=x,home=h entity_id_str="['light.a']""#);
        check(
            "call_service",
            r#"{"domain":"","service":"a b"}"#,
            r#"event_type=call_service,home=h domain_str="",service_str="a b""#,
        );
    }

    #[test]
    fn a_key_has_one_type_for_ever() {
        check(
            "x",
            r#"{"a":1,"b":"1","c_str":2,"d_str":"t"}"#,
            r#"event_type=x,home=h a=1,b_str="1",c_str_=2,d_str_str="t""#,
        );
        check(
            "x",
            r#"{"time":1,"domain":2,"event_type":3,"home":4,"context_id":5}"#,
            "event_type=x,home=h context_id_=5,domain_=2,event_type_=3,home_=4,time_=1",
        );
        check(
            "x",
            r#"{"a":{"b":1},"a_b":2,"t":{"u":"v"},"t_u":"w"}"#,
            r#"event_type=x,home=h a_b=1,a_b_=2,t_u__str="w",t_u_str="v""#,
        );
        check(
            "x",
            r#"{"lines":"a\nb","list":[1.0,true,null]}"#,
            r#"event_type=x,home=h lines_str="a b",list_str="[1.0, True, None]""#,
        );
    }

    #[test]
    fn who_caused_it_is_told() {
        let mut event = fired("x", "{}");
        event.context = ContextId::parse("01M848TN12FCNDE0MBWYZF8N1Y");
        event.parent = ContextId::parse("01M848TN0R4WE8F83EYTTCB8AT");
        event.user = Some("1dc3d3068bcb41c8b7ae27c6e011a291".into());
        let expected = concat!(
            r#"ha_event,event_type=x,home=h context_id="01M848TN12FCNDE0MBWYZF8N1Y",context_parent_id="01M848TN0R4WE8F83EYTTCB8AT","#,
            r#"context_user_id="1dc3d3068bcb41c8b7ae27c6e011a291" 1000"#
        );
        assert_eq!(line(&event).0, expected);
    }

    #[test]
    fn what_a_key_says_is_secret_is_never_written() {
        let data = r#"{"a":1,"code":"hunter2","Service_Data":{"PIN":"hunter2","deep":{"apiKey":"hunter2","accessToken":"hunter2"}},
            "list":[{"password":"hunter2","user":"u"}],"Authorization":{"x":"hunter2"},"client_secret":["hunter2"]}"#;
        check("x", data, r#"event_type=x,home=h a=1,list_str="[{'user': 'u'}]""#);
        for secret in
            ["user_code", "alarmCode", "pin-code", "WIFI_PASSWORD", "x_api_key", "usercode_pin", "private key", "otp"]
        {
            assert!(is_secret(secret), "{secret}");
        }
        for open in [
            "spinning",
            "encoded",
            "error_code",
            "statusCode",
            "key_code",
            "passage",
            "author",
            "decode",
            "country_code",
        ] {
            assert!(!is_secret(open), "{open}");
        }
    }

    #[test]
    fn fields_and_depth_are_bounded() {
        let many: Vec<_> = (0..MOST_FIELDS + 7).map(|number| format!(r#""k{number}":{number}"#)).collect();
        let (text, omitted) = line(&fired("x", &format!("{{{}}}", many.join(","))));
        assert_eq!((text.matches('=').count(), omitted), (2 + MOST_FIELDS, 7));
        let deep = format!("{}1{}", r#"{"a":"#.repeat(12), "}".repeat(12));
        let (text, omitted) = line(&fired("x", &deep));
        assert_eq!(
            (&*text, omitted),
            (r#"ha_event,event_type=x,home=h a_a_a_a_a_a_a_a_a_str="{'a': {'a': {'a': 1}}}" 1000"#, 0)
        );
        let depth = 100;
        let (text, _) = line(&fired("x", &format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth))));
        assert!(text.contains("_str="));
    }
}
