//! A wall clock that is wrong, or jumps.

use std::thread;
use std::time::Duration;

use crate::metrics::MAIN;
use crate::oracle::{Story, metrics};
use crate::world::Mood;

const HOUR: i64 = 3_600;

/// Times of events are Home Assistant's; what waits, waits by another clock.
#[test]
fn jumps_of_the_clock_change_neither_points_nor_pauses() {
    let Some(mut story) = Story::on_layer("strict") else { return };
    let mut service = story.start();
    for ahead in [HOUR, -HOUR, 0, -1_790_000_000, 30 * 24 * HOUR, 0] {
        story.disk(&format!("clock {ahead}"));
        story.world.database.is(Mood::Says(503, "busy"));
        story.storm(100);
        thread::sleep(Duration::from_millis(300));
        story.world.database.is(Mood::Well);
        story.drain(&mut service);
        story.storm(50);
        story.drain(&mut service);
        assert_eq!(service.get("/health").status, 200, "{ahead} s ahead");
        assert!(metrics(&service).watermark(MAIN).is_some());
    }
    story.finish_complete(service);
}

/// A board without a battery wakes up in 1970, and its spool is from the future.
#[test]
fn a_start_in_1970_delivers_what_a_later_time_left_behind() {
    let Some(mut story) = Story::on_layer("strict") else { return };
    story.world.database.close();
    let mut service = story.start();
    story.storm(200);
    story.wait_until_safe(&mut service);
    story.kill(service);
    story.disk("clock -1795000000");
    story.world.open_database();
    let mut service = story.start();
    story.storm(100);
    story.drain(&mut service);
    // The clock is set, as after the first answer of a time server.
    story.disk("clock 0");
    story.storm(100);
    story.finish_complete(service);
}
