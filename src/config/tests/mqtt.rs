//! The options of the MQTT broker.

use serde_json::{Value, json};

use super::{Made, SUPERVISOR, refused, settings};
use crate::config::settings::{Broker, Mqtt};

const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

fn broker(options: &Value) -> Broker {
    match settings(&json!({ "mqtt": options })).mqtt {
        Some(Mqtt::Broker(broker)) => broker,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_broker_is_where_the_options_say_or_where_the_supervisor_knows() {
    let given = broker(&json!({"host": " 192.168.1.5 ", "username": "u", "password": "p"}));
    assert_eq!((given.host.as_str(), given.port, given.tls), ("192.168.1.5", 1883, None));
    assert_eq!((given.username.as_deref(), given.password.expose()), (Some("u"), "p"));
    let secure = broker(&json!({"host": "fe80::1", "port": 8883, "tls": true, "verify_tls": false}));
    assert!(secure.username.is_none() && secure.tls.is_some_and(|tls| !tls.verify));

    assert!(settings(&json!({})).mqtt.is_none(), "nobody knows one");
    let by_supervisor = Made { options: Some("{}"), environment: &[SUPERVISOR], ..Made::default() };
    assert!(matches!(by_supervisor.load().unwrap().mqtt, Some(Mqtt::Supervisor { .. })));
    let off = Made { options: Some(r#"{"mqtt":{"enabled":false,"username":"left over"}}"#), ..by_supervisor };
    assert!(off.load().unwrap().mqtt.is_none());
}

#[test]
fn a_host_is_a_name_alone() {
    for (host, fault) in [
        ("mqtt://h", "must be a name or an IP address alone, without `://` and what is before it"),
        (
            "mqtts://h:8883",
            "must be a name or an IP address alone, without `://` and what is before it; mqtt.tls is for encryption",
        ),
        ("h:1883", "must be a name or an IP address alone: mqtt.port is the port"),
        ("u:hidden@h", "must be a name or an IP address alone: mqtt.username and mqtt.password are the login"),
        ("h/path", "must be a name or an IP address alone"),
        ("a b", "must be a name or an IP address alone"),
    ] {
        refused(&json!({ "mqtt": { "host": host } }), &[&format!("mqtt.host: {fault}")]);
    }
}

#[test]
fn options_that_need_another_one_say_which() {
    refused(
        &json!({"mqtt": {"host": "h", "password": "hidden"}}),
        &["mqtt.username: is empty, but mqtt.password is set: give both"],
    );
    refused(
        &json!({"mqtt": {"username": "u"}}),
        &["mqtt.host: is empty, but mqtt.username is set: say whose user that is, such as core-mosquitto"],
    );
    refused(
        &json!({"mqtt": {"host": "h", "ca_certificate": "ca.pem"}}),
        &["mqtt.ca_certificate: is of no use without mqtt.tls: turn that on, or leave this empty"],
    );
    refused(&json!({"mqtt": {"host": "h", "port": 0}}), &["mqtt.port: must be from 1 to 65535, not 0"]);
}

#[test]
fn a_certificate_must_be_one() {
    let options = json!({"mqtt": {"host": "h", "tls": true, "ca_certificate": "ca.pem"}}).to_string();
    let with = |text| {
        let files = [("/ssl/ca.pem", text)];
        Made { options: Some(&options), files: &files, ..Made::default() }.load()
    };
    assert!(with(PEM).is_ok());
    let fault = with("no certificate").unwrap_err().to_string();
    assert!(fault.starts_with("mqtt.ca_certificate: /ssl/ca.pem holds no certificate in PEM form"), "{fault}");
    let missing = Made { options: Some(&options), ..Made::default() }.faults();
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(missing[0].starts_with("mqtt.ca_certificate: cannot read /ssl/ca.pem"), "{missing:?}");
}
