//! Everything that needs a real peer: Home Assistant, InfluxDB, VictoriaMetrics, mosquitto or Prometheus' own checker.
//!
//! `make peers` puts them under `target/peers`; each is started on a free port of the loopback with its data in a
//! folder that goes with it. A peer that is not there is one loud line, and the test that wanted it does nothing; with
//! `CI` set that is a failure.

#![allow(clippy::disallowed_methods, reason = "tests are told by the environment where the real peers are")]
#![allow(unreachable_pub, reason = "nothing is reachable from outside of a test binary")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "all of this is test code, helpers included"
)]

mod blocks;
mod chaos;
mod converter;
mod import;
mod ingestor;
mod late;
mod ledger;
mod lines;
mod metrics;
mod mqtt;
mod parity;
mod peers;
mod points;
mod recorder;
mod registries;
mod retention;
mod sources;
mod statistics;
mod units;
mod verify;

#[path = "../support"]
mod support {
    pub(crate) mod http;
    pub(crate) mod influxd;
    pub(crate) mod mosquitto;
    pub(crate) mod nasty;
    pub(crate) mod page;
    pub(crate) mod peer;
    #[allow(dead_code, reason = "not every test binary needs all that it can do")]
    pub(crate) mod process;
    pub(crate) mod python;
    pub(crate) mod readers;
    pub(crate) mod reading;
    pub(crate) mod skip;
    pub(crate) mod victoria_metrics;
}
