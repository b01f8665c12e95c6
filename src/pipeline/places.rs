//! Which registry tags an entity's points have: those that were in force at the time of the point.
//!
//! Who moves a lamp to another room does not move its past. So each entity keeps what it was called and since when, and a
//! point of an earlier time that is written again has the tags that it had. Pure; what is known can be written down and
//! read back.

use std::sync::Arc;

use crate::config::settings::RegistryTag;
use crate::model::entity::EntityId;
use crate::model::registries::Registries;
use crate::model::time::Timestamp;

/// The tags of all entities, now and before.
#[derive(Debug, Default)]
pub struct Places {}

/// The registry tags of some points: by the name of the tag, only those that there are.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Place(pub Vec<(RegistryTag, String)>);

impl Places {
    /// What is known from now on holds for points from `now` on, and for the time before if nothing was known then.
    /// Returns whether anything is different, and so has to be written down.
    pub fn learn(&mut self, _registries: &Registries, _now: Timestamp) -> bool {
        false
    }

    /// What was in force at `time`. Two calls that give the same `Arc` give the same tags.
    #[must_use]
    pub fn of(&self, _entity: &EntityId, _time: Timestamp) -> Option<&Arc<Place>> {
        None
    }
}
