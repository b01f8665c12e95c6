//! Against real databases, as far as they are installed.

use std::time::{Duration, Instant};

use ha_ingestor::config::secret::Secret;
use ha_ingestor::config::settings::{self, Api, Compression};
use ha_ingestor::influx::probe::{About, probe};
use ha_ingestor::runtime::clock;
use ha_ingestor::status::snapshot::LinkState;

use crate::bench::{Bench, delivery, server, until};
use crate::support::http;
use crate::support::influxd::Influxd;
use crate::support::victoria_metrics::VictoriaMetrics;

/// The number of points with the field `value`.
fn count(influxd: &Influxd) -> u64 {
    let results = influxd.query("home", "SELECT count(value) FROM m");
    results[0]["series"][0]["values"][0][1].as_u64().unwrap_or_default()
}

/// The number of values of the field `value`.
fn exported_values(victoria: &VictoriaMetrics) -> usize {
    victoria.export("m_value").iter().map(|(_, samples)| samples.len()).sum()
}

/// Of the last seconds, one nanosecond apart.
fn lines(count: i64) -> Vec<String> {
    let now = clock::now().as_nanos();
    (0..count).map(|at| format!("m,entity_id=sensor_{} value={at} {}", at % 50, now - at)).collect()
}

const HARD: &str = r#"m,entity_id=poison text="it's: 'this', <&> °C",value=1e999 1"#;

#[tokio::test]
async fn influxdb_1_is_recognised_and_waited_for_until_its_database_is_created() {
    let Some(peer) = Influxd::start() else { return };
    let bench = Bench::start(&lines(10_000), server(&peer.url(), Api::Auto), delivery());
    until("the fault shows", || bench.target.link.state() == LinkState::Failing).await;
    let (_, error) = bench.snapshot().target.last_error.unwrap();
    assert!(error.contains("create it") && error.contains("database not found"), "{error}");
    peer.create_database("home");
    bench.skip_to_probe().await;
    bench.until_empty().await;
    assert_eq!(count(&peer), 10_000);
    let end = bench.end().await;
    assert_eq!(end.target.detail, "InfluxDB 1.6.7~rc0 (api v1)");
    assert_eq!(end.books.stored, 10_000);
}

#[tokio::test]
async fn influxdb_1_stores_all_but_the_line_that_it_cannot_read() {
    let Some(peer) = Influxd::start() else { return };
    peer.create_database("home");
    let mut all = lines(1_000);
    all[371] = HARD.into();
    let bench = Bench::start(&all, server(&peer.url(), Api::Auto), delivery());
    bench.until_empty().await;
    assert_eq!(bench.set_aside(), 1);
    assert_eq!(count(&peer), 999);
    let end = bench.end().await;
    assert_eq!(end.writes.requests, [("refused_lines", 1)]);
}

#[tokio::test]
async fn influxdb_1_stores_all_but_the_line_whose_type_does_not_fit() {
    let Some(peer) = Influxd::start() else { return };
    peer.create_database("home");
    let mut all = lines(1_000);
    all[371] = format!("m value=\"text\" {}", clock::now().as_nanos());
    let bench = Bench::start(&all, server(&peer.url(), Api::V1), delivery());
    bench.until_empty().await;
    assert_eq!(bench.set_aside(), 1);
    assert_eq!(count(&peer), 999);
    let end = bench.end().await;
    let requests: u64 = end.writes.requests.iter().map(|(_, count)| count).sum();
    assert!(requests <= 20, "{:?}", end.writes.requests);
}

#[tokio::test]
async fn influxdb_1_gets_everything_after_it_was_killed() {
    let Some(mut peer) = Influxd::start() else { return };
    peer.create_database("home");
    let mut bench = Bench::start(&lines(1_000), server(&peer.url(), Api::Auto), delivery());
    bench.until_empty().await;
    peer.kill();
    bench.append(&lines(20_000));
    until("the outage shows", || bench.snapshot().target.failures >= 2).await;
    peer.start_again();
    bench.until_empty().await;
    assert_eq!(count(&peer), 21_000);
    assert_eq!(bench.end().await.books.stored, 21_000);
}

#[tokio::test]
async fn influxdb_1_with_a_small_limit_gets_small_batches() {
    let Some(peer) = Influxd::start_with("max-body-size = 20000") else { return };
    peer.create_database("home");
    let mut delivery = delivery();
    // Compressed bodies are not counted against the limit.
    delivery.compression = Compression::None;
    let bench = Bench::start(&lines(20_000), server(&peer.url(), Api::V1), delivery);
    bench.until_empty().await;
    assert_eq!(count(&peer), 20_000);
    let end = bench.end().await;
    assert_eq!(end.books.stored, 20_000);
    assert!(end.writes.requests.iter().any(|(outcome, _)| *outcome == "too_large"), "{:?}", end.writes.requests);
}

