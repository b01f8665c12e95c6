//! What one event costs on one core, from the bytes of a frame to the bytes of a line: the whole way and each stage.
//!
//! `cargo bench --bench stages`; `items/s` is events per second. Every round repeats the same events, later.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use ha_ingestor::ingest::hass::protocol::{Message, decode};
use ha_ingestor::ingest::hass::states::{Applied, States};
use ha_ingestor::line::encode::encode;
use ha_ingestor::model::event::Event;
use ha_ingestor::model::point::Point;
use ha_ingestor::model::time::Timestamp;
use ha_ingestor::pipeline::{Fate, Pipeline};
use ha_ingestor::rules::{Actions, FieldActions, Rule, Rules, Selection};

/// When the events arrive; no rule here minds.
const NOW: Timestamp = Timestamp::from_micros(1_795_448_700_000_000);

fn main() {
    divan::main();
}

/// What the frames of a round hold.
#[derive(Debug, Clone, Copy)]
enum Input {
    /// A sensor of five attributes has a new state, one frame for each: most of what a home sends.
    Sensors,
    /// The same changes, 64 in one frame: a busy home.
    SensorsInArrays,
    /// Recorded from Home Assistant while it was busy: 18 kinds of entities, 390 events in one frame.
    Recorded,
    /// A lamp changes its colour: new values for ten attributes, lists among them.
    Lights,
}

const INPUTS: [Input; 4] = [Input::Sensors, Input::SensorsInArrays, Input::Recorded, Input::Lights];

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sensors => "sensors, one event a frame",
            Self::SensorsInArrays => "sensors, 64 events a frame",
            Self::Recorded => "recorded mix, 390 events a frame",
            Self::Lights => "lights, ten new attributes",
        })
    }
}

#[divan::bench(name = "1 frame -> event", args = INPUTS)]
fn frame_to_event(bencher: Bencher, input: Input) {
    let tape = Tape::new(input);
    let mut states = tape.states();
    let mut round = 0;
    tape.counted(bencher).with_inputs(|| tape.frames_later(&mut round)).bench_local_values(|frames| {
        for frame in frames {
            black_box(read(&mut states, &frame));
        }
    });
}

#[divan::bench(name = "2 event -> point", args = INPUTS)]
fn event_to_point(bencher: Bencher, input: Input) {
    let tape = Tape::new(input);
    let events = tape.events();
    let mut pipeline = pipeline();
    let mut round = 0;
    tape.counted(bencher).with_inputs(|| later(&events, &mut round)).bench_local_refs(|events| {
        for event in events {
            assert!(matches!(black_box(pipeline.handle(event, NOW)), Fate::Point { .. }));
        }
    });
}

