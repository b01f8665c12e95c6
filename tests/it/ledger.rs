//! Home Assistant makes changes and keeps a ledger of them: every row must be in the database, whatever happens.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::ingestor::Ingestor;
use crate::peers::home_assistant::{Change, HomeAssistant, Load, Setup};
use crate::points::points;
use crate::support::influxd::Influxd;
use crate::support::process::wait_until;
use crate::support::victoria_metrics::VictoriaMetrics;

const DATABASE: &str = "home_assistant";
const LOAD: Load = Load { count: 1_500, rate: 100, entities: 300, seed: 2, nasty: false };
/// The changes between which there is no InfluxDB: seven seconds.
const OUTAGE: (usize, usize) = (300, 1_000);

/// How long a database may take to catch up: a retry waits a minute at most.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn every_change_is_in_both_databases_although_one_of_them_was_killed() {
    let Some(mut influxd) = Influxd::start() else { return };
    let Some(victoria) = VictoriaMetrics::start() else { return };
    let Some(home) = HomeAssistant::start(Setup::default()) else { return };
    influxd.create_database(DATABASE);
    let mut ingestors = [influxd.url(), victoria.url()].map(|url| {
        Ingestor::start(&json!({
            "home_assistant": {"url": home.url(), "token": home.token()},
            "influxdb": {"url": url, "api": "v1", "database": DATABASE},
            "events": [],
        }))
    });
    for ingestor in &mut ingestors {
        ingestor.wait_until_ready();
    }

    let ledger = thread::scope(|scope| {
        let load = scope.spawn(|| home.load(LOAD));
        wait_for_change(&home, OUTAGE.0);
        influxd.kill();
        wait_for_change(&home, OUTAGE.1);
        influxd.start_again();
        load.join().unwrap()
    });

    wait_until_complete("InfluxDB", &ledger, || {
        let stored = stored_in_influxdb(&influxd);
        move |change| stored.contains(&(change.entity_id.clone(), change.micros))
    });
    // VictoriaMetrics keeps numbers only, and milliseconds.
    let numbers: Vec<Change> = ledger.into_iter().filter(|change| change.state.parse::<f64>().is_ok()).collect();
    assert!(numbers.len() > 1_000, "{} numbers in the ledger", numbers.len());
    wait_until_complete("VictoriaMetrics", &numbers, || {
        let stored = stored_in_victoria(&victoria);
        move |change| {
            let value = stored.get(&(change.entity_id.clone(), change.micros / 1_000));
            value.is_some_and(|value| change.state.parse() == Ok(*value))
        }
    });
    for mut ingestor in ingestors {
        ingestor.wait_until_ready();
        ingestor.stop();
    }
}

fn wait_for_change(home: &HomeAssistant, number: usize) {
    wait_until(&format!("change {number} is made"), PATIENCE, || (home.ledger().len() >= number).then_some(()));
}

/// Asks the database what it has until that is every change of the ledger.
fn wait_until_complete<Has: Fn(&Change) -> bool>(database: &str, ledger: &[Change], mut ask: impl FnMut() -> Has) {
    let mut lacking = 0;
    wait_until(&format!("{database} has every change"), PATIENCE, || {
        let has = ask();
        let left: Vec<_> = ledger.iter().filter(|change| !has(change)).collect();
        if left.len() != lacking {
            lacking = left.len();
            println!("{database} lacks {lacking} of {} changes, first {:?}", ledger.len(), left.first());
        }
        left.is_empty().then_some(())
    });
}

/// Entity and microseconds of every point.
fn stored_in_influxdb(influxd: &Influxd) -> BTreeSet<(String, i64)> {
    let points = points(influxd, DATABASE, 0, i64::MAX);
    let entity = |tags: &BTreeMap<String, String>| format!("{}.{}", tags["domain"], tags["entity_id"]);
    points.keys().map(|place| (entity(&place.series.tags), place.time / 1_000)).collect()
}

/// Entity, milliseconds and number of every sample of the field `value`.
fn stored_in_victoria(victoria: &VictoriaMetrics) -> BTreeMap<(String, i64), f64> {
    let mut stored = BTreeMap::new();
    for (labels, samples) in victoria.export(r#"{__name__=~".*_value"}"#) {
        let entity = format!("{}.{}", labels["domain"], labels["entity_id"]);
        stored.extend(samples.into_iter().map(|(time, number)| ((entity.clone(), time), number)));
    }
    stored
}
