//! Records that some target does not have yet: in memory, and behind that in files.
//!
//! It keeps bytes and gives them back in the order in which they came. It does not know what they mean, who reads them,
//! or whether a network exists. Ids grow by one with every record. Each reader lacks a set of ids; what it
//! lacks and is in memory is *live*, what it lacks and is on the disk alone is its *backlog*.
//!
//! - Nothing that was synced and is not damaged is lost but by the limit of the disk, oldest first. Every loss is counted
//!   for each reader that lacked the record.
//! - A crash, a damaged or a missing file costs what was in it and nothing else, and it opens again. It does not where the
//!   folder cannot be listed or is of a newer version: to go on would mean to write over what is there.
//! - A record is given back as it came, or not at all.
//! - It may be given again after a crash, because what was taken is not noted at once.
//! - [`Spool::append`], [`Spool::peek_live`] and [`Spool::release`] never wait for the disk. [`Spool::sync`],
//!   [`Spool::peek_backlog`], [`Spool::close`] and [`Spool::open`] do, and belong on a thread that may block.

mod chunk;
pub mod fault;
mod frame;
mod front;
mod keep;
mod ledger;
mod log;
pub mod opening;
mod pending;
mod progress;
mod recovery;
mod segment;
pub mod shared;
#[cfg(test)]
mod simulated;
mod state;
pub mod storage;
#[cfg(test)]
mod story;
#[cfg(test)]
mod tests;

use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::{Range, RangeInclusive};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::model::record::{Batch, Record};
use crate::model::time::Timestamp;

use self::fault::{DiskUse, IoError};
use self::ledger::{Ledger, Loss, ReaderLedger};
use self::log::Log;
use self::opening::{Finding, OpenError, Recovered, claim};
use self::recovery::{Recovery, recover};
use self::state::{Loaded, State};
use self::storage::Storage;

/// The place of a reader in the list with which the spool was opened.
pub type Reader = usize;

/// When records go to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// When a reader has lacked them for longer than [`Bounds::age`], when memory is half full, or at the end.
    Balanced,
    /// All of them, within a second.
    Strict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub memory_bytes: NonZeroUsize,
    pub disk_bytes: NonZeroU64,
    pub durability: Durability,
    /// In [`Durability::Balanced`]: how long a reader may lack a record before it goes to the disk.
    pub age: Duration,
}

/// How much a reader takes at once. The first record is given whatever its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub records: NonZeroUsize,
    pub bytes: NonZeroUsize,
}

/// What happened to the older records when new ones came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct Appended {
    /// Records that some reader lacked and that had to go, because memory is full and the disk did not take them.
    pub lost: u64,
}

/// What the spool holds for one reader, and what it lost of it since it was opened: both of the same moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    pub records: u64,
    /// Those that are on the disk alone.
    pub backlog_records: u64,
    /// The time of the oldest one; of one on the disk, as well as it is known without reading.
    pub oldest: Option<Timestamp>,
    pub lost: Lost,
}

/// Records that went although the reader lacked them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    pub spool_full: u64,
    pub memory_full: u64,
    pub damaged: u64,
}

/// What was read from the disk.
#[derive(Debug, Default)]
pub struct Peeked {
    pub batch: Option<Batch>,
    /// Something before its end cannot be read now.
    pub left_out: bool,
    /// Why, if that was found out just now.
    pub error: Option<IoError>,
}

/// What a sync brought to the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Synced {
    pub records: u64,
    pub bytes: u64,
    /// How long each `fsync` took.
    pub syncs: Vec<Duration>,
}

/// See the module. Both locks are short but for `log`, which is held while the disk works.
pub struct Spool<S: Storage> {
    /// Taken before `desk`, never after it.
    log: Mutex<Writer<S>>,
    desk: Mutex<Desk>,
}

struct Writer<S: Storage> {
    log: Log<S>,
    noted: Option<State>,
}

/// What is shared with those who never wait.
struct Desk {
    ledger: Ledger,
    disk: DiskUse,
}

