//! The wire: making a connection, and reading it without ever waiting for anybody.
//!
//! It does not know what a frame means.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, UNIX_EPOCH};

use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use crate::config::settings::HomeAssistant;
use crate::model::fate::Unreadable;
use crate::model::time::Timestamp;
use crate::net;
use crate::net::tls::TlsError;
use crate::status::board::Board;

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What the Supervisor's proxy lets through.
const MAX_FRAME_BYTES: usize = 64 << 20;
/// As fast as a bigger one, and there are few connections.
const READ_BUFFER_BYTES: usize = 32 << 10;

/// Why there is no connection, in words that say what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Certificate(#[from] TlsError),
    #[error("there is no host named {host}: check the address of Home Assistant")]
    NoSuchHost { host: String },
    #[error("nothing listens at {place}: check the address, and that Home Assistant runs")]
    Refused { place: String },
    #[error("cannot reach {place}: {reason}")]
    Unreachable { place: String, reason: String },
    #[error("{place} did not answer in time")]
    Timeout { place: String },
    #[error(
        "no secure connection to {place}: {reason}; check that the address is right for TLS, and the certificate options"
    )]
    Tls { place: String, reason: String },
    /// The Supervisor's proxy says so while Home Assistant starts: no fault of anybody.
    #[error("Home Assistant is starting")]
    Starting,
    #[error(
        "{place} forbids the connection (HTTP {status}): this machine may be banned in Home Assistant's ip_bans.yaml"
    )]
    Forbidden { place: String, status: u16 },
    #[error("{place} answers, but not as Home Assistant does ({reason}): check the address")]
    NotHomeAssistant { place: String, reason: String },
}

/// Connects and completes the WebSocket handshake. With the connection comes what Home Assistant's clock said then, to the
/// second, if the answer had the header `Date`.
pub(super) async fn connect(
    settings: &HomeAssistant,
    within: Duration,
) -> Result<(Socket, Option<Timestamp>), ConnectError> {
    let host = settings.url.host_str().unwrap_or_default().to_owned();
    let port = settings.url.port_or_known_default().unwrap_or(80);
    let place = format!("{host}:{port}");
    let connector = Connector::NativeTls(net::tls::connector_beside(&settings.tls).await?);
    let work = async {
        let stream = net::connect::connect(&host, port).await.map_err(|err| match err {
            net::connect::ConnectError::NoSuchHost => ConnectError::NoSuchHost { host: host.clone() },
            net::connect::ConnectError::Refused => ConnectError::Refused { place: place.clone() },
            net::connect::ConnectError::Unreachable(reason) => {
                ConnectError::Unreachable { place: place.clone(), reason }
            }
        })?;
        let request = settings.url.as_str().into_client_request().map_err(|err| explain(&err, &place))?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .max_frame_size(Some(MAX_FRAME_BYTES))
            .max_message_size(Some(MAX_FRAME_BYTES));
        let upgraded = client_async_tls_with_config(request, stream, Some(config), Some(connector)).await;
        upgraded.map(|(socket, answer)| (socket, date(&answer))).map_err(|err| explain(&err, &place))
    };
    timeout(within, work).await.unwrap_or_else(|_| Err(ConnectError::Timeout { place: place.clone() }))
}

fn date(answer: &Response) -> Option<Timestamp> {
    let text = answer.headers().get("date")?.to_str().ok()?;
    let since = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp::from_micros(since.as_micros().try_into().ok()?))
}

/// The one place that reads the library's errors.
fn explain(err: &Error, place: &str) -> ConnectError {
    let place = place.to_owned();
    match err {
        Error::Http(answer) => match answer.status().as_u16() {
            502..=504 => ConnectError::Starting,
            status @ (401 | 403) => ConnectError::Forbidden { place, status },
            status => ConnectError::NotHomeAssistant { place, reason: format!("HTTP {status}") },
        },
        Error::Tls(reason) => ConnectError::Tls { place, reason: reason.to_string() },
        Error::Io(reason) => ConnectError::Unreachable { place, reason: reason.to_string() },
        other => ConnectError::NotHomeAssistant { place, reason: other.to_string() },
    }
}

