//! What is around the service: a simulated home behind a gate that can be shut, and a database that has moods.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ha_ingestor::demo::handle::Handle;
use ha_ingestor::demo::home::Home;
use ha_ingestor::demo::knobs::Knobs;
use ha_ingestor::demo::server::Simulator;
use ha_ingestor::demo::state::State;
use ha_ingestor::model::time::Timestamp;
use ha_ingestor::runtime::clock;
use influxdb_line_protocol::parse_lines;
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::fake::{Fake, Reaction, Request, answer};

pub const ENTITIES: usize = 60;

/// Entity and time of the event: what a point is known by.
pub type Key = (String, Timestamp);

pub struct World {
    runtime: Runtime,
    pub home: Handle,
    home_address: SocketAddr,
    /// Where the home can be reached, once the gate is open.
    gate: Port,
    visits: Arc<AtomicUsize>,
    /// The states that the home began with.
    began_with: BTreeSet<Key>,
    pub database: Database,
}

impl World {
    pub fn new() -> Self {
        let world = Self::deserted();
        world.open_gate();
        world.open_database();
        world
    }

    /// The same, with a home whose clock is ahead of ours by so many seconds.
    pub fn with_clock(ahead_seconds: i64) -> Self {
        let world = Self::deserted_with_clock(ahead_seconds);
        world.open_gate();
        world.open_database();
        world
    }

    /// Nothing listens yet, neither for the home nor for the database.
    pub fn deserted() -> Self {
        Self::deserted_with_clock(0)
    }

    fn deserted_with_clock(ahead_seconds: i64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let home_address = listener.local_addr().unwrap();
        let clock_ahead_micros = ahead_seconds * 1_000_000;
        let knobs = Knobs { ledger: 100_000, cut_slow_clients: false, clock_ahead_micros, ..Knobs::default() };
        let now = Timestamp::from_micros(clock::now().as_micros() + clock_ahead_micros);
        let (simulator, home) = Simulator::new(listener, Home::new(1, ENTITIES, now), knobs);
        runtime.spawn(simulator.run(CancellationToken::new()));
        let began_with = present(&home);
        Self {
            runtime,
            home,
            home_address,
            gate: Port::reserve(),
            visits: Arc::default(),
            began_with,
            database: Database::new(),
        }
    }

    /// From now on the home can be reached.
    pub fn open_gate(&self) {
        let listener = self.runtime.block_on(async { self.gate.open() });
        let (home, visits) = (self.home_address, Arc::clone(&self.visits));
        self.runtime.spawn(async move {
            loop {
                let (mut visitor, _) = listener.accept().await.unwrap();
                visits.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut home = TcpStream::connect(home).await.unwrap();
                    let _ = copy_bidirectional(&mut visitor, &mut home).await;
                });
            }
        });
    }

    /// How often somebody connected to the home.
    pub fn visits(&self) -> usize {
        self.visits.load(Ordering::Relaxed)
    }

    /// From now on the database can be reached.
    pub fn open_database(&self) {
        self.open(&self.database);
    }

    /// The same for any database.
    pub fn open(&self, database: &Database) {
        let reacting = database.clone();
        let behaviour = move |request: &Request| reacting.react(request);
        let fake = self.runtime.block_on(async { Fake::start_at(database.port.open(), usize::MAX, behaviour) });
        database.inner().fake = Some(fake);
    }

    /// Options that reach both, and do not wait long for anything.
    pub fn options(&self) -> Value {
        json!({
            "home_assistant": {"url": format!("http://{}", self.gate.address), "token": "demo"},
            "influxdb": {"url": self.database.url(), "api": "v1"},
            "delivery": {"linger_ms": 20, "retry_initial_ms": 20, "retry_max_ms": 100, "request_timeout_seconds": 1,
                "breaker_open_seconds": 1},
        })
    }

    /// Sets the home's clock: ahead of ours by so many seconds. Never back: its history is in the order of time.
    pub fn set_clock(&self, ahead_seconds: i64) {
        self.home.turn(|knobs| knobs.clock_ahead_micros = ahead_seconds * 1_000_000);
    }

    /// The points that everything in the home so far should have become.
    pub fn expected(&self) -> BTreeSet<Key> {
        let mut expected = self.began_with.clone();
        let changes = self.home.ledger().into_iter().filter(|entry| entry.state.as_deref().is_some_and(is_written));
        expected.extend(changes.map(|entry| (entry.entity_id.to_string(), entry.last_updated)));
        expected
    }

    /// The points that the home's states of this moment should have become.
    pub fn present(&self) -> BTreeSet<Key> {
        present(&self.home)
    }
}

fn present(home: &Handle) -> BTreeSet<Key> {
    let time = |state: &State| Timestamp::from_unix_seconds(state.last_updated).unwrap();
    home.home(|home| {
        let states = home.states().filter(|(_, state)| is_written(&state.state));
        states.map(|(id, state)| (id.to_string(), time(state))).collect()
    })
}

/// The schema leaves these out.
fn is_written(state: &str) -> bool {
    !matches!(state, "unknown" | "unavailable" | "")
}

/// A port of the loopback that nobody else gets, whether somebody listens there or not. While nobody does, whoever
/// connects is refused.
#[derive(Clone)]
struct Port {
    address: SocketAddr,
    _reserved: Arc<TcpSocket>,
}

