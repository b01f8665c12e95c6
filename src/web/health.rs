//! Live, ready, and what it depends on: the rules, as functions of the snapshot.
//!
//! - Live: the process can still recover by itself. Only a task that is stuck makes it not live, because then a restart
//!   helps. No dependency matters here: restarting us repairs nobody else.
//! - Ready: it can do its job now.

use serde::Serialize;

use crate::runtime::STUCK;
use crate::status::snapshot::{Link, LinkState, Snapshot};

#[derive(Debug, Serialize)]
pub(super) struct Live {
    status: &'static str,
    version: &'static str,
    uptime_seconds: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stuck_tasks: Vec<&'static str>,
}

impl Live {
    pub(super) fn is_live(&self) -> bool {
        self.stuck_tasks.is_empty()
    }
}

pub(super) fn live(seen: &Snapshot) -> Live {
    let stuck_tasks: Vec<_> =
        seen.tasks.iter().filter(|(_, silent_for)| *silent_for > STUCK).map(|(name, _)| *name).collect();
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
    for link in [&seen.home_assistant, &seen.target] {
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
    name: &'static str,
    state: LinkState,
    since: String,
    detail: String,
    latency_seconds: Option<f64>,
    last_error: Option<LastError>,
    connects: u64,
    failures: u64,
    throughput: Throughput,
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

pub(super) fn dependencies(seen: &Snapshot) -> Vec<Dependency> {
    let received =
        Throughput { total: seen.books.received, bytes: seen.hass.frame_bytes, waiting_bytes: seen.hass.waiting_bytes };
    let stored =
        Throughput { total: seen.books.stored, bytes: seen.writes.bytes_sent, waiting_bytes: seen.writes.held_bytes };
    vec![describe(&seen.home_assistant, received), describe(&seen.target, stored)]
}

pub(super) fn dependency(seen: &Snapshot, name: &str) -> Option<Dependency> {
    dependencies(seen).into_iter().find(|known| known.name == name)
}

fn describe(link: &Link, throughput: Throughput) -> Dependency {
    Dependency {
        name: link.name,
        state: link.state,
        since: link.since.to_string(),
        detail: link.detail.clone(),
        latency_seconds: link.latency.map(|round_trip| round_trip.as_secs_f64()),
        last_error: link.last_error.as_ref().map(|(at, error)| LastError { at: at.to_string(), error: error.clone() }),
        connects: link.connects,
        failures: link.failures,
        throughput,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::live;
    use crate::model::time::Timestamp;
    use crate::runtime::STUCK;
    use crate::status::board::Board;

    #[test]
    fn only_a_silent_task_makes_the_service_not_live() {
        let start = Instant::now();
        let board = Board::new(start, Timestamp::from_micros(0));
        board.target.failed("connection refused", Timestamp::from_micros(0));
        board.beat("delivery", start);
        let at = |later: Duration| live(&board.snapshot(start + later, Timestamp::from_micros(0)));
        assert!(at(STUCK).is_live());
        let stuck = at(STUCK + Duration::from_secs(1));
        assert_eq!((stuck.is_live(), stuck.stuck_tasks), (false, vec!["delivery"]));
    }
}
