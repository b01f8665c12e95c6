//! Faults that stay for ever: whatever can go on must.
//!
//! A seed says which of them there are, and what else happens. The main database has everything in the end, gaps are closed,
//! and what is missing is named, although nothing is repaired.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use crate::metrics::MAIN;
use crate::mount::Mount;
use crate::oracle::{Story, metrics};
use crate::service::Service;
use crate::world::{Key, Mood};

/// What stays for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// A mirror at which nobody listens, or that hangs, refuses, or drips.
    Mirror(u8),
    /// Nothing can be written to the disk.
    Disk,
    /// A broker that accepts connections and ends them.
    Broker,
    /// Home Assistant refuses to tell about an entity.
    Entity,
    /// Not a fault, but many homes have it: the recorder commits once a minute.
    CommitsLate,
}

impl Fault {
    fn draw(rng: &mut Rng) -> Vec<Self> {
        let all = [Self::Mirror(rng.u8(..5)), Self::Disk, Self::Broker, Self::Entity, Self::CommitsLate];
        loop {
            let some: Vec<Self> = all.into_iter().filter(|_| rng.bool()).collect();
            if !some.is_empty() {
                return some;
            }
        }
    }
}

const MIB: u64 = 1 << 20;
const TOGETHER: usize = 6;

fn story(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let faults = Fault::draw(&mut rng);
    println!("HA_INGESTOR_TEST_SEED={seed}: {faults:?}");
    let mut story = Story::new(if rng.bool() { "balanced" } else { "strict" });
    story.options["history"]["close_gaps"] = json!(true);
    let mut refused = None;
    let mut disk = None;
    for fault in &faults {
        match fault {
            Fault::Mirror(mood) => {
                story = story.with_mirror();
                let mirror = &story.mirrors[0];
                match mood {
                    0 => mirror.close(),
                    1 => mirror.is(Mood::Silent),
                    2 => mirror.is(Mood::Says(503, "busy")),
                    3 => mirror.is(Mood::Says(401, "{\"error\":\"authorization failed\"}")),
                    _ => mirror.is(Mood::Drips),
                }
            }
            Fault::Disk => {
                let Some(mount) = Mount::new(&story.place.data(), 4 * MIB) else { return };
                disk = Some(mount);
            }
            Fault::Broker => story.options["mqtt"] = json!({"host": "127.0.0.1", "port": flapping_broker()}),
            Fault::Entity => {
                let present: Vec<Key> = story.world.present().into_iter().collect();
                let entity = present[rng.usize(..present.len())].0.clone();
                story.world.home.home_mut(|home| home.trouble.refuses = Some(entity.clone()));
                refused = Some(entity);
            }
            Fault::CommitsLate => story.world.home.home_mut(|home| home.commit_every(60)),
        }
    }
    let mut service = story.start();
    service.wait_until("the present is stored", |_| story.world.database.has(&story.world.present()));
    if disk.is_some() {
        fill(&story);
    }
    for gaps in 1..=3 {
        story.storm(rng.u64(1..400));
        story.world.home.turn(|knobs| knobs.answer_502 = true);
        story.world.home.restart();
        service.wait_until("Home Assistant is away", |service| metrics(service).count("ha_connected", &[]) == 0);
        story.storm(rng.u64(1..400));
        story.world.home.turn(|knobs| knobs.answer_502 = false);
        service.wait_until("the gap is closed", |service| metrics(service).count("gaps_closed_total", &[]) >= gaps);
    }
    story.storm(rng.u64(1..100));
    let of_others = |points: BTreeSet<Key>| -> BTreeSet<Key> {
        points.into_iter().filter(|(entity, _)| refused.as_ref() != Some(entity)).collect()
    };
    let expected = of_others(story.world.expected());
    service.wait_until("the main database has everything", |_| story.world.database.has(&expected));
    service.wait_until("nothing waits for it, and the books balance", |service| {
        let page = metrics(service);
        let balance = story.targets().iter().all(|(target, _)| page.of(target, "books_unaccounted") == 0);
        balance && page.of(MAIN, "points_pending") == 0 && page.count("gap_open", &[]) == 0
    });
    assert_eq!(metrics(&service).of(MAIN, "points_dropped_total"), 0);
    named(&service, refused.as_deref());
    assert_eq!(service.get("/health").status, 200);
    service.kill();
}

/// What is missing for certain is named, and nothing else is.
fn named(service: &Service, refused: Option<&str>) {
    let told = service.get("/api/history").json();
    let lacking = told["not_closed"].as_array().unwrap();
    for one in lacking {
        assert_eq!(
            (one["entity"].as_str(), &one["why"]),
            (refused, &Value::from("Home Assistant refuses to tell")),
            "{told}"
        );
    }
    assert_eq!(lacking.is_empty(), refused.is_none(), "{told}");
}

/// So that not a byte more can be written.
fn fill(story: &Story) {
    let path = story.place.data().join("filled-by-somebody-else");
    let mut bytes = MIB;
    while bytes > 0 {
        let there = fs::read(&path).unwrap_or_default();
        let more = vec![0; usize::try_from(bytes).unwrap()];
        if fs::write(&path, [there.clone(), more].concat()).is_err() {
            // What did not fit is cut off again, and a smaller piece is tried.
            let _ = fs::write(&path, there);
            bytes /= 2;
        }
    }
}

/// Its port. It accepts, and after a moment the connection is gone, for as long as the test lives.
fn flapping_broker() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in listener.incoming() {
            thread::sleep(Duration::from_millis(20));
            drop(connection);
        }
    });
    port
}

fn stories(seeds: impl IntoIterator<Item = u64>) {
    seeds.into_iter().for_each(story);
}

#[test]
fn whatever_can_go_on_does_although_nothing_is_ever_repaired_1_to_5() {
    stories(1..=5);
}

#[test]
fn whatever_can_go_on_does_although_nothing_is_ever_repaired_6_to_10() {
    stories(6..=10);
}

#[test]
fn whatever_can_go_on_does_although_nothing_is_ever_repaired_11_to_15() {
    stories(11..=15);
}

#[test]
fn whatever_can_go_on_does_although_nothing_is_ever_repaired_16_to_20() {
    stories(16..=20);
}

/// `make forever` draws them. Most of a story is waiting: some are told at the same time.
#[test]
fn the_seeds_that_somebody_asks_for() {
    let told = std::env::var("HA_INGESTOR_TEST_SEED").unwrap_or_default();
    let seed = |seed: &str| seed.parse::<u64>().unwrap_or_else(|_| panic!("{seed} is no seed"));
    let seeds: Vec<u64> = told.split_whitespace().map(seed).collect();
    thread::scope(|scope| {
        for some in seeds.chunks(seeds.len().div_ceil(TOGETHER).max(1)) {
            scope.spawn(|| stories(some.iter().copied()));
        }
    });
}
