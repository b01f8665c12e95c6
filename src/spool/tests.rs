//! What the spool promises: random operations against a plain model, and the known defects of other buffers.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::Range;
use std::time::{Duration, Instant};

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::Index;
use proptest::{collection, proptest};

use super::segment::{self, Found, Scan};
use super::simulated::{Operation, Simulated, Unsynced};
use super::storage::Storage as _;
use super::{Bounds, Durability, Held, Limits, Spool, chunk, state};
use crate::model::event::ContextId;
use crate::model::record::{Batch, Record};
use crate::model::time::Timestamp;

const READERS: [&str; 2] = ["influxdb", "mirror_1"];

const ROOM: Bounds = bounds(64 << 20, 64 << 20, Durability::Balanced);

const fn bounds(memory: usize, disk: u64, durability: Durability) -> Bounds {
    Bounds {
        memory_bytes: NonZeroUsize::new(memory).unwrap(),
        disk_bytes: NonZeroU64::new(disk).unwrap(),
        durability,
        age: Duration::from_secs(5),
    }
}

fn limits(records: usize, bytes: usize) -> Limits {
    Limits { records: NonZeroUsize::new(records).unwrap(), bytes: NonZeroUsize::new(bytes).unwrap() }
}

/// The record with this number in the life of a test; each is different.
fn payload(serial: u64, size: usize) -> Vec<u8> {
    let mut bytes = format!("{serial} ").into_bytes();
    bytes.resize(bytes.len().max(size), b'x');
    bytes
}

fn context(serial: u64) -> Option<ContextId> {
    serial.is_multiple_of(3).then(|| ContextId::parse(&format!("{serial:026}")).unwrap())
}

fn time(serial: u64) -> Timestamp {
    Timestamp::from_micros(serial.cast_signed() * 1_000)
}

#[derive(Debug, Clone)]
enum Step {
    Append {
        count: usize,
        size: usize,
    },
    Sync,
    Close,
    Wait {
        millis: u64,
    },
    PeekLive {
        reader: usize,
        records: usize,
        bytes: usize,
    },
    PeekBacklog {
        reader: usize,
        records: usize,
        bytes: usize,
    },
    /// Places in the last batch that the reader saw; they may be gone, and more may be named than there are.
    Release {
        reader: usize,
        from: Index,
        count: usize,
    },
    Fail {
        operation: Operation,
        kind: ErrorKind,
    },
    Reopen {
        how: How,
        damage: Vec<Damage>,
    },
}

#[derive(Debug, Clone, Copy)]
enum How {
    Closed,
    Killed,
    PowerCut(Unsynced),
}

#[derive(Debug, Clone)]
enum Damage {
    CutTail { file: Index, bytes: Index },
    FlipBit { file: Index, bit: Index },
    Zeroed { file: Index },
    Missing { file: Index },
    NoState,
}

fn step() -> impl Strategy<Value = Step> {
    let reader = 0..READERS.len();
    let operation = prop_oneof![
        Just(Operation::Create),
        Just(Operation::Write),
        Just(Operation::Read),
        Just(Operation::Open),
        Just(Operation::Truncate),
        Just(Operation::Sync),
        Just(Operation::SyncNames),
        Just(Operation::Remove),
        Just(Operation::Replace),
    ];
    let kind = prop_oneof![Just(ErrorKind::StorageFull), Just(ErrorKind::Other)];
    let peek = (reader.clone(), 1..60_usize, 1..20_000_usize);
    prop_oneof![
        6 => (1..40_usize, prop_oneof![9 => 0..600_usize, 1 => 0..20_000_usize])
            .prop_map(|(count, size)| Step::Append { count, size }),
        3 => Just(Step::Sync),
        1 => Just(Step::Close),
        2 => (0..40_000_u64).prop_map(|millis| Step::Wait { millis }),
        3 => peek.clone().prop_map(|(reader, records, bytes)| Step::PeekLive { reader, records, bytes }),
        3 => peek.prop_map(|(reader, records, bytes)| Step::PeekBacklog { reader, records, bytes }),
        6 => (reader, any::<Index>(), prop_oneof![1..9_usize, Just(1_000)])
            .prop_map(|(reader, from, count)| Step::Release { reader, from, count }),
        2 => (operation, kind).prop_map(|(operation, kind)| Step::Fail { operation, kind }),
        2 => (how(), collection::vec(damage(), 0..2)).prop_map(|(how, damage)| Step::Reopen { how, damage }),
    ]
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        Just(How::Closed),
        Just(How::Killed),
        prop_oneof![
            Just(Unsynced::Lost),
            any::<u8>().prop_map(Unsynced::Torn),
            Just(Unsynced::Zeroed),
            Just(Unsynced::Kept)
        ]
        .prop_map(How::PowerCut),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<Index>(), any::<Index>()).prop_map(|(file, bytes)| Damage::CutTail { file, bytes }),
        (any::<Index>(), any::<Index>()).prop_map(|(file, bit)| Damage::FlipBit { file, bit }),
        any::<Index>().prop_map(|file| Damage::Zeroed { file }),
        any::<Index>().prop_map(|file| Damage::Missing { file }),
        Just(Damage::NoState),
    ]
}

