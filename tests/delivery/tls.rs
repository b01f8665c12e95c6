//! Certificates: whom we trust.

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ha_ingestor::config::settings::{Api, Target, Tls};
use ha_ingestor::influx;
use ha_ingestor::influx::OpenError;
use ha_ingestor::net::tls::TlsError;
use ha_ingestor::status::snapshot::LinkState;

use crate::bench::{Bench, delivery, server, until};

/// A server with a certificate that it signed itself. It answers 204 to whatever it can decipher.
fn secure_server(folder: &Path) -> String {
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (key, certificate) = (std::fs::read(key).unwrap(), std::fs::read(certificate).unwrap());
    let identity = native_tls::Identity::from_pkcs8(&certificate, &key).unwrap();
    let acceptor = native_tls::TlsAcceptor::new(identity).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = acceptor.accept(stream.unwrap()) else { continue };
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
                let _ = stream.write_all(b"HTTP/1.1 204 X\r\n\r\n");
            }
        }
    });
    format!("https://localhost:{port}")
}

#[tokio::test]
async fn a_certificate_is_trusted_if_it_is_given_or_if_none_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let url = secure_server(folder.path());
    let given = Some(folder.path().join("certificate.pem"));
    for (verify, ca_certificate, trusted) in [(true, None, false), (true, given, true), (false, None, true)] {
        let mut server = server(&url, Api::V1);
        server.tls = Tls { verify, ca_certificate };
        let bench = Bench::start_with_flush(&["m v=1"], server, delivery(), Duration::ZERO);
        until("it is decided", || bench.target.link.state() != LinkState::Connecting).await;
        let snapshot = bench.snapshot();
        assert_eq!(snapshot.target.state == LinkState::Connected, trusted, "{:?}", snapshot.target);
        if !trusted {
            assert!(snapshot.target.last_error.unwrap().1.contains("no secure connection"));
        }
        bench.end().await;
    }
}

#[test]
fn a_certificate_that_cannot_be_used_is_named_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let open = || {
        let mut server = server("https://localhost", Api::V1);
        server.tls.ca_certificate = Some(path.clone());
        influx::Target::open(&Target::Server(server), &delivery()).err().unwrap()
    };
    assert!(matches!(open(), OpenError::Tls(TlsError::Unreadable { .. })));
    std::fs::write(&path, "no certificate").unwrap();
    assert!(matches!(open(), OpenError::Tls(TlsError::NoCertificate { .. })));
}
