//! A real recorder that commits late: the gap has every row all the same.

use std::time::Duration;

use serde_json::json;
use tokio::runtime::Builder;

use crate::chaos::proxy::{Network, Proxy};
use crate::ingestor::Ingestor;
use crate::peers::home_assistant::{Change, HomeAssistant, Load, Setup, Version};
use crate::points::entity_times;
use crate::registries::Owner;
use crate::support::influxd::Influxd;

const DATABASE: &str = "home_assistant";
/// What Home Assistant does unless it is told otherwise, and what many homes tell it, to spare a memory card.
const COMMIT_INTERVALS: [u32; 3] = [5, 30, 60];
const TIMES: u32 = 3;
/// What happens while the network is away: four seconds.
const MISSED: Load = Load { count: 120, rate: 30, entities: 40, seed: 1, nasty: false };
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn the_rows_of_a_gap_are_there_however_late_the_recorder_commits() {
    for seconds in COMMIT_INTERVALS {
        check(Version::Usual, seconds);
    }
}

#[test]
fn the_rows_of_a_gap_are_there_with_the_newest_home_assistant_too() {
    for seconds in COMMIT_INTERVALS {
        check(Version::Newest, seconds);
    }
}

fn check(version: Version, seconds: u32) {
    let Some(influxd) = Influxd::start() else { return };
    let setup = Setup { recorder: true, commit_interval: Some(seconds), version, ..Setup::default() };
    let Some(home) = HomeAssistant::start(setup) else { return };
    influxd.create_database(DATABASE);
    let to_home = Proxy::start(home.address());
    let mut ingestor = Ingestor::start(&json!({
        "home_assistant": {"url": to_home.url(), "token": home.token()},
        "influxdb": {"url": influxd.url(), "api": "v1", "database": DATABASE},
        "events": [],
    }));
    ingestor.wait_until_ready();
    let mut made: Vec<Change> = Vec::new();
    for time in 1..=TIMES {
        // Nothing of what follows is committed by itself for as long as can be.
        commit(&home);
        to_home.turn(Network::Cut);
        made.extend(home.load(Load { seed: time, ..MISSED }));
        to_home.turn(Network::Up);
        let newest = made.iter().map(|change| change.micros).max().expect("there was load");
        ingestor.wait_until_complete(newest, PATIENCE);
        let there = entity_times(&influxd, DATABASE);
        let missing: Vec<_> =
            made.iter().filter(|change| change.is_written() && !there.contains(&key(change))).collect();
        assert!(missing.is_empty(), "{seconds} s, time {time}: {} of {} rows: {missing:?}", missing.len(), made.len());
        assert_eq!(ingestor.count("gaps_not_closed_total"), 0, "nothing is said to be missing");
    }
    println!("{version:?}, commit_interval {seconds}: {} rows, missing 0", made.len());
    ingestor.stop();
}

/// Makes the recorder commit.
fn commit(home: &HomeAssistant) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut owner = Owner::connect(home).await;
        let stream = json!({"entity_ids": ["sensor.nobody"], "start_time": "2020-01-01T00:00:00+00:00"});
        owner.ask("history/stream", stream).await;
        for _ in 0..2 {
            assert_eq!(owner.hear().await["type"], "event");
        }
    });
}

fn key(change: &Change) -> (String, i64) {
    (change.entity_id.clone(), change.micros)
}
