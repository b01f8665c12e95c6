//! Which topic decides, in which order, and that any message has one reading.

use std::collections::HashMap;

use bytes::Bytes;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::{Decision, MAX_DECIDED, MAX_DECIDED_BYTES, MAX_PAYLOAD_BYTES, Messages, Reading, Settled};
use crate::line::encode::encode;
use crate::model::entity::EntityId;
use crate::model::event::{Message, Source};
use crate::model::fate::{Filtered, Reason as _};
use crate::model::point::Point;
use crate::model::time::Timestamp;
use crate::model::topic::TopicFilter;
use crate::pipeline::twice::Told;
use crate::rules::{FieldType, JsonPath, Mapping, Meaning, Part, Payload, PayloadTime, Rules, TimeFormat, Topic};

const NOW: Timestamp = Timestamp::from_micros(1_000_000);

fn mapping(payload: Payload) -> Mapping {
    Mapping {
        measurement: Part::Level(1),
        tags: vec![("device".into(), Part::Json(JsonPath(vec!["name".into()])))],
        payload,
        ignore_fields: vec!["time".into()],
        time: None,
    }
}

fn topic(name: &str, filter: &str, retained: bool, meaning: Meaning) -> Topic {
    Topic { name: name.into(), filter: TopicFilter::parse(filter).unwrap(), retained, meaning }
}

fn messages() -> Messages {
    let raw = |cast| Meaning::Point(Mapping { tags: Vec::new(), ..mapping(Payload::Raw { cast }) });
    let object = Payload::Object { separator: "_".into(), types: vec![("n".into(), FieldType::Integer)] };
    let timed = PayloadTime { path: JsonPath(vec!["time".into()]), format: TimeFormat::UnixMilliseconds };
    Messages::new(&Rules {
        topics: vec![
            topic("first", "raw/+", false, raw(None)),
            topic("second", "raw/#", true, raw(Some(FieldType::Integer))),
            topic("object", "json/#", true, Meaning::Point(mapping(object.clone()))),
            topic("timed", "timed/#", true, Meaning::Point(Mapping { time: Some(timed), ..mapping(object) })),
            topic("states", "ha/#", false, Meaning::StateStream),
            topic("events", "events", true, Meaning::EventStream),
        ],
        ignored_topics: vec![TopicFilter::parse("+/secret/#").unwrap()],
        ..Rules::default()
    })
}

fn message(topic: &str, payload: &[u8], retained: bool) -> Message {
    Message { topic: topic.into(), payload: Bytes::copy_from_slice(payload), retained, arrived: NOW, receipt: 1 }
}

fn label(reading: &Reading) -> String {
    match reading {
        Reading::Point { omitted: 0, rule } => format!("point by {rule}"),
        Reading::Point { omitted, rule } => format!("point by {rule} without {omitted}"),
        Reading::Waiting => "waiting".into(),
        Reading::Filtered(reason) => reason.label().into(),
        Reading::Refused { reason, rule } => format!("{} by {rule}", reason.label()),
    }
}

