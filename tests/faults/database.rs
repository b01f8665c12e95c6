//! Whatever a database does, nothing is lost, and everything is there once it is well again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use ha_ingestor::runtime::clock;
use serde_json::json;

use crate::fake::{Reaction, answer};
use crate::metrics::MAIN;
use crate::oracle::{Story, metrics, resident, wait_for_requests};
use crate::service::Service;
use crate::world::Mood;

/// The database is like this for a while, in which it is asked again at least twice; then it is well.
fn survives(durability: &str, mood: Mood) {
    let mut story = Story::new(durability);
    let mut service = story.start();
    story.storm(100);
    story.drain(&mut service);
    story.world.database.is(mood);
    let before = story.world.database.requests().len();
    service.wait_until("the database is asked again", |_| {
        story.storm(20);
        story.world.database.requests().len() >= before + 3
    });
    story.world.database.is(Mood::Well);
    story.finish_complete(service);
}

#[test]
fn a_database_that_answers_with_nonsense_gets_everything_later() {
    let big = || "<html>".repeat(10 << 20 >> 3);
    let page = "<html><head><title>502 Bad Gateway</title></head>";
    let moods = [
        Mood::Silent,
        Mood::Drips,
        Mood::Breaks(""),
        Mood::Breaks("HTTP/1.1 2"),
        Mood::Breaks("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 1000\r\n\r\n{\"err"),
        Mood::TakesSilently,
        Mood::TakesAndResets(""),
        Mood::TakesAndResets("HTTP/1.1 204 No Content\r\n\r\n"),
        Mood::TakesAndResets("HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\n"),
        Mood::Says(500, "{not json"),
        Mood::Says(502, page),
        Mood::Says(503, "{\"error\":\"timeout\"}"),
        Mood::Answers(500, "", big()),
        Mood::Answers(500, "Content-Encoding: gzip\r\n", "this is not gzip".to_owned()),
    ];
    thread::scope(|scope| {
        for (at, mood) in moods.into_iter().enumerate() {
            scope.spawn(move || survives(["balanced", "strict"][at % 2], mood));
        }
    });
}

#[test]
fn a_database_that_is_gone_for_a_while_gets_everything_oldest_first() {
    let mut story = Story::new("balanced");
    let mut service = story.start();
    story.storm(100);
    story.drain(&mut service);
    story.world.database.close();
    for _ in 0..8 {
        story.storm(100);
        thread::sleep(Duration::from_secs(1));
    }
    service.wait_until("the oldest of it is on disk", |service| metrics(service).of(MAIN, "wal_backlog_records") > 0);
    service.wait_until("the breaker is open", |service| {
        metrics(service).count("circuit_state", &[("target", MAIN), ("state", "open")]) == 1
    });
    story.world.open_database();
    story.finish_complete(service);
}

#[test]
fn a_body_that_never_ends_does_not_fill_the_memory() {
    let mut story = Story::new("balanced");
    let mut service = story.start();
    story.storm(100);
    story.drain(&mut service);
    let before = resident(&service);
    story.world.database.is(Mood::Answers(500, "", "x".repeat(10 << 20)));
    story.storm(100);
    wait_for_requests(&mut service, &story.world.database, 6);
    let grown = resident(&service).saturating_sub(before);
    assert!(grown < 15 << 20, "it has grown by {grown} bytes");
    story.world.database.is(Mood::Well);
    story.finish_complete(service);
}

#[test]
fn what_has_to_be_repaired_by_a_person_loses_nothing() {
    let moods = [
        Mood::Says(401, "{\"error\":\"authorization failed\"}"),
        Mood::Says(403, "{\"error\":\"forbidden\"}"),
        Mood::Says(404, "{\"error\":\"database not found: \\\"home\\\"\"}"),
        Mood::Says(404, "404 page not found"),
    ];
    thread::scope(|scope| {
        for mood in moods {
            scope.spawn(move || {
                let mut story = Story::new("balanced");
                let mut service = story.start();
                story.world.database.is(mood);
                story.storm(200);
                wait_for_requests(&mut service, &story.world.database, 1);
                story.storm(200);
                // It comes to disk meanwhile, and is not lost with the process.
                story.wait_until_safe(&mut service);
                story.kill(service);
                let mut service = story.start();
                wait_for_requests(&mut service, &story.world.database, 1);
                story.world.database.is(Mood::Well);
                story.drain_within(&mut service, Duration::from_mins(1));
                story.finish_complete(service);
            });
        }
    });
}

