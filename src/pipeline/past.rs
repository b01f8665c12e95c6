//! Shapes what the recorder tells as it would have been shaped when it happened.
//!
//! It is a pipeline of its own: what it is told is older than what the live one knows, and neither may confuse the other.

use std::sync::Arc;

use super::places::Places;
use super::{Due, END_OF_TIME, Fate, Pipeline};
use crate::model::entity::EntityId;
use crate::model::event::{Event, StateChange};
use crate::model::registries::Registries;
use crate::model::time::Timestamp;
use crate::rules::Rules;

pub struct Shaper {
    pipeline: Pipeline,
}

impl Shaper {
    /// `places`: what the live pipeline knows, so that points have the tags that they have there. `now`: the wall clock.
    #[must_use]
    pub fn new(rules: &Arc<Rules>, places: Places, registries: Arc<Registries>, now: Timestamp) -> Self {
        let mut pipeline = Pipeline::new(rules).with_places(places);
        // An entity that no place is known of yet gets the one of now.
        let _ = pipeline.learn(registries, now);
        Self { pipeline }
    }

    /// Whether anything of this entity may be written. Its device class may still decide otherwise.
    #[must_use]
    pub fn wants(&self, entity: &EntityId) -> bool {
        self.pipeline.wants(entity)
    }

    /// Takes the next row of an entity. `each` is told every fate that is decided by it: of the row itself, and before that
    /// of those that waited for their turn. [`Fate::Waiting`] is told too.
    pub fn take(&mut self, row: StateChange, each: &mut impl FnMut(Fate<'_>, &StateChange)) {
        self.release(row.last_updated, each);
        let now = row.last_updated;
        let event = Event::Changed(row);
        let fate = self.pipeline.handle(&event, now);
        if let Event::Changed(row) = &event {
            each(fate, row);
        }
    }

    /// Nothing comes before `until` any more.
    pub fn release(&mut self, until: Timestamp, each: &mut impl FnMut(Fate<'_>, &StateChange)) {
        // Nobody was there to see that a value stayed as it was: the recorder's past has no heartbeats.
        while let Some(Due { fate, change, .. }) = self.pipeline.next_due(until, false) {
            each(fate, change);
        }
    }

    /// Nothing comes any more.
    pub fn finish(&mut self, each: &mut impl FnMut(Fate<'_>, &StateChange)) {
        self.release(END_OF_TIME, each);
    }

    /// Rows that wait for their turn.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.pipeline.waiting()
    }
}
