//! Defects that other forwarders had, each by its name.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::fake::answer;
use crate::metrics::MAIN;
use crate::oracle::{Story, end, metrics, wait_for_requests};
use crate::world::Mood;

/// Several took a status of 4xx for the fault of the data.
#[test]
fn too_many_requests_not_found_and_unauthorised_do_not_drop_data() {
    let moods = [
        (Mood::Says(429, "{\"error\":\"too many requests\"}"), 3),
        (Mood::Says(408, ""), 3),
        (Mood::Says(404, "{\"error\":\"database not found: \\\"home\\\"\"}"), 1),
        (Mood::Says(401, "{\"error\":\"authorization failed\"}"), 1),
        (Mood::Says(403, ""), 1),
    ];
    thread::scope(|scope| {
        for (mood, requests) in moods {
            scope.spawn(move || {
                let mut story = Story::new("balanced");
                let mut service = story.start();
                story.world.database.is(mood);
                story.storm(300);
                wait_for_requests(&mut service, &story.world.database, requests);
                let page = metrics(&service);
                assert_eq!(page.of(MAIN, "points_dropped_total"), 0);
                assert_eq!(page.of(MAIN, "points_dead_lettered_total"), 0);
                story.world.database.is(Mood::Well);
                story.drain_within(&mut service, Duration::from_mins(1));
                story.finish_complete(service);
            });
        }
    });
}

/// A single line that is too large for the database was sent for ever, and nothing behind it was.
#[test]
fn a_single_line_that_is_too_large_does_not_stop_the_others() {
    let mut story = Story::new("balanced");
    story.world.database.is(Mood::By(Arc::new(|request| {
        let is_large = |line: &String| line.len() > 20_000;
        request.lines.iter().any(is_large).then(|| answer(413, "<html>413 Request Entity Too Large</html>"))
    })));
    let mut service = story.start();
    let text = ha_ingestor::model::value::Value::Text("x".repeat(30_000).into());
    let attributes = [("note".into(), text)].into_iter().collect();
    let large = story.world.home.set("sensor.large", "1", attributes).unwrap();
    story.storm(500);
    story.drain(&mut service);
    assert_eq!(metrics(&service).of(MAIN, "points_dead_lettered_total"), 1);
    let mut expected = story.world.expected();
    assert!(expected.remove(&("sensor.large".to_owned(), large.entry().last_updated)));
    assert!(story.world.database.has(&expected));
    end(service);
}

/// A process that died between the removal of a file and the note about it never came up again.
#[test]
fn a_death_between_a_removal_and_its_bookkeeping_is_no_crash_loop() {
    for (rule, part) in [
        ("unlink spool/* 1 die-after", "unlink"),
        ("unlink spool/* 1 die-before", "unlink"),
        ("rename spool/* 1 die-before", "rename"),
        ("rename spool/* 1 die-after", "rename"),
    ] {
        let Some(mut story) = Story::on_layer("strict") else { return };
        story.world.database.close();
        let mut service = story.start();
        story.storm(3_000);
        story.wait_until_safe(&mut service);
        story.disk(rule);
        story.world.open_database();
        let drained = |page: &crate::metrics::Metrics, _| page.of(MAIN, "points_pending") == 0;
        if story.lives_until(&mut service, "the backlog is stored", drained) {
            // Files that nobody needs may go as late as at the stop.
            let _ = service.exit_code(Duration::from_secs(10));
        }
        drop(service);
        story.disk_did(part);
        story.disk("");
        for _ in 0..3 {
            let service = story.start();
            story.finish(service);
        }
    }
}

/// A request that is answered late was taken for the one after it, and what was never stored was let go.
#[test]
fn an_answer_that_comes_late_acknowledges_only_its_own_request() {
    let mut story = Story::new("strict");
    story.options["delivery"]["batch_points"] = json!(50);
    let requests = std::sync::atomic::AtomicUsize::new(0);
    // Every third request is refused, every other one is answered late, most of them too late.
    story.world.database.is(Mood::By(Arc::new(move |_| {
        let at = requests.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let late = |time, reaction| crate::fake::Reaction::Late(Duration::from_millis(time), Box::new(reaction));
        match at % 4 {
            0 => Some(late(900, answer(503, "busy"))),
            1 => Some(late(1_300, answer(204, ""))),
            _ => None,
        }
    })));
    let service = story.start();
    story.storm(500);
    thread::sleep(Duration::from_secs(5));
    story.world.database.is(Mood::Well);
    story.finish_complete(service);
}

/// One batch that was refused held up all that came after it.
#[test]
fn a_batch_that_is_refused_for_ever_does_not_hold_up_what_comes_after() {
    let mut story = Story::new("balanced");
    story.options["delivery"]["batch_points"] = json!(100);
    story.world.database.is(Mood::By(Arc::new(|request| {
        let bad = request.lines.iter().any(|line| line.contains("entity_id=refused"));
        bad.then(|| answer(400, "{\"error\":\"field type conflict\"}"))
    })));
    let mut service = story.start();
    for value in 0..30 {
        let _ = story.world.home.set("sensor.refused", &value.to_string(), [].into_iter().collect()).unwrap();
    }
    story.storm(500);
    story.drain(&mut service);
    assert_eq!(metrics(&service).of(MAIN, "points_dead_lettered_total"), 30);
    let mut expected = story.world.expected();
    expected.retain(|(entity, _)| entity != "sensor.refused");
    assert!(story.world.database.has(&expected));
    service.wait_until_ready();
    end(service);
}
