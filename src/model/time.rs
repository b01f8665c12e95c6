//! Points in time, with the resolution that Home Assistant has: one microsecond.

use std::fmt;

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The time that Python's `datetime.fromtimestamp(seconds, UTC)` gives: whole seconds and fraction apart, the
    /// fraction rounded to microseconds with ties to even. Rounding the product instead differs in one case of eight,
    /// and a point written from history would then be a second point.
    ///
    /// `None` for what is not a time between the years 1677 and 2262 (the range of nanoseconds in 64 bits).
    #[must_use]
    pub fn from_unix_seconds(seconds: f64) -> Option<Self> {
        let whole = seconds.trunc();
        if !whole.is_finite() || whole.abs() > 9_223_372_035.0 {
            return None;
        }
        let fraction = ((seconds - whole) * 1e6).round_ties_even();
        #[expect(clippy::cast_possible_truncation, reason = "both are whole numbers within the range checked above")]
        Some(Self(whole as i64 * 1_000_000 + fraction as i64))
    }

    /// A time with an offset, such as `2026-02-14T18:30:05.123456+00:00`; what is finer than a microsecond is cut off.
    /// Python's `isoformat()` leaves the fraction out when it is zero.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        use time::format_description::well_known::Rfc3339;
        let moment = time::OffsetDateTime::parse(text, &Rfc3339).ok()?;
        let micros = moment.unix_timestamp_nanos().div_euclid(1_000);
        i64::try_from(micros).ok().map(Self)
    }

    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The next microsecond.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Nanoseconds since the epoch; saturates outside the years 1677 to 2262.
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.0.saturating_mul(1_000)
    }
}

impl fmt::Display for Timestamp {
    /// ISO 8601 in UTC, with six digits of fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use time::macros::format_description;
        let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
        let text = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000)
            .ok()
            .and_then(|moment| moment.format(&format).ok());
        match text {
            Some(text) => f.write_str(&text),
            None => write!(f, "{} us", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn seconds_are_rounded_as_python_rounds_them() {
        // Expected values: datetime.fromtimestamp(seconds, timezone.utc), Python 3.13.
        let table: [(f64, i64); 8] = [
            (1_795_439_842.803_082, 1_795_439_842_803_082),
            (1_795_439_842.810_092_2, 1_795_439_842_810_092),
            (1_795_439_842.618_874, 1_795_439_842_618_874),
            (1_795_439_842.622_473_5, 1_795_439_842_622_473),
            (1_795_439_845.471_906_2, 1_795_439_845_471_906),
            (1_700_000_000.999_999_6, 1_700_000_001_000_000),
            (0.0, 0),
            (-1.25, -1_250_000),
        ];
        for (seconds, micros) in table {
            assert_eq!(Timestamp::from_unix_seconds(seconds), Some(Timestamp::from_micros(micros)), "{seconds}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for seconds in [f64::NAN, f64::INFINITY, 1e18, -1e18] {
            assert_eq!(Timestamp::from_unix_seconds(seconds), None);
        }
    }

    #[test]
    fn a_time_prints_as_iso_8601() {
        assert_eq!(Timestamp::from_micros(1_771_093_805_123_456).to_string(), "2026-02-14T18:30:05.123456Z");
    }

    #[test]
    fn texts_are_read_exactly_to_the_microsecond() {
        let table = [
            ("2026-11-23T13:16:49.560759+00:00", Some(1_795_439_809_560_759)),
            ("2026-11-23T13:16:49+00:00", Some(1_795_439_809_000_000)),
            ("2026-11-23T14:16:49.5+01:00", Some(1_795_439_809_500_000)),
            ("2026-11-23T13:16:49.000001Z", Some(1_795_439_809_000_001)),
            ("1969-12-31T23:59:59.999999+00:00", Some(-1)),
            ("2026-11-23T13:16:49", None),
            ("2026-11-23", None),
            ("", None),
        ];
        for (text, micros) in table {
            assert_eq!(Timestamp::from_rfc3339(text), micros.map(Timestamp::from_micros), "{text}");
        }
    }
}