/// The whole body is too large for a proxy, which says so with a page.
#[test]
fn a_limit_of_a_proxy_is_found_and_kept() {
    let mut story = Story::new("balanced");
    story.world.database.is(Mood::By(Arc::new(|request| {
        (request.lines.len() > 20).then(|| answer(413, "<html><h1>413 Request Entity Too Large</h1></html>"))
    })));
    let mut service = story.start();
    story.storm(500);
    story.drain(&mut service);
    assert_eq!(metrics(&service).of(MAIN, "points_dead_lettered_total"), 0);
    story.finish_complete(service);
}

/// Answers this once, then is well: when the next request comes.
fn comes_back_after(header: impl Fn() -> String + Send + Sync + 'static, status: u16) -> Duration {
    let mut story = Story::new("balanced");
    let mut service = story.start();
    story.storm(50);
    story.drain(&mut service);
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&asked);
    story.world.database.is(Mood::By(Arc::new(move |_| {
        let first = counting.fetch_add(1, Ordering::SeqCst) == 0;
        first.then(|| Reaction::Answer(status, header().leak(), String::new()))
    })));
    story.storm(50);
    service.wait_until("it was told to wait", |_| asked.load(Ordering::SeqCst) > 0);
    let began = Instant::now();
    service.wait_until("it comes back", |_| asked.load(Ordering::SeqCst) > 1);
    let waited = began.elapsed();
    story.finish_complete(service);
    waited
}

#[test]
fn retry_after_is_honoured_as_seconds_and_as_a_date_and_nonsense_is_passed_over() {
    thread::scope(|scope| {
        for status in [429, 503] {
            scope.spawn(move || {
                let waited = comes_back_after(|| "Retry-After: 4\r\n".to_owned(), status);
                assert!(waited > Duration::from_secs(3), "{waited:?}");
            });
            scope.spawn(move || {
                let waited = comes_back_after(|| format!("Retry-After: {}\r\n", date_in(5)), status);
                assert!(waited > Duration::from_secs(3), "{waited:?}");
            });
            for nonsense in ["Retry-After: soon\r\n", "Retry-After: -1\r\n", "Retry-After: \r\n", ""] {
                scope.spawn(move || {
                    let waited = comes_back_after(move || nonsense.to_owned(), status);
                    assert!(waited < Duration::from_secs(3), "{nonsense:?}: {waited:?}");
                });
            }
        }
    });
}

/// As HTTP writes it: in whole seconds.
fn date_in(seconds: u64) -> String {
    let now = Duration::from_micros(clock::now().as_micros().unsigned_abs());
    httpdate::fmt_http_date(UNIX_EPOCH + now + Duration::from_secs(seconds))
}

#[test]
fn told_to_wait_for_ever_it_still_stops_in_time_and_the_next_start_delivers() {
    let mut story = Story::new("balanced");
    story.world.database.is(Mood::Answers(503, "Retry-After: 99999999\r\n", String::new()));
    let mut service = story.start();
    story.storm(100);
    // It may have been told before the storm was over, and then it does not ask again.
    service.wait_for_log("cannot write");
    service.wait_until("all of it has come", |service| metrics(service).books(MAIN).balance());
    crate::oracle::end(service);
    story.world.database.is(Mood::Well);
    let service = story.start();
    story.finish_complete(service);
}

/// One bad line among a thousand: it alone is set aside, and finding it does not take a request for each of the others,
/// whether the database says which one it is or not.
#[test]
fn a_poisoned_line_is_found_with_few_requests() {
    let is_poison = |line: &String| line.contains("entity_id=poison");
    let unnamed = Mood::By(Arc::new(move |request| {
        request.lines.iter().any(is_poison).then(|| answer(400, "{\"error\":\"field type conflict\"}"))
    }));
    for mood in [Mood::CannotParse("entity_id=poison"), unnamed] {
        let mut story = Story::new("balanced");
        story.options["delivery"]["linger_ms"] = json!(1_000);
        let mut service: Service = story.start();
        story.drain(&mut service);
        story.world.database.is(mood);
        let before = story.world.database.requests().len();
        story.storm(500);
        let poison = story.world.home.set("sensor.poison", "1", [].into_iter().collect()).unwrap();
        story.storm(499);
        story.drain(&mut service);
        let requests = story.world.database.requests().len() - before;
        assert!(requests <= 2 * 10 + 5, "{requests} requests");
        assert_eq!(metrics(&service).of(MAIN, "points_dead_lettered_total"), 1);
        let mut expected = story.world.expected();
        assert!(expected.remove(&("sensor.poison".to_owned(), poison.entry().last_updated)));
        assert!(story.world.database.has(&expected));
        crate::oracle::end(service);
    }
}
