//! What the recorder of a real Home Assistant answers, against what is in its tables.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ha_ingestor::config::secret::Secret;
use ha_ingestor::config::settings::{self, Tls};
use ha_ingestor::history::recorder::missing_attributes::put_back;
use ha_ingestor::history::recorder::windows::{Window, Windows};
use ha_ingestor::history::recorder::{Recorder, RecorderError};
use ha_ingestor::model::entity::EntityId;
use ha_ingestor::model::time::Timestamp;
use ha_ingestor::model::value::{Attributes, Value as Held};
use serde_json::{Value, json};

use crate::peers::home_assistant::{Change, HomeAssistant, Load, Setup};
use crate::peers::recorder_database::{self, Row};
use crate::registries::{Owner, websocket};
use crate::support::process::wait_until;

const LOAD: Load = Load { count: 1_200, rate: 300, entities: 120, seed: 11, nasty: false };
/// The recorder commits every five seconds.
const SOON: Duration = Duration::from_mins(1);

/// Entity and time of a row, its state, when it became that, and the names of its attributes.
type Told = BTreeMap<(String, i64), (String, i64, BTreeSet<String>)>;

#[test]
fn history_is_what_the_tables_hold_and_the_ledger_told() {
    let Some(home) = HomeAssistant::start(Setup { recorder: true, ..Setup::default() }) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ledger = home.load(LOAD);
    odd_states(&home);
    committed(&home, "sensor.same");
    runtime.block_on(async {
        let mut owner = Owner::connect(&home).await;
        let rename = json!({"entity_id": "sensor.twice_the_level", "new_entity_id": "sensor.double"});
        owner.ask("config/entity_registry/update", rename).await;
    });
    home.call("input_number.set_value", &json!({"entity_id": "input_number.level", "value": 22}));
    home.set_state("sensor.the_end", "1", &json!({}));
    let rows = committed(&home, "sensor.the_end");

    runtime.block_on(async {
        let mut recorder = Recorder::connect(&settings(&home)).await.unwrap();
        let info = recorder.info().await.unwrap();
        assert_eq!(info.backlog, 0);
        let told = everything(&mut recorder, &rows).await;
        must_be_the_tables(&told, &rows);
        must_be_the_ledger(&told, &ledger);
        what_the_recorder_leaves_out_is_put_back(&mut recorder, &told).await;
        bounds_are_ours(&mut recorder, &ledger).await;
        the_past_of_a_renamed_entity_is_told_once(&told);
        what_is_purged_is_gone(&home, &mut recorder, &ledger).await;
        recorder.end().await;
    });
}

#[test]
fn a_home_without_a_recorder_says_so() {
    let Some(home) = HomeAssistant::start(Setup::default()) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut recorder = Recorder::connect(&settings(&home)).await.unwrap();
        let error = recorder.info().await.unwrap_err();
        assert!(matches!(error, RecorderError::Off), "{error:?}");
        let window = window(&["sensor.the_note"], 0, 1_000_000);
        let error = recorder.rows(&window).await.unwrap_err();
        assert!(error.is_unknown_command(), "{error:?}");
    });
}

/// All rows, once there is one of this entity.
fn committed(home: &HomeAssistant, entity: &str) -> Vec<Row> {
    wait_until(&format!("the recorder has {entity}"), SOON, || {
        let rows = recorder_database::rows(home);
        rows.iter().any(|row| row.entity == entity).then_some(rows)
    })
}

/// What the load generator does not make.
fn odd_states(home: &HomeAssistant) {
    home.call("input_number.set_value", &json!({"entity_id": "input_number.level", "value": 21}));
    let long = "x".repeat(17_000);
    home.set_state("sensor.long", "7", &json!({"unit_of_measurement": "W", "friendly_name": "Long", "text": long}));
    home.set_state("sensor.bare", "8", &json!({"unit_of_measurement": "W", "attribution": "nobody", "kept": 1}));
    home.set_state("sensor.gone", "9", &json!({}));
    home.remove("sensor.gone");
    home.set_state("sensor.gone", "10", &json!({}));
    for state in ["unknown", "unavailable", "11"] {
        home.set_state("sensor.away", state, &json!({}));
    }
    // Only an attribute changes, and then nothing at all.
    for number in [1, 2, 2] {
        home.set_state("sensor.same", "12", &json!({"number": number}));
    }
}

fn settings(home: &HomeAssistant) -> settings::HomeAssistant {
    settings::HomeAssistant {
        url: websocket(home).parse().unwrap(),
        token: Secret::new(home.token()),
        tls: Tls { verify: true, ca_certificate: None },
    }
}

fn window(entities: &[&str], from: i64, until: i64) -> Window {
    let entities = entities.iter().map(|id| EntityId::parse(id).unwrap()).collect();
    Window { entities, from: Timestamp::from_micros(from), until: Timestamp::from_micros(until) }
}

/// From the first row of the tables to the last.
async fn everything(recorder: &mut Recorder, rows: &[Row]) -> Told {
    let entities: BTreeSet<&str> = rows.iter().map(|row| row.entity.as_str()).collect();
    let entities: Vec<EntityId> = entities.into_iter().map(|id| EntityId::parse(id).unwrap()).collect();
    let [first, last] = [rows.first(), rows.last()].map(|row| row.unwrap().updated);
    let mut windows = Windows::new(&entities, Timestamp::from_micros(first), Timestamp::from_micros(last + 1));
    let mut told = Told::new();
    while let Some(window) = windows.next_window().cloned() {
        let answer = recorder.rows(&window).await.unwrap();
        assert_eq!(answer.unreadable, 0);
        windows.answered(answer.bytes);
        for (entity, rows) in answer.entities {
            assert!(rows.is_sorted_by_key(|row| row.last_updated), "{entity}");
            for row in rows {
                let names = row.attributes.iter().map(|(name, _)| name.to_string()).collect();
                let at = (entity.to_string(), row.last_updated.as_micros());
                let before = told.insert(at, (row.state.to_string(), row.last_changed.as_micros(), names));
                assert_eq!(before, None, "{entity} has two rows of one moment");
            }
        }
    }
    told
}

