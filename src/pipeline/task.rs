//! The task around the [`Pipeline`]: takes events, keeps the books on their fates, puts lines into the spool.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::Receiver;
use tracing::{debug, warn};

use super::{Fate, Pipeline};
use crate::line::encode::encode;
use crate::model::event::{ContextId, Event};
use crate::model::fate::{Reason, Refused};
use crate::model::record::Record;
use crate::model::time::Timestamp;
use crate::runtime::BEAT;
use crate::spool::shared::Shared;
use crate::status::board::Board;

/// Runs until everybody who sends events is gone.
pub async fn run(mut pipeline: Pipeline, mut arriving: Receiver<Vec<Event>>, spool: Shared, board: Arc<Board>) {
    let mut lines = Lines::default();
    let mut beat = tokio::time::interval(BEAT);
    loop {
        tokio::select! {
            _ = beat.tick() => board.beat("pipeline", Instant::now()),
            events = arriving.recv() => match events {
                Some(events) => shape(&mut pipeline, &events, &mut lines, &spool, &board),
                None => return,
            },
        }
    }
}

/// The lines of one frame of events; its memory is used again for the next.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    places: Vec<Place>,
    overflow: Overflow,
}

struct Place {
    time: Timestamp,
    context: Option<ContextId>,
    bytes: Range<usize>,
}

/// A time in which the spool drops records, told once.
#[derive(Default)]
struct Overflow {
    /// What the spool held when it began.
    began_with: Option<u64>,
}

impl Overflow {
    /// Whether it begins. At the limit one record makes others go and the next one fits, so it has not ended before
    /// half of the spool is free.
    fn begins(&mut self, lost: u64, held: u64) -> bool {
        match self.began_with {
            None if lost > 0 => {
                self.began_with = Some(held);
                return true;
            }
            Some(most) if lost == 0 && held <= most / 2 => self.began_with = None,
            _ => {}
        }
        false
    }
}

fn shape(pipeline: &mut Pipeline, events: &[Event], lines: &mut Lines, spool: &Shared, board: &Board) {
    lines.bytes.clear();
    lines.places.clear();
    for event in events {
        match pipeline.handle(event) {
            Fate::Filtered(reason) => board.books.filtered.add(reason, 1),
            Fate::Duplicate => board.books.duplicates.add(1),
            Fate::Point { point, omitted } => {
                board.writes.omitted_fields.add(u64::from(omitted));
                let start = lines.bytes.len();
                match encode(point, &mut lines.bytes) {
                    Ok(encoded) => {
                        board.writes.adjusted_texts.add(u64::from(encoded.adjusted_texts));
                        lines.bytes.push(b'\n');
                        let context = match event {
                            Event::Changed(change) => change.context,
                            Event::Removed(_) => None,
                        };
                        lines.places.push(Place { time: point.time(), context, bytes: start..lines.bytes.len() });
                    }
                    Err(reason) => refuse(event, reason, board),
                }
            }
        }
    }
    let records = lines.places.iter().map(|place| Record {
        time: place.time,
        context: place.context,
        bytes: &lines.bytes[place.bytes.clone()],
    });
    let lost = spool.append(records).lost;
    if lines.overflow.begins(lost, board.books.held.get()) {
        warn!(
            "the memory for points that wait is full: the oldest are dropped and counted until the database takes them; \
             a larger `delivery.memory_megabytes` holds more"
        );
    }
}

/// Counts, and says it aloud the first time: an entity that cannot be written repeats itself at every change.
fn refuse(event: &Event, reason: Refused, board: &Board) {
    let Event::Changed(change) = event else { unreachable!("only a change becomes a point") };
    let (entity, why) = (&change.entity, reason.label());
    let context = change.context.as_ref().map(tracing::field::display);
    if board.books.refused.of(reason) == 0 {
        warn!(entity.id = %entity, context, "cannot write {entity}: {why}; further ones are counted and shown at level debug");
    } else {
        debug!(entity.id = %entity, context, "cannot write {entity}: {why}");
    }
    board.books.refused.add(reason, 1);
}

#[cfg(test)]
mod tests {
    use super::Overflow;

    #[test]
    fn an_overflow_is_told_once_until_half_is_free_again() {
        let mut overflow = Overflow::default();
        // Lost, held, told.
        for (lost, held, told) in [
            (0, 50, false),
            (1, 100, true),
            (0, 99, false),
            (3, 98, false),
            (0, 51, false),
            (1, 100, false),
            (0, 50, false),
            (1, 100, true),
        ] {
            assert_eq!(overflow.begins(lost, held), told, "{lost} lost, {held} held");
        }
    }
}
