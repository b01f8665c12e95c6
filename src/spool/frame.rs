//! One record as bytes in a file.
//!
//! ```text
//! marker  checksum  length  offset  time  kind  [context]  payload
//! 1       4         4       4       8     1     0 or 26    length
//! ```
//!
//! Numbers are little endian. `length` is that of the payload, `offset` the distance of the record's id from the first
//! id of its segment. The checksum is the CRC-32 of the segment's first id and of everything after the checksum: a
//! frame that lies on reused blocks of the disk, left there by another segment, does not fit.

use crc32fast::Hasher;

use crate::model::event::ContextId;
use crate::model::record::Record;
use crate::model::time::Timestamp;

/// Begins each frame. It is no part of any UTF-8 text, so payloads that are text hold none.
pub(super) const MARKER: u8 = 0xFE;

/// Everything but context and payload.
pub(super) const FIXED: usize = 22;

const CHECKED: usize = 5;
const WITHOUT_CONTEXT: u8 = 0;
const WITH_CONTEXT: u8 = 1;
const CONTEXT: usize = 26;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decoded {
    Frame(Frame),
    /// It goes on beyond the bytes that were given: not all of it was read, or not all of it was written.
    Incomplete {
        /// From the marker on.
        needs: usize,
    },
    /// No frame begins here, or it is not what was written.
    Damaged,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) id: u64,
    pub(super) length: usize,
    time: Timestamp,
    context: Option<ContextId>,
}

impl Frame {
    /// `bytes` are those it was decoded from.
    pub(super) fn record<'a>(&self, bytes: &'a [u8]) -> Record<'a> {
        let start = FIXED + self.context.map_or(0, |_| CONTEXT);
        Record { time: self.time, context: self.context, bytes: &bytes[start..self.length] }
    }
}

pub(super) fn length(record: Record<'_>) -> usize {
    FIXED + record.context.map_or(0, |_| CONTEXT) + record.bytes.len()
}

/// Appends the frame. `id` is less than 2^32 ids after `first_id`, the payload shorter than 4 GiB.
pub(super) fn encode(first_id: u64, id: u64, record: Record<'_>, into: &mut Vec<u8>) {
    let start = into.len();
    let payload = u32::try_from(record.bytes.len()).expect("a record fits in memory, which is bounded below 4 GiB");
    let offset = u32::try_from(id - first_id).expect("a segment is too small for 2^32 records");
    into.push(MARKER);
    into.extend_from_slice(&[0; 4]);
    into.extend_from_slice(&payload.to_le_bytes());
    into.extend_from_slice(&offset.to_le_bytes());
    into.extend_from_slice(&record.time.as_micros().to_le_bytes());
    into.push(if record.context.is_some() { WITH_CONTEXT } else { WITHOUT_CONTEXT });
    if let Some(context) = &record.context {
        into.extend_from_slice(context.as_str().as_bytes());
    }
    into.extend_from_slice(record.bytes);
    let checksum = checksum(first_id, &into[start + CHECKED..]);
    into[start + 1..start + CHECKED].copy_from_slice(&checksum.to_le_bytes());
}

/// What begins at the first of `bytes`.
pub(super) fn decode(first_id: u64, bytes: &[u8]) -> Decoded {
    if bytes.first().is_some_and(|first| *first != MARKER) {
        return Decoded::Damaged;
    }
    let Some(fixed) = bytes.first_chunk::<FIXED>() else { return Decoded::Incomplete { needs: FIXED } };
    let context = match fixed[21] {
        WITHOUT_CONTEXT => 0,
        WITH_CONTEXT => CONTEXT,
        _ => return Decoded::Damaged,
    };
    let length = FIXED + context + number(&fixed[5..9]);
    let Some(frame) = bytes.get(..length) else { return Decoded::Incomplete { needs: length } };
    if checksum(first_id, &frame[CHECKED..]).to_le_bytes() != fixed[1..CHECKED] {
        return Decoded::Damaged;
    }
    let mut micros = [0; 8];
    micros.copy_from_slice(&fixed[13..21]);
    let context = std::str::from_utf8(&frame[FIXED..FIXED + context]).ok().and_then(ContextId::parse);
    if context.is_some() != (fixed[21] == WITH_CONTEXT) {
        return Decoded::Damaged;
    }
    Decoded::Frame(Frame {
        id: first_id + number(&fixed[9..13]) as u64,
        length,
        time: Timestamp::from_micros(i64::from_le_bytes(micros)),
        context,
    })
}

pub(super) fn checksum(first_id: u64, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&first_id.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// Four bytes as a number.
fn number(bytes: &[u8]) -> usize {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::{Decoded, FIXED, decode, encode, length};
    use crate::model::event::ContextId;
    use crate::model::record::Record;
    use crate::model::time::Timestamp;

    fn records() -> [Record<'static>; 4] {
        let context = ContextId::parse("01JD4X7G9Q8M5V3T2R1N0P6KZW");
        [
            Record { time: Timestamp::from_micros(1_795_439_842_803_082), context, bytes: b"W,entity=a value=1 1\n" },
            Record { time: Timestamp::from_micros(-1), context: None, bytes: b"" },
            Record { time: Timestamp::from_micros(i64::MAX), context, bytes: b"" },
            Record { time: Timestamp::from_micros(i64::MIN), context: None, bytes: &[super::MARKER; 70] },
        ]
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for (id, record) in (1_000..).zip(records()) {
            let mut bytes = b"before".to_vec();
            encode(900, id, record, &mut bytes);
            bytes.extend_from_slice(b"after");
            let Decoded::Frame(frame) = decode(900, &bytes[6..]) else { panic!("{record:?}") };
            assert_eq!((frame.id, frame.record(&bytes[6..]), frame.length), (id, record, length(record)));
        }
    }

    #[test]
    fn a_cut_frame_says_how_much_it_needs() {
        for record in records() {
            let mut bytes = Vec::new();
            encode(0, 7, record, &mut bytes);
            for cut in 0..bytes.len() {
                let needs = if cut < FIXED { FIXED } else { bytes.len() };
                assert_eq!(decode(0, &bytes[..cut]), Decoded::Incomplete { needs }, "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_never_a_record() {
        for record in records() {
            let mut bytes = Vec::new();
            encode(0, 7, record, &mut bytes);
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(!matches!(decode(0, &bytes), Decoded::Frame(_)), "bit {bit} of {record:?}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn a_frame_of_another_segment_does_not_fit() {
        let mut bytes = Vec::new();
        encode(0, 7, records()[0], &mut bytes);
        assert_eq!(decode(1, &bytes), Decoded::Damaged);
    }
}
