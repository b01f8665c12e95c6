//! What should be in a series against what is. Pure.

use std::ops::Range;

/// Nearer than this, a missing point and an extra one are one point with another time.
const ALIKE_NANOS: i64 = 1_000_000;
/// Statistics are points at full hours. No change of a state happens at one to the nanosecond.
const HOUR_NANOS: i64 = 3_600_000_000_000;

/// A point that should be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    pub nanos: i64,
    /// Its place in the list of entities.
    pub entity: usize,
    /// It does no harm if it is not there.
    pub is_optional: bool,
    /// Where its line is.
    pub line: Range<usize>,
    /// Whether a database that keeps numbers only has it.
    pub has_number: bool,
}

/// How exactly a series is compared.
#[derive(Debug, Clone, Copy)]
pub struct Measure {
    /// What the database keeps of a time: a multiple of this.
    pub grain_nanos: i64,
    /// A point so near is as good as the one that was expected.
    pub slack_nanos: i64,
    /// Points that nobody expected are none of our business otherwise.
    pub counts_extra: bool,
    /// Extra points are counted within, and only where a whole grain is.
    pub from_nanos: i64,
    pub until_nanos: i64,
}

/// One thing that was found out about a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding<'a> {
    Present(&'a Expected),
    Missing(&'a Expected),
    /// It is there, at another time.
    Differing(&'a Expected),
    /// When it is.
    Extra(i64),
}

/// `expected` is of one series and ascending; so is `found`. What is expected twice counts once.
pub fn compare<'a>(expected: &'a [Expected], found: &[i64], measure: Measure, each: &mut impl FnMut(Finding<'a>)) {
    let grain = |nanos: i64| nanos.div_euclid(measure.grain_nanos) * measure.grain_nanos;
    let mut extra: Vec<i64> = Vec::new();
    if measure.counts_extra {
        let is_extra = |nanos: &i64| {
            let is_expected = expected.binary_search_by_key(nanos, |expected| grain(expected.nanos)).is_ok();
            let is_within = *nanos >= measure.from_nanos && *nanos + measure.grain_nanos <= measure.until_nanos;
            !is_expected && is_within && nanos.rem_euclid(HOUR_NANOS) != 0
        };
        extra.extend(found.iter().copied().filter(is_extra));
    }
    let mut before = None;
    for point in expected {
        if before.replace(point.nanos) == Some(point.nanos) {
            continue;
        }
        let nanos = grain(point.nanos);
        if has_near(found, nanos, measure.slack_nanos) {
            each(Finding::Present(point));
        } else if let Some(at) = nearest(&extra, nanos) {
            extra.remove(at);
            each(Finding::Differing(point));
        } else if !point.is_optional {
            each(Finding::Missing(point));
        }
    }
    for nanos in extra {
        each(Finding::Extra(nanos));
    }
}

fn has_near(found: &[i64], nanos: i64, slack: i64) -> bool {
    let at = found.partition_point(|there| *there < nanos.saturating_sub(slack));
    found.get(at).is_some_and(|there| *there <= nanos.saturating_add(slack))
}

/// The place of the first one that is nearly there.
fn nearest(extra: &[i64], nanos: i64) -> Option<usize> {
    let at = extra.partition_point(|there| *there <= nanos - ALIKE_NANOS);
    extra.get(at).filter(|there| **there < nanos + ALIKE_NANOS).map(|_| at)
}

#[cfg(test)]
mod tests {
    use super::{Expected, Finding, Measure, compare};

    const EXACT: Measure =
        Measure { grain_nanos: 1, slack_nanos: 0, counts_extra: true, from_nanos: 0, until_nanos: i64::MAX - 1 };
    const MILLI: i64 = 1_000_000;

    fn point(nanos: i64) -> Expected {
        Expected { nanos, entity: 0, is_optional: false, line: 0..0, has_number: true }
    }

    /// `+` present, `-` missing, `~` at another time, `?` extra.
    fn check(expected: &[Expected], found: &[i64], measure: Measure, told: &str) {
        let mut said = Vec::new();
        compare(expected, found, measure, &mut |finding| {
            said.push(match finding {
                Finding::Present(point) => format!("+{}", point.nanos),
                Finding::Missing(point) => format!("-{}", point.nanos),
                Finding::Differing(point) => format!("~{}", point.nanos),
                Finding::Extra(nanos) => format!("?{nanos}"),
            });
        });
        assert_eq!(said.join(" "), told);
    }

    #[test]
    fn what_is_there_and_what_is_not() {
        let expected = [point(5), point(5), point(20_000_000)];
        check(&expected, &[5, 20_000_000], EXACT, "+5 +20000000");
        check(&expected, &[], EXACT, "-5 -20000000");
        check(&expected, &[5, 9_000_000], EXACT, "+5 -20000000 ?9000000");
        check(&[], &[7], EXACT, "?7");
        check(&[], &[7], Measure { counts_extra: false, ..EXACT }, "");
    }

    #[test]
    fn nearly_there_is_another_time_and_counts_once() {
        check(&[point(20 * MILLI)], &[20 * MILLI + 500], EXACT, "~20000000");
        check(&[point(20 * MILLI)], &[20 * MILLI - 500, 20 * MILLI + 500], EXACT, "~20000000 ?20000500");
        check(&[point(20 * MILLI)], &[21 * MILLI], EXACT, "-20000000 ?21000000");
        // What is there is not taken for another one.
        check(&[point(20 * MILLI), point(20 * MILLI + 1)], &[20 * MILLI], EXACT, "+20000000 -20000001");
    }

    #[test]
    fn milliseconds_are_compared_where_no_more_is_kept() {
        let millis = Measure { grain_nanos: MILLI, from_nanos: 1_500_000, until_nanos: 9_500_000, ..EXACT };
        check(&[point(5_999_999), point(6_000_001)], &[5 * MILLI], millis, "+5999999 -6000001");
        // The first and the last millisecond are shared with others.
        check(&[], &[MILLI, 2 * MILLI, 8 * MILLI, 9 * MILLI], millis, "?2000000 ?8000000");
    }

    #[test]
    fn what_is_optional_or_nearly_at_its_turn_is_not_missed() {
        let optional = Expected { is_optional: true, ..point(20 * MILLI) };
        check(std::slice::from_ref(&optional), &[], EXACT, "");
        check(&[optional], &[20 * MILLI], EXACT, "+20000000");
        let throttled = Measure { slack_nanos: 10 * MILLI, counts_extra: false, ..EXACT };
        check(&[point(20 * MILLI), point(60 * MILLI)], &[30 * MILLI], throttled, "+20000000 -60000000");
    }

    #[test]
    fn statistics_are_no_extra_points() {
        check(&[], &[3_600_000_000_000], EXACT, "");
    }
}
