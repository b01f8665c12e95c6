//! Records that are not yet in the database.
//!
//! It keeps bytes and gives them back in the order in which they came. It does not know what they mean, who reads them,
//! or whether a network exists. It lives in memory and is bounded: when it is full, the oldest records go, and whoever
//! appends is told how many.
//!
//! Ids grow by one with every record, so "everything through this id" is all that a reader has to say.

mod chunk;
pub mod shared;

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use crate::model::record::{Batch, Record};

use self::chunk::Chunk;

/// What happened to the older records when new ones came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct Appended {
    /// Records that had to go because the spool is full.
    pub lost: u64,
}

/// How much a reader takes at once. The first record is given whatever its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub records: NonZeroUsize,
    pub bytes: NonZeroUsize,
}

/// What the spool holds for its reader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    pub records: u64,
    /// The bytes of the records and of their index.
    pub bytes: usize,
}

/// How far a reader has come: the first record that it still needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cursor(u64);

#[derive(Debug)]
pub struct Spool {
    /// In the order of ids, without gaps. The first holds the cursor.
    chunks: VecDeque<Chunk>,
    next_id: u64,
    cursor: Cursor,
    held_bytes: usize,
    limit_bytes: usize,
}

impl Spool {
    #[must_use]
    pub fn new(limit_bytes: NonZeroUsize) -> Self {
        let limit_bytes = limit_bytes.get();
        Self { chunks: VecDeque::new(), next_id: 0, cursor: Cursor(0), held_bytes: 0, limit_bytes }
    }

    /// Copies the record. At the limit the oldest records make room; a record that can never fit is itself the lost
    /// one, because no number of others would help it.
    pub fn append(&mut self, record: Record<'_>) -> Appended {
        let cost = chunk::cost(1, record.bytes.len());
        if cost > self.limit_bytes {
            return Appended { lost: 1 };
        }
        let mut lost = 0;
        while self.held_bytes + cost > self.limit_bytes {
            lost += self.release(self.cursor.0);
        }
        match self.chunks.back_mut() {
            Some(chunk) if chunk.has_room_for(record) => chunk.push(record),
            _ => self.chunks.push_back(Chunk::beginning_with(self.next_id, record)),
        }
        self.next_id += 1;
        self.held_bytes += cost;
        Appended { lost }
    }

