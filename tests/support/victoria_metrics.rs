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

    /// Until all that it took is where a search looks. What was written in the last seconds is not; and while it is brought
    /// there by VictoriaMetrics itself, it is neither there nor among what waits, and flushing does not wait for it.
    fn flush(&self) {
        wait_until("what VictoriaMetrics took can be found", Duration::from_secs(30), || {
            self.get("/internal/force_flush");
            let metrics = self.get("/metrics").body;
            let of = |name: &str| sum(&metrics, name);
            // What it says of its storage may be a second old, what it says of requests is not.
            let is_new = of("vm_rows_added_to_storage_total") >= of("vm_rows_inserted_total");
            // What waits is among the rows; what is on its way is in neither.
            let nothing_waits = of("vm_pending_rows{type=\"storage\"}") == 0.0;
            let kept = of("vm_rows_added_to_storage_total") - of("vm_rows_ignored_total");
            (is_new && nothing_waits && of("vm_rows{type=\"storage/") >= kept).then_some(())
        });
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