fn must_be_the_tables(told: &Told, rows: &[Row]) {
    let rows = rows.iter().filter_map(|row| {
        let state = row.state.clone().filter(|state| !state.is_empty())?;
        Some(((row.entity.clone(), row.updated), (state, row.changed, row.attributes.keys().cloned().collect())))
    });
    let expected: Told = rows.collect();
    for (at, row) in &expected {
        assert_eq!(told.get(at), Some(row), "{at:?}");
    }
    assert_eq!(told.len(), expected.len());
}

fn must_be_the_ledger(told: &Told, ledger: &[Change]) {
    for change in ledger {
        let row = told.get(&(change.entity_id.clone(), change.micros));
        let (state, ..) = row.unwrap_or_else(|| panic!("{change:?} was not told"));
        let plain = !change.state.starts_with('"');
        assert!(!plain || *state == change.state, "{change:?} was told as {state}");
    }
}

async fn what_the_recorder_leaves_out_is_put_back(recorder: &mut Recorder, told: &Told) {
    let of = |entity: &str| -> Vec<_> { told.iter().filter(|((id, _), _)| id == entity).map(|(_, row)| row).collect() };
    let names = |entity: &str| -> Vec<&str> { of(entity)[0].2.iter().map(String::as_str).collect() };
    assert_eq!(names("sensor.long"), [""; 0]);
    assert_eq!(names("sensor.bare"), ["kept", "unit_of_measurement"]);
    assert_eq!(of("sensor.same").len(), 2);
    // The removal is no row; what came before and after it is.
    let states: Vec<&str> = of("sensor.gone").into_iter().map(|(state, ..)| state.as_str()).collect();
    assert_eq!(states, ["9", "10"]);

    let present = recorder.present().await.unwrap();
    let long = present.states.iter().find(|state| state.entity_id == "sensor.long").unwrap();
    let state: Value = serde_json::from_str(long.state.get()).unwrap();
    let unit = state["attributes"]["unit_of_measurement"].as_str().unwrap();
    let present: Attributes = [("unit_of_measurement".into(), Held::Text(unit.into()))].into_iter().collect();
    let whole = put_back(&Attributes::default().into(), Some(&present), &[]);
    assert_eq!(whole.get("unit_of_measurement"), Some(&Held::Text("W".into())));
}

async fn bounds_are_ours(recorder: &mut Recorder, ledger: &[Change]) {
    let mut times: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for change in ledger {
        times.entry(&change.entity_id).or_default().push(change.micros);
    }
    for (entity, times) in times.into_iter().filter(|(_, times)| times.len() > 5).take(50) {
        let rows = recorder.rows(&window(&[entity], times[1], times[4])).await.unwrap();
        let found: Vec<i64> = rows.entities[0].1.iter().map(|row| row.last_updated.as_micros()).collect();
        assert_eq!(found, times[1..4], "{entity}");
        let nothing = recorder.rows(&window(&[entity], times[1] + 1, times[1] + 2)).await.unwrap();
        assert_eq!(nothing.entities, [], "{entity}");
    }
}

/// Home Assistant gives the past to the new name, unless that has a row already: then it stays where it is.
fn the_past_of_a_renamed_entity_is_told_once(told: &Told) {
    let states = |entity: &str| -> BTreeSet<(&str, i64)> {
        let rows = told.iter().filter(|((id, _), _)| id == entity);
        rows.map(|((_, at), (state, ..))| (state.as_str(), *at)).collect()
    };
    let (old, new) = (states("sensor.twice_the_level"), states("sensor.double"));
    assert!(new.iter().any(|(state, _)| *state == "44.0"), "{new:?}");
    assert!(old.union(&new).any(|(state, _)| *state == "42.0"), "{old:?} {new:?}");
    assert!(old.is_disjoint(&new) && !old.iter().any(|(state, _)| *state == "44.0"), "{old:?} {new:?}");
}

async fn what_is_purged_is_gone(home: &HomeAssistant, recorder: &mut Recorder, ledger: &[Change]) {
    let (first, last) = (&ledger[0], ledger.last().unwrap());
    let after_first = window(&[&first.entity_id], first.micros + 1_000_000, last.micros + 1);
    assert!(recorder.reaches_back(&after_first.entities, after_first.from).await.unwrap());
    let before_all = window(&[&first.entity_id], first.micros - 3_600_000_000, last.micros + 1);
    assert!(!recorder.reaches_back(&before_all.entities, before_all.from).await.unwrap());

    home.call("recorder.purge", &json!({"keep_days": 0}));
    wait_until("the recorder has purged", SOON, || {
        let rows = recorder_database::rows(home);
        rows.iter().all(|row| row.entity != first.entity_id || row.updated > first.micros).then_some(())
    });
    let whole = window(&[&first.entity_id], first.micros, first.micros + 1);
    assert_eq!(recorder.rows(&whole).await.unwrap().count(), 0);
    assert!(!recorder.reaches_back(&after_first.entities, after_first.from).await.unwrap());
}
