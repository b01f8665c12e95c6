//! A page of `/metrics`: all that it says is of one moment. What is read from two pages is of two moments.

/// As the service gives it.
pub struct Page(pub String);

impl Page {
    /// The sum of the samples that have this name, without its prefix, and at least these labels: `gap_open`, or
    /// `points_dropped_total{reason="spool_full"}`. `None`: there is no such sample.
    pub fn sum(&self, name: &str) -> Option<f64> {
        let (name, labels) = name.split_once('{').unwrap_or((name, ""));
        let labels: Vec<&str> = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).collect();
        let samples = self.0.lines().filter_map(|line| {
            let (metric, value) = line.strip_prefix("ha_ingest_")?.rsplit_once(' ')?;
            let (own_name, own_labels) = metric.split_once('{').unwrap_or((metric, ""));
            let own_labels: Vec<&str> = own_labels.trim_end_matches('}').split(',').collect();
            let is_it = own_name == name && labels.iter().all(|label| own_labels.contains(label));
            is_it.then(|| value.parse::<f64>().unwrap())
        });
        samples.reduce(|sum, value| sum + value)
    }

    /// Whether the service hears Home Assistant and reaches its targets.
    pub fn is_ready(&self) -> bool {
        self.sum("ready") == Some(1.0)
    }

    /// Microseconds since 1970 by Home Assistant's clock: everything until then is in each target, on disk, a dead letter, or
    /// counted as lost. `None`: that is known of no target.
    pub fn complete_until(&self) -> Option<i64> {
        let samples = self.0.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            series.starts_with("ha_ingest_watermark_timestamp_seconds{").then(|| value.parse::<f64>().unwrap())
        });
        #[expect(clippy::cast_possible_truncation, reason = "microseconds of this century")]
        samples.reduce(f64::min).filter(|seconds| *seconds > 0.0).map(|seconds| (seconds * 1e6).round() as i64)
    }

    /// Whether everything that came has its fate: nothing waits, and the books balance.
    pub fn is_settled(&self) -> bool {
        let waiting = ["events_waiting", "points_pending", "mqtt_unacknowledged_messages", "books_unaccounted"];
        waiting.iter().all(|name| self.sum(name) == Some(0.0))
    }

    /// Whether nothing is left to be fetched from Home Assistant's history.
    pub fn has_no_gap(&self) -> bool {
        self.sum("gap_open") == Some(0.0)
    }
}
