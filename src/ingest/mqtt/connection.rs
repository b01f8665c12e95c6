//! Making a connection to the broker, and what its end means, in words that say what to do.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, DisconnectReasonCode, LastWill};
use rumqttc::v5::mqttbytes::{self, QoS};
use rumqttc::v5::{AsyncClient, ConnectionError, EventLoop, MqttOptions, StateError};
use rumqttc::{TlsConfiguration, Transport};
use tokio::time::timeout;

use crate::config::settings::Broker;
use crate::net;
use crate::net::connect::bracketed;
use crate::net::tls::TlsError;

/// What is not acknowledged by then is held back by the broker: 4096 would be 680 messages a second while the database is
/// away and the disk takes them after six seconds.
const RECEIVE_MAXIMUM: u16 = 16_384;

/// What is larger is not sent to us. What the pipeline looks at is less.
const MAX_PACKET_BYTES: u32 = 16 << 20;

/// How long the broker keeps for us what we asked for, while we are away.
const SESSION_SECONDS: u32 = 24 * 60 * 60;

/// Longer than the pipeline may stall, with room for the broker's half as much again.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Requests under way at once are few; the library keeps a place for each that it may be asked for.
const REQUESTS_AT_ONCE: u16 = 64;

/// Requests that may wait for the connection: acknowledgements up to [`ACKNOWLEDGEMENTS_AT_ONCE`], and a few others.
const QUEUE: usize = ACKNOWLEDGEMENTS_AT_ONCE + 16;
pub(super) const ACKNOWLEDGEMENTS_AT_ONCE: usize = 1024;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Certificate(#[from] TlsError),
    #[error("there is no host named {host}: check `mqtt.host`")]
    NoSuchHost { host: String },
    #[error("nothing listens at {place}: check `mqtt.host` and `mqtt.port`, and that the broker runs")]
    Refused { place: String },
    #[error("cannot reach {place}: {reason}")]
    Unreachable { place: String, reason: String },
    #[error("{place} did not answer in time: check that it is an MQTT broker, and one that speaks MQTT 5")]
    Timeout { place: String },
    #[error(
        "no secure connection to {place}: {reason}; check that the port is the one for TLS, and `mqtt.ca_certificate`"
    )]
    Tls { place: String, reason: String },
    #[error("{place} refuses the login: check `mqtt.username` and `mqtt.password`")]
    WrongLogin { place: String },
    #[error("{place} does not speak MQTT 5: update the broker (mosquitto speaks it since version 1.6)")]
    TooOld { place: String },
    #[error("{place} has no room for another client at the moment")]
    Busy { place: String },
    #[error("{place} refuses the connection: {reason}")]
    Denied { place: String, reason: String },
    #[error(
        "{place} closed the connection without an answer: if the port is the one for TLS, set `mqtt.tls`; if the broker is \
         old, update it to one that speaks MQTT 5 (mosquitto does since version 1.6)"
    )]
    Closed { place: String },
    #[error("{place} answers, but not as an MQTT broker does ({reason}): check `mqtt.host` and `mqtt.port`")]
    NotABroker { place: String, reason: String },
}

/// Why a connection that there was is there no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    #[error("the broker closed the connection")]
    Closed,
    #[error("the connection to the broker broke: {0}")]
    Broken(String),
    #[error("the broker does not answer any more")]
    Silent,
    #[error("another client took our place at the broker: is a copy of this data folder in use elsewhere?")]
    TakenOver,
    #[error("the broker ended the connection: {0}")]
    Told(String),
}

/// Who connects.
pub(super) struct Caller<'a> {
    pub(super) client_id: &'a str,
    /// What the broker is to say when we are gone without a word: the topic and the text. It keeps our session then.
    pub(super) will: Option<(String, &'static str)>,
}

/// For the log and for people: without the login.
pub(super) fn place(broker: &Broker) -> String {
    format!("{}:{}", bracketed(&broker.host), broker.port)
}

