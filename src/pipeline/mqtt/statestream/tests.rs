//! Sequences of messages as `mqtt_statestream` publishes them, and as a broker may deliver them.

use std::sync::Arc;

use bytes::Bytes;

use super::split;
use crate::model::event::Message;
use crate::model::fate::{Filtered, Reason as _, Refused};
use crate::model::point::Point;
use crate::model::time::Timestamp;
use crate::model::topic::TopicFilter;
use crate::pipeline::mqtt::{Messages, Reading, Settled};
use crate::rules::{Meaning, Rules, Topic};

/// The messages of a stream, each with what it is read as.
struct Stream {
    messages: Messages,
    receipt: u64,
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_micros(millis * 1_000)
}

/// What Home Assistant's `isoformat` gives.
fn iso(millis: i64) -> String {
    at(millis).to_string().replace('Z', "+00:00")
}

impl Stream {
    fn new() -> Self {
        let topic = Topic {
            name: "stream".into(),
            filter: TopicFilter::parse("home/stream/#").unwrap(),
            retained: false,
            meaning: Meaning::StateStream,
        };
        Self { messages: Messages::new(&Rules { topics: vec![topic], ..Rules::default() }), receipt: 0 }
    }

    fn read(&mut self, millis: i64, what: &str, payload: &str) -> String {
        self.receipt += 1;
        let message = Message {
            topic: format!("home/stream/{what}").into(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            retained: false,
            arrived: at(millis),
            receipt: self.receipt,
        };
        match self.messages.read(&message, &[], &mut Point::default(), at(millis)) {
            Reading::Point { .. } => "point".into(),
            Reading::Waiting => "waiting".into(),
            Reading::Filtered(reason) => reason.label().into(),
            Reading::Refused { reason, rule } => format!("{} by {rule}", reason.label()),
        }
    }

    fn state(&mut self, millis: i64, state: &str) {
        assert_eq!(self.read(millis, "sensor/a/state", state), "waiting");
    }

    fn part(&mut self, millis: i64, name: &str, payload: &str) {
        assert_eq!(self.read(millis, &format!("sensor/a/{name}"), payload), "part_of_state");
    }

    /// A change with everything that is published of it.
    fn change(&mut self, millis: i64, state: &str, attributes: &[(&str, &str)]) {
        self.state(millis, state);
        self.part(millis, "last_updated", &iso(millis));
        self.part(millis, "last_changed", &iso(millis));
        for (name, value) in attributes {
            self.part(millis, name, value);
        }
    }

    /// Everything that has settled: the state, the time, whether that is exact, the attributes.
    fn settled(&mut self, millis: i64) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(Settled { change, is_exact }) = self.messages.next_settled(at(millis)) {
            let attributes: Vec<_> =
                change.attributes.iter().map(|(name, value)| format!(" {name}={value:?}")).collect();
            let (sign, millis) = (if is_exact { '=' } else { '~' }, change.last_updated.as_micros() / 1_000);
            all.push(format!("{} {}{sign}{millis}{}", change.entity, change.state, attributes.concat()));
        }
        all
    }
}

