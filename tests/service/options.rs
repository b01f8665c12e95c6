//! What the user typed is wrong, or does not fit this machine.

use std::net::TcpListener;

use tempfile::TempDir;

use crate::service::{options_file, output, printed};

/// Starts the service with this options file, and waits for its end.
fn refused(options: &str) -> (Option<i32>, String) {
    let folder = TempDir::new().unwrap();
    let file = options_file(&folder, options);
    let output = output(&["--options", &file, "--listen", "127.0.0.1:0"]);
    assert!(output.stdout.is_empty(), "nothing was started: {}", printed(&output));
    (output.status.code(), printed(&output))
}

#[test]
fn all_faults_of_the_options_are_told_at_once_and_nothing_listens() {
    let (code, told) = refused(
        r#"{
            "log": {"level": "loud"},
            "home_assistant": {"url": "ftp://me:hidden@home", "token": "t"},
            "influxdb": {"url": "http://db:8086", "databse": "x"},
            "filter": {"include_entities": ["Sensor.Kitchen"]},
            "delivery": {"linger_ms": -1}
        }"#,
    );
    assert_eq!(code, Some(78));
    let keys = ["log.level", "home_assistant.url", "influxdb.databse", "filter.include_entities", "delivery.linger_ms"];
    for key in keys {
        assert_eq!(told.lines().filter(|line| line.contains(key)).count(), 1, "{key} in\n{told}");
    }
    assert_eq!(told.lines().count(), keys.len(), "{told}");
    assert!(!told.contains("hidden"), "{told}");
}

#[test]
fn an_options_file_that_is_no_json_is_told_with_the_place_of_the_fault() {
    let (code, told) = refused("{\n  \"log\": {\"level\" \"info\"}\n}");
    assert_eq!(code, Some(78));
    assert!(told.contains("is not valid JSON") && told.contains("line 2 column 19"), "{told}");
    let (code, told) = refused("[]");
    assert_eq!(code, Some(78));
    assert!(told.contains("options.json: must be a group of options"), "{told}");
}

#[test]
fn an_options_file_that_is_not_there_is_named() {
    let output = output(&["--options", "/nowhere/options.json", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(printed(&output).contains("cannot read the options file /nowhere/options.json"), "{}", printed(&output));
}

#[test]
fn a_certificate_that_is_none_is_a_fault_of_the_options() {
    let folder = TempDir::new().unwrap();
    let pem = folder.path().join("authority.pem");
    std::fs::write(&pem, "no certificate").unwrap();
    let options = serde_json::json!({"influxdb": {"url": "https://127.0.0.1:1", "ca_certificate": pem}});
    let file = options_file(&folder, &options.to_string());
    let output = output(&["--options", &file, "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(78), "{}", printed(&output));
    assert!(printed(&output).contains("authority.pem: there is no certificate in it"), "{}", printed(&output));
}

#[test]
fn a_port_that_another_program_has_is_told_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flag, other) in [("--listen", "--metrics-listen"), ("--metrics-listen", "--listen")] {
        let output = output(&[flag, &address, other, "127.0.0.1:0"]);
        assert_eq!(output.status.code(), Some(70));
        let told = printed(&output);
        let advice = format!("cannot listen on {address}: choose another address with {flag}");
        assert!(told.lines().count() == 1 && told.contains(&advice), "{told}");
    }
}
