//! One spool between the task that fills it, the tasks that empty it, and the one that keeps it on disk.
//!
//! Whoever appends or takes what is in memory waits for nobody. What needs the disk is done on threads that may block.
//! The board shows what is held and dropped. It is told right after each change, so that the books balance whenever
//! nothing is on its way; for an instant in between they do not.

use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::model::fate::Dropped;
use crate::model::record::{Batch, Record};
use crate::model::time::Timestamp;
use crate::runtime::alive::beating;
use crate::runtime::clock;
use crate::runtime::repeats::{Ended, Repeats, Worth};
use crate::status::board::Board;
use crate::status::snapshot::Degraded;
use crate::status::target::TargetBoard;

use super::opening::{Finding, OpenError, Recovered};
use super::storage::Disk;
use super::{Bounds, DiskUse, Held, IoError, Limits, Lost, Spool, Synced};

/// How often it is looked whether something has to go to the disk.
const LOOK: Duration = Duration::from_millis(250);

/// How long whoever appends waits for a disk that is busy, before the oldest records make room.
const PATIENCE: Duration = Duration::from_secs(5);

/// Cheap to clone; all clones are the same spool.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    spool: Spool<Disk>,
    memory_bytes: usize,
    /// Per reader.
    desks: Vec<Desk>,
    /// Memory fills up: the disk has to help.
    pressed: Notify,
    /// The disk has helped, or a target took something.
    relieved: Notify,
    /// It was waited for long enough: not again before the disk has answered.
    gave_up: AtomicBool,
    board: Arc<Board>,
    /// Of the disk that takes records, by what it says.
    trouble: Mutex<Repeats<String>>,
    /// The last mark that is safe.
    safe: watch::Sender<u64>,
}

/// What is kept for one reader.
struct Desk {
    arrived: Notify,
    target: Arc<TargetBoard>,
    /// What the board already shows as lost.
    shown: Mutex<Lost>,
    /// Records that went, by the reason that is told.
    losses: Mutex<Repeats<Dropped>>,
    /// What the disk says when it does not give records back.
    unreadable: Mutex<Repeats<String>>,
}

/// The spool as one target sees it. For one task at a time.
#[derive(Clone)]
pub struct Reader {
    shared: Shared,
    reader: super::Reader,
}

impl Shared {
    /// Opens the folder, and finds what an earlier run left. One reader for each target of the board; `keys` say in the
    /// same order as whom the spool knows them from run to run.
    pub fn open(folder: &Path, bounds: Bounds, keys: &[impl AsRef<str>], board: Arc<Board>) -> Result<Self, OpenError> {
        assert_eq!(keys.len(), board.targets.len(), "each target has a key");
        let keys: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
        let (spool, recovered) = Spool::open(Disk::new(folder), bounds, &keys)?;
        let desk = |target: &Arc<TargetBoard>| Desk {
            arrived: Notify::new(),
            target: Arc::clone(target),
            shown: Mutex::default(),
            losses: Mutex::default(),
            unreadable: Mutex::default(),
        };
        let shared = Self(Arc::new(Inner {
            spool,
            memory_bytes: bounds.memory_bytes.get(),
            desks: board.targets.iter().map(desk).collect(),
            pressed: Notify::new(),
            relieved: Notify::new(),
            gave_up: AtomicBool::new(false),
            trouble: Mutex::default(),
            safe: watch::Sender::new(0),
            board,
        }));
        shared.0.board.spool.update(|spool| spool.limit_bytes = bounds.disk_bytes.get());
        shared.tell_what_was_found(&recovered);
        shared.show_disk();
        Ok(shared)
    }

    #[must_use]
    pub fn reader(&self, reader: super::Reader) -> Reader {
        Reader { shared: self.clone(), reader }
    }

