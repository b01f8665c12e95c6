//! Stories of rules: what the pipeline makes of changes as time passes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::{END_OF_TIME, Fate, Pipeline};
use crate::config::settings::{RegistryNames, RegistryTag};
use crate::model::entity::EntityId;
use crate::model::event::{Event, Fired, Message, StateChange};
use crate::model::fate::{Reason as _, Refused};
use crate::model::registries::{Named, Registered, Registries};
use crate::model::time::Timestamp;
use crate::model::topic::TopicFilter;
use crate::model::value::{Attributes, Value};
use crate::rules::{Actions, FieldActions, FieldType, Meaning, Rule, Rules, Selection, Topic};

/// One second.
const S: Duration = Duration::from_secs(1);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn id(entity: &str) -> EntityId {
    EntityId::parse(entity).unwrap()
}

fn changed(entity: &str, state: &str, seconds: i64) -> StateChange {
    StateChange {
        entity: id(entity),
        state: state.into(),
        attributes: Arc::new([("unit_of_measurement".into(), Value::Text("W".into()))].into_iter().collect()),
        last_updated: at(seconds),
        context: None,
    }
}

fn globs(globs: &str) -> Selection {
    Selection { entity_globs: globs.split_whitespace().map(String::from).collect(), ..Selection::default() }
}

fn rule(name: &str, selection: Selection, actions: Actions) -> Rule {
    Rule { name: name.into(), selection, actions }
}

fn rules(rules: Vec<Rule>) -> Arc<Rules> {
    Arc::new(Rules { rules, ..Rules::default() })
}

/// One rule for all.
fn all(actions: Actions) -> Arc<Rules> {
    rules(vec![rule("r", Selection::default(), actions)])
}

fn throttled() -> Actions {
    Actions { throttle: Some(10 * S), ..Actions::default() }
}

fn beating() -> Actions {
    Actions { heartbeat: Some(10 * S), ..Actions::default() }
}

/// What became of an event: for a point its measurement, value and seconds.
fn told(fate: &Fate<'_>) -> String {
    match fate {
        Fate::Point { point, .. } => {
            let value = point.fields().find(|(name, _)| *name == "value" || *name == "state");
            let value = value.map(|(_, value)| format!("{value:?}")).unwrap_or_default();
            format!("{} {value} {}", point.measurement(), point.time().as_micros() / 1_000_000)
        }
        Fate::Filtered(reason) => reason.label().to_owned(),
        Fate::Duplicate => "duplicate".to_owned(),
        Fate::Waiting => "waiting".to_owned(),
        Fate::Refused { reason, rule } => format!("{} {}", reason.label(), rule.as_deref().unwrap_or_default()),
    }
}

fn handle(pipeline: &mut Pipeline, change: StateChange) -> String {
    let now = change.last_updated;
    told(&pipeline.handle(&Event::Changed(change), now))
}

/// A change of `sensor.a` at its own time.
fn take(pipeline: &mut Pipeline, state: &str, seconds: i64) -> String {
    handle(pipeline, changed("sensor.a", state, seconds))
}

fn due(pipeline: &mut Pipeline, now: Timestamp) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(due) = pipeline.next_due(now, now < END_OF_TIME) {
        let made_by = due.made_by.map(|source| format!("{} ", source.label())).unwrap_or_default();
        all.push(format!("{made_by}{}", told(&due.fate)));
    }
    all
}

fn hall() -> Arc<Registries> {
    let area = Some(Arc::new(Named { name: "Hall".into(), id: "hall".into() }));
    Arc::new(Registries { entities: [(id("sensor.a"), Registered { area, ..Registered::default() })].into() })
}

fn in_hall() -> Selection {
    Selection {
        registry: RegistryNames { areas: vec!["hall".into()], ..RegistryNames::default() },
        ..Selection::default()
    }
}

