//! Who lacks what, what is in memory, and what has to be done about it. It decides; the spool around it does.
//!
//! Ids below `safe_id` that a reader lacks are on the disk, but for those of [`Ledger::expired_ids`]. Ids from the first
//! one in memory on are in memory. Both may be true of a record; one of them always is.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::model::record::{Batch, Record};
use crate::model::time::Timestamp;

use super::front::Front;
use super::log::Segment;
use super::pending::Pending;
use super::progress::Progress;
use super::state::{ReaderState, State};
use super::{Appended, Bounds, Durability, Held, Limits, Lost, chunk};

/// In `strict`: how old any record may become before it goes to the disk. It leaves a quarter of a second for the disk.
const STRICT_AGE: Duration = Duration::from_millis(750);

/// How long the disk is left alone after it failed.
const RETRY: Duration = Duration::from_secs(5);

/// How often it is noted what the readers have taken, while there is something on the disk.
const NOTE: Duration = Duration::from_secs(30);

/// How often it is noted how far the readers are while all is well: after a power cut so much is asked for once more.
const QUIET_NOTE: Duration = Duration::from_hours(1);

#[derive(Debug)]
pub(super) struct Ledger {
    front: Front,
    readers: Vec<ReaderLedger>,
    bounds: Bounds,
    safe_id: u64,
    /// What is below it went from the disk to make room; not above `safe_id`.
    expired_below: u64,
    disk: Vec<Segment>,
    /// The last segment is being written to.
    last_is_open: bool,
    retry_at: Option<Instant>,
    noted_at: Option<Instant>,
    noted_begun: usize,
    degraded: bool,
    marks: Marks,
}

/// Numbers that whoever appends gives to what it appended: when one of them is reached, all before it is safe.
#[derive(Debug, Default)]
struct Marks {
    /// Where each stands: before the record with this id. Both grow.
    waiting: VecDeque<(u64, u64)>,
    reached: u64,
}

#[derive(Debug)]
pub(super) struct ReaderLedger {
    pub(super) name: String,
    pub(super) pending: Pending,
    pub(super) progress: Progress,
    pub(super) lost: Lost,
    /// The time of a record on the disk.
    pub(super) known: Option<(u64, Timestamp)>,
}

/// Why records go although a reader lacks them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    SpoolFull,
    MemoryFull,
    Damaged,
}

impl ReaderLedger {
    pub(super) fn new(name: &str, pending: Pending, progress: Progress) -> Self {
        Self { name: name.to_owned(), pending, progress, lost: Lost::default(), known: None }
    }
}

impl Ledger {
    pub(super) fn new(bounds: Bounds, readers: Vec<ReaderLedger>, next_id: u64, disk: Vec<Segment>) -> Self {
        Self {
            front: Front::new(next_id),
            readers,
            bounds,
            safe_id: next_id,
            expired_below: 0,
            disk,
            last_is_open: false,
            retry_at: None,
            noted_at: None,
            noted_begun: 0,
            degraded: false,
            marks: Marks::default(),
        }
    }

    pub(super) fn reader(&self, reader: usize) -> &ReaderLedger {
        &self.readers[reader]
    }

    pub(super) fn readers(&self) -> usize {
        self.readers.len()
    }

    pub(super) fn front(&self) -> &Front {
        &self.front
    }

    pub(super) fn is_degraded(&self) -> bool {
        self.degraded
    }

