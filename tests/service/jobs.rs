//! What administrators order from the running service.

use std::fs;

use serde_json::{Value, json};

use crate::service::{Place, Service};
use crate::world::World;

const JSON: (&str, &str) = ("content-type", "application/json");

fn order(service: &Service, body: &Value, headers: &[(&str, &str)]) -> (u16, Value) {
    let answer = service.post_with("/api/job", headers, &body.to_string());
    (answer.status, answer.json())
}

fn ended(service: &mut Service) -> Value {
    service.wait_until("the job has ended", |service| service.get("/api/job").json()["running"] == false);
    service.get("/api/job").json()
}

#[test]
fn an_import_and_a_comparison_are_ordered_watched_and_done() {
    let world = World::new();
    let mut service = Service::start(&world.options());
    service.wait_until_ready();
    assert_eq!(service.get("/api/job").json()["kind"], "");

    let period = json!({"kind": "import", "from": "2026-01-01", "statistics": false, "dry_run": true});
    for (headers, status) in [
        (&[][..], 415),
        (&[JSON, ("x-remote-user-id", "ben")], 403),
        (&[JSON, ("x-remote-user-id", "nobody")], 403),
        (&[JSON, ("x-remote-user-id", "anna")], 202),
    ] {
        assert_eq!(order(&service, &period, headers).0, status, "{headers:?}");
    }
    let job = ended(&mut service);
    assert_eq!((&job["kind"], &job["error"]), (&json!("import"), &Value::Null), "{job}");
    assert!(job["rows"].as_u64().unwrap() > 100 && job["result"]["totals"]["points"].as_u64().unwrap() > 100, "{job}");

    let (status, told) = order(&service, &json!({"kind": "import", "from": "yesterday"}), &[JSON]);
    assert_eq!((status, told["error"].as_str().unwrap().split(':').next()), (400, Some("`from`")), "{told}");
    let answer = service.ask("DELETE", "/api/job", &[]);
    assert_eq!(answer.status, 409, "there is nothing to stop");

    // The database of this story takes points, and has none for who asks.
    assert_eq!(order(&service, &json!({"kind": "verify"}), &[JSON]).0, 202);
    let job = ended(&mut service);
    assert_eq!((&job["kind"], &job["error"]), (&json!("verify"), &Value::Null), "{job}");
    let total = &job["result"]["targets"][0]["total"];
    assert!(total["known"].as_u64().unwrap() > 1_000 && total["missing"] == total["known"], "{job}");

    let coverage = service.get("/api/coverage").json();
    let found = &coverage["targets"]["influxdb"];
    assert_eq!((&found["known"], &found["missing"], &found["ratio"]), (&total["known"], &total["known"], &json!(0.0)));
    let (entity, figure) = found["entities"].as_object().unwrap().iter().next().unwrap();
    let of_one = service.get(&format!("/api/coverage?entity_id={entity}")).json();
    let days = of_one["targets"]["influxdb"]["days"].as_object().unwrap();
    assert_eq!(days.values().map(|day| day["known"].as_u64().unwrap()).sum::<u64>(), figure["known"].as_u64().unwrap());
    assert_eq!(service.get("/api/coverage?entity=x").status, 400);
    service.wait_until("the share is told", |service| {
        service.get("/metrics").body.contains("ha_ingest_coverage_ratio{target=\"influxdb\"} 0")
    });
    service.stop();
}

#[test]
fn the_first_start_imports_everything_once_if_somebody_wishes_so() {
    let (world, place) = (World::new(), Place::new());
    let mut options = world.options();
    options["history"]["import_on_first_start"] = json!(true);
    let mut service = Service::start_at(&place, place.command(Some(&options), &[]));
    let job = ended(&mut service);
    assert_eq!((&job["kind"], &job["error"]), (&json!("import"), &Value::Null), "{job}");
    assert!(world.database.points().0.len() > 1_000, "{job}");
    service.wait_until_ready();
    service.stop();
    let mut service = Service::start_at(&place, place.command(Some(&options), &[]));
    service.wait_until_ready();
    assert_eq!(service.get("/api/job").json()["kind"], "", "it is done");
    service.stop();
}

#[test]
fn the_first_import_is_tried_until_it_is_done_at_later_starts_too() {
    let (world, place) = (World::new(), Place::new());
    let mut options = world.options();
    options["history"]["import_on_first_start"] = json!(true);
    world.home.home_mut(|home| home.unload_recorder(true));
    let words = "the import at the first start: Home Assistant's recorder is off: there is no history to import";
    for _ in 0..2 {
        let mut service = Service::start_at(&place, place.command(Some(&options), &[]));
        service.wait_for_log(words);
        service.wait_until("the present is stored", |_| world.database.has(&world.present()));
        service.stop();
    }
    let mut service = Service::start_at(&place, place.command(Some(&options), &[]));
    service.wait_for_log(words);
    world.home.home_mut(|home| home.unload_recorder(false));
    service.wait_for_log("the import at the first start is done");
    assert!(world.database.points().0.len() > 1_000, "{}", service.log());
    assert_eq!(service.get("/api/job").json()["error"], Value::Null);
    service.stop();

    for damaged in [false, true] {
        if damaged {
            fs::write(place.data().join("first-import.json"), "{").unwrap();
        }
        let mut service = Service::start_at(&place, place.command(Some(&options), &[]));
        service.wait_until_ready();
        if damaged {
            service.wait_for_log("first-import.json is damaged");
            service.wait_for_log("the import at the first start is done");
        } else {
            assert_eq!(service.get("/api/job").json()["kind"], "", "it is done");
        }
        service.stop();
    }
}
