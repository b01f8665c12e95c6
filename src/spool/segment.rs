//! A file of records. The format, version 1:
//!
//! 1. A segment is named after the id of its first record, in twenty digits: `00000000000000004711.segment`.
//! 2. It is a header, frames ([`super::frame`]) and, if it was closed in good order, an end mark.
//! 3. The header is `HASPOOL`, the version in one byte, the first id in eight, the time of the first record in eight,
//!    and the CRC-32 of these 24 bytes. The name, the version and the place of the checksum stay in all versions.
//! 4. A header that is damaged says nothing, and the name takes its place; one that is sound and of another version
//!    belongs to another program, which is not disturbed.
//! 5. The ids of the frames grow by one. An id that is not there is a record that was lost.
//! 6. The end mark is `0xFD`, the CRC-32 of the first id and what follows, the number of records in eight bytes and the
//!    length of all before the mark in eight. It is the last thing in the file.
//! 7. A file without an end mark ends with its last sound frame.
//! 8. A segment ends at the latest where the next one begins: an id belongs to the later file.
//! 9. Whatever is not a sound frame is skipped up to the next one: a damaged frame costs its own record and no other.
//! 10. A segment is written by one process, once, from its beginning to its end. Nothing is changed in it afterwards.

use std::io;

use crate::model::record::Record;
use crate::model::time::Timestamp;

use super::frame::{self, Decoded, Frame};
use super::storage::Storage;

pub(super) const HEADER: usize = 28;
pub(super) const END_MARK: usize = 21;

const MAGIC: &[u8; 7] = b"HASPOOL";
const VERSION: u8 = 1;
const END_MARKER: u8 = 0xFD;
const SUFFIX: &str = ".segment";

/// How much is read at once. A frame that is longer is read as a whole.
const WINDOW: usize = 128 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    Sound {
        first_id: u64,
        first_time: Timestamp,
    },
    /// It is sound, and its format is not ours.
    Newer {
        version: u8,
    },
    Damaged,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndMark {
    pub(super) records: u64,
    /// Of header and frames.
    pub(super) length: u64,
}

pub(super) fn name(first_id: u64) -> String {
    format!("{first_id:020}{SUFFIX}")
}

/// `None` for a file that is no segment.
pub(super) fn first_id_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit())).then(|| digits.parse().ok())?
}

pub(super) fn encode_header(first_id: u64, first_time: Timestamp) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..7].copy_from_slice(MAGIC);
    header[7] = VERSION;
    header[8..16].copy_from_slice(&first_id.to_le_bytes());
    header[16..24].copy_from_slice(&first_time.as_micros().to_le_bytes());
    let checksum = crc32fast::hash(&header[..24]);
    header[24..].copy_from_slice(&checksum.to_le_bytes());
    header
}

pub(super) fn decode_header(bytes: &[u8]) -> Header {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Header::Damaged };
    if header[..7] != *MAGIC || header[24..] != crc32fast::hash(&header[..24]).to_le_bytes() {
        return Header::Damaged;
    }
    if header[7] != VERSION {
        return Header::Newer { version: header[7] };
    }
    Header::Sound {
        first_id: number(&header[8..16]),
        first_time: Timestamp::from_micros(number(&header[16..24]).cast_signed()),
    }
}

