//! What a folder holds when the service starts. Looking changes nothing.
//!
//! Only a segment that has no end mark is read, so a full folder opens as fast as an empty one. Files that are no
//! segments, or of which nothing is left, are named to the caller and stop nobody. The one thing that does is a format
//! that this program does not know: to go on would throw away what a newer one has kept.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use crate::model::time::Timestamp;

use super::log::Segment;
use super::opening::{Finding, OpenError};
use super::segment::{self, END_MARK, Found, HEADER, Header, Scan};
use super::state;
use super::storage::{Listed, Storage};

#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// Oldest first, none empty, none overlaps the next.
    pub(super) segments: VecDeque<Segment>,
    /// No record here has this id or one above it.
    pub(super) next_id: u64,
    pub(super) findings: Vec<Finding>,
    /// Segments of which nothing is left.
    pub(super) useless: Vec<String>,
}

/// `noted_id`: no record here is known to have this id or one above it.
pub(super) fn recover<S: Storage>(storage: &S, noted_id: u64) -> Result<Recovery, OpenError> {
    let mut recovery = Recovery { next_id: noted_id, ..Recovery::default() };
    let mut listed: Vec<(u64, Listed)> = Vec::new();
    for file in storage.list().map_err(OpenError::List)? {
        match segment::first_id_of(&file.name) {
            // No home lives long enough for an id beyond this; one would leave no room for those to come.
            Some(first_id) if first_id <= u64::MAX / 2 => listed.push((first_id, file)),
            _ if state::is_ours(&file.name) => {}
            _ => recovery.findings.push(Finding::Foreign { file: file.name }),
        }
    }
    let (mut is_last, mut has_unsynced) = (true, false);
    // From the last one on: only what is a segment can say where the one before it ends.
    listed.sort_by_key(|(first_id, _)| std::cmp::Reverse(*first_id));
    let mut end_id = u64::MAX;
    for (first_id, file) in listed {
        let segment = match examine(storage, &file, first_id..end_id) {
            Ok(Examined::Segment { segment, torn_bytes, is_closed }) => {
                if torn_bytes > 0 {
                    recovery.findings.push(Finding::Torn { file: file.name.clone(), bytes: torn_bytes });
                }
                // A process that was killed may have left it in the memory of the system alone.
                if is_last || !is_closed {
                    has_unsynced = true;
                    if let Err(error) = storage.open(&file.name).and_then(|file| storage.sync(&file)) {
                        recovery.findings.push(Finding::Unsynced { file: file.name, why: error.to_string() });
                    }
                }
                is_last = false;
                segment
            }
            Ok(Examined::Empty) => {
                recovery.findings.push(Finding::NoRecords { file: file.name.clone() });
                recovery.useless.push(file.name);
                continue;
            }
            Ok(Examined::Misnamed) => {
                recovery.next_id = recovery.next_id.max(first_id + 1);
                recovery.findings.push(Finding::Misnamed { file: file.name });
                continue;
            }
            Ok(Examined::Newer { version }) => return Err(OpenError::newer(&file.name, version)),
            Err(error) => {
                let ids = first_id..if end_id == u64::MAX { noted_id.max(first_id + 1) } else { end_id };
                recovery.findings.push(Finding::Unreadable { file: file.name, why: error.to_string() });
                Segment { ids, first_time: None, bytes: file.bytes, length: file.bytes }
            }
        };
        recovery.next_id = recovery.next_id.max(segment.ids.end);
        end_id = first_id;
        recovery.segments.push_front(segment);
    }
    if has_unsynced && let Err(error) = storage.sync_names() {
        recovery.findings.push(Finding::Unsynced { file: ".".to_owned(), why: error.to_string() });
    }
    Ok(recovery)
}

enum Examined {
    Segment {
        segment: Segment,
        torn_bytes: u64,
        /// In good order.
        is_closed: bool,
    },
    Empty,
    Misnamed,
    Newer {
        version: u8,
    },
}

fn examine<S: Storage>(storage: &S, listed: &Listed, ids: Range<u64>) -> io::Result<Examined> {
    let file = storage.open(&listed.name)?;
    let mut header = [0; HEADER];
    let read = storage.read_at(&file, 0, &mut header)?;
    let first_time = match segment::decode_header(&header[..read]) {
        Header::Newer { version } => return Ok(Examined::Newer { version }),
        Header::Sound { first_id, .. } if first_id != ids.start => return Ok(Examined::Misnamed),
        Header::Sound { first_time, .. } => Some(first_time),
        Header::Damaged => None,
    };
    let segment = |end: u64, length: u64, first_time: Option<Timestamp>| Segment {
        ids: ids.start..end,
        first_time,
        bytes: listed.bytes,
        length,
    };
    if let Some(before_mark) = listed.bytes.checked_sub(END_MARK as u64) {
        let mut mark = [0; END_MARK];
        let read = storage.read_at(&file, before_mark, &mut mark)?;
        if let Some(mark) = segment::decode_end_mark(ids.start, &mark[..read])
            && mark.length == before_mark
            && mark.records > 0
        {
            let end = ids.end.min(ids.start.saturating_add(mark.records));
            let segment = segment(end, mark.length, first_time);
            return Ok(Examined::Segment { segment, torn_bytes: 0, is_closed: true });
        }
    }
    let mut scan = Scan::new(storage, &file, ids.start, ids.end, listed.bytes);
    let mut length = HEADER as u64;
    let mut end = ids.start;
    loop {
        match scan.next()? {
            Found::Record(id, _) => {
                end = id + 1;
                length = scan.place().at;
            }
            Found::Gap { .. } => {}
            Found::End if end == ids.start => return Ok(Examined::Empty),
            Found::End => {
                let torn_bytes = listed.bytes.saturating_sub(length);
                let segment = segment(end, length, first_time);
                return Ok(Examined::Segment { segment, torn_bytes, is_closed: false });
            }
        }
    }
}