#[test]
fn at_most_one_point_is_written_in_a_slot_and_the_last_value_is_kept() {
    let mut pipeline = Pipeline::new(&all(throttled()));
    assert_eq!(take(&mut pipeline, "1", 100), "W Float(1.0) 100");
    assert_eq!(pipeline.due_at(), None);
    assert_eq!(take(&mut pipeline, "2", 103), "waiting");
    assert_eq!(take(&mut pipeline, "3", 104), "throttled");
    assert_eq!(handle(&mut pipeline, changed("sensor.b", "7", 105)), "W Float(7.0) 105");
    assert_eq!((pipeline.waiting(), pipeline.due_at()), (1, Some(at(110))));
    assert!(due(&mut pipeline, at(109)).is_empty());
    assert_eq!(due(&mut pipeline, at(110)), ["W Float(3.0) 104"]);
    assert_eq!((pipeline.waiting(), pipeline.due_at()), (0, None));
    assert_eq!(take(&mut pipeline, "4", 119), "waiting");
    assert_eq!(take(&mut pipeline, "unavailable", 120), "unavailable");
    assert_eq!(due(&mut pipeline, END_OF_TIME), ["W Float(4.0) 119"]);
    assert_eq!(pipeline.waiting(), 0);
}

#[test]
fn a_value_that_waits_outlives_its_entity_and_other_rules() {
    let mut pipeline = Pipeline::new(&all(throttled()));
    for entity in ["sensor.a", "sensor.b"] {
        assert!(handle(&mut pipeline, changed(entity, "1", 100)).starts_with("W "));
        assert_eq!(handle(&mut pipeline, changed(entity, "2", 101)), "waiting");
    }
    let gone = pipeline.handle(&Event::Removed(id("sensor.a")), at(102));
    assert_eq!(told(&gone), "removed");
    assert_eq!(pipeline.waiting(), 2);
    assert_eq!(due(&mut pipeline, at(102)), ["W Float(2.0) 101"]);
    // It comes out by the rules of that time.
    let _ = pipeline.follow(&all(Actions { drop: Some(true), ..Actions::default() }), at(0));
    assert_eq!(pipeline.waiting(), 1);
    assert_eq!(due(&mut pipeline, at(110)), ["dropped_by_rule"]);
    assert_eq!(pipeline.waiting(), 0);
}

#[test]
fn a_value_that_stays_is_written_again_until_it_is_none() {
    let mut pipeline = Pipeline::new(&all(beating()));
    assert_eq!(take(&mut pipeline, "1", 100), "W Float(1.0) 100");
    assert_eq!(due(&mut pipeline, at(110)), ["heartbeat W Float(1.0) 110"]);
    assert_eq!(take(&mut pipeline, "2", 115), "W Float(2.0) 115");
    assert!(due(&mut pipeline, at(120)).is_empty());
    assert_eq!(due(&mut pipeline, at(125)), ["heartbeat W Float(2.0) 125"]);
    // The connection to the home is away, and comes back.
    assert!(pipeline.next_due(at(135), false).is_none());
    assert_eq!(due(&mut pipeline, at(500)), ["heartbeat W Float(2.0) 500"]);
    assert_eq!(take(&mut pipeline, "unavailable", 501), "unavailable");
    assert!(due(&mut pipeline, at(600)).is_empty());
    assert_eq!(take(&mut pipeline, "3", 601), "W Float(3.0) 601");
    assert_eq!(told(&pipeline.handle(&Event::Removed(id("sensor.a")), at(602))), "removed");
    assert_eq!((due(&mut pipeline, at(700)), pipeline.due_at()), (vec![], None));
    // Nothing is waiting at the stop.
    assert_eq!(take(&mut pipeline, "4", 701), "W Float(4.0) 701");
    assert!(due(&mut pipeline, END_OF_TIME).is_empty());
}

