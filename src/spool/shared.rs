//! One spool in memory between the task that fills it and the task that empties it.
//!
//! The lock is held for as long as a copy takes and never across an await. What the board says about held and lost
//! records changes under the same lock, so that the books balance at every moment at which nothing is being shaped.

use std::io::{self, ErrorKind};
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use tokio::sync::Notify;

use crate::model::fate::Lost;
use crate::model::record::{Batch, Record};
use crate::status::board::Board;

use super::storage::{Listed, Storage};
use super::{Appended, Bounds, Durability, Held, Limits, Spool};

/// The only reader.
const READER: super::Reader = 0;

/// Cheap to clone; all clones are the same spool.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    spool: Mutex<Spool<Nowhere>>,
    arrived: Notify,
    board: Arc<Board>,
}

impl Shared {
    #[must_use]
    pub fn new(limit_bytes: NonZeroUsize, board: Arc<Board>) -> Self {
        let bounds =
            Bounds { memory_bytes: limit_bytes, disk_bytes: NonZeroU64::MIN, durability: Durability::Balanced };
        let (spool, _) = Spool::open(Nowhere, bounds, &["influxdb"]).expect("there is no folder to be unreadable");
        Self(Arc::new(Inner { spool: Mutex::new(spool), arrived: Notify::new(), board }))
    }

    /// Appends all under one lock; the iterator should only hand over what is already there.
    ///
    /// Records that had to go are counted as [`Lost::SpoolFull`] here. The answer is for the log.
    pub fn append<'a>(&self, records: impl IntoIterator<Item = Record<'a>>) -> Appended {
        let spool = self.lock();
        let all = spool.append(records, Instant::now());
        if all.lost > 0 {
            self.0.board.books.lost.add(Lost::SpoolFull, all.lost);
        }
        self.show(&spool);
        drop(spool);
        self.0.arrived.notify_one();
        all
    }

    /// Returns when there is a record. For one waiting task.
    pub async fn wait(&self) {
        while self.held().records == 0 {
            self.0.arrived.notified().await;
        }
    }

    /// Returns when [`Spool::is_full`]. For one waiting task.
    pub async fn until_full(&self, limits: Limits) {
        while !self.lock().is_full(READER, limits) {
            self.0.arrived.notified().await;
        }
    }

    #[must_use]
    pub fn peek(&self, limits: Limits) -> Option<Batch> {
        self.lock().peek_live(READER, limits)
    }

    /// As [`Spool::release`], of all records up to this one. Why the records left is for the caller to count.
    #[must_use]
    pub fn release(&self, through: u64) -> u64 {
        let spool = self.lock();
        let released = spool.release(READER, 0..=through).into_iter().map(|ids| ids.end - ids.start).sum();
        self.show(&spool);
        released
    }

    #[must_use]
    pub fn held(&self) -> Held {
        self.lock().held(READER)
    }

    fn show(&self, spool: &Spool<Nowhere>) {
        let held = spool.held(READER);
        self.0.board.books.held.set(held.records);
        self.0.board.writes.held_bytes.set(spool.memory_bytes() as u64);
    }

    fn lock(&self) -> MutexGuard<'_, Spool<Nowhere>> {
        self.0.spool.lock().expect("a task that panics over the spool ends the service")
    }
}

/// No folder: everything stays in memory.
struct Nowhere;

fn nowhere<T>() -> io::Result<T> {
    Err(ErrorKind::Unsupported.into())
}

impl Storage for Nowhere {
    type File = ();

    fn list(&self) -> io::Result<Vec<Listed>> {
        Ok(Vec::new())
    }

    fn create(&self, _name: &str) -> io::Result<()> {
        nowhere()
    }

    fn open(&self, _name: &str) -> io::Result<()> {
        nowhere()
    }

    fn write_at(&self, _file: &(), _at: u64, _bytes: &[u8]) -> io::Result<()> {
        nowhere()
    }

    fn read_at(&self, _file: &(), _at: u64, _into: &mut [u8]) -> io::Result<usize> {
        nowhere()
    }

    fn truncate(&self, _file: &(), _length: u64) -> io::Result<()> {
        nowhere()
    }

    fn sync(&self, _file: &()) -> io::Result<()> {
        nowhere()
    }

    fn sync_names(&self) -> io::Result<()> {
        nowhere()
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        nowhere()
    }

    fn read(&self, _name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn replace(&self, _name: &str, _bytes: &[u8]) -> io::Result<()> {
        nowhere()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::Arc;
    use std::time::Instant;

    use super::Shared;
    use crate::model::fate::{Lost, Reason};
    use crate::model::record::Record;
    use crate::model::time::Timestamp;
    use crate::spool::{Limits, chunk};
    use crate::status::board::Board;

    fn record(bytes: &[u8]) -> Record<'_> {
        Record { time: Timestamp::from_micros(0), context: None, bytes }
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken_by_a_record_that_came_before_or_after() {
        let board = Arc::new(Board::new(Instant::now(), Timestamp::from_micros(0)));
        let spool = Shared::new(NonZeroUsize::MAX, board);
        let _ = spool.append([record(b"a")]);
        spool.wait().await;
        assert_eq!(spool.release(0), 1);
        let ((), _) = tokio::join!(spool.wait(), async { spool.append([record(b"b")]) });
    }

    #[test]
    fn the_board_shows_what_is_held_and_what_had_to_go() {
        let board = Arc::new(Board::new(Instant::now(), Timestamp::from_micros(0)));
        let spool = Shared::new(NonZeroUsize::new(2 * chunk::cost(1, 1)).unwrap(), Arc::clone(&board));
        assert_eq!(spool.append([record(b"a"), record(b"b"), record(b"c")]).lost, 1);
        assert_eq!(board.books.held.get(), 2);
        assert_eq!(board.writes.held_bytes.get(), 2 * chunk::cost(1, 1) as u64);
        assert_eq!(board.books.lost.get()[Lost::SpoolFull.index()].1, 1);
        let limits = Limits { records: NonZeroUsize::MIN, bytes: NonZeroUsize::MIN };
        assert_eq!(spool.release(spool.peek(limits).unwrap().id(0)), 1);
        assert_eq!(board.books.held.get(), 1);
    }
}
