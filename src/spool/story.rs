//! Single stories of the spool: faults by name, and the known defects of other buffers.

use std::io::ErrorKind;
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::Range;
use std::time::{Duration, Instant};

use super::fault;
use super::opening::{Finding, OpenError, Recovered, RecoveredReader};
use super::segment::{self, END_MARK};
use super::simulated::{Operation, Simulated, Unsynced};
use super::storage::{Disk, Storage};
use super::{Bounds, Durability, Limits, Lost, Reader, Spool, chunk, state};
use crate::model::record::{Batch, Record};
use crate::model::time::Timestamp;

const INFLUX: Reader = 0;
const MIRROR: Reader = 1;

fn bounds(memory: usize, disk: u64, durability: Durability) -> Bounds {
    Bounds {
        memory_bytes: NonZeroUsize::new(memory).unwrap(),
        disk_bytes: NonZeroU64::new(disk).unwrap(),
        durability,
        age: Duration::from_secs(5),
    }
}

fn balanced() -> Bounds {
    bounds(64 << 20, 64 << 20, Durability::Balanced)
}

fn strict() -> Bounds {
    bounds(64 << 20, 64 << 20, Durability::Strict)
}

fn limits(records: usize) -> Limits {
    Limits { records: NonZeroUsize::new(records).unwrap(), bytes: NonZeroUsize::MAX }
}

fn text(id: u64) -> Vec<u8> {
    format!("record {id}\n").into_bytes()
}

fn time(id: u64) -> Timestamp {
    Timestamp::from_micros(id.cast_signed() * 1_000_000)
}

fn open<S: Storage>(storage: S, bounds: Bounds) -> (Spool<S>, Recovered) {
    Spool::open(storage, bounds, &["influxdb", "mirror_1"]).unwrap()
}

/// As if the ids were these.
fn append<S: Storage>(spool: &Spool<S>, ids: Range<u64>, now: Instant) -> u64 {
    let texts: Vec<Vec<u8>> = ids.clone().map(text).collect();
    let records = ids.zip(&texts).map(|(id, bytes)| Record { time: time(id), context: None, bytes });
    spool.append(records, now).lost
}

/// A folder with a backlog of both readers, and the spool that made it.
fn with_backlog(ids: Range<u64>) -> (Simulated, Spool<Simulated>) {
    let storage = Simulated::new();
    let (spool, _) = open(storage.clone(), balanced());
    let _ = append(&spool, ids.clone(), Instant::now());
    assert_eq!(spool.sync(Instant::now()).unwrap().records, ids.end - ids.start);
    (storage, spool)
}

fn ids(batch: Option<Batch>) -> Vec<u64> {
    let batch = batch.unwrap_or_default();
    (0..batch.len()).map(|at| batch.id(at)).collect()
}

fn live<S: Storage>(spool: &Spool<S>, reader: Reader) -> Vec<u64> {
    ids(spool.peek_live(reader, limits(1_000_000)))
}

fn backlog<S: Storage>(spool: &Spool<S>, reader: Reader) -> Vec<u64> {
    ids(spool.peek_backlog(reader, limits(1_000_000), Instant::now()).batch)
}

fn release<S: Storage>(spool: &Spool<S>, ids: Range<u64>) {
    for reader in [INFLUX, MIRROR] {
        let _ = spool.release(reader, ids.start..=ids.end - 1);
    }
}

fn segments(storage: &Simulated) -> Vec<String> {
    storage.names().into_iter().filter(|name| segment::first_id_of(name).is_some()).collect()
}

fn list(ids: Range<u64>) -> Vec<u64> {
    ids.collect()
}

#[test]
fn nothing_is_written_while_the_readers_keep_up() {
    let storage = Simulated::new();
    let (spool, _) = open(storage.clone(), balanced());
    let start = Instant::now();
    let before = storage.count(Operation::Replace);
    for round in 0..100 {
        let now = start + Duration::from_secs(round);
        let _ = append(&spool, round * 10..round * 10 + 10, now);
        assert_eq!(live(&spool, INFLUX), list(round * 10..round * 10 + 10));
        release(&spool, 0..round * 10 + 10);
        assert_eq!(spool.due_in(now), None);
    }
    assert_eq!((storage.count(Operation::Write), storage.count(Operation::Replace)), (0, before));
    assert_eq!(spool.memory_bytes(), 0);
}

#[test]
fn what_a_reader_lacks_for_five_seconds_goes_to_the_disk_with_all_that_follows() {
    let storage = Simulated::new();
    let (spool, _) = open(storage, balanced());
    let start = Instant::now();
    let _ = append(&spool, 0..10, start);
    let _ = spool.release(INFLUX, 0..=9);
    let _ = spool.release(MIRROR, 0..=6);
    let _ = append(&spool, 10..12, start + Duration::from_secs(4));
    assert_eq!(spool.due_in(start + Duration::from_secs(4)), Some(Duration::from_secs(1)));
    assert!(spool.is_due(start + Duration::from_secs(5)));
    assert_eq!(spool.sync(start + Duration::from_secs(5)).unwrap().records, 5, "7 to 11");
    assert_eq!((live(&spool, MIRROR), backlog(&spool, MIRROR)), (vec![], list(7..12)));
    assert_eq!((live(&spool, INFLUX), backlog(&spool, INFLUX)), (vec![], list(10..12)));
    assert_eq!(spool.memory_bytes(), 0);
}

