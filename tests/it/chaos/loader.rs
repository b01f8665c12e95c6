//! Load that goes on whatever happens to Home Assistant, and what it has made.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::peers::home_assistant::{Change, HomeAssistant, read_ledger};
use crate::support::http;

pub struct Loader {
    address: SocketAddr,
    token: String,
    folder: PathBuf,
    rate: u32,
    seed: u32,
    /// Each has a ledger of its own, because the load generator begins a file anew.
    calls: AtomicU32,
    ended: AtomicBool,
}

impl Loader {
    pub fn new(home: &HomeAssistant, rate: u32, seed: u32) -> Self {
        let (calls, ended) = (AtomicU32::new(0), AtomicBool::new(false));
        let folder = home.folder().to_owned();
        Self { address: home.address(), token: home.token().to_owned(), folder, rate, seed, calls, ended }
    }

    /// Calls the load generator again whenever it is done or gone, until [`Self::end`].
    pub fn run(&self) {
        while !self.ended.load(Ordering::SeqCst) {
            let call = self.calls.load(Ordering::SeqCst);
            // Short enough that the end does not take long.
            let count = self.rate * 5;
            let load = json!({"count": count, "rate": self.rate, "entities": 120, "seed": self.seed + call,
                "ledger": self.ledger(call)});
            let authorization = format!("Bearer {}", self.token);
            let headers = [("Content-Type", "application/json"), ("Authorization", authorization.as_str())];
            let answer = http::post(self.address, "/api/services/loadgen/run", &headers, &load.to_string());
            if !answer.is_ok_and(|answer| answer.status == 200) {
                thread::park_timeout(Duration::from_millis(200));
            }
            // What is begun may go on although nobody answered.
            if self.ledger(call).exists() {
                self.calls.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    /// Everything that was made so far.
    pub fn changes(&self) -> Vec<Change> {
        (0..=self.calls.load(Ordering::SeqCst)).flat_map(|call| read_ledger(&self.ledger(call))).collect()
    }

    fn ledger(&self, call: u32) -> PathBuf {
        self.folder.join(format!("ledger_{call}.csv"))
    }
}
