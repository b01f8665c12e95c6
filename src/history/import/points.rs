//! What comes of rows: lines, or reasons why there are none.

use std::collections::BTreeMap;

use crate::line::encode::encode;
use crate::model::fate::Reason as _;
use crate::model::point::Point;
use crate::model::time::Timestamp;
use crate::pipeline::Fate;

/// What came of some rows.
#[derive(Default)]
pub(super) struct Points {
    pub(super) lines: Vec<(Timestamp, Vec<u8>)>,
    pub(super) filtered: u64,
    pub(super) refused: BTreeMap<&'static str, u64>,
}

impl Points {
    pub(super) fn take(&mut self, fate: &Fate<'_>) {
        match fate {
            Fate::Point { point, .. } => self.keep(point),
            Fate::Waiting => {}
            Fate::Filtered(_) | Fate::Duplicate => self.filtered += 1,
            Fate::Refused { reason, .. } => *self.refused.entry(reason.label()).or_default() += 1,
        }
    }

    pub(super) fn keep(&mut self, point: &Point) {
        let mut line = Vec::new();
        match encode(point, &mut line) {
            Ok(_) => {
                line.push(b'\n');
                self.lines.push((point.time(), line));
            }
            Err(reason) => *self.refused.entry(reason.label()).or_default() += 1,
        }
    }
}