impl Port {
    fn reserve() -> Self {
        let socket = Self::bound(SocketAddr::from(([127, 0, 0, 1], 0)));
        Self { address: socket.local_addr().unwrap(), _reserved: Arc::new(socket) }
    }

    /// Called on a runtime.
    fn open(&self) -> TcpListener {
        Self::bound(self.address).listen(1024).unwrap()
    }

    fn bound(address: SocketAddr) -> TcpSocket {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.set_reuseport(true).unwrap();
        socket.bind(address).unwrap();
        socket
    }
}

/// How the database answers.
#[derive(Clone, Default)]
pub enum Mood {
    #[default]
    Well,
    /// It takes everything, and takes its time.
    Slow(Duration),
    /// It takes everything and says so with this status.
    TakesWith(u16),
    /// It takes nothing.
    Says(u16, &'static str),
    /// These bytes, then the end of the connection.
    Breaks(&'static str),
    /// It never comes to an end.
    Drips,
    /// It takes no batch with a line that holds this, and quotes the line.
    CannotParse(&'static str),
    /// It takes everything, and says so after this time; meanwhile it hears others.
    Late(Duration),
    /// It takes nothing and never says a word.
    Silent,
    /// It takes everything and never says a word.
    TakesSilently,
    /// It takes everything, says this, and the connection is reset.
    TakesAndResets(&'static str),
    /// It takes nothing: status, further headers, body.
    Answers(u16, &'static str, String),
    /// Whatever somebody thought of. `None`: it takes the request.
    By(Arc<Behaviour>),
}

pub type Behaviour = dyn Fn(&Request) -> Option<Reaction> + Send + Sync;

/// A database of version 1. Cheap to clone; all clones are the same database.
#[derive(Clone)]
pub struct Database {
    port: Port,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    mood: Mood,
    stored: Vec<String>,
    fake: Option<Fake>,
}

impl Database {
    /// Nothing listens there yet.
    pub fn new() -> Self {
        Self { port: Port::reserve(), inner: Arc::default() }
    }

    pub fn is_open(&self) -> bool {
        self.inner().fake.is_some()
    }

    /// From now on it cannot be reached; what it took it still has.
    pub fn close(&self) {
        self.inner().fake = None;
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.port.address)
    }

    pub fn is(&self, mood: Mood) {
        self.inner().mood = mood;
    }

    /// All lines that were taken, as often as they were.
    pub fn lines(&self) -> Vec<String> {
        self.inner().stored.clone()
    }

    /// It has nothing any more.
    pub fn forget(&self) {
        self.inner().stored.clear();
    }

    pub fn requests(&self) -> Vec<Request> {
        self.inner().fake.as_ref().map(Fake::requests).unwrap_or_default()
    }

    /// The points that were taken, and whether each was taken only once.
    pub fn points(&self) -> (BTreeSet<Key>, bool) {
        let lines = self.lines();
        let points: BTreeSet<Key> = lines.iter().map(|line| key(line)).collect();
        let each_once = points.len() == lines.len();
        (points, each_once)
    }

    pub fn has(&self, expected: &BTreeSet<Key>) -> bool {
        self.points().0.is_superset(expected)
    }

    fn react(&self, request: &Request) -> Reaction {
        let mood = self.inner().mood.clone();
        let mut late = Duration::ZERO;
        let status = match mood {
            Mood::Well => 204,
            Mood::Late(time) => {
                late = time;
                204
            }
            Mood::Silent => return Reaction::Silence,
            Mood::TakesSilently => {
                self.take(request);
                return Reaction::Silence;
            }
            Mood::TakesAndResets(bytes) => {
                self.take(request);
                return Reaction::Reset(bytes);
            }
            Mood::Answers(status, headers, body) => return Reaction::Answer(status, headers, body),
            Mood::By(behaviour) => match behaviour(request) {
                Some(reaction) => return reaction,
                None => 204,
            },
            Mood::Slow(time) => {
                std::thread::sleep(time);
                204
            }
            Mood::TakesWith(status) => status,
            Mood::Says(status, body) => return answer(status, body),
            Mood::Breaks(bytes) => return Reaction::Raw(bytes),
            Mood::Drips => return Reaction::Drip,
            Mood::CannotParse(poison) => match request.lines.iter().find(|line| line.contains(poison)) {
                Some(line) => {
                    let words = format!("unable to parse '{line}': invalid number");
                    return answer(400, json!({ "error": words }).to_string());
                }
                None => 204,
            },
        };
        self.take(request);
        if late.is_zero() { answer(status, "") } else { Reaction::Late(late, Box::new(answer(status, ""))) }
    }

    fn take(&self, request: &Request) {
        self.inner().stored.extend(request.lines.iter().cloned());
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

/// What a point is known by, as a reader of line protocol sees it.
pub fn key(line: &str) -> Key {
    let parsed = parse_lines(line).next().unwrap().unwrap_or_else(|error| panic!("{error}: {line}"));
    let tags = parsed.series.tag_set.as_ref().unwrap();
    let tag = |name: &str| tags.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string()).unwrap();
    let nanos = parsed.timestamp.unwrap();
    (format!("{}.{}", tag("domain"), tag("entity_id")), Timestamp::from_micros(nanos / 1_000))
}
