//! What can go wrong around the service, done to the real program: the disk, the database, the clock, the power, and
//! its own sudden end.
//!
//! [`oracle`] says what must hold after each of them: what was acknowledged is in the database or counted as lost with
//! a reason, each point is one line, nothing is there that nobody wrote, and the books balance. [`layer`] is a disk and
//! a clock that fail as they are told. `make faults` runs all of it; most tests wait, so many run at once.

#![allow(clippy::disallowed_methods, reason = "a story waits for another process, and is told by the environment")]
#![allow(unreachable_pub, reason = "nothing is reachable from outside of a test binary")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of this is test code, helpers included")]

#[path = "../delivery/fake.rs"]
#[allow(dead_code, reason = "not every test binary needs all that it can do")]
mod fake;
#[path = "../support/page.rs"]
#[allow(dead_code, reason = "not every test binary needs all that it can do")]
mod page;
#[path = "../support/process.rs"]
#[allow(dead_code, reason = "not every test binary needs all that it can do")]
mod process;
#[path = "../service/service.rs"]
#[allow(dead_code, reason = "not every test binary needs all that it can do")]
mod service;
#[path = "../service/world.rs"]
#[allow(dead_code, reason = "not every test binary needs all that it can do")]
mod world;
#[path = "../support"]
#[allow(dead_code, reason = "not every test binary needs all that it can do")]
mod support {
    pub(crate) mod http;
    pub(crate) mod influxd;
    pub(crate) mod peer;
    pub(crate) mod skip;

    pub(crate) use crate::process;
}

mod clock;
mod damage;
mod database;
mod disk;
mod forever;
mod influxd;
mod instances;
mod kill;
mod layer;
mod metrics;
mod mirrors;
mod moments;
mod mount;
mod oracle;
mod regressions;
mod stop;
mod storm;