    /// Never waits. The iterator should only hand over what is already there.
    pub fn append<'a>(&self, records: impl IntoIterator<Item = Record<'a>>) {
        let mut records = records.into_iter().peekable();
        // Most frames of some homes hold no point.
        if records.peek().is_none() {
            return;
        }
        let inner = &self.0;
        let _ = inner.spool.append(records, Instant::now());
        if self.is_pressed() {
            inner.pressed.notify_one();
        }
        for (reader, desk) in inner.desks.iter().enumerate() {
            self.show(reader);
            desk.arrived.notify_one();
        }
        // The oldest may have made room: what is given up waits no longer.
        self.tell_marks();
    }

    /// What was appended until now is before this mark. Marks only grow, and nobody else gives them.
    pub fn mark(&self, mark: u64) {
        self.0.spool.mark(mark);
        self.tell_marks();
    }

    /// Everything that Home Assistant told until then was appended.
    pub fn told(&self, until: Timestamp) {
        self.0.spool.told(until);
        (0..self.0.desks.len()).for_each(|reader| self.show(reader));
    }

    /// From now on is appended once more what went although a target lacked it.
    pub fn begin_mending(&self) {
        self.0.spool.begin_mending();
    }

    /// It was, from this time on.
    pub fn mended(&self, from: Timestamp) {
        self.0.spool.mended(from);
        (0..self.0.desks.len()).for_each(|reader| self.show(reader));
    }

    /// The last mark such that each record before it is on the disk, in every target, set aside, or counted as lost. 0:
    /// none. Told as soon as it is so.
    #[must_use]
    pub fn safe_marks(&self) -> watch::Receiver<u64> {
        self.0.safe.subscribe()
    }

    /// Returns when there is room in memory for more, counting what the disk has as well as room; at once if the disk is no
    /// help, and after some seconds whatever happens: then the oldest records make room.
    pub async fn room(&self) {
        let inner = &self.0;
        let relieved = async {
            while inner.spool.at_risk_bytes() > inner.memory_bytes / 8 * 7 && !inner.board.spool.is_degraded() {
                inner.relieved.notified().await;
            }
        };
        if !inner.gave_up.load(Relaxed) && timeout(PATIENCE, relieved).await.is_err() {
            inner.gave_up.store(true, Relaxed);
        }
    }

    /// Keeps records on disk as the durability asks for, until `stop`; then brings everything there that is in memory.
    pub async fn keep(self, stop: CancellationToken) {
        let work = async {
            loop {
                let due_in = self.0.spool.due_in(Instant::now()).unwrap_or(LOOK).min(LOOK);
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = sleep(due_in) => {}
                    () = self.0.pressed.notified() => {}
                }
                if self.0.spool.is_due(Instant::now()) {
                    self.on_disk(Spool::sync_due).await;
                }
            }
            self.on_disk(Spool::close).await;
        };
        // The disk may take as long as it likes: nothing that a restart would mend.
        beating(|| self.0.board.beat("spool", Instant::now()), work).await;
    }

    /// Gives up what is in memory alone, and counts it. Nothing, if the disk took everything at the end.
    #[must_use]
    pub fn abandon(&self) -> u64 {
        let mut most = 0;
        for (desk, (held, lost)) in self.0.desks.iter().zip(self.0.spool.not_on_disk()) {
            let Held { records, backlog_records, .. } = held;
            desk.target.books.dropped.add(Dropped::Stopped, lost);
            desk.target.books.held.set(records.saturating_sub(lost));
            desk.target.backlog.records.set(backlog_records);
            most = most.max(lost);
        }
        most
    }

    /// Two threads may tell at once: the later mark counts.
    fn tell_marks(&self) {
        let mark = self.0.spool.safe_mark();
        self.0.safe.send_if_modified(|told| mark > std::mem::replace(told, mark.max(*told)));
    }

    fn is_pressed(&self) -> bool {
        self.0.spool.at_risk_bytes() > self.0.memory_bytes / 2
    }

    async fn on_disk(&self, work: fn(&Spool<Disk>, Instant) -> Result<Synced, IoError>) {
        let shared = self.clone();
        let done = spawn_blocking(move || work(&shared.0.spool, Instant::now())).await;
        let inner = &self.0;
        match done.expect("the spool does not panic") {
            Ok(synced) => {
                inner.board.spool.update(|spool| synced.syncs.iter().for_each(|took| spool.sync_seconds.add(*took)));
                self.healed();
            }
            Err(err) => self.failed(&err),
        }
        self.show_disk();
        (0..inner.desks.len()).for_each(|reader| self.show(reader));
        self.tell_marks();
        inner.gave_up.store(false, Relaxed);
        inner.relieved.notify_one();
    }

    fn failed(&self, error: &IoError) {
        let now = clock::now();
        let degraded = self.0.spool.disk_use().degraded;
        let so = if degraded { "points wait in memory only; " } else { "" };
        let words = format!("{error}: {so}see to the disk of the data folder");
        self.0.board.spool.update(|spool| {
            let since = spool.degraded.as_ref().map_or(now, |before| before.since);
            spool.degraded = degraded.then(|| Degraded { since, words: words.clone() });
        });
        match lock(&self.0.trouble).failed(error.to_string(), Instant::now()) {
            Worth::First => error!("spool: {words}"),
            Worth::Again { failures, lasts } => {
                warn!("spool: still failing, {failures} times in {} min: {words}", lasts.as_secs() / 60);
            }
            Worth::Nothing => {}
        }
    }

    fn healed(&self) {
        if self.0.spool.disk_use().degraded {
            return;
        }
        self.0.board.spool.update(|spool| spool.degraded = None);
        if let Some(Ended { failures, .. }) = lock(&self.0.trouble).recovered(Instant::now()) {
            info!("spool: the disk takes points again, after {failures} attempts that failed");
        }
    }

    fn tell_what_was_found(&self, recovered: &Recovered) {
        for (desk, found) in self.0.desks.iter().zip(&recovered.readers) {
            let (name, books) = (&desk.target.name, &desk.target.books);
            books.recovered.add(found.records + found.missing);
            books.dropped.add(Dropped::Damaged, found.missing);
            if found.records > 0 {
                info!(target_name = name, "{name}: {} points of an earlier run wait on disk", found.records);
            }
            if found.missing > 0 {
                error!(target_name = name, "{name}: {} points of an earlier run are gone from the disk", found.missing);
            }
        }
        for (name, records) in recovered.dropped_readers.iter().filter(|(_, records)| *records > 0) {
            warn!("{records} points waited for `{name}`, which is no longer configured: they are given up");
        }
        for finding in &recovered.findings {
            match finding {
                Finding::ReadOnly { why } => {
                    let degraded = Degraded { since: clock::now(), words: finding.to_string() };
                    self.0.board.spool.update(|spool| spool.degraded = Some(degraded));
                    lock(&self.0.trouble).failed(why.clone(), Instant::now());
                    error!("spool: {finding}; points wait in memory only");
                }
                _ => warn!("spool: {finding}"),
            }
        }
        (0..self.0.desks.len()).for_each(|reader| self.show(reader));
    }

    /// Brings the board up to date with what a reader lacks and lost.
    fn show(&self, reader: super::Reader) {
        self.show_to(reader, &mut lock(&self.0.desks[reader].shown));
    }

    /// The same for whoever has the lock. Both are of one moment; what was lost is counted before it leaves what is held.
    fn show_to(&self, reader: super::Reader, shown: &mut Lost) {
        let desk = &self.0.desks[reader];
        let Held { records, backlog_records, oldest, lost } = self.0.spool.held(reader);
        let target = &desk.target;
        if lost != *shown {
            let more = [
                (Dropped::SpoolFull, lost.spool_full - shown.spool_full),
                (Dropped::MemoryFull, lost.memory_full - shown.memory_full),
                (Dropped::Damaged, lost.damaged - shown.damaged),
            ];
            *shown = lost;
            for (reason, count) in more.into_iter().filter(|(_, count)| *count > 0) {
                target.books.dropped.add(reason, count);
                desk.tell_loss(reason, count);
            }
        }
        target.books.held.set(records);
        target.backlog.records.set(backlog_records);
        if let Some(oldest) = oldest {
            target.backlog.oldest.set(oldest);
        }
        if let Some(watermark) = self.0.spool.watermark(reader) {
            target.backlog.watermark.set(watermark);
        }
        target.backlog.torn.put(self.0.spool.torn(reader));
        self.0.board.spool.update(|spool| spool.memory_bytes = self.0.spool.memory_bytes() as u64);
    }

    fn show_disk(&self) {
        let disk = self.0.spool.disk_use();
        self.0.board.spool.update(|spool| {
            spool.disk_bytes = disk.bytes;
            spool.written_bytes = disk.written_bytes;
            spool.syncs = disk.syncs;
            spool.damaged = disk.corrupt_records;
            spool.errors =
                DiskUse::OPERATIONS.iter().map(|operation| (operation.label(), disk.errors(*operation))).collect();
        });
    }
}

