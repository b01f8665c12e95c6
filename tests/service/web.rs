//! What it answers over HTTP.

use crate::service::Service;
use crate::world::{ENTITIES, World};

#[test]
fn every_answer_carries_the_id_of_the_request_and_errors_are_json() {
    let service = Service::start_with(None, &[]);
    let table = [
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("GET", "/ready", 503),
        ("GET", "/metrics", 200),
        ("GET", "/health/dependencies", 200),
        ("GET", "/health/dependencies/mail", 404),
        ("GET", "/nowhere", 404),
        ("GET", "/%00", 404),
        ("POST", "/health", 405),
        ("DELETE", "/metrics", 405),
        ("BREW", "/health", 405),
    ];
    for (method, path, status) in table {
        let answer = service.ask(method, path, &[("X-Correlation-ID", "my-id.7")]);
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.headers["x-correlation-id"], "my-id.7", "{method} {path}");
        if status == 404 || status == 405 {
            assert_eq!(answer.headers["content-type"], "application/json", "{method} {path}");
            assert!(answer.json()["error"].is_string(), "{answer:?}");
        }
    }
    let made = service.ask("GET", "/health", &[("X-Correlation-ID", "has \"quotes\" and spaces")]);
    assert!(made.headers["x-correlation-id"].starts_with("req-"), "{made:?}");
    service.stop();
}

#[test]
fn each_dependency_says_what_it_is_and_how_it_is() {
    let world = World::new();
    let mut service = Service::start(&world.options());
    service.wait_until_ready();
    service.wait_until("everything is stored", |_| world.database.has(&world.expected()));
    let all = service.get("/health/dependencies").json();
    assert_eq!(all.as_array().unwrap().len(), 3);
    let home = service.get("/health/dependencies/home_assistant").json();
    assert_eq!((&home["state"], &home["connects"], &home["failures"]), (&"connected".into(), &1.into(), &0.into()));
    assert_eq!(home["throughput"]["total"], ENTITIES);
    let database = service.get("/health/dependencies/influxdb").json();
    assert_eq!((&database["state"], &database["detail"]), (&"connected".into(), &"api v1".into()));
    assert_eq!(database["throughput"]["total"], world.expected().len());
    assert!(database["latency_seconds"].as_f64().unwrap() > 0.0, "{database}");
    let delivery = &database["delivery"];
    assert_eq!(delivery["books"]["stored"], world.expected().len());
    assert_eq!(delivery["books"]["dropped"]["spool_full"], 0, "{delivery}");
    assert_eq!((&delivery["circuit"], &delivery["unaccounted"]), (&"closed".into(), &0.into()));
    assert!(delivery["watermark"].is_string(), "{delivery}");
    service.stop();
}

#[test]
fn the_second_listener_serves_only_monitoring() {
    let mut service = Service::start_with(None, &["--metrics-listen", "127.0.0.1:0"]);
    service.wait_for_log("monitoring is answered on http://");
    let line = service.said("monitoring is answered on http://").remove(0);
    let (_, rest) = line.split_once("http://").unwrap();
    let address = rest.split(' ').next().unwrap().parse().unwrap();
    for (path, status) in
        [("/health", 200), ("/ready", 503), ("/metrics", 200), ("/", 404), ("/health/dependencies", 404)]
    {
        assert_eq!(crate::service::ask(address, "GET", path, &[]).unwrap().status, status, "{path}");
    }
    service.stop();
}