#[test]
fn a_heartbeat_begins_with_a_state_that_is_told_again() {
    let mut pipeline = Pipeline::new(&all(Actions::default()));
    assert_eq!(take(&mut pipeline, "1", 100), "W Float(1.0) 100");
    let _ = pipeline.follow(&all(beating()), at(0));
    // Home Assistant tells all states when a session begins.
    let repeated = Event::Changed(changed("sensor.a", "1", 100));
    assert_eq!(told(&pipeline.handle(&repeated, at(200))), "duplicate");
    assert_eq!(due(&mut pipeline, at(210)), ["heartbeat W Float(1.0) 210"]);
    // A shorter time holds at once, and none at all, too.
    let _ = pipeline.follow(&all(Actions { heartbeat: Some(3 * S), ..Actions::default() }), at(0));
    assert_eq!(due(&mut pipeline, at(213)), ["heartbeat W Float(1.0) 213"]);
    let _ = pipeline.follow(&all(Actions::default()), at(0));
    assert!(due(&mut pipeline, at(900)).is_empty());
    assert_eq!(pipeline.due_at(), None);
}

#[test]
fn a_heartbeat_does_not_bring_back_what_waited_while_the_value_went_away() {
    let mut pipeline = Pipeline::new(&all(Actions { heartbeat: Some(20 * S), ..throttled() }));
    assert_eq!(take(&mut pipeline, "1", 100), "W Float(1.0) 100");
    assert_eq!(take(&mut pipeline, "2", 101), "waiting");
    assert_eq!(take(&mut pipeline, "unavailable", 102), "unavailable");
    assert_eq!(due(&mut pipeline, at(110)), ["W Float(2.0) 101"]);
    assert_eq!((due(&mut pipeline, at(500)), pipeline.due_at()), (vec![], None));
    assert_eq!(take(&mut pipeline, "3", 501), "W Float(3.0) 501");
    assert_eq!(take(&mut pipeline, "4", 502), "waiting");
    assert_eq!(due(&mut pipeline, at(511)), ["W Float(4.0) 502"]);
    assert_eq!(due(&mut pipeline, at(531)), ["heartbeat W Float(4.0) 531"]);
}

#[test]
fn a_heartbeat_does_not_bring_back_what_was_before_it_had_a_rest() {
    let in_hall = rules(vec![rule("hall", in_hall(), beating())]);
    let mut pipeline = Pipeline::new(&in_hall);
    let _ = pipeline.learn(hall(), at(1));
    assert_eq!(take(&mut pipeline, "1", 100), "W Float(1.0) 100");
    let _ = pipeline.learn(Arc::default(), at(101));
    assert_eq!(take(&mut pipeline, "2", 102), "W Float(2.0) 102");
    let _ = pipeline.learn(hall(), at(103));
    assert_eq!((due(&mut pipeline, at(500)), pipeline.due_at()), (vec![], None));
    assert_eq!(take(&mut pipeline, "3", 501), "W Float(3.0) 501");
    assert_eq!(due(&mut pipeline, at(511)), ["heartbeat W Float(3.0) 511"]);
}

/// What Home Assistant publishes by MQTT.
fn published(actions: Actions) -> Rules {
    let topic = |name: &str, filter: &str, meaning| Topic {
        name: name.into(),
        filter: TopicFilter::parse(filter).unwrap(),
        retained: false,
        meaning,
    };
    let topics =
        vec![topic("events", "events", Meaning::EventStream), topic("states", "states/#", Meaning::StateStream)];
    Rules { topics, ..Rules::clone(&all(actions)) }
}

fn message(pipeline: &mut Pipeline, receipt: u64, topic: &str, payload: &str, now: Timestamp) -> String {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    let message = Message { topic: topic.into(), payload, retained: false, arrived: now, receipt };
    told(&pipeline.handle(&Event::Message(message), now))
}

