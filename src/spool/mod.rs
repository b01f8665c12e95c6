//! Records that are not yet in the database.
//!
//! (to be written)

use crate::model::time::Timestamp;

/// One record: opaque bytes with the time of the event they tell of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub time: Timestamp,
    pub bytes: &'a [u8],
}
