//! How Home Assistant is asked by an import: patiently, and never for more than it can answer.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{HOUR_MICROS, ImportError};
use crate::config::settings::HomeAssistant;
use crate::ingest::hass::ProbeError;
use crate::ingest::recorder::windows::Window;
use crate::ingest::recorder::{Recorder, RecorderError};
use crate::model::entity::EntityId;
use crate::model::time::Timestamp;

/// No recorder is older: Home Assistant began in 2013.
pub(super) const OLDEST_MICROS: i64 = 1_356_998_400 * 1_000_000;
/// For how long a time statistics are asked: about 1 MiB.
pub(super) const SPAN_MICROS: i64 = 120 * 24 * HOUR_MICROS;
/// How often Home Assistant is called again, and after which pause.
const ATTEMPTS: u32 = 30;
const PAUSE: Duration = Duration::from_secs(10);
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

/// Home Assistant may be starting: that takes minutes, and is no reason to give up.
pub(super) async fn connect(home: &HomeAssistant) -> Result<Recorder, ImportError> {
    let mut attempts = 0;
    loop {
        let failure = match Recorder::connect(home).await {
            Ok(recorder) => return Ok(recorder),
            Err(failure) => failure,
        };
        attempts += 1;
        if attempts == ATTEMPTS || !matches!(failure, ProbeError::Connect(_) | ProbeError::Timeout | ProbeError::Closed)
        {
            return Err(RecorderError::from(failure).into());
        }
        sleep(PAUSE).await;
    }
}

/// The hour in which the recorder's raw history begins. It halves the time between 2013 and `until`, again and again.
pub(super) async fn oldest(
    recorder: &mut Recorder,
    scope: &[EntityId],
    until: Timestamp,
) -> Result<Timestamp, ImportError> {
    let (mut nothing, mut something) = (OLDEST_MICROS, until.as_micros());
    while something - nothing > HOUR_MICROS {
        let middle = Timestamp::from_micros(nothing + (something - nothing) / 2);
        let mut reaches = false;
        for entities in scope.chunks(200) {
            let window = Window { entities: entities.into(), from: middle, until: middle };
            reaches = recorder.reaches_back(&window).await.map_err(RecorderError::from)?;
            if reaches {
                break;
            }
        }
        if reaches {
            something = middle.as_micros();
        } else {
            nothing = middle.as_micros();
        }
    }
    Ok(Timestamp::from_micros(nothing))
}

/// What happens now goes first: Home Assistant has as long a rest as it had work.
pub(super) async fn pause(asked: Instant) {
    sleep(asked.elapsed().clamp(Duration::from_millis(10), Duration::from_secs(2))).await;
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
