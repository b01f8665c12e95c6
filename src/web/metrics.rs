//! `/metrics`: the snapshot as Prometheus reads it.
//!
//! Labels are bounded: reasons, outcomes, the version; never an entity.

use std::fmt::{self, Write};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use warp::http::{HeaderMap, HeaderValue, header};
use warp::reply::{Reply, Response};

use crate::history::verify::coverage::ratio;
use crate::model::time::Timestamp;
use crate::status::snapshot::{Circuit, Histogram, LinkState, Snapshot, Target, Verified};

use super::health::ready;

const PREFIX: &str = "ha_ingest";

/// OpenMetrics to whoever asks for it (Prometheus does), the older text format to everybody else.
pub(super) fn reply(seen: Snapshot, headers: &HeaderMap) -> Response {
    let wanted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let (kind, body) = if wanted.contains("application/openmetrics-text") {
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", open_metrics(seen))
    } else {
        ("text/plain; version=0.0.4; charset=utf-8", prometheus_text(&open_metrics(seen)))
    };
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn open_metrics(seen: Snapshot) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Exposition(seen)));
    let mut text = String::with_capacity(16 * 1024);
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("writing to a string cannot fail");
    text
}

/// The two formats differ, for what we use, in this: a counter's description bears the full name of its samples, and
/// there is no end mark.
fn prometheus_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len() + 1024);
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" {
            continue;
        }
        let Some(rest) = line.strip_prefix("# HELP ") else {
            text.push_str(line);
            text.push('\n');
            continue;
        };
        let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
        let kind = lines.next().and_then(|line| line.rsplit(' ').next()).unwrap_or("untyped");
        let suffix = if kind == "counter" { "_total" } else { "" };
        writeln!(text, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}")
            .expect("writing to a string cannot fail");
    }
    text
}

#[derive(Debug)]
struct Exposition(Snapshot);

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let seen = &self.0;
        let mut out = Out(encoder);
        let version = [("version", seen.version)];
        out.gauge_with("build_info", "The version that is running", &version, 1.0)?;
        out.gauge("uptime_seconds", "Time since the start", seen.uptime.as_secs_f64())?;
        out.gauge("ready", "Whether /ready answers 200 (1) or 503 (0)", f64::from(ready(seen).ready))?;
        self.home_assistant(&mut out)?;
        self.mqtt(&mut out)?;
        self.history(&mut out)?;
        self.arrivals(&mut out)?;
        self.books(&mut out)?;
        self.waiting(&mut out)?;
        self.writes(&mut out)?;
        self.spool(&mut out)?;
        self.rules(&mut out)
    }
}

impl Exposition {
    fn home_assistant(&self, out: &mut Out<'_>) -> fmt::Result {
        let (link, hass) = (&self.0.home_assistant, &self.0.hass);
        let connected = link.state == LinkState::Connected;
        out.gauge("ha_connected", "Whether Home Assistant's events arrive (1) or not (0)", f64::from(connected))?;
        out.counter("ha_sessions", "Sessions with Home Assistant that were begun", hass.sessions)?;
        out.counter("ha_failures", "Sessions or attempts with Home Assistant that failed", link.failures)?;
        out.gauge("ha_ping_seconds", "Round trip of the last ping", seconds(link.latency))?;
        out.gauge("ha_entities", "Entities whose state is known", count(hass.entities))?;
        out.counter("ha_frames", "WebSocket frames received", hass.frames)?;
        out.counter("ha_frame_bytes", "Bytes of WebSocket frames received", hass.frame_bytes)?;
        out.gauge("ha_waiting_bytes", "Bytes of frames received and not yet looked at", count(hass.waiting_bytes))?;
        out.counter("ha_unknown_messages", "Messages of a kind that is not known", hass.unknown_messages)?;
        out.counters("ha_unreadable", "Pieces of frames that could not be read", "reason", &hass.unreadable)?;
        out.gauge("ha_last_event_timestamp_seconds", "When the newest event arrived", moment(hass.last_event))
    }

