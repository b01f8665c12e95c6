//! `/metrics`, as numbers that can be asked for.

use ha_ingestor::model::time::Timestamp;

/// The target of `influxdb`.
pub const MAIN: &str = "influxdb";

/// One page: all of it is of one moment.
pub struct Metrics {
    page: String,
}

/// Every event that a target should have, and what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Books {
    /// Received or recovered, less what was not meant for a target.
    pub owed: i64,
    pub written: i64,
    pub waiting: i64,
    pub dead_lettered: i64,
    pub expired: i64,
    pub dropped: i64,
}

impl Books {
    pub fn balance(&self) -> bool {
        self.owed == self.written + self.waiting + self.dead_lettered + self.expired + self.dropped
    }
}

impl Metrics {
    pub fn new(page: String) -> Self {
        Self { page }
    }

    /// All samples of this name with these labels, added up.
    ///
    /// # Panics
    ///
    /// If there is none: a name that is not there would be a test that tests nothing.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.try_sum(name, labels).unwrap_or_else(|| panic!("no {name} with {labels:?} in\n{}", self.page))
    }

    #[expect(clippy::cast_possible_truncation, reason = "counts")]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> i64 {
        self.sum(name, labels) as i64
    }

    fn try_sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let samples = self.page.lines().filter_map(|line| line.strip_prefix("ha_ingest_")?.strip_prefix(name));
        let samples = samples.filter(|rest| rest.starts_with([' ', '{']));
        let wanted: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let samples = samples.filter(|rest| wanted.iter().all(|label| rest.contains(label)));
        samples.map(|rest| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).reduce(|sum, sample| sum + sample)
    }

    pub fn of(&self, target: &str, name: &str) -> i64 {
        self.count(name, &[("target", target)])
    }

    pub fn dropped(&self, target: &str, reason: &str) -> i64 {
        self.count("points_dropped_total", &[("target", target), ("reason", reason)])
    }

    pub fn books(&self, target: &str) -> Books {
        let all = |name| self.count(name, &[]);
        let of = |name| self.of(target, name);
        Books {
            owed: all("events_received_total")
                - all("events_filtered_total")
                - all("points_duplicate_suppressed_total")
                - all("points_refused_total")
                - all("events_waiting")
                + of("points_recovered_total"),
            written: of("points_written_total"),
            waiting: of("points_pending"),
            dead_lettered: of("points_dead_lettered_total"),
            expired: of("points_expired_total") + of("points_not_representable_total"),
            dropped: of("points_dropped_total"),
        }
    }

    /// Up to here everything that came is safe.
    pub fn watermark(&self, target: &str) -> Option<Timestamp> {
        let seconds = self.try_sum("watermark_timestamp_seconds", &[("target", target)])?;
        #[expect(clippy::cast_possible_truncation, reason = "microseconds of this century")]
        (seconds > 0.0).then(|| Timestamp::from_micros((seconds * 1e6).round() as i64))
    }
}

#[test]
fn a_sample_is_found_by_its_name_and_labels() {
    let page = "ha_ingest_a_total{x=\"1\",target=\"t\"} 2\nha_ingest_a_total{target=\"u\",x=\"1\"} 3\nha_ingest_a 7\n";
    let metrics = Metrics::new(page.to_owned());
    assert_eq!((metrics.count("a", &[]), metrics.of("t", "a_total"), metrics.count("a_total", &[])), (7, 2, 5));
    assert_eq!((metrics.count("a_total", &[("x", "1")]), metrics.try_sum("a_tot", &[])), (5, None));
}
