//! Where the real peers are, and what happens when one of them is not there.

pub mod home_assistant;
pub mod influxd;
pub mod prometheus;
pub mod victoria_metrics;

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;

/// The program of a peer: what `variable` names, or what `make peers` put under `target/peers`.
///
/// # Panics
///
/// If it is not there and `CI` is set: a test that does nothing must not look like one that passed.
fn find(variable: &str, default: &str) -> Option<PathBuf> {
    let in_checkout = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers").join(default);
    let program = env::var_os(variable).map_or_else(in_checkout, PathBuf::from);
    if program.exists() {
        return Some(program);
    }
    let current = thread::current();
    let test = current.name().unwrap_or("a test");
    let line = format!("SKIPPED {test}: there is no {} (make peers, or {variable}=PATH)", program.display());
    assert!(env::var_os("CI").is_none_or(|ci| ci.is_empty()), "{line}");
    // Written past the capture of the test harness, which hides what a passing test prints.
    let _ = writeln!(io::stderr(), "{line}");
    None
}
