//! Whether the same change was told before, by another source.
//!
//! Pure. Two real changes are never taken for one, however quickly they follow each other: each change that one source told
//! answers for at most one of another source.

use crate::model::event::{Source, StateChange};

/// What was told of one entity lately.
#[derive(Debug, Default)]
pub struct Told {}

impl Told {
    /// Notes a change, and says whether another source has told it already. `is_exact`: its time is Home Assistant's own.
    #[must_use]
    pub fn has_been_told(&mut self, _change: &StateChange, _source: Source, _is_exact: bool) -> bool {
        false
    }
}
