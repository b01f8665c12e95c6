//! Live, ready, and what it depends on: the rules, as functions of the snapshot.
//!
//! - Live: the process can still recover by itself. Only a task that is stuck makes it not live, because then a restart
//!   helps. No dependency matters here: restarting us repairs nobody else.
//! - Ready: it can do its job now, which is to write what Home Assistant reports into the database. The MQTT broker is no
//!   reason against it: what it holds back it sends later. It is among the dependencies.

use serde::Serialize;

use crate::model::event::Source;
use crate::runtime::STUCK;
use crate::status::snapshot::{Arrivals, Books, Circuit, Link, LinkState, Snapshot, Target};

#[derive(Debug, Serialize)]
pub(super) struct Live {
    status: &'static str,
    version: &'static str,
    uptime_seconds: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stuck_tasks: Vec<String>,
}

impl Live {
    pub(super) fn is_live(&self) -> bool {
        self.stuck_tasks.is_empty()
    }
}

pub(super) fn live(seen: &Snapshot) -> Live {
    let stuck_tasks: Vec<_> =
        seen.tasks.iter().filter(|(_, silent_for)| *silent_for > STUCK).map(|(name, _)| name.to_string()).collect();
    Live {
        status: if stuck_tasks.is_empty() { "live" } else { "stuck" },
        version: seen.version,
        uptime_seconds: seen.uptime.as_secs(),
        stuck_tasks,
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Ready {
    pub(super) ready: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

pub(super) fn ready(seen: &Snapshot) -> Ready {
    let mut reasons = Vec::new();
    if seen.stopping {
        reasons.push("the service is stopping".to_owned());
    }
    if let Some(degraded) = &seen.spool.degraded {
        reasons.push(format!("spool: {}", degraded.words));
    }
    for link in std::iter::once(&seen.home_assistant).chain(seen.targets.iter().map(|target| &target.link)) {
        let last_error = link.last_error.as_ref().map_or("no attempt has ended yet", |(_, error)| error);
        let waits_for = if link.detail.is_empty() { last_error } else { &link.detail };
        match link.state {
            LinkState::Connected => {}
            LinkState::NotConfigured => reasons.push(format!("{}: {}", link.name, link.detail)),
            LinkState::Connecting => reasons.push(format!("{}: connecting; {waits_for}", link.name)),
            LinkState::Failing => reasons.push(format!("{}: {last_error}", link.name)),
        }
    }
    Ready { ready: reasons.is_empty(), reasons }
}

#[derive(Debug, Serialize)]
pub(super) struct Dependency {
    pub(super) name: Box<str>,
    state: LinkState,
    since: String,
    detail: String,
    latency_seconds: Option<f64>,
    last_error: Option<LastError>,
    connects: u64,
    failures: u64,
    throughput: Throughput,
    /// What became of what a source sent, up to being a point.
    #[serde(skip_serializing_if = "Option::is_none")]
    arrivals: Option<Arrivals>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<Delivery>,
}

#[derive(Debug, Serialize)]
struct LastError {
    at: String,
    error: String,
}

/// Totals since the start: events for a source, records for a target.
#[derive(Debug, Serialize)]
struct Throughput {
    total: u64,
    bytes: u64,
    waiting_bytes: u64,
}

/// How far a target is, and what became of the points for it.
#[derive(Debug, Serialize)]
struct Delivery {
    circuit: Circuit,
    books: Books,
    /// What the books do not explain; 0 at rest.
    unaccounted: i64,
    /// Points that wait on disk.
    backlog: u64,
    /// Event time of the oldest point that waits.
    oldest_waiting: Option<String>,
    /// At the present pace; `null` while the backlog does not shrink.
    empty_in_seconds: Option<u64>,
    /// Home Assistant's time such that everything until then is in the target, on disk, set aside, or counted as lost. It waits
    /// for gaps.
    watermark: Option<String>,
}

pub(super) fn dependencies(seen: &Snapshot) -> Vec<Dependency> {
    let mut all = vec![home_assistant(seen), mqtt(seen)];
    all.extend(seen.targets.iter().map(|target| destination(seen, target)));
    all
}

pub(super) fn dependency(seen: &Snapshot, name: &str) -> Option<Dependency> {
    dependencies(seen).into_iter().find(|known| &*known.name == name)
}

fn home_assistant(seen: &Snapshot) -> Dependency {
    let hass = &seen.hass;
    let total = seen.arrivals.received_from(Source::HomeAssistant);
    let received = Throughput { total, bytes: hass.frame_bytes, waiting_bytes: hass.waiting_bytes };
    Dependency { arrivals: Some(seen.arrivals.clone()), ..describe(&seen.home_assistant, received) }
}

fn mqtt(seen: &Snapshot) -> Dependency {
    let total = seen.arrivals.received_from(Source::Mqtt);
    let received = Throughput { total, bytes: seen.mqtt.message_bytes, waiting_bytes: 0 };
    describe(&seen.mqtt.link, received)
}

fn destination(seen: &Snapshot, target: &Target) -> Dependency {
    let Target { link, circuit, books, backlog, writes, .. } = target;
    // The spool does not know whose bytes they are.
    let waiting_bytes = if books.held == 0 { 0 } else { seen.spool.memory_bytes + seen.spool.disk_bytes };
    let delivery = Delivery {
        circuit: *circuit,
        unaccounted: i64::try_from(seen.unaccounted(target)).unwrap_or(i64::MAX),
        backlog: backlog.records,
        oldest_waiting: backlog.oldest.filter(|_| books.held > 0).map(|time| time.to_string()),
        empty_in_seconds: backlog.empty_in().map(|left| left.as_secs()),
        watermark: backlog.watermark.map(|time| time.to_string()),
        books: books.clone(),
    };
    let stored = Throughput { total: books.stored, bytes: writes.bytes_sent, waiting_bytes };
    Dependency { delivery: Some(delivery), ..describe(link, stored) }
}

fn describe(link: &Link, throughput: Throughput) -> Dependency {
    Dependency {
        name: link.name.clone(),
        state: link.state,
        since: link.since.to_string(),
        detail: link.detail.clone(),
        latency_seconds: link.latency.map(|round_trip| round_trip.as_secs_f64()),
        last_error: link.last_error.as_ref().map(|(at, error)| LastError { at: at.to_string(), error: error.clone() }),
        connects: link.connects,
        failures: link.failures,
        throughput,
        arrivals: None,
        delivery: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{dependency, live, ready};
    use crate::model::event::Source;
    use crate::model::time::Timestamp;
    use crate::runtime::STUCK;
    use crate::status::board::Board;
    use crate::status::snapshot::LinkState;

    #[test]
    fn a_broker_that_is_away_is_told_and_is_no_reason_not_to_be_ready() {
        let board = Board::new(Instant::now(), Timestamp::from_micros(0));
        board.home_assistant.connected("", Timestamp::from_micros(0));
        board.targets[0].link.connected("", Timestamp::from_micros(0));
        board.mqtt.link.failed("nothing listens at core-mosquitto:1883", Timestamp::from_micros(0));
        board.arrivals.received.add(Source::Mqtt, 3);
        let seen = board.snapshot(Instant::now(), Timestamp::from_micros(0));
        assert!(ready(&seen).ready);
        let mqtt = dependency(&seen, "mqtt").unwrap();
        assert_eq!((mqtt.state, mqtt.throughput.total), (LinkState::Failing, 3));
        assert!(mqtt.last_error.unwrap().error.contains("core-mosquitto"));
        assert_eq!(dependency(&seen, "home_assistant").unwrap().throughput.total, 0);
    }

    #[test]
    fn only_a_silent_task_makes_the_service_not_live() {
        let start = Instant::now();
        let board = Board::new(start, Timestamp::from_micros(0));
        board.targets[0].link.failed("connection refused", Timestamp::from_micros(0));
        board.beat("delivery", start);
        let at = |later: Duration| live(&board.snapshot(start + later, Timestamp::from_micros(0)));
        assert!(at(STUCK).is_live());
        let stuck = at(STUCK + Duration::from_secs(1));
        assert_eq!((stuck.is_live(), stuck.stuck_tasks), (false, vec!["delivery".to_owned()]));
    }
}