    fn mqtt(&self, out: &mut Out<'_>) -> fmt::Result {
        let mqtt = &self.0.mqtt;
        let connected = f64::from(mqtt.link.state == LinkState::Connected);
        out.gauge("mqtt_connected", "Whether the MQTT broker's messages arrive (1) or not (0)", connected)?;
        out.counter("mqtt_sessions", "Connections with the MQTT broker that were begun", mqtt.sessions)?;
        out.counter("mqtt_failures", "Connections or attempts with the MQTT broker that failed", mqtt.link.failures)?;
        out.gauge("mqtt_ping_seconds", "Round trip of the last ping to the MQTT broker", seconds(mqtt.link.latency))?;
        out.gauge("mqtt_topic_filters", "Topic filters that the MQTT broker sends messages for", count(mqtt.topics))?;
        out.counter("mqtt_messages", "MQTT messages received, with those that came again", mqtt.messages)?;
        out.counter("mqtt_message_bytes", "Bytes of topics and payloads received", mqtt.message_bytes)?;
        let help = "Messages that came again and had been handed over";
        out.counter("mqtt_redelivered_messages", help, mqtt.redelivered)?;
        let help = "Further copies of a message, for further topic filters that match it";
        out.counter("mqtt_copied_messages", help, mqtt.copies)?;
        let help = "Messages that the MQTT broker waits to hear of, because they are not safe yet";
        out.gauge("mqtt_unacknowledged_messages", help, count(mqtt.unacknowledged))?;
        out.gauge("mqtt_last_message_timestamp_seconds", "When the newest message arrived", moment(mqtt.last_message))
    }

    fn history(&self, out: &mut Out<'_>) -> fmt::Result {
        let history = &self.0.history;
        let help =
            "Whether rows of Home Assistant's history are still to be fetched, or are fetched and in no book yet (1)";
        out.gauge("gap_open", help, f64::from(history.is_open()))?;
        let from = history.gap.as_ref().map(|gap| gap.from);
        out.gauge("gap_start_timestamp_seconds", "Begin of the gap that is open, 0 if none is", moment(from))?;
        out.counter("gaps_closed", "Gaps that were closed from Home Assistant's history", history.gaps_closed)?;
        out.counter_of_seconds("gap_seconds", "Length of the gaps that were closed", history.gap_seconds)?;
        out.counter("history_rows", "Rows of Home Assistant's history that were fetched", history.rows)?;
        out.counter(
            "history_unreadable",
            "Rows of Home Assistant's history that could not be read, or were not asked for",
            history.unreadable,
        )?;
        let help = "Entities with changes in a gap that Home Assistant's history does not have";
        out.counter("gaps_not_closed", help, history.not_closed_total)?;
        let help = "Share of the changes known to Home Assistant that verify found in the target";
        let mut metric = out.0.encode_descriptor("coverage_ratio", help, None, MetricType::Gauge)?;
        for target in &self.0.targets {
            if let Some(Verified { known, missing }) = target.verified {
                metric.encode_family(&[("target", target.name.as_str())])?.encode_gauge(&ratio(known, missing))?;
            }
        }
        Ok(())
    }

    fn arrivals(&self, out: &mut Out<'_>) -> fmt::Result {
        let arrivals = &self.0.arrivals;
        out.counters("events_received", "Events that a source handed over", "source", &arrivals.received)?;
        out.counters("events_filtered", "Events that were not meant to be written", "reason", &arrivals.filtered)?;
        out.counter("points_duplicate_suppressed", "Events that were seen before", arrivals.duplicates)?;
        out.counters("points_refused", "Events that cannot be a line", "reason", &arrivals.refused)?;
        let help = "Events whose turn comes later";
        out.gauge("events_waiting", help, count(arrivals.waiting))?;
        out.counter("adjusted_texts", "Texts changed so that every dialect reads them alike", arrivals.adjusted_texts)?;
        out.counter("omitted_fields", "Fields left out because no database could hold them", arrivals.omitted_fields)
    }

