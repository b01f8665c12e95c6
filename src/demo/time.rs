//! Times as Home Assistant writes them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::model::time::Timestamp;

/// Python's `datetime.isoformat()` in UTC: no fraction at all when the microseconds are 0, else six digits.
#[must_use]
pub fn iso(seconds: f64) -> String {
    let Some(moment) = Timestamp::from_unix_seconds(seconds) else { return "1970-01-01T00:00:00+00:00".to_owned() };
    let text = moment.to_string();
    let whole = text.trim_end_matches('Z').trim_end_matches(".000000");
    format!("{whole}+00:00")
}

/// Reads what `iso` writes, and anything else with a date, a time and an offset. Without an offset it is taken as UTC:
/// the simulated home lives in that zone.
#[must_use]
pub fn parse(text: &str) -> Option<f64> {
    let moment =
        OffsetDateTime::parse(text, &Rfc3339).or_else(|_| OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339));
    let nanos = moment.ok()?.unix_timestamp_nanos();
    let (seconds, rest) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    #[expect(clippy::cast_precision_loss, reason = "Python holds the same times in the same doubles")]
    Some(seconds as f64 + rest as f64 / 1e9)
}

/// Seconds since 1970 as a whole number.
#[must_use]
pub fn whole(seconds: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "the fraction is what the caller wants to lose")]
    let whole = seconds.floor() as i64;
    whole
}

/// The double that Home Assistant would hold for this time.
#[must_use]
pub fn seconds(at: Timestamp) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "Python holds the same times in the same doubles")]
    let seconds = at.as_micros() as f64 / 1e6;
    seconds
}

#[cfg(test)]
mod tests {
    use super::{iso, parse};

    #[test]
    fn times_read_as_python_writes_them() {
        for (seconds, text) in [
            (1_795_448_982.498_993_4, "2026-11-23T15:49:42.498993+00:00"),
            (1_795_448_982.0, "2026-11-23T15:49:42+00:00"),
        ] {
            assert_eq!(iso(seconds), text);
            assert!((parse(text).unwrap() - seconds).abs() < 1e-6);
        }
    }

    #[test]
    fn an_offset_is_used_and_a_text_that_is_no_time_is_refused() {
        assert_eq!(parse("2026-11-23T17:49:42+02:00"), Some(1_795_448_982.0));
        assert_eq!(parse("2026-11-23T15:49:42"), Some(1_795_448_982.0));
        assert_eq!((parse("x"), parse("2026-11-23")), (None, None));
    }
}
