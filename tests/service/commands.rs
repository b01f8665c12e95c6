//! The commands beside the service.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ha_ingestor::config::secret::Secret;
use ha_ingestor::model::value::Value as Attribute;
use influxdb_line_protocol::parse_lines;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::service::{Service, options_file, output, printed, program};
use crate::world::{Mood, World, key};

fn check(options: &Value) -> (Option<i32>, String) {
    let folder = TempDir::new().unwrap();
    let output = output(&["check", "--options", &options_file(&folder, &options.to_string())]);
    (output.status.code(), printed(&output))
}

#[test]
fn check_tells_what_is_well_and_what_is_not() {
    let world = World::new();
    let (code, told) = check(&world.options());
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("accepts the token") && told.contains("takes writes into the database"), "{told}");
    assert!(!told.contains("FAILED"), "{told}");
    assert!(world.database.lines().is_empty(), "it writes nothing");

    world.database.is(Mood::Says(401, "{\"error\":\"authorization failed\"}"));
    let (code, told) = check(&world.options());
    assert_eq!(code, Some(69), "{told}");
    assert!(told.contains("the credentials are refused (401): check influxdb.token"), "{told}");

    let mut options = world.options();
    options["influxdb"]["url"] = json!("http://127.0.0.1:1");
    world.home.turn(|knobs| knobs.token = Secret::new("another"));
    let (code, told) = check(&options);
    assert_eq!(code, Some(69), "{told}");
    assert_eq!(told.matches("FAILED").count(), 2, "{told}");
    assert!(told.contains("Home Assistant does not accept the token"), "{told}");
    assert!(told.contains("nothing listens there") && told.contains("check the port in influxdb.url"), "{told}");

    options["delivery"]["linger_ms"] = json!(-1);
    let (code, told) = check(&options);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("delivery.linger_ms: must be from 0 to 60000, not -1"), "{told}");
    assert_eq!(check(&json!({})).0, Some(69), "nothing is set up yet");
}

fn preview(states: &[u8], arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let mut command = program();
    command.args(["preview", "--state", "-"]).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(states).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), printed(&output).lines().map(str::to_owned).collect())
}

#[test]
fn preview_shows_the_line_of_a_state_or_why_there_is_none() {
    let state = |id: &str, state: &str| {
        let attributes = json!({"unit_of_measurement": "°C", "friendly_name": "Kitchen"});
        json!({"entity_id": id, "state": state, "attributes": attributes,
            "last_changed": "2026-11-23T15:45:00.250000+00:00", "last_updated": "2026-11-23T15:45:00.250000+00:00"})
        .to_string()
    };
    let states = [
        state("sensor.kitchen", "21.5"),
        String::new(),
        state("sensor.kitchen", "unknown"),
        state("sensor.kitchen", "unavailable"),
        "{\"entity_id\": \"sensor.kit".to_owned(),
        "17".to_owned(),
        state("nodot", "1"),
        state("sensor.kitchen", "21.5"),
    ];
    let (code, lines) = preview(states.join("\n").as_bytes(), &[]);
    assert_eq!(code, Some(0));
    let point = "°C,domain=sensor,entity_id=kitchen friendly_name_str=\"Kitchen\",value=21.5 1795448700250000000";
    assert_eq!((&*lines[0], &*lines[6]), (point, point), "{lines:?}");
    assert_eq!((&*lines[1], &*lines[2]), ("# filtered: unknown", "# filtered: unavailable"));
    for line in &lines[3..6] {
        assert!(line.starts_with("# refused: "), "{line}");
    }
    assert_eq!(lines.len(), 7);

    let (code, lines) = preview(states[0].as_bytes(), &["--explain"]);
    assert_eq!(code, Some(0));
    assert_eq!(lines, [point, "# filter: no list is set", "# measurement: unit_of_measurement"]);
}

