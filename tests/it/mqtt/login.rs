//! Who may listen: logins, certificates, and what is at the other end.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ha_ingestor::config::secret::Secret;
use ha_ingestor::config::settings::{Broker, Mqtt, Tls};
use ha_ingestor::ingest::mqtt::{Probe, probe};
use ha_ingestor::status::snapshot::LinkState;
use tempfile::TempDir;

use super::listener::{Listener, broker};
use crate::support::mosquitto::{Mosquitto, write_passwords};
use crate::support::process::free_address;

const TOPICS: &[(&str, bool)] = &[("a", false)];

/// What the status says when the connection fails.
async fn failure(broker: Broker) -> String {
    let data = TempDir::new().unwrap();
    let listener = Listener::start(broker, &data, TOPICS);
    listener.until("it failed", |seen| seen.mqtt.link.state == LinkState::Failing).await;
    let (_, error) = listener.seen().mqtt.link.last_error.unwrap();
    listener.stop().await;
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_without_it_and_the_right_one_is_taken() {
    let folder = TempDir::new().unwrap();
    let passwords = folder.path().join("passwords");
    write_passwords(&passwords, "ingestor", "the-right-one");
    let options = format!("allow_anonymous false\npassword_file {}", passwords.display());
    let Some(mosquitto) = Mosquitto::start_in(folder, &options) else { return };
    let with = |username: Option<&str>, password: &str| Broker {
        username: username.map(str::to_owned),
        password: Secret::new(password),
        ..broker(&mosquitto)
    };
    for wrong in [with(Some("ingestor"), "the-wrong-one"), with(None, "")] {
        let error = failure(wrong).await;
        assert!(error.contains("refuses the login: check `mqtt.username` and `mqtt.password`"), "{error}");
        assert!(!error.contains("the-wrong-one"), "{error}");
    }
    let data = TempDir::new().unwrap();
    Listener::ready(with(Some("ingestor"), "the-right-one"), &data, TOPICS).await.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_trusted_if_its_authority_is_given_or_if_none_is_asked_for() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    self_signed(&path("key.pem"), &path("certificate.pem"));
    self_signed(&path("other_key.pem"), &path("other.pem"));
    let (given, other) = (Some(path("certificate.pem")), Some(path("other.pem")));
    let options = format!("certfile {}\nkeyfile {}", path("certificate.pem").display(), path("key.pem").display());
    let Some(mosquitto) = Mosquitto::start_in(folder, &options) else { return };
    let with = |verify, ca_certificate: &Option<std::path::PathBuf>| Broker {
        host: "localhost".to_owned(),
        tls: Some(Tls { verify, ca_certificate: ca_certificate.clone() }),
        ..broker(&mosquitto)
    };
    for (verify, authority) in [(true, &None), (true, &other)] {
        let error = failure(with(verify, authority)).await;
        assert!(error.starts_with("no secure connection to localhost:"), "{error}");
    }
    let data = TempDir::new().unwrap();
    for (verify, authority) in [(true, &given), (false, &None)] {
        Listener::ready(with(verify, authority), &data, TOPICS).await.stop().await;
    }
    // Without encryption where the broker wants it.
    let error = failure(broker(&mosquitto)).await;
    assert!(error.contains("set `mqtt.tls`"), "{error}");
}

fn self_signed(key: &Path, certificate: &Path) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .arg("-keyout")
        .arg(key)
        .arg("-out")
        .arg(certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Answers each connection with these bytes, after the first that it hears, and closes it.
fn stranger(answer: &'static [u8]) -> Broker {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut buffer = [0; 1024];
            let _heard = stream.read(&mut buffer);
            let _said = stream.write_all(answer);
        }
    });
    Broker { host: "127.0.0.1".to_owned(), port, username: None, password: Secret::default(), tls: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_broker_of_ours_says_what_to_do() {
    for (broker, sentence) in [
        (Broker { port: free_address().port(), ..stranger(b"") }, "nothing listens at 127.0.0.1:"),
        (Broker { host: "no-such-host.invalid".to_owned(), ..stranger(b"") }, "there is no host named no-such-host"),
        (stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "answers, but not as an MQTT broker does"),
        // What a broker says that speaks version 3.1.1 only.
        (stranger(b"\x20\x02\x00\x01"), "old, update it to one that speaks MQTT 5"),
        (stranger(b"\x20\x03\x00\x84\x00"), "does not speak MQTT 5: update the broker"),
        (stranger(b"\x20\x03\x00\x89\x00"), "has no room for another client"),
        (stranger(b""), "closed the connection without an answer"),
    ] {
        let error = failure(broker).await;
        assert!(error.contains(sentence), "{sentence}: {error}");
    }
}

/// Takes everybody in, and refuses each subscription.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_topic_filter_is_named_with_the_brokers_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 1024];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            let answer: &[u8] = match (buffer[0] >> 4, buffer[2], buffer[3]) {
                (1, ..) => b"\x20\x03\x00\x00\x00",
                // The announcement: its packet number follows the topic.
                (3, ..) => {
                    let topic = usize::from(buffer[3]);
                    &[0x40, 0x02, buffer[4 + topic], buffer[5 + topic]]
                }
                (8, high, low) => &[0x90, 0x04, high, low, 0x00, 0x87],
                _ => b"",
            };
            assert!(read > 0);
            stream.write_all(answer).unwrap();
        }
    });
    let broker = Broker { port, ..stranger(b"") };
    let data = TempDir::new().unwrap();
    let listener = Listener::start(broker, &data, &[("forbidden/#", false)]);
    listener.until("it is refused", |seen| seen.mqtt.link.detail.contains("refuses")).await;
    let detail = listener.seen().mqtt.link.detail;
    assert!(detail.contains("forbidden/#: not authorized"), "{detail}");
    assert_eq!(listener.seen().mqtt.topics, 0);
    listener.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visit_leaves_the_session_of_a_service_that_runs_alone() {
    let Some(mosquitto) = Mosquitto::start("") else { return };
    let data = TempDir::new().unwrap();
    let listener = Listener::ready(broker(&mosquitto), &data, TOPICS).await;
    let found = probe(&Mqtt::Broker(broker(&mosquitto)), Duration::from_secs(5)).await.unwrap();
    assert_eq!(found, Probe::Welcome { place: mosquitto.address.to_string() });
    assert_eq!((listener.seen().mqtt.sessions, listener.seen().mqtt.link.state), (1, LinkState::Connected));
    listener.stop().await;
    let nowhere = Broker { port: free_address().port(), ..broker(&mosquitto) };
    let error = probe(&Mqtt::Broker(nowhere), Duration::from_secs(5)).await.unwrap_err().to_string();
    assert!(error.starts_with("nothing listens at"), "{error}");
}