impl<S: Storage> Spool<S> {
    /// Looks through the folder and removes what nobody needs. `readers` have different names.
    pub fn open(storage: S, bounds: Bounds, readers: &[&str]) -> Result<(Self, Recovered), OpenError> {
        let loaded = state::load(&storage);
        let noted_id = if let Loaded::State(state) = &loaded { state.next_id } else { 0 };
        let Recovery { segments, next_id, mut findings, useless } = recover(&storage, noted_id)?;
        let state = match loaded {
            Loaded::State(state) => Some(state),
            Loaded::Newer { format } => return Err(OpenError::newer(state::NAME, format)),
            Loaded::Damaged => {
                findings.push(Finding::StateDamaged);
                None
            }
            Loaded::None => {
                if !segments.is_empty() {
                    findings.push(Finding::StateMissing);
                }
                None
            }
        };
        let torn = findings.iter().filter(|finding| matches!(finding, Finding::Torn { .. })).count() as u64;
        let mut recovered = Recovered { findings, ..Recovered::default() };
        let on_disk: Vec<Range<u64>> = segments.iter().map(|segment| segment.ids.clone()).collect();
        let mut ledgers = Vec::new();
        for name in readers {
            let (pending, found) = claim(name, state.as_ref(), &on_disk, next_id);
            recovered.readers.push(found);
            let progress = state.as_ref().map(|state| state.progress(name, found.missing > 0));
            ledgers.push(ReaderLedger::new(name, pending, progress.unwrap_or_default()));
        }
        for name in state.iter().flat_map(|state| state.readers.keys()) {
            if !readers.contains(&name.as_str()) {
                let (_, found) = claim(name, state.as_ref(), &on_disk, next_id);
                recovered.dropped_readers.push((name.clone(), found.records));
            }
        }
        // Readers mostly lack the same.
        let missing = recovered.readers.iter().map(|found| found.missing).max().unwrap_or_default();
        let segments_now = segments.iter().cloned().collect();
        let ledger = Ledger::new(bounds, ledgers, next_id, segments_now);
        let log = Log::new(storage, segments, bounds.disk_bytes.get(), readers.len());
        let spool = Self {
            log: Mutex::new(Writer { log, noted: None }),
            desk: Mutex::new(Desk { ledger, disk: DiskUse { corrupt_records: torn + missing, ..DiskUse::default() } }),
        };
        spool.tidy_up(&useless, &mut recovered);
        Ok((spool, recovered))
    }