/// A spool and what is known about it without asking it.
struct World {
    storage: Simulated,
    bounds: Bounds,
    spool: Spool<Simulated>,
    now: Instant,
    next_serial: u64,
    /// Which records were ever given this id, before and after crashes.
    serials: BTreeMap<u64, BTreeSet<u64>>,
    sizes: BTreeMap<u64, usize>,
    /// What each reader lacks.
    lacks: [BTreeSet<u64>; 2],
    /// What must survive everything but damage.
    safe: BTreeSet<u64>,
    /// What may turn out to be gone.
    damaged: BTreeSet<u64>,
    seen: [Vec<u64>; 2],
    lost: [u64; 2],
    /// The id that follows what was appended before each mark. A mark is the number of all records that ever came.
    marks: BTreeMap<u64, u64>,
}

impl World {
    fn new(bounds: Bounds) -> Self {
        let storage = Simulated::new();
        let (spool, recovered) = Spool::open(storage.clone(), bounds, &READERS).unwrap();
        assert_eq!(recovered.findings, []);
        Self {
            storage,
            bounds,
            spool,
            now: Instant::now(),
            next_serial: 0,
            serials: BTreeMap::new(),
            sizes: BTreeMap::new(),
            lacks: Default::default(),
            safe: BTreeSet::new(),
            damaged: BTreeSet::new(),
            seen: Default::default(),
            lost: [0; 2],
            marks: BTreeMap::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Append { count, size } => self.append(*count, *size),
            Step::Sync => self.sync(),
            Step::Close => {
                if self.spool.close(self.now).is_ok() {
                    self.safe = self.all_on_disk();
                }
            }
            Step::Wait { millis } => {
                self.now += Duration::from_millis(*millis);
                if self.spool.is_due(self.now) && self.spool.sync_due(self.now).is_ok() {
                    self.compare();
                    if self.spool.not_on_disk().iter().all(|(_, records)| *records == 0) {
                        self.safe = self.all_lacked();
                    }
                    assert!(!self.spool.is_due(self.now), "nothing is left to do");
                }
            }
            Step::PeekLive { reader, records, bytes } => {
                let batch = self.spool.peek_live(*reader, limits(*records, *bytes));
                let expected: Vec<u64> = self.lacks[*reader].range(self.memory_start()..).copied().collect();
                self.see(*reader, batch, &expected, limits(*records, *bytes));
            }
            Step::PeekBacklog { reader, records, bytes } => {
                self.peek_backlog(*reader, limits(*records, *bytes));
            }
            Step::Release { reader, from, count } => self.release(*reader, *from, *count),
            Step::Fail { operation, kind } => self.storage.fail_next(*operation, *kind),
            Step::Reopen { how, damage } => self.reopen(*how, damage),
        }
        self.compare();
    }

