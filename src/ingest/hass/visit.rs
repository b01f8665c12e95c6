//! A visit to Home Assistant: a connection of its own on which questions are asked, one after the other.
//!
//! It is beside the session that hears what happens, so that a long answer holds up no event.

use std::borrow::Cow;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::timeout;
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
}

/// What was answered: JSON, not yet read. It keeps the whole frame in memory.
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
}

impl Visit {
    /// Connects and says who we are.
    pub async fn begin(settings: &HomeAssistant, within: Duration) -> Result<Self, ProbeError> {
        let work = async {
            let mut socket = socket::connect(settings, within).await?;
            let version = greet(&mut socket, settings).await?.version;
            Ok(Self { socket, version, last_id: 0 })
        };
        timeout(within, work).await.unwrap_or(Err(ProbeError::Timeout))
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

    async fn converse(&mut self, id: u64, command: String) -> Result<Answer, AskError> {
        self.socket.send(tungstenite::Message::text(command)).await.map_err(|_| AskError::Closed)?;
        loop {
            let frame = match self.socket.next().await {
                Some(Ok(tungstenite::Message::Text(frame))) => frame,
                Some(Ok(_)) => continue,
                Some(Err(tungstenite::Error::Capacity(_))) => return Err(AskError::TooLarge),
                Some(Err(_)) | None => return Err(AskError::Closed),
            };
            let head: Head<'_> = serde_json::from_str(&frame).map_err(|err| AskError::Unreadable(err.to_string()))?;
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

    /// A courtesy; Home Assistant may be gone.
    pub async fn end(mut self) {
        let _said = timeout(Duration::from_secs(1), self.socket.close(None)).await;
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    id: Option<u64>,
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

impl Answer {
    /// The `result`. `null` if there is none.
    #[must_use]
    pub fn result(&self) -> &str {
        #[derive(Deserialize)]
        struct Body<'a> {
            #[serde(borrow)]
            result: Option<&'a RawValue>,
        }
        let body: Result<Body<'_>, _> = serde_json::from_str(&self.frame);
        body.ok().and_then(|body| body.result).map_or("null", RawValue::get)
    }

    /// Of the whole frame.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.frame.len()
    }
}