impl Desk {
    fn tell_unreadable(&self, error: &IoError) {
        let name = &self.target.name;
        match lock(&self.unreadable).failed(error.to_string(), Instant::now()) {
            Worth::First => error!(
                target_name = name,
                "{name}: {error}: what waits there is tried again for five minutes, and the rest is sent"
            ),
            Worth::Again { failures, lasts } => {
                let minutes = lasts.as_secs() / 60;
                warn!(target_name = name, "{name}: still {error}, {failures} times in {minutes} min");
            }
            Worth::Nothing => {}
        }
    }

    fn tell_readable(&self) {
        let name = &self.target.name;
        if let Some(Ended { failures, .. }) = lock(&self.unreadable).recovered(Instant::now()) {
            info!(target_name = name, "{name}: what waits on disk can be read again, after {failures} failures");
        }
    }

    /// Once in ten minutes: at the limit each record makes another one go.
    fn tell_loss(&self, reason: Dropped, count: u64) {
        let name = &self.target.name;
        if lock(&self.losses).failed(reason, Instant::now()) == Worth::Nothing {
            return;
        }
        match reason {
            Dropped::SpoolFull => warn!(
                target_name = name,
                "{name}: the disk space for points that wait is full: the oldest are dropped and counted until the database \
                 takes them; a larger `delivery.spool_megabytes` holds more"
            ),
            Dropped::MemoryFull => warn!(
                target_name = name,
                "{name}: the memory for points that wait is full and the disk does not take them: the oldest are dropped \
                 and counted"
            ),
            _ => error!(
                target_name = name,
                "{name}: {count} points could not be read back from the disk, and are counted"
            ),
        }
    }
}