    /// A copy of the oldest records that are still needed; they stay.
    #[must_use]
    pub fn peek(&self, limits: Limits) -> Option<Batch> {
        let mut batch = Batch::default();
        let mut id = self.cursor.0;
        for chunk in &self.chunks {
            while let Some(record) = chunk.get(id) {
                let full = batch.len() == limits.records.get()
                    || batch.bytes().len() + record.bytes.len() > limits.bytes.get();
                if full && !batch.is_empty() {
                    return Some(batch);
                }
                batch.push(id, record);
                id += 1;
            }
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// The reader needs nothing up to and including this id. Returns how many records left: fewer than the reader
    /// read, if some had to make room in the meantime.
    #[must_use]
    pub fn release(&mut self, through: u64) -> u64 {
        let to = through.saturating_add(1).min(self.next_id);
        let released = to.saturating_sub(self.cursor.0);
        while self.cursor.0 < to {
            let is_last = self.chunks.len() == 1;
            let first = self.chunks.front_mut().expect("an id below the next one is in a chunk");
            let here = to.min(first.end_id());
            self.held_bytes -= first.cost_of(self.cursor.0..here);
            self.cursor = Cursor(here);
            if here < first.end_id() {
                break;
            }
            // The last chunk keeps its memory: a quiet home appends and releases once a second.
            if is_last && first.is_of_common_size() {
                first.clear(here);
            } else {
                self.chunks.pop_front();
            }
        }
        released
    }

    /// Whether there is no point in waiting for more: a whole batch waits, or half of what there is room for.
    #[must_use]
    pub fn is_full(&self, limits: Limits) -> bool {
        let Held { records, bytes } = self.held();
        let records = usize::try_from(records).unwrap_or(usize::MAX);
        let without_index = bytes.saturating_sub(chunk::cost(records, 0));
        records >= limits.records.get() || without_index >= limits.bytes.get() || bytes >= self.limit_bytes / 2
    }

    #[must_use]
    pub fn held(&self) -> Held {
        Held { records: self.next_id - self.cursor.0, bytes: self.held_bytes }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::num::NonZeroUsize;

    use proptest::prelude::{Just, Strategy, any, prop_oneof};
    use proptest::{collection, proptest};

    use super::{Limits, Spool, chunk};
    use crate::model::record::Record;
    use crate::model::time::Timestamp;

    /// What the spool promises, in the plainest way there is.
    struct Model {
        records: VecDeque<(u64, i64, Vec<u8>)>,
        next_id: u64,
        limit: usize,
    }

    impl Model {
        fn bytes(&self) -> usize {
            self.records.iter().map(|(_, _, bytes)| chunk::cost(1, bytes.len())).sum()
        }

        fn append(&mut self, time: i64, bytes: Vec<u8>) -> u64 {
            let cost = chunk::cost(1, bytes.len());
            if cost > self.limit {
                return 1;
            }
            let mut lost = 0;
            while self.bytes() + cost > self.limit {
                self.records.pop_front();
                lost += 1;
            }
            self.records.push_back((self.next_id, time, bytes));
            self.next_id += 1;
            lost
        }

        fn peek(&self, records: usize, bytes: usize) -> Vec<(u64, i64, Vec<u8>)> {
            let mut taken: Vec<(u64, i64, Vec<u8>)> = Vec::new();
            let mut size = 0;
            for record in &self.records {
                size += record.2.len();
                if !taken.is_empty() && (taken.len() == records || size > bytes) {
                    break;
                }
                taken.push(record.clone());
            }
            taken
        }

        fn release(&mut self, through: u64) -> u64 {
            let before = self.records.len();
            self.records.retain(|(id, _, _)| *id > through);
            (before - self.records.len()) as u64
        }
    }

    #[derive(Debug, Clone)]
    enum Operation {
        Append {
            time: i64,
            size: usize,
        },
        Peek {
            records: usize,
            bytes: usize,
        },
        /// Relative to the last peek, so that ids already gone and ids not yet given occur.
        Release {
            ahead: i64,
        },
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let size = prop_oneof![8 => 0..300_usize, 1 => Just(chunk::SIZE + 1), 1 => 0..chunk::SIZE];
        prop_oneof![
            4 => (any::<i64>(), size).prop_map(|(time, size)| Operation::Append { time, size }),
            1 => (1..50_usize, 1..5_000_usize).prop_map(|(records, bytes)| Operation::Peek { records, bytes }),
            1 => (-20..20_i64).prop_map(|ahead| Operation::Release { ahead }),
        ]
    }

    fn check(limit: usize, operations: &[Operation]) {
        let mut spool = Spool::new(NonZeroUsize::new(limit).unwrap());
        let mut model = Model { records: VecDeque::new(), next_id: 0, limit };
        let mut seen = 0_u64;
        for (at, operation) in operations.iter().enumerate() {
            match *operation {
                Operation::Append { time, size } => {
                    let bytes = vec![u8::try_from(at % 251).unwrap(); size];
                    let record = Record { time: Timestamp::from_micros(time), context: None, bytes: &bytes };
                    assert_eq!(spool.append(record).lost, model.append(time, bytes.clone()), "{at}: {operation:?}");
                }
                Operation::Peek { records, bytes } => {
                    let limits = limits(records, bytes);
                    let peeked: Vec<_> = spool.peek(limits).map_or_else(Vec::new, |batch| {
                        (0..batch.len())
                            .map(|line| {
                                (batch.id(line), batch.get(line).time.as_micros(), batch.get(line).bytes.to_vec())
                            })
                            .collect()
                    });
                    assert_eq!(peeked, model.peek(records, bytes), "{at}: {operation:?}");
                    seen = peeked.last().map_or(seen, |(id, _, _)| *id);
                }
                Operation::Release { ahead } => {
                    let through = seen.saturating_add_signed(ahead);
                    assert_eq!(spool.release(through), model.release(through), "{at}: {operation:?}");
                }
            }
            let held = spool.held();
            assert_eq!((held.records, held.bytes), (model.records.len() as u64, model.bytes()), "{at}: {operation:?}");
        }
    }

    fn limits(records: usize, bytes: usize) -> Limits {
        Limits { records: NonZeroUsize::new(records).unwrap(), bytes: NonZeroUsize::new(bytes).unwrap() }
    }

    proptest! {
        #[test]
        fn the_spool_does_what_a_plain_queue_does(
            limit in prop_oneof![1..2_000_usize, Just(1_000_000_usize)],
            operations in collection::vec(operation(), 1..200),
        ) {
            check(limit, &operations);
        }
    }

    fn record(bytes: &[u8]) -> Record<'_> {
        Record { time: Timestamp::from_micros(0), context: None, bytes }
    }

    #[test]
    fn a_record_that_went_while_it_was_being_sent_is_not_released_twice() {
        let mut spool = Spool::new(NonZeroUsize::new(3 * chunk::cost(1, 1)).unwrap());
        for bytes in [b"a", b"b", b"c"] {
            assert_eq!(spool.append(record(bytes)).lost, 0);
        }
        let batch = spool.peek(limits(3, 100)).unwrap();
        assert_eq!(spool.append(record(b"d")).lost, 1);
        assert_eq!(spool.release(batch.id(2)), 2, "the first of the three was counted as lost");
        assert_eq!(spool.peek(limits(9, 100)).unwrap().bytes(), b"d");
    }

    #[test]
    fn memory_is_given_back_in_whole_chunks() {
        let mut spool = Spool::new(NonZeroUsize::new(100 * chunk::SIZE).unwrap());
        let bytes = vec![0; 1_000];
        for _ in 0..5_000 {
            assert_eq!(spool.append(record(&bytes)).lost, 0);
        }
        assert!(spool.chunks.len() > 15);
        assert_eq!(spool.release(4_000), 4_001);
        assert!(spool.chunks.len() < 6);
        assert_eq!(spool.release(u64::MAX), 999);
        assert_eq!(spool.chunks.len(), 1, "the last one waits for the next record");
    }
}