/// Why reading ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadEnd {
    /// Home Assistant closes with the code 1000 both when it stops and when we were too slow for it.
    #[error("Home Assistant closed the connection{}", if .0.is_empty() { String::new() } else { format!(" ({})", .0) })]
    Closed(String),
    #[error("the connection to Home Assistant broke: {0}")]
    Broken(String),
    #[error("Home Assistant sends faster than events are taken: the connection was dropped before memory ran out")]
    TooFarBehind,
}

/// How many bytes of frames wait to be looked at. Bounds the queue of frames, which has no bound of its own.
pub(super) struct Waiting {
    bytes: AtomicUsize,
    most: usize,
}

impl Waiting {
    /// What a frame costs beside its text. Bounds the number of frames as well.
    const OVERHEAD: usize = 128;

    pub(super) fn new(most: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), most }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed) as u64
    }

    /// Whether a frame of this length may join the queue. One frame always may, however long.
    fn join(&self, length: usize) -> bool {
        let before = self.bytes.fetch_add(length + Self::OVERHEAD, Relaxed);
        before == 0 || before + length + Self::OVERHEAD <= self.most
    }

    pub(super) fn leave(&self, length: usize) {
        self.bytes.fetch_sub(length + Self::OVERHEAD, Relaxed);
    }
}

/// Reads frames until the connection ends, and hands them over without waiting: Home Assistant cuts a client that is
/// 4,096 messages behind.
///
/// `frames`: this task sends, the conversation receives; bounded by `waiting`, and when that is exhausted the
/// connection is given up.
pub(super) async fn read_frames(
    mut stream: SplitStream<Socket>,
    frames: mpsc::UnboundedSender<Utf8Bytes>,
    waiting: Arc<Waiting>,
    board: Arc<Board>,
) -> ReadEnd {
    loop {
        let text = match stream.next().await {
            Some(Ok(Message::Text(text))) => text,
            // Home Assistant sends none.
            Some(Ok(Message::Binary(_))) => {
                board.hass.unreadable.add(Unreadable::Frame, 1);
                continue;
            }
            // The library answers pings.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
            Some(Ok(Message::Close(close))) => {
                return ReadEnd::Closed(close.map(|close| close.reason.to_string()).unwrap_or_default());
            }
            None | Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => return ReadEnd::Closed(String::new()),
            Some(Err(err)) => {
                if matches!(err, Error::Utf8(_) | Error::Capacity(CapacityError::MessageTooLong { .. })) {
                    board.hass.unreadable.add(Unreadable::Frame, 1);
                }
                return ReadEnd::Broken(err.to_string());
            }
        };
        board.hass.frames.add(1);
        board.hass.frame_bytes.add(text.len() as u64);
        if !waiting.join(text.len()) {
            return ReadEnd::TooFarBehind;
        }
        board.hass.waiting_bytes.set(waiting.bytes());
        if frames.send(text).is_err() {
            return ReadEnd::Closed(String::new());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::Error;
    use tokio_tungstenite::tungstenite::error::ProtocolError;
    use tokio_tungstenite::tungstenite::http::Response;

    use super::{Waiting, explain};

    #[test]
    fn an_answer_that_is_no_upgrade_says_what_to_do() {
        let table = [
            (502, "Home Assistant is starting"),
            (503, "Home Assistant is starting"),
            (504, "Home Assistant is starting"),
            (403, "h:1 forbids the connection (HTTP 403)"),
            (404, "h:1 answers, but not as Home Assistant does (HTTP 404)"),
            (200, "h:1 answers, but not as Home Assistant does (HTTP 200)"),
        ];
        for (status, sentence) in table {
            let answer = Response::builder().status(status).body(None).unwrap();
            let said = explain(&Error::Http(Box::new(answer)), "h:1").to_string();
            assert!(said.starts_with(sentence), "{status}: {said}");
        }
        let said = explain(&Error::Protocol(ProtocolError::HandshakeIncomplete), "h:1").to_string();
        assert!(said.starts_with("h:1 answers, but not as Home Assistant does"), "{said}");
    }

    #[test]
    fn frames_may_wait_up_to_the_limit_and_one_may_exceed_it() {
        let waiting = Waiting::new(1_000);
        assert!(waiting.join(5_000), "alone");
        assert!(!waiting.join(1));
        waiting.leave(1);
        waiting.leave(5_000);
        assert_eq!(waiting.bytes(), 0);
        assert!(waiting.join(300) && waiting.join(300));
        assert!(!waiting.join(300), "three times 128 is beside it");
    }
}
