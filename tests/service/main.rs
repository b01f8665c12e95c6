//! Stories of the service as its users run it: the program itself as a process, between the simulated home and a
//! database that answers as it is told.
//!
//! [`world`] is what is around the service, [`service`] the process and what can be seen of it. A story ends with a
//! stop, and a stop with books that balance.

#![allow(clippy::disallowed_methods, reason = "a story waits for another process, and its database may be slow")]
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

mod bad_history;
mod commands;
mod database;
mod dead_mirror;
mod gaps;
mod home;
mod jobs;
mod late;
mod log;
mod options;
mod replay;
mod rooms;
mod rules;
mod secrets;
#[allow(dead_code, reason = "not every test binary needs all that it can do")]
mod service;
mod stop;
mod web;
#[allow(dead_code, reason = "not every test binary needs all that it can do")]
mod world;
