//! Brings batches to one target, past the spool: for work that somebody waits for, and that can be begun again.

use std::time::Duration;

use tokio::time::sleep;

use super::isolate::{Isolation, Refused, Step};
use super::verdict::judge;
use crate::config::settings::{self, Delivery};
use crate::influx::{OpenError, Target};
use crate::model::record::Batch;
use crate::runtime::backoff::Policy;
use crate::runtime::clock;

/// Attempts in a row that bring nothing.
const ATTEMPTS: u32 = 5;

/// A server that asks for more is asked again by a person.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

pub struct Carrier {
    target: Target,
    retry: Policy,
}

/// What became of a batch.
#[derive(Default)]
pub struct Carried {
    /// Everything up to this id is settled: stored, but for what was refused.
    pub through: Option<u64>,
    /// By their ids.
    pub refused: Vec<Refused>,
    /// Why the rest was not sent.
    pub gave_up: Option<String>,
}

impl Carrier {
    pub fn open(target: &settings::Target, delivery: &Delivery) -> Result<Self, OpenError> {
        Ok(Self { target: Target::open(target, delivery)?, retry: delivery.retry })
    }

    /// Sends until all of it is settled, or for some attempts in a row in vain. `retrying` is told why there is another one.
    pub async fn carry(&mut self, mut batch: Batch, retrying: &mut impl FnMut(&str)) -> Carried {
        let mut carried = Carried::default();
        let mut pauses = self.retry.pauses();
        let mut attempts = 0;
        loop {
            let before = carried.through;
            let (after, words) = match self.attempt(&batch, &mut carried).await {
                Step::Go => return carried,
                Step::Hold { words } => {
                    carried.gave_up = Some(words);
                    return carried;
                }
                Step::Retry { after, words } => (after.unwrap_or_default(), words),
            };
            if carried.through > before {
                attempts = 0;
                pauses.reset();
            }
            attempts += 1;
            if attempts == ATTEMPTS || after > LONGEST_WAIT {
                carried.gave_up = Some(words);
                return carried;
            }
            retrying(&words);
            sleep(pauses.next_pause().max(after)).await;
            // Whatever is known of lines that are not settled is found out again.
            if let Some(through) = carried.through {
                let settled = (0..batch.len()).take_while(|at| batch.id(*at) <= through).count();
                batch = batch.split_off(settled);
            }
        }
    }

    /// Sends the batch, in parts if need be, until it is settled or has to wait.
    async fn attempt(&mut self, batch: &Batch, carried: &mut Carried) -> Step {
        let Some(mut isolation) = Isolation::of(batch.clone()) else { return Step::Go };
        while let Some(part) = isolation.next() {
            let sent = self.target.send(part).await;
            let verdict = judge(&sent, part, clock::now());
            let step = isolation.handle(verdict);
            if let Some(settled) = isolation.settle() {
                carried.through = Some(settled.through);
                carried.refused.extend(settled.refused);
            }
            if step != Step::Go {
                return step;
            }
        }
        Step::Go
    }
}
