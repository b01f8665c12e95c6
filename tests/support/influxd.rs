//! InfluxDB 1.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::http;
use super::peer::find;
use super::process::{Process, free_address, wait_until};

const SETTINGS: &str = "influxdb.conf";

pub(crate) struct Influxd {
    pub(crate) address: SocketAddr,
    process: Process,
    program: PathBuf,
    data: PathBuf,
    /// Goes after the process.
    _temporary: Option<TempDir>,
}

impl Influxd {
    pub(crate) fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// `options` are lines of the section `[http]`.
    pub(crate) fn start_with(options: &str) -> Option<Self> {
        let data = TempDir::new().unwrap();
        let path = data.path().to_owned();
        Self::start_in(path, options).map(|influxd| Self { _temporary: Some(data), ..influxd })
    }

    /// Keeps its data in this folder, which outlives it.
    pub(crate) fn start_in(data: PathBuf, options: &str) -> Option<Self> {
        let program = find("HA_INGESTOR_TEST_INFLUXD", "bin/influxd")?;
        let address = free_address();
        let settings = settings(&data.display().to_string(), address, options);
        fs::write(data.join(SETTINGS), settings).unwrap();
        let process = run(&program, &data, address);
        Some(Self { address, process, program, data, _temporary: None })
    }

    /// SIGKILL: what was acknowledged is in its log on disk.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, and its orderly end.
    #[allow(dead_code, reason = "not every test binary needs it")]
    pub(crate) fn stop(&mut self) {
        self.process.terminate(Duration::from_secs(30)).expect("influxd ends");
    }

    /// SIGSTOP: whoever writes waits for an answer, until [`Self::thaw`].
    #[allow(dead_code, reason = "not every test binary needs it")]
    pub(crate) fn freeze(&mut self) {
        self.process.signal("STOP");
    }

    #[allow(dead_code, reason = "not every test binary needs it")]
    pub(crate) fn thaw(&mut self) {
        self.process.signal("CONT");
    }

    /// With the same data on the same port.
    pub(crate) fn start_again(&mut self) {
        self.process = run(&self.program, &self.data, self.address);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn create_database(&self, name: &str) {
        self.query("", &format!("CREATE DATABASE {}", identifier(name)));
    }

    /// The result of each statement; times are in nanoseconds.
    ///
    /// # Panics
    ///
    /// If one of them failed.
    pub(crate) fn query(&self, database: &str, statements: &str) -> Vec<Value> {
        let body = http::form(&[("db", database), ("epoch", "ns"), ("q", statements)]);
        let answer = http::post(self.address, "/query", &[http::FORM], &body).expect("influxd answers").json();
        let Value::Array(results) = &answer["results"] else { panic!("{statements}: {answer}") };
        for result in results {
            assert!(result["error"].is_null(), "{statements}: {result}");
        }
        results.clone()
    }
}

/// A name as a statement has it.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

fn run(program: &Path, data: &Path, address: SocketAddr) -> Process {
    let mut command = Command::new(program);
    command.arg("run").arg("-config").arg(data.join(SETTINGS));
    let mut process = Process::start("influxd", &mut command, &data.join("log"));
    wait_until("influxd answers a ping", Duration::from_secs(30), || {
        process.must_run();
        http::get(address, "/ping", &[]).ok()
    });
    process
}

fn settings(data: &str, http: SocketAddr, options: &str) -> String {
    let rpc = free_address();
    format!(
        r#"
reporting-disabled = true
bind-address = "{rpc}"
[meta]
dir = "{data}/meta"
logging-enabled = false
[data]
dir = "{data}/data"
wal-dir = "{data}/wal"
query-log-enabled = false
[monitor]
store-enabled = false
[subscriber]
enabled = false
[http]
bind-address = "{http}"
log-enabled = false
{options}
[logging]
level = "warn"
"#
    )
}
