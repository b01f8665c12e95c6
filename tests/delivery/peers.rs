//! Against real databases, as far as they are installed: paths in `HA_INGESTOR_TEST_INFLUXD` and
//! `HA_INGESTOR_TEST_VICTORIA_METRICS`, else in `target/peers/bin`.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ha_ingestor::config::secret::Secret;
use ha_ingestor::config::settings::{self, Api, Compression};
use ha_ingestor::influx::probe::{About, probe};
use ha_ingestor::runtime::clock;
use ha_ingestor::status::snapshot::LinkState;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bench::{Bench, delivery, server, until};

/// A database that ends with the test.
struct Peer {
    command: Command,
    child: Child,
    address: String,
    _folder: TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// `None`, loudly, if it is not installed. In CI that is a failure.
    async fn influxd(http_options: &str) -> Option<Self> {
        let program = program("HA_INGESTOR_TEST_INFLUXD", "influxd")?;
        let folder = tempfile::tempdir().unwrap();
        let (address, inner) = (free_address(), free_address());
        let path = folder.path().display();
        let options = format!(
            "reporting-disabled = true\nbind-address = \"{inner}\"\n\
             [meta]\ndir = \"{path}/meta\"\n\
             [data]\ndir = \"{path}/data\"\nwal-dir = \"{path}/wal\"\n\
             [monitor]\nstore-enabled = false\n\
             [http]\nbind-address = \"{address}\"\nlog-enabled = false\n{http_options}\n"
        );
        let file = folder.path().join("influxdb.conf");
        std::fs::write(&file, options).unwrap();
        let mut command = Command::new(program);
        command.arg("run").arg("-config").arg(file);
        Some(Self::start(command, address, folder).await)
    }

    async fn victoria_metrics() -> Option<Self> {
        let program = program("HA_INGESTOR_TEST_VICTORIA_METRICS", "victoria-metrics")?;
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let mut command = Command::new(program);
        command.arg(format!("-httpListenAddr={address}")).arg(format!("-storageDataPath={}", folder.path().display()));
        Some(Self::start(command, address, folder).await)
    }

