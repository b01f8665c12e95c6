//! The records in memory: those with the latest ids, without gaps, and when they came.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::model::record::{Batch, Record};

use super::Limits;
use super::chunk::{self, Chunk};
use super::log::has_room;

/// Records that come within this time count as having come together, at the time of the first.
const ARRIVAL: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Front {
    /// In the order of ids, without gaps.
    chunks: VecDeque<Chunk>,
    start: u64,
    next_id: u64,
    /// With the index.
    bytes: usize,
    arrivals: VecDeque<(u64, Instant)>,
}

impl Front {
    pub(super) fn new(next_id: u64) -> Self {
        Self { chunks: VecDeque::new(), start: next_id, next_id, bytes: 0, arrivals: VecDeque::new() }
    }

    /// The first id that is in memory; `next_id` if none is.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records are about to be pushed.
    pub(super) fn note_arrival(&mut self, now: Instant) {
        match self.arrivals.back_mut() {
            // None came since.
            Some((id, at)) if *id == self.next_id => *at = now,
            Some((_, at)) if now.saturating_duration_since(*at) < ARRIVAL => {}
            _ => self.arrivals.push_back((self.next_id, now)),
        }
    }

    pub(super) fn push(&mut self, record: Record<'_>) {
        match self.chunks.back_mut() {
            Some(chunk) if chunk.has_room_for(record) => chunk.push(record),
            last => {
                let bytes_before = last.map_or(0, |chunk| chunk.bytes_through());
                self.chunks.push_back(Chunk::beginning_with(self.next_id, bytes_before, record));
            }
        }
        self.next_id += 1;
        self.bytes += chunk::cost(1, record.bytes.len());
    }

    /// Nothing before this id is needed here.
    pub(super) fn drop_before(&mut self, id: u64) {
        let to = id.min(self.next_id);
        while self.start < to {
            let is_last = self.chunks.len() == 1;
            let first = self.chunks.front_mut().expect("an id below the next one is in a chunk");
            let here = to.min(first.end_id());
            self.bytes -= first.cost_of(self.start..here);
            self.start = here;
            if here < first.end_id() {
                break;
            }
            // The last chunk keeps its memory: a quiet home appends and releases once a second.
            if is_last && first.is_of_common_size() {
                first.clear();
            } else {
                self.chunks.pop_front();
            }
        }
        while self.arrivals.get(1).is_some_and(|(first, _)| *first <= self.start) {
            self.arrivals.pop_front();
        }
    }

    pub(super) fn get(&self, id: u64) -> Option<Record<'_>> {
        if id < self.start {
            return None;
        }
        self.chunks.get(self.chunk_of(id))?.get(id)
    }

    /// When this record came, or up to a quarter of a second before.
    pub(super) fn arrived(&self, id: u64) -> Option<Instant> {
        let after = self.arrivals.partition_point(|(first, _)| *first <= id);
        self.arrivals.get(after.checked_sub(1)?).map(|(_, at)| *at)
    }

    /// Of records in memory, without the index.
    pub(super) fn payload_bytes(&self, ids: Range<u64>) -> u64 {
        let before = |id: u64| match self.chunks.get(self.chunk_of(id)) {
            Some(chunk) => chunk.bytes_before(id),
            None => self.chunks.back().map_or(0, Chunk::bytes_through),
        };
        before(ids.end) - before(ids.start)
    }

    /// Of records in memory, with the index.
    pub(super) fn cost(&self, ids: Range<u64>) -> usize {
        let count = |number: u64| usize::try_from(number).expect("what is in memory fits the address space");
        chunk::cost(count(ids.end - ids.start), count(self.payload_bytes(ids)))
    }

    /// Copies records until the batch is full. Returns whether it is.
    pub(super) fn copy(&self, ids: Range<u64>, limits: Limits, batch: &mut Batch) -> bool {
        let mut id = ids.start.max(self.start);
        for chunk in self.chunks.iter().skip(self.chunk_of(id)) {
            while let Some(record) = chunk.get(id) {
                if id >= ids.end {
                    return false;
                }
                if !has_room(batch, record, limits) {
                    return true;
                }
                batch.push(id, record);
                id += 1;
            }
        }
        false
    }

    fn chunk_of(&self, id: u64) -> usize {
        self.chunks.partition_point(|chunk| chunk.end_id() <= id)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::time::{Duration, Instant};

    use super::Front;
    use crate::model::record::{Batch, Record};
    use crate::model::time::Timestamp;
    use crate::spool::{Limits, chunk};

    fn record(bytes: &[u8]) -> Record<'_> {
        Record { time: Timestamp::from_micros(0), context: None, bytes }
    }

    #[test]
    fn memory_is_given_back_in_whole_chunks_and_the_last_one_waits() {
        let mut front = Front::new(5);
        for _ in 0..5_000 {
            front.push(record(&[0; 1_000]));
        }
        assert!(front.chunks.len() > 15);
        front.drop_before(4_000);
        assert!(front.chunks.len() < 6);
        assert_eq!(front.bytes(), chunk::cost(1_005, 1_005_000));
        front.drop_before(u64::MAX);
        assert_eq!((front.chunks.len(), front.bytes(), front.start()), (1, 0, 5_005));
    }

    #[test]
    fn bytes_are_counted_across_chunks() {
        let mut front = Front::new(0);
        for size in [10, chunk::SIZE - 10, 1, chunk::SIZE + 5, 0, 7] {
            front.push(record(&vec![0; size]));
        }
        assert_eq!(front.payload_bytes(0..6), 2 * chunk::SIZE as u64 + 13);
        assert_eq!(front.payload_bytes(1..3), chunk::SIZE as u64 - 9);
        assert_eq!(front.payload_bytes(5..5), 0);
        front.drop_before(3);
        assert_eq!(front.payload_bytes(3..6), chunk::SIZE as u64 + 12);
        front.drop_before(6);
        front.push(record(&[0; 3]));
        assert_eq!(front.payload_bytes(6..7), 3);
    }

    #[test]
    fn a_copy_ends_at_its_limits_and_at_its_last_id() {
        let mut front = Front::new(0);
        for bytes in [b"aa", b"bb", b"cc", b"dd"] {
            front.push(record(bytes));
        }
        front.drop_before(1);
        for (ids, records, bytes, copied, full) in [
            (0..4, 9, 99, &b"bbccdd"[..], false),
            (1..3, 9, 99, b"bbcc", false),
            (0..4, 2, 99, b"bbcc", true),
            (0..4, 9, 5, b"bbcc", true),
            (2..9, 1, 1, b"cc", true),
        ] {
            let mut batch = Batch::default();
            let limits =
                Limits { records: NonZeroUsize::new(records).unwrap(), bytes: NonZeroUsize::new(bytes).unwrap() };
            assert_eq!((front.copy(ids.clone(), limits, &mut batch), batch.bytes()), (full, copied), "{ids:?}");
        }
    }

    #[test]
    fn a_record_came_when_the_first_of_its_quarter_second_came() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut front = Front::new(0);
        front.note_arrival(start);
        for millis in [100, 200, 300, 400, 600] {
            front.note_arrival(after(millis));
            front.push(record(b"x"));
        }
        for (id, millis) in [(0, 100), (1, 100), (2, 100), (3, 400), (4, 400)] {
            assert_eq!(front.arrived(id), Some(after(millis)), "{id}");
        }
        front.drop_before(4);
        assert_eq!(front.arrived(4), Some(after(400)));
        assert_eq!(front.arrivals.len(), 1);
    }
}