    /// Copies the records. Never waits for the disk; see [`Spool::is_due`] for when it should be given something.
    pub fn append<'a>(&self, records: impl IntoIterator<Item = Record<'a>>, now: Instant) -> Appended {
        self.desk().ledger.append(records, now)
    }

    /// A copy of the oldest records in memory that the reader lacks; they stay.
    #[must_use]
    pub fn peek_live(&self, reader: Reader, limits: Limits) -> Option<Batch> {
        self.desk().ledger.peek_live(reader, limits)
    }

    /// A copy of the oldest records on the disk alone that the reader lacks; they stay. Records that turn out to be
    /// damaged or gone are taken from all readers and counted in [`Lost::damaged`]. A file that cannot be read is left out,
    /// and tried again; after five minutes it counts as damaged.
    pub fn peek_backlog(&self, reader: Reader, limits: Limits, now: Instant) -> Peeked {
        let mut writer = self.writer();
        let mut batch = Batch::default();
        let mut peeked = Peeked::default();
        let mut from = 0;
        loop {
            let Some(wanted) = self.desk().ledger.backlog_from(reader, from) else { break };
            let look = writer.log.read(reader, wanted, limits, &mut batch, now);
            {
                let mut desk = self.desk();
                for ids in look.missing {
                    desk.disk.corrupt_records += desk.ledger.lose(ids, Loss::Damaged);
                }
                if let Some(error) = look.error {
                    desk.count(&error);
                    peeked.error = Some(error);
                }
            }
            peeked.left_out |= look.left_out;
            from = look.through;
            // An empty batch is full of nothing: something could not be read, and the next attempt says what.
            if look.full && !batch.is_empty() {
                break;
            }
        }
        if !batch.is_empty() {
            self.desk().ledger.learn_time(reader, batch.id(0), batch.get(0).time);
            peeked.batch = Some(batch);
        }
        peeked
    }

    /// The reader needs these no longer. Returns those that it lacked until now: fewer, if some had to make room in the
    /// meantime.
    #[must_use]
    pub fn release(&self, reader: Reader, ids: RangeInclusive<u64>) -> Vec<Range<u64>> {
        self.desk().ledger.release(reader, *ids.start()..ids.end().saturating_add(1))
    }

    /// Those of these ids that the reader lacks.
    #[must_use]
    pub fn still_pending(&self, reader: Reader, ids: RangeInclusive<u64>) -> Vec<Range<u64>> {
        let desk = self.desk();
        desk.ledger.reader(reader).pending.within(*ids.start()..ids.end().saturating_add(1)).collect()
    }

    /// What each reader lacks, and how many of these records are in memory alone.
    #[must_use]
    pub fn not_on_disk(&self) -> Vec<(Held, u64)> {
        let desk = self.desk();
        let in_memory_alone = [desk.ledger.expired_ids(), desk.ledger.unsafe_ids()];
        let count = |reader| {
            let pending = &desk.ledger.reader(reader).pending;
            in_memory_alone.iter().map(|ids| pending.count(ids.clone())).sum()
        };
        (0..desk.ledger.readers()).map(|reader| (desk.ledger.held(reader), count(reader))).collect()
    }

    #[must_use]
    pub fn held(&self, reader: Reader) -> Held {
        self.desk().ledger.held(reader)
    }

    /// Since when the oldest record in memory waits for the reader.
    #[must_use]
    pub fn live_waits_since(&self, reader: Reader) -> Option<Instant> {
        self.desk().ledger.live_waits_since(reader)
    }

    /// Whether there is no point in waiting for more: a whole batch waits in memory, or memory is half full of what is
    /// not on the disk.
    #[must_use]
    pub fn is_full(&self, reader: Reader, limits: Limits) -> bool {
        self.desk().ledger.is_full(reader, limits)
    }

    /// With the index.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.desk().ledger.front().bytes()
    }

    /// Of memory: what is not on the disk and has to get there before it can make room.
    #[must_use]
    pub fn at_risk_bytes(&self) -> usize {
        self.desk().ledger.at_risk_bytes()
    }

    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.disk_use().bytes
    }

    #[must_use]
    pub fn disk_use(&self) -> DiskUse {
        let desk = self.desk();
        DiskUse { degraded: desk.ledger.is_degraded(), ..desk.disk }
    }

    /// The source's time such that everything it told until then, as [`Spool::told`] knows, is with the reader, set aside, on
    /// the disk, or counted as lost ([`Spool::torn`]). It goes back only if the source's clock did. It is noted on the disk at
    /// each sync, at the end, and while all is well once an hour.
    #[must_use]
    pub fn watermark(&self, reader: Reader) -> Option<Timestamp> {
        self.desk().ledger.reader(reader).progress.reached()
    }

    /// The time of the earliest record that went although the reader lacked it, and was not appended once more.
    #[must_use]
    pub fn torn(&self, reader: Reader) -> Option<Timestamp> {
        self.desk().ledger.reader(reader).progress.torn()
    }

    /// Everything that the source told until then was appended.
    pub fn told(&self, until: Timestamp) {
        self.desk().ledger.told(until);
    }

    /// From now on is appended once more what went. What goes after this is not part of it.
    pub fn begin_mending(&self) {
        self.desk().ledger.begin_mending();
    }

    /// What went from this time on was appended once more.
    pub fn mended(&self, from: Timestamp) {
        self.desk().ledger.mended(from);
    }

    /// What was appended until now is before this mark. Marks only grow.
    pub fn mark(&self, mark: u64) {
        self.desk().ledger.mark(mark);
    }

    /// The last mark such that each record before it is on the disk, with every reader, or counted as lost. 0: none.
    #[must_use]
    pub fn safe_mark(&self) -> u64 {
        self.desk().ledger.safe_mark()
    }

    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.due_in(now).is_some_and(|wait| wait.is_zero())
    }

    /// How long until [`Spool::sync`] has something to do. `None`: not before records come or are released.
    #[must_use]
    pub fn due_in(&self, now: Instant) -> Option<Duration> {
        self.desk().ledger.due_in(now)
    }

    /// Brings to the disk what is in memory alone and should not be, and removes files that nobody needs.
    ///
    /// # Errors
    /// What did not reach the disk is still in memory. [`Spool::is_due`] says when to try again.
    pub fn sync(&self, now: Instant) -> Result<Synced, IoError> {
        let mut writer = self.writer();
        let outcome = self.write_out(&mut writer);
        self.finish(&mut writer, outcome, now)
    }

    /// What [`Spool::is_due`] speaks of, and no more: a file to be removed is no reason to write what is live.
    pub fn sync_due(&self, now: Instant) -> Result<Synced, IoError> {
        let mut writer = self.writer();
        let must_write = self.desk().ledger.must_write(now);
        let outcome = if must_write { self.write_out(&mut writer) } else { Ok(0) };
        self.finish(&mut writer, outcome, now)
    }

    /// As [`Spool::sync`], and ends the file in good order. Records may still be appended and released; what they
    /// change is safe with the next call.
    pub fn close(&self, now: Instant) -> Result<Synced, IoError> {
        let mut writer = self.writer();
        let written = self.write_out(&mut writer);
        let closed = writer.log.close_segment();
        let outcome = written.and_then(|records| closed.map(|()| records));
        let synced = self.finish(&mut writer, outcome, now);
        {
            let mut desk = self.desk();
            let expired = desk.ledger.expired_ids();
            desk.ledger.lose(expired, Loss::SpoolFull);
        }
        self.note(&mut writer)?;
        synced
    }

    /// Notes what the readers have taken. Without it they get it again after a restart.
    pub fn save_state(&self) -> Result<(), IoError> {
        self.note(&mut self.writer())
    }

    fn writer(&self) -> MutexGuard<'_, Writer<S>> {
        self.log.lock().expect("a task that panics over the spool ends the service")
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().expect("a task that panics over the spool ends the service")
    }
}

impl Desk {
    fn count(&mut self, error: &IoError) {
        self.disk.errors[error.operation as usize] += 1;
    }
}
