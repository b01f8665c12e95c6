//! `verify` against real databases, and against servers of the versions that cannot be had here: what is there, what is
//! missing, what nobody knows of.

mod fake;
mod flux;
mod rules;
mod sql;
mod versions;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;

use ha_ingestor::demo::handle::Handle;
use ha_ingestor::demo::home::Home;
use ha_ingestor::demo::knobs::Knobs;
use ha_ingestor::demo::server::Simulator;
use ha_ingestor::model::time::Timestamp;
use ha_ingestor::model::value::Value as Attribute;
use ha_ingestor::runtime::clock;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::points;
use crate::support::http;
use crate::support::influxd::{Influxd, identifier};
use crate::support::victoria_metrics::VictoriaMetrics;

pub const DATABASE: &str = "home";
const ENTITIES: usize = 8;
/// In a name, a unit and a text: what each language quotes in its own way.
const NASTY: &str = r#"a, b = "c" it's 😀 ${x}"#;

/// A simulated home with a day of history, and the folder of a service that never ran.
pub struct Bench {
    _runtime: Runtime,
    pub home: Handle,
    address: SocketAddr,
    pub folder: TempDir,
    /// What is compared begins here: the last 24 hours are others at every look.
    from: Timestamp,
}

impl Bench {
    pub fn new() -> Self {
        Self::with_clock(0)
    }

    /// The home's clock is ahead of ours by so many seconds.
    pub fn with_clock(ahead_seconds: i64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let clock_ahead_micros = ahead_seconds * 1_000_000;
        let now = Timestamp::from_micros(clock::now().as_micros() + clock_ahead_micros);
        let knobs = Knobs { clock_ahead_micros, ..Knobs::default() };
        let (simulator, home) = Simulator::new(listener, Home::new(7, ENTITIES, now), knobs);
        runtime.spawn(simulator.run(CancellationToken::new()));
        for state in ["1", "2", NASTY] {
            let pairs = [("unit_of_measurement", NASTY), ("friendly_name", NASTY), ("count", state)];
            let attributes =
                pairs.into_iter().map(|(name, text)| (name.into(), Attribute::Text(text.into()))).collect();
            home.set("sensor.nasty", state, attributes).unwrap();
        }
        let from = Timestamp::from_micros(clock::now().as_micros() - 23 * 3_600_000_000);
        Self { _runtime: runtime, home, address, folder: TempDir::new().unwrap(), from }
    }

    pub fn verify(&self, url: &str, arguments: &[&str]) -> (Option<i32>, String) {
        self.verify_with(&self.options(url), arguments)
    }

    fn verify_with(&self, options: &Value, arguments: &[&str]) -> (Option<i32>, String) {
        let path = self.folder.path().join("options.json");
        std::fs::write(&path, options.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ha-ingestor"));
        command.env_clear().arg("verify").args(arguments);
        for (bound, time) in [("--from", self.from.to_string()), ("--to", "2200-01-01".to_owned())] {
            if !arguments.contains(&bound) {
                command.args([bound, &time]);
            }
        }
        command.arg("--options").arg(path).arg("--data-dir").arg(self.folder.path().join("data"));
        let output = command.output().unwrap();
        let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), told)
    }

    pub fn options(&self, url: &str) -> Value {
        self.options_for(&json!({"url": url, "database": DATABASE}))
    }

    /// `influxdb` is that section of the options.
    fn options_for(&self, influxdb: &Value) -> Value {
        json!({
            "home_assistant": {"url": format!("http://{}", self.address), "token": "demo"},
            "influxdb": influxdb,
            "delivery": {"retry_initial_ms": 20, "retry_max_ms": 50},
        })
    }

    fn json(&self, url: &str, arguments: &[&str]) -> (Option<i32>, Value) {
        self.json_with(&self.options(url), arguments)
    }

    fn json_with(&self, options: &Value, arguments: &[&str]) -> (Option<i32>, Value) {
        let (code, told) = self.verify_with(options, &[&["--json"], arguments].concat());
        (code, serde_json::from_str(&told).unwrap_or_else(|err| panic!("{err}: {told}")))
    }
}

fn counts(report: &Value) -> [u64; 5] {
    let total = &report["targets"][0]["total"];
    ["known", "present", "missing", "extra", "differing_timestamps"].map(|name| total[name].as_u64().unwrap())
}