#[divan::bench(name = "3 point -> line", args = INPUTS)]
fn point_to_line(bencher: Bencher, input: Input) {
    let tape = Tape::new(input);
    let mut pipeline = pipeline();
    let points: Vec<Point> = tape
        .events()
        .iter()
        .map(|event| match pipeline.handle(event, NOW) {
            Fate::Point { point, .. } => point.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    let mut lines = Vec::with_capacity(1 << 22);
    tape.counted(bencher).bench_local(|| {
        lines.clear();
        for point in &points {
            encode(black_box(point), &mut lines).expect("the point can be written");
            lines.push(b'\n');
        }
    });
}

#[divan::bench(name = "4 frame -> line", args = INPUTS)]
fn frame_to_line(bencher: Bencher, input: Input) {
    let tape = Tape::new(input);
    let (mut states, mut pipeline) = (tape.states(), pipeline());
    let mut lines = Vec::with_capacity(1 << 22);
    let mut round = 0;
    tape.counted(bencher).with_inputs(|| tape.frames_later(&mut round)).bench_local_values(|frames| {
        lines.clear();
        let written: usize = frames.iter().map(|frame| write(frame, &mut states, &mut pipeline, &mut lines)).sum();
        assert_eq!(written, tape.events, "nothing was filtered or taken for a duplicate");
    });
}

/// The sensors under so many rules, of which a few match each of them. What rules cost must not grow with their number.
#[divan::bench(name = "5 event -> point with rules", args = [0, 10, 200])]
fn event_to_point_with_rules(bencher: Bencher, rules: usize) {
    let tape = Tape::new(Input::Sensors);
    let events = tape.events();
    let rules = Rules { rules: (0..rules).map(mixed_rule).collect(), ..Rules::default() };
    let mut pipeline = Pipeline::new(&Arc::new(rules));
    let mut round = 0;
    tape.counted(bencher).with_inputs(|| later(&events, &mut round)).bench_local_refs(|events| {
        for event in events {
            assert!(matches!(black_box(pipeline.handle(event, NOW)), Fate::Point { .. }));
        }
    });
}

/// Half of the first ten change something of sensors; all others are about entities that are not there, as in a home where
/// each kind of entity has rules of its own.
fn mixed_rule(number: usize) -> Rule {
    let list = |text: String| vec![text];
    let selection = match number % 5 {
        0 | 3 if number >= 10 => Selection { entity_globs: list(format!("light.*_{number}")), ..Selection::default() },
        0 => Selection { domains: list("sensor".into()), ..Selection::default() },
        1 => Selection { entity_globs: list(format!("sensor.nowhere_*_{number}")), ..Selection::default() },
        2 => {
            let mut selection = Selection::default();
            selection.registry.areas = list(format!("Room {number}"));
            selection
        }
        3 => Selection { device_classes: list("temperature".into()), ..Selection::default() },
        _ => Selection { entities: list(format!("light.lamp_{number}")), ..Selection::default() },
    };
    let number_actions = FieldActions { scale: Some(1.0), round: Some(2), ..FieldActions::default() };
    let actions = match number % 4 {
        0 => Actions { tags: Some(vec![(format!("tag_{}", number % 8), "x".into())]), ..Actions::default() },
        1 => Actions { ignore_attributes: Some(list("icon".into())), ..Actions::default() },
        2 => Actions { fields: Some(vec![("value".into(), number_actions)]), ..Actions::default() },
        _ => Actions { heartbeat: Some(Duration::from_hours(1)), ..Actions::default() },
    };
    Rule { name: format!("rules[{number}]").into(), selection, actions }
}

/// From the text of a frame to events, as the conversation with Home Assistant does it.
#[inline(never)]
fn read(states: &mut States, frame: &str) -> Vec<Event> {
    let mut applied = Applied::default();
    for message in decode(frame).messages {
        if let Message::Event { entities, .. } = message {
            states.apply(entities, &mut applied);
        }
    }
    applied.events
}

/// From the text of a frame to lines. Gives how many there were.
#[inline(never)]
fn write(frame: &str, states: &mut States, pipeline: &mut Pipeline, lines: &mut Vec<u8>) -> usize {
    let mut written = 0;
    for event in read(states, frame) {
        if let Fate::Point { point, .. } = pipeline.handle(&event, NOW) {
            encode(point, lines).expect("the point can be written");
            lines.push(b'\n');
            written += 1;
        }
    }
    written
}

fn pipeline() -> Pipeline {
    Pipeline::new(&Arc::new(Rules::default()))
}

fn later(events: &[Event], round: &mut i64) -> Vec<Event> {
    *round += 1;
    let mut events = events.to_vec();
    for event in &mut events {
        let Event::Changed(change) = event else { panic!("only changes are on the tape") };
        change.last_updated = Timestamp::from_micros(change.last_updated.as_micros() + *round * 1_000_000);
    }
    events
}

/// The frames of one round and the states before it.
struct Tape {
    snapshot: String,
    frames: Vec<String>,
    events: usize,
}

impl Tape {
    const EVENTS: usize = 5_120;
    const ENTITIES: usize = 500;
    /// Before the seconds of every event, which is where a round differs from the one before.
    const TIMES: [&str; 2] = [r#""lc":"#, r#""lu":"#];
    const FIRST_SECOND: u64 = 1_795_449_107;

    fn new(input: Input) -> Self {
        let (snapshot, frames) = match input {
            Input::Sensors => (snapshot(SENSOR, SENSOR_ATTRIBUTES), changes(SENSOR, new_state)),
            Input::SensorsInArrays => {
                let changes = changes(SENSOR, new_state);
                let frames = changes.chunks(64).map(|chunk| format!("[{}]", chunk.join(","))).collect();
                (snapshot(SENSOR, SENSOR_ATTRIBUTES), frames)
            }
            Input::Lights => (snapshot(LAMP, LAMP_ATTRIBUTES), changes(LAMP, new_colour)),
            Input::Recorded => (
                include_str!("../tests/fixtures/hass/snapshot.json").to_owned(),
                vec![include_str!("../tests/fixtures/hass/array.json").to_owned()],
            ),
        };
        let events = frames.iter().map(|frame: &String| frame.matches(r#""type":"event""#).count()).sum();
        Self { snapshot, frames, events }
    }

    fn counted<'a, 'b>(&self, bencher: Bencher<'a, 'b>) -> Bencher<'a, 'b> {
        let bytes: usize = self.frames.iter().map(String::len).sum();
        bencher.counter(ItemsCount::new(self.events)).counter(BytesCount::new(bytes))
    }

    /// The states of all entities before the first frame.
    fn states(&self) -> States {
        let mut states = States::default();
        assert!(!read(&mut states, &self.snapshot).is_empty());
        states
    }

    fn events(&self) -> Vec<Event> {
        let mut states = self.states();
        self.frames.iter().flat_map(|frame| read(&mut states, frame)).collect()
    }

    /// The frames of the next round: a second later, so that no event is a duplicate.
    fn frames_later(&self, round: &mut u64) -> Vec<String> {
        *round += 1;
        let second = (Self::FIRST_SECOND + *round).to_string();
        let mut frames = self.frames.clone();
        for (frame, as_recorded) in frames.iter_mut().zip(&self.frames) {
            for name in Self::TIMES {
                for (at, _) in as_recorded.match_indices(name) {
                    let at = at + name.len();
                    frame.replace_range(at..at + second.len(), &second);
                }
            }
        }
        frames
    }
}

const SENSOR: &str = "sensor.living_room_temperature";
const SENSOR_ATTRIBUTES: &str = concat!(
    r#""state_class":"measurement","unit_of_measurement":"°C","device_class":"temperature","#,
    r#""icon":"mdi:thermometer","friendly_name":"Living room temperature""#
);
const LAMP: &str = "light.kitchen_ceiling";
const LAMP_ATTRIBUTES: &str = r#""friendly_name":"Kitchen""#;

fn snapshot(entity: &str, attributes: &str) -> String {
    let state = |number| format!(r#""{entity}_{number}":{{"s":"0","a":{{{attributes}}},"lc":1.0}}"#);
    let states: Vec<_> = (0..Tape::ENTITIES).map(state).collect();
    format!(r#"{{"id":2,"type":"event","event":{{"a":{{{}}}}}}}"#, states.join(","))
}

fn changes(entity: &str, change: fn(usize) -> String) -> Vec<String> {
    let message = |number| {
        format!(
            concat!(
                r#"{{"type":"event","event":{{"c":{{"{entity}_{which}":{{"+":{{{change},"lc":1795449107.{micros:06}5,"#,
                r#""c":"01M84HPDAYTV8KN8K6G4WHTTHN"}}}}}}}},"id":2}}"#
            ),
            entity = entity,
            which = number * 7 % Tape::ENTITIES,
            change = change(number),
            micros = number * 997 % 1_000_000
        )
    };
    (0..Tape::EVENTS).map(message).collect()
}

fn new_state(number: usize) -> String {
    let tenths = number % 400;
    format!(r#""s":"{}.{}""#, tenths / 10, tenths % 10)
}

fn new_colour(number: usize) -> String {
    format!(
        concat!(
            r#""s":"on","a":{{"brightness":{byte},"color_mode":"hs","color_temp_kelvin":null,"hs_color":[{byte}.5,65.25],"#,
            r#""rgb_color":[{byte},199,142],"xy_color":[0.3{byte},0.33],"effect":"colorloop","friendly_name":"Kitchen {byte}","#,
            r#""supported_color_modes":["color_temp","hs"],"supported_features":44}}"#
        ),
        byte = number % 256
    )
}