#[test]
fn half_a_memory_of_records_does_not_wait_for_five_seconds() {
    let storage = Simulated::new();
    let (spool, _) = open(storage, bounds(4 * chunk::cost(1, text(0).len()), 64 << 20, Durability::Balanced));
    let now = Instant::now();
    let _ = append(&spool, 0..1, now);
    assert!(!spool.is_due(now) && !spool.is_full(INFLUX, limits(100)));
    let _ = append(&spool, 1..2, now);
    assert!(spool.is_due(now) && spool.is_full(INFLUX, limits(100)));
}

#[test]
fn strict_writes_everything_within_a_second_and_serves_it_from_memory() {
    let (spool, _) = open(Simulated::new(), strict());
    let start = Instant::now();
    let _ = append(&spool, 0..10, start);
    assert!(spool.is_due(start + Duration::from_secs(1)));
    assert_eq!(spool.sync(start + Duration::from_secs(1)).unwrap().records, 10);
    assert_eq!((live(&spool, INFLUX), backlog(&spool, INFLUX)), (list(0..10), vec![]));
    release(&spool, 0..10);
    assert_eq!(spool.memory_bytes(), 0);
}

#[test]
fn in_strict_what_is_on_the_disk_leaves_a_full_memory_without_a_loss() {
    let cost = chunk::cost(1, text(0).len());
    let (spool, _) = open(Simulated::new(), bounds(10 * cost, 64 << 20, Durability::Strict));
    let now = Instant::now();
    let _ = append(&spool, 0..6, now);
    spool.sync(now).unwrap();
    assert_eq!(append(&spool, 0..4, now), 0, "there is room");
    assert_eq!(append(&spool, 0..6, now), 0, "six are safe");
    assert_eq!((backlog(&spool, INFLUX), live(&spool, INFLUX)), (list(0..6), list(6..16)));
    assert_eq!(append(&spool, 0..1, now), 1, "the next one is not");
    assert_eq!(spool.held(MIRROR).lost, Lost { memory_full: 1, ..Lost::default() });
}

/// It once kept what a dead target lacked in memory until memory was full of it, and then synced each record by itself.
#[test]
fn in_strict_what_is_on_the_disk_leaves_half_of_memory_to_what_is_not() {
    let cost = chunk::cost(1, text(10).len());
    let (spool, _) = open(Simulated::new(), bounds(10 * cost, 64 << 20, Durability::Strict));
    let now = Instant::now();
    let _ = append(&spool, 10..19, now);
    assert!(spool.is_due(now) && spool.is_full(INFLUX, limits(100)));
    spool.sync(now).unwrap();
    assert_eq!(live(&spool, INFLUX), list(5..9), "less than a half");
    assert_eq!((backlog(&spool, MIRROR), spool.held(MIRROR).lost), (list(0..5), Lost::default()));
    assert_eq!(spool.at_risk_bytes(), 0);
    let _ = append(&spool, 20..24, now);
    assert_eq!(spool.memory_bytes(), 8 * cost);
    assert!(!spool.is_due(now) && !spool.is_full(INFLUX, limits(100)), "four are not a half");
    assert_eq!(append(&spool, 24..30, now), 0, "there is room for ten");
    assert_eq!((spool.memory_bytes(), spool.at_risk_bytes()), (10 * cost, 10 * cost));
}

#[test]
fn in_strict_what_the_disk_had_to_give_up_is_still_given_from_memory_until_that_is_full() {
    let cost = chunk::cost(1, text(10_000).len());
    let storage = Simulated::new();
    let (spool, _) = open(storage.clone(), bounds(10_000 * cost, 100_000, Durability::Strict));
    let now = Instant::now();
    let _ = append(&spool, 10_000..14_000, now);
    spool.sync(now).unwrap();
    assert!(spool.disk_bytes() <= 100_000);
    assert_eq!((spool.held(MIRROR).lost, live(&spool, MIRROR)), (Lost::default(), list(0..4_000)));
    assert!(!spool.is_due(now) && spool.at_risk_bytes() == 0);
    let _ = append(&spool, 10_000..16_500, now);
    let held = spool.held(MIRROR);
    assert!(held.lost.spool_full >= 500 && held.lost.memory_full == 0, "{:?}", held.lost);
    assert_eq!(held.records + held.lost.spool_full, 10_500);
    // At the end, what is in memory alone is counted, and what is on the disk is there the next time.
    spool.close(now).unwrap();
    let held = spool.held(MIRROR);
    assert_eq!(held.records + held.lost.spool_full, 10_500);
    drop(spool);
    let (spool, recovered) = open(storage, strict());
    assert_eq!(recovered.readers[MIRROR], RecoveredReader { records: held.records, missing: 0 });
    assert_eq!(backlog(&spool, MIRROR).len() as u64, held.records);
}