impl Reader {
    #[must_use]
    pub fn target(&self) -> &Arc<TargetBoard> {
        &self.desk().target
    }

    /// Returns when there is a record.
    pub async fn wait(&self) {
        while self.held().records == 0 {
            self.desk().arrived.notified().await;
        }
    }

    /// Returns when [`Self::is_full`].
    pub async fn until_full(&self, limits: Limits) {
        while !self.is_full(limits) {
            self.desk().arrived.notified().await;
        }
    }

    #[must_use]
    pub fn is_full(&self, limits: Limits) -> bool {
        self.spool().is_full(self.reader, limits)
    }

    /// How long the oldest record in memory has been waiting.
    #[must_use]
    pub fn live_waits_for(&self) -> Option<Duration> {
        self.spool().live_waits_since(self.reader).map(|since| since.elapsed())
    }

    #[must_use]
    pub fn peek_live(&self, limits: Limits) -> Option<Batch> {
        self.spool().peek_live(self.reader, limits)
    }

    /// Reads on a thread that may block, and goes on if nobody waits for it. `None`: there is nothing that can be read now.
    /// What is damaged is counted, and a disk that does not answer is told.
    #[must_use]
    pub fn read_backlog(&self, limits: Limits) -> JoinHandle<Option<Batch>> {
        let this = self.clone();
        spawn_blocking(move || {
            let peeked = this.spool().peek_backlog(this.reader, limits, Instant::now());
            // Before what was lost by it: whoever sees that can see why.
            this.shared.show_disk();
            this.shared.show(this.reader);
            this.shared.tell_marks();
            match &peeked.error {
                Some(error) => this.desk().tell_unreadable(error),
                None if !peeked.left_out && peeked.batch.is_some() => this.desk().tell_readable(),
                None => {}
            }
            peeked.batch
        })
    }

