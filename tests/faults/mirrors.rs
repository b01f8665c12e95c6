//! Further databases: none holds up another.

use std::time::{Duration, Instant};

use crate::metrics::MAIN;
use crate::oracle::{Story, metrics};
use crate::world::Mood;

#[test]
fn a_dead_mirror_never_holds_up_the_main_database_and_gets_everything_later() {
    for mood in [Mood::Silent, Mood::Says(503, "busy"), Mood::Drips] {
        let mut story = Story::new("balanced").with_mirror();
        story.mirrors[0].is(mood);
        let mut service = story.start();
        for _ in 0..10 {
            let began = Instant::now();
            story.storm(100);
            service.wait_until("the main database has it", |_| story.world.database.has(&story.world.expected()));
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        }
        let page = metrics(&service);
        assert_eq!((page.of(MAIN, "target_connected"), page.of("mirror_1", "target_connected")), (1, 0));
        story.mirrors[0].is(Mood::Well);
        story.finish_complete(service);
    }
}

#[test]
fn what_a_mirror_lacks_survives_a_kill_and_the_main_database_gets_nothing_twice_from_it() {
    let mut story = Story::new("strict").with_mirror();
    story.mirrors[0].close();
    let mut service = story.start();
    story.storm(300);
    story.wait_until_safe(&mut service);
    let owed = i64::try_from(story.world.expected().len()).unwrap();
    service.wait_until("the mirror's part is on disk", |service| {
        let page = metrics(service);
        page.of(MAIN, "points_pending") == 0
            && page.watermark("mirror_1") >= page.watermark(MAIN)
            && page.of("mirror_1", "points_pending") == owed
    });
    // It is saved now and then which part each one has.
    crate::oracle::end(service);
    story.world.open(&story.mirrors[0]);
    story.world.database.forget();
    let mut service = story.start_alone();
    story.drain(&mut service);
    assert!(story.world.database.lines().is_empty(), "the main database had it all");
    assert!(story.mirrors[0].has(&story.world.expected()));
    crate::oracle::end(service);
}

#[test]
fn a_line_that_one_database_refuses_is_stored_in_the_other() {
    let mut story = Story::new("balanced").with_mirror();
    story.mirrors[0].is(Mood::CannotParse("entity_id=poison"));
    let mut service = story.start();
    story.storm(100);
    let _ = story.world.home.set("sensor.poison", "1", [].into_iter().collect()).unwrap();
    story.storm(100);
    story.drain(&mut service);
    let page = metrics(&service);
    assert_eq!(page.of(MAIN, "points_dead_lettered_total"), 0);
    assert_eq!(page.of("mirror_1", "points_dead_lettered_total"), 1);
    assert!(story.world.database.has(&story.world.expected()));
    crate::oracle::end(service);
}
