//! Small tables, and random homes whose changes come through two sources.

use std::collections::HashSet;
use std::sync::Arc;

use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

use super::{MAX_KEPT, Told};
use crate::model::entity::EntityId;
use crate::model::event::{Source, StateChange};
use crate::model::time::Timestamp;

use Source::{HomeAssistant, Mqtt};

fn change(state: &str, millis: i64) -> StateChange {
    StateChange {
        entity: EntityId::parse("sensor.a").unwrap(),
        state: state.into(),
        attributes: Arc::default(),
        last_updated: Timestamp::from_micros(millis * 1_000),
        context: None,
    }
}

/// Each change with its source, its state, its time, whether that is exact, and whether it has been told.
fn check(changes: &[(Source, &str, i64, bool, bool)]) {
    let mut told = Told::default();
    for (at, (source, state, millis, is_exact, expected)) in changes.iter().enumerate() {
        let got = told.has_been_told(&change(state, *millis), *source, *is_exact);
        assert_eq!(got, *expected, "change {at} of {changes:?}");
    }
}

#[test]
fn the_same_exact_time_is_the_same_change_whoever_tells() {
    check(&[
        (HomeAssistant, "1", 5_000, true, false),
        (Mqtt, "1", 5_000, true, true),
        (Mqtt, "1", 5_000, true, true),
        (HomeAssistant, "1", 5_000, true, true),
        (Mqtt, "1", 5_001, true, false),
        (HomeAssistant, "1", 5_001, true, true),
    ]);
}

#[test]
fn an_arrival_is_the_same_change_if_it_says_the_same_soon_after() {
    for (delay, expected) in [(0, true), (10_000, true), (10_001, false), (-2_000, true), (-2_001, false)] {
        check(&[(HomeAssistant, "1", 50_000, true, false), (Mqtt, "1", 50_000 + delay, false, expected)]);
        check(&[(Mqtt, "1", 50_000 + delay, false, false), (HomeAssistant, "1", 50_000, true, expected)]);
    }
    check(&[(HomeAssistant, "1", 50_000, true, false), (Mqtt, "2", 50_000, false, false)]);
    check(&[(Mqtt, "1", 50_000, false, false), (Mqtt, "1", 50_000, false, false)]);
}

#[test]
fn each_change_answers_once() {
    check(&[
        (HomeAssistant, "1", 5_000, true, false),
        (Mqtt, "1", 5_010, false, true),
        (Mqtt, "1", 5_020, false, false),
        (HomeAssistant, "1", 5_015, true, true),
        (HomeAssistant, "1", 5_016, true, false),
    ]);
    // A change that was known by its exact time is no answer for an arrival.
    check(&[
        (HomeAssistant, "1", 5_000, true, false),
        (Mqtt, "1", 5_000, true, true),
        (Mqtt, "1", 5_010, false, false),
    ]);
}

#[test]
fn what_came_before_an_answer_answers_no_more() {
    check(&[
        (HomeAssistant, "on", 5_000, true, false),
        (HomeAssistant, "off", 5_100, true, false),
        // MQTT was away when it went on.
        (Mqtt, "off", 5_110, false, true),
        // So this is the next time that it goes on, of which the WebSocket has not told yet.
        (Mqtt, "on", 5_210, false, false),
        (HomeAssistant, "on", 5_200, true, true),
    ]);
}

/// Every way in which two sources, each in its order, can tell the same changes.
fn interleavings(changes: usize) -> Vec<Vec<Source>> {
    (0_u32..1 << (2 * changes))
        .filter(|bits| bits.count_ones() as usize == changes)
        .map(|bits| (0..2 * changes).map(|at| if bits >> at & 1 == 0 { HomeAssistant } else { Mqtt }).collect())
        .collect()
}