/// One bad byte in a file of thousands of states is the fault of one of them.
#[test]
fn preview_goes_on_after_a_line_that_is_no_text() {
    let (code, lines) = preview(b"\xff\xfe\n17\n", &[]);
    assert_eq!((code, lines.len()), (Some(0), 2), "{lines:?}");
    assert!(lines[0].starts_with("# refused: "), "{lines:?}");
}

#[test]
fn preview_names_a_file_that_is_not_there() {
    let output = output(&["preview", "--state", "/nowhere/states.jsonl"]);
    assert_ne!(output.status.code(), Some(0));
    assert!(printed(&output).contains("cannot open /nowhere/states.jsonl"), "{}", printed(&output));
}

fn preview_entities(options: &Value, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let folder = TempDir::new().unwrap();
    let options = options_file(&folder, &options.to_string());
    let output = output(&[&["preview", "--options", &options], arguments].concat());
    (output.status.code(), printed(&output).lines().map(str::to_owned).collect())
}

#[test]
fn preview_asks_the_home_for_the_states_of_its_entities() {
    let world = World::new();
    let attributes = [("unit_of_measurement".into(), Attribute::Text("kW".into()))].into_iter().collect();
    let change = world.home.set("sensor.oven", "1.5", attributes).unwrap();
    world.home.set("light.hob", "unavailable", [].into_iter().collect()).unwrap();
    let nanos = change.entry().last_updated.as_nanos();
    let oven = format!("kW,domain=sensor,entity_id=oven value=1.5 {nanos}");
    let both = ["--entity", "sensor.oven", "--entity", "light.hob"];
    let mut options = world.options();
    let (code, lines) = preview_entities(&options, &both);
    assert_eq!((code, lines), (Some(0), vec![oven.clone(), "# filtered: unavailable".to_owned()]));

    options["mirrors"] = json!([{"url": "http://127.0.0.1:1"}]);
    let (code, lines) = preview_entities(&options, &["--entity", "sensor.oven", "--explain"]);
    let expected = [
        "# each line goes to influxdb, mirror_1",
        &oven,
        "# filter: no list is set",
        "# measurement: unit_of_measurement",
    ];
    assert_eq!((code, lines.iter().map(String::as_str).collect()), (Some(0), expected.to_vec()));

    let (code, lines) = preview_entities(&world.options(), &["--entity", "sensor.ovn", "--entity", "sensor.oven"]);
    let slip = "# refused: Home Assistant has no entity sensor.ovn: did you mean sensor.oven?".to_owned();
    assert_eq!((code, lines), (Some(69), vec![slip, oven]), "the others are answered");
    assert!(world.database.requests().is_empty(), "it writes nothing");
}

#[test]
fn preview_tells_why_the_home_cannot_be_asked() {
    let world = World::new();
    let mut options = world.options();
    options["home_assistant"]["token"] = json!("another");
    let (code, lines) = preview_entities(&options, &["--entity", "a.b"]);
    assert_eq!((code, lines.len()), (Some(78), 1), "{lines:?}");
    assert!(lines[0].contains("Home Assistant does not accept the token"), "{lines:?}");
    options["home_assistant"]["url"] = json!("http://127.0.0.1:1");
    let (code, lines) = preview_entities(&options, &["--entity", "a.b"]);
    assert_eq!((code, lines.len()), (Some(69), 1), "{lines:?}");
    assert!(lines[0].contains("nothing listens at 127.0.0.1:1"), "{lines:?}");
    let (code, lines) = preview_entities(&json!({}), &["--entity", "a.b"]);
    assert_eq!((code, lines.len()), (Some(78), 1), "{lines:?}");
    assert!(lines[0].contains("set `home_assistant.url`"), "{lines:?}");
}

