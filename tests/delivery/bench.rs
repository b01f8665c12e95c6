//! A spool, a delivery and their books.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ha_ingestor::config::secret::Secret;
use ha_ingestor::config::settings::{self, Api, Breaker, Compression, Tls};
use ha_ingestor::dead_letters::{LIMIT_BYTES, Store};
use ha_ingestor::deliver;
use ha_ingestor::influx::Target;
use ha_ingestor::model::event::Source;
use ha_ingestor::model::record::Record;
use ha_ingestor::model::time::Timestamp;
use ha_ingestor::runtime::backoff::Policy;
use ha_ingestor::runtime::group::{Group, shut_down};
use ha_ingestor::spool::shared::Shared;
use ha_ingestor::spool::{Bounds, Durability};
use ha_ingestor::status::board::Board;
use ha_ingestor::status::snapshot::{Books, Circuit, Link, Snapshot, Writes};
use ha_ingestor::status::target::TargetBoard;
use tempfile::TempDir;

pub(crate) struct Bench {
    pub(crate) board: Arc<Board>,
    pub(crate) target: Arc<TargetBoard>,
    pub(crate) letters: Store,
    spool: Shared,
    delivery: Group,
    keeping: Group,
    folder: Arc<TempDir>,
}

/// The one target, and what is around it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) books: Books,
    pub(crate) target: Link,
    pub(crate) circuit: Circuit,
    pub(crate) writes: Writes,
    pub(crate) tasks: Vec<String>,
    unaccounted: i128,
}

pub(crate) fn server(url: &str, api: Api) -> settings::Server {
    settings::Server {
        url: url.parse().unwrap(),
        api,
        database: "home".into(),
        retention_policy: None,
        username: None,
        password: Secret::default(),
        organization: Some("org".into()),
        bucket: "home".into(),
        token: Secret::default(),
        tls: Tls { verify: true, ca_certificate: None },
    }
}

pub(crate) fn delivery() -> settings::Delivery {
    settings::Delivery {
        linger: Duration::ZERO,
        batch_points: NonZeroUsize::new(5_000).unwrap(),
        batch_bytes: NonZeroUsize::new(1 << 20).unwrap(),
        compression: Compression::Gzip,
        retry: Policy { first: Duration::from_millis(10), longest: Duration::from_millis(40) },
        request_timeout: Duration::from_secs(5),
        requests_per_second: None,
        breaker: Breaker { failures: NonZeroU32::new(5).unwrap(), open_for: Duration::from_secs(30) },
    }
}

const MEMORY: usize = 64 << 20;

impl Bench {
    /// The records are there before the delivery begins, so that they make one batch.
    pub(crate) fn start<L: AsRef<str>>(lines: &[L], server: settings::Server, delivery: settings::Delivery) -> Self {
        Self::start_with_flush(lines, server, delivery, Duration::from_secs(5))
    }

    pub(crate) fn start_with_flush<L: AsRef<str>>(
        lines: &[L],
        server: settings::Server,
        delivery: settings::Delivery,
        flush_for: Duration,
    ) -> Self {
        Self::start_to(&settings::Target::Server(server), lines, delivery, flush_for)
    }

    pub(crate) fn start_with_memory<L: AsRef<str>>(
        lines: &[L],
        server: settings::Server,
        delivery: settings::Delivery,
        memory: usize,
    ) -> Self {
        Self::start_all(&settings::Target::Server(server), lines, delivery, Duration::from_secs(5), memory)
    }

    pub(crate) fn start_to<L: AsRef<str>>(
        target: &settings::Target,
        lines: &[L],
        delivery: settings::Delivery,
        flush_for: Duration,
    ) -> Self {
        Self::start_all(target, lines, delivery, flush_for, MEMORY)
    }

    fn start_all<L: AsRef<str>>(
        target: &settings::Target,
        lines: &[L],
        delivery: settings::Delivery,
        flush_for: Duration,
        memory: usize,
    ) -> Self {
        Self::start_in(Arc::new(TempDir::new().unwrap()), target, lines, delivery, flush_for, memory)
    }

