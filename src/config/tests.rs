//! The whole way, from what was typed to settings or faults, on a machine that is made up.

mod mirrors;
mod mqtt;

use std::io;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::{ProptestConfig, any, proptest};
use serde_json::json;

use super::place::Flags;
use super::settings::{
    Api, Compression, LogFormat, MeasurementFrom, Mqtt, RegistryNames, RegistryTag, Server, Settings, Target,
};
use super::{Invalid, Machine, assemble};
use crate::spool::Durability;

/// A machine with these files and variables; `options` is the Supervisor's options file.
#[derive(Clone, Default)]
struct Made<'a> {
    options: Option<&'a str>,
    files: &'a [(&'a str, &'a str)],
    environment: &'a [(&'a str, &'a str)],
    flags: Flags,
    has_editable_folder: bool,
}

impl Made<'_> {
    fn load(&self) -> Result<Settings, Invalid> {
        let read = |path: &Path| {
            let options = self.options.map(|text| ("/data/options.json", text));
            let mut files = self.files.iter().copied().chain(options);
            let found = files.find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| text.to_owned()).ok_or(io::Error::from(io::ErrorKind::NotFound))
        };
        let environment = self.environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let has_data_folder = self.options.is_some();
        let has_editable_folder = self.has_editable_folder;
        assemble(&self.flags, &Machine { environment, read: &read, has_data_folder, has_editable_folder })
    }

    fn faults(&self) -> Vec<String> {
        self.load().expect_err("there is a fault").faults().to_vec()
    }
}

const SUPERVISOR: (&str, &str) = ("SUPERVISOR_TOKEN", "the-supervisors");

fn settings(options: &serde_json::Value) -> Settings {
    let text = options.to_string();
    Made { options: Some(&text), ..Made::default() }.load().unwrap_or_else(|faults| panic!("{options}: {faults}"))
}

fn server(options: &serde_json::Value) -> Server {
    only_server(settings(&json!({ "influxdb": options })))
}

fn only_server(settings: Settings) -> Server {
    match only_target(settings) {
        Target::Server(server) => server,
        other @ Target::Archive(_) => panic!("{other:?}"),
    }
}

fn only_target(mut settings: Settings) -> Target {
    assert_eq!(settings.targets.len(), 1, "{:?}", settings.targets);
    settings.targets.remove(0).place
}

/// Names and addresses.
fn places(settings: &Settings) -> Vec<(&str, String)> {
    let place = |target: &Target| match target {
        Target::Server(server) => server.url.to_string(),
        Target::Archive(folder) => folder.display().to_string(),
    };
    settings.targets.iter().map(|target| (target.name.as_str(), place(&target.place))).collect()
}

#[track_caller]
fn refused(options: &serde_json::Value, expected: &[&str]) {
    let text = options.to_string();
    assert_eq!(Made { options: Some(&text), ..Made::default() }.faults(), expected, "{options}");
}

// What the program makes of nothing.

#[test]
fn without_any_option_the_service_starts_and_waits() {
    let settings = Made::default().load().unwrap();
    assert!(settings.home_assistant.is_none());
    assert!(settings.targets.is_empty());
    assert_eq!((settings.log.level, settings.log.format), (tracing::Level::INFO, LogFormat::Text));
    assert_eq!(settings.schema.measurement, MeasurementFrom::UnitOfMeasurement);
    assert!(settings.filter.include.is_empty() && settings.filter.exclude.is_empty());
    let delivery = settings.delivery;
    assert_eq!(delivery.linger, Duration::from_secs(1));
    assert_eq!((delivery.batch_points.get(), delivery.batch_bytes.get()), (5000, 1 << 20));
    assert_eq!(delivery.compression, Compression::Gzip);
    assert_eq!(delivery.request_timeout, Duration::from_secs(30));
    assert_eq!((delivery.retry.first, delivery.retry.longest), (Duration::from_millis(500), Duration::from_mins(1)));
    assert_eq!(delivery.requests_per_second, None);
    assert_eq!((delivery.breaker.failures.get(), delivery.breaker.open_for), (5, Duration::from_secs(30)));
    let spool = settings.spool;
    assert_eq!(spool.durability, Durability::Balanced);
    assert_eq!((spool.disk_bytes.get(), spool.memory_bytes.get()), (256 << 20, 32 << 20));
}

#[test]
fn under_the_supervisor_nothing_needs_to_be_said() {
    let settings = Made { options: Some("{}"), environment: &[SUPERVISOR], ..Made::default() }.load().unwrap();
    assert_eq!(places(&settings), [("influxdb", "http://a0d7b954-influxdb:8086/".to_owned())]);
    let home_assistant = settings.home_assistant.unwrap();
    assert_eq!(home_assistant.url.as_str(), "ws://supervisor/core/websocket");
    assert_eq!(home_assistant.token.expose(), "the-supervisors");
}

// Where the service lives.

