//! Rooms and rules, from the outside: what the registries say becomes tags, chooses rules, and stays with the past.

use std::cell::Cell;
use std::fs;

use ha_ingestor::model::value::{Attributes, Value as Attribute};
use serde_json::json;

use crate::service::{Place, Service};
use crate::world::World;

const RULES: &str = "
rules:
  - name: Kitchen in one
    match: {areas: Kitchen}
    override_measurement: kitchen
  - name: Nothing is there
    match: {entity_globs: nowhere.*}
    drop: true
";

/// Starts with the rules, and rooms as tags.
fn start(world: &World, place: &Place) -> Service {
    fs::create_dir_all(place.data()).unwrap();
    fs::write(place.data().join("rules.yaml"), RULES).unwrap();
    let mut options = world.options();
    options["schema"] = json!({"registry_tags": ["area", "labels"]});
    Service::start_at(place, place.command(Some(&options), &[]))
}

fn watts() -> Attributes {
    [("unit_of_measurement".into(), Attribute::Text("W".into()))].into_iter().collect()
}

/// A sensor that is in the registry.
fn registered(world: &World) -> String {
    world.home.home(|home| home.states().map(|(id, _)| id.to_string()).find(|id| id.starts_with("sensor.")).unwrap())
}

fn lines_of(world: &World, entity: &str) -> Vec<String> {
    let tag = format!("entity_id={}", entity.split_once('.').unwrap().1);
    world.database.lines().into_iter().filter(|line| line.split([',', ' ']).any(|part| part == tag)).collect()
}

#[test]
fn an_entity_that_moves_leaves_its_past_where_it_was() {
    let world = World::new();
    let entity = registered(&world);
    world.home.move_to_area(&entity, "Bedroom");
    let place = Place::new();
    let mut service = start(&world, &place);
    service.wait_until_ready();
    let _ = world.home.set(&entity, "1", watts());
    service.wait_until("the first room", |_| lines_of(&world, &entity).iter().any(|line| line.contains("value=1 ")));
    let first = lines_of(&world, &entity);
    assert!(first.iter().all(|line| line.contains(",area=Bedroom,")), "{first:?}");

    world.home.move_to_area(&entity, "Kitchen");
    // The registry is read a second later, and the rule for the room applies from then on.
    let number = Cell::new(1);
    service.wait_until("the second room", |_| {
        number.set(number.get() + 1);
        let _ = world.home.set(&entity, &number.get().to_string(), watts());
        lines_of(&world, &entity).iter().any(|line| line.starts_with("kitchen,area=Kitchen,"))
    });

    let told = service.get(&format!("/api/preview?entity_id={entity}")).json();
    let by = json!({"decided": "override_measurement", "by": "rule Kitchen in one"});
    assert!(told["explanation"].as_array().unwrap().contains(&by), "{told}");
    assert!(told["line"].as_str().unwrap().starts_with("kitchen,area=Kitchen,"), "{told}");
    let warnings = service.get("/api/rules").json()["warnings"].clone();
    assert!(
        warnings.as_array().unwrap().iter().any(|words| words.as_str().unwrap().contains("nowhere.*")),
        "{warnings}"
    );
    service.stop();

    // The state is of before the move that happens while nobody listens.
    let last = world.home.home(|home| home.states().find(|(id, _)| ***id == *entity).unwrap().1.last_updated);
    world.home.move_to_area(&entity, "Cellar");
    world.database.forget();
    let mut service = start(&world, &place);
    service.wait_until_ready();
    service.wait_until("the state is told again", |_| !lines_of(&world, &entity).is_empty());
    service.stop();
    let again = lines_of(&world, &entity);
    assert!(again.iter().all(|line| line.contains(",area=Kitchen,")), "of {last}: {again:?}");
}

#[test]
fn events_are_points_without_what_is_secret() {
    let world = World::new();
    let mut options = world.options();
    options["events"] = json!(["call_service", "doorbell"]);
    let mut service = Service::start(&options);
    service.wait_until_ready();
    world.home.fire("call_service", r#"{"domain":"lock","service":"unlock","service_data":{"code":"1234","n":2}}"#);
    world.home.fire("doorbell", r#"{"pressed":true,"by":"someone"}"#);
    world.home.fire("never_asked_for", "{}");
    let events =
        || -> Vec<String> { world.database.lines().into_iter().filter(|line| line.starts_with("ha_event,")).collect() };
    service.wait_until("both events are stored", |_| events().len() == 2);
    let events = events();
    assert!(
        events[0].starts_with("ha_event,domain=lock,event_type=call_service,service=unlock ")
            && events[0].contains("service_data_n=2")
            && !events[0].contains("1234"),
        "{events:?}"
    );
    assert!(events[1].starts_with("ha_event,event_type=doorbell ") && events[1].contains("pressed=1"), "{events:?}");
    assert_eq!(service.get("/api/rules").json()["events"], json!(["call_service", "doorbell"]));
    let ended = service.stop();
    assert_eq!(ended.log.matches("1234").count(), 0, "{}", ended.log);
}