    /// In a folder in which one may have been before.
    pub(crate) fn start_in<L: AsRef<str>>(
        folder: Arc<TempDir>,
        target: &settings::Target,
        lines: &[L],
        delivery: settings::Delivery,
        flush_for: Duration,
        memory: usize,
    ) -> Self {
        let board = Arc::new(Board::new(Instant::now(), Timestamp::from_micros(0)));
        let memory_bytes = NonZeroUsize::new(memory).unwrap();
        let bounds = Bounds {
            memory_bytes,
            disk_bytes: NonZeroU64::new(64 << 20).unwrap(),
            durability: Durability::Balanced,
            age: Duration::from_secs(5),
        };
        let spool = Shared::open(&folder.path().join("spool"), bounds, &["influxdb"], Arc::clone(&board)).unwrap();
        let letters = Store::open(folder.path().join("dead-letters"), LIMIT_BYTES);
        let open = Target::open(target, &delivery).unwrap();
        let target = Arc::clone(&board.targets[0]);
        let mut bench = Self {
            board: Arc::clone(&board),
            target,
            letters: letters.clone(),
            spool: spool.clone(),
            delivery: Group::new("delivery"),
            keeping: Group::new("spool"),
            folder,
        };
        bench.append(lines);
        let reader = spool.reader(0);
        bench.delivery.spawn("delivery", |stop| deliver::run(open, reader, letters, delivery, flush_for, board, stop));
        bench.keeping.spawn("spool", |stop| spool.keep(stop));
        bench
    }

    pub(crate) fn folder(&self) -> Arc<TempDir> {
        Arc::clone(&self.folder)
    }

    pub(crate) fn append<L: AsRef<str>>(&mut self, lines: &[L]) {
        let lines: Vec<String> = lines.iter().map(|line| format!("{}\n", line.as_ref())).collect();
        self.board.arrivals.received.add(Source::HomeAssistant, lines.len() as u64);
        self.spool.append(lines.iter().map(|line| Record { time: time(line), context: None, bytes: line.as_bytes() }));
    }

    pub(crate) fn snapshot(&self) -> Seen {
        let all = self.board.snapshot(Instant::now(), Timestamp::from_micros(0));
        Seen::of(&all)
    }

    /// Lines in the dead-letter store, by the books.
    pub(crate) fn set_aside(&self) -> u64 {
        self.snapshot().books.set_aside()
    }

    pub(crate) async fn until_empty(&self) {
        until("the spool is empty", || self.snapshot().books.held == 0).await;
    }

    /// Lets the time of the next probe come, without waiting for it.
    pub(crate) async fn skip_to_probe(&self) {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(31)).await;
        tokio::time::resume();
    }

    /// Stops, and fails if a record is unaccounted for or a task did not end by itself.
    pub(crate) async fn end(self) -> Seen {
        let late = shut_down(vec![self.delivery, self.keeping], Duration::from_secs(20)).await;
        assert!(late.is_empty(), "{late:?} did not end");
        assert_eq!(self.spool.abandon(), 0, "the disk keeps what the target does not take");
        let all = self.board.snapshot(Instant::now(), Timestamp::from_micros(0));
        let seen = Seen::of(&all);
        assert_eq!(seen.unaccounted, 0, "{:?}", seen.books);
        seen
    }
}

impl Seen {
    fn of(all: &Snapshot) -> Self {
        let target = &all.targets[0];
        Self {
            books: target.books.clone(),
            target: target.link.clone(),
            circuit: target.circuit,
            writes: Writes { requests: happened(&target.writes.requests), ..target.writes.clone() },
            tasks: all.tasks.iter().map(|(name, _)| name.to_string()).collect(),
            unaccounted: all.unaccounted(target),
        }
    }
}

fn happened(requests: &[(&'static str, u64)]) -> Vec<(&'static str, u64)> {
    requests.iter().copied().filter(|(_, count)| *count > 0).collect()
}

/// The time at the end of a line. Lines without one happened long ago.
fn time(line: &str) -> Timestamp {
    let nanos: i64 = line.trim_end().rsplit(' ').next().and_then(|text| text.parse().ok()).unwrap_or_default();
    Timestamp::from_micros(nanos / 1_000)
}

/// Looks until it is so; a test that waits for ten seconds has failed.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
