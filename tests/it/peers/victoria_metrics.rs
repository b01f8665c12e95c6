//! VictoriaMetrics, and what is in it.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;

use super::find;
use crate::http;
use crate::process::{Process, free_port, wait_until};

pub struct VictoriaMetrics {
    _process: Process,
    address: SocketAddr,
    _data: TempDir,
}

/// One series, as the export gives it.
#[derive(Debug, Deserialize)]
pub struct Samples {
    pub metric: Metric,
    pub values: Vec<f64>,
    /// Milliseconds since 1970.
    pub timestamps: Vec<i64>,
}

#[derive(Debug, Deserialize)]
pub struct Metric {
    /// Measurement and field.
    #[serde(rename = "__name__")]
    pub name: String,
    pub domain: String,
    /// Without the domain.
    pub entity_id: String,
}

impl VictoriaMetrics {
    pub fn start() -> Option<Self> {
        let program = find("HA_INGESTOR_TEST_VICTORIA_METRICS", "bin/victoria-metrics")?;
        let data = TempDir::new().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new(program);
        command.arg(format!("-httpListenAddr={address}")).arg("-loggerLevel=WARN");
        command.arg(format!("-storageDataPath={}", data.path().join("data").display()));
        let mut process = Process::start("VictoriaMetrics", &mut command, &data.path().join("log"));
        wait_until("VictoriaMetrics is healthy", Duration::from_secs(20), || {
            process.must_run();
            http::get(address, "/health", &[]).ok().filter(|answer| answer.status == 200)
        });
        Some(Self { _process: process, address, _data: data })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that came from a state or an attribute.
    pub fn export(&self) -> Vec<Samples> {
        let question = http::form(&[("match[]", r#"{entity_id!=""}"#)]);
        let answer =
            http::get(self.address, &format!("/api/v1/export?{question}"), &[]).expect("VictoriaMetrics answers");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }
}
