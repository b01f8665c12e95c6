//! What Home Assistant's Supervisor is asked.
//!
//! It answers add-ons at one address, to the token that it gave each of them at the start.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use tokio::time::timeout;

use crate::config::secret::Secret;
use crate::config::settings::{Broker, Tls};
use crate::net;

pub const ADDRESS: &str = "http://supervisor";

/// Its answers are short.
const ANSWER_BYTES: usize = 64 * 1024;

/// Why there is no answer, in words that say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    #[error("cannot ask the Supervisor for the MQTT broker: {0}")]
    Unreachable(String),
    #[error("the Supervisor did not answer in time")]
    Timeout,
    #[error("the Supervisor does not let us ask for the MQTT broker (HTTP {0}): set `mqtt.host`")]
    Forbidden(u16),
    #[error("the Supervisor answers in a way that is not known ({0}): set `mqtt.host`")]
    Strange(String),
}

#[derive(Deserialize)]
struct Answer {
    data: Service,
}

#[derive(Deserialize)]
struct Service {
    host: String,
    port: u16,
    username: Option<String>,
    password: Option<Secret>,
    #[serde(default)]
    ssl: bool,
}

/// The broker that the Supervisor knows, or `None` if it knows none. `address`: [`ADDRESS`].
pub async fn mqtt_broker(address: &str, token: &Secret, within: Duration) -> Result<Option<Broker>, AskError> {
    let unreachable = |reason: String| AskError::Unreachable(reason);
    let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
        .map_err(|_| unreachable("its token is no text for a header".to_owned()))?;
    authorization.set_sensitive(true);
    let request = Request::get(format!("{address}/services/mqtt"))
        .header(AUTHORIZATION, authorization)
        .body(Full::<Bytes>::default())
        .map_err(|err| unreachable(err.to_string()))?;
    let exchange = async {
        let client = Client::builder(TokioExecutor::new()).build(net::connect::connector());
        let response = client.request(request).await.map_err(|err| unreachable(chain(&err)))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        let body = body.map_err(|err| AskError::Strange(err.to_string()))?.to_bytes();
        Ok((status, body))
    };
    let (status, body) = timeout(within, exchange).await.map_err(|_| AskError::Timeout)??;
    read(status, &body)
}

/// 400 says that no add-on offers the service.
fn read(status: u16, body: &[u8]) -> Result<Option<Broker>, AskError> {
    match status {
        200 => {}
        400 => return Ok(None),
        401 | 403 => return Err(AskError::Forbidden(status)),
        other => return Err(AskError::Strange(format!("HTTP {other}"))),
    }
    // The error of the parser is not shown: it may quote a password.
    let answer: Answer = serde_json::from_slice(body)
        .map_err(|err| AskError::Strange(format!("line {}, column {}", err.line(), err.column())))?;
    let Service { host, port, username, password, ssl } = answer.data;
    Ok(Some(Broker {
        host,
        port,
        username: username.filter(|name| !name.is_empty()),
        password: password.unwrap_or_default(),
        tls: ssl.then_some(Tls { verify: true, ca_certificate: None }),
    }))
}

/// The innermost cause: the outer ones only say that something failed.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |outer| outer.source()).last().map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use super::{AskError, mqtt_broker, read};
    use crate::config::secret::Secret;

    const ANSWER: &str = r#"{"result":"ok","data":{"host":"core-mosquitto","port":1883,"username":"addons",
        "password":"hidden","ssl":false,"protocol":"3.1.1","addon":"core_mosquitto"}}"#;

    /// Answers one request, and returns it.
    fn stand_in(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&buffer[..read]).into_owned()
        });
        (address, serving)
    }

    #[tokio::test]
    async fn the_broker_is_asked_for_with_the_token_and_known_by_its_login() {
        let answer: &'static str =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{ANSWER}", ANSWER.len()).leak();
        let (address, serving) = stand_in(answer);
        let token = Secret::new("the-supervisors");
        let broker = mqtt_broker(&address, &token, Duration::from_secs(5)).await.unwrap().unwrap();
        assert_eq!((broker.host.as_str(), broker.port, broker.tls), ("core-mosquitto", 1883, None));
        assert_eq!((broker.username.as_deref(), broker.password.expose()), (Some("addons"), "hidden"));
        let request = serving.join().unwrap();
        assert!(request.starts_with("GET /services/mqtt HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("authorization: Bearer the-supervisors\r\n"), "{request}");
    }

    #[test]
    fn every_other_answer_is_no_broker_or_says_what_to_do() {
        assert!(read(400, br#"{"result":"error","message":"Service not enabled"}"#).unwrap().is_none());
        assert_eq!(read(403, b"").unwrap_err(), AskError::Forbidden(403));
        assert_eq!(read(502, b"").unwrap_err(), AskError::Strange("HTTP 502".to_owned()));
        let said = read(200, br#"{"data":{"host":"h","port":"hidden"}}"#).unwrap_err().to_string();
        assert!(!said.contains("hidden"), "{said}");
        let with_tls = r#"{"data":{"host":"h","port":8883,"username":"","password":null,"ssl":true}}"#;
        let broker = read(200, with_tls.as_bytes()).unwrap().unwrap();
        assert!(broker.username.is_none() && broker.password.is_empty() && broker.tls.is_some_and(|tls| tls.verify));
    }

    #[tokio::test]
    async fn a_supervisor_that_is_away_is_told_without_the_token() {
        let address = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
        let failed = mqtt_broker(&address, &Secret::new("hidden"), Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(failed, AskError::Unreachable(_)), "{failed:?}");
        assert!(!failed.to_string().contains("hidden"), "{failed}");
    }
}