#[test]
fn a_change_is_complete_after_a_second_of_silence() {
    let mut stream = Stream::new();
    stream.state(5_010, "21.5");
    assert_eq!(stream.messages.due_at(), Some(at(6_010)));
    stream.part(5_020, "last_updated", &iso(5_000));
    stream.part(5_030, "last_changed", &iso(4_000));
    stream.part(5_040, "unit_of_measurement", r#""°C""#);
    stream.part(5_900, "forecast", r#"[{"low": 3}]"#);
    assert_eq!((stream.messages.waiting(), stream.messages.oldest_receipt()), (1, Some(1)));
    assert!(stream.settled(6_899).is_empty());
    let expected = "sensor.a 21.5=5000 unit_of_measurement=Text(\"°C\") forecast=List([Map([(\"low\", Int(3))])])";
    assert_eq!(stream.settled(6_900), [expected]);
    assert_eq!((stream.messages.waiting(), stream.messages.oldest_receipt()), (0, None));
}

#[test]
fn without_timestamps_and_attributes_a_change_is_of_its_arrival() {
    let mut stream = Stream::new();
    stream.state(5_000, "on");
    stream.state(5_200, "off");
    assert_eq!(stream.read(5_300, "light/b/state", "on"), "waiting");
    stream.state(5_400, "on");
    assert_eq!(stream.settled(6_350), ["sensor.a on~5000", "sensor.a off~5200", "light.b on~5300"]);
    assert_eq!(stream.settled(i64::MAX / 1_000), ["sensor.a on~5400"]);
}

/// Home Assistant waits for the broker after each message, and starts with the next change meanwhile.
#[test]
fn the_messages_of_quick_changes_lie_between_each_other() {
    let mut stream = Stream::new();
    for (millis, state) in [(5_000, "1"), (5_001, "2"), (5_002, "3")] {
        stream.state(millis + 10, state);
    }
    for millis in [5_000, 5_001, 5_002] {
        stream.part(millis + 20, "last_updated", &iso(millis));
    }
    for millis in [5_000, 5_001, 5_002] {
        stream.part(millis + 30, "last_changed", &iso(millis));
    }
    for level in ["10", "20", "30"] {
        stream.part(5_040, "level", level);
    }
    let expected = ["sensor.a 1=5000 level=Int(10)", "sensor.a 2=5001 level=Int(20)", "sensor.a 3=5002 level=Int(30)"];
    assert_eq!(stream.settled(7_000), expected);
}

#[test]
fn an_entitys_changes_come_out_in_their_order() {
    let mut stream = Stream::new();
    stream.state(5_000, "1");
    stream.state(5_001, "2");
    stream.part(5_900, "last_updated", &iso(4_999));
    assert!(stream.settled(6_500).is_empty());
    assert_eq!(stream.settled(6_900), ["sensor.a 1=4999", "sensor.a 2~5001"]);
}

#[test]
fn who_came_between_a_state_and_its_time_finds_the_right_times() {
    let mut stream = Stream::new();
    // The state of 4,990 was published before anybody listened.
    stream.state(5_000, "2");
    stream.part(5_001, "last_updated", &iso(4_990));
    stream.part(5_002, "last_updated", &iso(4_999));
    // The broker delivers what was not confirmed a second time.
    stream.part(5_003, "last_updated", &iso(4_999));
    assert_eq!(stream.settled(7_000), ["sensor.a 2=4999"]);
}

#[test]
fn parts_without_a_state_are_no_change() {
    let mut stream = Stream::new();
    stream.part(5_000, "last_updated", &iso(5_000));
    stream.part(5_000, "last_changed", &iso(5_000));
    stream.part(5_000, "friendly_name", r#""A""#);
    assert_eq!(stream.messages.waiting(), 0);
    assert!(stream.settled(i64::MAX / 1_000).is_empty());
    // What was told of the entity holds for a change that tells nothing else.
    stream.state(9_000, "5");
    assert_eq!(stream.settled(10_000), ["sensor.a 5~9000 friendly_name=Text(\"A\")"]);
}

#[test]
fn attributes_are_those_of_the_change_and_the_naming_ones_stay() {
    let mut stream = Stream::new();
    let unit = ("unit_of_measurement", "\"W\"");
    stream.change(5_000, "5", &[unit, ("title", "\"Song\"")]);
    stream.change(8_000, "6", &[("volume", "3")]);
    // The connection broke before anything else came.
    stream.state(12_000, "7");
    assert_eq!(
        stream.settled(20_000),
        [
            "sensor.a 5=5000 unit_of_measurement=Text(\"W\") title=Text(\"Song\")",
            "sensor.a 6=8000 volume=Int(3) unit_of_measurement=Text(\"W\")",
            "sensor.a 7~12000 volume=Int(3) unit_of_measurement=Text(\"W\")",
        ]
    );
    stream.change(30_000, "8", &[("unit_of_measurement", "null")]);
    assert_eq!(stream.settled(40_000), ["sensor.a 8=30000 unit_of_measurement=Null"]);
}

#[test]
fn what_only_the_second_of_two_quick_changes_has_is_not_the_firsts() {
    let mut stream = Stream::new();
    stream.change(5_000, "idle", &[("volume", "3"), ("name", "\"TV\"")]);
    stream.change(5_300, "playing", &[("title", "\"Song\""), ("volume", "4"), ("name", "\"TV\"")]);
    stream.change(5_600, "idle", &[("volume", "4"), ("name", "\"TV\"")]);
    assert_eq!(
        stream.settled(7_000),
        [
            "sensor.a idle=5000 volume=Int(3) name=Text(\"TV\")",
            "sensor.a playing=5300 title=Text(\"Song\") volume=Int(4) name=Text(\"TV\")",
            "sensor.a idle=5600 volume=Int(4) name=Text(\"TV\")",
        ]
    );
}

#[test]
fn the_same_attributes_are_the_same_place_in_memory() {
    let mut stream = Stream::new();
    let mut seen = Vec::new();
    for millis in [5_000, 8_000, 11_000] {
        stream.change(millis, "5", &[("unit_of_measurement", "\"W\""), ("title", "\"Song\"")]);
        seen.push(stream.messages.next_settled(at(millis + 2_000)).unwrap().change.attributes);
    }
    assert!(Arc::ptr_eq(&seen[0], &seen[1]) && Arc::ptr_eq(&seen[1], &seen[2]));
}

#[test]
fn attributes_with_the_names_of_times_are_attributes() {
    let mut stream = Stream::new();
    stream.state(5_000, "5");
    stream.part(5_000, "last_updated", r#""2026-02-14T18:30:05+00:00""#);
    stream.part(5_000, "last_changed", "5");
    stream.part(5_000, "a/b", "true");
    let expected =
        "sensor.a 5~5000 last_updated=Text(\"2026-02-14T18:30:05+00:00\") last_changed=Int(5) a/b=Bool(true)";
    assert_eq!(stream.settled(7_000), [expected]);
}

#[test]
fn a_part_that_only_repeats_itself_keeps_nothing_waiting() {
    let mut stream = Stream::new();
    stream.state(5_000, "5");
    for millis in (5_100..6_000).step_by(100) {
        stream.part(millis, "level", &millis.to_string());
    }
    assert_eq!(stream.settled(6_100), ["sensor.a 5~5000 level=Int(5900)"]);
}

#[test]
fn what_cannot_be_read_is_named() {
    let mut stream = Stream::new();
    for (what, payload, expected) in [
        ("sensor/a/icon", "mdi:flash", "not_json by stream"),
        ("sensor/a/icon", "", "empty"),
        ("sensor/a/state", "", "empty"),
        ("sensor/a", "5", "not_mapped"),
        ("sensor//state", "5", "not_mapped"),
        ("/a/state", "5", "not_mapped"),
        ("sensor/a/", "5", "not_mapped"),
        ("a.b/c/state", "5", "not_mapped"),
        ("", "5", "not_mapped"),
        (&format!("sensor/{}/state", "a".repeat(255)), "5", "not_mapped"),
        ("sensor/a/long", &format!("\"{}\"", "a".repeat(70_000)), "payload_too_large by stream"),
    ] {
        assert_eq!(stream.read(5_000, what, payload), expected, "{what} {payload}");
    }
    assert_eq!(stream.messages.waiting(), 0);
}

#[test]
fn more_attributes_than_any_entity_has_are_refused() {
    let too_large = format!("{} by stream", Refused::PayloadTooLarge.label());
    let part_of_state = Filtered::PartOfState.label();
    for state_first in [true, false] {
        let mut stream = Stream::new();
        if state_first {
            stream.state(5_000, "5");
        }
        for number in 0..256 {
            stream.part(5_000, &format!("a{number}"), "1");
        }
        assert_eq!(stream.read(5_000, "sensor/a/one_more", "1"), too_large);
        assert_eq!(stream.read(5_000, "sensor/a/a0", "2"), part_of_state);
    }
}

#[test]
fn what_is_known_of_entities_is_bounded() {
    let mut stream = Stream::new();
    stream.change(1, "5", &[("level", "1")]);
    for number in 0..20_000 {
        assert_eq!(stream.read(1, &format!("sensor/s{number}/level"), "1"), "part_of_state");
    }
    let text = format!("\"{}\"", "a".repeat(60_000));
    for number in 0..1_000 {
        assert_eq!(stream.read(1, &format!("sensor/long{number}/text"), &text), "part_of_state");
        let kept: usize = stream.messages.stream.entities.values().map(|entity| entity.bytes).sum();
        assert!(
            stream.messages.stream.entities.len() <= super::MAX_ENTITIES && kept == stream.messages.stream.kept_bytes
        );
        assert!(kept <= super::MAX_KEPT_BYTES + 61_000, "{kept}");
    }
    // The change that was under way all the time is whole.
    assert_eq!(stream.settled(2_000), ["sensor.a 5=1 level=Int(1)"]);
}

#[test]
fn the_topic_of_an_entity_is_below_the_base() {
    for (topic, base_levels, expected) in [
        ("ha/sensor/a/state", 1, Some(("ha/sensor/a", "sensor.a", "state"))),
        ("sensor/a/state", 0, Some(("sensor/a", "sensor.a", "state"))),
        ("x/ha/sensor/a/b/c", 2, Some(("x/ha/sensor/a", "sensor.a", "b/c"))),
        ("ha/sensor/a/state", 2, None),
        ("ha/sensor", 1, None),
    ] {
        let got = split(topic, base_levels);
        let got = got.as_ref().map(|(place, entity, what)| (*place, entity.as_str(), *what));
        assert_eq!(got, expected, "{topic}");
    }
}
