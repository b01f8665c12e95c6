//! How fast the backlog shrinks, for "empty in".

use std::time::{Duration, Instant};

/// Records of the backlog that left, counted in windows; the pace is a moving average over them.
#[derive(Debug, Default)]
pub(super) struct Pace {
    window: Option<(Instant, u64)>,
    per_second: f64,
}

impl Pace {
    const WINDOW: Duration = Duration::from_secs(2);
    /// The weight of the newest window.
    const NEWEST: f64 = 0.5;

    pub(super) fn left(&mut self, records: u64, now: Instant) {
        let (began, sum) = self.window.get_or_insert((now, 0));
        *sum += records;
        let lasted = now.saturating_duration_since(*began);
        if lasted >= Self::WINDOW {
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            let seen = *sum as f64 / lasted.as_secs_f64();
            let old = if self.per_second == 0.0 { seen } else { self.per_second };
            self.per_second = old + (seen - old) * Self::NEWEST;
            self.window = Some((now, 0));
        }
    }

    /// Nothing leaves now.
    pub(super) fn stops(&mut self) {
        *self = Self::default();
    }

    pub(super) fn per_second(&self) -> f64 {
        self.per_second
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Pace;

    #[test]
    fn the_pace_follows_what_leaves_and_is_nothing_after_a_failure() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for second in 0..10 {
            pace.left(500, start + Duration::from_secs(second));
        }
        assert!((400.0..800.0).contains(&pace.per_second()), "{}", pace.per_second());
        pace.stops();
        assert!(pace.per_second().abs() < f64::EPSILON);
    }
}
