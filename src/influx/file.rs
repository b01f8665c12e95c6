//! The archive: gzip files of line protocol in a folder, one for each day (UTC) of the events.
//!
//! A file is named after the day on which its events happened, not on which they were written: what is fetched from
//! history later lands beside what came at once, and a day can be imported, kept or deleted as a whole. Each batch is
//! one gzip member, so a file is complete after every write and `gzip -dc` gives its lines. A batch that failed halfway
//! is written again: the same line twice is the same point.
//!
//! A batch counts as stored when the operating system has it. The disk is told to write at most every 10 seconds: with
//! a batch each second, more would wear out a memory card. So a power cut can cost the last 10 seconds (30 when nothing
//! followed), as it can in a database.
//!
//! Each member's head says how long it is (an extra field, RFC 1952 2.3.1.1): the members can be walked without reading
//! them, and a member that a power cut tore is found and cut off before the next one follows it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use time::Date;
use tokio::task::JoinHandle;

use crate::model::record::Batch;
use crate::model::time::Timestamp;

use super::compress::Gzip;
use super::{Answer, Fault, Sent};

const SYNC: Duration = Duration::from_secs(10);

/// Fixed head (RFC 1952) with the flag for an extra field, 8 bytes of it: our subfield `HA` with 4 bytes of length.
pub(super) const HEAD: [u8; 16] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 8, 0, b'H', b'A', 4, 0];
const HEAD_BYTES: usize = HEAD.len() + 4;
const TAIL_BYTES: usize = 8;

pub struct Archive {
    folder: PathBuf,
    /// For one batch.
    deadline: Duration,
    /// Away while a write is under way.
    writer: Option<Writer>,
    /// The write that did not end in time. The next one follows its end: two at once would mix their members.
    late: Option<JoinHandle<(Written, Writer)>>,
}

/// The bytes, or which file refused.
type Written = Result<u64, (PathBuf, io::Error)>;

/// The part that blocks.
struct Writer {
    folder: PathBuf,
    gzip: Gzip,
    /// The file that was written to last.
    current: Option<Current>,
}

struct Current {
    day: Date,
    length: u64,
    synced: Instant,
}

impl Archive {
    #[must_use]
    pub fn new(folder: PathBuf, deadline: Duration) -> Self {
        Self { folder, deadline, writer: None, late: None }
    }

    pub(super) fn describe(&self) -> String {
        format!("files in {}", self.folder.display())
    }

    pub(super) async fn send(&mut self, batch: &Batch) -> Sent {
        let answer = match tokio::time::timeout(self.deadline, self.write(batch)).await {
            Ok(Ok(bytes)) => return Sent { answer: Answer::Filed, bytes, unfit: Vec::new() },
            Ok(Err((path, err))) => disk(&path, &err),
            Err(_) => self.no_answer(),
        };
        Sent { answer, bytes: 0, unfit: Vec::new() }
    }

    /// May be dropped at any moment: a write that is under way is waited for by the next.
    async fn write(&mut self, batch: &Batch) -> Written {
        if let Some(late) = &mut self.late {
            self.writer = late.await.ok().map(|(_, writer)| writer);
            self.late = None;
        }
        let days = by_day(batch);
        let mut writer = self.writer.take().unwrap_or_else(|| Writer::new(self.folder.clone()));
        let writing = self.late.insert(tokio::task::spawn_blocking(move || (writer.write(&days), writer)));
        let ended = writing.await;
        self.late = None;
        let (written, writer) = ended.map_err(|_| (self.folder.clone(), io::Error::other("the writing task ended")))?;
        self.writer = Some(writer);
        written
    }

    /// Whether files can be made in the folder.
    pub(super) async fn try_writing(&self) -> Result<(), Answer> {
        let folder = self.folder.clone();
        let trying = tokio::task::spawn_blocking(move || {
            let path = folder.join(".ha-ingestor-check");
            fs::create_dir_all(&folder)
                .and_then(|()| fs::write(&path, b"can this be written?"))
                .and_then(|()| fs::remove_file(&path))
                .map_err(|err| disk(&folder, &err))
        });
        match tokio::time::timeout(self.deadline, trying).await {
            Ok(tried) => tried.expect("trying does not panic"),
            Err(_) => Err(self.no_answer()),
        }
    }

