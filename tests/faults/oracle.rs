//! One service with its world through everything that happens to it, and what must hold in the end.
//!
//! Acknowledged is what the service itself says is safe: of the events of a run, those that are not newer than its
//! watermark, and with them the states that it was told at the beginning of that run. What happens in the home while
//! no service runs is nobody's promise here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use ha_ingestor::model::time::Timestamp;
use serde_json::{Value, json};

use crate::layer::Layer;
use crate::metrics::{MAIN, Metrics};
use crate::service::{Answer, PATIENCE, Place, Service};
use crate::world::{Database, ENTITIES, Key, Mood, World, key};

pub struct Story {
    pub world: World,
    pub place: Place,
    pub options: Value,
    pub layer: Option<Layer>,
    /// Those of the mirrors, in their order.
    pub mirrors: Vec<Database>,
    acknowledged: BTreeSet<Key>,
    /// The states that the present run was told.
    announced: BTreeSet<Key>,
    /// What is newer than this happened in the present run.
    since: Timestamp,
    /// The present run knows a home.
    is_at_home: bool,
}

impl Story {
    /// Home and database are there; nothing runs yet.
    pub fn new(durability: &str) -> Self {
        let world = World::new();
        let mut options = world.options();
        options["delivery"]["durability"] = json!(durability);
        options["delivery"]["breaker_open_seconds"] = json!(1);
        // What the disk or the delivery lost must show, and not come back from history.
        options["history"]["close_gaps"] = json!(false);
        Self {
            world,
            place: Place::new(),
            options,
            layer: None,
            mirrors: Vec::new(),
            acknowledged: BTreeSet::new(),
            announced: BTreeSet::new(),
            since: Timestamp::from_micros(0),
            is_at_home: false,
        }
    }

    /// On a disk that can be made to fail. `None`: it cannot, here.
    pub fn on_layer(durability: &str) -> Option<Self> {
        let mut story = Self::new(durability);
        story.layer = Some(Layer::over(&story.place.data())?);
        Some(story)
    }

    /// From now on the disk does this.
    pub fn disk(&self, rules: &str) {
        self.layer.as_ref().expect("it is on a layer").obeys(rules);
    }

    /// Fails unless a rule was obeyed: a fault that never came proves nothing.
    pub fn disk_did(&self, part: &str) {
        let did = self.layer.as_ref().expect("it is on a layer").did();
        assert!(did.iter().any(|line| line.contains(part)), "no {part:?} in {did:?}");
    }

    pub fn with_mirror(mut self) -> Self {
        let database = Database::new();
        self.world.open(&database);
        self.mirrors.push(database);
        let items: Vec<_> = self.mirrors.iter().map(|mirror| json!({"url": mirror.url(), "api": "v1"})).collect();
        self.options["mirrors"] = json!(items);
        self
    }

    /// Every target by its name, with its database.
    pub fn targets(&self) -> Vec<(String, Database)> {
        let mirrors = self.mirrors.iter().enumerate();
        let mirrors = mirrors.map(|(at, mirror)| (format!("mirror_{}", at + 1), mirror.clone()));
        std::iter::once((MAIN.to_owned(), self.world.database.clone())).chain(mirrors).collect()
    }

    pub fn command(&self, options: &Value) -> Command {
        let mut command = self.place.command(Some(options), &[]);
        if let Some(layer) = &self.layer {
            layer.put_under(&mut command);
        }
        command
    }

    /// Starts it and waits until it knows the home.
    pub fn start(&mut self) -> Service {
        let mut service = Service::start_at(&self.place, self.command(&self.options));
        service.wait_until("the home is known", knows_the_home);
        self.begin_run();
        service
    }

    /// The same where it may die on the way.
    pub fn try_start(&mut self) -> Result<Service, (ExitStatus, String)> {
        let mut service = Service::try_start_at(&self.place, self.command(&self.options))?;
        wait_or_end(&mut service, "the home is known", |service, _| knows_the_home(service));
        self.begin_run();
        Ok(service)
    }

