//! Everything breaks while a home lives on, and in the end the databases have what Home Assistant's recorder has.
//!
//! `HA_INGESTOR_TEST_SEED` repeats the order of the faults, `HA_INGESTOR_TEST_MINUTES` says for how long there is load.

mod difference;
mod faults;
mod loader;
pub mod proxy;
mod verify;

use std::env;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::json;

use self::difference::{Difference, Places};
use self::faults::{World, round};
use self::loader::Loader;
use self::proxy::Proxy;
use crate::ingestor::Ingestor;
use crate::peers::home_assistant::{Change, HomeAssistant, Setup, Version};
use crate::peers::recorder_database::{self, Row};
use crate::points::{entity_id, entity_times};
use crate::support::influxd::Influxd;
use crate::support::process::wait_until;
use crate::support::victoria_metrics::VictoriaMetrics;

const DATABASE: &str = "home_assistant";
/// The order of the faults unless another is asked for: a new find must not stop work that has nothing to do with it.
/// `make chaos` looks for one.
const SEED: u32 = 7;
/// Changes per second.
const RATE: u32 = 50;
const LOAD: Duration = Duration::from_secs(90);
/// How long it may take until everything is where it belongs, once nothing breaks any more.
const PATIENCE: Duration = Duration::from_mins(3);

#[test]
fn the_databases_have_what_the_recorder_has_whatever_broke_meanwhile() {
    break_everything(Version::Usual);
}

#[test]
fn with_the_newest_home_assistant_they_have_it_too() {
    break_everything(Version::Newest);
}

fn break_everything(version: Version) {
    let Some(influxd) = Influxd::start() else { return };
    let Some(victoria) = VictoriaMetrics::start() else { return };
    let Some(home) = HomeAssistant::start(Setup { recorder: true, ledger: true, version, ..Setup::default() }) else {
        return;
    };
    let seed = told("HA_INGESTOR_TEST_SEED").unwrap_or(SEED);
    let minutes: Option<u32> = told("HA_INGESTOR_TEST_MINUTES");
    println!("HA_INGESTOR_TEST_SEED={seed}");

    influxd.create_database(DATABASE);
    let (to_home, to_influxd) = (Proxy::start(home.address()), Proxy::start(influxd.address));
    let target = |url: String| json!({"url": url, "api": "v1", "database": DATABASE});
    let mut ingestor = Ingestor::start(&json!({
        "home_assistant": {"url": to_home.url(), "token": home.token()},
        "influxdb": target(to_influxd.url()),
        "mirrors": [target(victoria.url())],
        "events": [],
        // A black hole must not take most of the time of the test.
        "delivery": {"retry_max_ms": 2_000, "breaker_open_seconds": 2, "request_timeout_seconds": 5},
    }));
    ingestor.wait_until_ready();
    let loader = Loader::new(&home, RATE, seed);
    let mut world = World { ingestor, influxd, home, to_home, to_influxd };
    let load = minutes.map_or(LOAD, |minutes| Duration::from_secs(60 * u64::from(minutes)));
    thread::scope(|scope| {
        let loading = scope.spawn(|| loader.run());
        suffer(&mut world, load, seed);
        loader.end();
        loading.join().unwrap();
    });

    let made = loader.changes();
    let recorded = recorded(&world.home, &made);
    let begin = Instant::now();
    let last = recorded.iter().map(|row| row.updated).max().expect("there was load");
    world.ingestor.wait_until_complete(last, PATIENCE);
    println!("settled after {:.1} s", begin.elapsed().as_secs_f64());
    let differences = compare(&world, &victoria, &recorded);
    for Compared { database, difference, .. } in &differences {
        println!("{database}: {difference}");
    }
    verify::must_say_the_same(&mut world.ingestor, &recorded, &differences);
    assert!(differences.iter().all(|compared| compared.difference.is_none()), "HA_INGESTOR_TEST_SEED={seed}");
    assert_eq!(world.ingestor.count("points_dropped_total"), 0);
    world.ingestor.stop();
}

fn told<T: FromStr>(variable: &str) -> Option<T> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

/// Each fault at least once, until there was load for long enough.
fn suffer(world: &mut World, load: Duration, seed: u32) {
    let mut rng = Rng::with_seed(seed.into());
    let begin = Instant::now();
    let mut faults = round(&mut rng);
    loop {
        let Some(fault) = faults.pop() else {
            if begin.elapsed() >= load {
                break;
            }
            faults = round(&mut rng);
            continue;
        };
        world.suffer(fault, &mut rng);
    }
    println!("there was load for {} s", begin.elapsed().as_secs());
}

/// What the recorder has, once it has the last change.
fn recorded(home: &HomeAssistant, made: &[Change]) -> Vec<Row> {
    let last = made.last().expect("there was load");
    wait_until("the recorder has the last change", PATIENCE, || {
        let rows = recorder_database::rows(home);
        rows.iter().any(|row| (&row.entity, row.updated) == (&last.entity_id, last.micros)).then_some(rows)
    })
}

/// What the test found out about a database.
struct Compared {
    database: &'static str,
    difference: Difference,
    /// Rows of the recorder that the database has, or should have.
    known: usize,
    /// It gets and keeps numbers only: `verify` counts points without a number apart, and does not look for others of the kind.
    loses_texts: bool,
}

fn compare(world: &World, victoria: &VictoriaMetrics, recorded: &[Row]) -> [Compared; 2] {
    let rows = || recorded.iter().filter(|row| row.value().is_some());
    let needed: Places = rows().map(|row| (row.entity.clone(), row.updated)).collect();
    let every_state = world.home.every_state();
    let ledger: Places = every_state.into_iter().map(|change| (change.entity_id, change.micros)).collect();
    let found = entity_times(&world.influxd, DATABASE);
    let difference = Difference::of(&needed, &Places::new(), &ledger, &found);
    let in_influxdb = Compared { database: "InfluxDB", known: difference.rows, difference, loses_texts: false };

    // VictoriaMetrics keeps numbers only, of texts those among their attributes.
    let millis = |places: Places| -> Places { places.into_iter().map(|(id, micros)| (id, micros / 1_000)).collect() };
    let numbers = rows().filter(|row| row.value().and_then(number).is_some());
    let numbers = millis(numbers.map(|row| (row.entity.clone(), row.updated)).collect());
    let found = in_victoria(victoria);
    let there = needed.iter().filter(|(id, micros)| found.contains(&(id.clone(), micros / 1_000))).count();
    let difference = Difference::of(&numbers, &millis(needed), &millis(ledger), &found);
    let known = there + difference.missing.len() + difference.differing.len();
    [in_influxdb, Compared { database: "VictoriaMetrics", known, difference, loses_texts: true }]
}

/// What a text is as a number, as far as the load generator makes such texts.
fn number(state: &str) -> Option<f64> {
    match state {
        "on" | "locked" | "above_horizon" | "open" | "home" => Some(1.0),
        "off" | "unlocked" | "below_horizon" | "closed" | "not_home" => Some(0.0),
        other => other.parse().ok().filter(|number: &f64| number.is_finite()),
    }
}

/// Entity and milliseconds of every sample.
fn in_victoria(victoria: &VictoriaMetrics) -> Places {
    let series = victoria.export(r#"{__name__!=""}"#).into_iter();
    let samples = series.flat_map(|(labels, samples)| {
        let entity = entity_id(&labels);
        samples.into_iter().map(move |(millis, _)| (entity.clone(), millis))
    });
    samples.collect()
}
