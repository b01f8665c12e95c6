//! A real InfluxDB that keeps an hour, a real VictoriaMetrics that keeps a month, and history that is older.

use ha_ingestor::model::value::Attributes;
use ha_ingestor::runtime::clock;

use crate::import::{all, days_ago, import};
use crate::ingestor::Ingestor;
use crate::support::influxd::{Influxd, identifier};
use crate::support::victoria_metrics::VictoriaMetrics;
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
    let left = std::fs::read_to_string(bench.folder.path().join("data/import.json")).unwrap();
    assert!(left.contains("\"imports\":[]"), "nothing is left to do: {left}");
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

/// It answers 204 to everything, and drops what is too old without a word.
#[test]
fn what_victoria_metrics_does_not_keep_is_counted_as_expired_and_not_as_written() {
    let Some(victoria) = VictoriaMetrics::start_keeping("1") else { return };
    let bench = Bench::new();
    let (code, told) = import(&bench, &victoria.url(), &[]);
    assert_eq!(code, Some(0), "{told}");
    let line = told.lines().find(|line| line.contains("older than the database keeps")).unwrap();
    let figure = |before: &str| -> usize {
        line.split(before).next().unwrap().trim_end().rsplit(' ').next().unwrap().parse().unwrap()
    };
    let expired = figure(" older than");
    // Of ninety days of statistics two thirds.
    assert!(expired > 5_000, "{told}");
    assert!(told.contains("points have no number"), "{told}");
    let samples = victoria.export(r#"{__name__!=""}"#);
    let oldest = samples.iter().flat_map(|(_, samples)| samples).map(|(millis, _)| *millis).min().unwrap();
    let days = (clock::now().as_micros() / 1_000 - oldest) / 86_400_000;
    assert!((29..=31).contains(&days), "what it keeps is there: {days} days");
    let ignored = victoria.metric("vm_rows_ignored_total{reason=\"small_timestamp\"}");
    assert!(ignored.abs() < 0.5, "it had nothing to drop: {ignored}");
    // What it does not keep is nothing that is missing, nor anything that can be repaired.
    let [from, _] = days_ago(60);
    let (code, told) = bench.verify(&victoria.url(), &["--repair", "--from", &from]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("it keeps nothing from before ") && told.contains("missing 0, extra 0"), "{told}");
}

/// Texts would be series of zeros there.
#[test]
fn victoria_metrics_gets_the_numbers_and_what_has_none_is_counted_apart() {
    let Some(victoria) = VictoriaMetrics::start() else { return };
    for api in ["auto", "v1", "v2"] {
        let bench = Bench::new();
        let mut options = bench.options(&victoria.url());
        options["influxdb"]["api"] = api.into();
        options["influxdb"]["database"] = format!("home_{api}").into();
        if api == "v2" {
            for option in ["organization", "bucket", "token"] {
                options["influxdb"][option] = "any".into();
            }
        }
        let mut service = Ingestor::start(&options);
        service.wait_until_ready();
        bench.home.storm(300);
        for word in 0..20 {
            assert!(bench.home.set("sensor.words", &format!("word {word}"), Attributes::default()).is_some());
        }
        service.wait_for("events_received_total", |count| count >= 300);
        service.wait_until_settled();
        let [written, not_representable] =
            ["points_written_total", "points_not_representable_total"].map(|name| service.count(name));
        assert!(written > 100 && not_representable > 10, "{api}: {written} {not_representable}");
        for name in ["points_dead_lettered_total", "points_dropped_total", "books_unaccounted"] {
            assert_eq!(service.count(name), 0, "{api}: {name}");
        }
        service.stop();
    }
    let series = victoria.export(r#"{__name__!=""}"#);
    assert!(series.len() > 5, "{}", series.len());
    let texts: Vec<_> = series
        .iter()
        .map(|(labels, _)| &labels["__name__"])
        .filter(|name| name.ends_with("_str") || name.ends_with("_state"))
        .collect();
    assert!(texts.is_empty(), "{} of {} series are of texts: {texts:?}", texts.len(), series.len());
}