/// A record that never fits once made the service sync for ever.
#[test]
fn a_record_that_is_too_large_for_the_disk_is_counted_and_leaves_nothing_to_do() {
    let (spool, _) = open(Simulated::new(), bounds(64 << 20, 100_000, Durability::Strict));
    let now = Instant::now();
    let _ = append(&spool, 0..3, now);
    let large = vec![b'x'; 200_000];
    let _ = spool.append([Record { time: time(3), context: None, bytes: &large }], now);
    spool.sync(now).unwrap();
    assert_eq!((live(&spool, INFLUX), spool.held(INFLUX).lost.spool_full), (list(0..3), 1));
    spool.sync(now + Duration::from_secs(1)).unwrap();
    assert!(!spool.is_due(now + Duration::from_secs(2)));
}

#[test]
fn the_time_of_a_record_that_goes_is_remembered_until_it_was_appended_once_more() {
    let storage = Simulated::new();
    let (spool, _) = open(storage.clone(), bounds(2_000, 1 << 20, Durability::Balanced));
    let now = Instant::now();
    let _ = append(&spool, 0..3, now);
    spool.told(time(2));
    let _ = spool.release(MIRROR, 0..=2);
    let large = vec![b'x'; 1_900];
    let _ = spool.append([Record { time: time(3), context: None, bytes: &large }], now);
    assert_eq!(spool.held(INFLUX).lost.memory_full, 3);
    assert_eq!([INFLUX, MIRROR].map(|reader| spool.torn(reader)), [Some(time(0)), None]);
    assert_eq!([INFLUX, MIRROR].map(|reader| spool.watermark(reader)), [Some(time(2)); 2], "it is counted as lost");
    spool.save_state().unwrap();
    drop(spool);
    let (spool, _) = open(storage, balanced());
    assert_eq!((spool.torn(INFLUX), spool.watermark(INFLUX)), (Some(time(0)), Some(time(2))));
    spool.begin_mending();
    spool.mended(time(0));
    assert_eq!((spool.torn(INFLUX), spool.watermark(INFLUX)), (None, Some(time(2))));
}

#[test]
fn what_is_reached_is_noted_now_and_then_though_nothing_is_on_the_disk() {
    let storage = Simulated::new();
    let (spool, _) = open(storage.clone(), balanced());
    let now = Instant::now();
    assert_eq!(spool.due_in(now), None);
    spool.told(time(5));
    assert!(spool.is_due(now));
    spool.sync_due(now).unwrap();
    assert_eq!(spool.due_in(now), Some(Duration::from_hours(1)));
    drop(spool);
    assert_eq!(open(storage, balanced()).0.watermark(INFLUX), Some(time(5)));
}

#[test]
fn at_the_limit_of_the_disk_the_oldest_file_goes_and_is_counted_for_those_who_lacked_it() {
    let storage = Simulated::new();
    let (spool, _) = open(storage.clone(), bounds(64 << 20, 300_000, Durability::Balanced));
    let now = Instant::now();
    let _ = append(&spool, 0..20_000, now);
    let _ = spool.release(INFLUX, 0..=99);
    spool.sync(now).unwrap();
    let on_disk: u64 = storage.list().unwrap().iter().map(|file| file.bytes).sum();
    assert!(spool.disk_bytes() <= 300_000 && on_disk <= 301_000);
    let [influx, mirror] = [INFLUX, MIRROR].map(|reader| spool.held(reader));
    assert_eq!(mirror.lost.spool_full, influx.lost.spool_full + 100);
    assert_eq!(mirror.records + mirror.lost.spool_full, 20_000);
    let first = mirror.lost.spool_full;
    assert_eq!(backlog(&spool, MIRROR), list(first..20_000), "the oldest went");
}

#[test]
fn a_failed_sync_leaves_the_records_in_memory_and_the_file_alone() {
    let (storage, spool) = with_backlog(0..10);
    let now = Instant::now();
    let _ = append(&spool, 10..20, now);
    storage.fail_next(Operation::Sync, ErrorKind::Other);
    let syncs = storage.count(Operation::Sync);
    let error = spool.sync(now).unwrap_err();
    assert_eq!(error.operation, fault::Operation::Sync);
    assert_eq!(storage.count(Operation::Sync), syncs + 1, "not a second time");
    assert_eq!((backlog(&spool, INFLUX), live(&spool, INFLUX)), (list(0..10), list(10..20)));
    assert!(spool.disk_use().degraded && !spool.is_due(now));
    assert_eq!(spool.disk_use().errors(fault::Operation::Sync), 1);
    assert_eq!(spool.due_in(now), Some(Duration::from_secs(5)), "then it is tried again");
    spool.sync(now + Duration::from_secs(5)).unwrap();
    assert!(!spool.disk_use().degraded);
    assert_eq!(segments(&storage).len(), 2, "in another file");
    drop(spool);
    storage.cut_power(Unsynced::Lost);
    assert_eq!(backlog(&open(storage, balanced()).0, INFLUX), list(0..20));
}

