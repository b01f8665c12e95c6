//! Sends the files of an archive to a target, line by line as they were filed.

use std::io;
use std::path::Path;

use anyhow::Context;

use super::{Complaints, Exit};
use crate::app::voice::Voice;
use crate::cli::Replay;
use crate::config::settings::{Delivery, Settings, Target};
use crate::deliver::carrier::{Carried, Carrier};
use crate::influx::archived::{Piece, Reader};
use crate::influx::in_options_of;
use crate::model::fate::Rejection;
use crate::model::record::{Batch, Record};
use crate::model::time::Timestamp;

/// To the target that is wished for, or to the first.
pub(super) async fn run(
    settings: &Settings,
    targets: &[(&str, &Target)],
    wishes: &Replay,
    voice: &mut Voice,
) -> anyhow::Result<Exit> {
    let wanted = wishes.target.as_deref();
    let found = targets.iter().find(|(name, _)| wanted.is_none_or(|wanted| wanted == *name));
    let (name, target) = found.context("there is no such target")?;
    let mut readers = Vec::new();
    for path in &wishes.files {
        if is_part_of(path, target) {
            voice.say(&format!("{}: this is the archive that it would be sent to", path.display()));
            return Ok(Exit::Options);
        }
        readers.push(Reader::open(path).with_context(|| format!("cannot open {}", path.display()))?);
    }
    let mut exit = Exit::Done;
    for (path, reader) in wishes.files.iter().zip(readers) {
        let carrier = if wishes.dry_run { None } else { Some(Carrier::open(target, &settings.delivery)?) };
        let mut replay = FileReplay::new(carrier, &settings.delivery);
        let read = replay.run(path, reader, voice).await;
        voice.say(&format!("{}: {}", path.display(), replay.summary(name)));
        read.with_context(|| format!("cannot read {}", path.display()))?;
        if !replay.is_complete() {
            exit = Exit::Unavailable;
        }
        // The next file would not fare better.
        if replay.gave_up.is_some() {
            break;
        }
    }
    Ok(exit)
}

/// Such a file would grow while it is read.
fn is_part_of(path: &Path, target: &Target) -> bool {
    let Target::Archive(folder) = target else { return false };
    match (path.canonicalize(), folder.canonicalize()) {
        (Ok(path), Ok(folder)) => path.parent() == Some(&folder),
        _ => false,
    }
}

/// One file, and what became of its lines.
struct FileReplay<'a> {
    /// `None`: the lines are only counted.
    carrier: Option<Carrier>,
    limits: &'a Delivery,
    /// What is sent next.
    batch: Batch,
    lines: u64,
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
    stored: u64,
    /// Older than what the database keeps.
    expired: u64,
    /// Without a number, and the database keeps nothing else.
    not_representable: u64,
    complaints: Complaints,
    /// Lines that do not say when: a database would take the present for it.
    without_time: u64,
    damaged_bytes: u64,
    gave_up: Option<String>,
}

impl<'a> FileReplay<'a> {
    fn new(carrier: Option<Carrier>, limits: &'a Delivery) -> Self {
        Self {
            carrier,
            limits,
            batch: Batch::default(),
            lines: 0,
            oldest: None,
            newest: None,
            stored: 0,
            expired: 0,
            not_representable: 0,
            complaints: Complaints::default(),
            without_time: 0,
            damaged_bytes: 0,
            gave_up: None,
        }
    }

