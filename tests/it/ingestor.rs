//! The service itself, as its users start it.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::http;
use crate::support::process::{Process, free_address, wait_until};

/// What the Supervisor gives an add-on between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

pub struct Ingestor {
    process: Process,
    address: SocketAddr,
    _data: TempDir,
}

impl Ingestor {
    /// Starts the service with these options and an empty data folder.
    pub fn start(options: &Value) -> Self {
        let data = TempDir::new().unwrap();
        let file = data.path().join("options.json");
        fs::write(&file, options.to_string()).unwrap();
        let address = free_address();
        let mut command = Command::new(binary());
        command.arg("run").arg("--options").arg(file).arg("--data-dir").arg(data.path().join("data"));
        command.arg("--listen").arg(address.to_string());
        let process = Process::start("ha-ingestor", &mut command, &data.path().join("log"));
        Self { process, address, _data: data }
    }

    /// Until it hears Home Assistant and reaches its target.
    pub fn wait_until_ready(&mut self) {
        self.wait_for_answer("/ready", "ha-ingestor is ready");
    }

    /// Until it serves its port, whatever it is still waiting for.
    pub fn wait_until_alive(&mut self) {
        self.wait_for_answer("/health", "ha-ingestor answers");
    }

    pub fn metrics(&self) -> String {
        let answer = http::get(self.address, "/metrics", &[]).expect("the service answers");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    /// SIGTERM, and the orderly end.
    pub fn stop(mut self) {
        let status = self.process.terminate(GRACE).expect("the service ends within the grace");
        assert!(status.success(), "ha-ingestor ended with {status}");
    }

    fn wait_for_answer(&mut self, path: &str, what: &str) {
        wait_until(what, Duration::from_secs(30), || {
            self.process.must_run();
            http::get(self.address, path, &[]).ok().filter(|answer| answer.status == 200)
        });
    }
}

/// The one that cargo built, unless `HA_INGESTOR_TEST_BINARY` names another, such as the one in the image.
fn binary() -> PathBuf {
    env::var_os("HA_INGESTOR_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_ha-ingestor").into(), PathBuf::from)
}