/// Entity and hours with something missing.
fn lacking(report: &Value) -> BTreeMap<String, Vec<String>> {
    let entities = report["targets"][0]["entities"].as_array().unwrap().iter();
    let hours = |entity: &Value| {
        let hours = entity["hours"].as_array().unwrap().iter().filter(|hour| hour["missing"] != 0);
        hours.map(|hour| hour["hour"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let lacking = entities.map(|entity| (entity["entity"].as_str().unwrap().to_owned(), hours(entity)));
    lacking.filter(|(_, hours)| !hours.is_empty()).collect()
}

#[test]
fn influxdb_1_lacks_everything_then_nothing_then_what_was_deleted() {
    let Some(influxd) = Influxd::start() else { return };
    influxd.create_database(DATABASE);
    let bench = Bench::new();
    let url = influxd.url();

    let (code, report) = bench.json(&url, &[]);
    let [known, present, missing, extra, differing] = counts(&report);
    assert_eq!((code, present, missing, extra, differing), (Some(1), 0, known, 0, 0), "{report}");
    assert!(known > 500 && lacking(&report).contains_key("sensor.nasty"), "{known}");

    let (code, told) = bench.verify(&url, &["--repair"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("missing 0, extra 0, differing timestamps 0"), "{told}");
    assert!(told.contains(&format!("{known} known, {known} present")), "{told}");
    let stored = points::points(&influxd, DATABASE, i64::MIN + 10, i64::MAX - 10);
    assert_eq!(stored.len() as u64, known, "exactly those");

    // One of the nasty ones, and one of the past.
    let is_past = |place: &&points::Place| place.series.tags["entity_id"] != "nasty";
    let past = stored.keys().filter(is_past).nth(100).unwrap();
    let nasty = stored.keys().find(|place| !is_past(place)).unwrap();
    for place in [past, nasty] {
        let entity = &place.series.tags["entity_id"];
        let measurement = identifier(&place.series.measurement);
        influxd.query(
            DATABASE,
            &format!("DELETE FROM {measurement} WHERE time = {} AND entity_id = '{entity}'", place.time),
        );
    }
    let (code, report) = bench.json(&url, &[]);
    assert_eq!((code, counts(&report)), (Some(1), [known, known - 2, 2, 0, 0]), "{report}");
    let lacking = lacking(&report);
    let name = format!("{}.{}", past.series.tags["domain"], past.series.tags["entity_id"]);
    assert_eq!(lacking[&name].len(), 1, "{lacking:?}");
    assert!(lacking.len() == 2 && lacking.contains_key("sensor.nasty"), "{lacking:?}");
    let (code, told) = bench.verify(&url, &["--entity", &name]);
    assert!(
        code == Some(1) && told.contains("missing 1, extra 0") && told.contains(&lacking[&name][0][..13]),
        "{told}"
    );

    let (code, told) = bench.verify(&url, &["--repair"]);
    assert!(code == Some(0) && told.contains("repaired: 2 points"), "{told}");
    assert_eq!(points::points(&influxd, DATABASE, i64::MIN + 10, i64::MAX - 10), stored, "as it was");

    let coverage = std::fs::read_to_string(bench.folder.path().join("data/coverage.json")).unwrap();
    assert!(coverage.contains("sensor.nasty") && coverage.contains("\"missing\":0"), "{coverage}");
}

#[test]
fn points_that_home_assistant_does_not_know_are_extra_or_have_another_time() {
    let Some(influxd) = Influxd::start() else { return };
    influxd.create_database(DATABASE);
    let bench = Bench::new();
    let url = influxd.url();
    assert_eq!(bench.verify(&url, &["--repair"]).0, Some(0));
    let now = clock::now().as_nanos();
    let write = |line: String| {
        let answer = http::post(influxd.address, &format!("/write?db={DATABASE}"), &[], &line).unwrap();
        assert_eq!(answer.status, 204, "{answer:?}");
    };
    let home = &bench.home;
    let attributes = [("unit_of_measurement".into(), Attribute::Text("W".into()))].into_iter().collect();
    home.set("sensor.meter", "5", attributes).unwrap();
    let time = home.home(|home| home.state("sensor.meter").unwrap().last_updated);
    let nanos = Timestamp::from_unix_seconds(time).unwrap().as_nanos();
    write(format!("W,domain=sensor,entity_id=meter value=5 {}", nanos + 1_000));
    write(format!("W,domain=sensor,entity_id=meter value=6 {}", now - 7_200_000_000_001));
    // Whose is this?
    write(format!("W,domain=sensor,entity_id=of_somebody_else value=6 {}", now - 7_200_000_000_001));
    let (code, report) = bench.json(&url, &[]);
    let [_, _, missing, extra, differing] = counts(&report);
    assert_eq!((code, missing, extra, differing), (Some(1), 0, 1, 1), "{report}");
    assert_eq!(bench.json(&url, &["--entity", "sensor.meter", "--repair"]).0, Some(1), "it is not missing");
    let (code, report) = bench.json(&url, &["--entity", "sensor.no_such"]);
    assert_eq!((code, &report["unknown"][0]["entity"]), (Some(1), &"sensor.no_such".into()), "{report}");
}

#[test]
fn victoria_metrics_is_compared_to_the_millisecond_and_without_texts() {
    let Some(victoria) = VictoriaMetrics::start() else { return };
    let bench = Bench::new();
    let (code, report) = bench.json(&victoria.url(), &[]);
    let [known, present, missing, ..] = counts(&report);
    assert_eq!((code, present, missing), (Some(1), 0, known), "{report}");
    let (code, told) = bench.verify(&victoria.url(), &["--repair"]);
    assert_eq!(code, Some(0), "{told}");
    let (code, report) = bench.json(&victoria.url(), &[]);
    assert_eq!((code, counts(&report)), (Some(0), [known, known, 0, 0, 0]), "{report}");

    // Live, a text came with a number among its attributes that is not in the history.
    let home = &bench.home;
    home.set("input_select.mood", "calm", [("editable".into(), Attribute::Bool(true))].into_iter().collect()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(5));
    home.set("input_select.mood", "wild", [].into_iter().collect()).unwrap();
    let time = home.home(|home| home.state("input_select.mood").unwrap().last_updated);
    let nanos = Timestamp::from_unix_seconds(time).unwrap().as_nanos();
    let line = format!("input_select.mood,domain=input_select,entity_id=mood editable=1 {nanos}");
    let answer = http::post(victoria.address, &format!("/write?db={DATABASE}"), &[], &line).unwrap();
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(bench.verify(&victoria.url(), &["--repair"]).0, Some(0));
    let (code, report) = bench.json(&victoria.url(), &["--entity", "input_select.mood"]);
    assert_eq!((code, counts(&report)), (Some(0), [1, 1, 0, 0, 0]), "{report}");
    assert_eq!(report["targets"][0]["not_kept"], 1);
    assert!(report["targets"][0]["server"].as_str().unwrap().starts_with("VictoriaMetrics"));
}

#[test]
fn what_cannot_be_asked_is_unavailable() {
    let bench = Bench::new();
    let (code, told) = bench.verify("http://127.0.0.1:1", &[]);
    assert!(code == Some(69) && told.contains("nothing listens there"), "{told}");
    let (code, told) = bench.verify("http://127.0.0.1:1", &["--target", "mirror_7"]);
    assert!(code == Some(78) && told.contains("there is no target `mirror_7`; there is influxdb"), "{told}");
    let (code, told) = bench.verify("http://127.0.0.1:1", &["--from", "2201-01-01"]);
    assert!(code == Some(78) && told.contains("--from: must be before --to"), "{told}");
    assert_eq!(bench.verify("http://127.0.0.1:1", &["--from", "yesterday"]).0, Some(78));
}

#[test]
fn an_archive_is_verified_from_its_files() {
    let bench = Bench::new();
    let archive = TempDir::new().unwrap();
    let url = format!("file://{}", archive.path().display());
    let (code, told) = bench.verify(&url, &["--repair"]);
    assert!(code == Some(0) && told.contains("missing 0, extra 0, differing timestamps 0"), "{told}");
    let day = std::fs::read_dir(archive.path()).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(day).unwrap();
    let (code, told) = bench.verify(&url, &[]);
    assert!(code == Some(1) && !told.contains("missing 0,"), "{told}");
}