    fn append(&mut self, count: usize, size: usize) {
        let first = self.next_serial;
        self.next_serial += count as u64;
        let payloads: Vec<Vec<u8>> = (first..self.next_serial).map(|serial| payload(serial, size)).collect();
        let records = (first..).zip(&payloads).map(|(serial, bytes)| Record {
            time: time(serial),
            context: context(serial),
            bytes,
        });
        let id = self.next_id();
        let can_fit = chunk::cost(1, payloads[0].len()) <= self.bounds.memory_bytes.get();
        let _ = self.spool.append(records, self.now);
        if !can_fit {
            assert_eq!(self.next_id(), id);
            self.lost.iter_mut().for_each(|lost| *lost += count as u64);
            return;
        }
        for (id, serial) in (id..).zip(first..self.next_serial) {
            self.serials.entry(id).or_default().insert(serial);
            self.sizes.insert(serial, size);
            self.damaged.remove(&id);
            self.lacks.iter_mut().for_each(|lacks| assert!(lacks.insert(id)));
        }
        assert_eq!(self.next_id(), id + count as u64, "each record gets an id");
        self.spool.mark(self.next_serial);
        self.marks.insert(self.next_serial, self.next_id());
    }

    /// What is lacked, was said to be safe, and is not in memory alone because the disk had to give it up.
    fn promised(&self) -> BTreeSet<u64> {
        let below = self.marks.get(&self.spool.safe_mark()).copied().unwrap_or_default();
        let expired = self.spool.desk().ledger.expired_ids();
        self.all_lacked().into_iter().filter(|id| *id < below && !expired.contains(id)).collect()
    }

    fn all_marks_are_safe(&self) {
        assert_eq!(self.spool.safe_mark(), self.marks.last_key_value().map_or(0, |(mark, _)| *mark));
    }

    fn sync(&mut self) {
        if let Ok(synced) = self.spool.sync(self.now) {
            assert!(synced.records == 0 || self.spool.disk_bytes() <= self.bounds.disk_bytes.get());
            // What was lost by that is not among it.
            self.compare();
            self.safe = self.all_on_disk();
            self.all_marks_are_safe();
            assert!(!self.spool.is_due(self.now), "nothing is left to do");
        }
    }

    fn peek_backlog(&mut self, reader: usize, limits: Limits) {
        let peeked = self.spool.peek_backlog(reader, limits, self.now);
        self.compare();
        let mut expected: Vec<u64> = self.lacks[reader].range(..self.memory_start()).copied().collect();
        if peeked.left_out {
            let given: BTreeSet<u64> =
                peeked.batch.iter().flat_map(|batch| (0..batch.len()).map(|at| batch.id(at))).collect();
            expected.retain(|id| given.contains(id));
        }
        self.see(reader, peeked.batch, &expected, limits);
    }

    /// A batch must be the first of what is lacked, byte for byte. A failing disk may make it shorter.
    fn see(&mut self, reader: usize, batch: Option<Batch>, expected: &[u64], limits: Limits) {
        let batch = batch.unwrap_or_default();
        assert_eq!(batch.is_empty(), expected.is_empty());
        assert!(batch.len() <= limits.records.get());
        assert!(batch.len() <= 1 || batch.bytes().len() <= limits.bytes.get());
        assert!(batch.len() <= expected.len());
        for (at, id) in (0..batch.len()).zip(expected) {
            let record = batch.get(at);
            assert_eq!(batch.id(at), *id, "in the order of ids, none left out");
            let came = self.serials[&batch.id(at)].iter().any(|serial| {
                record.bytes == payload(*serial, self.sizes[serial])
                    && (record.time, record.context) == (time(*serial), context(*serial))
            });
            assert!(came, "the record {} is as it came", batch.id(at));
        }
        self.seen[reader] = (0..batch.len()).map(|at| batch.id(at)).collect();
    }

    fn release(&mut self, reader: usize, from: Index, count: usize) {
        let Some(first) = self.seen[reader].get(from.index(self.seen[reader].len().max(1))) else { return };
        let ids = *first..=first + count as u64;
        let released: Vec<u64> = self.spool.release(reader, ids.clone()).into_iter().flatten().collect();
        let expected: Vec<u64> = self.lacks[reader].range(ids).copied().collect();
        assert_eq!(released, expected);
        for id in &expected {
            assert!(self.lacks[reader].remove(id));
        }
    }