    fn books(&self, out: &mut Out<'_>) -> fmt::Result {
        let targets = &self.0.targets;
        let found = "Points of an earlier run that were found on disk at the start";
        out.target_counters("points_recovered", found, targets, |target| target.books.recovered)?;
        out.target_counters("points_written", "Points that the target confirmed", targets, |target| {
            target.books.stored
        })?;
        let help = "Points that the target refused and that are kept as dead letters";
        out.target_reasons("points_dead_lettered", help, "reason", targets, |target| &target.books.set_aside)?;
        let help = "Points that are older than what the target keeps";
        out.target_counters("points_expired", help, targets, |target| target.books.expired)?;
        let help = "Points without a number, of a target that keeps numbers only";
        out.target_counters("points_not_representable", help, targets, |target| target.books.not_representable)?;
        let help = "Points that are nowhere";
        out.target_reasons("points_dropped", help, "reason", targets, |target| &target.books.dropped)?;
        let help = "Points not yet written to the target: in memory, on disk and in flight together";
        out.target_gauges("points_pending", help, targets, |target| count(target.books.held))?;
        let help = "Deprecated name of points_pending, gone in the next release";
        out.target_gauges("wal_records", help, targets, |target| count(target.books.held))?;
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, and 0 when all is well")]
        let unaccounted = |target: &Target| self.0.unaccounted(target) as f64;
        out.target_gauges("books_unaccounted", "Events received minus every fate; 0 at rest", targets, unaccounted)
    }

    fn waiting(&self, out: &mut Out<'_>) -> fmt::Result {
        let (targets, taken) = (&self.0.targets, self.0.taken);
        let help = "The part of points_pending that is on disk; the rest is in memory only";
        out.target_gauges("wal_backlog_records", help, targets, |target| count(target.backlog.records))?;
        let help = "Event time of the oldest of points_pending, 0 if there is none";
        let oldest = |target: &Target| target.backlog.oldest.filter(|_| target.books.held > 0);
        out.target_gauges("wal_oldest_record_timestamp_seconds", help, targets, |target| moment(oldest(target)))?;
        let help = "Age of the oldest of points_pending, 0 if there is none";
        let age = |target: &Target| oldest(target).map_or(0.0, |oldest| moment(Some(taken)) - moment(Some(oldest)));
        out.target_gauges("backlog_age_seconds", help, targets, |target| age(target).max(0.0))?;
        let help = "How far the newest point written is behind points_pending, 0 if there is none";
        // In a quiet home the last point is old, and that is no lag.
        let lag = |target: &Target| match target.writes.newest_stored {
            Some(newest) => (moment(Some(taken)) - moment(Some(newest))).min(age(target)),
            None => age(target),
        };
        out.target_gauges("delivery_lag_seconds", help, targets, |target| lag(target).max(0.0))?;
        let help = "Time until wal_backlog_records is 0 at its present pace; infinite while it does not shrink";
        let empty_in = |target: &Target| target.backlog.empty_in().map_or(f64::INFINITY, |left| left.as_secs_f64());
        out.target_gauges("backlog_empty_in_seconds", help, targets, empty_in)?;
        let help = "Home Assistant's time such that everything until then is in the target, on disk, set aside or counted as lost";
        out.target_gauges("watermark_timestamp_seconds", help, targets, |target| moment(target.backlog.watermark))?;
        let help = "Time of the earliest point that was lost and is to come back from history, 0 if none is";
        out.target_gauges("lost_since_timestamp_seconds", help, targets, |target| moment(target.backlog.torn))
    }