#[test]
fn healthcheck_tells_a_running_service_from_none() {
    let service = Service::start_with(None, &[]);
    let address = service.address();
    let asked = output(&["healthcheck", "--listen", &address]);
    assert_eq!((asked.status.code(), &*printed(&asked)), (Some(0), "live\n"));
    service.stop();
    let asked = output(&["healthcheck", "--listen", &address]);
    assert_eq!(asked.status.code(), Some(69));
    assert!(printed(&asked).contains(&format!("no answer on {address}")), "{}", printed(&asked));
}

/// The lines of all files of an archive, as the user would read them.
pub fn archived(folder: &std::path::Path) -> Vec<String> {
    let mut command = Command::new("gzip");
    command.arg("-dc").args(fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", printed(&output));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn demo_writes_the_points_that_it_says_it_wrote() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().to_str().unwrap();
    let ran = output(&[
        "demo",
        "--seconds",
        "3",
        "--events-per-second",
        "100",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        data,
    ]);
    let told = printed(&ran);
    assert_eq!(ran.status.code(), Some(0), "{told}");
    assert!(ran.stderr.is_empty(), "{told}");
    let lines = archived(&folder.path().join("demo"));
    let parsed = lines.iter().filter(|line| parse_lines(line).next().is_some_and(|parsed| parsed.is_ok())).count();
    assert_eq!(parsed, lines.len());
    assert!(lines.len() > 200, "{told}");
    assert!(told.contains(&format!(" events received, {} points in the files, 0 lost.", lines.len())), "{told}");
}

#[test]
fn a_folder_of_files_is_a_database_like_another() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let archive = folder.path().join("made when needed");
    let mut options = world.options();
    options["influxdb"] = json!({"url": format!("file://{}", archive.display()).replace(' ', "%20")});
    assert_eq!(check(&options).0, Some(0));
    let mut service = Service::start(&options);
    service.wait_until_ready();
    world.home.storm(500);
    let all = world.expected().len() as u64;
    service.wait_until("everything is stored", |service| service.metric("points_written_total") == all);
    service.stop();
    let lines = archived(&archive);
    assert_eq!(lines.len() as u64, all);
    assert_eq!(lines.iter().map(|line| key(line)).collect::<std::collections::BTreeSet<_>>(), world.expected());
}

#[test]
fn an_entity_that_nobody_knows_is_no_entity_of_which_nothing_is_missing() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let options = options_file(&folder, &world.options().to_string());
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let known = world.present().into_iter().next().expect("somebody lives there").0;
    let wrong = format!("{known}x");
    let ended = output(&["verify", "--entity", &wrong, "--options", &options, "--data-dir", data]);
    let told = printed(&ended);
    assert_eq!(ended.status.code(), Some(1), "{told}");
    let expected = format!("Home Assistant has no entity {wrong}, and no history of it: did you mean {known}");
    assert!(told.contains(&expected), "{told}");
}

#[test]
fn an_import_that_is_interrupted_says_how_far_it_is_and_goes_on() {
    let world = World::new();
    world.home.storm(50);
    let folder = TempDir::new().unwrap();
    let mut options = world.options();
    options["delivery"]["batch_points"] = json!(50);
    options["delivery"]["request_timeout_seconds"] = json!(30);
    let options = options_file(&folder, &options.to_string());
    let data = folder.path().join("data");
    let arguments = ["import", "--no-statistics", "--options", &options, "--data-dir", data.to_str().unwrap()];
    world.database.is(Mood::Late(Duration::from_millis(100)));
    let mut command = program();
    let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Until it has noted how far it is.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !data.join("import.json").exists() {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "it notes how far it is");
        std::thread::sleep(Duration::from_millis(5));
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let told = printed(&ended);
    assert_eq!(ended.status.code(), Some(130), "{told}");
    assert!(told.contains("Interrupted at ") && told.contains(" %. Run the same command to resume."), "{told}");
    world.database.is(Mood::Well);
    let ended = output(&arguments);
    assert!(printed(&ended).contains("it went on where it had stopped"), "{}", printed(&ended));
    assert!(world.database.has(&world.present()), "{}", printed(&ended));
}
