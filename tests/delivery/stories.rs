//! What becomes of the records when a server answers well, badly, or not at all.

use std::collections::HashSet;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ha_ingestor::config::secret::Secret;
use ha_ingestor::config::settings::{Api, Compression, Target};
use ha_ingestor::status::snapshot::{Circuit, LinkState};

use crate::bench::{Bench, delivery, server, until};
use crate::fake::{Fake, Reaction, Request, answer};

fn lines(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("°C,entity_id=sensor_{at} value={at} {at}000")).collect()
}

/// What a server has after all requests that it answered with 204.
type Stored = Arc<Mutex<HashSet<String>>>;

fn store(stored: &Stored, request: &Request) -> Reaction {
    stored.lock().unwrap().extend(request.lines.iter().cloned());
    answer(204, "")
}

#[tokio::test]
async fn lines_arrive_compressed_identified_and_in_one_batch() {
    let fake = Fake::start(|_| answer(204, "")).await;
    let mut server = server(&format!("{}/prefix", fake.url), Api::V1);
    server.username = Some("me".into());
    server.password = Secret::new("secret");
    let bench = Bench::start(&lines(1_000), server, delivery());
    bench.until_empty().await;
    let seen = fake.requests();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].lines, lines(1_000));
    assert_eq!(seen[0].head, "POST /prefix/write?db=home&precision=ns");
    assert_eq!(seen[0].header("content-encoding"), Some("gzip"));
    assert_eq!(seen[0].header("authorization"), Some("Basic bWU6c2VjcmV0"));
    assert!(seen[0].header("user-agent").unwrap().starts_with("ha-ingestor/"));
    until("it says that it is alive", || !bench.snapshot().tasks.is_empty()).await;
    let end = bench.end().await;
    assert_eq!(end.books.stored, 1_000);
    assert_eq!(end.target.state, LinkState::Connected);
    assert_eq!(end.target.detail, "api v1");
    assert_eq!(end.writes.requests, [("stored", 1)]);
    assert_eq!(end.writes.last_batch_points, 1_000);
    assert!(end.writes.bytes_sent > 0 && end.writes.bytes_sent < 20_000);
    assert!(end.writes.last_success.is_some() && end.writes.newest_stored.is_some());
    assert!(end.tasks.contains(&"delivery_influxdb".to_owned()));
}

#[tokio::test]
async fn batches_grow_while_the_last_request_is_away_and_stay_within_their_limits() {
    let fake = Fake::start(|_| answer(204, "")).await;
    let mut delivery = delivery();
    delivery.batch_points = NonZeroUsize::new(300).unwrap();
    let bench = Bench::start(&lines(1_000), server(&fake.url, Api::V1), delivery);
    bench.until_empty().await;
    let sizes: Vec<usize> = fake.requests().iter().map(|request| request.lines.len()).collect();
    assert_eq!(sizes, [300, 300, 300, 100]);
    bench.end().await;
}

#[tokio::test]
async fn the_first_record_waits_for_company_but_not_at_the_end() {
    let fake = Fake::start(|_| answer(204, "")).await;
    let mut delivery = delivery();
    delivery.linger = Duration::from_millis(200);
    let mut bench = Bench::start(&["a v=1"], server(&fake.url, Api::V1), delivery.clone());
    bench.append(&["b v=1"]);
    tokio::task::yield_now().await;
    bench.append(&["c v=1"]);
    bench.until_empty().await;
    assert_eq!(fake.requests().len(), 1);
    bench.end().await;

    delivery.linger = Duration::from_hours(1);
    let bench = Bench::start(&["d v=1"], server(&fake.url, Api::V1), delivery);
    assert_eq!(bench.end().await.books.stored, 1);
}