    /// A disk that sleeps, or a network share that has gone away.
    fn no_answer(&self) -> Answer {
        Answer::Nothing {
            fault: Fault::TimedOut,
            words: format!(
                "{}: no answer in time: a write takes longer than {} s: check the disk, or the network share",
                self.folder.display(),
                self.deadline.as_secs_f32()
            ),
        }
    }
}

fn disk(path: &Path, error: &io::Error) -> Answer {
    Answer::Disk { kind: error.kind(), words: format!("cannot write {}: {error}", path.display()) }
}

fn by_day(batch: &Batch) -> BTreeMap<Date, Vec<u8>> {
    let mut days: BTreeMap<Date, Vec<u8>> = BTreeMap::new();
    for record in batch.records() {
        days.entry(day(record.time)).or_default().extend_from_slice(record.bytes);
    }
    days
}

/// Times that no calendar has are filed under the first day there is.
fn day(time: Timestamp) -> Date {
    let moment = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(time.as_micros()) * 1_000);
    moment.map_or(time::OffsetDateTime::UNIX_EPOCH.date(), time::OffsetDateTime::date)
}

impl Writer {
    fn new(folder: PathBuf) -> Self {
        Self { folder, gzip: Gzip::new(), current: None }
    }

    fn write(&mut self, days: &BTreeMap<Date, Vec<u8>>) -> Written {
        let mut bytes = 0;
        for (day, lines) in days {
            bytes += self.append(*day, lines).map_err(|err| (self.path(*day), err))?;
        }
        Ok(bytes)
    }

    fn append(&mut self, day: Date, lines: &[u8]) -> io::Result<u64> {
        if let Some(left) = self.current.take_if(|current| current.day != day) {
            self.sync(left.day)?;
        }
        // Opened anew for each batch: whoever moves or deletes a file gets a new one, not lines that nobody can find.
        let path = self.path(day);
        let (mut file, length) = open(&path, self.current.as_ref().map(|current| current.length))?;
        let member = member(&mut self.gzip, lines);
        if let Err(err) = file.write_all(&member) {
            // Half a member would hide what is written after it.
            self.current = None;
            file.set_len(length)?;
            return Err(err);
        }
        let length = length + member.len() as u64;
        let mut synced = self.current.as_ref().map_or_else(Instant::now, |current| current.synced);
        if synced.elapsed() >= SYNC {
            file.sync_data()?;
            synced = Instant::now();
        }
        self.current = Some(Current { day, length, synced });
        Ok(member.len() as u64)
    }

    fn sync(&self, day: Date) -> io::Result<()> {
        match File::open(self.path(day)) {
            Ok(file) => file.sync_data(),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(err) => Err(err),
        }
    }

    fn path(&self, day: Date) -> PathBuf {
        self.folder.join(format!("{day}.lp.gz"))
    }
}

/// Opens for appending. `expected`: the length that we left it with; any other means that its end has to be looked at.
fn open(path: &Path, expected: Option<u64>) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    let mut file = match options.open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(folder)?;
            let file = options.create(true).open(path)?;
            File::open(folder)?.sync_all()?;
            file
        }
        Err(err) => return Err(err),
    };
    let length = file.metadata()?.len();
    if Some(length) == expected {
        return Ok((file, length));
    }
    let whole = whole_members(&mut file, length)?;
    if whole < length {
        tracing::warn!("cut {} bytes off the end of {}: a write to it was interrupted", length - whole, path.display());
        file.set_len(whole)?;
    }
    Ok((file, whole))
}

/// The length of the file up to the end of its last whole member. Members that are not ours end the walk and count as
/// whole: somebody packed the file again, and what follows is none of our business.
fn whole_members(file: &mut File, length: u64) -> io::Result<u64> {
    let mut at = 0;
    while at < length {
        if length - at < HEAD_BYTES as u64 {
            return Ok(at);
        }
        let mut head = [0; HEAD_BYTES];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut head)?;
        let (fixed, size) = head.split_at(HEAD.len());
        if fixed != HEAD {
            return Ok(length);
        }
        let size = u64::from(u32::from_le_bytes(size.try_into().expect("the head ends with four bytes")));
        if size < (HEAD_BYTES + TAIL_BYTES) as u64 || size > length - at {
            return Ok(at);
        }
        at += size;
    }
    Ok(at)
}