#[test]
fn a_write_that_failed_half_way_is_cut_off_and_the_file_goes_on() {
    let (storage, spool) = with_backlog(0..10);
    let now = Instant::now();
    let _ = append(&spool, 10..20, now);
    storage.fail_next(Operation::Write, ErrorKind::StorageFull);
    assert_eq!(spool.sync(now).unwrap_err().operation, fault::Operation::Write);
    spool.sync(now).unwrap();
    assert_eq!(segments(&storage).len(), 1);
    assert_eq!(backlog(&spool, INFLUX), list(0..20));
    // If it cannot be cut off, another file is used.
    let _ = append(&spool, 20..30, now);
    storage.fail_next(Operation::Write, ErrorKind::StorageFull);
    storage.fail_next(Operation::Truncate, ErrorKind::Other);
    storage.fail_next(Operation::Truncate, ErrorKind::Other);
    spool.sync(now).unwrap_err();
    spool.sync(now).unwrap();
    assert_eq!(segments(&storage).len(), 2);
    assert_eq!(backlog(&spool, INFLUX), list(0..30));
    drop(spool);
    assert_eq!(backlog(&open(storage, balanced()).0, INFLUX), list(0..30));
}

#[test]
fn a_disk_that_works_again_is_noticed_though_there_is_nothing_to_write() {
    let storage = Simulated::new();
    let (spool, _) = open(storage.clone(), balanced());
    let now = Instant::now();
    let _ = append(&spool, 0..10, now);
    storage.fail_next(Operation::Create, ErrorKind::ReadOnlyFilesystem);
    spool.sync(now).unwrap_err();
    release(&spool, 0..10);
    storage.fail_next(Operation::Replace, ErrorKind::ReadOnlyFilesystem);
    let later = now + Duration::from_secs(5);
    assert!(spool.is_due(later));
    spool.sync(later).unwrap_err();
    assert!(spool.disk_use().degraded);
    assert!(spool.is_due(later + Duration::from_secs(5)));
    spool.sync(later + Duration::from_secs(5)).unwrap();
    assert!(!spool.disk_use().degraded);
    assert_eq!(spool.due_in(later), None);
}

#[test]
fn a_full_disk_is_emptied_though_it_takes_no_note() {
    let (storage, spool) = with_backlog(0..10);
    release(&spool, 0..10);
    for _ in 0..2 {
        storage.fail_next(Operation::Replace, ErrorKind::StorageFull);
    }
    let _ = spool.sync(Instant::now());
    assert!(segments(&storage).is_empty());
    assert_eq!(spool.disk_use().errors(fault::Operation::Write), 1);
}

#[test]
fn a_full_disk_gets_the_room_of_the_file_that_is_being_written() {
    let storage = Simulated::new();
    let (spool, _) = open(storage.clone(), strict());
    let now = Instant::now();
    let _ = append(&spool, 0..10, now);
    assert!(spool.sync(now).is_ok());
    release(&spool, 0..10);
    assert!(spool.sync(now).is_ok());
    assert_eq!(segments(&storage).len(), 1);
    let _ = append(&spool, 10..20, now);
    storage.fail_next(Operation::Write, ErrorKind::StorageFull);
    assert!(spool.sync(now).is_err());
    release(&spool, 10..20);
    for _ in 0..2 {
        storage.fail_next(Operation::Replace, ErrorKind::StorageFull);
    }
    assert!(spool.sync(now).is_err());
    assert!(segments(&storage).is_empty());
    storage.heal();
    assert!(spool.sync(now).is_ok());
    assert!(!spool.disk_use().degraded);
}

#[test]
fn a_full_disk_is_emptied_though_it_takes_no_record() {
    for (kind, bounds) in [(ErrorKind::StorageFull, balanced()), (ErrorKind::QuotaExceeded, strict())] {
        let storage = Simulated::new();
        let (spool, _) = open(storage.clone(), bounds);
        let now = Instant::now();
        let _ = append(&spool, 0..10, now);
        spool.sync(now).unwrap();
        release(&spool, 0..10);
        let _ = append(&spool, 10..20, now);
        storage.fail_next(Operation::Write, kind);
        storage.fail_next(Operation::Replace, kind);
        assert_eq!(spool.sync(now).unwrap_err().operation, fault::Operation::Write);
        assert!(segments(&storage).is_empty() && spool.disk_use().degraded, "{kind:?}");
        spool.sync(now + Duration::from_secs(5)).unwrap();
        drop(spool);
        assert_eq!(backlog(&open(storage, bounds).0, MIRROR), list(10..20));
    }
}