#[tokio::test]
async fn company_that_fills_a_batch_ends_the_wait_for_more() {
    let row = |points, bytes, memory| (NonZeroUsize::new(points), NonZeroUsize::new(bytes), memory);
    // Enough lines, enough bytes, and neither before the memory would be full.
    for (points, bytes, memory) in [row(100, 1 << 20, 1 << 20), row(5_000, 4_000, 1 << 20), row(5_000, 1 << 20, 20_000)]
    {
        let fake = Fake::start(|_| answer(204, "")).await;
        let mut delivery = delivery();
        delivery.linger = Duration::from_hours(1);
        (delivery.batch_points, delivery.batch_bytes) = (points.unwrap(), bytes.unwrap());
        let mut bench = Bench::start_with_memory(&lines(1), server(&fake.url, Api::V1), delivery, memory);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(fake.requests().len(), 0, "one line waits");
        for _ in 0..20 {
            bench.append(&lines(10));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        until("a batch was sent", || !fake.requests().is_empty()).await;
        let end = bench.end().await;
        // Where memory is small, some may be on disk for the next start.
        assert_eq!(end.books.stored + end.books.held, 201, "{:?}", end.books);
    }
}

/// How the versions answer to a batch with one bad line.
fn poison(api: Api, words: &'static str, stored: Stored) -> impl FnMut(&Request) -> Reaction + Send + 'static {
    let is_bad = |line: &String| line.contains("poison");
    move |request| {
        let Some(at) = request.lines.iter().position(is_bad) else { return store(&stored, request) };
        let others = request.lines.iter().filter(|line| !is_bad(line)).cloned();
        let line = &request.lines[at];
        let body = match api {
            Api::V1 => {
                stored.lock().unwrap().extend(others);
                serde_json::json!({ "error": words.replace("LINE", line) })
            }
            Api::V2 => serde_json::json!({ "code": "invalid", "message": words.replace("LINE", line) }),
            _ => {
                stored.lock().unwrap().extend(others);
                let data = serde_json::json!([{ "original_line": "", "line_number": at + 1, "error_message": words }]);
                serde_json::json!({ "error": "partial write of line protocol occurred", "data": data })
            }
        };
        answer(400, body.to_string())
    }
}

#[tokio::test]
async fn one_bad_line_among_a_thousand_is_the_only_one_that_is_lost() {
    let table = [
        (Api::V1, "partial write: unable to parse 'LINE': invalid number dropped=0", 1),
        (Api::V1, "partial write: field type conflict: x dropped=1", 1 + 19),
        (Api::V2, "unable to parse 'LINE': invalid number", 2),
        (Api::V2, "words that nobody knows", 1 + 19),
        (Api::V3, "invalid column type", 1),
    ];
    for (api, words, most_requests) in table {
        for at in [0, 371, 999] {
            let stored = Stored::default();
            let fake = Fake::start(poison(api, words, Arc::clone(&stored))).await;
            let mut all = lines(1_000);
            all[at] = r#"m,entity_id=poison value="it's" 1"#.into();
            let bench = Bench::start(&all, server(&fake.url, api), delivery());
            bench.until_empty().await;
            let requests = fake.requests().len();
            assert!(requests <= most_requests, "{words}: {requests} requests for line {at}");
            assert_eq!(bench.set_aside(), 1, "{words}");
            let end = bench.end().await;
            assert_eq!(end.books.stored, 999, "{words}");
            assert_eq!(end.target.state, LinkState::Connected, "{words}");
            let stored = stored.lock().unwrap();
            assert!(all.iter().all(|line| stored.contains(line) != line.contains("poison")), "{words}");
        }
    }
}

/// It opens as usual, and not for long.
fn quick_breaker() -> ha_ingestor::config::settings::Delivery {
    let mut settings = delivery();
    settings.breaker.open_for = Duration::from_millis(10);
    settings
}

#[tokio::test]
async fn one_line_that_makes_the_server_fail_does_not_stop_the_others_for_ever() {
    let stored = Stored::default();
    let fake = Fake::start({
        let stored = Arc::clone(&stored);
        move |request| {
            if request.lines.iter().any(|line| line.contains("poison")) {
                answer(500, r#"{"error":"runtime error: index out of range"}"#)
            } else {
                store(&stored, request)
            }
        }
    })
    .await;
    let mut all = lines(100);
    all[37] = "m,entity_id=poison value=1 1".into();
    let bench = Bench::start(&all, server(&fake.url, Api::V1), quick_breaker());
    bench.until_empty().await;
    assert_eq!(bench.set_aside(), 1);
    assert_eq!(bench.end().await.books.stored, 99);
    assert_eq!(stored.lock().unwrap().len(), 99);
}

#[tokio::test]
async fn a_server_that_fails_for_every_line_costs_none_however_long_it_takes() {
    let mut answered = 0;
    let fake = Fake::start(move |_| {
        answered += 1;
        if answered <= 60 { answer(500, r#"{"error":"internal error"}"#) } else { answer(204, "") }
    })
    .await;
    let bench = Bench::start(&lines(100), server(&fake.url, Api::V1), quick_breaker());
    bench.until_empty().await;
    assert_eq!(bench.end().await.books.stored, 100);
}

#[tokio::test]
async fn a_proxy_that_finds_everything_too_large_costs_nothing() {
    let mut answered = 0;
    let fake = Fake::start(move |_| {
        answered += 1;
        if answered <= 20 { answer(413, "<html>413</html>") } else { answer(204, "") }
    })
    .await;
    let bench = Bench::start(&lines(100), server(&fake.url, Api::V1), delivery());
    until("the fault shows", || bench.target.link.state() == LinkState::Failing).await;
    let (_, error) = bench.snapshot().target.last_error.unwrap();
    assert!(error.contains("raise the limit"), "{error}");
    while bench.snapshot().books.held > 0 {
        bench.skip_to_probe().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(bench.end().await.books.stored, 100);
}

#[tokio::test]
async fn what_is_older_than_the_database_keeps_is_counted_without_an_alarm() {
    let fake = Fake::start(|request| match request.lines.len() {
        10 => answer(400, r#"{"error":"partial write: points beyond retention policy dropped=3"}"#),
        _ => answer(204, ""),
    })
    .await;
    let bench = Bench::start(&lines(10), server(&fake.url, Api::V1), delivery());
    bench.until_empty().await;
    assert_eq!((bench.snapshot().books.expired, bench.set_aside()), (3, 0));
    let end = bench.end().await;
    assert_eq!((end.books.stored, end.target.failures), (7, 0));
}

#[tokio::test]
async fn faults_that_need_a_person_hold_everything_until_they_are_healed() {
    let table: [(u16, &'static str, &str); 7] = [
        (401, "{\"error\":\"authorization failed\"}", "credentials"),
        (403, "{\"code\":\"forbidden\",\"message\":\"insufficient permissions\"}", "may not write"),
        (404, "{\"error\":\"database not found: \\\"home\\\"\"}", "create it"),
        (301, "", "elsewhere"),
        (405, "", "influxdb.api"),
        (500, "{\"error\":\"retention policy not found: x\"}", "retention_policy"),
        (400, "{\"error\":\"database is required\"}", "options of influxdb"),
    ];
    for (status, body, advice) in table {
        let mut answered = 0;
        let fake = Fake::start(move |_| {
            answered += 1;
            if answered == 1 { answer(status, body) } else { answer(204, "") }
        })
        .await;
        let mut bench = Bench::start(&lines(10), server(&fake.url, Api::V1), delivery());
        until("the fault shows", || bench.target.link.state() == LinkState::Failing).await;
        let (_, error) = bench.snapshot().target.last_error.unwrap();
        assert!(error.contains(advice), "{status}: {error}");
        assert_eq!(bench.snapshot().books.held, 10, "{status}");
        bench.append(&lines(5));
        bench.skip_to_probe().await;
        bench.until_empty().await;
        let sizes: Vec<usize> = fake.requests().iter().map(|request| request.lines.len()).collect();
        assert_eq!(sizes, [10, 10, 5], "{status}: a probe of ten, then the rest");
        assert_eq!(bench.end().await.books.stored, 15, "{status}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_well_is_asked_again_until_it_is() {
    const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";
    let table: [(&str, &'static str); 9] = [
        ("busy", "HTTP/1.1 503 X\r\nContent-Length: 4\r\n\r\nbusy"),
        ("a page of a proxy", "HTTP/1.1 502 X\r\nContent-Length: 13\r\n\r\n<html></html>"),
        ("throttled", "HTTP/1.1 429 X\r\nRetry-After: 0.01\r\nContent-Length: 0\r\n\r\n"),
        ("disk full", "HTTP/1.1 500 X\r\nContent-Length: 35\r\n\r\n{\"error\":\"no space left on device\"}\n"),
        ("nothing", ""),
        ("half a head", "HTTP/1.1 20"),
        ("half a body", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"resu"),
        ("no HTTP", "SSH-2.0-OpenSSH_9.6\r\n\r\n"),
        ("half of a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc"),
    ];
    for (what, reply) in table {
        let mut answered = 0;
        let fake = Fake::start(move |_| {
            answered += 1;
            Reaction::Raw(if answered <= 2 { reply } else { OK })
        })
        .await;
        let bench = Bench::start(&lines(10), server(&fake.url, Api::V1), delivery());
        bench.until_empty().await;
        assert_eq!(fake.requests().len(), 3, "{what}");
        let end = bench.end().await;
        assert_eq!((end.books.stored, end.target.failures), (10, 2), "{what}");
        assert_eq!(end.writes.requests, [("stored", 1), ("retry", 2)], "{what}");
    }
}

#[tokio::test]
async fn the_wait_that_the_server_asks_for_is_kept() {
    let mut answered = 0;
    let fake = Fake::start(move |_| {
        answered += 1;
        if answered == 1 { Reaction::Answer(429, "Retry-After: 0.4\r\n", String::new()) } else { answer(204, "") }
    })
    .await;
    let began = Instant::now();
    let bench = Bench::start(&lines(10), server(&fake.url, Api::V1), delivery());
    bench.until_empty().await;
    assert!(began.elapsed() >= Duration::from_millis(400));
    bench.end().await;
}

#[tokio::test]
async fn an_answer_that_never_ends_meets_the_deadline() {
    let mut answered = 0;
    let fake = Fake::start(move |_| {
        answered += 1;
        if answered == 1 { Reaction::Drip } else { answer(204, "") }
    })
    .await;
    let mut delivery = delivery();
    delivery.request_timeout = Duration::from_millis(150);
    let bench = Bench::start(&lines(10), server(&fake.url, Api::V1), delivery);
    bench.until_empty().await;
    let end = bench.end().await;
    assert!(end.target.last_error.unwrap().1.contains("no answer in time"));
}

#[tokio::test]
async fn an_endless_complaint_is_not_read_to_its_end() {
    let mut answered = 0;
    let fake = Fake::start(move |_| {
        answered += 1;
        if answered == 1 { answer(500, "x".repeat(10 << 20)) } else { answer(204, "") }
    })
    .await;
    let bench = Bench::start(&lines(10), server(&fake.url, Api::V1), delivery());
    bench.until_empty().await;
    let end = bench.end().await;
    assert!(end.target.last_error.unwrap().1.len() < 500);
}

#[tokio::test]
async fn batches_that_are_too_large_are_halved_and_the_limit_is_learned() {
    let fake = Fake::start(|request| match request.lines.len() {
        400.. => answer(413, "<html>413 Request Entity Too Large</html>"),
        _ => answer(204, ""),
    })
    .await;
    let mut bench = Bench::start(&lines(1_000), server(&fake.url, Api::V1), delivery());
    bench.until_empty().await;
    let learning = fake.requests().len();
    assert_eq!(learning, 1 + 2 + 4, "one, its halves, their halves");
    bench.append(&lines(1_000));
    bench.until_empty().await;
    let sizes: Vec<usize> = fake.requests()[learning..].iter().map(|request| request.lines.len()).collect();
    assert!(sizes.iter().all(|size| *size < 400), "{sizes:?}");
    assert_eq!(bench.end().await.books.stored, 2_000);
}

#[tokio::test]
async fn a_connection_that_is_cut_while_a_large_body_is_sent_may_mean_too_large() {
    let fake = Fake::start_on("127.0.0.1:0", 300_000, |_| answer(204, "")).await;
    let mut delivery = delivery();
    delivery.compression = Compression::None;
    let bench = Bench::start(&lines(20_000), server(&fake.url, Api::V1), {
        delivery.batch_points = NonZeroUsize::new(20_000).unwrap();
        delivery
    });
    bench.until_empty().await;
    let end = bench.end().await;
    assert_eq!(end.books.stored, 20_000);
    assert!(end.writes.requests.iter().any(|(name, _)| *name == "cut_off"), "{:?}", end.writes.requests);
}

#[tokio::test]
async fn a_database_that_starts_later_gets_everything() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let bench = Bench::start(&lines(10), server(&format!("http://{address}"), Api::V1), delivery());
    until("it failed twice", || bench.snapshot().target.failures >= 2).await;
    assert!(bench.snapshot().target.last_error.unwrap().1.contains("nothing listens there"));
    let fake = Fake::start_on(&address, usize::MAX, |_| answer(204, "")).await;
    bench.until_empty().await;
    assert_eq!(fake.requests().len(), 1);
    assert_eq!(bench.end().await.books.stored, 10);
}

#[tokio::test]
async fn a_host_that_does_not_exist_is_an_outage() {
    let bench = Bench::start_with_flush(
        &lines(3),
        server("http://me:secret@no-such-host.invalid:8086", Api::Auto),
        delivery(),
        Duration::ZERO,
    );
    until("it failed", || bench.target.link.state() == LinkState::Failing).await;
    let (_, error) = bench.snapshot().target.last_error.unwrap();
    let words =
        "cannot reach no-such-host.invalid:8086: the host name is not known: check the host name in influxdb.url";
    assert_eq!(error, words);
    assert_eq!(bench.end().await.books.stored, 0);
}

#[tokio::test]
async fn the_end_sends_what_is_left() {
    let fake = Fake::start(|_| answer(204, "")).await;
    let mut delivery = delivery();
    delivery.batch_points = NonZeroUsize::new(10).unwrap();
    delivery.linger = Duration::from_hours(1);
    let bench = Bench::start(&lines(100), server(&fake.url, Api::V1), delivery);
    assert_eq!(bench.end().await.books.stored, 100);
}

#[tokio::test]
async fn the_end_does_not_wait_for_a_dead_server_and_the_next_start_delivers() {
    // A listener that nobody serves: connected, and then silence.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = "http://127.0.0.1:1".to_owned();
    let locked = Fake::start(|_| answer(401, "")).await;
    let budget = Duration::from_millis(300);
    for url in [format!("http://{}", silent.local_addr().unwrap()), refused, locked.url.clone()] {
        let bench = Bench::start_with_flush(&lines(10), server(&url, Api::V1), delivery(), budget);
        let folder = bench.folder();
        let began = Instant::now();
        let end = bench.end().await;
        assert!(began.elapsed() < budget + Duration::from_secs(1), "{url}: {:?}", began.elapsed());
        assert_eq!((end.books.stored, end.books.held), (0, 10), "{url}");

        let fake = Fake::start(|_| answer(204, "")).await;
        let target = Target::Server(server(&fake.url, Api::V1));
        let none: [&str; 0] = [];
        let bench = Bench::start_in(folder, &target, &none, delivery(), budget, 1 << 20);
        bench.until_empty().await;
        assert_eq!(fake.requests()[0].lines, lines(10));
        let end = bench.end().await;
        assert_eq!((end.books.recovered, end.books.stored), (10, 10), "{url}");
    }
}

#[tokio::test]
async fn more_than_memory_holds_waits_on_disk_and_arrives() {
    let mut answered = 0;
    let fake = Fake::start(move |_| {
        answered += 1;
        if answered == 1 { answer(503, "") } else { answer(204, "") }
    })
    .await;
    let mut bench = Bench::start_with_memory(&lines(50), server(&fake.url, Api::V1), delivery(), 32_000);
    for _ in 0..20 {
        bench.append(&lines(50));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bench.until_empty().await;
    assert_eq!(bench.end().await.books.stored, 50 * 21);
}

#[tokio::test]
async fn what_happens_now_goes_before_the_backlog() {
    let is_open = Arc::new(Mutex::new(false));
    let seen_by_server = Arc::clone(&is_open);
    let fake =
        Fake::start(move |_| if *seen_by_server.lock().unwrap() { answer(204, "") } else { answer(503, "") }).await;
    let url = fake.url.clone();
    let budget = Duration::from_millis(100);
    let bench = Bench::start_with_flush(&lines(100), server(&url, Api::V1), delivery(), budget);
    let folder = bench.folder();
    assert_eq!(bench.end().await.books.held, 100);

    *is_open.lock().unwrap() = true;
    let mut settings = delivery();
    settings.batch_points = NonZeroUsize::new(10).unwrap();
    let target = Target::Server(server(&url, Api::V1));
    let before = fake.requests().len();
    let bench = Bench::start_in(folder, &target, &["now v=1 5"], settings, budget, 1 << 20);
    bench.until_empty().await;
    let requests = fake.requests();
    let after: Vec<&str> = requests[before..].iter().map(|request| request.lines[0].as_str()).collect();
    assert_eq!(after[0], "now v=1 5");
    assert_eq!(after[1..], lines(100).iter().step_by(10).map(String::as_str).collect::<Vec<_>>()[..], "oldest first");
    bench.end().await;
}

/// A server that stays away while `is_open` is false.
async fn gated(is_open: &Arc<Mutex<bool>>, poison: &'static str) -> Fake {
    let is_open = Arc::clone(is_open);
    Fake::start(move |request| {
        if !*is_open.lock().unwrap() {
            answer(503, "")
        } else if request.lines.iter().any(|line| line.contains(poison)) {
            answer(500, r#"{"error":"runtime error: index out of range"}"#)
        } else {
            answer(204, "")
        }
    })
    .await
}

#[tokio::test]
async fn a_poisoned_backlog_is_found_although_what_happens_now_gets_through() {
    let is_open = Arc::new(Mutex::new(false));
    let fake = gated(&is_open, "poison").await;
    let mut all = lines(100);
    all[37] = "m,entity_id=poison value=1 1".into();
    let budget = Duration::from_millis(100);
    let bench = Bench::start_with_flush(&all, server(&fake.url, Api::V1), delivery(), budget);
    let folder = bench.folder();
    assert_eq!(bench.end().await.books.held, 100);

    *is_open.lock().unwrap() = true;
    let target = Target::Server(server(&fake.url, Api::V1));
    let mut bench = Bench::start_in(folder, &target, &["now v=1 1"], quick_breaker(), budget, 1 << 20);
    let began = Instant::now();
    while bench.snapshot().books.held > 0 {
        bench.append(&["now v=1 1"]);
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", bench.snapshot());
    }
    assert_eq!(bench.set_aside(), 1);
    let end = bench.end().await;
    // A pause may be so short that nothing got through in it.
    assert!(end.target.failures < 5, "the target works all the while: {}", end.target.failures);
}

#[tokio::test]
async fn a_backlog_shrinks_although_something_happens_all_the_time() {
    let is_open = Arc::new(Mutex::new(false));
    let fake = gated(&is_open, "none").await;
    let budget = Duration::from_millis(100);
    let bench = Bench::start_with_flush(&lines(100), server(&fake.url, Api::V1), delivery(), budget);
    let folder = bench.folder();
    assert_eq!(bench.end().await.books.held, 100);

    *is_open.lock().unwrap() = true;
    let mut settings = delivery();
    settings.batch_points = NonZeroUsize::new(10).unwrap();
    settings.requests_per_second = NonZeroU32::new(50);
    let target = Target::Server(server(&fake.url, Api::V1));
    let mut bench = Bench::start_in(folder, &target, &["now v=1 1"], settings, budget, 1 << 20);
    let began = Instant::now();
    while !fake.requests().iter().any(|request| request.lines.contains(&lines(100)[99]))
        || began.elapsed().as_millis() < 100
    {
        bench.append(&["now v=1 1"]);
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", bench.snapshot());
    }
    bench.until_empty().await;
    bench.end().await;
}

#[tokio::test]
async fn the_breaker_opens_and_probes_with_few_lines() {
    let well = Arc::new(Mutex::new(false));
    let server_is_well = Arc::clone(&well);
    let fake =
        Fake::start(move |_| if *server_is_well.lock().unwrap() { answer(204, "") } else { answer(503, "") }).await;
    let bench = Bench::start(&lines(100), server(&fake.url, Api::V1), delivery());
    until("it opens", || bench.snapshot().circuit == Circuit::Open).await;
    assert_eq!(fake.requests().len(), 5, "as many as the options say");
    *well.lock().unwrap() = true;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(fake.requests().len(), 5, "none is made meanwhile");
    bench.skip_to_probe().await;
    bench.until_empty().await;
    let sizes: Vec<usize> = fake.requests()[5..].iter().map(|request| request.lines.len()).collect();
    assert_eq!(sizes, [10, 90]);
    let end = bench.end().await;
    assert_eq!((end.circuit, end.books.stored), (Circuit::Closed, 100));
}

#[tokio::test]
async fn no_more_requests_are_made_than_the_options_allow() {
    let fake = Fake::start(|_| answer(204, "")).await;
    let mut settings = delivery();
    settings.batch_points = NonZeroUsize::new(10).unwrap();
    settings.requests_per_second = NonZeroU32::new(20);
    let began = Instant::now();
    let bench = Bench::start(&lines(100), server(&fake.url, Api::V1), settings);
    bench.until_empty().await;
    // The first is free; more time than this is the machine's.
    assert!(began.elapsed() >= Duration::from_millis(9 * 50), "{:?}", began.elapsed());
    assert_eq!(fake.requests().len(), 10);
    bench.end().await;
}

#[tokio::test]
async fn a_refused_line_is_kept_with_what_is_known_of_it() {
    let stored = Stored::default();
    let words = "partial write: unable to parse 'LINE': invalid number dropped=0";
    let fake = Fake::start(poison(Api::V1, words, stored)).await;
    let bench = Bench::start(&["good v=1 1000", "poison v=1 2000"], server(&fake.url, Api::V1), delivery());
    bench.until_empty().await;
    let letters = bench.letters.list(10, None).unwrap();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!(
        (letter.line.as_str(), letter.target.as_str(), letter.reason.as_str()),
        ("poison v=1 2000", "influxdb", "unparsable")
    );
    assert_eq!(letter.words, "unable to parse the line: invalid number");
    assert!(letter.batch.ends_with("-1"), "{}", letter.batch);
    assert_eq!(letter.time.as_micros(), 2);
    let end = bench.end().await;
    assert_eq!((end.books.stored, end.books.set_aside()), (1, 1));
}

#[tokio::test]
async fn an_archive_takes_everything_and_a_folder_that_cannot_be_written_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("archive");
    std::fs::write(&archive, "in the way").unwrap();
    let target = Target::Archive(archive.clone());
    let all: Vec<String> = (0..100).map(|at| format!("m value={at} {at}")).collect();
    let bench = Bench::start_to(&target, &all, delivery(), Duration::from_secs(5));
    until("the fault shows", || bench.target.link.state() == LinkState::Failing).await;
    std::fs::remove_file(&archive).unwrap();
    bench.skip_to_probe().await;
    bench.until_empty().await;
    let end = bench.end().await;
    assert_eq!((end.books.stored, end.target.detail), (100, format!("files in {}", archive.display())));
    let unpacked =
        std::process::Command::new("gzip").arg("-dc").arg(archive.join("1970-01-01.lp.gz")).output().unwrap();
    assert_eq!(String::from_utf8(unpacked.stdout).unwrap(), all.join("\n") + "\n");
}

/// A pipe that nobody reads takes what fits its buffer, and then nothing: as a network share that has gone away.
#[tokio::test]
async fn a_disk_that_hangs_is_an_outage_and_is_written_by_one_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("1970-01-01.lp.gz");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut delivery = delivery();
    delivery.request_timeout = Duration::from_millis(150);
    let mut random = 1_u64;
    let all: Vec<String> = (0..4_000)
        .map(|at| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            format!("m value=\"{random:016x}{:016x}\" {at}", random.rotate_left(23).wrapping_mul(random))
        })
        .collect();
    let target = Target::Archive(folder.path().to_owned());
    let bench = Bench::start_to(&target, &all, delivery, Duration::from_secs(5));
    until("it failed twice", || bench.snapshot().target.failures >= 2).await;
    let (_, error) = bench.snapshot().target.last_error.unwrap();
    assert!(error.contains("no answer in time"), "{error}");
    assert_eq!(bench.snapshot().books.held, 4_000);
    let reader = pipe.clone();
    let (read, bytes) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut file = std::fs::File::options().read(true).write(true).open(reader).unwrap();
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count) = std::io::Read::read(&mut file, &mut buffer) {
            let _ = read.send(buffer[..count].to_vec());
        }
    });
    bench.until_empty().await;
    assert_eq!(bench.end().await.books.stored, 4_000);
    // Whole members, one after the other: two writers at once would have mixed them.
    let written = folder.path().join("read.gz");
    let mut read: Vec<u8> = Vec::new();
    while let Ok(more) = bytes.recv_timeout(Duration::from_millis(200)) {
        read.extend(more);
    }
    std::fs::write(&written, read).unwrap();
    let unpacked = std::process::Command::new("gzip").arg("-dc").arg(written).output().unwrap();
    let expected = all.join("\n") + "\n";
    let unpacked = String::from_utf8(unpacked.stdout).unwrap();
    assert!(
        unpacked.len().is_multiple_of(expected.len()) && unpacked.starts_with(&expected),
        "{} bytes",
        unpacked.len()
    );
}
