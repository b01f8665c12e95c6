//! What an import asks besides rows: how far back they go, and for how long a time statistics can be asked for at once.

use super::HOUR_MICROS;
use crate::history::recorder::{Recorder, RecorderError};
use crate::model::entity::EntityId;
use crate::model::time::Timestamp;

/// No recorder is older: Home Assistant began in 2013.
pub(super) const OLDEST_MICROS: i64 = 1_356_998_400 * 1_000_000;
/// For how long a time statistics are asked: about 1 MiB.
pub(super) const SPAN_MICROS: i64 = 120 * 24 * HOUR_MICROS;
/// So often the same question may break the connection before it is made smaller.
const TRIES: u32 = 3;

/// For how long a time is asked at once: less, when answers do not arrive.
pub(super) struct Spans {
    micros: i64,
    failures: u32,
}

impl Spans {
    pub(super) fn new(micros: i64) -> Self {
        Self { micros, failures: 0 }
    }

    pub(super) fn micros(&self) -> i64 {
        self.micros
    }

    pub(super) fn answered(&mut self) {
        self.failures = 0;
    }

    /// Whether it makes sense to ask once more.
    #[must_use]
    pub(super) fn failed(&mut self) -> bool {
        self.failures += 1;
        if self.failures < TRIES {
            return true;
        }
        self.failures = 0;
        self.micros /= 2;
        self.micros >= HOUR_MICROS
    }
}

/// The hour in which the recorder's raw history begins. It halves the time between 2013 and `until`, again and again.
pub(super) async fn oldest(
    recorder: &mut Recorder,
    scope: &[EntityId],
    until: Timestamp,
) -> Result<Timestamp, RecorderError> {
    let (mut nothing, mut something) = (OLDEST_MICROS, until.as_micros());
    while something - nothing > HOUR_MICROS {
        let middle = Timestamp::from_micros(nothing + (something - nothing) / 2);
        if recorder.reaches_back(scope, middle).await? {
            something = middle.as_micros();
        } else {
            nothing = middle.as_micros();
        }
    }
    Ok(Timestamp::from_micros(nothing))
}

#[cfg(test)]
mod tests {
    use super::{HOUR_MICROS, Spans};

    #[test]
    fn what_does_not_arrive_is_asked_for_in_pieces_and_not_for_ever() {
        let mut spans = Spans::new(4 * HOUR_MICROS);
        let mut asked = Vec::new();
        loop {
            asked.push(spans.micros() / HOUR_MICROS);
            if !spans.failed() {
                break;
            }
        }
        assert_eq!(asked, [4, 4, 4, 2, 2, 2, 1, 1, 1]);
        let mut spans = Spans::new(HOUR_MICROS);
        for _ in 0..9 {
            assert!(spans.failed(), "it arrives the next time");
            spans.answered();
        }
    }
}
