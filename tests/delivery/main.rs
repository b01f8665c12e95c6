//! Stories of the delivery: against a server that answers as it is told, and against real databases.

#![allow(clippy::disallowed_methods, reason = "tests are told by the environment where the real peers are")]
#![allow(clippy::unwrap_used, reason = "a test ends with a panic, and is read")]

mod bench;
#[allow(dead_code, reason = "not every test binary needs all that it can do")]
mod fake;
mod peers;
mod stories;
mod tls;

#[path = "../support"]
mod support {
    pub(crate) mod http;
    pub(crate) mod influxd;
    pub(crate) mod peer;
    #[allow(dead_code, reason = "not every test binary needs all that it can do")]
    pub(crate) mod process;
    pub(crate) mod skip;
    pub(crate) mod victoria_metrics;
}
