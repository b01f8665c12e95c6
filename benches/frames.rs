//! What one event costs between the socket and the pipeline: a frame's text in, events out.
//!
//! Divide by the number of events: `items/s` is events per second. Run with `cargo bench --bench frames`.

use std::fmt::Write as _;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use ha_ingestor::ingest::hass::protocol::{Message, decode};
use ha_ingestor::ingest::hass::states::{Applied, States};

/// The frames of one round, over 500 entities.
const EVENTS: usize = 5_120;
const ENTITIES: usize = 500;

fn main() {
    divan::main();
}

/// One frame for each change, about 160 bytes: most of what a home sends.
#[divan::bench]
fn state_only(bencher: Bencher) {
    let frames: Vec<_> = (0..EVENTS).map(|number| message(number, &state_change(number))).collect();
    run(bencher, &frames);
}

/// The same changes, 64 in one frame: a busy home.
#[divan::bench]
fn state_only_in_arrays_of_64(bencher: Bencher) {
    let messages: Vec<_> = (0..EVENTS).map(|number| message(number, &state_change(number))).collect();
    let frames: Vec<_> = messages.chunks(64).map(|chunk| format!("[{}]", chunk.join(","))).collect();
    run(bencher, &frames);
}

/// A lamp that changes its colour: ten attributes, lists among them.
#[divan::bench]
fn lights(bencher: Bencher) {
    let frames: Vec<_> = (0..EVENTS).map(|number| message(number, &light_change(number))).collect();
    run(bencher, &frames);
}

/// Recorded from Home Assistant while it was busy: 18 kinds of entities, as an array.
#[divan::bench]
fn recorded_array(bencher: Bencher) {
    const ARRAY: &str = include_str!("../tests/fixtures/hass/array.json");
    let mut states = States::default();
    take(&mut states, include_str!("../tests/fixtures/hass/snapshot.json"));
    measure(bencher, &mut states, &[ARRAY.to_owned()], ARRAY.matches(r#""type":"event""#).count());
}

fn message(number: usize, change: &str) -> String {
    let entity = number * 7 % ENTITIES;
    format!(
        r#"{{"type":"event","event":{{"c":{{"sensor.living_room_temperature_{entity}":{{"+":{{{change}}}}}}}}},"id":2}}"#
    )
}

fn state_change(number: usize) -> String {
    let tenths = number % 400;
    let micros = number * 997 % 1_000_000;
    format!(r#""s":"{}.{}","lc":1795449107.{micros:06}5,"c":"01M84HPDAYTV8KN8K6G4WHTTHN""#, tenths / 10, tenths % 10)
}

fn light_change(number: usize) -> String {
    let byte = number % 256;
    format!(
        concat!(
            r#""s":"on","lu":1795449107.8066285,"c":"01M84HPDAYTV8KN8K6G4WHTTHN","a":{{"brightness":{b},"#,
            r#""color_mode":"hs","color_temp_kelvin":null,"hs_color":[{b}.5,65.25],"rgb_color":[{b},199,142],"#,
            r#""xy_color":[0.3{b},0.33],"effect":"colorloop","friendly_name":"Kitchen {b}","#,
            r#""supported_color_modes":["color_temp","hs"],"supported_features":44}}"#
        ),
        b = byte
    )
}

fn run(bencher: Bencher, frames: &[String]) {
    let mut snapshot = String::from(r#"{"id":2,"type":"event","event":{"a":{"#);
    for entity in 0..ENTITIES {
        let comma = if entity == 0 { "" } else { "," };
        write!(
            snapshot,
            concat!(
                r#"{comma}"sensor.living_room_temperature_{entity}":{{"s":"0","a":{{"state_class":"measurement","#,
                r#""unit_of_measurement":"°C","device_class":"temperature","friendly_name":"Living room {entity}"}},"lc":1.0}}"#
            ),
            comma = comma,
            entity = entity
        )
        .expect("a string takes all that is written to it");
    }
    snapshot.push_str("}}}");
    let mut states = States::default();
    assert_eq!(take(&mut states, &snapshot), ENTITIES);
    measure(bencher, &mut states, frames, EVENTS);
}

fn measure(bencher: Bencher, states: &mut States, frames: &[String], events: usize) {
    let bytes: usize = frames.iter().map(String::len).sum();
    let counters = bencher.counter(ItemsCount::new(events)).counter(BytesCount::new(bytes));
    counters.bench_local(|| {
        let given: usize = frames.iter().map(|frame| take(states, black_box(frame))).sum();
        assert_eq!(given, events);
    });
}

/// From text to events, as the session does it. Gives how many there were.
fn take(states: &mut States, frame: &str) -> usize {
    let mut applied = Applied::default();
    for message in decode(frame).messages {
        if let Message::Event { entities, .. } = message {
            states.apply(entities, &mut applied);
        }
    }
    black_box(applied.events).len()
}