    fn writes(&self, out: &mut Out<'_>) -> fmt::Result {
        let targets = &self.0.targets;
        let connected = |target: &Target| f64::from(target.link.state == LinkState::Connected);
        out.target_gauges("target_connected", "Whether the target takes points (1) or not (0)", targets, connected)?;
        let help = "The state of the circuit breaker: 1 for the one that it is in";
        let mut metric = out.0.encode_descriptor("circuit_state", help, None, MetricType::Gauge)?;
        for target in targets {
            let states = [(Circuit::Closed, "closed"), (Circuit::Open, "open"), (Circuit::HalfOpen, "half_open")];
            for (state, label) in states {
                let labels = [("target", target.name.as_str()), ("state", label)];
                metric.encode_family(&labels)?.encode_gauge(&f64::from(target.circuit == state))?;
            }
        }
        out.target_reasons("write_requests", "Write requests", "outcome", targets, |target| &target.writes.requests)?;
        let help = "Bytes of the bodies that were sent";
        out.target_counters("write_bytes", help, targets, |target| target.writes.bytes_sent)?;
        let help = "Points in the last batch";
        out.target_gauges("write_batch_points", help, targets, |target| count(target.writes.last_batch_points))?;
        let help = "Event time of the newest point written";
        let newest = |target: &Target| moment(target.writes.newest_stored);
        out.target_gauges("newest_written_timestamp_seconds", help, targets, newest)?;
        let help = "Time of the last successful write";
        let success = |target: &Target| moment(target.writes.last_success);
        out.target_gauges("last_write_success_timestamp_seconds", help, targets, success)?;
        let help = "Duration of write requests";
        let mut metric = out.0.encode_descriptor("write_duration_seconds", help, None, MetricType::Histogram)?;
        for target in targets {
            let Histogram { sum, count, buckets } = &target.writes.seconds;
            let labels = [("target", target.name.as_str())];
            metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)?;
        }
        Ok(())
    }

    fn spool(&self, out: &mut Out<'_>) -> fmt::Result {
        let spool = &self.0.spool;
        out.gauge(
            "wal_memory_bytes",
            "Bytes of the points pending for any target that are in memory",
            count(spool.memory_bytes),
        )?;
        out.gauge(
            "wal_size_bytes",
            "Bytes of the points pending for any target that are on disk",
            count(spool.disk_bytes),
        )?;
        out.gauge("wal_limit_bytes", "The most bytes of points on disk", count(spool.limit_bytes))?;
        out.counter("wal_written_bytes", "Bytes of points written to disk", spool.written_bytes)?;
        out.counter("wal_syncs", "Times that the disk made sure of what was written", spool.syncs)?;
        out.counters("wal_errors", "Operations that the disk refused", "op", &spool.errors)?;
        out.counter("wal_corrupt_records", "Points on disk that could not be read back, and torn ends", spool.damaged)?;
        let degraded = f64::from(spool.degraded.is_some());
        out.gauge(
            "wal_degraded",
            "Whether the disk does not take points (1): then they wait in memory only",
            degraded,
        )?;
        out.gauge("dead_letters", "Refused points that are kept", count(self.0.dead_letters))?;
        out.counter("dead_letters_evicted", "Refused points that had to make room", self.0.dead_letters_evicted)?;
        let Histogram { sum, count, buckets } = &spool.sync_seconds;
        let help = "How long the disk took to make sure";
        let mut metric = out.0.encode_descriptor("wal_fsync_duration_seconds", help, None, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
    }

    fn rules(&self, out: &mut Out<'_>) -> fmt::Result {
        let rules = &self.0.rules;
        let valid = f64::from(rules.valid);
        out.gauge("rules_valid", "Whether rules.yaml as it is now counts (1), or one from before (0)", valid)?;
        let reloads = [("applied", rules.reloads.applied), ("refused", rules.reloads.refused)];
        out.counters("rules_reloads", "Times that rules.yaml had changed", "result", &reloads)
    }
}