/// Everything up to the first packet, which is for the caller to wait for.
pub(super) async fn open(
    broker: &Broker,
    caller: Caller<'_>,
    within: Duration,
) -> Result<(AsyncClient, EventLoop), ConnectError> {
    let host = timeout(within, host_that_answers(broker)).await;
    let host = host.map_err(|_| ConnectError::Timeout { place: place(broker) })??;
    let mut options = MqttOptions::new(caller.client_id, host, broker.port);
    options
        .set_keep_alive(KEEP_ALIVE)
        .set_manual_acks(true)
        .set_connection_timeout(within.as_secs().max(1))
        .set_outgoing_inflight_upper_limit(REQUESTS_AT_ONCE)
        .set_receive_maximum(Some(RECEIVE_MAXIMUM))
        .set_max_packet_size(Some(MAX_PACKET_BYTES))
        .set_clean_start(caller.will.is_none());
    if let Some((topic, text)) = caller.will {
        options.set_last_will(LastWill::new(topic, text, QoS::AtLeastOnce, true, None));
        options.set_session_expiry_interval(Some(SESSION_SECONDS));
    }
    if let Some(username) = &broker.username {
        options.set_credentials(username, broker.password.expose());
    }
    if let Some(tls) = &broker.tls {
        let connector = net::tls::connector_beside(tls).await?;
        options.set_transport(Transport::tls_with_config(TlsConfiguration::NativeConnector(connector)));
    }
    Ok(AsyncClient::new(options, QUEUE))
}

/// The host as the library is to have it. It looks names up itself, says less well what is wrong with one, and tries the
/// addresses one after the other: where there are both families, it gets the one that answers. With TLS it must have the name,
/// because that is what the certificate is about.
async fn host_that_answers(broker: &Broker) -> Result<String, ConnectError> {
    let no_such_host = |_| ConnectError::NoSuchHost { host: broker.host.clone() };
    let addresses = net::connect::addresses(&broker.host, broker.port).await.map_err(no_such_host)?;
    let has_both = addresses.iter().any(SocketAddr::is_ipv4) && addresses.iter().any(SocketAddr::is_ipv6);
    if broker.tls.is_some() || !has_both {
        return Ok(bracketed(&broker.host));
    }
    // Whatever fails here, the library will meet it too, and then it is explained.
    let answered = net::connect::first_of(addresses).await;
    let peer = answered.ok().and_then(|stream| stream.peer_addr().ok());
    Ok(bracketed(&peer.map_or_else(|| broker.host.clone(), |peer| peer.ip().to_string())))
}

/// What an error means that came before the broker said yes.
pub(super) fn explain(err: &ConnectionError, place: &str) -> ConnectError {
    let place = place.to_owned();
    match err {
        ConnectionError::Io(err) if err.kind() == io::ErrorKind::ConnectionRefused => ConnectError::Refused { place },
        ConnectionError::Io(err) => ConnectError::Unreachable { place, reason: err.to_string() },
        ConnectionError::Timeout(_) => ConnectError::Timeout { place },
        ConnectionError::Tls(err) => ConnectError::Tls { place, reason: err.to_string() },
        ConnectionError::ConnectionRefused(code) => match code {
            ConnectReturnCode::BadUserNamePassword
            | ConnectReturnCode::NotAuthorized
            | ConnectReturnCode::Banned
            | ConnectReturnCode::BadAuthenticationMethod => ConnectError::WrongLogin { place },
            ConnectReturnCode::UnsupportedProtocolVersion | ConnectReturnCode::RefusedProtocolVersion => {
                ConnectError::TooOld { place }
            }
            ConnectReturnCode::ServerUnavailable
            | ConnectReturnCode::ServerBusy
            | ConnectReturnCode::ServiceUnavailable
            | ConnectReturnCode::ConnectionRateExceeded => ConnectError::Busy { place },
            other => ConnectError::Denied { place, reason: words(&format!("{other:?}")) },
        },
        ConnectionError::MqttState(StateError::ConnectionAborted) => ConnectError::Closed { place },
        ConnectionError::MqttState(StateError::Deserialization(mqttbytes::Error::Io(err))) => match err.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => ConnectError::Closed { place },
            // The end came in the middle of what would be a packet.
            io::ErrorKind::Other => ConnectError::NotABroker { place, reason: err.to_string() },
            _ => ConnectError::Unreachable { place, reason: err.to_string() },
        },
        ConnectionError::MqttState(StateError::Deserialization(mqttbytes::Error::InvalidConnectReturnCode(1))) => {
            ConnectError::TooOld { place }
        }
        ConnectionError::MqttState(err) => ConnectError::NotABroker { place, reason: err.to_string() },
        ConnectionError::NotConnAck(_) | ConnectionError::RequestsDone => {
            ConnectError::NotABroker { place, reason: "its first word is none for a client".to_owned() }
        }
    }
}

