//! Stories with real peers: Home Assistant, InfluxDB, VictoriaMetrics and Prometheus' own checker.
//!
//! `make peers` puts them under `target/peers`; [`peers`] starts each of them on a free port of the loopback with its
//! data in a folder that goes with it. A peer that is not there is one loud line, and the test that wanted it does
//! nothing; with `CI` set that is a failure.

#![allow(clippy::disallowed_methods, reason = "tests are told by the environment where the real peers are")]
#![allow(unreachable_pub, reason = "nothing is reachable from outside of a test binary")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of this is test code, helpers included")]

mod http;
mod ingestor;
mod ledger;
mod metrics;
mod parity;
mod peers;
mod process;