    /// Starts it where it reaches no home: nothing comes but what it has.
    pub fn start_alone(&mut self) -> Service {
        let mut options = self.options.clone();
        options["home_assistant"]["url"] = json!("http://127.0.0.1:1");
        self.is_at_home = false;
        Service::start_at(&self.place, self.command(&options))
    }

    fn begin_run(&mut self) {
        self.announced = self.world.present();
        self.since = self.newest().unwrap_or(Timestamp::from_micros(0));
        self.is_at_home = true;
    }

    /// Everything that happened in this run and before now has come to the service, as far as its words about this
    /// target show.
    fn has_all(&self, metrics: &Metrics, target: &str) -> bool {
        let newest = self.newest().filter(|newest| self.is_at_home && *newest > self.since);
        let announced = if self.is_at_home { self.announced.len() } else { 0 };
        metrics.watermark(target) >= newest
            && metrics.count("events_received_total", &[]) >= i64::try_from(announced).unwrap()
    }

    fn newest(&self) -> Option<Timestamp> {
        self.world.expected().iter().map(|(_, time)| *time).max()
    }

    /// So many changes, each for itself.
    pub fn storm(&self, count: u64) {
        self.world.home.storm(count);
    }

    /// Remembers what the service says is safe. A service that is gone says nothing more.
    pub fn acknowledge(&mut self, service: &Service) {
        if let Some(metrics) = try_metrics(service) {
            self.acknowledge_by(&metrics);
        }
    }

    fn acknowledge_by(&mut self, metrics: &Metrics) {
        let Some(watermark) = metrics.watermark(MAIN) else { return };
        let of_this_run = self.world.expected();
        let mut safe = of_this_run.into_iter().filter(|(_, time)| *time > self.since && *time <= watermark).peekable();
        if safe.peek().is_some() {
            self.acknowledged.extend(self.announced.iter().cloned());
            self.acknowledged.extend(safe);
        }
    }

    /// How much was acknowledged: a test in which that is nothing tests nothing.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// SIGKILL, after a last look.
    pub fn kill(&mut self, service: Service) {
        self.acknowledge(&service);
        service.kill();
    }

    /// Until all that happened in this run is safe, be it in the database or on disk.
    pub fn wait_until_safe(&mut self, service: &mut Service) {
        let newest = self.newest();
        assert!(newest > Some(self.since), "the states it began with are in no order of time: something has to happen");
        service
            .wait_until("the watermark is at the newest event", |service| metrics(service).watermark(MAIN) >= newest);
        self.acknowledge(service);
    }

    /// As long as it lives, until it is so; `false`: it is gone.
    pub fn lives_until(
        &mut self,
        service: &mut Service,
        what: &str,
        is_so: impl Fn(&Metrics, Option<Timestamp>) -> bool,
    ) -> bool {
        let newest = self.newest();
        wait_or_end(service, what, |_, metrics| {
            self.acknowledge_by(metrics);
            is_so(metrics, newest)
        })
    }

    /// Until no target lacks anything.
    pub fn drain(&self, service: &mut Service) {
        self.drain_within(service, PATIENCE);
    }

    pub fn drain_within(&self, service: &mut Service, patience: Duration) {
        for (target, _) in self.targets() {
            service.wait_until_within(patience, &format!("{target} has everything"), |service| {
                let metrics = metrics(service);
                self.has_all(&metrics, &target)
                    && metrics.of(&target, "points_pending") == 0
                    && metrics.books(&target).balance()
            });
        }
    }

    /// What must hold whenever nothing is on its way.
    pub fn check(&self) {
        let expected = self.world.expected();
        for (target, database) in self.targets() {
            let stored = lines_by_key(&target, &database.lines());
            let lost: Vec<_> = self.acknowledged.iter().filter(|key| !stored.contains_key(*key)).collect();
            assert!(lost.is_empty(), "{target} lacks {} that were acknowledged: {:?}", lost.len(), lost.first());
            let foreign: Vec<_> = stored.keys().filter(|key| !expected.contains(*key)).collect();
            assert!(foreign.is_empty(), "{target} has what nobody wrote: {foreign:?}");
        }
    }