pub(super) fn encode_end_mark(first_id: u64, mark: EndMark) -> [u8; END_MARK] {
    let mut bytes = [0; END_MARK];
    bytes[0] = END_MARKER;
    bytes[5..13].copy_from_slice(&mark.records.to_le_bytes());
    bytes[13..].copy_from_slice(&mark.length.to_le_bytes());
    let checksum = frame::checksum(first_id, &bytes[5..]);
    bytes[1..5].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// `bytes` are the last ones of a file.
pub(super) fn decode_end_mark(first_id: u64, bytes: &[u8]) -> Option<EndMark> {
    let mark = bytes.last_chunk::<END_MARK>()?;
    let sound = mark[0] == END_MARKER && mark[1..5] == frame::checksum(first_id, &mark[5..]).to_le_bytes();
    sound.then(|| EndMark { records: number(&mark[5..13]), length: number(&mark[13..]) })
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Where a scan is: what lies before was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: u64,
    /// The id of the next record.
    pub(super) id: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    Record(u64, Record<'a>),
    /// The ids from the one that was next to this one have no record. The scan goes on with this one.
    Gap {
        until: u64,
    },
    /// There is no sound frame any more.
    End,
}

/// Walks over the frames of one segment.
pub(super) struct Scan<'a, S: Storage> {
    storage: &'a S,
    file: &'a S::File,
    first_id: u64,
    /// The first id that does not belong to the segment.
    end_id: u64,
    /// How many bytes of the file may hold frames.
    length: u64,
    place: Place,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a, S: Storage> Scan<'a, S> {
    pub(super) fn new(storage: &'a S, file: &'a S::File, first_id: u64, end_id: u64, length: u64) -> Self {
        let place = Place { at: HEADER as u64, id: first_id };
        Self { storage, file, first_id, end_id, length, place, window: Vec::new(), window_at: 0 }
    }

    pub(super) fn go_to(&mut self, place: Place) {
        self.place = place;
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    pub(super) fn next(&mut self) -> io::Result<Found<'_>> {
        let Some((at, frame)) = self.find()? else {
            self.place.at = self.place.at.max(self.length);
            return Ok(Found::End);
        };
        if frame.id > self.place.id {
            self.place = Place { at, id: frame.id };
            return Ok(Found::Gap { until: frame.id });
        }
        self.place = Place { at: at + frame.length as u64, id: frame.id + 1 };
        Ok(Found::Record(frame.id, frame.record(self.seen(at))))
    }

    /// The next sound frame, wherever it is.
    fn find(&mut self) -> io::Result<Option<(u64, Frame)>> {
        let mut at = self.place.at;
        while let Some(marked) = self.marker_from(at)? {
            match self.frame_at(marked)? {
                Some(frame) if (self.place.id..self.end_id).contains(&frame.id) => return Ok(Some((marked, frame))),
                _ => at = marked + 1,
            }
        }
        Ok(None)
    }

    fn marker_from(&mut self, mut at: u64) -> io::Result<Option<u64>> {
        while at < self.length {
            self.look_at(at, 1)?;
            let seen = self.seen(at);
            match seen.iter().position(|byte| *byte == frame::MARKER) {
                Some(before) => return Ok(Some(at + before as u64)),
                None => at += seen.len() as u64,
            }
        }
        Ok(None)
    }

    fn frame_at(&mut self, at: u64) -> io::Result<Option<Frame>> {
        let mut needs = frame::FIXED;
        loop {
            if at + needs as u64 > self.length {
                return Ok(None);
            }
            self.look_at(at, needs)?;
            match frame::decode(self.first_id, self.seen(at)) {
                Decoded::Frame(frame) => return Ok(Some(frame)),
                Decoded::Incomplete { needs: more } if more > needs => needs = more,
                Decoded::Incomplete { .. } | Decoded::Damaged => return Ok(None),
            }
        }
    }

    /// Reads until the window covers so many bytes. A file that turns out to be shorter is that short.
    fn look_at(&mut self, at: u64, needs: usize) -> io::Result<()> {
        if at >= self.window_at && at + needs as u64 <= self.window_at + self.window.len() as u64 {
            return Ok(());
        }
        let left = usize::try_from(self.length - at).unwrap_or(usize::MAX);
        self.window.clear();
        self.window.resize(needs.max(WINDOW).min(left), 0);
        self.window_at = at;
        let read = match self.storage.read_at(self.file, at, &mut self.window) {
            Ok(read) => read,
            Err(error) => {
                self.window.clear();
                return Err(error);
            }
        };
        if read < self.window.len() {
            self.window.truncate(read);
            self.length = at + read as u64;
        }
        Ok(())
    }

    /// What the window holds from there on.
    fn seen(&self, at: u64) -> &[u8] {
        let from = usize::try_from(at - self.window_at).unwrap_or(usize::MAX).min(self.window.len());
        &self.window[from..]
    }
}

#[cfg(test)]
mod tests {
    use super::{END_MARK, EndMark, Found, HEADER, Header, Scan, WINDOW, frame};
    use crate::model::record::Record;
    use crate::model::time::Timestamp;
    use crate::spool::simulated::Simulated;
    use crate::spool::storage::Storage as _;

    fn text(id: u64) -> Vec<u8> {
        format!("record {id}\n").into_bytes()
    }

    /// Header and the records of these ids; also where each frame begins.
    fn file(first_id: u64, ids: impl IntoIterator<Item = u64>) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = super::encode_header(first_id, Timestamp::from_micros(1)).to_vec();
        let mut starts = Vec::new();
        for id in ids {
            starts.push(bytes.len());
            let record = Record { time: Timestamp::from_micros(1), context: None, bytes: &text(id) };
            frame::encode(first_id, id, record, &mut bytes);
        }
        (bytes, starts)
    }

    fn scan(first_id: u64, end_id: u64, bytes: &[u8]) -> Vec<u64> {
        let storage = Simulated::new();
        storage.put("a", bytes);
        let file = storage.open("a").unwrap();
        let mut scan = Scan::new(&storage, &file, first_id, end_id, bytes.len() as u64);
        let mut ids = Vec::new();
        loop {
            match scan.next().unwrap() {
                Found::Record(id, record) => {
                    assert!(record.bytes == text(id) || record.bytes.len() > WINDOW);
                    ids.push(id);
                }
                Found::Gap { until } => assert!(ids.last().is_none_or(|last| last + 1 < until)),
                Found::End => return ids,
            }
        }
    }

    #[test]
    fn a_name_says_the_first_id_and_nothing_else_is_a_name() {
        assert_eq!(super::first_id_of(&super::name(4_711)), Some(4_711));
        for foreign in
            ["state.json", "4711.segment", "0000000000000000471x.segment", "00000000000000004711", ".segment"]
        {
            assert_eq!(super::first_id_of(foreign), None, "{foreign}");
        }
        assert_eq!(super::first_id_of("99999999999999999999.segment"), None, "no 64-bit number");
    }

    #[test]
    fn a_flipped_bit_damages_header_and_end_mark() {
        let first_time = Timestamp::from_micros(-5);
        let mut header = super::encode_header(9, first_time);
        assert_eq!(super::decode_header(&header), Header::Sound { first_id: 9, first_time });
        for bit in 0..HEADER * 8 {
            header[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(super::decode_header(&header), Header::Damaged, "{bit}");
            header[bit / 8] ^= 1 << (bit % 8);
        }
        let mark = EndMark { records: 7, length: 900 };
        let mut bytes = super::encode_end_mark(9, mark);
        assert_eq!(super::decode_end_mark(9, &bytes), Some(mark));
        assert_eq!(super::decode_end_mark(8, &bytes), None, "of another segment");
        for bit in 0..END_MARK * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(super::decode_end_mark(9, &bytes), None, "{bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_sound_header_of_another_version_is_told_apart_from_a_damaged_one() {
        let mut header = super::encode_header(9, Timestamp::from_micros(0));
        header[7] = 2;
        let checksum = crc32fast::hash(&header[..24]);
        header[24..].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(super::decode_header(&header), Header::Newer { version: 2 });
    }

    #[test]
    fn a_flipped_bit_at_every_byte_costs_the_record_that_holds_it() {
        let (sound, starts) = file(100, 100..110);
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x10;
            let hit = starts.iter().rposition(|start| at >= *start).map(|place| 100 + place as u64);
            let expected: Vec<u64> = (100..110).filter(|id| Some(*id) != hit).collect();
            assert_eq!(scan(100, u64::MAX, &bytes), expected, "at {at}");
        }
    }

    #[test]
    fn a_torn_write_at_every_byte_of_the_last_record_costs_that_record() {
        let (sound, starts) = file(0, 0..5);
        for cut in starts[4]..sound.len() {
            assert_eq!(scan(0, u64::MAX, &sound[..cut]), [0, 1, 2, 3], "cut at {cut}");
            let mut zeroed = sound.clone();
            zeroed[cut..].fill(0);
            assert_eq!(scan(0, u64::MAX, &zeroed), [0, 1, 2, 3], "zeroes from {cut}");
        }
    }

    #[test]
    fn a_segment_ends_where_the_next_begins() {
        assert_eq!(scan(0, 3, &file(0, 0..5).0), [0, 1, 2]);
    }

    #[test]
    fn a_record_longer_than_a_window_is_read_and_skipped_like_any_other() {
        let (mut bytes, _) = file(0, [0]);
        let long = vec![b'x'; 3 * WINDOW];
        let start = bytes.len();
        let record = Record { time: Timestamp::from_micros(1), context: None, bytes: &long };
        frame::encode(0, 1, record, &mut bytes);
        frame::encode(0, 2, Record { bytes: &text(2), ..record }, &mut bytes);
        assert_eq!(scan(0, u64::MAX, &bytes), [0, 1, 2]);
        for at in [start, start + 5, start + 30, start + 2 * WINDOW] {
            bytes[at] ^= 1;
            assert_eq!(scan(0, u64::MAX, &bytes), [0, 2], "{}", at - start);
            bytes[at] ^= 1;
        }
    }
}