    fn reopen(&mut self, how: How, damage: &[Damage]) {
        // Reading is what the model is checked with; what cannot be read has its own test.
        self.storage.heal();
        let closed = matches!(how, How::Closed) && self.spool.close(self.now).is_ok();
        if closed {
            self.compare();
            self.safe = self.all_on_disk();
        }
        let mut must_be_there = self.promised();
        must_be_there.extend(&self.safe);
        if let How::PowerCut(unsynced) = how {
            self.storage.cut_power(unsynced);
        }
        self.storage.evict();
        for damage in damage {
            self.damage(damage);
        }
        let (spool, recovered) = Spool::open(self.storage.clone(), self.bounds, &READERS).unwrap();
        self.spool = spool;
        self.lost = [0; 2];
        self.seen = Default::default();
        for reader in 0..READERS.len() {
            let held = self.held_ids(reader);
            assert_eq!(recovered.readers[reader].records, held.len() as u64);
            let lacked: BTreeSet<u64> = self.lacks[reader].intersection(&must_be_there).copied().collect();
            let gone: Vec<u64> = lacked.difference(&held).filter(|id| !self.damaged.contains(id)).copied().collect();
            assert_eq!(gone, [] as [u64; 0], "records were lost in {how:?} with {damage:?}, {recovered:?}");
            if closed && damage.is_empty() {
                assert_eq!(held, self.lacks[reader], "an end in good order forgets nothing");
            }
            assert!(held.iter().all(|id| self.serials.contains_key(id)), "nobody invents records");
            self.lacks[reader] = held;
        }
        self.safe = self.all_on_disk();
        self.marks.clear();
        assert_eq!(self.memory_start(), self.next_id(), "all is on the disk");
    }

