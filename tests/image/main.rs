//! The image, run as the Supervisor runs an app, with a real Home Assistant and a real InfluxDB beside it.
//!
//! `make image` builds it from the real Dockerfile, on bases that stand in for the real ones (`make.sh` says what that
//! cannot show), and runs these tests.

#![allow(clippy::disallowed_methods, reason = "a story waits for another process, and is told by the environment")]
#![allow(unreachable_pub, reason = "nothing is reachable from outside of a test binary")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of this is test code, helpers included")]

mod container;
#[path = "../it/points.rs"]
#[allow(dead_code, reason = "not every test binary needs all that it can do")]
mod points;
#[path = "../it/peers"]
#[allow(dead_code, reason = "not every test binary needs all that it can do")]
mod peers {
    pub mod home_assistant;
}
#[path = "../support"]
#[allow(dead_code, reason = "not every test binary needs all that it can do")]
mod support {
    pub(crate) mod http;
    pub(crate) mod influxd;
    pub(crate) mod peer;
    pub(crate) mod process;
    pub(crate) mod skip;
}

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use self::container::{Container, Folders, podman};
use self::peers::home_assistant::{Change, HomeAssistant, Load, Setup};
use self::points::entity_times;
use self::support::influxd::Influxd;
use self::support::process::wait_until;

const DATABASE: &str = "home_assistant";
const LOAD: Load = Load { count: 200, rate: 100, entities: 40, seed: 1, nasty: false };
const PATIENCE: Duration = Duration::from_mins(2);

#[test]
fn a_crash_a_stop_and_an_update_lose_nothing() {
    let (Some(podman), Some(influxd)) = (podman(), Influxd::start()) else { return };
    let Some(home) = HomeAssistant::start(Setup { recorder: true, ..Setup::default() }) else { return };
    influxd.create_database(DATABASE);
    let folders = Folders::new(&options(&home, &influxd), "rules: []\n");
    let mut made = Vec::new();

    let container = Container::run(&podman, &folders);
    container.wait_until_healthy();
    container.wait_until_ready();
    made.extend(home.load(Load { seed: 1, ..LOAD }));
    wait_until_there(&influxd, &made, "what happened while it ran");

    let first = container.program();
    container.signal("KILL");
    made.extend(home.load(Load { seed: 2, ..LOAD }));
    let second = wait_until("s6 starts the program again", PATIENCE, || container.program_if_any());
    assert_ne!(first, second);
    wait_until_there(&influxd, &made, "what happened after a crash");

    assert_eq!(container.stop(), 0, "{}", container.log());
    assert!(container.log().contains("stopped"), "{}", container.log());
    made.extend(home.load(Load { seed: 3, ..LOAD }));
    // An update is a new container with the same folders.
    drop(container);
    let container = Container::run(&podman, &folders);
    container.wait_until_healthy();
    wait_until_there(&influxd, &made, "what happened while there was no container");
    assert_eq!(container.stop(), 0, "{}", container.log());
}

#[test]
fn wrong_options_end_the_container_and_the_log_says_which() {
    let Some(podman) = podman() else { return };
    let options = json!({"home_assistant": {"url": "http://127.0.0.1:1", "token": "t"}, "delivery": {"linger_ms": -1}});
    let folders = Folders::new(&options, "");
    let container = Container::run(&podman, &folders);
    assert_eq!(container.wait_until_ended(), 78);
    assert!(container.log().contains("delivery.linger_ms"), "{}", container.log());
}

#[test]
fn who_does_not_answer_is_not_healthy() {
    let Some(podman) = podman() else { return };
    let folders = Folders::new(&options_of_nobody(), "");
    let container = Container::run(&podman, &folders);
    // A restart would mend nothing.
    container.wait_until_healthy();
    container.signal("STOP");
    assert!(!container.is_healthy());
    container.signal("CONT");
    container.wait_until_healthy();
}

/// As Kubernetes starts it.
#[test]
fn an_ordinary_user_runs_it_without_s6() {
    let Some(podman) = podman() else { return };
    let folders = Folders::new(&options_of_nobody(), "");
    let container = Container::run_without_s6(&podman, &folders);
    container.wait_until_healthy();
    assert_eq!(container.stop(), 0, "{}", container.log());
}

/// Options under which neither Home Assistant nor a database is there.
fn options_of_nobody() -> Value {
    json!({
        "home_assistant": {"url": "http://127.0.0.1:1", "token": "t"},
        "influxdb": {"url": "http://127.0.0.1:2"},
    })
}

fn options(home: &HomeAssistant, influxd: &Influxd) -> Value {
    json!({
        "home_assistant": {"url": home.url(), "token": home.token()},
        "influxdb": {"url": influxd.url(), "api": "v1", "database": DATABASE},
        "events": [],
    })
}

/// Each change of the load is a point with its own time.
fn wait_until_there(influxd: &Influxd, made: &[Change], what: &str) {
    let written = made.iter().filter(|change| change.is_written());
    let needed: BTreeSet<_> = written.map(|change| (change.entity_id.clone(), change.micros)).collect();
    assert!(needed.len() > made.len() / 2, "the load says too little");
    wait_until(what, PATIENCE, || needed.is_subset(&entity_times(influxd, DATABASE)).then_some(()));
}