#[test]
fn the_place_follows_flags_then_environment_then_the_surroundings() {
    fn check(made: &Made<'_>, expected: (&str, &str, Option<&str>, u64)) {
        let place = made.load().unwrap().place;
        let metrics_listen = place.metrics_listen.map(|address| address.to_string());
        let listen = place.listen.to_string();
        let data_dir = place.data_dir.to_str().unwrap();
        assert_eq!((data_dir, listen.as_str(), metrics_listen.as_deref(), place.grace.as_secs()), expected);
    }
    check(&Made::default(), ("./ha-ingestor-data", "127.0.0.1:8099", None, 8));
    check(
        &Made { options: Some("{}"), environment: &[SUPERVISOR], ..Made::default() },
        ("/data", "0.0.0.0:8099", Some("0.0.0.0:9273"), 45),
    );
    let container = ("HA_INGESTOR_CONTAINER", "1");
    check(
        &Made { environment: &[container], ..Made::default() },
        ("./ha-ingestor-data", "0.0.0.0:8099", Some("0.0.0.0:9273"), 8),
    );
    let environment = [
        container,
        ("HA_INGESTOR_DATA_DIR", "/var/lib/x"),
        ("HA_INGESTOR_LISTEN", "127.0.0.1:1"),
        ("HA_INGESTOR_METRICS_LISTEN", "[::1]:2"),
    ];
    check(&Made { environment: &environment, ..Made::default() }, ("/var/lib/x", "127.0.0.1:1", Some("[::1]:2"), 8));
    let flags = Flags {
        options: None,
        data_dir: Some("y".into()),
        rules: None,
        listen: Some(([127, 0, 0, 1], 3).into()),
        metrics_listen: Some(([127, 0, 0, 1], 4).into()),
        grace_seconds: Some(5),
    };
    check(&Made { environment: &environment, flags, ..Made::default() }, ("y", "127.0.0.1:3", Some("127.0.0.1:4"), 5));
}

#[test]
fn the_rules_are_where_somebody_said_or_where_they_can_be_edited() {
    fn check(made: &Made<'_>, path: &str, must_be_there: bool) {
        let rules = made.load().unwrap().place.rules;
        assert_eq!((rules.path.to_str().unwrap(), rules.must_be_there), (path, must_be_there));
    }
    check(&Made::default(), "./ha-ingestor-data/rules.yaml", false);
    // Elsewhere `/config` may be Home Assistant's.
    check(&Made { has_editable_folder: true, ..Made::default() }, "./ha-ingestor-data/rules.yaml", false);
    let supervised = Made { options: Some("{}"), environment: &[SUPERVISOR], ..Made::default() };
    check(&supervised, "/data/rules.yaml", false);
    let supervised = Made { has_editable_folder: true, ..supervised };
    check(&supervised, "/config/rules.yaml", false);
    let named = Made { environment: &[SUPERVISOR, ("HA_INGESTOR_RULES", "/x/mine.yaml")], ..supervised };
    check(&named, "/x/mine.yaml", true);
    check(&Made { flags: Flags { rules: Some("y.yaml".into()), ..Flags::default() }, ..named }, "y.yaml", true);
}

#[test]
fn a_wrong_place_is_reported_by_the_name_of_its_variable() {
    let environment = [
        ("HA_INGESTOR_LISTEN", "8099"),
        ("HA_INGESTOR_METRICS_LISTEN", "127.0.0.1:8099"),
        ("HA_INGESTOR_CONTAINER", "maybe"),
    ];
    assert_eq!(
        Made { environment: &environment, ..Made::default() }.faults(),
        [
            "HA_INGESTOR_CONTAINER: must be 1 or 0, not `maybe`",
            "HA_INGESTOR_LISTEN: must be an address and a port like 0.0.0.0:8099, not `8099`",
            "--listen and --metrics-listen are both 127.0.0.1:8099: give each its own port",
        ]
    );
}

// The options file.

