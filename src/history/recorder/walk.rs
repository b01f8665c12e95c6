//! Walks through a time with the recorder: one question after the other, with a rest between them.
//!
//! This is the one policy for everything that goes wrong on the way. An answer that does not arrive is asked for again on a
//! new connection; one that never arrives is asked for in halves, down to a second of one entity, which is given up and
//! named. If Home Assistant refuses to answer, it is asked about half of the entities at a time: one that it refuses again and
//! again while it answers about others is left out and named. If it refuses everything, the walk ends, and
//! [`Walk::reached`] says from where to go on.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::rows::Rows;
use super::windows::{Window, Windows};
use super::{Recorder, RecorderError, TRIES};
use crate::ingest::hass::visit::AskError;
use crate::model::entity::EntityId;
use crate::model::time::Timestamp;

/// What happens now goes first: after each answer Home Assistant rests as long as it worked, within these bounds.
const SHORTEST_REST: Duration = Duration::from_millis(20);
const LONGEST_REST: Duration = Duration::from_secs(2);
/// Limit of consecutive refusals. Finding one entity among 500 takes 10; more than the limit is a general failure.
const MOST_REFUSALS: u32 = 16;

/// One step of a walk.
#[derive(Debug)]
pub enum Step {
    /// The rows of one question.
    Rows(Rows),
    /// A second of one entity whose rows do not get here, and why.
    Lost(Window, &'static str),
    /// All rows of all entities before this were told.
    Reached(Timestamp),
    End,
}

#[derive(Debug)]
pub struct Walk {
    windows: Windows,
    failures: u32,
    /// Consecutive refusals since the last response.
    refusals: u32,
    /// Refusals of requests for a single entity.
    refused: HashMap<EntityId, u32>,
    /// Entity of the last successful request, for the control request.
    answered: Option<EntityId>,
    rest: Duration,
    /// Pending [`Step::Reached`].
    reached: Option<Timestamp>,
}

impl Walk {
    /// Through the rows of `entities` from `from` (inclusive) to `until` (exclusive).
    #[must_use]
    pub fn new(entities: &[EntityId], from: Timestamp, until: Timestamp) -> Self {
        Self {
            windows: Windows::new(entities, from, until),
            failures: 0,
            refusals: 0,
            refused: HashMap::new(),
            answered: None,
            rest: Duration::ZERO,
            reached: None,
        }
    }

    /// Everything before this was told.
    #[must_use]
    pub fn reached(&self) -> Timestamp {
        self.windows.reached()
    }

    /// The next step. What it was told before stays told if this is dropped before its end.
    ///
    /// # Errors
    /// Home Assistant refuses, or is gone for minutes.
    pub async fn next(&mut self, recorder: &mut Recorder) -> Result<Step, RecorderError> {
        if let Some(reached) = self.reached.take() {
            return Ok(Step::Reached(reached));
        }
        sleep(std::mem::take(&mut self.rest)).await;
        loop {
            let before = self.windows.reached();
            let Some(window) = self.windows.next_window() else { return Ok(Step::End) };
            let asked = Instant::now();
            let step = match recorder.rows(window).await {
                Ok(rows) => {
                    (self.failures, self.refusals) = (0, 0);
                    self.answered = window.entities.first().cloned();
                    self.windows.answered(rows.bytes);
                    self.rest = rest(asked.elapsed());
                    Step::Rows(rows)
                }
                // Who cannot carry an answer breaks the connection, or what arrives is not all of it.
                Err(err) if err.is_lost_on_the_way() => {
                    self.failures += 1;
                    recorder.connect_again().await?;
                    if err != AskError::TooLarge && self.failures < TRIES {
                        continue;
                    }
                    let Some(lost) = self.windows.too_large() else { continue };
                    Step::Lost(lost, why(&err))
                }
                Err(err @ AskError::Refused { .. }) if !err.is_unknown_command() => {
                    self.refusals += 1;
                    if self.refusals > MOST_REFUSALS {
                        return Err(err.into());
                    }
                    let asked = window.clone();
                    let Some(entity) = self.windows.refused() else { continue };
                    let Some(known) = self.answered.clone().filter(|known| *known != entity) else {
                        // It is asked about once more, after the others.
                        self.answered = None;
                        continue;
                    };
                    // Does it refuse this one, or everything at the moment?
                    match recorder.rows(&Window { entities: [known].into(), ..asked }).await {
                        Err(err) if err.is_lost_on_the_way() => {
                            recorder.connect_again().await?;
                            continue;
                        }
                        answer => drop(answer?),
                    }
                    self.refusals = 0;
                    let times = self.refused.entry(entity.clone()).or_default();
                    *times += 1;
                    if *times < TRIES {
                        continue;
                    }
                    let Some(lost) = self.windows.leave_out(&entity) else { continue };
                    Step::Lost(lost, "Home Assistant refuses to tell")
                }
                Err(err) => return Err(err.into()),
            };
            self.reached = Some(self.windows.reached()).filter(|reached| *reached > before);
            return Ok(step);
        }
    }
}

/// Returns the pause after a response that took `worked`.
#[must_use]
pub fn rest(worked: Duration) -> Duration {
    worked.clamp(SHORTEST_REST, LONGEST_REST)
}

fn why(err: &AskError) -> &'static str {
    match err {
        AskError::Unreadable(_) => "the answer cannot be read",
        _ => "the answer is too large",
    }
}
