//! The segments of a folder: writing at the end, reading anywhere, removing whole files.
//!
//! It does not know who reads. What is written is safe when [`Log::sync`] says so, and only then. After an error the
//! caller still has the records: they are written again, to another file. A file whose sync failed is never synced a
//! second time, because the system then says "done" for bytes that it has forgotten.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::model::record::{Batch, Record};
use crate::model::time::Timestamp;

use super::Limits;
use super::fault::{IoError, Operation};
use super::frame;
use super::segment::{self, END_MARK, EndMark, Found, HEADER, Place, Scan};
use super::storage::Storage;

/// How long and how often a file may fail to be read before its records count as damaged. The medium may recover; a
/// reader that waits for it for ever would be worse.
const READ_FOR: Duration = Duration::from_mins(5);
const READ_ATTEMPTS: u32 = 10;

/// How long a file that cannot be read is left alone: a failing disk may take seconds to say so.
const READ_PAUSE: Duration = Duration::from_secs(5);

pub(super) struct Log<S: Storage> {
    storage: S,
    /// Oldest first.
    segments: VecDeque<Segment>,
    /// The file of the last segment, while it is being written.
    open: Option<Open<S::File>>,
    segment_bytes: u64,
    disk_bytes: u64,
    has_new_name: bool,
    /// Per reader, where it began to read and where it stopped.
    places: Vec<[Option<(u64, Place)>; 2]>,
    /// By the reader and the first id of the segment.
    unreadable: BTreeMap<(usize, u64), Unreadable>,
    pub(super) done: Done,
}

/// What the log did, since somebody last took note of it.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) written_bytes: u64,
    pub(super) syncs: Vec<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) ids: Range<u64>,
    /// `None` if the header is damaged.
    pub(super) first_time: Option<Timestamp>,
    /// Of the file.
    pub(super) bytes: u64,
    /// Of header and frames.
    pub(super) length: u64,
}

/// A segment that a reader could not read when it last tried.
struct Unreadable {
    since: Instant,
    tried: Instant,
    attempts: u32,
}

struct Open<F> {
    file: F,
    synced_id: u64,
    synced_length: u64,
}

/// What a look into the segments gave.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Records that are not there any more, though they should be.
    pub(super) missing: Vec<Range<u64>>,
    /// Everything wanted below this id is in the batch, missing, or left out.
    pub(super) through: u64,
    /// The batch takes no more.
    pub(super) full: bool,
    /// Something cannot be read now. It is tried again.
    pub(super) left_out: bool,
    /// Why, if that was found out just now.
    pub(super) error: Option<IoError>,
}

/// Why a segment gave nothing, or not all.
enum Stopped {
    /// There is no such file.
    Gone,
    /// The file is there and cannot be opened.
    Closed(io::Error),
    /// Everything wanted below `next` is in the batch.
    Unreadable { next: u64, error: io::Error },
}

impl<S: Storage> Log<S> {
    pub(super) fn new(storage: S, segments: VecDeque<Segment>, disk_bytes: u64, readers: usize) -> Self {
        Self {
            storage,
            segments,
            open: None,
            segment_bytes: (disk_bytes / 16).clamp(64 * 1024, 4 * 1024 * 1024),
            disk_bytes,
            has_new_name: false,
            places: vec![[None; 2]; readers],
            unreadable: BTreeMap::new(),
            done: Done::default(),
        }
    }

    pub(super) fn storage(&self) -> &S {
        &self.storage
    }

    pub(super) fn segments(&self) -> impl ExactSizeIterator<Item = &Segment> {
        self.segments.iter()
    }

    /// Whether the last segment is being written to.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// How many bytes of records one write should bring.
    pub(super) fn write_bytes(&self) -> usize {
        usize::try_from(self.segment_bytes / 4).unwrap_or(usize::MAX).min(1024 * 1024)
    }

    /// Whether the oldest segment must go before these records fit.
    pub(super) fn is_over(&self, batch: &Batch) -> bool {
        !self.segments.is_empty() && self.bytes() + size(batch) > self.disk_bytes
    }

    /// Whether these records never fit.
    pub(super) fn is_too_much(&self, batch: &Batch) -> bool {
        size(batch) > self.disk_bytes
    }