fn member(gzip: &mut Gzip, lines: &[u8]) -> Vec<u8> {
    let data = gzip.deflate(lines);
    let size = HEAD_BYTES + data.len() + TAIL_BYTES;
    let mut member = Vec::with_capacity(size);
    member.extend_from_slice(&HEAD);
    member.extend_from_slice(&low_bytes(size));
    member.extend_from_slice(data);
    member.extend_from_slice(&libdeflater::crc32(lines).to_le_bytes());
    member.extend_from_slice(&low_bytes(lines.len()));
    member
}

/// A batch is far below 4 GiB, and gzip itself counts modulo 2^32.
#[expect(clippy::cast_possible_truncation, reason = "that is what the format asks for")]
fn low_bytes(size: usize) -> [u8; 4] {
    (size as u32).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;
    use std::path::Path;
    use std::time::Duration;

    use super::{Archive, day};
    use crate::influx::Answer;
    use crate::model::record::Batch;
    use crate::model::record::Record;
    use crate::model::time::Timestamp;

    const SOON: Duration = Duration::from_secs(10);
    const DAY: i64 = 86_400_000_000;

    fn batch(records: &[(i64, &str)]) -> Batch {
        let mut batch = Batch::default();
        for (id, (micros, line)) in (0..).zip(records) {
            batch.push(id, Record { time: Timestamp::from_micros(*micros), context: None, bytes: line.as_bytes() });
        }
        batch
    }

    async fn send(archive: &mut Archive, records: &[(i64, &str)]) {
        let sent = archive.send(&batch(records)).await;
        assert!(matches!(sent.answer, Answer::Filed), "{:?}", sent.answer);
        assert!(sent.bytes > 0);
    }

    /// As the user would read it.
    fn unpacked(path: &Path) -> String {
        let output = std::process::Command::new("gzip").arg("-dc").arg(path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[tokio::test]
    async fn lines_are_filed_by_the_day_of_their_event() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made when needed");
        let mut archive = Archive::new(folder.clone(), SOON);
        send(&mut archive, &[(0, "a\n"), (DAY, "b\n"), (1, "c\n")]).await;
        send(&mut archive, &[(DAY + 1, "d\n")]).await;
        assert_eq!(unpacked(&folder.join("1970-01-01.lp.gz")), "a\nc\n");
        assert_eq!(unpacked(&folder.join("1970-01-02.lp.gz")), "b\nd\n");
    }

    #[tokio::test]
    async fn a_torn_end_is_cut_off_before_the_next_member() {
        for torn in [1, 19, 25, 40] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("1970-01-01.lp.gz");
            send(&mut Archive::new(folder.path().into(), SOON), &[(0, "first\n")]).await;
            let whole = fs::read(&path).unwrap();
            let mut end = whole.clone();
            end.extend_from_slice(&whole[..torn.min(whole.len() - 1)]);
            fs::write(&path, end).unwrap();
            send(&mut Archive::new(folder.path().into(), SOON), &[(0, "second\n")]).await;
            assert_eq!(unpacked(&path), "first\nsecond\n", "{torn}");
        }
    }

    #[tokio::test]
    async fn a_file_that_others_packed_or_took_away_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1970-01-01.lp.gz");
        let plain = folder.path().join("1970-01-01.lp");
        fs::write(&plain, "theirs\n").unwrap();
        assert!(std::process::Command::new("gzip").arg(&plain).status().unwrap().success());
        let mut archive = Archive::new(folder.path().into(), SOON);
        send(&mut archive, &[(0, "ours\n")]).await;
        assert_eq!(unpacked(&path), "theirs\nours\n");
        fs::remove_file(&path).unwrap();
        send(&mut archive, &[(0, "again\n")]).await;
        assert_eq!(unpacked(&path), "again\n");
    }

    #[tokio::test]
    async fn a_disk_that_refuses_is_an_answer_and_no_loss() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a file, not a folder");
        fs::write(&file, "").unwrap();
        let sent = Archive::new(file.join("archive"), SOON).send(&batch(&[(0, "a\n")])).await;
        assert!(matches!(sent.answer, Answer::Disk { kind: io::ErrorKind::NotADirectory, .. }), "{:?}", sent.answer);
    }

    #[test]
    fn every_time_has_a_day() {
        assert_eq!(day(Timestamp::from_micros(-1)).to_string(), "1969-12-31");
        assert_eq!(day(Timestamp::from_micros(i64::MAX)).to_string(), "1970-01-01");
    }
}
