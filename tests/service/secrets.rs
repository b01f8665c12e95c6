//! What must never be shown.

use serde_json::json;

use crate::service::{Place, Service, lines_with, options_file, output, printed};
use crate::world::{Mood, World};

const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9-token-of-home-assistant";
const PASSWORD: &str = "p4ssw0rd-of-the-database";
/// `me:p4ssw0rd-of-the-database` as a request carries it.
const BASIC: &str = "bWU6cDRzc3cwcmQtb2YtdGhlLWRhdGFiYXNl";
const SECRETS: [&str; 3] = [TOKEN, PASSWORD, BASIC];

fn must_hold_none(what: &str, text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{what} shows a secret: {:?}", lines_with(text, secret));
    }
}

#[test]
fn no_secret_is_in_anything_that_it_says_whatever_fails() {
    for format in ["text", "json"] {
        let (world, place) = (World::new(), Place::new());
        let mut options = world.options();
        options["log"] = json!({"level": "trace", "format": format, "file": true});
        options["home_assistant"]["token"] = json!(TOKEN);
        options["influxdb"]["url"] = json!(world.database.url().replace("http://", "http://me@"));
        options["influxdb"]["password"] = json!(PASSWORD);
        let mut service = Service::start_at(&place, place.command(Some(&options), &[]));
        // The home accepts another one.
        service.wait_for_reason("does not accept the token");
        let pages = |service: &Service| {
            let health = ["/health", "/ready", "/metrics", "/health/dependencies", "/health/dependencies/influxdb"];
            let inside = ["/api/coverage", "/api/dead-letters", "/api/history", "/api/job", "/api/log", "/api/rules"];
            for &path in ["/"].iter().chain(&health).chain(&inside) {
                must_hold_none(path, &service.get(path).body);
            }
        };
        pages(&service);
        must_hold_none("the log", &service.stop().log);

        options["home_assistant"]["token"] = json!("demo");
        let mut service = Service::start_at(&place, place.command(Some(&options), &[]));
        service.wait_until_ready();
        // The server may repeat what it was told.
        let moods = [
            (Mood::Says(500, "cannot log in me"), "the database answers 500"),
            (Mood::Breaks("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"resu"), "the connection broke"),
            (Mood::Drips, "no answer in time"),
            (Mood::Says(401, "{\"error\":\"authorization failed\"}"), "check influxdb.token"),
        ];
        for (mood, reason) in moods {
            world.database.is(mood);
            world.home.storm(100);
            service.wait_for_reason(reason);
            pages(&service);
        }
        world.home.garbage("no JSON");
        world.home.restart();
        service.wait_for_reason("home_assistant: ");
        pages(&service);
        assert!(world.database.requests().iter().any(|request| request.header("authorization").is_some()));
        must_hold_none("the log", &service.stop().log);
        let file = std::fs::read_to_string(place.data().join("log/ha-ingestor.log")).unwrap();
        assert!(file.contains("connected to Home Assistant"), "{file}");
        must_hold_none("the log file", &file);
    }
}

#[test]
fn no_secret_is_in_what_check_and_a_refusal_of_the_options_say() {
    let world = World::new();
    world.database.is(Mood::Says(401, "{\"error\":\"authorization failed\"}"));
    let mut options = world.options();
    options["home_assistant"]["token"] = json!(TOKEN);
    options["influxdb"]["username"] = json!("me");
    options["influxdb"]["password"] = json!(PASSWORD);
    let told = |options: &serde_json::Value| {
        let folder = tempfile::tempdir().unwrap();
        let output = output(&["check", "--options", &options_file(&folder, &options.to_string())]);
        assert_ne!(output.status.code(), Some(0));
        printed(&output)
    };
    must_hold_none("check", &told(&options));
    for wrong in [format!("{TOKEN} {PASSWORD}"), format!("http://me:{PASSWORD}@h:x"), format!("ftp://{PASSWORD}@h")] {
        for (section, name) in [("home_assistant", "url"), ("home_assistant", "token"), ("influxdb", "url")] {
            let mut options = options.clone();
            options[section][name] = json!(wrong);
            must_hold_none("a refusal", &told(&options));
            options[section][name] = json!([wrong]);
            must_hold_none("a refusal", &told(&options));
        }
    }
}
