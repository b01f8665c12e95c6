//! A piece of the memory: records one after the other in one allocation, with an index.

use std::ops::Range;

use crate::model::event::ContextId;
use crate::model::record::Record;
use crate::model::time::Timestamp;

/// Bytes of records in one chunk. Small enough that an idle service is not seen, large enough that a storm allocates
/// rarely.
pub(super) const SIZE: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Chunk {
    first_id: u64,
    /// The bytes of all records before, since the beginning.
    bytes_before: u64,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    time: Timestamp,
    context: Option<ContextId>,
    end: usize,
}

/// What records cost in memory, with their index.
pub(super) fn cost(records: usize, bytes: usize) -> usize {
    records * size_of::<Entry>() + bytes
}

impl Chunk {
    /// A chunk is as large as its first record if that is larger than a chunk.
    pub(super) fn beginning_with(first_id: u64, bytes_before: u64, record: Record<'_>) -> Self {
        let bytes = Vec::with_capacity(SIZE.max(record.bytes.len()));
        let mut chunk = Self { first_id, bytes_before, bytes, entries: Vec::new() };
        chunk.push(record);
        chunk
    }

    pub(super) fn has_room_for(&self, record: Record<'_>) -> bool {
        self.bytes.len() + record.bytes.len() <= SIZE
    }

    pub(super) fn push(&mut self, record: Record<'_>) {
        self.bytes.extend_from_slice(record.bytes);
        self.entries.push(Entry { time: record.time, context: record.context, end: self.bytes.len() });
    }

    /// The id after the last one.
    pub(super) fn end_id(&self) -> u64 {
        self.first_id + self.entries.len() as u64
    }

    /// The bytes of all records up to its end, since the beginning.
    pub(super) fn bytes_through(&self) -> u64 {
        self.bytes_before + self.bytes.len() as u64
    }

    /// The same for the records before this one, which is in this chunk or the next one.
    pub(super) fn bytes_before(&self, id: u64) -> u64 {
        self.bytes_before + self.start_of(self.place_of(id)) as u64
    }

    pub(super) fn get(&self, id: u64) -> Option<Record<'_>> {
        let at = usize::try_from(id.checked_sub(self.first_id)?).ok()?;
        let entry = self.entries.get(at)?;
        Some(Record { time: entry.time, context: entry.context, bytes: &self.bytes[self.start_of(at)..entry.end] })
    }

    /// The ids must be in this chunk.
    pub(super) fn cost_of(&self, ids: Range<u64>) -> usize {
        let [from, to] = [ids.start, ids.end].map(|id| self.place_of(id));
        cost(to - from, self.start_of(to) - self.start_of(from))
    }

    pub(super) fn is_of_common_size(&self) -> bool {
        self.bytes.capacity() <= SIZE
    }

    pub(super) fn clear(&mut self) {
        self.first_id = self.end_id();
        self.bytes_before = self.bytes_through();
        self.bytes.clear();
        self.entries.clear();
    }

    fn place_of(&self, id: u64) -> usize {
        usize::try_from(id - self.first_id).expect("the index of a record in memory fits the address space")
    }

    fn start_of(&self, at: usize) -> usize {
        at.checked_sub(1).map_or(0, |before| self.entries[before].end)
    }
}