    /// The target has everything that ever happened.
    pub fn check_complete(&self) {
        let expected = self.world.expected();
        for (target, database) in self.targets() {
            let stored = lines_by_key(&target, &database.lines());
            let lost: Vec<_> = expected.iter().filter(|key| !stored.contains_key(*key)).collect();
            assert!(lost.is_empty(), "{target} lacks {} of {}: {:?}", lost.len(), expected.len(), lost.first());
        }
    }

    /// All is well again: it drains, it is ready, the promises hold, it stops as it should.
    pub fn finish(&mut self, mut service: Service) {
        self.drain(&mut service);
        service.wait_until_ready();
        self.acknowledge(&service);
        self.check();
        for (target, _) in self.targets() {
            let metrics = metrics(&service);
            assert_eq!(metrics.of(&target, "books_unaccounted"), 0, "{target}: {:?}", metrics.books(&target));
        }
        end(service);
    }

    /// As [`Story::finish`], and nothing at all is missing.
    pub fn finish_complete(&mut self, service: Service) {
        self.finish(service);
        self.check_complete();
    }

    pub fn spool(&self) -> PathBuf {
        self.place.data().join("spool")
    }

    /// The files with records, oldest first.
    pub fn segments(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.spool()) else { return Vec::new() };
        let files = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file() && !path.file_name().unwrap().to_string_lossy().starts_with("state.json"));
        let mut files: Vec<_> = files.collect();
        files.sort();
        files
    }
}

/// SIGTERM, exit code 0 in time, and nothing in the log that should not be there.
pub fn end(mut service: Service) {
    assert_eq!(service.get("/health").status, 200);
    assert_eq!(service.exit_code(Duration::from_secs(10)), Some(0), "{}", service.log());
    let log = service.log();
    assert!(!log.contains("panicked"), "{log}");
}

pub fn metrics(service: &Service) -> Metrics {
    Metrics::new(service.get("/metrics").body)
}

fn try_metrics(service: &Service) -> Option<Metrics> {
    let answer: Answer = service.try_get("/metrics")?;
    (answer.status == 200 && answer.body.contains("ha_ingest_books_unaccounted")).then(|| Metrics::new(answer.body))
}

fn knows_the_home(service: &Service) -> bool {
    try_metrics(service).is_some_and(|metrics| metrics.count("ha_entities", &[]) >= i64::try_from(ENTITIES).unwrap())
}

/// `false`: it ended before it was so.
fn wait_or_end(service: &mut Service, what: &str, mut is_so: impl FnMut(&Service, &Metrics) -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if service.ended().is_some() {
            return false;
        }
        if let Some(metrics) = try_metrics(service)
            && is_so(service, &metrics)
        {
            return true;
        }
        assert!(Instant::now() < deadline, "not in time: {what}\n{}", service.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Each point is one line, however often it was sent.
pub fn lines_by_key(target: &str, lines: &[String]) -> BTreeMap<Key, String> {
    let mut stored = BTreeMap::new();
    for line in lines {
        if let Some(earlier) = stored.insert(key(line), line.clone()) {
            assert_eq!(&earlier, line, "{target} got two lines for one point");
        }
    }
    stored
}

/// The resident memory of a process, in bytes.
pub fn resident(service: &Service) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", service.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// For what is drawn at random: `FAULTS_SEED` repeats it.
pub fn seed() -> u64 {
    let given = std::env::var("FAULTS_SEED").ok().map(|text| text.parse().expect("FAULTS_SEED is a number"));
    let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
    println!("FAULTS_SEED={seed}");
    seed
}

/// Waits for the fault to be felt: so many more requests than now.
pub fn wait_for_requests(service: &mut Service, database: &Database, more: usize) {
    let before = database.requests().len();
    service.wait_until("the database is asked again", |_| database.requests().len() >= before + more);
}

pub fn well(story: &Story) {
    for (_, database) in story.targets() {
        database.is(Mood::Well);
    }
}
