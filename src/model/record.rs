//! What the pipeline leaves behind and delivery carries away: records, and batches of them.

use super::event::ContextId;
use super::time::Timestamp;

/// One record: opaque bytes with the time of the event they tell of, and what caused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub time: Timestamp,
    pub context: Option<ContextId>,
    pub bytes: &'a [u8],
}

/// Records in the order of their ids. Their bytes lie one after the other, ready to be a request's body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    id: u64,
    time: Timestamp,
    context: Option<ContextId>,
    end: usize,
}

impl Batch {
    /// `id` must be above the last one.
    pub fn push(&mut self, id: u64, record: Record<'_>) {
        debug_assert!(self.entries.last().is_none_or(|last| last.id < id), "ids grow");
        self.bytes.extend_from_slice(record.bytes);
        self.entries.push(Entry { id, time: record.time, context: record.context, end: self.bytes.len() });
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// # Panics
    /// If there is no such record, as with a slice. So do the other functions that take a place in the batch.
    #[must_use]
    pub fn get(&self, at: usize) -> Record<'_> {
        let entry = self.entries[at];
        Record { time: entry.time, context: entry.context, bytes: &self.bytes[self.start_of(at)..entry.end] }
    }

    #[must_use]
    pub fn id(&self, at: usize) -> u64 {
        self.entries[at].id
    }

    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        (0..self.len()).map(|at| self.get(at))
    }

    /// The latest time of an event in it.
    #[must_use]
    pub fn newest(&self) -> Option<Timestamp> {
        self.entries.iter().map(|entry| entry.time).max()
    }

    /// The places of the `count` records with the earliest times, in order.
    #[must_use]
    pub fn oldest(&self, count: usize) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.len()).collect();
        places.sort_by_key(|at| self.entries[*at].time);
        places.truncate(count);
        places.sort_unstable();
        places
    }

    /// Keeps the first `at` records and returns the others.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        let start = self.start_of(at);
        let mut entries = self.entries.split_off(at);
        for entry in &mut entries {
            entry.end -= start;
        }
        Self { bytes: self.bytes.split_off(start), entries }
    }

    /// Takes records out. `places` are sorted.
    pub fn remove(&mut self, places: &[usize]) {
        let mut kept = Self { bytes: Vec::with_capacity(self.bytes.len()), entries: Vec::with_capacity(self.len()) };
        for at in (0..self.len()).filter(|at| places.binary_search(at).is_err()) {
            kept.push(self.id(at), self.get(at));
        }
        *self = kept;
    }

    fn start_of(&self, at: usize) -> usize {
        at.checked_sub(1).map_or(0, |before| self.entries[before].end)
    }
}

#[cfg(test)]
mod tests {
    use super::Batch;
    use crate::model::record::Record;
    use crate::model::time::Timestamp;

    fn batch(records: &[(i64, &str)]) -> Batch {
        let mut batch = Batch::default();
        for (id, (time, text)) in (10..).zip(records) {
            batch.push(id, Record { time: Timestamp::from_micros(*time), context: None, bytes: text.as_bytes() });
        }
        batch
    }

    fn shown(batch: &Batch) -> Vec<(u64, &str)> {
        (0..batch.len()).map(|at| (batch.id(at), std::str::from_utf8(batch.get(at).bytes).unwrap())).collect()
    }

    #[test]
    fn records_keep_their_ids_when_others_leave() {
        let mut left = batch(&[(0, "a"), (0, "bb"), (0, "ccc"), (0, ""), (0, "e")]);
        let mut right = left.split_off(2);
        assert_eq!(shown(&left), [(10, "a"), (11, "bb")]);
        assert_eq!(shown(&right), [(12, "ccc"), (13, ""), (14, "e")]);
        right.remove(&[0, 1]);
        assert_eq!((shown(&right), right.bytes()), (vec![(14, "e")], &b"e"[..]));
    }

    #[test]
    fn the_oldest_are_those_with_the_earliest_times() {
        let batch = batch(&[(5, "a"), (1, "b"), (9, "c"), (2, "d")]);
        assert_eq!(batch.oldest(2), [1, 3]);
        assert_eq!(batch.oldest(9), [0, 1, 2, 3]);
        assert_eq!(batch.newest(), Some(Timestamp::from_micros(9)));
    }
}
