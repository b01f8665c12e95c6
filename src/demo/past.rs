//! What happened before the home was there: made again whenever somebody asks, never kept.
//!
//! Every entity has one value in each slot of five minutes, back to any time. A value depends on the entity and the
//! slot only, so two questions about the same hour get the same answer.

use super::random::Random;
use super::state::{Context, State};
use super::time::whole;
use super::values::{self, Source};
use crate::model::value::Attributes;

/// Seconds from one past value of an entity to the next.
pub const SLOT: i64 = 300;

/// How far back a state is followed to find when it began.
const STEADY: i64 = 12;

/// The slot that holds this time.
#[must_use]
pub fn slot(at: f64) -> i64 {
    whole(at).div_euclid(SLOT)
}

struct Sample {
    at: f64,
    state: String,
    attributes: Attributes,
    context: Context,
}

fn sample(source: Source<'_>, seed: u64, slot: i64) -> Sample {
    let mut random = Random::of(seed, slot.unsigned_abs());
    // Off the edges, so that the values of two slots never meet.
    let micros = 5_000_000 + random.below(290_000_000);
    #[expect(clippy::cast_precision_loss, reason = "a slot of this century times 300 is far below 2^53")]
    let at = (slot * SLOT) as f64 + f64::from(micros) / 1e6 + random.between(0.0, 0.4e-6);
    let (state, attributes) = values::value(source, at, slot.unsigned_abs(), &mut random);
    let millis = whole(at * 1e3).unsigned_abs();
    Sample { at, state, attributes, context: Context { id: random.ulid(millis), user_id: None } }
}

/// The states of an entity in the slots `from..=to`, oldest first. A value equal to the one before is no new state.
#[must_use]
pub fn states(source: Source<'_>, seed: u64, from: i64, to: i64) -> Vec<State> {
    let samples: Vec<Sample> = (from - STEADY..=to).map(|slot| sample(source, seed, slot)).collect();
    let first = usize::try_from(STEADY).expect("a small positive number");
    let mut states = Vec::new();
    for at in first..samples.len() {
        let now = &samples[at];
        let before = &samples[at - 1];
        if before.state == now.state && before.attributes == now.attributes {
            continue;
        }
        // Counted from this slot back, so the answer is the same whatever period was asked for.
        let began = (at - first..at).rev().take_while(|earlier| samples[*earlier].state == now.state).last();
        states.push(State {
            state: now.state.as_str().into(),
            attributes: now.attributes.clone(),
            last_changed: samples[began.unwrap_or(at)].at,
            last_updated: now.at,
            context: now.context.clone(),
        });
    }
    states
}

#[cfg(test)]
mod tests {
    use super::{slot, states};
    use crate::demo::catalogue::Kind;
    use crate::demo::values::Source;

    const NOW: f64 = 1.795e9;

    #[test]
    fn two_questions_about_the_same_time_get_the_same_answer() {
        for kind in [Kind::Temperature, Kind::Climate, Kind::Motion, Kind::Battery] {
            let source = Source { kind, name: "X", character: 0.5 };
            let all = states(source, 9, slot(NOW) - 200, slot(NOW));
            let part = states(source, 9, slot(NOW) - 50, slot(NOW));
            assert!(all.ends_with(&part) && part.len() > 20, "{kind:?}");
            assert!(all.iter().all(|state| state.last_changed <= state.last_updated), "{kind:?}");
        }
    }

    #[test]
    fn times_increase_and_never_repeat() {
        let source = Source { kind: Kind::Temperature, name: "X", character: 0.5 };
        let times: Vec<f64> = states(source, 1, slot(NOW) - 500, slot(NOW)).iter().map(|s| s.last_updated).collect();
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