/// A change that is told by `mqtt_eventstream`.
fn event(entity: &str, state: &str, seconds: i64) -> String {
    let time = at(seconds).to_string().replace('Z', "+00:00");
    let attributes = r#"{"unit_of_measurement":"W"}"#;
    let state =
        format!(r#"{{"entity_id":"{entity}","state":"{state}","attributes":{attributes},"last_updated":"{time}"}}"#);
    format!(r#"{{"event_type":"state_changed","event_data":{{"new_state":{state}}}}}"#)
}

#[test]
fn a_message_that_tells_of_the_past_says_nothing_about_the_present() {
    let actions = Actions { heartbeat: Some(50 * S), only_state_changes: Some(true), ..Actions::default() };
    let mut pipeline = Pipeline::new(&Arc::new(published(actions)));
    assert_eq!(take(&mut pipeline, "2", 100), "W Float(2.0) 100");
    // The broker kept it while nobody listened.
    assert_eq!(message(&mut pipeline, 1, "events", &event("sensor.a", "1", 60), at(101)), "waiting");
    assert_eq!(message(&mut pipeline, 2, "events", &event("sensor.a", "unavailable", 61), at(101)), "waiting");
    assert_eq!(due(&mut pipeline, at(102)), ["W Float(1.0) 60", "unavailable"]);
    assert_eq!(due(&mut pipeline, at(150)), ["heartbeat W Float(2.0) 150"]);
    assert_eq!(take(&mut pipeline, "1", 151), "W Float(1.0) 151");
}

#[test]
fn a_change_that_is_being_told_outlives_other_rules() {
    let mut pipeline = Pipeline::new(&Arc::new(published(Actions::default())));
    assert_eq!(message(&mut pipeline, 1, "states/sensor/a/state", "1", at(100)), "waiting");
    let _ = pipeline.follow(&Arc::new(published(throttled())), at(100));
    let unit = "states/sensor/a/unit_of_measurement";
    assert_eq!(message(&mut pipeline, 2, unit, r#""W""#, at(100)), "part_of_state");
    assert_eq!((pipeline.settled_receipt(), due(&mut pipeline, at(100))), (0, vec![]));
    assert_eq!(due(&mut pipeline, at(101)), ["W Float(1.0) 100"]);
    // Nothing is expected by other rules, and what came has its fate.
    assert_eq!(message(&mut pipeline, 3, "states/sensor/a/state", "2", at(120)), "waiting");
    let _ = pipeline.follow(&all(Actions::default()), at(120));
    assert_eq!((pipeline.settled_receipt(), pipeline.waiting()), (2, 1));
    assert_eq!(due(&mut pipeline, at(121)), ["W Float(2.0) 120"]);
    assert_eq!((pipeline.settled_receipt(), pipeline.waiting()), (3, 0));
    assert_eq!(message(&mut pipeline, 4, "states/sensor/a/state", "3", at(122)), "not_mapped");
}

#[test]
fn what_only_messages_tell_of_is_forgotten_when_it_is_too_much() {
    let mut pipeline = Pipeline::new(&Arc::new(published(beating())));
    assert_eq!(take(&mut pipeline, "1", 100), "W Float(1.0) 100");
    let most = super::MOST_KNOWN;
    let (mut receipt, mut points) = (0, 0);
    for number in 0..most + 10 {
        receipt += 1;
        let told = event(&format!("sensor.n{number}"), "1", 100);
        assert_eq!(message(&mut pipeline, receipt, "events", &told, at(100)), "waiting");
        points += if number % 1_000 == 0 { due(&mut pipeline, at(101)).len() } else { 0 };
    }
    points += due(&mut pipeline, at(101)).len();
    assert_eq!((points, pipeline.waiting()), (most + 10, 0));
    assert!(pipeline.known.len() < most / 2);
    assert_eq!(take(&mut pipeline, "1", 100), "duplicate", "what Home Assistant itself told is known");
    // What was forgotten is on no agenda.
    assert_eq!(due(&mut pipeline, at(111)).len(), pipeline.known.len());
}

#[test]
fn changes_of_attributes_alone_are_left_out_if_a_rule_says_so() {
    let mut pipeline = Pipeline::new(&all(Actions { only_state_changes: Some(true), ..Actions::default() }));
    for (state, seconds, expected) in [
        ("1", 1, "W Float(1.0) 1"),
        ("1", 2, "same_state"),
        ("2", 3, "W Float(2.0) 3"),
        ("unavailable", 4, "unavailable"),
        ("unavailable", 5, "unavailable"),
        ("2", 6, "W Float(2.0) 6"),
        ("2", 6, "duplicate"),
    ] {
        assert_eq!(take(&mut pipeline, state, seconds), expected, "{state} at {seconds}");
    }
}

#[test]
fn rules_hold_for_what_they_select_and_the_later_one_counts() {
    let named = |name: &str| Actions { override_measurement: Some(name.into()), ..Actions::default() };
    let classes = Selection { device_classes: vec!["power".into()], ..Selection::default() };
    let mut pipeline = Pipeline::new(&rules(vec![
        rule("any", globs("*.a *.x"), named("any")),
        rule("hall", in_hall(), named("hall")),
        rule("class", classes, named("class")),
        rule("gone", globs("*.x"), Actions { drop: Some(true), ..Actions::default() }),
    ]));
    assert_eq!(take(&mut pipeline, "1", 1), "any Float(1.0) 1");
    assert_eq!(handle(&mut pipeline, changed("sensor.c", "1", 1)), "W Float(1.0) 1");
    assert_eq!(handle(&mut pipeline, changed("sensor.x", "1", 1)), "dropped_by_rule");
    let _ = pipeline.learn(hall(), at(2));
    assert_eq!(take(&mut pipeline, "1", 3), "hall Float(1.0) 3");
    let mut change = changed("sensor.a", "1", 4);
    Arc::make_mut(&mut change.attributes).set("device_class".into(), Value::Text("power".into()));
    assert_eq!(handle(&mut pipeline, change.clone()), "class Float(1.0) 4");
    assert_eq!(handle(&mut pipeline, StateChange { last_updated: at(5), ..change }), "class Float(1.0) 5");
    assert_eq!(take(&mut pipeline, "1", 6), "hall Float(1.0) 6");
    assert_eq!(pipeline.unmatched(), [""; 0]);
}

#[test]
fn the_tags_of_a_point_and_the_rules_for_it_are_of_the_same_place() {
    let area_of = |fate: &Fate<'_>| match fate {
        Fate::Point { point, .. } => {
            let area = point.tags().find(|(name, _)| *name == "area").map(|(_, value)| value.to_owned());
            format!("{} in {}", point.measurement(), area.unwrap_or_default())
        }
        other => panic!("{other:?}"),
    };
    let named = Actions { override_measurement: Some("hall".into()), ..Actions::default() };
    let mut rules = Rules { rules: vec![rule("hall", in_hall(), named)], ..Rules::default() };
    rules.schema.registry_tags = vec![RegistryTag::Area];
    let mut pipeline = Pipeline::new(&Arc::new(rules));
    let kitchen = Arc::new(Named { name: "Kitchen".into(), id: "kitchen".into() });
    let mut registries = Registries::clone(&hall());
    registries.entities.get_mut(&id("sensor.a")).unwrap().area = Some(kitchen);
    let _ = pipeline.learn(Arc::new(registries), at(10));
    let mut area = |seconds: i64, learned: Option<i64>| {
        if let Some(learned) = learned {
            assert!(pipeline.learn(hall(), at(learned)));
        }
        area_of(&pipeline.handle(&Event::Changed(changed("sensor.a", "1", seconds)), at(200)))
    };
    assert_eq!(area(50, None), "W in Kitchen");
    // It moved at 60 and changed at 70, and all this is heard of at 100.
    assert_eq!(area(70, Some(100)), "hall in Hall");
    let since_then = pipeline.places().of(&id("sensor.a"), at(50)).unwrap();
    assert_eq!(since_then.0, [(RegistryTag::Area, "Kitchen".to_owned())]);
}

#[test]
fn the_filter_knows_what_the_registries_say() {
    let mut rules = Rules::default();
    rules.filter.exclude.registry.areas.push("Hall".into());
    let mut pipeline = Pipeline::new(&Arc::new(rules));
    assert_eq!(take(&mut pipeline, "1", 1), "W Float(1.0) 1");
    let _ = pipeline.learn(hall(), at(2));
    assert_eq!(take(&mut pipeline, "2", 3), "not_included");
    let _ = pipeline.learn(Arc::default(), at(4));
    assert_eq!(take(&mut pipeline, "3", 5), "W Float(3.0) 5");
}

#[test]
fn what_was_told_before_is_a_duplicate_under_other_rules_as_well() {
    let mut pipeline = Pipeline::new(&all(Actions::default()));
    assert_eq!(take(&mut pipeline, "1", 1), "W Float(1.0) 1");
    let _ = pipeline.follow(&all(Actions { override_measurement: Some("x".into()), ..Actions::default() }), at(0));
    assert_eq!(take(&mut pipeline, "1", 1), "duplicate");
    assert_eq!(take(&mut pipeline, "1", 2), "x Float(1.0) 2");
}

#[test]
fn a_value_of_another_type_is_refused_in_the_name_of_the_rule() {
    let whole = FieldActions { cast: Some(FieldType::Integer), ..FieldActions::default() };
    let fields = Some(vec![("state".to_owned(), whole)]);
    let mut pipeline = Pipeline::new(&all(Actions { fields, ..throttled() }));
    assert_eq!(take(&mut pipeline, "heat", 1), format!("{} r", Refused::WrongType.label()));
    assert_eq!(take(&mut pipeline, "1", 2), "W Float(1.0) 2");
    assert_eq!(take(&mut pipeline, "2", 3), "waiting");
    // It does not take the place of a good one.
    assert_eq!(take(&mut pipeline, "heat", 4), format!("{} r", Refused::WrongType.label()));
    assert_eq!(due(&mut pipeline, END_OF_TIME), ["W Float(2.0) 3"]);
}

#[test]
fn other_events_are_points_if_they_are_asked_for() {
    let mut pipeline = Pipeline::new(&Arc::new(Rules { events: vec!["bell".into()], ..Rules::default() }));
    for (event_type, is_point) in [("bell", true), ("bells", false)] {
        let fired = Fired {
            event_type: event_type.into(),
            data: Attributes::default(),
            time_fired: at(1),
            context: None,
            parent: None,
            user: None,
        };
        let event = Event::Fired(fired);
        let fate = pipeline.handle(&event, at(1));
        assert_eq!(matches!(fate, Fate::Point { .. }), is_point, "{}", told(&fate));
        assert!(is_point || told(&fate) == "not_asked_for");
    }
}

#[test]
fn an_explanation_names_the_rules_and_a_unit_that_does_not_fit() {
    let degrees = FieldActions { unit: Some("°C".into()), ..FieldActions::default() };
    let convert = Actions { fields: Some(vec![("value".into(), degrees)]), ..throttled() };
    let named = |name: &str| Actions { override_measurement: Some(name.into()), ..Actions::default() };
    let mut pipeline = Pipeline::new(&rules(vec![
        rule("first", Selection::default(), named("a")),
        rule("second", globs("sensor.*"), named("b")),
        rule("third", globs("*.a *.none"), convert),
        rule("fourth", globs("light.*"), throttled()),
    ]));
    let change = changed("sensor.a", "1", 1);
    let told = pipeline.explain(&change);
    assert!(told.filter.allowed);
    assert_eq!(told.measurement_from, "override_measurement");
    let decisions: Vec<_> = told.decisions.iter().map(|decision| (decision.what, &*decision.by)).collect();
    assert_eq!(decisions, [("override_measurement", "second"), ("fields", "third"), ("throttle", "third")]);
    let words = "third: `W` cannot be converted to `°C`, such values are written as they are";
    assert_eq!(told.unit.as_deref(), Some(words));
    // To explain is not to do.
    assert_eq!(pipeline.unmatched().len(), 4);
    assert_eq!(handle(&mut pipeline, change), "b Float(1.0) 1");
    assert_eq!(
        pipeline.unmatched(),
        [
            "third: `*.none` in `entity_globs` matches no entity",
            "fourth: `light.*` in `entity_globs` matches no entity",
            words
        ]
    );
}

/// One step of a story.
#[derive(Debug, Clone)]
enum Step {
    Change { entity: usize, state: usize, seconds: i64 },
    Remove { entity: usize },
    Follow { rules: usize },
    Learn { in_hall: bool },
    Due,
}

/// Every event that was handed in has one fate, or waits; at the end none waits.
#[test]
fn the_books_balance_whatever_the_rules_are() {
    const ENTITIES: [&str; 3] = ["sensor.a", "sensor.b", "light.a"];
    const STATES: [&str; 5] = ["1", "2", "on", "heat", "unavailable"];
    let whole = FieldActions { cast: Some(FieldType::Integer), ..FieldActions::default() };
    let refusing = Actions { fields: Some(vec![("state".into(), whole)]), ..Actions::default() };
    let choices = [
        all(Actions::default()),
        rules(vec![rule("all", globs("*.a"), throttled()), rule("hall", in_hall(), refusing)]),
        all(Actions { only_state_changes: Some(true), heartbeat: Some(4 * S), ..throttled() }),
        rules(vec![
            rule("b", globs("*.b"), Actions { drop: Some(true), ..Actions::default() }),
            rule("a", globs("sensor.*"), beating()),
            rule("lights", globs("light.*"), throttled()),
        ]),
    ];
    let step = || {
        let change = (0..ENTITIES.len(), 0..STATES.len(), -3..4_i64);
        (0..12_u8, change, 0..choices.len(), any::<bool>()).prop_map(
            |(kind, (entity, state, seconds), rules, in_hall)| match kind {
                0 => Step::Remove { entity },
                1 => Step::Follow { rules },
                2 => Step::Learn { in_hall },
                3..5 => Step::Due,
                _ => Step::Change { entity, state, seconds },
            },
        )
    };
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::new();
    for _ in 0..1_000 {
        let (first, steps) = (select(vec![0, 1, 2, 3]), vec(step(), 1..40)).new_tree(&mut runner).unwrap().current();
        let mut pipeline = Pipeline::new(&choices[first]);
        let mut now = 1_000;
        let (mut received, mut settled) = (0, 0);
        let mut settle = |told: String| {
            let kind = told.split(' ').next().unwrap_or_default().to_owned();
            let is_fate = kind != "waiting";
            *seen.entry(kind).or_insert(0) += 1;
            u64::from(is_fate)
        };
        for step in &steps {
            now += 1;
            match *step {
                Step::Change { entity, state, seconds } => {
                    received += 1;
                    let change = changed(ENTITIES[entity], STATES[state], now + seconds);
                    settled += settle(told(&pipeline.handle(&Event::Changed(change), at(now))));
                }
                Step::Remove { entity } => {
                    received += 1;
                    settled += settle(told(&pipeline.handle(&Event::Removed(id(ENTITIES[entity])), at(now))));
                }
                Step::Follow { rules } => drop(pipeline.follow(&choices[rules], at(now))),
                Step::Learn { in_hall } => drop(pipeline.learn(if in_hall { hall() } else { Arc::default() }, at(now))),
                Step::Due => {
                    for told in due(&mut pipeline, at(now)) {
                        received += u64::from(told.starts_with("heartbeat"));
                        settled += settle(told);
                    }
                }
            }
            assert_eq!(received, settled + pipeline.waiting(), "{first} {steps:?}");
        }
        for told in due(&mut pipeline, END_OF_TIME) {
            settled += settle(told);
        }
        assert_eq!((received, pipeline.waiting(), pipeline.due_at()), (settled, 0, None), "{first} {steps:?}");
    }
    for kind in [
        "W",
        "waiting",
        "throttled",
        "same_state",
        "heartbeat",
        "duplicate",
        "dropped_by_rule",
        "removed",
        "wrong_type",
    ] {
        assert!(seen.contains_key(kind), "no story had {kind}: {seen:?}");
    }
}