    fn damage(&mut self, damage: &Damage) {
        let names: Vec<String> =
            self.storage.names().into_iter().filter(|name| segment::first_id_of(name).is_some()).collect();
        let pick = |file: &Index| (!names.is_empty()).then(|| names[file.index(names.len())].clone());
        let (name, most) = match damage {
            Damage::NoState => return self.storage.take_away(state::NAME),
            Damage::CutTail { file, .. } | Damage::Zeroed { file } | Damage::Missing { file } => {
                (pick(file), usize::MAX)
            }
            Damage::FlipBit { file, .. } => (pick(file), 1),
        };
        let Some(name) = name else { return };
        let before = self.ids_in(&name);
        self.storage.change(&name, |bytes| match damage {
            Damage::CutTail { bytes: cut, .. } => bytes.truncate(cut.index(bytes.len() + 1)),
            Damage::FlipBit { bit, .. } if !bytes.is_empty() => {
                let bit = bit.index(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            _ => bytes.fill(0),
        });
        if matches!(damage, Damage::Missing { .. }) {
            self.storage.take_away(&name);
        }
        let after = if self.storage.names().contains(&name) { self.ids_in(&name) } else { BTreeSet::new() };
        let hit: Vec<u64> = before.difference(&after).copied().collect();
        assert!(hit.len() <= most, "{damage:?} costs {hit:?}");
        self.damaged.extend(hit);
    }

    fn ids_in(&self, name: &str) -> BTreeSet<u64> {
        let first_id = segment::first_id_of(name).unwrap();
        let file = self.storage.open(name).unwrap();
        let length = self.storage.bytes(name).len() as u64;
        let mut scan = Scan::new(&self.storage, &file, first_id, u64::MAX, length);
        let mut ids = BTreeSet::new();
        loop {
            match scan.next().unwrap() {
                Found::Record(id, _) => assert!(ids.insert(id)),
                Found::Gap { .. } => {}
                Found::End => return ids,
            }
        }
    }

    /// Takes note of what the spool lost, if it may lose it and says so.
    fn compare(&mut self) {
        for reader in 0..READERS.len() {
            let held = self.held_ids(reader);
            assert!(held.is_subset(&self.lacks[reader]), "nothing comes back");
            let gone: Vec<u64> = self.lacks[reader].difference(&held).copied().collect();
            let Held { records, backlog_records, oldest, lost } = self.spool.held(reader);
            assert_eq!(records, held.len() as u64);
            assert_eq!(backlog_records, held.range(..self.memory_start()).count() as u64);
            assert!(oldest.is_none() || !held.is_empty());
            let all = lost.spool_full + lost.memory_full + lost.damaged;
            assert_eq!(all - self.lost[reader], gone.len() as u64, "every loss is counted, once: {gone:?}");
            self.lost[reader] = all;
            if self.bounds.memory_bytes == ROOM.memory_bytes {
                assert_eq!((lost.spool_full, lost.memory_full), (0, 0), "there is room");
                assert!(gone.iter().all(|id| self.damaged.contains(id)), "sound records stay: {gone:?}");
            }
            self.lacks[reader] = held;
        }
        let expired = self.spool.desk().ledger.expired_ids();
        self.safe.retain(|id| !expired.contains(id));
        assert!(self.spool.memory_bytes() <= self.bounds.memory_bytes.get());
    }

    fn held_ids(&self, reader: usize) -> BTreeSet<u64> {
        let desk = self.spool.desk();
        desk.ledger.reader(reader).pending.within(0..desk.ledger.front().next_id()).flatten().collect()
    }

    fn all_lacked(&self) -> BTreeSet<u64> {
        self.lacks.iter().flatten().copied().collect()
    }

    /// After a sync: of what is lacked, all but what the disk had to give up and memory still has.
    fn all_on_disk(&self) -> BTreeSet<u64> {
        let expired = self.spool.desk().ledger.expired_ids();
        self.all_lacked().into_iter().filter(|id| !expired.contains(id)).collect()
    }

    fn memory_start(&self) -> u64 {
        self.spool.desk().ledger.front().start()
    }

    fn next_id(&self) -> u64 {
        self.spool.desk().ledger.front().next_id()
    }

    /// Both readers take everything; then nothing is left anywhere.
    fn drain(&mut self) {
        self.storage.heal();
        for reader in 0..READERS.len() {
            while !self.lacks[reader].is_empty() {
                // What could not be read is tried again after a while.
                self.now += Duration::from_secs(5);
                self.peek_backlog(reader, limits(50, 10_000));
                if self.seen[reader].is_empty() {
                    self.take(&Step::PeekLive { reader, records: 50, bytes: 10_000 });
                }
                let seen = self.seen[reader].clone();
                assert!(!seen.is_empty() || self.lacks[reader].is_empty(), "what is held can be had");
                for id in seen {
                    assert_eq!(self.spool.release(reader, id..=id), [Range { start: id, end: id + 1 }]);
                    assert!(self.lacks[reader].remove(&id));
                }
                self.compare();
            }
        }
        self.all_marks_are_safe();
        self.spool.close(self.now).unwrap();
        let left: Vec<String> =
            self.storage.names().into_iter().filter(|name| segment::first_id_of(name).is_some()).collect();
        assert_eq!(left, [] as [String; 0], "files that nobody needs are gone");
    }
}

fn check(bounds: Bounds, steps: &[Step]) {
    let mut world = World::new(bounds);
    for step in steps {
        world.take(step);
    }
    world.drain();
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

    #[test]
    fn with_room_for_all_nothing_is_lost_but_by_damage(
        strict in any::<bool>(),
        steps in collection::vec(step(), 1..60),
    ) {
        let durability = if strict { Durability::Strict } else { Durability::Balanced };
        check(Bounds { durability, ..ROOM }, &steps);
    }

    #[test]
    fn without_room_every_loss_is_counted(
        memory in prop_oneof![Just(4_000_usize), Just(40_000), Just(1 << 20)],
        disk in prop_oneof![Just(30_000_u64), Just(150_000), Just(64 << 20)],
        strict in any::<bool>(),
        steps in collection::vec(step(), 1..60),
    ) {
        let durability = if strict { Durability::Strict } else { Durability::Balanced };
        check(bounds(memory, disk, durability), &steps);
    }
}
