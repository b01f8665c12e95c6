//! More than the database takes.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::metrics::MAIN;
use crate::oracle::{Story, metrics, resident};
use crate::world::Mood;

const SECONDS: u64 = 21;
const PER_SECOND: u64 = 10_000;

#[test]
fn ten_thousand_a_second_for_a_slow_database_do_not_fill_the_memory() {
    let mut story = Story::new("balanced");
    story.options["delivery"]["memory_megabytes"] = json!(8);
    story.options["delivery"]["batch_points"] = json!(1_000);
    story.world.home.turn(|knobs| knobs.ledger = 300_000);
    story.world.database.is(Mood::Late(Duration::from_millis(400)));
    let mut service = story.start();
    let mut most = [0; 3];
    let began = Instant::now();
    for tick in 0..SECONDS * 10 {
        story.storm(PER_SECOND / 10);
        let due = Duration::from_millis(100 * (tick + 1));
        thread::sleep(due.saturating_sub(began.elapsed()));
        let now = resident(&service);
        let third = usize::try_from(tick * 3 / (SECONDS * 10)).unwrap();
        most[third] = most[third].max(now);
        assert!(tick % 20 != 0 || service.get("/health").status == 200);
    }
    // What comes in a third of the time is some twenty MiB.
    let [_, middle, late] = most;
    println!("resident: {most:?}");
    assert!(late < middle + (10 << 20), "{most:?} bytes");
    let sent = i64::try_from(story.world.expected().len()).unwrap();
    service.wait_until("all of it has come", |service| metrics(service).count("events_received_total", &[]) >= sent);
    story.world.database.is(Mood::Well);
    story.drain_within(&mut service, Duration::from_mins(1));
    story.finish_complete(service);
}

/// What is new comes through at once, however much is still waiting from before.
#[test]
fn what_happens_now_does_not_queue_behind_yesterday() {
    let mut story = Story::new("strict");
    story.options["delivery"]["batch_points"] = json!(200);
    story.world.database.close();
    let mut service = story.start();
    story.storm(20_000);
    story.wait_until_safe(&mut service);
    story.kill(service);
    story.world.open_database();
    story.world.database.is(Mood::Late(Duration::from_millis(100)));
    let mut service = story.start();
    let began = Instant::now();
    story.storm(100);
    service.wait_until("what is new is stored", |_| story.world.database.has(&story.world.present()));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(metrics(&service).of(MAIN, "wal_backlog_records") > 5_000, "the backlog is still there");
    story.world.database.is(Mood::Well);
    story.finish_complete(service);
}
