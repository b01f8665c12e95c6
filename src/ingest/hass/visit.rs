//! A visit to Home Assistant: a connection of its own on which questions are asked, one after the other.
//!
//! It is beside the session that hears what happens, so that a long answer holds up no event.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::socket::{self, Socket};
use super::{ProbeError, greet};
use crate::config::settings::HomeAssistant;

/// A connection that Home Assistant has accepted.
pub struct Visit {
    socket: Socket,
    version: String,
    last_id: u64,
    /// The subscription that there is, and its events that nobody has taken yet.
    stream: Option<(u64, VecDeque<Utf8Bytes>)>,
}

/// A subscription of a visit.
#[derive(Debug)]
pub struct Stream(u64);

/// What was answered or told: JSON, not yet read. It keeps the whole frame in memory.
#[derive(Debug)]
pub struct Answer {
    frame: Utf8Bytes,
}

/// Why there is no answer to a question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    #[error("Home Assistant refuses: {message} ({code})")]
    Refused { code: String, message: String },
    /// More than a frame may hold. The connection is of no use any more.
    #[error("Home Assistant's answer is too large")]
    TooLarge,
    /// The connection is of no use any more.
    #[error("Home Assistant closed the connection before it answered")]
    Closed,
    /// The answer may come later: the connection is of no use any more.
    #[error("Home Assistant did not answer in time")]
    Timeout,
    /// A frame that is no JSON, or is cut off.
    #[error("Home Assistant's answer cannot be read: {0}")]
    Unreadable(String),
}

impl AskError {
    /// Whether Home Assistant does not know the command: what it is about is not loaded.
    #[must_use]
    pub fn is_unknown_command(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "unknown_command")
    }

    /// Whether Home Assistant may have answered, and the answer did not get here: the same question may be asked again, on
    /// another connection.
    #[must_use]
    pub fn is_lost_on_the_way(&self) -> bool {
        matches!(self, Self::TooLarge | Self::Closed | Self::Timeout | Self::Unreadable(_))
    }
}

impl Visit {
    /// Connects and says who we are.
    pub async fn begin(settings: &HomeAssistant, within: Duration) -> Result<Self, ProbeError> {
        let work = async {
            let (mut socket, _) = socket::connect(settings, within).await?;
            let version = greet(&mut socket, settings).await?.version;
            Ok(Self { socket, version, last_id: 0, stream: None })
        };
        // A handshake takes much room, and whoever asks holds it with all else that he does.
        timeout(within, Box::pin(work)).await.unwrap_or(Err(ProbeError::Timeout))
    }

    /// Home Assistant's version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Asks, and waits for the answer. `command` is an object with the `type` and the arguments; the id is ours to add.
    pub async fn ask(&mut self, mut command: Value, within: Duration) -> Result<Answer, AskError> {
        self.last_id += 1;
        let id = self.last_id;
        command["id"] = json!(id);
        timeout(within, self.converse(id, command.to_string())).await.unwrap_or(Err(AskError::Timeout))
    }

    /// Asks to be told what happens, by a command whose answer is followed by events. A visit has one subscription at a time.
    pub async fn subscribe(&mut self, command: Value, within: Duration) -> Result<Stream, AskError> {
        self.stream = Some((self.last_id + 1, VecDeque::new()));
        self.ask(command, within).await?;
        Ok(Stream(self.last_id))
    }

    /// The next event of the subscription. `None`: none came within this time.
    pub async fn next_event(&mut self, of: &Stream, within: Duration) -> Result<Option<Answer>, AskError> {
        let end = Instant::now() + within;
        loop {
            if let Some((id, events)) = &mut self.stream
                && *id == of.0
                && let Some(frame) = events.pop_front()
            {
                return Ok(Some(Answer { frame }));
            }
            match timeout_at(end, self.hear()).await {
                // Only answers that nobody waits for any more are not kept.
                Ok(heard) => drop(heard?),
                Err(_) => return Ok(None),
            }
        }
    }

    /// Ends a subscription.
    pub async fn unsubscribe(&mut self, stream: Stream, within: Duration) -> Result<(), AskError> {
        self.stream = None;
        self.ask(json!({"type": "unsubscribe_events", "subscription": stream.0}), within).await.map(drop)
    }

    async fn converse(&mut self, id: u64, command: String) -> Result<Answer, AskError> {
        self.socket.send(tungstenite::Message::text(command)).await.map_err(|_| AskError::Closed)?;
        loop {
            let Some(frame) = self.hear().await? else { continue };
            let head = head(&frame)?;
            if head.id != Some(id) {
                continue;
            }
            return match head.error {
                Some(failure) => {
                    Err(AskError::Refused { code: failure.code.into_owned(), message: failure.message.into_owned() })
                }
                None => Ok(Answer { frame }),
            };
        }
    }

    /// The next frame with an answer. `None`: it is something else. Events of the subscription are kept.
    async fn hear(&mut self) -> Result<Option<Utf8Bytes>, AskError> {
        let frame = match self.socket.next().await {
            Some(Ok(tungstenite::Message::Text(frame))) => frame,
            Some(Ok(_)) => return Ok(None),
            Some(Err(tungstenite::Error::Capacity(_))) => return Err(AskError::TooLarge),
            Some(Err(_)) | None => return Err(AskError::Closed),
        };
        let head = head(&frame)?;
        if head.kind != "event" {
            return Ok(Some(frame));
        }
        let is_of_the_stream = |(id, _): &&mut (u64, VecDeque<Utf8Bytes>)| head.id == Some(*id);
        if let Some((_, events)) = self.stream.as_mut().filter(is_of_the_stream) {
            events.push_back(frame);
        }
        Ok(None)
    }

    /// A courtesy; Home Assistant may be gone.
    pub async fn end(mut self) {
        let _said = timeout(Duration::from_secs(1), self.socket.close(None)).await;
    }
}

fn head(frame: &Utf8Bytes) -> Result<Head<'_>, AskError> {
    serde_json::from_str(frame).map_err(|err| AskError::Unreadable(err.to_string()))
}

#[derive(Deserialize)]
struct Head<'a> {
    id: Option<u64>,
    #[serde(borrow, rename = "type", default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    error: Option<Failure<'a>>,
}

#[derive(Deserialize)]
struct Failure<'a> {
    #[serde(borrow, default)]
    code: Cow<'a, str>,
    #[serde(borrow, default)]
    message: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
}

impl Answer {
    /// The `result`. `null` if there is none.
    #[must_use]
    pub fn result(&self) -> &str {
        self.body().result.map_or("null", RawValue::get)
    }

    /// The `event`. `null` if there is none.
    #[must_use]
    pub fn event(&self) -> &str {
        self.body().event.map_or("null", RawValue::get)
    }

    fn body(&self) -> Body<'_> {
        serde_json::from_str(&self.frame).unwrap_or_default()
    }

    /// Of the whole frame.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.frame.len()
    }
}
