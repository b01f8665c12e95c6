//! VictoriaMetrics, and what is in it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;

use super::http;
use super::peer::find;
use super::process::{Process, free_address, wait_until};

pub(crate) struct VictoriaMetrics {
    pub(crate) address: SocketAddr,
    _process: Process,
    _data: TempDir,
}

fn sum(metrics: &str, name: &str) -> f64 {
    let lines = metrics.lines().filter_map(|line| line.strip_prefix(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// The tags of a series, and under `__name__` its measurement and field.
pub(crate) type Labels = BTreeMap<String, String>;

/// Of what was taken. Measured: asked to flush right after a write, 60 of 120 searches lacked what was written.
const FLUSHES_EVERY: Duration = Duration::from_secs(1);

/// Milliseconds since 1970, and the number.
pub(crate) type Sample = (i64, f64);

#[derive(Deserialize)]
struct Exported {
    metric: Labels,
    values: Vec<f64>,
    timestamps: Vec<i64>,
}

impl VictoriaMetrics {
    pub(crate) fn start() -> Option<Self> {
        // What is older than the retention would be dropped without a word.
        Self::start_keeping("100y")
    }

    /// `period`: its option `-retentionPeriod`.
    pub(crate) fn start_keeping(period: &str) -> Option<Self> {
        let program = find("HA_INGESTOR_TEST_VICTORIA_METRICS", "bin/victoria-metrics")?;
        let data = TempDir::new().unwrap();
        let address = free_address();
        let mut command = Command::new(program);
        command.arg(format!("-httpListenAddr={address}")).arg("-loggerLevel=WARN");
        command.arg(format!("-storageDataPath={}", data.path().join("data").display()));
        command.arg(format!("-retentionPeriod={period}")).arg("-memory.allowedBytes=256MB");
        let mut process = Process::start("VictoriaMetrics", &mut command, &data.path().join("log"));
        wait_until("VictoriaMetrics is healthy", Duration::from_secs(30), || {
            process.must_run();
            http::get(address, "/health", &[]).ok().filter(|answer| answer.status == 200)
        });
        Some(Self { address, _process: process, _data: data })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every series that the selector finds. A series that is new is found after a moment.
    pub(crate) fn export(&self, selector: &str) -> Vec<(Labels, Vec<Sample>)> {
        self.flush();
        let answer = self.get(&format!("/api/v1/export?{}", http::form(&[("match[]", selector)])));
        assert_eq!(answer.status, 200, "{answer:?}");
        let series = answer.body.lines().map(|line| {
            let exported = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let Exported { metric, values, timestamps } = exported;
            (metric, timestamps.into_iter().zip(values).collect())
        });
        series.collect()
    }

    /// Until all that it took is where a search looks. It brings it there by itself once a second, and nothing that it says tells
    /// when: asked to flush, it leaves alone what is younger than that, and its metrics are up to a second old.
    fn flush(&self) {
        std::thread::sleep(FLUSHES_EVERY * 2);
        self.get("/internal/force_flush");
    }

    /// The sum of its own metrics whose names begin so.
    #[allow(dead_code, reason = "not every binary needs it")]
    pub(crate) fn metric(&self, name: &str) -> f64 {
        sum(&self.get("/metrics").body, name)
    }

    fn get(&self, path: &str) -> http::Response {
        http::get(self.address, path, &[]).expect("VictoriaMetrics answers")
    }
}