#[tokio::test]
async fn influxdb_1_with_a_retention_expires_what_is_older() {
    let Some(peer) = Influxd::start() else { return };
    peer.query("", "CREATE DATABASE home WITH DURATION 1h");
    let mut all = lines(100);
    all.extend((0..50).map(|at| format!("m value=1 {at}")));
    let bench = Bench::start(&all, server(&peer.url(), Api::V1), delivery());
    bench.until_empty().await;
    assert_eq!(bench.snapshot().books.expired, 50);
    assert_eq!(bench.set_aside(), 0);
    bench.end().await;
}

#[tokio::test]
async fn influxdb_1_is_waited_for_until_its_retention_policy_exists() {
    let Some(peer) = Influxd::start() else { return };
    peer.create_database("home");
    let mut server = server(&peer.url(), Api::Auto);
    server.retention_policy = Some("years".into());
    let bench = Bench::start(&lines(100), server, delivery());
    until("the fault shows", || bench.target.link.state() == LinkState::Failing).await;
    assert!(bench.snapshot().target.last_error.unwrap().1.contains("retention_policy"));
    peer.query("", "CREATE RETENTION POLICY years ON home DURATION INF REPLICATION 1 DEFAULT");
    bench.skip_to_probe().await;
    bench.until_empty().await;
    assert_eq!(count(&peer), 100);
    bench.end().await;
}

async fn check_probe(server: settings::Server, expected: &[(About, bool, &str)]) {
    let found = probe(&settings::Target::Server(server), &delivery()).await;
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (finding, (about, good, words)) in found.iter().zip(expected) {
        assert_eq!((finding.about, finding.good), (*about, *good), "{found:?}");
        assert!(finding.words.contains(words), "{words}: {found:?}");
    }
}

#[tokio::test]
async fn the_probe_says_what_to_do() {
    let Some(peer) = Influxd::start_with("auth-enabled = true\nping-auth-enabled = true") else { return };
    peer.query("", "CREATE USER admin WITH PASSWORD 'secret' WITH ALL PRIVILEGES");
    let is_influxdb = (About::Server, true, "InfluxDB 1.6.7");
    let mut server = server(&peer.url(), Api::Auto);
    check_probe(server.clone(), &[is_influxdb, (About::Writing, false, "influxdb.username")]).await;
    server.username = Some("admin".into());
    server.password = Secret::new("secret");
    check_probe(server.clone(), &[is_influxdb, (About::Writing, false, "there is no database `home`")]).await;
    // InfluxDB looks for the user in the URL only.
    let question = http::form(&[("u", "admin"), ("p", "secret"), ("q", "CREATE DATABASE home")]);
    http::post(peer.address, &format!("/query?{question}"), &[], "").unwrap().json();
    check_probe(server.clone(), &[is_influxdb, (About::Writing, true, "takes writes")]).await;
    server.retention_policy = Some("none".into());
    check_probe(server.clone(), &[is_influxdb, (About::Writing, false, "influxdb.retention_policy")]).await;
    server.api = Api::V2;
    check_probe(server.clone(), &[(About::Server, true, "api v2"), (About::Writing, false, "influxdb.api")]).await;
    server.url = "http://127.0.0.1:1".parse().unwrap();
    server.api = Api::Auto;
    check_probe(server, &[(About::Server, false, "check the port")]).await;
}

#[tokio::test]
async fn victoria_metrics_is_recognised_and_takes_whatever_it_gets() {
    let Some(peer) = VictoriaMetrics::start() else { return };
    let mut all = lines(1_000);
    all[371] = "this is bad".into();
    let server = server(&peer.url(), Api::Auto);
    let bench = Bench::start(&all, server.clone(), delivery());
    bench.until_empty().await;
    let end = bench.end().await;
    assert_eq!(end.target.detail, "VictoriaMetrics (api v1)");
    // It never complains about a line: its 204 says nothing about any one of them. One without a number is not sent.
    assert_eq!((end.books.stored, end.books.not_representable), (999, 1));
    // New series can be searched after a moment.
    let deadline = Instant::now() + Duration::from_secs(10);
    while exported_values(&peer) != 999 {
        assert!(Instant::now() < deadline, "{} of 999 values are there", exported_values(&peer));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    check_probe(server, &[(About::Server, true, "VictoriaMetrics"), (About::Writing, true, "takes writes")]).await;
}