#[test]
fn on_off_on_within_a_second_are_three_points_in_every_order() {
    let real = [("on", 5_000), ("off", 5_300), ("on", 5_600)];
    for order in interleavings(3) {
        for is_exact in [true, false] {
            let mut told = Told::default();
            let (mut home_assistant, mut mqtt) = (real.iter(), real.iter());
            let mut points = 0;
            for source in &order {
                let (state, millis) = if *source == Mqtt { mqtt.next() } else { home_assistant.next() }.unwrap();
                let by_arrival = *source == Mqtt && !is_exact;
                let change = change(state, millis + i64::from(by_arrival) * 7);
                points += u32::from(!told.has_been_told(&change, *source, !by_arrival));
            }
            assert_eq!(points, 3, "{order:?}, exact: {is_exact}");
        }
    }
}

#[test]
fn what_is_kept_is_bounded() {
    let mut told = Told::default();
    for millis in 0..1_000 {
        assert!(!told.has_been_told(&change("1", millis), HomeAssistant, true));
        assert!(told.changes.len() <= MAX_KEPT);
    }
}

/// What happened to an entity, and when each source told of it, if it did.
#[derive(Debug, Clone)]
struct Story {
    /// State and time of each change.
    real: Vec<(u8, i64)>,
    /// Who tells next, as long as both have something to tell.
    order: Vec<bool>,
    /// The source that was away, and between which changes.
    away: (bool, usize, usize),
    /// From a change to its arrival by MQTT.
    delays: Vec<i64>,
}

fn story() -> impl Strategy<Value = Story> {
    let changes = proptest::collection::vec((0_u8..3, 1_i64..3_000, any::<[bool; 2]>(), 0_i64..12_000), 1..24);
    (changes, any::<bool>(), 0_usize..24, 0_usize..24).prop_map(|(changes, who, from, length)| {
        let mut now = 0;
        let mut story =
            Story { real: Vec::new(), order: Vec::new(), away: (who, from, from + length), delays: Vec::new() };
        for (state, passed, order, delay) in changes {
            now += passed;
            story.real.push((state, now));
            story.order.extend(order);
            story.delays.push(delay);
        }
        story
    })
}

/// Plays a story. Returns for each change how many points it became.
fn play(story: &Story, is_exact: bool) -> Vec<u32> {
    let heard = |is_mqtt: bool| {
        let (who, from, until) = story.away;
        let is_away = move |at: &usize| who == is_mqtt && (from..until).contains(at);
        (0..story.real.len()).filter(move |at| !is_away(at))
    };
    let (mut home_assistant, mut mqtt) = (heard(false).peekable(), heard(true).peekable());
    let mut order = story.order.iter();
    let mut told = Told::default();
    let mut points = vec![0; story.real.len()];
    loop {
        let mqtt_is_next = match (home_assistant.peek(), mqtt.peek()) {
            (None, None) => return points,
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (Some(_), Some(_)) => *order.next().unwrap_or(&false),
        };
        let (at, source) =
            if mqtt_is_next { (mqtt.next().unwrap(), Mqtt) } else { (home_assistant.next().unwrap(), HomeAssistant) };
        let (state, millis) = story.real[at];
        let by_arrival = mqtt_is_next && !is_exact;
        let millis = if by_arrival { millis + story.delays[at] } else { millis };
        if !told.has_been_told(&change(&state.to_string(), millis), source, !by_arrival) {
            points[at] += 1;
        }
    }
}

proptest! {
    #[test]
    fn every_exact_change_is_written_exactly_once(story in story()) {
        prop_assert!(play(&story, true).iter().all(|points| *points == 1), "{story:?}");
    }

    #[test]
    fn there_are_never_fewer_points_than_changes(story in story()) {
        let points: u32 = play(&story, false).iter().sum();
        prop_assert!(points as usize >= story.real.len(), "{story:?}");
    }

    #[test]
    fn arrivals_soon_after_are_no_points_of_their_own(mut story in story()) {
        story.away = (false, 0, 0);
        story.delays.fill(20);
        let points: u32 = play(&story, false).iter().sum();
        let times: HashSet<i64> = story.real.iter().map(|(_, millis)| *millis).collect();
        prop_assert_eq!(times.len(), story.real.len());
        prop_assert_eq!(points as usize, story.real.len(), "{:?}", story);
    }
}