    async fn run(&mut self, path: &Path, mut reader: Reader, voice: &mut Voice) -> io::Result<()> {
        let mut line = Vec::new();
        while let Some(piece) = reader.next_piece()? {
            let lines = match piece {
                Piece::Lines(lines) => lines,
                Piece::Damaged { bytes } => {
                    self.damaged_bytes += bytes;
                    continue;
                }
            };
            for text in lines.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end) {
                if text.is_empty() || text.starts_with(b"#") {
                    continue;
                }
                let Some(time) = time_of(text) else {
                    self.without_time += 1;
                    continue;
                };
                line.clear();
                line.extend_from_slice(text);
                line.push(b'\n');
                if !self.has_room_for(line.len()) && !self.send(voice).await {
                    return Ok(());
                }
                self.batch.push(self.lines, Record { time, context: None, bytes: &line });
                self.lines += 1;
                self.oldest = Some(self.oldest.map_or(time, |oldest| oldest.min(time)));
                self.newest = self.newest.max(Some(time));
            }
            let done = reader.position().saturating_mul(100) / reader.length().max(1);
            voice.progress(|| format!("{}: {done} %, {} lines", path.display(), self.lines));
        }
        self.send(voice).await;
        Ok(())
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        let fits = self.batch.bytes().len() + bytes <= self.limits.batch_bytes.get();
        self.batch.is_empty() || (fits && self.batch.len() < self.limits.batch_points.get())
    }

    /// `false`: the database does not take any more.
    async fn send(&mut self, voice: &mut Voice) -> bool {
        let batch = std::mem::take(&mut self.batch);
        let Some(carrier) = &mut self.carrier else { return true };
        let ids: Vec<u64> = (0..batch.len()).map(|at| batch.id(at)).collect();
        let Carried { through, refused, gave_up } = carrier.carry(batch, &mut |words| voice.retrying(words)).await;
        let settled = ids.iter().take_while(|id| through.is_some_and(|through| **id <= through)).count();
        self.stored += (settled - refused.len()) as u64;
        for refused in refused {
            match refused.reason {
                Rejection::Expired => self.expired += 1,
                Rejection::NoNumber => self.not_representable += 1,
                Rejection::SetAside(_) => self.complaints.add(&refused.words),
            }
        }
        self.gave_up = gave_up;
        self.gave_up.is_none()
    }

    /// Whether everything that can be in the database is there.
    fn is_complete(&self) -> bool {
        self.gave_up.is_none() && self.damaged_bytes == 0 && self.without_time == 0 && self.complaints.sum() == 0
    }

    fn summary(&self, target: &str) -> String {
        let Self { lines, stored, expired, .. } = self;
        let mut told = vec![match &self.carrier {
            Some(_) => format!("{stored} lines stored in {target}"),
            None => match (self.oldest, self.newest) {
                (Some(oldest), Some(newest)) => format!("{lines} lines for {target}, from {oldest} to {newest}"),
                _ => format!("no lines for {target}"),
            },
        }];
        if *expired > 0 {
            told.push(format!("  {expired} are older than what the database keeps"));
        }
        if self.not_representable > 0 {
            told.push(format!("  {} have no number, and the database keeps nothing else", self.not_representable));
        }
        told.extend(self.complaints.lines());
        if self.without_time > 0 {
            told.push(format!("  {} do not end with a time and were not sent", self.without_time));
        }
        if self.damaged_bytes > 0 {
            told.push(format!("  {} bytes of the file are damaged", self.damaged_bytes));
        }
        if let Some(words) = self.gave_up.as_ref().map(|words| in_options_of(target, words)) {
            told.push(format!("  the rest was not sent: {words}"));
        }
        told.join("\n")
    }
}

/// The nanoseconds after the last space. A text that ends a line has a quote after it.
fn time_of(line: &[u8]) -> Option<Timestamp> {
    let (_, last) = std::str::from_utf8(line).ok()?.rsplit_once(' ')?;
    let nanos: i64 = last.parse().ok()?;
    Some(Timestamp::from_micros(nanos.div_euclid(1_000)))
}

#[cfg(test)]
mod tests {
    use super::time_of;

    #[test]
    fn the_time_of_a_line_stands_at_its_end() {
        for (line, micros) in [
            ("m value=1 1795448700123456789", Some(1_795_448_700_123_456)),
            ("m value=1 -1", Some(-1)),
            ("m,tag=a\\ b text=\"at 7\" 5000", Some(5)),
            ("m text=\"at 7\"", None),
            ("m value=1", None),
            ("m value=1 1e9", None),
            ("m value=1 99999999999999999999", None),
            ("1", None),
        ] {
            assert_eq!(time_of(line.as_bytes()).map(crate::model::time::Timestamp::as_micros), micros, "{line}");
        }
    }
}