    async fn start(mut command: Command, address: String, folder: TempDir) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let peer = Self { command, child, address, _folder: folder };
        peer.until_it_answers().await;
        peer
    }

    async fn until_it_answers(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.ask("GET", "/ping").await.is_none() {
            assert!(Instant::now() < deadline, "the database does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn start_again(&mut self) {
        self.child = self.command.spawn().unwrap();
        self.until_it_answers().await;
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn ask(&self, method: &str, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.address).await.ok()?;
        let request = format!("{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    }

    async fn query(&self, statement: &str) -> String {
        let statement: String = url::form_urlencoded::byte_serialize(statement.as_bytes()).collect();
        self.ask("POST", &format!("/query?db=home&epoch=ns&q={statement}")).await.unwrap()
    }

    /// The number of points with the field `value`.
    async fn count(&self) -> u64 {
        let answer: serde_json::Value = serde_json::from_str(&self.query("SELECT count(value) FROM m").await).unwrap();
        answer["results"][0]["series"][0]["values"][0][1].as_u64().unwrap_or_default()
    }

    /// What VictoriaMetrics has of the field `value`.
    async fn exported_values(&self) -> usize {
        self.ask("GET", "/internal/force_flush").await.unwrap();
        let exported = self.ask("GET", "/api/v1/export?match[]=m_value").await.unwrap();
        let values = |series| serde_json::from_str::<serde_json::Value>(series).unwrap()["values"].clone();
        exported.lines().map(|series| values(series).as_array().unwrap().len()).sum()
    }
}

fn program(variable: &str, name: &str) -> Option<PathBuf> {
    let default = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/peers/bin").join(name);
    let path = std::env::var_os(variable).map_or_else(default, PathBuf::from);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is not there: set {variable}", path.display());
    // Not `eprintln`: what a test that passes prints is not shown.
    let _ = writeln!(std::io::stderr(), "SKIPPED, NOTHING WAS TESTED: {} is not there, set {variable}", path.display());
    None
}

fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Of the last seconds, one nanosecond apart.
fn lines(count: i64) -> Vec<String> {
    let now = clock::now().as_nanos();
    (0..count).map(|at| format!("m,entity_id=sensor_{} value={at} {}", at % 50, now - at)).collect()
}

const HARD: &str = r#"m,entity_id=poison text="it's: 'this', <&> °C",value=1e999 1"#;

#[tokio::test]
async fn influxdb_1_is_recognised_and_waited_for_until_its_database_is_created() {
    let Some(peer) = Peer::influxd("").await else { return };
    let bench = Bench::start(&lines(10_000), server(&peer.url(), Api::Auto), delivery());
    until("the fault shows", || bench.board.target.state() == LinkState::Failing).await;
    let (_, error) = bench.snapshot().target.last_error.unwrap();
    assert!(error.contains("create it") && error.contains("database not found"), "{error}");
    peer.query("CREATE DATABASE home").await;
    bench.skip_to_probe().await;
    bench.until_empty().await;
    assert_eq!(peer.count().await, 10_000);
    let end = bench.end().await;
    assert_eq!(end.target.detail, "InfluxDB 1.6.7~rc0 (api v1)");
    assert_eq!(end.books.stored, 10_000);
}

#[tokio::test]
async fn influxdb_1_stores_all_but_the_line_that_it_cannot_read() {
    let Some(peer) = Peer::influxd("").await else { return };
    peer.query("CREATE DATABASE home").await;
    let mut all = lines(1_000);
    all[371] = HARD.into();
    let bench = Bench::start(&all, server(&peer.url(), Api::Auto), delivery());
    bench.until_empty().await;
    assert_eq!(bench.lost("refused_by_database"), 1);
    assert_eq!(peer.count().await, 999);
    let end = bench.end().await;
    assert_eq!(end.writes.requests, [("refused_lines", 1)]);
}

#[tokio::test]
async fn influxdb_1_stores_all_but_the_line_whose_type_does_not_fit() {
    let Some(peer) = Peer::influxd("").await else { return };
    peer.query("CREATE DATABASE home").await;
    let mut all = lines(1_000);
    all[371] = format!("m value=\"text\" {}", clock::now().as_nanos());
    let bench = Bench::start(&all, server(&peer.url(), Api::V1), delivery());
    bench.until_empty().await;
    assert_eq!(bench.lost("refused_by_database"), 1);
    assert_eq!(peer.count().await, 999);
    let end = bench.end().await;
    let requests: u64 = end.writes.requests.iter().map(|(_, count)| count).sum();
    assert!(requests <= 20, "{:?}", end.writes.requests);
}

#[tokio::test]
async fn influxdb_1_gets_everything_after_it_was_killed() {
    let Some(mut peer) = Peer::influxd("").await else { return };
    peer.query("CREATE DATABASE home").await;
    let mut bench = Bench::start(&lines(1_000), server(&peer.url(), Api::Auto), delivery());
    bench.until_empty().await;
    peer.kill();
    bench.append(&lines(20_000));
    until("the outage shows", || bench.snapshot().target.failures >= 2).await;
    peer.start_again().await;
    bench.until_empty().await;
    assert_eq!(peer.count().await, 21_000);
    assert_eq!(bench.end().await.books.stored, 21_000);
}

#[tokio::test]
async fn influxdb_1_with_a_small_limit_gets_small_batches() {
    let Some(peer) = Peer::influxd("max-body-size = 20000").await else { return };
    peer.query("CREATE DATABASE home").await;
    let mut delivery = delivery();
    // Compressed bodies are not counted against the limit.
    delivery.compression = Compression::None;
    let bench = Bench::start(&lines(20_000), server(&peer.url(), Api::V1), delivery);
    bench.until_empty().await;
    assert_eq!(peer.count().await, 20_000);
    let end = bench.end().await;
    assert_eq!(end.books.stored, 20_000);
    assert!(end.writes.requests.iter().any(|(outcome, _)| *outcome == "too_large"), "{:?}", end.writes.requests);
}

#[tokio::test]
async fn influxdb_1_with_a_retention_expires_what_is_older() {
    let Some(peer) = Peer::influxd("").await else { return };
    peer.query("CREATE DATABASE home WITH DURATION 1h").await;
    let mut all = lines(100);
    all.extend((0..50).map(|at| format!("m value=1 {at}")));
    let bench = Bench::start(&all, server(&peer.url(), Api::V1), delivery());
    bench.until_empty().await;
    assert_eq!(bench.lost("expired"), 50);
    assert_eq!(bench.lost("refused_by_database"), 0);
    bench.end().await;
}

#[tokio::test]
async fn influxdb_1_is_waited_for_until_its_retention_policy_exists() {
    let Some(peer) = Peer::influxd("").await else { return };
    peer.query("CREATE DATABASE home").await;
    let mut server = server(&peer.url(), Api::Auto);
    server.retention_policy = Some("years".into());
    let bench = Bench::start(&lines(100), server, delivery());
    until("the fault shows", || bench.board.target.state() == LinkState::Failing).await;
    assert!(bench.snapshot().target.last_error.unwrap().1.contains("retention_policy"));
    peer.query("CREATE RETENTION POLICY years ON home DURATION INF REPLICATION 1 DEFAULT").await;
    bench.skip_to_probe().await;
    bench.until_empty().await;
    assert_eq!(peer.count().await, 100);
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
    let Some(peer) = Peer::influxd("auth-enabled = true\nping-auth-enabled = true").await else { return };
    peer.query("CREATE USER admin WITH PASSWORD 'secret' WITH ALL PRIVILEGES").await;
    let is_influxdb = (About::Server, true, "InfluxDB 1.6.7");
    let mut server = server(&peer.url(), Api::Auto);
    check_probe(server.clone(), &[is_influxdb, (About::Writing, false, "influxdb.username")]).await;
    server.username = Some("admin".into());
    server.password = Secret::new("secret");
    check_probe(server.clone(), &[is_influxdb, (About::Writing, false, "there is no database `home`")]).await;
    let credentials = "u=admin&p=secret&q=CREATE+DATABASE+home";
    peer.ask("POST", &format!("/query?{credentials}")).await.unwrap();
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
    let Some(peer) = Peer::victoria_metrics().await else { return };
    let mut all = lines(1_000);
    all[371] = "this is bad".into();
    let server = server(&peer.url(), Api::Auto);
    let bench = Bench::start(&all, server.clone(), delivery());
    bench.until_empty().await;
    let end = bench.end().await;
    assert_eq!(end.target.detail, "VictoriaMetrics (api v1)");
    // It never complains about a line: its 204 says nothing about any one of them.
    assert_eq!(end.books.stored, 1_000);
    // New series can be searched after a moment.
    let deadline = Instant::now() + Duration::from_secs(10);
    while peer.exported_values().await != 999 {
        assert!(Instant::now() < deadline, "{} of 999 values are there", peer.exported_values().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    check_probe(server, &[(About::Server, true, "VictoriaMetrics"), (About::Writing, true, "takes writes")]).await;
}