#[test]
fn the_first_topic_that_matches_says_what_a_message_is() {
    let mut messages = messages();
    let too_large = "1".repeat(MAX_PAYLOAD_BYTES + 1);
    let event = br#"{"event_type":"state_changed","event_data":{"new_state":{"entity_id":"a.b","state":"1"}}}"#;
    let table: [(&str, &[u8], bool, &str); 22] = [
        ("raw/a", b"5", false, "point by first"),
        ("raw/a", b"x", false, "point by first"),
        ("raw/a", b"5", true, "retained"),
        ("raw/a", b"", true, "retained"),
        ("raw/a", b"", false, "empty"),
        ("raw/a", b"\xff5", false, "not_text by first"),
        ("raw/a", too_large.as_bytes(), false, "payload_too_large by first"),
        ("raw/a", &too_large.as_bytes()[1..], false, "no_fields by first"),
        ("raw/a/b", b"5", true, "point by second"),
        ("raw/a/b", b"5.5", true, "wrong_type by second"),
        ("raw/secret", b"5", false, "ignored_topic"),
        ("raw/secret/a", b"\xff", false, "ignored_topic"),
        ("other", b"5", false, "not_mapped"),
        ("", b"5", false, "not_mapped"),
        ("json/a", br#"{"n":5,"name":"x"}"#, true, "point by object"),
        ("json/a", b"5", true, "not_json by object"),
        ("timed/a", br#"{"n":5}"#, false, "no_time by timed"),
        ("ha/light/a/state", b"on", false, "waiting"),
        ("ha/light/a/state", b"on", true, "retained"),
        ("ha/status", b"online", false, "not_mapped"),
        ("events", event, false, "waiting"),
        ("events", b"{}", false, "not_json by events"),
    ];
    // The second time nothing is searched.
    for _ in 0..2 {
        for (topic, payload, retained, expected) in table {
            let reading = messages.read(&message(topic, payload, retained), &[], &mut Point::default(), NOW);
            assert_eq!(label(&reading), expected, "{topic}");
        }
    }
    assert_eq!(messages.waiting(), 4);
}

#[test]
fn only_topics_of_home_assistant_have_states() {
    assert!(messages().have_states());
    let mut none = messages();
    none.topics.retain(|topic| matches!(topic.meaning, Meaning::Point(_)));
    assert!(!none.have_states());
    assert!(!Messages::default().have_states());
}

#[test]
fn a_topic_is_looked_up_once_and_not_for_ever() {
    let mut messages = messages();
    let hot = "raw/hot".into();
    assert_eq!(messages.decide(&hot), Decision::Mapped(0));
    // Were the filters asked again, nothing would match.
    messages.topics[0].filter = TopicFilter::parse("nothing").unwrap();
    assert_eq!(messages.decide(&hot), Decision::Mapped(0));
    messages.decide(&"raw/x".repeat(MAX_DECIDED_BYTES).into());
    assert_eq!(messages.decided.len(), 1);
    for number in 0..MAX_DECIDED {
        messages.decide(&format!("other/{number}").into());
    }
    assert!(messages.decided.len() <= MAX_DECIDED);
    assert_eq!(messages.decide(&hot), Decision::Mapped(1));
}

#[test]
fn changes_of_both_streams_come_out_by_their_time() {
    let mut messages = messages();
    let event = include_bytes!("../../../tests/fixtures/mqtt/eventstream_state_changed.json");
    for (micros, topic, payload) in [(0, "ha/light/a/state", &b"on"[..]), (500_000, "events", event)] {
        let message = Message { receipt: u64::try_from(micros + 1).unwrap(), ..message(topic, payload, false) };
        let now = Timestamp::from_micros(micros);
        assert_eq!(messages.read(&message, &[], &mut Point::default(), now), Reading::Waiting);
    }
    assert_eq!(messages.oldest_receipt(), Some(1));
    let settled = messages.next_settled(Timestamp::from_micros(1_000_000)).unwrap();
    assert_eq!((settled.change.entity.as_str(), settled.is_exact), ("light.a", false));
    assert_eq!(messages.next_settled(Timestamp::from_micros(1_499_999)), None);
    assert_eq!(
        (messages.oldest_receipt(), messages.due_at()),
        (Some(500_001), Some(Timestamp::from_micros(1_500_000)))
    );
    let settled = messages.next_settled(Timestamp::from_micros(1_500_000)).unwrap();
    assert_eq!((settled.change.entity.as_str(), settled.is_exact), ("sensor.greenhouse_temperature", true));
    assert_eq!((messages.waiting(), messages.due_at()), (0, None));
}

/// What a real Home Assistant published of quick changes of three entities, by both of its streams at once: the time of
/// the arrival in microseconds, the topic and the payload of each message.
const RECORDED: &str = include_str!("../../../tests/fixtures/mqtt/quick_changes.txt");

/// Everything that comes out of the recording, of the topics that begin like this.
fn play(beginning: &str) -> Vec<Settled> {
    let mut messages = Messages::new(&Rules {
        topics: vec![
            topic("states", "stream/#", false, Meaning::StateStream),
            topic("events", "home/events", false, Meaning::EventStream),
        ],
        ..Rules::default()
    });
    let mut all = Vec::new();
    for (line, receipt) in RECORDED.lines().zip(1..) {
        let mut parts = line.splitn(3, ' ');
        let now = Timestamp::from_micros(parts.next().unwrap().parse().unwrap());
        let (topic, payload) = (parts.next().unwrap(), parts.next().unwrap());
        all.extend(std::iter::from_fn(|| messages.next_settled(now)));
        if topic.starts_with(beginning) {
            let message = Message { arrived: now, receipt, ..message(topic, payload.as_bytes(), false) };
            let reading = messages.read(&message, &[], &mut Point::default(), now);
            assert!(
                matches!(reading, Reading::Waiting | Reading::Filtered(Filtered::PartOfState)),
                "{line}: {reading:?}"
            );
        }
    }
    all.extend(std::iter::from_fn(|| messages.next_settled(Timestamp::from_micros(i64::MAX))));
    all
}

#[test]
fn the_pieces_of_a_real_stream_make_the_changes_that_happened() {
    let mut pieces = play("stream/");
    // Home Assistant publishes states from the end of its start on, and events from their first.
    let first = pieces[0].change.last_updated;
    let mut whole = play("home/events");
    whole.retain(|settled| settled.change.last_updated >= first);
    assert_eq!(whole.len(), 26, "what the recording holds");
    for settled in &mut whole {
        settled.change.context = None;
    }
    for changes in [&mut pieces, &mut whole] {
        changes.sort_by_key(|settled| settled.change.last_updated);
    }
    assert_eq!(pieces, whole);

    let mut told: HashMap<EntityId, Told> = HashMap::new();
    let mut points = play("");
    points.retain(|Settled { change, is_exact }| {
        let told = told.entry(change.entity.clone()).or_default();
        change.last_updated >= first && !told.has_been_told(change, Source::Mqtt, *is_exact)
    });
    assert_eq!(points.len(), whole.len());
}

/// Payloads that come close to what the rules expect.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<Vec<u8>>(),
        any::<String>().prop_map(String::into_bytes),
        any::<f64>().prop_map(|number| number.to_string().into_bytes()),
        "\\{(\"(n|name|time|a|event_type)\":(null|-?[0-9]{1,20}(\\.[0-9]{1,3})?|\"[a-z0-9\\\\n]{0,5}\"|\\[1,\\{\\}\\]),?){0,4}\\}"
            .prop_map(String::into_bytes),
        Just(br#"{"event_type":"state_changed","event_data":{"new_state":{"entity_id":"a.b","state":"1"}}}"#.to_vec()),
        Just(b"2026-02-14T18:30:05+00:00".to_vec()),
    ]
}

fn any_topic() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "(raw|json|timed|events|ha)(/(secret|a|b|state|last_updated|last_changed|x y|\\PC{0,3})){0,4}",
        "ha/[ab]/[ab]/(state|last_updated|last_changed|unit_of_measurement)",
    ]
}