#[test]
fn a_file_that_cannot_be_removed_is_told_and_does_not_mean_that_records_are_in_danger() {
    let (storage, spool) = with_backlog(0..10);
    release(&spool, 0..10);
    storage.fail_next(Operation::Remove, ErrorKind::PermissionDenied);
    assert!(spool.sync(Instant::now()).is_err());
    assert!(!spool.disk_use().degraded && !segments(&storage).is_empty());
    drop(spool);
    storage.fail_next(Operation::Remove, ErrorKind::PermissionDenied);
    let (spool, recovered) = open(storage.clone(), balanced());
    assert_eq!((spool.disk_use().errors(fault::Operation::Remove), recovered.findings), (1, Vec::new()));
    assert!(!spool.disk_use().degraded && !segments(&storage).is_empty());
    assert!(spool.sync(Instant::now()).is_ok());
    assert!(segments(&storage).is_empty());
}

#[test]
fn a_disk_that_takes_nothing_from_the_beginning_leaves_a_spool_in_memory() {
    let storage = Simulated::new();
    storage.fail_next(Operation::Replace, ErrorKind::ReadOnlyFilesystem);
    let (spool, recovered) = open(storage, balanced());
    assert!(matches!(recovered.findings[..], [Finding::ReadOnly { .. }]), "{:?}", recovered.findings);
    assert!(spool.disk_use().degraded);
    let _ = append(&spool, 0..10, Instant::now());
    assert_eq!(live(&spool, MIRROR), list(0..10));
    spool.sync(Instant::now()).unwrap();
    assert!(!spool.disk_use().degraded);
}

#[test]
fn a_damaged_record_at_the_head_does_not_stop_the_reader() {
    let (storage, spool) = with_backlog(0..10);
    storage.change(&segments(&storage)[0], |bytes| bytes[segment::HEADER + 30] ^= 1);
    drop(spool);
    let (spool, recovered) = open(storage, balanced());
    assert_eq!(recovered.readers[INFLUX].records, 10, "nobody has looked yet");
    assert_eq!(backlog(&spool, INFLUX), list(1..10));
    for reader in [INFLUX, MIRROR] {
        let held = spool.held(reader);
        assert_eq!((held.records, held.lost), (9, Lost { damaged: 1, ..Lost::default() }), "gone for all");
    }
    assert_eq!(spool.disk_use().corrupt_records, 1);
}

#[test]
fn a_flipped_bit_at_every_byte_of_a_middle_segment_costs_one_record_at_most() {
    let (storage, spool) = with_backlog(0..10);
    spool.close(Instant::now()).unwrap();
    for first in [10, 20] {
        let _ = append(&spool, first..first + 10, Instant::now());
        spool.close(Instant::now()).unwrap();
    }
    drop(spool);
    let names = segments(&storage);
    assert_eq!(names.len(), 3);
    let sound = storage.bytes(&names[1]);
    for at in 0..sound.len() {
        let copy = Simulated::new();
        for name in storage.names() {
            copy.put(&name, &storage.bytes(&name));
        }
        copy.change(&names[1], |bytes| bytes[at] ^= 0x40);
        let (spool, recovered) = open(copy, balanced());
        let given = backlog(&spool, INFLUX).len() as u64;
        let held = spool.held(INFLUX);
        assert_eq!(held.records, given);
        assert_eq!(given + held.lost.damaged + recovered.readers[INFLUX].missing, 30, "at {at}");
        let is_frame = at >= segment::HEADER && at < sound.len() - END_MARK;
        assert_eq!(given, if is_frame { 29 } else { 30 }, "at {at}");
    }
}

#[test]
fn a_torn_write_at_every_byte_of_the_last_record_costs_that_record() {
    let (storage, spool) = with_backlog(0..5);
    drop(spool);
    let name = &segments(&storage)[0];
    let [whole, note] = [name, state::NAME].map(|name| storage.bytes(name));
    for cut in whole.len() - 22 - text(4).len()..whole.len() {
        storage.put(name, &whole[..cut]);
        storage.put(state::NAME, &note);
        let (spool, recovered) = open(storage.clone(), balanced());
        assert_eq!((backlog(&spool, INFLUX), recovered.readers[INFLUX].missing), (list(0..4), 1), "cut at {cut}");
        let torn = recovered.findings.iter().filter(|finding| matches!(finding, Finding::Torn { .. })).count() as u64;
        assert_eq!(spool.disk_use().corrupt_records, 1 + torn, "the record, and the end that is none");
    }
}

#[test]
fn a_file_that_was_skipped_by_the_writer_does_not_hold_up_the_reader() {
    let (storage, spool) = with_backlog(0..10);
    let now = Instant::now();
    for round in 1..4 {
        let _ = append(&spool, round * 10..round * 10 + 10, now);
        storage.fail_next(Operation::Sync, ErrorKind::Other);
        spool.sync(now).unwrap_err();
        spool.sync(now).unwrap();
    }
    assert_eq!(backlog(&spool, INFLUX), list(0..40));
}

