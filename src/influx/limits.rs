//! Limits that a server applies silently: it acknowledges such points and drops them.
//!
//! VictoriaMetrics keeps numbers only, and it and InfluxDB 2 answer 204 to points that are older than they keep. Such lines are
//! not sent, and are told apart.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::line::numbers::without_texts;
use crate::model::fate::Rejection;
use crate::model::record::Batch;
use crate::model::time::Timestamp;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) numbers_only: bool,
    /// `None`: everything is kept, or nobody knows.
    pub(super) oldest: Option<Oldest>,
}

/// Oldest time that the server keeps; it advances with the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Oldest {
    /// Value at `asked`, by the server's clock.
    micros: i64,
    asked: Instant,
}

impl Oldest {
    /// `now`: by the server's clock.
    pub(super) fn at(now: SystemTime, kept: Duration) -> Option<Self> {
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let now = micros(now.duration_since(UNIX_EPOCH).ok()?);
        Some(Self { micros: now.saturating_sub(micros(kept)), asked: Instant::now() })
    }

    #[must_use]
    pub(super) fn now(&self) -> Timestamp {
        let since = i64::try_from(self.asked.elapsed().as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.micros.saturating_add(since))
    }
}

/// The part of a batch that is sent.
pub(super) struct Fit {
    pub(super) body: Vec<u8>,
    /// Indexes of the lines that are not sent, with the reason.
    pub(super) unfit: Vec<(usize, Rejection)>,
}

impl Limits {
    /// Selects what is sent. `None`: the whole batch, unchanged.
    pub(super) fn fit(&self, batch: &Batch) -> Option<Fit> {
        if *self == Self::default() {
            return None;
        }
        let oldest = self.oldest.map_or(Timestamp::from_micros(i64::MIN), |oldest| oldest.now());
        let mut fit = Fit { body: Vec::with_capacity(batch.bytes().len()), unfit: Vec::new() };
        for (at, record) in batch.records().enumerate() {
            if record.time < oldest {
                fit.unfit.push((at, Rejection::Expired));
            } else if !self.numbers_only {
                fit.body.extend_from_slice(record.bytes);
            } else if !without_texts(record.bytes, &mut fit.body) {
                fit.unfit.push((at, Rejection::NoNumber));
            }
        }
        Some(fit)
    }
}

/// Reads the retention of VictoriaMetrics from `GET /flags`: a number of months of 31 days, or with a unit.
pub(super) fn kept_by_flags(flags: &str) -> Option<Duration> {
    let said = flags.lines().find_map(|line| line.strip_prefix("-retentionPeriod="))?.trim_matches('"');
    let digits = said.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(said.len());
    let (number, unit) = said.split_at(digits);
    let hours = match unit {
        "" => 31.0 * 24.0,
        "h" => 1.0,
        "d" => 24.0,
        "w" => 7.0 * 24.0,
        "y" => 365.0 * 24.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * hours * 3600.0).ok().filter(|kept| !kept.is_zero())
}

/// Reads the retention of an InfluxDB 2 bucket from `GET /api/v2/buckets?name=`.
pub(super) fn kept_by_buckets(answer: &[u8], bucket: &str) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Answer {
        buckets: Vec<Bucket>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Bucket {
        name: String,
        #[serde(default)]
        retention_rules: Vec<Rule>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Rule {
        every_seconds: u64,
    }
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    let rules = answer.buckets.into_iter().find(|known| known.name == bucket)?.retention_rules;
    // None, and 0 seconds, mean for ever.
    rules.iter().map(|rule| rule.every_seconds).filter(|seconds| *seconds > 0).min().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Limits, Oldest, kept_by_buckets, kept_by_flags};
    use crate::model::fate::Rejection;
    use crate::model::record::{Batch, Record};
    use crate::model::time::Timestamp;

    #[test]
    fn what_does_not_fit_is_told_apart_and_the_rest_is_sent() {
        let mut batch = Batch::default();
        let lines = [(5, "m a=1,b=\"x\" 5\n"), (9, "m b=\"x\" 9\n"), (9, "m a=2 9\n")];
        for (id, (second, line)) in (0..).zip(lines) {
            let time = Timestamp::from_micros(second * 1_000_000);
            batch.push(id, Record { time, context: None, bytes: line.as_bytes() });
        }
        let now = UNIX_EPOCH + Duration::from_secs(10);
        let check = |numbers_only, kept: Option<Duration>, body: &str, unfit: &[(usize, Rejection)]| {
            let oldest = kept.and_then(|kept| Oldest::at(now, kept));
            let fit = Limits { numbers_only, oldest }.fit(&batch).unwrap();
            assert_eq!((std::str::from_utf8(&fit.body).unwrap(), &fit.unfit[..]), (body, unfit));
        };
        check(true, None, "m a=1 5\nm a=2 9\n", &[(1, Rejection::NoNumber)]);
        let kept = Some(Duration::from_secs(3));
        check(false, kept, "m b=\"x\" 9\nm a=2 9\n", &[(0, Rejection::Expired)]);
        check(true, kept, "m a=2 9\n", &[(0, Rejection::Expired), (1, Rejection::NoNumber)]);
        assert!(Limits::default().fit(&batch).is_none());
    }

    #[test]
    fn victoria_metrics_says_how_long_it_keeps_samples() {
        let days = |days: u64| Some(Duration::from_hours(24 * days));
        for (said, expected) in [
            ("\"1\"", days(31)),
            ("\"100y\"", days(36_500)),
            ("30d", days(30)),
            ("\"12h\"", Some(Duration::from_hours(12))),
            ("\"1w\"", days(7)),
            ("\"0.5d\"", Some(Duration::from_hours(12))),
            ("\"soon\"", None),
            ("\"\"", None),
        ] {
            let flags = format!("-loggerLevel=\"INFO\"\n-retentionPeriod={said}\n-selfScrapeInterval=\"0s\"\n");
            assert_eq!(kept_by_flags(&flags), expected, "{said}");
        }
        assert_eq!(kept_by_flags("404 page not found"), None);
    }

    #[test]
    fn a_bucket_says_how_long_it_keeps_points() {
        let answer = br#"{"links":{"self":"x"},"buckets":[
            {"id":"a","name":"other","retentionRules":[{"type":"expire","everySeconds":60}]},
            {"id":"b","name":"home","retentionRules":[{"type":"expire","everySeconds":604800,"shardGroupDurationSeconds":86400}]},
            {"id":"c","name":"ever","retentionRules":[]},{"id":"d","name":"zero","retentionRules":[{"type":"expire","everySeconds":0}]}]}"#;
        for (bucket, expected) in
            [("home", Some(Duration::from_hours(168))), ("ever", None), ("zero", None), ("none", None)]
        {
            assert_eq!(kept_by_buckets(answer, bucket), expected, "{bucket}");
        }
        assert_eq!(kept_by_buckets(b"{}", "home"), None);
    }
}
