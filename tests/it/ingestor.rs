//! The service itself, as its users start it.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::http;
use crate::support::page::Page;
use crate::support::process::{Process, free_address, wait_until};

/// What the Supervisor gives an add-on between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

pub struct Ingestor {
    process: Process,
    address: SocketAddr,
    folder: TempDir,
}

impl Ingestor {
    /// Starts the service with these options and an empty data folder.
    pub fn start(options: &Value) -> Self {
        Self::start_with_rules(options, "")
    }

    /// `rules` is what `rules.yaml` holds.
    pub fn start_with_rules(options: &Value, rules: &str) -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("options.json"), options.to_string()).unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        fs::write(folder.path().join("data/rules.yaml"), rules).unwrap();
        let address = free_address();
        Self { process: run(folder.path(), address), address, folder }
    }

    /// An orderly end, and a start with the same options and data.
    pub fn restart(&mut self) {
        self.end();
        self.process = run(self.folder.path(), self.address);
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// After [`Self::kill`] or [`Self::end`], with the same options and data.
    pub fn start_again(&mut self) {
        self.process = run(self.folder.path(), self.address);
    }

    /// Where its `options.json` and `data` are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// As editors do that never leave half a file behind.
    pub fn change_rules(&self, rules: &str) {
        let beside = self.folder.path().join("data/rules.yaml.new");
        fs::write(&beside, rules).unwrap();
        fs::rename(beside, self.folder.path().join("data/rules.yaml")).unwrap();
    }

    /// Until it hears Home Assistant and reaches its target.
    pub fn wait_until_ready(&mut self) {
        self.wait_for_answer("/ready", "ha-ingestor is ready");
    }

    /// Until it serves its port, whatever it is still waiting for.
    pub fn wait_until_alive(&mut self) {
        self.wait_for_answer("/health", "ha-ingestor answers");
    }

    /// Until a metric, as [`Self::count`] gives it, is what is wanted.
    pub fn wait_for(&mut self, name: &str, is_right: impl Fn(u64) -> bool) {
        let mut last = 0;
        wait_until(&format!("{name} is right"), Duration::from_secs(90), || {
            self.process.must_run();
            let count = self.count(name);
            if count != last {
                println!("{name} is {count}");
                last = count;
            }
            is_right(count).then_some(())
        });
    }

    pub fn get(&self, path: &str) -> Value {
        http::get(self.address, path, &[]).expect("the service answers").json()
    }

    /// `/metrics`; `None` while the service does not answer.
    pub fn page(&self) -> Option<Page> {
        http::get(self.address, "/metrics", &[])
            .ok()
            .filter(|answer| answer.status == 200)
            .map(|answer| Page(answer.body))
    }

    pub fn metrics(&self) -> String {
        self.page().expect("the service answers").0
    }

    /// The sum over the labels that `name` does not give, without its prefix.
    ///
    /// # Panics
    ///
    /// If it is less than zero: the books are wrong then.
    pub fn count(&self, name: &str) -> u64 {
        let page = self.page().expect("the service answers");
        let sum = page.sum(name).filter(|sum| *sum >= 0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
        let count = sum.unwrap_or_else(|| panic!("{name} is {:?} in\n{}", page.sum(name), page.0)).round() as u64;
        count
    }

    /// The most memory that it ever had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// Until everything that came has its fate, whether the service is ready or not, and whether a gap is open or not.
    pub fn wait_until_settled(&mut self) {
        wait_until("everything has its fate", Duration::from_secs(90), || {
            self.process.must_run();
            self.page().filter(Page::is_settled)
        });
    }

    /// Until one page says that it is ready, that no gap is open, that everything until `micros` has come, and that all of it has
    /// its fate.
    pub fn wait_until_complete(&mut self, micros: i64, patience: Duration) {
        wait_until("ha-ingestor is ready and everything has its fate", patience, || {
            self.process.must_run();
            let is_complete = |page: &Page| {
                page.is_ready() && page.has_no_gap() && page.is_settled() && page.complete_until() >= Some(micros)
            };
            self.page().filter(is_complete)
        });
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// SIGTERM, and the orderly end.
    pub fn stop(mut self) {
        self.end();
    }

    /// The same, for one that is started again.
    pub fn end(&mut self) {
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

fn run(folder: &Path, address: SocketAddr) -> Process {
    let mut command = Command::new(binary());
    command.arg("run").arg("--options").arg(folder.join("options.json")).arg("--data-dir").arg(folder.join("data"));
    command.arg("--listen").arg(address.to_string());
    Process::start("ha-ingestor", &mut command, &folder.join("log"))
}

/// The one that cargo built, unless `HA_INGESTOR_TEST_BINARY` names another, such as the one in the image.
pub fn binary() -> PathBuf {
    env::var_os("HA_INGESTOR_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_ha-ingestor").into(), PathBuf::from)
}