#[test]
fn a_missing_file_costs_what_was_in_it_and_is_told() {
    let (storage, spool) = with_backlog(0..10);
    spool.close(Instant::now()).unwrap();
    let _ = append(&spool, 10..20, Instant::now());
    spool.close(Instant::now()).unwrap();
    let name = &segments(&storage)[0];
    drop(spool);
    storage.take_away(name);
    let (spool, recovered) = open(storage.clone(), balanced());
    assert_eq!((recovered.readers[MIRROR].records, recovered.readers[MIRROR].missing), (10, 10));
    assert_eq!(backlog(&spool, MIRROR), list(10..20));
    // And if it goes while the spool is open.
    storage.take_away(&segments(&storage)[0]);
    assert_eq!(backlog(&spool, MIRROR), list(0..0));
    assert_eq!(spool.held(INFLUX).lost.damaged, 10);
}

#[test]
fn a_crash_between_the_removal_of_a_file_and_anything_else_does_not_matter() {
    for before_removal in [true, false] {
        let (storage, spool) = with_backlog(0..10);
        release(&spool, 0..10);
        storage.fail_next(Operation::Remove, ErrorKind::Other);
        spool.sync(Instant::now()).unwrap_err();
        let name = segments(&storage)[0].clone();
        drop(spool);
        if !before_removal {
            storage.take_away(&name);
        }
        let (spool, recovered) = open(storage.clone(), balanced());
        assert_eq!(recovered.readers[INFLUX], RecoveredReader::default(), "neither waiting nor missing");
        assert_eq!(segments(&storage), [] as [String; 0], "what nobody needs is gone");
        assert_eq!(spool.disk_bytes(), 0);
    }
}

#[test]
fn ids_are_not_used_again_after_everything_was_taken() {
    let (storage, spool) = with_backlog(0..10);
    release(&spool, 0..10);
    spool.close(Instant::now()).unwrap();
    drop(spool);
    let (spool, _) = open(storage, balanced());
    let _ = append(&spool, 10..11, Instant::now());
    assert_eq!(live(&spool, INFLUX), [10]);
}

#[test]
fn sizes_are_right_after_taking_parts_and_opening_again() {
    let (storage, spool) = with_backlog(0..1_000);
    for first in (0..900).step_by(90) {
        let batch = spool.peek_backlog(INFLUX, limits(90), Instant::now()).batch;
        assert_eq!(ids(batch), list(first..first + 90));
        let _ = spool.release(INFLUX, first..=first + 89);
    }
    spool.close(Instant::now()).unwrap();
    let on_disk =
        |storage: &Simulated| -> u64 { segments(storage).iter().map(|name| storage.bytes(name).len() as u64).sum() };
    assert_eq!((spool.disk_bytes(), spool.memory_bytes()), (on_disk(&storage), 0));
    drop(spool);
    let (spool, recovered) = open(storage.clone(), balanced());
    assert_eq!([INFLUX, MIRROR].map(|reader| recovered.readers[reader].records), [100, 1_000]);
    assert_eq!((spool.disk_bytes(), spool.memory_bytes()), (on_disk(&storage), 0));
    release(&spool, 0..1_000);
    spool.sync(Instant::now()).unwrap();
    assert_eq!((spool.disk_bytes(), on_disk(&storage)), (0, 0));
}

/// A sender that acknowledges only some records of a batch must keep the others, in order, wherever they are.
#[test]
fn acknowledging_some_records_of_a_batch_keeps_the_others_in_order() {
    let (_, spool) = with_backlog(0..10);
    let _ = append(&spool, 10..20, Instant::now());
    for ids in [7..=7, 2..=3, 15..=16, 9..=11, 7..=8] {
        let _ = spool.release(INFLUX, ids);
    }
    assert_eq!((backlog(&spool, INFLUX), live(&spool, INFLUX)), (vec![0, 1, 4, 5, 6], vec![12, 13, 14, 17, 18, 19]));
    let held = spool.held(INFLUX);
    assert_eq!((held.records, held.backlog_records), (11, 5));
    assert_eq!(spool.release(INFLUX, 0..=13), [0..2, 4..7, 12..14], "each once");
    assert_eq!(spool.held(MIRROR).records, 20, "the other one has its own");
    spool.sync(Instant::now()).unwrap();
    assert_eq!(backlog(&spool, INFLUX), [14, 17, 18, 19]);
}

#[test]
fn a_newer_format_is_refused_and_not_touched() {
    let (storage, spool) = with_backlog(0..10);
    drop(spool);
    let name = &segments(&storage)[0];
    storage.change(name, |bytes| {
        bytes[7] = 2;
        let checksum = crc32fast::hash(&bytes[..24]);
        bytes[24..28].copy_from_slice(&checksum.to_le_bytes());
    });
    let before: Vec<Vec<u8>> = storage.names().iter().map(|name| storage.bytes(name)).collect();
    let error = Spool::open(storage.clone(), balanced(), &["influxdb"]).err().unwrap();
    assert!(matches!(error, OpenError::NewerFormat { version: 2, .. }), "{error}");
    assert!(error.to_string().contains("a newer version of this program"), "{error}");
    let after: Vec<Vec<u8>> = storage.names().iter().map(|name| storage.bytes(name)).collect();
    assert_eq!(after, before);
}