/// What an error means that came later.
pub(super) fn explain_end(err: &ConnectionError) -> Lost {
    let broken = |err: &io::Error| match err.kind() {
        io::ErrorKind::UnexpectedEof => Lost::Closed,
        _ => Lost::Broken(err.to_string()),
    };
    match err {
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }) => match reason_code {
            DisconnectReasonCode::SessionTakenOver => Lost::TakenOver,
            code => Lost::Told(reason_string.clone().unwrap_or_else(|| words(&format!("{code:?}")))),
        },
        ConnectionError::MqttState(StateError::ConnectionAborted) => Lost::Closed,
        ConnectionError::MqttState(StateError::AwaitPingResp) => Lost::Silent,
        ConnectionError::MqttState(StateError::Deserialization(mqttbytes::Error::Io(err)) | StateError::Io(err))
        | ConnectionError::Io(err) => broken(err),
        other => Lost::Broken(other.to_string()),
    }
}

/// `NotAuthorized`: not authorized.
pub(super) fn words(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, DisconnectReasonCode};
    use rumqttc::v5::{ConnectionError, StateError};

    use super::{Lost, explain, explain_end, words};

    #[test]
    fn a_refusal_says_what_to_do() {
        for (code, sentence) in [
            (ConnectReturnCode::NotAuthorized, "h:1 refuses the login: check `mqtt.username`"),
            (ConnectReturnCode::BadUserNamePassword, "h:1 refuses the login: check `mqtt.username`"),
            (ConnectReturnCode::UnsupportedProtocolVersion, "h:1 does not speak MQTT 5: update the broker"),
            (ConnectReturnCode::ServerBusy, "h:1 has no room for another client"),
            (ConnectReturnCode::QuotaExceeded, "h:1 refuses the connection: quota exceeded"),
        ] {
            let said = explain(&ConnectionError::ConnectionRefused(code), "h:1").to_string();
            assert!(said.starts_with(sentence), "{code:?}: {said}");
        }
        let closed = ConnectionError::MqttState(StateError::ConnectionAborted);
        assert!(explain(&closed, "h:1").to_string().contains("MQTT 5"));
    }

    #[test]
    fn an_end_says_whose_it_was() {
        let told = |reason_code, reason_string: Option<&str>| {
            let reason_string = reason_string.map(str::to_owned);
            explain_end(&ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string }))
        };
        assert_eq!(told(DisconnectReasonCode::SessionTakenOver, None), Lost::TakenOver);
        assert_eq!(told(DisconnectReasonCode::ServerShuttingDown, None), Lost::Told("server shutting down".to_owned()));
        assert_eq!(told(DisconnectReasonCode::NotAuthorized, Some("no")), Lost::Told("no".to_owned()));
        assert_eq!(explain_end(&ConnectionError::MqttState(StateError::AwaitPingResp)), Lost::Silent);
    }

    #[test]
    fn names_become_words() {
        assert_eq!(words("NotAuthorized"), "not authorized");
        assert_eq!(words("Unspecified"), "unspecified");
    }
}