    /// The ids follow each other.
    pub(super) fn append(&mut self, batch: &Batch) -> Result<(), IoError> {
        let (first, last) = (batch.id(0), batch.id(batch.len() - 1));
        let fits = |segment: &Segment| segment.ids.end == first && segment.bytes + size(batch) <= self.segment_bytes;
        if self.open.is_none() || !self.segments.back().is_some_and(fits) {
            self.close_segment()?;
            self.begin_segment(first, batch.get(0).time)?;
        }
        let (Some(open), Some(segment)) = (&self.open, self.segments.back_mut()) else {
            unreachable!("a segment was begun")
        };
        let mut bytes = Vec::with_capacity(usize::try_from(size(batch)).unwrap_or(0));
        for at in 0..batch.len() {
            frame::encode(segment.ids.start, batch.id(at), batch.get(at), &mut bytes);
        }
        if let Err(error) = self.storage.write_at(&open.file, segment.length, &bytes) {
            self.cut_back();
            return Err(IoError::new(Operation::Write, error));
        }
        segment.ids.end = last + 1;
        segment.length += bytes.len() as u64;
        segment.bytes = segment.length;
        self.done.written_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Everything below this id that was appended, and is not part of a removed segment, is safe.
    pub(super) fn safe_id(&self) -> u64 {
        match (&self.open, self.segments.back()) {
            (Some(open), _) => open.synced_id,
            (None, Some(last)) => last.ids.end,
            (None, None) => 0,
        }
    }

    pub(super) fn sync(&mut self) -> Result<(), IoError> {
        let (Some(open), Some(segment)) = (&mut self.open, self.segments.back()) else { return Ok(()) };
        if open.synced_length < segment.length {
            let began = Instant::now();
            let outcome = self.storage.sync(&open.file);
            self.done.syncs.push(began.elapsed());
            if let Err(error) = outcome {
                self.abandon();
                return Err(IoError::new(Operation::Sync, error));
            }
        }
        if self.has_new_name {
            if let Err(error) = self.storage.sync_names() {
                self.abandon();
                return Err(IoError::new(Operation::Sync, error));
            }
            self.has_new_name = false;
        }
        (open.synced_id, open.synced_length) = (segment.ids.end, segment.length);
        Ok(())
    }

    /// Ends the file that is being written, in good order. What was appended to it is then safe.
    pub(super) fn close_segment(&mut self) -> Result<(), IoError> {
        let (Some(open), Some(segment)) = (&self.open, self.segments.back_mut()) else { return Ok(()) };
        let records = segment.ids.end - segment.ids.start;
        let mark = segment::encode_end_mark(segment.ids.start, EndMark { records, length: segment.length });
        // A segment without an end mark is as good, only slower to open.
        segment.bytes = segment.length + END_MARK as u64;
        if self.storage.write_at(&open.file, segment.length, &mark).is_err() {
            let _ = self.storage.truncate(&open.file, segment.length);
        }
        self.sync()?;
        self.open = None;
        Ok(())
    }

    /// Removes the segments that nobody needs; the one that is being written only if that is asked for.
    pub(super) fn remove_unneeded(
        &mut self,
        and_the_open_one: bool,
        is_needed: impl Fn(&Segment) -> bool,
    ) -> Result<(), IoError> {
        let mut at = 0;
        while let Some(segment) = self.segments.get(at) {
            let is_open = self.open.is_some() && at + 1 == self.segments.len();
            if is_needed(segment) || (is_open && !and_the_open_one) {
                at += 1;
            } else {
                self.remove(at)?;
            }
        }
        Ok(())
    }

    pub(super) fn remove_oldest(&mut self) -> Result<(), IoError> {
        self.remove(0)
    }

    /// Puts records of `wanted` into the batch until it is full. `wanted` is not empty. What cannot be read is left out, so
    /// that it does not hold up what comes after it; if that lasts, it is missing.
    pub(super) fn read(
        &mut self,
        reader: usize,
        wanted: Range<u64>,
        limits: Limits,
        batch: &mut Batch,
        now: Instant,
    ) -> Look {
        let at = self.segments.partition_point(|segment| segment.ids.end <= wanted.start);
        let here = match self.segments.get(at) {
            Some(segment) if segment.ids.start <= wanted.start => segment.clone(),
            // No file holds them.
            other => {
                let through = other.map_or(wanted.end, |later| later.ids.start.min(wanted.end));
                let missing = Range { start: wanted.start, end: through };
                return Look { missing: vec![missing], through, ..Look::default() };
            }
        };
        let wanted = wanted.start..wanted.end.min(here.ids.end);
        let key = (reader, here.ids.start);
        if self.unreadable.get(&key).is_some_and(|part| now < part.tried + READ_PAUSE) {
            return Look { through: wanted.end, left_out: true, ..Look::default() };
        }
        match self.read_segment(reader, &here, wanted.clone(), limits, batch) {
            Ok(look) => {
                self.unreadable.remove(&key);
                look
            }
            Err(Stopped::Gone) => Look { through: wanted.end, missing: vec![wanted], ..Look::default() },
            Err(Stopped::Closed(error)) => self.leave_out(key, wanted, IoError::new(Operation::Open, error), now),
            Err(Stopped::Unreadable { next, error }) => {
                self.leave_out(key, next..wanted.end, IoError::new(Operation::Read, error), now)
            }
        }
    }

    fn leave_out(&mut self, key: (usize, u64), rest: Range<u64>, error: IoError, now: Instant) -> Look {
        let part = self.unreadable.entry(key).or_insert(Unreadable { since: now, tried: now, attempts: 0 });
        part.tried = now;
        part.attempts += 1;
        let left_out = part.attempts < READ_ATTEMPTS || now.saturating_duration_since(part.since) < READ_FOR;
        if !left_out {
            self.unreadable.remove(&key);
        }
        let through = rest.end;
        let missing = if left_out { Vec::new() } else { vec![rest] };
        Look { missing, through, full: false, left_out, error: Some(error) }
    }

    fn read_segment(
        &mut self,
        reader: usize,
        segment: &Segment,
        wanted: Range<u64>,
        limits: Limits,
        batch: &mut Batch,
    ) -> Result<Look, Stopped> {
        let file = self.storage.open(&segment::name(segment.ids.start)).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Stopped::Gone,
            _ => Stopped::Closed(error),
        })?;
        let mut scan = Scan::new(&self.storage, &file, segment.ids.start, segment.ids.end, segment.length);
        let known = self.places[reader].iter().flatten();
        let known = known.filter(|(first, place)| *first == segment.ids.start && place.id <= wanted.start);
        if let Some((_, place)) = known.max_by_key(|(_, place)| place.id) {
            scan.go_to(*place);
        }
        let began = scan.place();
        let mut look = Look::default();
        loop {
            let place = scan.place();
            if place.id >= wanted.end {
                look.through = wanted.end;
                break;
            }
            let next = place.id.max(wanted.start);
            match scan.next() {
                Err(error) if look.missing.is_empty() => return Err(Stopped::Unreadable { next, error }),
                // What is known to be missing is told before the error comes back.
                Err(_) => {
                    look.through = next;
                    look.full = true;
                    break;
                }
                Ok(Found::Record(id, _)) if id < wanted.start => {}
                Ok(Found::Record(_, record)) if !has_room(batch, record, limits) => {
                    look.through = next;
                    look.full = true;
                    scan.go_to(place);
                    break;
                }
                Ok(Found::Record(id, record)) => batch.push(id, record),
                Ok(Found::Gap { until }) => note(&mut look.missing, next..until.min(wanted.end)),
                Ok(Found::End) => {
                    note(&mut look.missing, next..wanted.end);
                    look.through = wanted.end;
                    break;
                }
            }
        }
        self.places[reader] = [Some((segment.ids.start, began)), Some((segment.ids.start, scan.place()))];
        Ok(look)
    }

    fn begin_segment(&mut self, first_id: u64, first_time: Timestamp) -> Result<(), IoError> {
        let failed = |error| IoError::new(Operation::Open, error);
        let file = self.storage.create(&segment::name(first_id)).map_err(failed)?;
        // One of this name that got no record and could not be removed.
        self.segments.retain(|segment| segment.ids.start != first_id);
        self.has_new_name = true;
        let length = HEADER as u64;
        let segment = Segment { ids: first_id..first_id, first_time: Some(first_time), bytes: length, length };
        self.segments.push_back(segment);
        let header = segment::encode_header(first_id, first_time);
        let outcome = self.storage.write_at(&file, 0, &header);
        self.open = Some(Open { file, synced_id: first_id, synced_length: 0 });
        if let Err(error) = outcome {
            self.abandon();
            return Err(IoError::new(Operation::Write, error));
        }
        self.done.written_bytes += length;
        Ok(())
    }

    /// After a write that failed half-way.
    fn cut_back(&mut self) {
        let (Some(open), Some(segment)) = (&self.open, self.segments.back()) else { return };
        let is_without_records = segment.ids.is_empty();
        if is_without_records || self.storage.truncate(&open.file, segment.length).is_err() {
            self.abandon();
        }
    }

    /// Leaves the file as it was when it was last synced, as well as the medium allows, and never writes to it again.
    fn abandon(&mut self) {
        let (Some(open), Some(segment)) = (self.open.take(), self.segments.back_mut()) else { return };
        // Not needed for what follows: the next segment begins where this one is told to end.
        let _ = self.storage.truncate(&open.file, open.synced_length);
        segment.ids.end = open.synced_id;
        segment.length = open.synced_length;
        segment.bytes = open.synced_length;
        if segment.ids.is_empty() && self.storage.remove(&segment::name(segment.ids.start)).is_ok() {
            self.segments.pop_back();
        }
    }

    fn remove(&mut self, at: usize) -> Result<(), IoError> {
        let Some(segment) = self.segments.get(at) else { return Ok(()) };
        match self.storage.remove(&segment::name(segment.ids.start)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(IoError::new(Operation::Remove, error)),
            _ => {}
        }
        // Not synced: a file that comes back after a power cut is one that nobody needs.
        if at + 1 == self.segments.len() {
            self.open = None;
        }
        let first_id = segment.ids.start;
        self.unreadable.retain(|(_, unreadable), _| *unreadable != first_id);
        self.segments.remove(at);
        Ok(())
    }
}

/// The most that these records add to the folder.
fn size(batch: &Batch) -> u64 {
    let frames: usize = batch.records().map(frame::length).sum();
    (HEADER + frames + END_MARK) as u64
}

/// The first record is given whatever its size.
pub(super) fn has_room(batch: &Batch, record: Record<'_>, limits: Limits) -> bool {
    batch.is_empty()
        || (batch.len() < limits.records.get() && batch.bytes().len() + record.bytes.len() <= limits.bytes.get())
}

fn note(missing: &mut Vec<Range<u64>>, ids: Range<u64>) {
    if !ids.is_empty() {
        missing.push(ids);
    }
}
