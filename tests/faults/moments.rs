//! The same day again and again; each time something happens at the next operation on the disk: SIGKILL, the power
//! goes, or an error. Between a write and its fsync, between an answer of the database and the bookkeeping, between the
//! removal of a file and whatever follows: every moment there is has its turn.

use std::thread;
use std::time::{Duration, Instant};

use crate::metrics::{MAIN, Metrics};
use crate::oracle::{Story, end, metrics, seed, well};
use crate::service::Service;

/// The most operations that a day may need.
const MOMENTS: u64 = 200;
/// So many days at once: most of each is waiting.
const LANES: u64 = 4;

/// How a day ended.
#[derive(PartialEq, Eq)]
enum Day {
    Whole,
    Cut,
}

#[test]
fn killed_before_each_operation_on_the_disk_it_loses_nothing_that_was_acknowledged() {
    at_each_moment(|moment| format!("any * {moment} die-before"), ends_at_the_moment);
}

#[test]
fn when_the_power_goes_at_each_operation_nothing_that_was_acknowledged_is_lost() {
    at_each_moment(|moment| format!("any * {moment} dark-before 0"), ends_at_the_moment);
}

#[test]
fn when_the_power_goes_and_leaves_a_mess_nothing_that_was_acknowledged_is_lost() {
    let seed = seed();
    at_each_moment(|moment| format!("any * {moment} dark-after {}", seed + moment), ends_at_the_moment);
}

#[test]
fn an_error_of_the_disk_at_each_operation_costs_nothing() {
    at_each_moment(|moment| format!("any * {moment} EIO"), fails_at_the_moment);
}

#[test]
fn a_disk_that_is_full_from_each_operation_on_costs_nothing() {
    at_each_moment(|moment| format!("any * {moment}+ ENOSPC"), fails_at_the_moment);
}

/// Each lane takes every n-th moment, until a day has no such moment any more.
fn at_each_moment(rule: impl Fn(u64) -> String + Sync, day: impl Fn(&mut Story, &str) -> Day + Sync) {
    thread::scope(|scope| {
        for lane in 1..=LANES {
            let (rule, day) = (&rule, &day);
            scope.spawn(move || {
                let Some(mut story) = Story::on_layer("strict") else { return };
                for moment in (lane..MOMENTS).step_by(usize::try_from(LANES).unwrap()) {
                    let rule = rule(moment);
                    println!("{rule}");
                    if day(&mut story, &rule) == Day::Whole {
                        assert!(moment > LANES, "it writes nothing at all");
                        return;
                    }
                }
                panic!("a day has more than {MOMENTS} operations");
            });
        }
    });
}

/// The disk does this on one day; the next is a good one, and everything that was promised is there.
fn ends_at_the_moment(story: &mut Story, rule: &str) -> Day {
    story.disk(rule);
    let day = lives_through(story);
    story.disk("");
    well(story);
    if !story.world.database.is_open() {
        story.world.open_database();
    }
    let service = story.start();
    story.finish(service);
    day
}

/// A backlog comes and goes, another one comes, and the stop finds the database well. The last of it is on disk before
/// it may be delivered. Cut as soon as the service is gone.
fn lives_through(story: &mut Story) -> Day {
    story.world.database.close();
    story.storm(50);
    let Ok(mut service) = story.try_start() else { return Day::Cut };
    story.storm(100);
    if !is_safe(story, &mut service) {
        return Day::Cut;
    }
    story.world.open_database();
    let drained = |metrics: &Metrics, _| metrics.of(MAIN, "points_pending") == 0;
    if !story.lives_until(&mut service, "the backlog is stored", drained) {
        return Day::Cut;
    }
    story.world.database.close();
    story.storm(100);
    if !is_safe(story, &mut service) {
        return Day::Cut;
    }
    story.world.open_database();
    match service.exit_code(Duration::from_secs(10)) {
        Some(0) => Day::Whole,
        Some(code) => panic!("it ended with {code}:\n{}", service.log()),
        None => Day::Cut,
    }
}

fn is_safe(story: &mut Story, service: &mut Service) -> bool {
    story.lives_until(service, "all of it is on disk", |metrics, newest| metrics.watermark(MAIN) >= newest)
}

/// The service goes on, in memory if it must, and in the end the database has everything.
fn fails_at_the_moment(story: &mut Story, rule: &str) -> Day {
    story.disk(rule);
    story.world.database.close();
    let mut service = story.start();
    story.storm(200);
    // The disk has had its chance, be it to fail.
    let due = Instant::now() + Duration::from_millis(1_500);
    service.wait_until("the disk was tried", |service| {
        assert_eq!(service.get("/health").status, 200, "a disk that fails does not make it sick");
        Instant::now() >= due
    });
    story.world.open_database();
    story.drain(&mut service);
    story.storm(100);
    story.drain(&mut service);
    story.check_complete();
    let degraded = metrics(&service).count("wal_degraded", &[]);
    let did = story.layer.as_ref().is_some_and(|layer| !layer.did().is_empty());
    assert!(did || degraded == 0, "nothing failed, and it says that it is degraded");
    end(service);
    if did { Day::Cut } else { Day::Whole }
}
