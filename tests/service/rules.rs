//! The file `rules.yaml`, from the outside.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;

use crate::service::{Place, Service, options_file, output, printed, program};

#[test]
fn wrong_rules_are_told_with_their_places_and_nothing_listens() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("mine.yaml");
    fs::write(
        &file,
        "rules:\n  - match: {domain: light}\n    drop: true\ninfluxdb: {password: hidden, hots: hidden}\n",
    )
    .unwrap();
    let (file, data) = (file.to_str().unwrap(), folder.path().to_str().unwrap());
    for command in ["run", "check", "preview", "demo"] {
        let mut arguments = vec![command, "--rules", file, "--listen", "127.0.0.1:0", "--data-dir", data];
        if command == "preview" {
            arguments.extend(["--state", "/dev/null"]);
        }
        let output = output(&arguments);
        let told = printed(&output);
        assert_eq!(output.status.code(), Some(78), "{command}: {told}");
        for fault in [
            "mine.yaml: line 2, column 13: unknown key `rules[0].match.domain`: did you mean `domains`?",
            "mine.yaml: line 4, column 30: unknown key `influxdb.hots`: did you mean `host`?",
        ] {
            assert_eq!(told.matches(fault).count(), 1, "{command}: {fault} in\n{told}");
        }
        assert!(!told.contains("hidden") && !told.contains("listening") && !told.contains("http://127"), "{told}");
    }
    let missing = output(&["run", "--rules", "/nowhere/rules.yaml", "--listen", "127.0.0.1:0", "--data-dir", data]);
    assert_eq!(missing.status.code(), Some(78));
    assert!(printed(&missing).contains("cannot read /nowhere/rules.yaml: it is not there"), "{}", printed(&missing));
}

#[test]
fn check_tells_what_rules_there_are() {
    let folder = TempDir::new().unwrap();
    let options = options_file(&folder, "{}");
    let file = folder.path().join("rules.yaml");
    let told = || printed(&output(&["check", "--options", &options, "--data-dir", folder.path().to_str().unwrap()]));
    assert!(told().contains("rules.yaml is not there: the options alone count"), "{}", told());
    fs::write(&file, "rules: [{drop: true}]\nmqtt: {topics: [{preset: tasmota}, {preset: zigbee2mqtt}]}\n").unwrap();
    assert!(told().contains("rules.yaml: 1 rule, 2 topics"), "{}", told());
    assert!(
        told().contains("FAILED  mqtt                     rules.yaml has topics, and there is no broker"),
        "{}",
        told()
    );
    fs::write(&file, "influxdb: {host: db}").unwrap();
    assert!(told().contains("influxdb: host: not used here, the options decide where to write"), "{}", told());
    assert!(!told().contains("mqtt"), "{}", told());
}

#[test]
fn preview_obeys_the_rules() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("rules.yaml");
    fs::write(&file, "influxdb: {exclude: {domains: sensor}, override_measurement: all}").unwrap();
    let state = |id: &str| json!({"entity_id": id, "state": "5", "attributes": {}}).to_string() + "\n";
    let mut command = program();
    command.args(["preview", "--state", "-", "--rules"]).arg(&file);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all((state("sensor.a") + &state("light.a")).as_bytes()).unwrap();
    let told = printed(&child.wait_with_output().unwrap());
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "# filtered: not_included");
    assert!(lines[1].starts_with("all,domain=light,entity_id=a value=5"), "{told}");
}

#[test]
fn rules_that_change_are_followed_and_wrong_ones_are_not() {
    let place = Place::new();
    fs::create_dir_all(place.data()).unwrap();
    let file = place.data().join("rules.yaml");
    let mut service = Service::start_at(&place, place.command(Some(&json!({})), &[]));
    assert_eq!((service.metric("rules_valid"), service.metric("rules_reloads_total")), (1, 0));

    fs::write(&file, "rules: [{drop: true}, {match: {domains: light}, drop: false}]\n").unwrap();
    service.wait_for_log("rules.yaml was read again: 2 rules, 0 topics");
    assert_eq!(service.metric("rules_reloads_total{result=\"applied\"}"), 1);

    // As editors do that never leave half a file behind.
    let beside = place.data().join("rules.yaml.new");
    fs::write(&beside, "rules: [{drop: true, throttle: soon}, {dorp: true}]\n").unwrap();
    fs::rename(&beside, &file).unwrap();
    service.wait_for_log("the rules from before stay");
    assert_eq!(
        service.said("rules.yaml: line 1, column 32: rules[0].throttle: `soon` is not a length of time").len(),
        1
    );
    assert_eq!(service.said("unknown key `rules[1].dorp`").len(), 1);
    assert_eq!((service.metric("rules_valid"), service.metric("rules_reloads_total{result=\"refused\"}")), (0, 1));
    assert_eq!(service.get("/health").status, 200);

    fs::remove_file(&file).unwrap();
    service.wait_for_log("rules.yaml is gone: the options alone count");
    assert_eq!((service.metric("rules_valid"), service.metric("rules_reloads_total{result=\"applied\"}")), (1, 2));
    service.stop();
}