    /// Never waits for the disk. At the limit the oldest records leave memory: those that are on the disk without a
    /// loss, then the others. A record that can never fit is itself the lost one, because no number of others would
    /// help it.
    pub(super) fn append<'a>(&mut self, records: impl IntoIterator<Item = Record<'a>>, now: Instant) -> Appended {
        self.front.note_arrival(now);
        let limit = self.bounds.memory_bytes.get();
        let mut lost = 0;
        for record in records {
            let cost = chunk::cost(1, record.bytes.len());
            if cost > limit {
                lost += 1;
                for reader in &mut self.readers {
                    reader.lost.memory_full += 1;
                    reader.progress.lose(Some(record.time));
                }
                continue;
            }
            while self.front.bytes() + cost > limit {
                lost += self.give_way();
            }
            self.front.push(record);
        }
        Appended { lost }
    }

    pub(super) fn peek_live(&self, reader: usize, limits: Limits) -> Option<Batch> {
        let mut batch = Batch::default();
        for ids in self.live(reader) {
            if self.front.copy(ids, limits, &mut batch) {
                break;
            }
        }
        (!batch.is_empty()).then_some(batch)
    }

    pub(super) fn release(&mut self, reader: usize, ids: Range<u64>) -> Vec<Range<u64>> {
        let ids = ids.start..ids.end.min(self.front.next_id());
        let released = self.readers[reader].pending.remove(ids);
        self.advance(reader);
        self.forget_unneeded();
        released
    }

    /// Takes these from all readers. Returns how many records some reader lacked.
    pub(super) fn lose(&mut self, ids: Range<u64>, why: Loss) -> u64 {
        let ids = ids.start..ids.end.min(self.front.next_id());
        let mut all = Vec::new();
        let earliest = self.earliest(&ids);
        for reader in &mut self.readers {
            let removed = reader.pending.remove(ids.clone());
            let records: u64 = removed.iter().map(|range| range.end - range.start).sum();
            match why {
                Loss::SpoolFull => reader.lost.spool_full += records,
                Loss::MemoryFull => reader.lost.memory_full += records,
                Loss::Damaged => reader.lost.damaged += records,
            }
            if records > 0 {
                reader.progress.lose(earliest);
            }
            all.extend(removed);
        }
        (0..self.readers.len()).for_each(|reader| self.advance(reader));
        self.forget_unneeded();
        Pending::of(all, ids.end).count(0..ids.end)
    }

    /// The first records on the disk, at `from` or after it, that the reader lacks.
    pub(super) fn backlog_from(&self, reader: usize, from: u64) -> Option<Range<u64>> {
        self.readers[reader].pending.within(from..self.front.start()).next()
    }

    pub(super) fn learn_time(&mut self, reader: usize, id: u64, time: Timestamp) {
        self.readers[reader].known = Some((id, time));
    }

    pub(super) fn held(&self, reader: usize) -> Held {
        let pending = &self.readers[reader].pending;
        let records = pending.count(0..self.front.next_id());
        Held {
            records,
            backlog_records: pending.count(0..self.front.start()),
            oldest: if records == 0 { None } else { self.oldest(reader) },
            lost: self.readers[reader].lost,
        }
    }

    /// Since when the oldest record in memory waits for the reader.
    pub(super) fn live_waits_since(&self, reader: usize) -> Option<Instant> {
        self.front.arrived(self.live(reader).next()?.start)
    }

    /// Whether there is no point in waiting for more: a whole batch waits in memory, or memory is half full of what is
    /// not on the disk.
    pub(super) fn is_full(&self, reader: usize, limits: Limits) -> bool {
        let mut records = 0;
        let mut bytes = 0;
        for ids in self.live(reader) {
            records += ids.end - ids.start;
            bytes += self.front.payload_bytes(ids);
        }
        records >= limits.records.get() as u64 || bytes >= limits.bytes.get() as u64 || self.is_half_full()
    }

    /// How long until something has to be done with the disk. `None`: not before something happens here.
    pub(super) fn due_in(&self, now: Instant) -> Option<Duration> {
        // A note that has time does not hold up the next attempt with a disk that failed.
        let noted = self.notes_at(now).filter(|at| self.retry_at.is_none() || *at <= now + NOTE);
        let tidied = self.has_unneeded_segments().then_some(now);
        let due = [self.writes_at(now), noted, tidied].into_iter().flatten().min();
        let due = match self.retry_at {
            Some(retry_at) => Some(due.map_or(retry_at, |due| due.max(retry_at))),
            None if self.degraded => Some(now),
            None => due,
        };
        due.map(|due| due.saturating_duration_since(now))
    }

    /// Whether it is time to write what is in memory alone. A disk that failed is tried with it.
    pub(super) fn must_write(&self, now: Instant) -> bool {
        self.degraded || self.retry_at.is_some() || self.writes_at(now).is_some_and(|at| at <= now)
    }

    fn writes_at(&self, now: Instant) -> Option<Instant> {
        let ids = self.unsafe_ids();
        if ids.is_empty() {
            return None;
        }
        if self.is_half_full() {
            return Some(now);
        }
        let age = match self.bounds.durability {
            Durability::Balanced => self.bounds.age,
            Durability::Strict => STRICT_AGE,
        };
        Some(self.front.arrived(ids.start).unwrap_or(now) + age)
    }

    /// What must be written so that nothing that a reader lacks is in memory alone.
    pub(super) fn unsafe_ids(&self) -> Range<u64> {
        let from = self.safe_id.max(self.front.start());
        let next_id = self.front.next_id();
        let lacked = self.readers.iter().map(|reader| reader.pending.first_from(from)).min();
        lacked.unwrap_or(next_id).min(next_id)..next_id
    }

    /// What was appended until now is before this mark. Marks only grow.
    pub(super) fn mark(&mut self, mark: u64) {
        let next_id = self.front.next_id();
        match self.marks.waiting.back_mut() {
            Some((_, last)) if mark <= *last => {}
            Some((at, last)) if *at == next_id => *last = mark,
            _ if mark > self.marks.reached => self.marks.waiting.push_back((next_id, mark)),
            _ => {}
        }
    }

    /// The last mark such that each record before it is on the disk, with every reader, or counted as lost.
    pub(super) fn safe_mark(&mut self) -> u64 {
        let safe_below = self.unsafe_ids().start;
        while let Some((_, mark)) = self.marks.waiting.pop_front_if(|(at, _)| *at <= safe_below) {
            self.marks.reached = mark;
        }
        self.marks.reached
    }

    /// What was on the disk until it had to make room there. It is in memory as long as there is room.
    pub(super) fn expired_ids(&self) -> Range<u64> {
        let start = self.front.start();
        start..self.expired_below.max(start)
    }

    /// The file with these ids is about to go, to make room on the disk.
    pub(super) fn expire(&mut self, ids: Range<u64>) {
        self.expired_below = self.expired_below.max(ids.end);
        self.lose(ids.start..ids.end.min(self.front.start()), Loss::SpoolFull);
    }

    /// Of memory: what cannot leave it without a loss.
    pub(super) fn at_risk_bytes(&self) -> usize {
        self.front.cost(self.unsafe_ids())
    }

    /// A copy of the first of these ids that are still here.
    pub(super) fn piece(&self, ids: Range<u64>, limits: Limits) -> Option<Batch> {
        let mut batch = Batch::default();
        self.front.copy(ids, limits, &mut batch);
        (!batch.is_empty()).then_some(batch)
    }

    /// Everything below this id that a reader lacks is on the disk. In `strict` the newest stay in memory, as far as they
    /// are less than half of it: the rest is for what is still to come.
    pub(super) fn is_safe_below(&mut self, id: u64) {
        self.safe_id = self.safe_id.max(id);
        // Nobody writes what no reader lacks.
        self.safe_id = self.safe_id.max(self.unsafe_ids().start);
        // What did not become safe will be written again.
        self.expired_below = self.expired_below.min(self.safe_id);
        (0..self.readers.len()).for_each(|reader| self.advance(reader));
        match self.bounds.durability {
            Durability::Balanced => {
                self.lose(self.expired_ids(), Loss::SpoolFull);
                self.front.drop_before(self.safe_id);
            }
            Durability::Strict => {
                let on_disk = self.expired_below..self.safe_id;
                while on_disk.contains(&self.front.start()) && self.front.bytes() >= self.half() {
                    self.front.drop_before(self.front.start() + 1);
                }
            }
        }
    }

    pub(super) fn disk_is(&mut self, segments: Vec<Segment>, last_is_open: bool) {
        (self.disk, self.last_is_open) = (segments, last_is_open);
    }

    /// `is_taken`: it has the records all the same, and failed at something else.
    pub(super) fn disk_failed(&mut self, now: Instant, is_taken: bool) {
        self.degraded |= !is_taken;
        self.retry_at = Some(now + RETRY);
    }

    /// The disk took nothing when it was opened. It is tried again at once.
    pub(super) fn start_degraded(&mut self) {
        self.degraded = true;
    }

    pub(super) fn disk_works(&mut self) {
        self.degraded = false;
        self.retry_at = None;
    }

    /// Whether it is time to note what the readers have taken.
    pub(super) fn note_is_due(&self, now: Instant) -> bool {
        self.notes_at(now).is_some_and(|at| at <= now)
    }

    fn notes_at(&self, now: Instant) -> Option<Instant> {
        let begun = self.begun();
        let every = match self.disk.is_empty() {
            // The first time must not be forgotten: what is missing after it is known by it.
            _ if begun > self.noted_begun => return Some(now),
            false => NOTE,
            true if begun > 0 => QUIET_NOTE,
            true => return None,
        };
        Some(self.noted_at.map_or(now, |at| at + every))
    }

    pub(super) fn noted(&mut self, now: Instant) {
        self.noted_at = Some(now);
        self.noted_begun = self.begun();
    }

    /// How many readers have anything that they may not lose.
    fn begun(&self) -> usize {
        self.readers.iter().filter(|reader| reader.progress.reached().is_some()).count()
    }

    pub(super) fn needs(&self, ids: &Range<u64>) -> bool {
        self.readers.iter().any(|reader| reader.pending.within(ids.clone()).next().is_some())
    }

    pub(super) fn has_unneeded_segments(&self) -> bool {
        let kept = usize::from(self.last_is_open && self.keeps_the_open_segment());
        self.disk.iter().rev().skip(kept).any(|segment| !self.needs(&segment.ids))
    }

    /// `strict` writes every second: it goes on with the file that it has, though nobody needs what is in it. Unless
    /// the disk takes nothing: then the room of that file may be what it lacks.
    pub(super) fn keeps_the_open_segment(&self) -> bool {
        self.bounds.durability == Durability::Strict && !self.degraded
    }

    pub(super) fn state(&self) -> State {
        let next_id = self.front.next_id();
        let readers: BTreeMap<String, ReaderState> = self
            .readers
            .iter()
            .map(|reader| {
                let pending = reader.pending.within(0..next_id).collect();
                let state = ReaderState {
                    pending,
                    watermark_micros: reader.progress.reached().map(Timestamp::as_micros),
                    torn_micros: reader.progress.torn().map(Timestamp::as_micros),
                    oldest_micros: self.oldest_of(reader).map(Timestamp::as_micros),
                };
                (reader.name.clone(), state)
            })
            .collect();
        State::new(next_id, self.safe_id, readers)
    }

    fn live(&self, reader: usize) -> impl Iterator<Item = Range<u64>> {
        self.readers[reader].pending.within(self.front.start()..self.front.next_id())
    }

    /// What is on the disk as well does not count: it makes room when it has to.
    fn is_half_full(&self) -> bool {
        self.at_risk_bytes() >= self.half()
    }

    fn half(&self) -> usize {
        self.bounds.memory_bytes.get() / 2
    }

    /// The oldest record leaves memory. Returns how many were lost by that.
    fn give_way(&mut self) -> u64 {
        let oldest = self.front.start();
        let lost = if oldest < self.expired_below {
            self.lose(oldest..oldest + 1, Loss::SpoolFull)
        } else if oldest < self.safe_id {
            0
        } else {
            self.lose(oldest..oldest + 1, Loss::MemoryFull)
        };
        self.front.drop_before(oldest + 1);
        lost
    }

    fn forget_unneeded(&mut self) {
        let start = self.front.start();
        let lacked = self.readers.iter().map(|reader| reader.pending.first_from(start)).min();
        self.front.drop_before(lacked.unwrap_or(u64::MAX));
    }

    /// Everything that the source told until then was appended.
    pub(super) fn told(&mut self, until: Timestamp) {
        let next_id = self.front.next_id();
        self.readers.iter_mut().for_each(|reader| reader.progress.told(next_id, until));
        (0..self.readers.len()).for_each(|reader| self.advance(reader));
    }

    /// What went is appended once more from now on.
    pub(super) fn begin_mending(&mut self) {
        self.readers.iter_mut().for_each(|reader| reader.progress.begin_mending());
    }

    /// It was, from this time on.
    pub(super) fn mended(&mut self, from: Timestamp) {
        let next_id = self.front.next_id();
        self.readers.iter_mut().for_each(|reader| reader.progress.mended(next_id, from));
        (0..self.readers.len()).for_each(|reader| self.advance(reader));
    }

    /// Up to the first record that is neither with the reader nor on the disk.
    fn advance(&mut self, reader: usize) {
        let reader = &mut self.readers[reader];
        let safe_below = reader.pending.first_from(self.safe_id).min(self.front.next_id());
        reader.progress.advance(safe_below);
    }

    /// The time of the first of these, of records on the disk as well as it is known without reading.
    fn earliest(&self, ids: &Range<u64>) -> Option<Timestamp> {
        let in_memory = ids.start.max(self.front.start())..ids.end.min(self.front.next_id());
        let in_memory = in_memory.filter_map(|id| self.front.get(id)).map(|record| record.time).min();
        let on_disk = self.disk.iter().filter(|segment| segment.ids.start < ids.end && ids.start < segment.ids.end);
        on_disk.filter_map(|segment| segment.first_time).chain(in_memory).min()
    }

    fn oldest(&self, reader: usize) -> Option<Timestamp> {
        self.oldest_of(&self.readers[reader])
    }

    fn oldest_of(&self, reader: &ReaderLedger) -> Option<Timestamp> {
        let first = reader.pending.first_from(0);
        if let Some(record) = self.front.get(first) {
            return Some(record.time);
        }
        if first >= self.front.next_id() {
            return None;
        }
        let known = reader.known.filter(|(id, _)| *id == first).map(|(_, time)| time);
        let segment = || self.disk.iter().find(|segment| segment.ids.end > first && segment.first_time.is_some());
        known.or_else(|| segment()?.first_time)
    }
}