/// Writes one metric a call.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    fn counter_of_seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    fn counters(&mut self, name: &str, help: &str, label: &str, values: &[(&'static str, u64)]) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (reason, value) in values {
            let labels = [(label, *reason)];
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(value, None)?;
        }
        Ok(())
    }

    fn target_counters(
        &mut self,
        name: &str,
        help: &str,
        targets: &[Target],
        value: impl Fn(&Target) -> u64,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for target in targets {
            let labels = [("target", target.name.as_str())];
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&value(target), None)?;
        }
        Ok(())
    }

    fn target_reasons(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        targets: &[Target],
        values: impl Fn(&Target) -> &[(&'static str, u64)],
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for target in targets {
            for (reason, value) in values(target) {
                let labels = [("target", target.name.as_str()), (label, *reason)];
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(value, None)?;
            }
        }
        Ok(())
    }

    fn target_gauges(
        &mut self,
        name: &str,
        help: &str,
        targets: &[Target],
        value: impl Fn(&Target) -> f64,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for target in targets {
            metric.encode_family(&[("target", target.name.as_str())])?.encode_gauge(&value(target))?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauge_with(&mut self, name: &str, help: &str, labels: &[(&str, &str); 1], value: f64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        metric.encode_family(labels)?.encode_gauge(&value)
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn count(value: u64) -> f64 {
    value as f64
}

fn seconds(duration: Option<std::time::Duration>) -> f64 {
    duration.unwrap_or_default().as_secs_f64()
}

/// 0 for "not yet", as Prometheus's own metrics do.
#[expect(clippy::cast_precision_loss, reason = "microseconds of this century are exact")]
fn moment(time: Option<Timestamp>) -> f64 {
    time.map_or(0.0, |time| time.as_micros() as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{open_metrics, prometheus_text};
    use crate::model::fate::{Filtered, Reason};
    use crate::model::time::Timestamp;
    use crate::status::board::Board;

    #[test]
    fn every_reason_is_there_from_the_start_and_counts() {
        let board = Board::new(Instant::now(), Timestamp::from_micros(0));
        board.arrivals.filtered.add(Filtered::Unknown, 3);
        let text = open_metrics(board.snapshot(Instant::now(), Timestamp::from_micros(0)));
        for reason in Filtered::ALL {
            let value = if *reason == Filtered::Unknown { 3 } else { 0 };
            let line = format!("ha_ingest_events_filtered_total{{reason=\"{}\"}} {value}\n", reason.label());
            assert!(text.contains(&line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_durations_of_writes_fall_into_buckets_up_to_infinity() {
        let board = Board::new(Instant::now(), Timestamp::from_micros(0));
        let seen = || open_metrics(board.snapshot(Instant::now(), Timestamp::from_micros(0)));
        assert!(
            seen().contains("ha_ingest_write_duration_seconds_bucket{le=\"+Inf\",target=\"influxdb\"} 0\n"),
            "{}",
            seen()
        );
        for millis in [3, 30, 60_000] {
            board.targets[0].writes.request("stored", Duration::from_millis(millis));
        }
        for (bound, count) in [("0.005", 1), ("0.05", 2), ("10.0", 2), ("+Inf", 3)] {
            let line =
                format!("ha_ingest_write_duration_seconds_bucket{{le=\"{bound}\",target=\"influxdb\"}} {count}\n");
            assert!(seen().contains(&line), "{line} is not in\n{}", seen());
        }
    }

    #[test]
    fn the_older_format_names_counters_in_full() {
        let open = "# HELP a_b Help me.\n# TYPE a_b counter\na_b_total 1\n# HELP c d.\n# TYPE c gauge\nc 2.0\n# EOF\n";
        let text =
            "# HELP a_b_total Help me.\n# TYPE a_b_total counter\na_b_total 1\n# HELP c d.\n# TYPE c gauge\nc 2.0\n";
        assert_eq!(prometheus_text(open), text);
    }
}