#[test]
fn files_that_are_no_segments_are_named_and_stop_nobody() {
    let (storage, spool) = with_backlog(0..10);
    drop(spool);
    let segment = storage.bytes(&segments(&storage)[0]);
    storage.put("notes.txt", b"hello");
    storage.put(&segment::name(4), &segment);
    storage.put(&segment::name(5), b"");
    storage.put(&segment::name(6), &[0; 900]);
    storage.put(&segment::name(7), b"something else, longer than a header is, and no header");
    let (spool, recovered) = open(storage.clone(), balanced());
    let no_records = |id| Finding::NoRecords { file: segment::name(id) };
    assert_eq!(
        recovered.findings,
        [
            Finding::Foreign { file: "notes.txt".to_owned() },
            no_records(7),
            no_records(6),
            no_records(5),
            Finding::Misnamed { file: segment::name(4) },
        ]
    );
    assert_eq!(backlog(&spool, INFLUX), list(0..10), "they do not cut the segment off");
    assert_eq!(segments(&storage), [segment::name(0), segment::name(4)]);
}

#[test]
fn a_segment_that_cannot_be_read_now_is_read_later_or_given_up_at_last() {
    let (storage, spool) = with_backlog(0..10);
    spool.close(Instant::now()).unwrap();
    drop(spool);
    storage.fail_next(Operation::Open, ErrorKind::PermissionDenied);
    let (spool, recovered) = open(storage.clone(), balanced());
    assert!(matches!(recovered.findings[..], [Finding::Unreadable { .. }]), "{:?}", recovered.findings);
    assert_eq!(recovered.readers[INFLUX].records, 10);
    let start = Instant::now();
    let peek = |seconds, failing: Option<Operation>| {
        failing.inspect(|operation| storage.fail_next(*operation, ErrorKind::Other));
        let peeked = spool.peek_backlog(INFLUX, limits(5), start + Duration::from_secs(seconds));
        (ids(peeked.batch), peeked.left_out, peeked.error.map(|error| error.operation))
    };
    assert_eq!(peek(0, Some(Operation::Read)), (vec![], true, Some(fault::Operation::Read)));
    assert_eq!(peek(4, None), (vec![], true, None), "it is left alone for a while");
    assert_eq!(peek(5, None), (list(0..5), false, None), "it can be read again");
    for seconds in (10..310).step_by(10) {
        assert_eq!(peek(seconds, Some(Operation::Open)), (vec![], true, Some(fault::Operation::Open)), "{seconds}");
    }
    assert_eq!(spool.held(INFLUX).records, 10, "not yet");
    assert_eq!(peek(310, Some(Operation::Open)), (vec![], false, Some(fault::Operation::Open)));
    assert_eq!((spool.held(INFLUX).records, spool.held(INFLUX).lost.damaged), (0, 10));
}

#[test]
fn a_segment_that_cannot_be_read_holds_up_neither_those_after_it_nor_another_reader() {
    let (storage, spool) = with_backlog(0..10);
    let now = Instant::now();
    spool.close(now).unwrap();
    let _ = append(&spool, 10..20, now);
    spool.close(now).unwrap();
    storage.fail_next(Operation::Read, ErrorKind::Other);
    let peeked = spool.peek_backlog(INFLUX, limits(100), now);
    assert!(peeked.left_out && peeked.error.is_some());
    assert_eq!(ids(peeked.batch), list(10..20));
    assert_eq!(backlog(&spool, MIRROR), list(0..20));
    let later = spool.peek_backlog(INFLUX, limits(100), now + Duration::from_secs(5));
    assert_eq!(ids(later.batch), list(0..20));
}

#[test]
fn a_new_reader_gets_what_is_new_and_one_that_left_is_told() {
    let (storage, spool) = with_backlog(0..10);
    let _ = spool.release(MIRROR, 0..=3);
    spool.close(Instant::now()).unwrap();
    drop(spool);
    let (spool, recovered) = Spool::open(storage.clone(), balanced(), &["influxdb", "mirror_2"]).unwrap();
    assert_eq!(recovered.dropped_readers, [("mirror_1".to_owned(), 6)]);
    assert_eq!([0, 1].map(|reader| spool.held(reader).records), [10, 0]);
    let _ = append(&spool, 10..12, Instant::now());
    assert_eq!(live(&spool, 1), [10, 11]);
    spool.close(Instant::now()).unwrap();
    drop(spool);
    let (spool, recovered) = Spool::open(storage, balanced(), &["mirror_1"]).unwrap();
    assert_eq!(spool.held(0).records, 0, "who comes back is new");
    assert_eq!(recovered.dropped_readers.len(), 2);
}

#[test]
fn without_a_note_everything_on_the_disk_is_sent_once_more() {
    let (storage, spool) = with_backlog(0..10);
    let _ = spool.release(INFLUX, 0..=5);
    spool.close(Instant::now()).unwrap();
    drop(spool);
    storage.take_away(state::NAME);
    let (spool, recovered) = open(storage, balanced());
    assert_eq!(recovered.findings, [Finding::StateMissing]);
    assert_eq!([INFLUX, MIRROR].map(|reader| spool.held(reader).records), [10, 10]);
}