#[test]
fn a_file_that_was_asked_for_must_be_there() {
    let flags = Flags { options: Some("mine.json".into()), ..Flags::default() };
    let made = Made { flags, ..Made::default() };
    assert_eq!(made.faults(), ["cannot read the options file mine.json: entity not found"]);
    let there = Made { files: &[("mine.json", r#"{"log": {"level": "debug"}}"#)], ..made };
    assert_eq!(there.load().unwrap().log.level, tracing::Level::DEBUG);
}

#[test]
fn a_file_that_is_no_json_is_reported_with_line_and_column() {
    for (text, expected) in [
        ("{\n  \"log\": {,}\n}", "/data/options.json is not valid JSON: key must be a string at line 2 column 11"),
        ("", "/data/options.json is not valid JSON: EOF while parsing a value at line 1 column 0"),
        ("\"hunter2\"", "/data/options.json: must be a group of options in braces, not text"),
        ("[]", "/data/options.json: must be a group of options in braces, not a list"),
    ] {
        assert_eq!(Made { options: Some(text), ..Made::default() }.faults(), [expected], "{text}");
    }
    let with_mark = Made { options: Some("\u{feff}{}"), ..Made::default() };
    assert!(with_mark.load().is_ok());
}

#[test]
fn unknown_options_are_answered_with_the_nearest_or_with_all() {
    refused(&json!({"influxdb": {"databse": "x"}}), &["unknown option `influxdb.databse`: did you mean `database`?"]);
    refused(&json!({"influx": {"databse": 1}}), &["unknown option `influx`: did you mean `influxdb`?"]);
    refused(
        &json!({"x": 1, "log": {"zzz": {"level": "info"}}}),
        &[
            "unknown option `log.zzz`: it can be file, format, level",
            "unknown option `x`: it can be delivery, events, filter, history, home_assistant, influxdb, log, mirrors, mqtt, schema",
        ],
    );
}

#[test]
fn a_wrong_kind_of_value_is_told_what_it_must_be() {
    for (options, expected) in [
        (json!({"influxdb": {"url": 5}}), "influxdb.url: must be text, not a whole number"),
        (json!({"influxdb": {"url": null}}), "influxdb.url: must be text, not nothing (null)"),
        (json!({"influxdb": []}), "influxdb: must be a group of options in braces, not a list"),
        (json!({"influxdb": {"verify_tls": "yes"}}), "influxdb.verify_tls: must be true or false, not text"),
        (json!({"delivery": {"linger_ms": 1.5}}), "delivery.linger_ms: must be a whole number, not a fraction"),
        (json!({"delivery": {"linger_ms": "1"}}), "delivery.linger_ms: must be a whole number, not text"),
        (
            json!({"delivery": {"linger_ms": u64::MAX}}),
            "delivery.linger_ms: must be a whole number, not one that large",
        ),
        (json!({"schema": {"tags": "a=b"}}), "schema.tags: must be a list, not text"),
        (json!({"schema": {"tags": ["a=b", 5, {}]}}), "schema.tags: every item must be text, not a whole number"),
        // Choices by their position or as a group are no choices, even if a library would take them.
        (json!({"log": {"level": 1}}), "log.level: must be text, not a whole number"),
        (json!({"log": {"level": {"info": null}}}), "log.level: must be text, not a group of options in braces"),
        (json!({"log": {"level": "warning"}}), "log.level: `warning` is no choice: did you mean `warn`?"),
        (json!({"influxdb": {"api": "4"}}), "influxdb.api: `4` is no choice: it can be auto, v1, v2, v3"),
        (
            json!({"delivery": {"compression": "zstd"}}),
            "delivery.compression: `zstd` is no choice: it can be none, gzip",
        ),
        (
            json!({"delivery": {"durability": "stict"}}),
            "delivery.durability: `stict` is no choice: did you mean `strict`?",
        ),
        (
            json!({"schema": {"measurement": "domain_device_class"}}),
            "schema.measurement: `domain_device_class` is no choice: did you mean `domain__device_class`?",
        ),
    ] {
        refused(&options, &[expected]);
    }
}

#[test]
fn numbers_have_ranges() {
    for (option, outside, range) in [
        ("linger_ms", [-1, 60_001], "from 0 to 60000"),
        ("batch_points", [0, 100_001], "from 1 to 100000"),
        ("spool_megabytes", [0, 65_537], "from 1 to 65536"),
        ("memory_megabytes", [0, 1025], "from 1 to 1024"),
        ("request_timeout_seconds", [0, 601], "from 1 to 600"),
        ("retry_initial_ms", [9, 3_600_001], "from 10 to 3600000"),
        ("retry_max_ms", [9, i64::MAX], "from 10 to 3600000"),
        ("requests_per_second", [-1, 1001], "from 0 to 1000"),
        ("breaker_failures", [0, 1001], "from 1 to 1000"),
        ("breaker_open_seconds", [0, 3601], "from 1 to 3600"),
    ] {
        for number in outside {
            let expected = format!("delivery.{option}: must be {range}, not {number}");
            let text = json!({"delivery": {option: number}}).to_string();
            let faults = Made { options: Some(&text), ..Made::default() }.faults();
            assert!(faults.contains(&expected), "{expected}\n{faults:?}");
        }
    }
    for delivery in [
        json!({"linger_ms": 0, "batch_points": 1, "memory_megabytes": 1, "request_timeout_seconds": 1,
               "retry_initial_ms": 10, "retry_max_ms": 10, "spool_megabytes": 1, "requests_per_second": 0,
               "breaker_failures": 1, "breaker_open_seconds": 1}),
        json!({"linger_ms": 60_000, "batch_points": 100_000, "memory_megabytes": 1024, "request_timeout_seconds": 600,
               "retry_initial_ms": 3_600_000, "retry_max_ms": 3_600_000, "spool_megabytes": 65_536,
               "requests_per_second": 1000, "breaker_failures": 1000, "breaker_open_seconds": 3600}),
    ] {
        settings(&json!({ "delivery": delivery }));
    }
    let retry = json!({"delivery": {"retry_initial_ms": 2000, "retry_max_ms": 1000}});
    refused(&retry, &["delivery.retry_initial_ms: 2000 is more than delivery.retry_max_ms, 1000"]);
    let delivery = settings(&json!({"delivery": {"linger_ms": 0}})).delivery;
    assert_eq!(delivery.linger, Duration::ZERO);
    for (linger_ms, seconds) in [(0, 5), (1_000, 6), (60_000, 65)] {
        let age = settings(&json!({"delivery": {"linger_ms": linger_ms}})).spool.age;
        assert_eq!(age, Duration::from_secs(seconds), "what waits for company does not go to the disk for it");
    }
}

#[test]
fn each_option_of_the_delivery_reaches_its_setting() {
    let all = settings(&json!({"delivery": {
        "durability": "strict", "spool_megabytes": 65_536, "memory_megabytes": 3, "requests_per_second": 7,
        "breaker_failures": 11, "breaker_open_seconds": 13
    }}));
    assert_eq!(all.spool.durability, Durability::Strict);
    assert_eq!((all.spool.disk_bytes.get(), all.spool.memory_bytes.get()), (65_536 << 20, 3 << 20));
    assert_eq!(all.delivery.requests_per_second.map(std::num::NonZero::get), Some(7));
    assert_eq!((all.delivery.breaker.failures.get(), all.delivery.breaker.open_for.as_secs()), (11, 13));
}

#[test]
fn one_file_with_many_faults_is_told_all_of_them() {
    refused(
        &json!({
            "log": {"level": "loud", "format": "xml"},
            "home_assistant": {"url": "http://ha.local:8123"},
            "influxdb": {"url": "db:8086", "databse": "x", "verify_tls": 1, "username": "me"},
            "filter": {"exclude_domains": ["sensor.kitchen"], "include_entities": ["Light.Kitchen", "kitchen", ""]},
            "schema": {"tags": ["site", "a=1", "a=2"]},
            "delivery": {"batch_points": 0, "retry_initial_ms": true}
        }),
        &[
            "delivery.retry_initial_ms: must be a whole number, not true or false",
            "unknown option `influxdb.databse`: did you mean `database`?",
            "influxdb.verify_tls: must be true or false, not a whole number",
            "log.format: `xml` is no choice: it can be text, json",
            "log.level: `loud` is no choice: it can be error, warn, info, debug, trace",
            "home_assistant.token: is empty, but home_assistant.url is set: create a long-lived access token on your \
             profile page in Home Assistant and put it here",
            "influxdb.url: must begin with one of http://, https://",
            "influxdb.password: is empty, but influxdb.username is set: give both or neither",
            "filter.include_entities: has an empty item: remove it",
            "filter.include_entities: `Light.Kitchen` never matches, ids are lower-case: did you mean `light.kitchen`?",
            "filter.include_entities: `kitchen` is not an entity id like sensor.kitchen_temperature, nor a pattern like \
             sensor.*",
            "filter.exclude_domains: `sensor.kitchen` is not a domain like sensor: put it in filter.exclude_entities",
            "schema.tags: `site` must look like key=value",
            "schema.tags: `a` is there twice",
            "delivery.batch_points: must be from 1 to 100000, not 0",
        ],
    );
}

#[test]
fn a_fault_is_one_line_whatever_was_typed() {
    let text = json!({"a\nb": 1, "log": {"level": "x\ny"}, "filter": {"include_entities": ["a\nb"]}}).to_string();
    let invalid = Made { options: Some(&text), ..Made::default() }.load().unwrap_err();
    assert_eq!(invalid.faults().len(), 3);
    assert_eq!(invalid.to_string().lines().count(), 3, "{invalid}");
}

// Home Assistant.

#[test]
fn home_assistant_is_found_by_the_address_of_its_page() {
    for (typed, expected) in [
        ("http://ha.local:8123", "ws://ha.local:8123/api/websocket"),
        (" http://ha.local:8123/ ", "ws://ha.local:8123/api/websocket"),
        ("https://ha.example.org", "wss://ha.example.org/api/websocket"),
        ("ws://10.0.0.2:8123/api/websocket", "ws://10.0.0.2:8123/api/websocket"),
        ("wss://ha.example.org/api", "wss://ha.example.org/api/websocket"),
        ("http://proxy/home/", "ws://proxy/home/api/websocket"),
        ("http://proxy/home/api/websocket/", "ws://proxy/home/api/websocket"),
        ("http://supervisor/core/websocket", "ws://supervisor/core/websocket"),
        ("http://[fd00::2]:8123", "ws://[fd00::2]:8123/api/websocket"),
    ] {
        let found = settings(&json!({"home_assistant": {"url": typed, "token": "t"}})).home_assistant.unwrap();
        assert_eq!(found.url.as_str(), expected, "{typed}");
    }
}

#[test]
fn an_address_that_cannot_be_home_assistants_is_refused() {
    for (typed, problem) in [
        ("ha.local:8123", "must begin with one of http://, https://, ws://, wss://"),
        ("ftp://ha.local", "must begin with one of http://, https://, ws://, wss://"),
        ("ha.local", "is not an address: begin with one of http://, https://, ws://, wss://, then host and port"),
        ("http://", "is not an address: begin with one of http://, https://, ws://, wss://, then host and port"),
        ("http://me:hunter2@ha", "must not hold a user name or password: home_assistant.token is the login"),
        ("http://ha/?x=1", "must end before `?` and `#`: other options say the rest"),
    ] {
        let expected = format!("home_assistant.url: {problem}");
        refused(&json!({"home_assistant": {"url": typed, "token": "t"}}), &[&expected]);
    }
}

#[test]
fn home_assistant_needs_both_address_and_token_even_under_the_supervisor() {
    let text = json!({"home_assistant": {"token": "t"}}).to_string();
    for environment in [&[][..], &[SUPERVISOR][..]] {
        assert_eq!(
            Made { options: Some(&text), environment, ..Made::default() }.faults(),
            ["home_assistant.url: is empty, but home_assistant.token is set: give both, such as \
              http://homeassistant.local:8123 here"]
        );
    }
    refused(
        &json!({"home_assistant": {"url": "http://ha", "token": "two words"}}),
        &["home_assistant.token: has a space, a line break or another letter that no token has: copy it again"],
    );
    let text = json!({"home_assistant": {"url": "http://ha", "token": "mine"}}).to_string();
    let own = Made { options: Some(&text), environment: &[SUPERVISOR], ..Made::default() }.load().unwrap();
    assert_eq!(own.home_assistant.unwrap().token.expose(), "mine");
}

// InfluxDB.

#[test]
fn a_login_in_the_address_moves_to_where_logins_are() {
    let moved = server(&json!({"url": "http://me%40home:p%2Fw%25@db:8086/prefix"}));
    assert_eq!(moved.url.as_str(), "http://db:8086/prefix");
    assert_eq!(moved.username.as_deref(), Some("me@home"));
    assert_eq!(moved.password.expose(), "p/w%");

    refused(
        &json!({"influxdb": {"url": "http://me:hunter2@db", "username": "you", "password": "x"}}),
        &["influxdb.url: holds a login, and so does influxdb.username: remove it from the URL"],
    );
    refused(
        &json!({"influxdb": {"url": "http://me@db"}}),
        &["influxdb.password: is empty, but influxdb.username is set: give both or neither"],
    );
    refused(
        &json!({"influxdb": {"url": "http://me:%ff@db"}}),
        &["influxdb.url: holds a login that is not UTF-8: use influxdb.username and influxdb.password"],
    );
}

#[test]
fn a_file_address_is_an_archive() {
    let archive = only_target(settings(&json!({"influxdb": {"url": "file:///share/my%20home"}})));
    assert!(matches!(archive, Target::Archive(path) if path == Path::new("/share/my home")));
    for wrong in ["file://share/x", "file:share", "file:"] {
        let expected = "influxdb.url: must have three slashes after `file:`, like file:///share/influxdb";
        refused(&json!({"influxdb": {"url": wrong}}), &[expected]);
    }
}

#[test]
fn each_api_says_what_it_needs() {
    refused(
        &json!({"influxdb": {"url": "http://db", "api": "v2"}}),
        &[
            "influxdb.organization: is empty, but influxdb.api v2 needs it",
            "influxdb.bucket: is empty, but influxdb.api v2 needs it",
            "influxdb.token: is empty, but influxdb.api v2 needs it",
        ],
    );
    for api in ["auto", "v1", "v3"] {
        refused(
            &json!({"influxdb": {"url": "http://db", "api": api, "database": ""}}),
            &["influxdb.database: is empty: only influxdb.api v2 goes without it"],
        );
    }
    let v2 = server(
        &json!({"url": "http://db", "api": "v2", "organization": "o", "bucket": "b", "token": "t", "database": ""}),
    );
    assert_eq!((v2.api, v2.bucket.as_str(), v2.organization.as_deref()), (Api::V2, "b", Some("o")));
    refused(
        &json!({"influxdb": {"password": "hunter2"}}),
        &["influxdb.username: is empty, but influxdb.password is set: give both or neither"],
    );
    refused(
        &json!({"influxdb": {"token": "a\nb"}}),
        &["influxdb.token: has a space, a line break or another letter that no token has: copy it again"],
    );
}

#[test]
fn the_bucket_is_the_database_when_the_server_is_asked() {
    assert_eq!(server(&json!({"url": "http://db", "database": "home"})).bucket, "home");
    assert_eq!(server(&json!({"url": "http://db", "bucket": "b"})).bucket, "b");
    assert_eq!(server(&json!({"url": "http://db", "api": "v1"})).bucket, "");
}

#[test]
fn a_certificate_is_looked_for_in_the_folder_for_certificates() {
    let files = [("/ssl/home.pem", ""), ("/elsewhere/ca.pem", "")];
    for (name, expected) in
        [("home.pem", Some("/ssl/home.pem")), ("/elsewhere/ca.pem", Some("/elsewhere/ca.pem")), ("", None)]
    {
        let text = json!({"influxdb": {"url": "https://db", "ca_certificate": name}}).to_string();
        let server = only_server(Made { options: Some(&text), files: &files, ..Made::default() }.load().unwrap());
        assert!(server.tls.verify);
        assert_eq!(server.tls.ca_certificate.as_deref(), expected.map(Path::new));
    }
    refused(
        &json!({"influxdb": {"ca_certificate": "none.pem"}, "home_assistant": {"ca_certificate": "/none.pem"}}),
        &[
            "home_assistant.ca_certificate: cannot read /none.pem: entity not found",
            "influxdb.ca_certificate: cannot read /ssl/none.pem: entity not found",
        ],
    );
}

// Filter and schema.

#[test]
fn entities_with_wildcards_are_patterns() {
    let options = json!({"filter": {
        "include_domains": ["sensor"], "include_entities": ["light.kitchen", "*_battery"],
        "exclude_entities": ["sensor.[!a-c]?"]
    }});
    let filter = settings(&options).filter;
    assert_eq!(filter.include.domains, ["sensor"]);
    assert_eq!(filter.include.entities, ["light.kitchen"]);
    assert_eq!(filter.include.entity_globs, ["*_battery"]);
    assert_eq!(filter.exclude.entity_globs, ["sensor.[!a-c]?"]);
}

#[test]
fn what_can_never_match_is_refused() {
    for (list, entry, problem) in [
        ("include_domains", "Sensor", "never matches, ids are lower-case: did you mean `sensor`?"),
        ("include_domains", "sens*", "is not a domain like sensor: put it in filter.include_entities"),
        ("exclude_domains", "wohn zimmer", "never matches: ids are made of a-z, 0-9 and _"),
        ("exclude_entities", "sensor.küche", "never matches: ids are made of a-z, 0-9 and _"),
        ("exclude_entities", "sensor.K*", "never matches, ids are lower-case: did you mean `sensor.k*`?"),
    ] {
        let expected = format!("filter.{list}: `{entry}` {problem}");
        refused(&json!({"filter": {list: [entry]}}), &[&expected]);
    }
    refused(
        &json!({"filter": {"include_domains": [""]}, "schema": {"ignore_attributes": ["a", " "]}}),
        &[
            "filter.include_domains: has an empty item: remove it",
            "schema.ignore_attributes: has an empty item: remove it",
        ],
    );
}

#[test]
fn the_lists_of_areas_and_their_like_reach_the_filter() {
    let names = |direction: &str| {
        let kinds = ["areas", "floors", "devices", "labels", "integrations"];
        let list = |kind: &str| json!([format!(" {direction}_{kind} ")]);
        kinds.map(|kind| (format!("{direction}_{kind}"), list(kind)))
    };
    let typed: serde_json::Map<_, _> = names("include").into_iter().chain(names("exclude")).collect();
    let filter = settings(&json!({ "filter": typed })).filter;
    for (direction, set) in [("include", filter.include), ("exclude", filter.exclude)] {
        let one = |kind: &str| vec![format!("{direction}_{kind}")];
        let expected = RegistryNames {
            areas: one("areas"),
            floors: one("floors"),
            devices: one("devices"),
            labels: one("labels"),
            integrations: one("integrations"),
        };
        assert_eq!(set.registry, expected);
    }
    refused(
        &json!({"filter": {"include_areas": [""], "exclude_labels": [" ", "x"], "include_integrations": ["Hue", "a b"]}}),
        &[
            "filter.include_areas: has an empty item: remove it",
            "filter.include_integrations: `Hue` never matches, ids are lower-case: did you mean `hue`?",
            "filter.include_integrations: `a b` never matches: ids are made of a-z, 0-9 and _",
            "filter.exclude_labels: has an empty item: remove it",
        ],
    );
}

#[test]
fn a_list_of_texts_with_a_default_takes_texts_only() {
    refused(
        &json!({"events": [5, "x"], "schema": {"registry_tags": ["aera", "floor", "shelf"]}}),
        &[
            "events: every item must be text, not a whole number",
            "schema.registry_tags: `aera` is no choice: did you mean `area`?",
            "schema.registry_tags: `shelf` is no choice: it can be area, floor, device, labels, platform, category",
        ],
    );
    let typed = settings(&json!({"events": ["a"], "schema": {"registry_tags": ["platform", "area", "area"]}}));
    assert_eq!(typed.events, ["a"]);
    assert_eq!(typed.schema.registry_tags, [RegistryTag::Area, RegistryTag::Platform]);
    assert!(settings(&json!({"events": []})).events.is_empty());
}

#[test]
fn a_tag_is_split_at_its_first_equals_sign() {
    let schema =
        settings(&json!({"schema": {"tags": ["site=a=b", " home = here "], "default_measurement": "m"}})).schema;
    let tags: Vec<_> = schema.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(tags, [("site", "a=b"), ("home", "here")]);
    assert_eq!((schema.default_measurement.as_deref(), schema.override_measurement), (Some("m"), None));
    for tag in ["site", "=x", "site=", ""] {
        refused(&json!({"schema": {"tags": [tag]}}), &[&format!("schema.tags: `{tag}` must look like key=value")]);
    }
}

// The environment.

#[test]
fn the_environment_counts_more_than_the_file() {
    let text = json!({
        "influxdb": {"url": "http://file", "database": "file", "verify_tls": true},
        "filter": {"include_domains": ["light"]}
    })
    .to_string();
    let environment = [
        ("HA_INGESTOR__INFLUXDB__URL", "http://variable"),
        ("HA_INGESTOR__INFLUXDB__USERNAME", "1e5"),
        ("HA_INGESTOR__INFLUXDB__PASSWORD", "01234"),
        ("HA_INGESTOR__INFLUXDB__VERIFY_TLS", "False"),
        ("HA_INGESTOR__INFLUXDB__TOKEN_FILE", "/run/secrets/token"),
        ("HA_INGESTOR__DELIVERY__LINGER_MS", " 250"),
        ("HA_INGESTOR__FILTER__INCLUDE_DOMAINS", "sensor, switch"),
        ("HA_INGESTOR__FILTER__EXCLUDE_ENTITIES", ""),
        ("HA_INGESTOR__LOG__LEVEL", "trace"),
        ("PATH", "/bin"),
    ];
    let files = [("/run/secrets/token", "token-from-file\r\n")];
    let made = Made { options: Some(&text), environment: &environment, files: &files, ..Made::default() };
    let settings = made.load().unwrap();
    let server = only_server(settings.clone());
    assert_eq!(server.url.as_str(), "http://variable/");
    assert_eq!(server.database, "file");
    assert_eq!((server.username.as_deref(), server.password.expose()), (Some("1e5"), "01234"));
    assert!(!server.tls.verify);
    assert_eq!(server.token.expose(), "token-from-file");
    assert_eq!(settings.delivery.linger, Duration::from_millis(250));
    assert_eq!(settings.filter.include.domains, ["sensor", "switch"]);
    assert!(settings.filter.exclude.is_empty());
    assert_eq!(settings.log.level, tracing::Level::TRACE);
}

#[test]
fn lists_and_secrets_of_every_part_can_be_variables() {
    let environment = [
        ("HA_INGESTOR__EVENTS", "zha_event, timer.finished"),
        ("HA_INGESTOR__MQTT__HOST", "broker"),
        ("HA_INGESTOR__MQTT__PORT", "8883"),
        ("HA_INGESTOR__MQTT__USERNAME", "me"),
        ("HA_INGESTOR__MQTT__PASSWORD_FILE", "/run/secrets/mqtt"),
        ("HA_INGESTOR__SCHEMA__REGISTRY_TAGS", "area,labels"),
        ("HA_INGESTOR__FILTER__EXCLUDE_AREAS", "Guest room, Attic"),
    ];
    let made = Made { environment: &environment, files: &[("/run/secrets/mqtt", "hunter2\n")], ..Made::default() };
    let settings = made.load().unwrap();
    assert_eq!(settings.events, ["zha_event", "timer.finished"]);
    let Some(Mqtt::Broker(broker)) = settings.mqtt else { panic!("a broker was named") };
    assert_eq!((&*broker.host, broker.port, broker.password.expose()), ("broker", 8883, "hunter2"));
    assert_eq!(settings.schema.registry_tags, [RegistryTag::Area, RegistryTag::Labels]);
    assert_eq!(settings.filter.exclude.registry.areas, ["Guest room", "Attic"]);

    let none = [("HA_INGESTOR__EVENTS", "")];
    assert!(Made { environment: &none, ..Made::default() }.load().unwrap().events.is_empty());
    let wrong = [("HA_INGESTOR__EVENTS", "state_changed"), ("HA_INGESTOR__SCHEMA__REGISTRY_TAGS", "room")];
    assert_eq!(
        Made { environment: &wrong, ..Made::default() }.faults(),
        [
            "schema.registry_tags (from HA_INGESTOR__SCHEMA__REGISTRY_TAGS): `room` is no choice: it can be area, floor, \
             device, labels, platform, category",
            "events (from HA_INGESTOR__EVENTS): `state_changed` cannot be asked for: changes of states are written anyway",
        ]
    );
}

#[test]
fn only_the_last_line_break_of_a_file_is_not_the_value() {
    for (content, expected) in [("p\n", "p"), ("p\r\n", "p"), ("p", "p"), (" p \n\n", " p \n"), ("", "")] {
        let environment = [
            ("HA_INGESTOR__INFLUXDB__URL", "http://db"),
            ("HA_INGESTOR__INFLUXDB__USERNAME", if expected.is_empty() { "" } else { "me" }),
            ("HA_INGESTOR__INFLUXDB__PASSWORD_FILE", "/p"),
        ];
        let settings = Made { environment: &environment, files: &[("/p", content)], ..Made::default() }.load().unwrap();
        assert_eq!(only_server(settings).password.expose(), expected, "{content:?}");
    }
}

#[test]
fn faults_of_the_environment_name_the_variable() {
    for (name, value, expected) in [
        (
            "HA_INGESTOR__DELIVERY__LINGER_MS",
            "soon",
            "HA_INGESTOR__DELIVERY__LINGER_MS: must be a whole number, not `soon`",
        ),
        ("HA_INGESTOR__INFLUXDB__VERIFY_TLS", "", "HA_INGESTOR__INFLUXDB__VERIFY_TLS: must be true or false, not ``"),
        (
            "HA_INGESTOR__DELIVERY__LINGER_MS",
            "-5",
            "delivery.linger_ms (from HA_INGESTOR__DELIVERY__LINGER_MS): must be from 0 to 60000, not -5",
        ),
        (
            "HA_INGESTOR__LOG__LEVEL",
            "loud",
            "log.level (from HA_INGESTOR__LOG__LEVEL): `loud` is no choice: it can be error, warn, info, debug, trace",
        ),
        (
            "HA_INGESTOR__INFLUXDB__TOKEN_FILE",
            "/none",
            "HA_INGESTOR__INFLUXDB__TOKEN_FILE: cannot read /none: entity not found",
        ),
        (
            "HA_INGESTOR__INFLUXDB__TOKEN_FILE",
            "hunter2",
            "HA_INGESTOR__INFLUXDB__TOKEN_FILE: cannot read the file it names: entity not found",
        ),
        ("HA_INGESTOR__INFLUXDB__DATABASE", "\u{fffd}", "HA_INGESTOR__INFLUXDB__DATABASE: is not valid UTF-8"),
        (
            "HA_INGESTOR__INFLUXDB__DATABSE",
            "x",
            "unknown variable HA_INGESTOR__INFLUXDB__DATABSE: did you mean HA_INGESTOR__INFLUXDB__DATABASE?",
        ),
        (
            "HA_INGESTOR_INFLUXDB_TOKEN_FILE",
            "x",
            "unknown variable HA_INGESTOR_INFLUXDB_TOKEN_FILE: did you mean HA_INGESTOR__INFLUXDB__TOKEN_FILE?",
        ),
        ("HA_INGESTOR__Q", "x", "unknown variable HA_INGESTOR__Q: it names no option"),
        ("HA_INGESTOR__LISTEN", "x", "unknown variable HA_INGESTOR__LISTEN: did you mean HA_INGESTOR_LISTEN?"),
    ] {
        assert_eq!(Made { environment: &[(name, value)], ..Made::default() }.faults(), [expected], "{name}={value}");
    }
    let both = [("HA_INGESTOR__INFLUXDB__TOKEN", "a"), ("HA_INGESTOR__INFLUXDB__TOKEN_FILE", "/b")];
    assert_eq!(
        Made { environment: &both, ..Made::default() }.faults(),
        ["HA_INGESTOR__INFLUXDB__TOKEN_FILE: HA_INGESTOR__INFLUXDB__TOKEN is set as well: keep one of the two"]
    );
}

#[test]
fn the_environment_of_this_process_is_read() {
    assert!(super::environment().any(|(name, _)| name == "PATH"));
}

#[test]
fn the_door_takes_files_of_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.json");
    std::fs::write(&file, r#"{"log": {"level": "warn"}}"#).unwrap();
    let flags = Flags { options: Some(file), data_dir: Some(folder.path().into()), ..Flags::default() };
    let settings = super::load(&flags, []).unwrap();
    assert_eq!(settings.log.level, tracing::Level::WARN);
    assert_eq!(super::load_place(&flags, []).unwrap(), settings.place);
}

#[test]
fn variables_that_only_look_like_ours_are_left_alone() {
    let kubernetes = [("HA_INGESTOR_PORT", "tcp://10.0.0.1:8099"), ("HA_INGESTOR_SERVICE_HOST", "10.0.0.1")];
    assert!(Made { environment: &kubernetes, ..Made::default() }.load().is_ok());
}

// Secrets.

/// Everything that can hold a secret holds one, and as much as possible is wrong with it.
#[test]
fn no_fault_shows_a_secret() {
    const SECRET: &str = "hunter2";
    let spoiled = [
        json!(SECRET),
        json!(format!("{SECRET} \n")),
        json!({ SECRET.to_uppercase(): SECRET }),
        json!([SECRET]),
        json!(format!("http://{SECRET}:{SECRET}@h?{SECRET}#{SECRET}")),
        json!(format!("{SECRET}:{SECRET}@h")),
        json!(format!("http://me:{SECRET}@h")),
    ];
    let keys = ["home_assistant.token", "home_assistant.url", "influxdb.token", "influxdb.password", "influxdb.url"];
    let mut faults_seen = 0;
    for value in &spoiled {
        for key in keys {
            let (section, name) = key.split_once('.').unwrap();
            for extra in [json!({}), json!({"api": "v2"}), json!({"username": "u", "password": SECRET})] {
                let mut options = json!({section: if section == "influxdb" { extra } else { json!({}) }});
                options[section][name] = value.clone();
                let text = options.to_string();
                let cut = &text[..text.len() - 1];
                let variable = format!("HA_INGESTOR__{section}__{name}").to_uppercase();
                let plain = value.as_str().unwrap_or(SECRET);
                let environment = [(variable.as_str(), plain), SUPERVISOR];
                for made in [
                    Made { options: Some(&text), ..Made::default() },
                    Made { options: Some(cut), ..Made::default() },
                    Made { environment: &environment, ..Made::default() },
                ] {
                    let shown = match made.load() {
                        Ok(settings) => format!("{settings:?}"),
                        Err(invalid) => {
                            faults_seen += 1;
                            format!("{invalid}\n{invalid:?}")
                        }
                    };
                    assert!(!shown.contains(SECRET), "{options}: {shown}");
                }
            }
        }
    }
    assert!(faults_seen > 100, "{faults_seen} faults are not enough to say anything");
}

#[test]
fn settings_do_not_show_their_secrets() {
    let text = json!({
        "home_assistant": {"url": "http://ha", "token": "secret-1"},
        "influxdb": {"url": "http://me:secret-2@db", "token": "secret-3"}
    })
    .to_string();
    let settings = Made { options: Some(&text), ..Made::default() }.load().unwrap();
    let shown = format!("{settings:?}");
    assert!(shown.contains("[redacted]"), "{shown}");
    assert!(!shown.contains("secret-"), "{shown}");
}

// Anything at all.

/// With control characters, which `any::<String>()` leaves out.
fn any_text() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::Strategy;
    proptest::collection::vec(any::<char>(), 0..20).prop_map(String::from_iter)
}

fn any_json() -> impl proptest::strategy::Strategy<Value = serde_json::Value> {
    use proptest::prelude::{Just, Strategy, prop_oneof};
    let names = prop_oneof![
        proptest::sample::select(vec![
            "log",
            "level",
            "influxdb",
            "mirrors",
            "url",
            "token",
            "api",
            "filter",
            "include_entities",
            "schema",
            "tags",
            "delivery",
            "linger_ms",
            "retry_max_ms",
            "home_assistant",
            "verify_tls",
        ])
        .prop_map(str::to_owned),
        any_text(),
    ];
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|yes| json!(yes)),
        any::<i64>().prop_map(|number| json!(number)),
        any::<u64>().prop_map(|number| json!(number)),
        any::<f64>().prop_map(|number| json!(number)),
        any_text().prop_map(|text| json!(text)),
        "(http|file|ws)s?:/{0,3}[a-z@:?#%/]{0,12}".prop_map(|text| json!(text)),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
            proptest::collection::btree_map(names.clone(), inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_file_gives_settings_or_one_line_per_fault(options in any_json()) {
        let text = options.to_string();
        if let Err(invalid) = (Made { options: Some(&text), ..Made::default() }).load() {
            assert!(!invalid.faults().is_empty());
            assert_eq!(invalid.to_string().lines().count(), invalid.faults().len(), "{invalid}");
        }
    }

    #[test]
    fn any_variable_gives_settings_or_one_line_per_fault(
        name in "(LISTEN|_LOG__LEVEL|_INFLUXDB__(URL|API|TOKEN_FILE|VERIFY_TLS)|_DELIVERY__LINGER_MS|_SCHEMA__TAGS|_MIRRORS|[A-Z_]{9})",
        value in any_text(),
    ) {
        let name = format!("HA_INGESTOR_{name}");
        if let Err(invalid) = (Made { environment: &[(&name, &value)], ..Made::default() }).load() {
            assert_eq!(invalid.to_string().lines().count(), invalid.faults().len(), "{invalid}");
        }
    }
}
