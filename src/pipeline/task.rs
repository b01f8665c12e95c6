//! The task around the [`Pipeline`]: takes events, keeps the books on their fates, puts lines into the spool.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::{Fate, Pipeline};
use crate::line::encode::encode;
use crate::model::event::{Arrival, ContextId, Event};
use crate::model::fate::{Reason, Refused};
use crate::model::record::Record;
use crate::model::refused::RefusedEvent;
use crate::model::time::Timestamp;
use crate::rules::Rules;
use crate::runtime::alive::beating;
use crate::runtime::clock;
use crate::spool::shared::Shared;
use crate::status::board::Board;

/// Runs until everybody who sends events is gone.
pub async fn run(
    rules: watch::Receiver<Arc<Rules>>,
    mut arriving: Receiver<Arrival>,
    spool: Shared,
    refused: Sender<RefusedEvent>,
    board: Arc<Board>,
) {
    let mut pipeline = Pipeline::new(&rules.borrow());
    let mut lines = Lines::default();
    let work = async {
        while let Some(arrival) = arriving.recv().await {
            let events = match arrival {
                Arrival::Events(events) => events,
                Arrival::Registries(registries) => {
                    pipeline.learn(registries, clock::now());
                    continue;
                }
            };
            shape(&mut pipeline, &events, &mut lines, &spool, &refused, &board);
            // A disk that is busy slows the flow down; one that does not answer does not stop it. At the stop there is no
            // time for either.
            if !board.is_stopping() {
                spool.room().await;
            }
        }
    };
    beating(|| board.beat("pipeline", Instant::now()), work).await;
}

/// The lines of one frame of events; its memory is used again for the next.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

/// Where a line is, and what it tells of.
struct Place {
    time: Timestamp,
    context: Option<ContextId>,
    bytes: Range<usize>,
}

fn shape(
    pipeline: &mut Pipeline,
    events: &[Event],
    lines: &mut Lines,
    spool: &Shared,
    refused: &Sender<RefusedEvent>,
    board: &Board,
) {
    lines.bytes.clear();
    lines.places.clear();
    for event in events {
        match pipeline.handle(event, clock::now()) {
            Fate::Filtered(reason) => board.arrivals.filtered.add(reason, 1),
            Fate::Duplicate => board.arrivals.duplicates.add(1),
            Fate::Waiting | Fate::Refused { .. } => {}
            Fate::Point { point, omitted, context, rule: _ } => {
                board.arrivals.omitted_fields.add(u64::from(omitted));
                let start = lines.bytes.len();
                match encode(point, &mut lines.bytes) {
                    Ok(encoded) => {
                        board.arrivals.adjusted_texts.add(u64::from(encoded.adjusted_texts));
                        lines.bytes.push(b'\n');
                        lines.places.push(Place { time: point.time(), context, bytes: start..lines.bytes.len() });
                    }
                    Err(reason) => refuse(event, reason, refused, board),
                }
            }
        }
    }
    let records = lines.places.iter().map(|place| Record {
        time: place.time,
        context: place.context,
        bytes: &lines.bytes[place.bytes.clone()],
    });
    spool.append(records);
}

/// Counts, and says it aloud the first time: an entity that cannot be written repeats itself at every change.
fn refuse(event: &Event, reason: Refused, refused: &Sender<RefusedEvent>, board: &Board) {
    let Event::Changed(change) = event else { unreachable!("only a change becomes a point") };
    let (entity, why) = (&change.entity, reason.label());
    let context = change.context.as_ref().map(tracing::field::display);
    if board.arrivals.refused.of(reason) == 0 {
        warn!(entity.id = %entity, context, "cannot write {entity}: {why}; further ones are counted and shown at level debug");
    } else {
        debug!(entity.id = %entity, context, "cannot write {entity}: {why}");
    }
    board.arrivals.refused.add(reason, 1);
    let what = format!("{entity} {:?}", change.state);
    let event = RefusedEvent { time: change.last_updated, context: change.context, rule: None, reason, what };
    // When it is full, this one is only counted.
    let _ = refused.try_send(event);
}