proptest! {
    #[test]
    fn any_message_has_one_reading(
        given in proptest::collection::vec((any_topic(), payload(), any::<bool>(), -2_000_000..3_000_000_i64), 1..30),
    ) {
        let mut messages = messages();
        let mut point = Point::default();
        let tags = [("site".to_owned(), "home".to_owned())];
        let (mut now, mut began, mut came_out) = (0, 0, 0);
        for (receipt, (topic, payload, retained, passed)) in (1..).zip(given) {
            now += passed;
            let message = Message { receipt, ..message(&topic, &payload, retained) };
            match messages.read(&message, &tags, &mut point, Timestamp::from_micros(now)) {
                Reading::Point { .. } => {
                    let fields = point.fields().count();
                    prop_assert!(fields > 0 && point.tags().any(|tag| tag == ("site", "home")));
                    let mut line = Vec::new();
                    // A value without a name is the only thing that the encoder may find nothing in.
                    prop_assert!(encode(&point, &mut line).is_ok() || point.fields().all(|(key, _)| key.is_empty()));
                    let keys: Vec<_> = point.fields().map(|(key, _)| key).collect();
                    prop_assert!(keys.is_sorted() && keys.windows(2).all(|pair| pair[0] != pair[1]), "{keys:?}");
                }
                Reading::Waiting => began += 1,
                Reading::Filtered(_) | Reading::Refused { .. } => {}
            }
            while messages.next_settled(Timestamp::from_micros(now)).is_some() {
                came_out += 1;
            }
            prop_assert_eq!(messages.waiting(), began - came_out);
            prop_assert_eq!(messages.oldest_receipt().is_some(), messages.waiting() > 0);
            prop_assert_eq!(messages.due_at().is_some(), messages.waiting() > 0);
        }
        while messages.next_settled(Timestamp::from_micros(i64::MAX)).is_some() {
            came_out += 1;
        }
        prop_assert_eq!(began, came_out);
    }
}
