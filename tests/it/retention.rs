//! A real InfluxDB that keeps an hour, and history that is older.

use ha_ingestor::model::value::Attributes;
use ha_ingestor::runtime::clock;

use crate::import::{all, import};
use crate::ingestor::Ingestor;
use crate::support::influxd::{Influxd, identifier};
use crate::verify::{Bench, DATABASE};

const HOUR: i64 = 3_600;

fn keeps_an_hour(influxd: &Influxd) {
    influxd.query("", &format!("CREATE DATABASE {} WITH DURATION 1h", identifier(DATABASE)));
}

#[test]
fn what_the_database_does_not_keep_is_counted_and_the_import_comes_to_its_end() {
    let Some(influxd) = Influxd::start() else { return };
    keeps_an_hour(&influxd);
    let bench = Bench::new();
    let (code, told) = import(&bench, &influxd.url(), &[]);
    assert_eq!(code, Some(0), "{told}");
    let said: Vec<&str> = told.lines().filter(|line| line.contains("older than the database keeps")).collect();
    let [said] = said[..] else { panic!("not once: {told}") };
    assert!(!told.contains("refused") && !said.contains(" 0 older"), "{told}");
    let expired: usize = said.split(" older than").next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    let stored = all(&influxd);
    // The three that were set just now, and what is left of the day.
    assert!(stored.len() >= 3 && expired > 500, "{} stored: {told}", stored.len());
    let oldest = stored.keys().map(|place| place.time).min().unwrap();
    assert!(oldest > clock::now().as_nanos() - 2 * HOUR * 1_000_000_000, "{oldest}");
    let told = std::fs::read_to_string(bench.folder.path().join("data/import.json")).unwrap();
    assert!(told.contains(&format!("\"expired\":{expired}")) && told.contains("\"done\":true"), "{told}");
}

#[test]
fn a_gap_that_is_older_than_the_database_keeps_is_closed_and_what_it_does_not_keep_is_said_once() {
    let Some(influxd) = Influxd::start() else { return };
    keeps_an_hour(&influxd);
    let bench = Bench::with_clock(-5 * HOUR);
    let mut service = Ingestor::start(&bench.options(&influxd.url()));
    service.wait_until_ready();
    // Already what it hears at first is too old.
    service.wait_for("points_expired_total", |count| count > 5);
    service.wait_for("watermark_timestamp_seconds", |seconds| seconds > 0);
    service.end();
    for ago in [4, 3, 2, 0] {
        bench.home.turn(|knobs| knobs.clock_ahead_micros = -ago * HOUR * 1_000_000);
        bench.home.storm(200);
        assert!(bench.home.set("sensor.hours_ago", &ago.to_string(), Attributes::default()).is_some());
    }
    service.start_again();
    service.wait_until_alive();
    service.wait_for("gaps_closed_total", |count| count == 1);
    service.wait_for("points_expired_total", |count| count > 300);
    service.wait_for("points_written_total", |count| count > 100);
    let present = clock::now().as_micros() / 1_000_000;
    service.wait_for("watermark_timestamp_seconds", |seconds| seconds + 600 > present.cast_unsigned());
    for name in ["points_dead_lettered_total", "points_refused_total", "gap_open", "books_unaccounted"] {
        assert_eq!(service.count(name), 0, "{name}");
    }
    let stored = all(&influxd);
    let hours: Vec<_> = stored.iter().filter(|(place, _)| place.series.tags["entity_id"] == "hours_ago").collect();
    assert_eq!(hours.len(), 1, "{hours:?}");
    let log = service.log();
    // One for each start.
    assert_eq!(
        log.matches("records are older than the database keeps: they are counted as expired").count(),
        2,
        "{log}"
    );
    service.stop();
}