#[test]
fn what_was_taken_is_noted_every_thirty_seconds() {
    let (storage, spool) = with_backlog(0..10);
    let start = Instant::now() + Duration::from_mins(1);
    spool.sync(start).unwrap();
    let _ = spool.release(INFLUX, 0..=5);
    assert_eq!(spool.due_in(start), Some(Duration::from_secs(30)));
    spool.sync(start + Duration::from_secs(29)).unwrap();
    let taken = |storage: &Simulated| {
        let state::Loaded::State(state) = state::load(storage) else { panic!("there is a note") };
        state.readers["influxdb"].pending.clone()
    };
    assert_eq!(taken(&storage), [Range { start: 0, end: 10 }]);
    spool.sync(start + Duration::from_secs(30)).unwrap();
    assert_eq!(taken(&storage), [Range { start: 6, end: 10 }]);
}

#[test]
fn the_watermark_is_the_last_time_told_before_the_first_record_that_is_neither_taken_nor_on_the_disk() {
    let storage = Simulated::new();
    let (spool, _) = open(storage.clone(), balanced());
    let now = Instant::now();
    for id in 0..10 {
        let _ = append(&spool, id..id + 1, now);
        spool.told(time(id));
    }
    assert_eq!(spool.watermark(INFLUX), None);
    let _ = spool.release(INFLUX, 3..=5);
    assert_eq!(spool.watermark(INFLUX), None, "0 is in memory alone");
    let _ = spool.release(INFLUX, 0..=1);
    assert_eq!(spool.watermark(INFLUX), Some(time(1)));
    let _ = spool.release(INFLUX, 2..=2);
    assert_eq!(spool.watermark(INFLUX), Some(time(5)));
    spool.sync(now).unwrap();
    assert_eq!([INFLUX, MIRROR].map(|reader| spool.watermark(reader)), [Some(time(9)); 2]);
    for id in 10..12 {
        let _ = append(&spool, id..id + 1, now);
        spool.told(time(id));
    }
    assert_eq!(spool.watermark(MIRROR), Some(time(9)));
    let _ = spool.release(MIRROR, 10..=10);
    assert_eq!(spool.watermark(MIRROR), Some(time(10)), "the backlog is safe");
    spool.save_state().unwrap();
    drop(spool);
    assert_eq!(open(storage, balanced()).0.watermark(MIRROR), Some(time(10)));
}

#[test]
fn the_oldest_record_is_known_on_the_disk_and_in_memory() {
    let (_, spool) = with_backlog(3..10);
    let now = Instant::now() + Duration::from_secs(1);
    assert_eq!(spool.held(INFLUX).oldest, Some(time(3)));
    let _ = append(&spool, 10..12, now);
    let _ = spool.release(INFLUX, 0..=1);
    let _ = spool.peek_backlog(INFLUX, limits(1), Instant::now()).batch;
    assert_eq!(spool.held(INFLUX).oldest, Some(time(5)), "the third one on the disk");
    assert_eq!(spool.live_waits_since(INFLUX), Some(now));
    let _ = spool.release(INFLUX, 0..=7);
    assert_eq!(spool.held(INFLUX).oldest, Some(time(11)));
    let _ = spool.release(INFLUX, 0..=8);
    assert_eq!((spool.held(INFLUX).oldest, spool.live_waits_since(INFLUX)), (None, None));
}

#[test]
fn opening_reads_the_ends_of_closed_segments_and_no_more() {
    let storage = Simulated::new();
    let (spool, _) = open(storage.clone(), bounds(64 << 20, 64 << 20, Durability::Balanced));
    let bytes = vec![b'x'; 1_000];
    let records = (0..40_000).map(|id| Record { time: time(id), context: None, bytes: &bytes });
    let _ = spool.append(records, Instant::now());
    spool.close(Instant::now()).unwrap();
    drop(spool);
    let count = segments(&storage).len() as u64;
    assert!(count >= 10, "{count}");
    let before = storage.count(Operation::Read);
    let (_, recovered) = open(storage.clone(), balanced());
    assert_eq!(recovered.readers[INFLUX].records, 40_000);
    assert_eq!(storage.count(Operation::Read) - before, 2 * count + 1, "header, end mark, and the note");
}

#[test]
fn a_real_folder_keeps_what_a_simulated_one_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path().join("spool"));
    let (spool, _) = open(disk.clone(), balanced());
    let _ = append(&spool, 0..100_000, Instant::now());
    assert_eq!(spool.close(Instant::now()).unwrap().records, 100_000);
    drop(spool);
    let (spool, recovered) = open(disk.clone(), balanced());
    assert_eq!(recovered.findings, []);
    let batch = spool.peek_backlog(INFLUX, limits(100_000), Instant::now()).batch.unwrap();
    assert!((0..100_000).all(|at| batch.get(at).bytes == text(at as u64)));
    release(&spool, 0..100_000);
    spool.sync(Instant::now()).unwrap();
    assert_eq!(disk.list().unwrap().len(), 1, "the note");
}
