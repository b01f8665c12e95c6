//! Reads an archive back: the files that [`super::file`] writes, and what others packed with gzip.
//!
//! Lines come in pieces, in the order of the file. What a power cut or a bad disk damaged is skipped: up to the next
//! member where the damaged one says how long it is, else up to the end of the file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::bufread::GzDecoder;

use super::file::HEAD;

/// What is unpacked at once. A member of ours is smaller, so none of its lines is given before its checksum was right.
const PIECE_BYTES: u64 = 16 * 1024 * 1024;

pub struct Reader {
    place: Place,
    length: u64,
    /// Where the current member begins.
    start: u64,
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
}

enum Place {
    Between(BufReader<File>),
    Inside(GzDecoder<BufReader<File>>),
    End,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Whole lines with their line ends.
    Lines(Vec<u8>),
    /// So many bytes of the file cannot be read.
    Damaged { bytes: u64 },
}

impl Reader {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { place: Place::Between(BufReader::new(file)), length, start: 0, begun: Vec::new() })
    }

    /// The length of the file when it was opened.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// How far the reading has come, to the last member that was begun.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.start
    }

    /// `None`: the end. An error is one of the disk.
    pub fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        loop {
            match std::mem::replace(&mut self.place, Place::End) {
                Place::Between(mut source) => {
                    self.start = source.stream_position()?;
                    if !source.fill_buf()?.is_empty() {
                        self.place = Place::Inside(GzDecoder::new(source));
                    } else if !self.begun.is_empty() {
                        // Others may leave out the last line end.
                        self.begun.push(b'\n');
                    }
                }
                Place::Inside(mut member) => {
                    let mut lines = std::mem::take(&mut self.begun);
                    match member.by_ref().take(PIECE_BYTES).read_to_end(&mut lines) {
                        Ok(read) if (read as u64) < PIECE_BYTES => self.place = Place::Between(member.into_inner()),
                        Ok(_) => self.place = Place::Inside(member),
                        Err(err) if is_damage(&err) => return self.skip(member).map(Some),
                        Err(err) => return Err(err),
                    }
                    let end = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
                    self.begun = lines.split_off(end);
                    if !lines.is_empty() {
                        return Ok(Some(Piece::Lines(lines)));
                    }
                }
                Place::End => {
                    let last = std::mem::take(&mut self.begun);
                    return Ok((!last.is_empty()).then_some(Piece::Lines(last)));
                }
            }
        }
    }

    /// Goes to the next member, if there is one that can be found.
    fn skip(&mut self, member: GzDecoder<BufReader<File>>) -> io::Result<Piece> {
        let size = member.header().and_then(|header| header.extra()).and_then(own_size);
        let end = size.and_then(|size| self.start.checked_add(size)).filter(|end| *end < self.length);
        if let Some(end) = end {
            let mut source = member.into_inner();
            source.seek(SeekFrom::Start(end))?;
            self.place = Place::Between(source);
        }
        Ok(Piece::Damaged { bytes: end.unwrap_or(self.length).saturating_sub(self.start) })
    }
}

/// How long one of our members is, from the extra field of its head.
fn own_size(extra: &[u8]) -> Option<u64> {
    let (_, name) = HEAD.split_last_chunk::<4>()?;
    let size = extra.strip_prefix(name)?.try_into().ok().map(u32::from_le_bytes)?;
    (size > 0).then_some(size.into())
}

fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;
    use std::time::Duration;

    use super::{Piece, Reader};
    use crate::influx::Answer;
    use crate::influx::file::Archive;
    use crate::model::record::{Batch, Record};
    use crate::model::time::Timestamp;

    /// Three members of a line each; returns where each begins.
    async fn archive(folder: &Path) -> (std::path::PathBuf, Vec<usize>) {
        let path = folder.join("1970-01-01.lp.gz");
        let mut archive = Archive::new(folder.into(), Duration::from_secs(10));
        let mut starts = Vec::new();
        for (id, line) in ["first\n", "second\n", "third\n"].into_iter().enumerate() {
            starts.push(fs::read(&path).map_or(0, |bytes| bytes.len()));
            let mut batch = Batch::default();
            batch.push(id as u64, Record { time: Timestamp::from_micros(0), context: None, bytes: line.as_bytes() });
            assert!(matches!(archive.send(&batch).await.answer, Answer::Filed));
        }
        (path, starts)
    }

    /// The lines, and the bytes that could not be read.
    fn read(path: &Path) -> (String, u64) {
        let mut reader = Reader::open(path).unwrap();
        let (mut lines, mut damaged) = (Vec::new(), 0);
        while let Some(piece) = reader.next_piece().unwrap() {
            match piece {
                Piece::Lines(piece) => lines.extend(piece),
                Piece::Damaged { bytes } => damaged += bytes,
            }
        }
        (String::from_utf8(lines).unwrap(), damaged)
    }

    #[tokio::test]
    async fn what_was_filed_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = archive(folder.path()).await;
        assert_eq!(read(&path), ("first\nsecond\nthird\n".into(), 0));
    }

    /// At every byte: a file that a power cut tore gives its whole members.
    #[tokio::test]
    async fn a_torn_end_costs_one_member() {
        let folder = tempfile::tempdir().unwrap();
        let (path, starts) = archive(folder.path()).await;
        let whole = fs::read(&path).unwrap();
        for end in starts[1] + 1..starts[2] {
            fs::write(&path, &whole[..end]).unwrap();
            assert_eq!(read(&path), ("first\n".into(), (end - starts[1]) as u64), "{end}");
        }
    }

    /// Every byte of the middle member in turn: never a wrong line, and the others are found again unless it is the length
    /// that is wrong.
    #[tokio::test]
    async fn a_damaged_member_gives_no_line_and_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let (path, starts) = archive(folder.path()).await;
        let whole = fs::read(&path).unwrap();
        let mut skipped = 0;
        for at in starts[1]..starts[2] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, bytes).unwrap();
            let (lines, damaged) = read(&path);
            let known = ["first\n", "first\nthird\n", "first\nsecond\nthird\n"];
            assert!(known.contains(&&*lines), "{at}: {lines:?}");
            assert_eq!(damaged == 0, lines == known[2], "{at}");
            skipped += usize::from(lines == known[1]);
        }
        assert!(skipped >= "second\n".len() + 8, "{skipped}");
    }

    #[test]
    fn what_others_packed_is_read_too() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("theirs.lp");
        let line = format!("m,tag={} value=1 1\n", "x".repeat(100));
        // More than a piece, and the last line has no end.
        let text = format!("{}last", line.repeat(200_000));
        assert!(text.len() as u64 > super::PIECE_BYTES);
        fs::write(&plain, &text).unwrap();
        assert!(Command::new("gzip").arg("-1").arg(&plain).status().unwrap().success());
        let (lines, damaged) = read(&folder.path().join("theirs.lp.gz"));
        assert!(lines == format!("{text}\n") && damaged == 0);
        fs::write(&plain, "no gzip\n").unwrap();
        assert_eq!(read(&plain), (String::new(), 8));
    }
}
