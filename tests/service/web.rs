//! What it answers over HTTP.

use ha_ingestor::config::secret::Secret;
use ha_ingestor::model::value::Value as Attribute;
use serde_json::{Value, json};

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

#[test]
fn a_preview_shows_what_is_written_for_an_entity_and_changes_nothing() {
    let world = World::new();
    let mut options = world.options();
    options["mirrors"] = json!([{"url": "http://127.0.0.1:1", "api": "v1"}]);
    options["filter"] = json!({"exclude_entities": ["sensor.hidden_*"]});
    let mut service = Service::start(&options);
    let attributes = || [("unit_of_measurement".into(), Attribute::Text("kW".into()))].into_iter().collect();
    world.home.set("sensor.oven", "1.5", attributes()).unwrap();
    world.home.set("sensor.hidden_oven", "2", attributes()).unwrap();
    service.wait_until("the oven is written", |_| world.database.lines().iter().any(|line| line.contains("id=oven ")));
    let written = world.database.lines().into_iter().find(|line| line.contains("entity_id=oven ")).unwrap();
    let before = service.metric("events_received_total");

    let answer = service.get("/api/preview?entity_id=sensor.oven");
    assert_eq!(answer.status, 200, "{answer:?}");
    let told = answer.json();
    assert_eq!(told["line"], json!(written));
    assert_eq!((&told["filtered"], &told["refused"]), (&Value::Null, &Value::Null));
    assert_eq!(told["targets"], json!(["influxdb", "mirror_1"]));
    let by = json!({"decided": "measurement", "by": "unit_of_measurement"});
    assert!(told["explanation"].as_array().unwrap().contains(&by), "{told}");
    let hidden = service.get("/api/preview?entity_id=sensor.hidden_oven").json();
    assert_eq!((&hidden["line"], &hidden["filtered"]), (&Value::Null, &json!("not_included")));

    for (query, status, words) in [
        ("?entity_id=sensor.ovn", 404, "did you mean sensor.oven"),
        ("?entity_id=oven", 400, "an entity id needs a domain"),
        ("", 400, "/api/preview?entity_id=sensor.kitchen"),
    ] {
        let answer = service.get(&format!("/api/preview{query}"));
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.json()["error"].as_str().unwrap().contains(words), "{answer:?}");
    }
    let state = json!({"entity_id": "light.new", "state": "on", "last_updated": "2026-02-14T18:30:05+00:00"});
    let answer = service.post("/api/preview", &state.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    let line = "light.new,domain=light,entity_id=new state=\"on\",value=1 1771093805000000000";
    assert_eq!(answer.json()["line"], line);
    assert_eq!(service.post("/api/preview", "{}").status, 400);
    // Announced only: it is refused before it was sent.
    let large = [("Content-Length", "1048577")];
    assert_eq!(service.ask("POST", "/api/preview", &large).status, 413);
    let answer = service.ask("DELETE", "/api/preview", &[]);
    assert_eq!((answer.status, &*answer.headers["allow"]), (405, "GET, HEAD, POST"));

    assert_eq!(service.metric("events_received_total"), before, "nothing came in by asking");
    world.home.turn(|knobs| knobs.token = Secret::new("another"));
    let answer = service.get("/api/preview?entity_id=sensor.oven");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("does not accept the token"), "{answer:?}");
    service.stop();
}

#[test]
fn without_a_home_a_preview_needs_a_state() {
    let service = Service::start_with(None, &[]);
    let answer = service.get("/api/preview?entity_id=sensor.oven");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("set `home_assistant.url`"), "{answer:?}");
    assert_eq!(service.post("/api/preview", r#"{"entity_id":"a.b","state":"1"}"#).status, 200);
    service.stop();
}

#[test]
fn the_rules_that_are_in_force_can_be_asked_for() {
    let service = Service::start(&json!({"events": ["zha_event"]}));
    let rules = service.get("/api/rules").json();
    assert_eq!((&rules["events"], &rules["rules"], &rules["topics"]), (&json!(["zha_event"]), &json!([]), &json!([])));
    assert_eq!((&rules["valid"], &rules["error"], &rules["warnings"]), (&json!(true), &json!(null), &json!([])));
    for path in service.get("/").json()["paths"].as_array().unwrap() {
        let status = service.get(path.as_str().unwrap()).status;
        assert_ne!(status, 404, "{path} is named and not there");
    }
    service.stop();
}
