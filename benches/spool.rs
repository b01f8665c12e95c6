//! What the spool does in a second: records into memory, onto a real disk, and back.
//!
//! `cargo bench --bench spool`; `items/s` is records per second. Records are lines of 200 bytes, the folder is in
//! `target`.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::{Duration, Instant};

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use ha_ingestor::model::record::Record;
use ha_ingestor::model::time::Timestamp;
use ha_ingestor::spool::storage::Disk;
use ha_ingestor::spool::{Bounds, Durability, Limits, Spool};
use tempfile::TempDir;

const LINE_BYTES: usize = 200;

/// One request of the default size.
const BATCH: Limits = Limits {
    records: NonZeroUsize::new(5_000).expect("not zero"),
    bytes: NonZeroUsize::new(8 << 20).expect("not zero"),
};

fn main() {
    divan::main();
}

#[divan::bench(name = "append 500 to memory", sample_count = 500)]
fn append(bencher: Bencher) {
    let (_folder, spool) = open(Durability::Balanced);
    bencher
        .counter(ItemsCount::new(500_u32))
        .counter(BytesCount::new(500 * LINE_BYTES))
        .with_inputs(|| release_all(&spool))
        .bench_local_values(|()| put(&spool, 500));
}

#[divan::bench(name = "append 500 and sync to disk", sample_count = 200, sample_size = 1)]
fn append_and_sync(bencher: Bencher) {
    let (_folder, spool) = open(Durability::Strict);
    bencher
        .counter(ItemsCount::new(500_u32))
        .counter(BytesCount::new(500 * LINE_BYTES))
        .with_inputs(|| release_all(&spool))
        .bench_local_values(|()| {
            put(&spool, 500);
            assert_eq!(spool.sync(Instant::now()).expect("the disk works").records, 500);
        });
}

#[divan::bench(name = "take 5000 from memory", sample_count = 100, sample_size = 1)]
fn take_live(bencher: Bencher) {
    let (_folder, spool) = open(Durability::Balanced);
    bencher
        .counter(ItemsCount::new(5_000_u32))
        .counter(BytesCount::new(5_000 * LINE_BYTES))
        .with_inputs(|| put(&spool, 5_000))
        .bench_local_values(|()| {
            let batch = spool.peek_live(0, BATCH).expect("they were appended");
            assert_eq!(black_box(&batch).len(), 5_000);
            let _ = spool.release(0, batch.id(0)..=batch.id(batch.len() - 1));
        });
}

#[divan::bench(name = "take 100,000 from disk", sample_count = 10, sample_size = 1)]
fn take_backlog(bencher: Bencher) {
    let (_folder, spool) = open(Durability::Balanced);
    bencher
        .counter(ItemsCount::new(100_000_u32))
        .counter(BytesCount::new(100_000 * LINE_BYTES))
        .with_inputs(|| {
            put(&spool, 100_000);
            assert_eq!(spool.sync(Instant::now()).expect("the disk works").records, 100_000);
        })
        .bench_local_values(|()| {
            let mut taken = 0;
            while let Some(batch) = spool.peek_backlog(0, BATCH, Instant::now()).batch {
                taken += black_box(&batch).len();
                let _ = spool.release(0, batch.id(0)..=batch.id(batch.len() - 1));
            }
            assert_eq!(taken, 100_000);
        });
}

fn open(durability: Durability) -> (TempDir, Spool<Disk>) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder can be made");
    let bounds = Bounds {
        memory_bytes: NonZeroUsize::new(256 << 20).expect("not zero"),
        disk_bytes: NonZeroU64::new(1 << 30).expect("not zero"),
        durability,
        age: Duration::from_secs(6),
    };
    let opened = Spool::open(Disk::new(folder.path()), bounds, &["influxdb"]);
    (folder, opened.expect("an empty folder can be opened").0)
}

fn put(spool: &Spool<Disk>, count: i64) {
    let line = [b'x'; LINE_BYTES];
    let records = (0..count).map(|at| Record { time: Timestamp::from_micros(at), context: None, bytes: &line });
    assert_eq!(black_box(spool.append(records, Instant::now())).lost, 0);
}

fn release_all(spool: &Spool<Disk>) {
    let _ = spool.release(0, 0..=u64::MAX);
}