    /// Those of these ids that the target still lacks.
    #[must_use]
    pub fn still_held(&self, ids: RangeInclusive<u64>) -> Vec<Range<u64>> {
        self.spool().still_pending(self.reader, ids)
    }

    /// As [`Spool::release`]. `count` is given the ids that left, and counts what became of them before the board shows
    /// that they have left: no record is ever in no book.
    pub fn release<T>(&self, ids: RangeInclusive<u64>, count: impl FnOnce(Vec<Range<u64>>) -> T) -> T {
        let mut shown = lock(&self.desk().shown);
        let counted = count(self.spool().release(self.reader, ids));
        self.shared.show_to(self.reader, &mut shown);
        drop(shown);
        self.shared.tell_marks();
        self.shared.0.relieved.notify_one();
        counted
    }

    #[must_use]
    pub fn held(&self) -> Held {
        self.spool().held(self.reader)
    }

    fn spool(&self) -> &Spool<Disk> {
        &self.shared.0.spool
    }

    fn desk(&self) -> &Desk {
        &self.shared.0.desks[self.reader]
    }
}

/// What is behind these locks is whole after each statement.
fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU64, NonZeroUsize};
    use std::sync::Arc;
    use std::thread;
    use std::time::{Duration, Instant};

    use tempfile::TempDir;
    use tokio::time::timeout;
    use tokio_util::sync::CancellationToken;

    use super::Shared;
    use crate::model::fate::Dropped;
    use crate::model::record::Record;
    use crate::model::time::Timestamp;
    use crate::spool::{Bounds, Durability, Limits, Spool};
    use crate::status::board::Board;

    const MIB: usize = 1 << 20;

    const LIMITS: Limits = Limits { records: NonZeroUsize::MAX, bytes: NonZeroUsize::MAX };

    fn open(folder: &TempDir, memory_bytes: usize, durability: Durability) -> (Shared, Arc<Board>) {
        let board = Arc::new(Board::of(&["influxdb", "mirror_1"], Instant::now(), Timestamp::from_micros(0)));
        let bounds = Bounds {
            memory_bytes: NonZeroUsize::new(memory_bytes).unwrap(),
            disk_bytes: NonZeroU64::new(16 << 20).unwrap(),
            durability,
            age: Duration::from_secs(5),
        };
        (Shared::open(folder.path(), bounds, &["influxdb", "http://mirror"], Arc::clone(&board)).unwrap(), board)
    }

    fn record(bytes: &[u8]) -> Record<'_> {
        Record { time: Timestamp::from_micros(7), context: None, bytes }
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken_by_a_record_that_came_before_or_after() {
        let folder = TempDir::new().unwrap();
        let (spool, _) = open(&folder, MIB, Durability::Balanced);
        let reader = spool.reader(0);
        spool.append([record(b"a")]);
        reader.wait().await;
        assert_eq!(reader.release(0..=0, |ids| ids).len(), 1);
        let ((), ()) = tokio::join!(reader.wait(), async { spool.append([record(b"b")]) });
    }

    #[tokio::test]
    async fn what_became_of_a_record_is_counted_before_the_board_shows_that_it_left() {
        let folder = TempDir::new().unwrap();
        let (spool, board) = open(&folder, MIB, Durability::Balanced);
        spool.append([record(b"a"), record(b"b")]);
        let held = || board.targets[0].books.held.get();
        thread::scope(|scope| {
            let released = spool.reader(0).release(0..=1, |ids| {
                // Whoever appends meanwhile shows nothing either, until it is counted.
                let appending = scope.spawn(|| spool.append([record(b"c")]));
                while spool.reader(1).held().records < 3 {
                    thread::yield_now();
                }
                assert!(!appending.is_finished());
                assert_eq!((held(), spool.reader(0).held().records), (2, 1));
                ids
            });
            assert_eq!(released.first(), Some(&(0..2)));
        });
        assert_eq!(held(), 1);
    }

    /// Seen before: while a backlog was drained, each file that was done with took the live records to the disk.
    #[tokio::test]
    async fn removing_files_leaves_live_records_in_memory() {
        let folder = TempDir::new().unwrap();
        let (spool, board) = open(&folder, 1 << 20, Durability::Balanced);
        spool.append([record(b"a"), record(b"b")]);
        spool.on_disk(Spool::sync).await;
        spool.append([record(b"c")]);
        for reader in [spool.reader(0), spool.reader(1)] {
            assert_eq!(reader.release(0..=1, |ids| ids).first(), Some(&(0..2)));
        }
        assert!(spool.0.spool.is_due(Instant::now()), "there is a file that nobody needs");
        spool.on_disk(Spool::sync_due).await;
        assert_eq!((spool.0.spool.disk_bytes(), board.targets[0].backlog.records.get()), (0, 0));
        assert_eq!(spool.reader(0).peek_live(LIMITS).unwrap().bytes(), b"c");
        assert!(!spool.0.spool.is_due(Instant::now()));
    }

    #[tokio::test]
    async fn what_one_target_lacks_at_the_end_is_there_at_the_next_start_and_on_the_board() {
        let folder = TempDir::new().unwrap();
        let (spool, board) = open(&folder, MIB, Durability::Balanced);
        spool.append([record(b"a"), record(b"b")]);
        spool.told(Timestamp::from_micros(7));
        assert_eq!((board.targets[0].books.held.get(), board.targets[1].books.held.get()), (2, 2));
        assert_eq!(spool.reader(0).release(0..=1, |ids| ids).first(), Some(&(0..2)));
        let stop = CancellationToken::new();
        stop.cancel();
        spool.clone().keep(stop).await;
        assert_eq!(spool.abandon(), 0);
        drop(spool);

        let (spool, board) = open(&folder, MIB, Durability::Balanced);
        let books = |at: usize| (board.targets[at].books.recovered.get(), board.targets[at].books.held.get());
        assert_eq!((books(0), books(1)), ((0, 0), (2, 2)));
        assert_eq!(board.targets[1].backlog.watermark.get(), Some(Timestamp::from_micros(7)));
        assert!(spool.reader(1).peek_live(LIMITS).is_none());
        assert_eq!(spool.reader(1).read_backlog(LIMITS).await.unwrap().unwrap().bytes(), b"ab");
    }

    #[tokio::test]
    async fn in_strict_a_target_that_is_away_slows_nobody_down() {
        let folder = TempDir::new().unwrap();
        let (spool, board) = open(&folder, 64 << 10, Durability::Strict);
        let work = async {
            for id in 0..500 {
                spool.append([record(&[b'x'; 1_000])]);
                spool.room().await;
                assert_eq!(spool.reader(0).release(id..=id, |ids| ids).len(), 1);
            }
        };
        tokio::select! {
            () = spool.clone().keep(CancellationToken::new()) => unreachable!("nobody stops it"),
            in_time = timeout(Duration::from_secs(4), work) => in_time.expect("it waits for nobody"),
        }
        let held = |at: usize| board.targets[at].books.held.get();
        assert_eq!((held(0), held(1)), (0, 500), "nothing was lost by it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_memory_is_waited_for_until_a_target_takes_something_or_once_for_some_seconds() {
        let folder = TempDir::new().unwrap();
        let (spool, _) = open(&folder, 4_000, Durability::Balanced);
        for _ in 0..36 {
            spool.append([record(&[b'x'; 50])]);
        }
        assert!(spool.0.spool.at_risk_bytes() > 3_500, "{}", spool.0.spool.at_risk_bytes());
        let began = tokio::time::Instant::now();
        let release = async {
            tokio::task::yield_now().await;
            [0, 1].map(|reader| spool.reader(reader).release(0..=19, |ids| ids))
        };
        tokio::join!(spool.room(), release);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        for _ in 0..20 {
            spool.append([record(&[b'x'; 50])]);
        }
        for _ in 0..3 {
            spool.room().await;
        }
        let waited = began.elapsed();
        assert!(waited > Duration::from_secs(4) && waited < Duration::from_secs(6), "{waited:?}");
    }

    #[tokio::test]
    async fn a_mirror_keeps_what_waits_for_it_when_another_one_before_it_is_removed() {
        let folder = TempDir::new().unwrap();
        let open = |targets: &[&str], keys: &[&str]| {
            let board = Arc::new(Board::of(targets, Instant::now(), Timestamp::from_micros(0)));
            let bounds = Bounds {
                memory_bytes: NonZeroUsize::new(MIB).unwrap(),
                disk_bytes: NonZeroU64::new(16 << 20).unwrap(),
                durability: Durability::Balanced,
                age: Duration::from_secs(5),
            };
            (Shared::open(folder.path(), bounds, keys, Arc::clone(&board)).unwrap(), board)
        };
        let (spool, _) = open(&["influxdb", "mirror_1", "mirror_2"], &["influxdb", "http://a", "http://b"]);
        spool.append([record(b"a"), record(b"b"), record(b"c")]);
        spool.reader(2).release(0..=1, drop);
        let stop = CancellationToken::new();
        stop.cancel();
        spool.clone().keep(stop).await;
        drop(spool);
        let (spool, board) = open(&["influxdb", "mirror_1"], &["influxdb", "http://b"]);
        assert_eq!([0, 1].map(|at: usize| board.targets[at].books.held.get()), [3, 1]);
        assert_eq!(spool.reader(1).read_backlog(LIMITS).await.unwrap().unwrap().bytes(), b"c");
    }

    #[tokio::test]
    async fn a_mark_is_told_when_every_target_has_what_is_before_it_or_the_disk() {
        let folder = TempDir::new().unwrap();
        let (spool, _) = open(&folder, MIB, Durability::Balanced);
        let mut safe = spool.safe_marks();
        spool.mark(3);
        assert_eq!(*safe.borrow_and_update(), 3, "there is nothing before it");
        spool.append([record(b"a"), record(b"b")]);
        spool.mark(5);
        spool.append([record(b"c")]);
        spool.mark(7);
        spool.reader(0).release(0..=2, drop);
        spool.reader(1).release(0..=0, drop);
        assert!(!safe.has_changed().unwrap(), "a mirror lacks one");
        spool.reader(1).release(1..=1, drop);
        assert_eq!(*safe.borrow_and_update(), 5);
        spool.on_disk(Spool::sync).await;
        assert_eq!(*safe.borrow_and_update(), 7);
        spool.mark(7);
        assert!(!safe.has_changed().unwrap(), "nothing new");
    }

    #[tokio::test]
    async fn without_a_disk_the_oldest_in_memory_go_and_the_end_counts_the_rest() {
        let folder = TempDir::new().unwrap();
        // A file where the folder should be.
        std::fs::write(folder.path().join("spool"), "").unwrap();
        let board = Arc::new(Board::new(Instant::now(), Timestamp::from_micros(0)));
        let memory_bytes = NonZeroUsize::new(4_000).unwrap();
        let bounds = Bounds {
            memory_bytes,
            disk_bytes: NonZeroU64::MAX,
            durability: Durability::Balanced,
            age: Duration::from_secs(5),
        };
        let spool = Shared::open(&folder.path().join("spool"), bounds, &["influxdb"], Arc::clone(&board)).unwrap();
        assert!(board.spool.is_degraded());
        for _ in 0..100 {
            spool.append([record(&[b'x'; 100])]);
        }
        let began = Instant::now();
        spool.room().await;
        assert!(began.elapsed() < Duration::from_secs(1), "there is no disk to wait for");
        let books = &board.targets[0].books;
        let (held, dropped) = (books.held.get(), books.dropped.of(Dropped::MemoryFull));
        assert_eq!(held + dropped, 100);
        assert!(held > 10 && dropped > 10, "{held} {dropped}");
        let stop = CancellationToken::new();
        stop.cancel();
        spool.clone().keep(stop).await;
        assert_eq!((spool.abandon(), books.held.get(), books.dropped.of(Dropped::Stopped)), (held, 0, held));
    }
}
