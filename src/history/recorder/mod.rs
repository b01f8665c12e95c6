//! Home Assistant's recorder, asked.
//!
//! [`Recorder`] asks one question at a time, on a connection of its own. [`walk`] goes through a time with it, in
//! [`windows`] with answers of a good size; [`commit`] makes sure that the recorder has written down what there is to
//! ask for; [`rows`] and [`statistics`] read the answers, [`missing_attributes`] puts back what the recorder does not keep,
//! [`present`] are the states of now, [`renames`] what entities were called before.

pub mod commit;
pub mod missing_attributes;
pub mod present;
pub mod renames;
pub mod rows;
pub mod statistics;
pub mod walk;
pub mod windows;

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::config::settings::HomeAssistant;
use crate::ingest::hass::ProbeError;
use crate::ingest::hass::visit::{Answer, AskError, Visit};
use crate::model::entity::EntityId;
use crate::model::time::Timestamp;

use self::present::{Present, PresentError};
use self::rows::{Row, Rows};
use self::windows::Window;

/// How long Home Assistant may take for one answer. A large one from a slow memory card takes many seconds.
const PATIENCE: Duration = Duration::from_mins(2);

/// How long it may take to be let in.
const CONNECT: Duration = Duration::from_secs(10);

/// Both bounds of a question are exclusive, and compared with times that are not rounded: so much more is asked for on
/// either side, and what does not belong to the window is left out here.
const MARGIN_MICROS: i64 = 1_000;

/// Attempts to connect and the pause between them: Home Assistant may take minutes to start.
const CALLS: u32 = 30;
const CALL_AGAIN: Duration = Duration::from_secs(10);

/// Attempts at the same request before it is split or fails.
const TRIES: u32 = 3;

/// Entities per request for the reach of the history.
const TOGETHER: usize = 500;

/// A connection on which the recorder is asked.
pub struct Recorder {
    home: HomeAssistant,
    visit: Visit,
}

/// Why the recorder could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    #[error(transparent)]
    Visit(#[from] ProbeError),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Present(#[from] PresentError),
    #[error("Home Assistant's recorder is off")]
    Off,
    #[error("Home Assistant's recorder brings its database to a new version")]
    Migrating,
    /// It makes a backup, is far behind, or this Home Assistant does not say when it has committed.
    #[error("Home Assistant's recorder has not committed what happened ({backlog} changes wait in its queue)")]
    NotCommitted { backlog: u64 },
}

impl RecorderError {
    /// Whether another token is needed.
    #[must_use]
    pub fn is_wrong_token(&self) -> bool {
        match self {
            Self::Visit(err) => err.is_wrong_token(),
            Self::Present(err) => err.is_wrong_token(),
            _ => false,
        }
    }
}

/// How the recorder fares: the result of `recorder/info`. Some versions say `null` where there is no recorder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Info {
    /// Changes in the queue. Those of the transaction that is open are not among them: see [`commit`].
    #[serde(deserialize_with = "or_default")]
    pub backlog: u64,
    #[serde(deserialize_with = "or_default")]
    pub migration_in_progress: bool,
    #[serde(deserialize_with = "or_default")]
    pub recording: bool,
    #[serde(deserialize_with = "or_default")]
    pub thread_running: bool,
}

fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(value: D) -> Result<T, D::Error> {
    Option::deserialize(value).map(Option::unwrap_or_default)
}

impl Recorder {
    /// # Errors
    /// Home Assistant is not there, or does not let us in.
    pub async fn connect(home: &HomeAssistant) -> Result<Self, ProbeError> {
        Ok(Self { home: home.clone(), visit: Visit::begin(home, CONNECT).await? })
    }

    /// As [`Self::connect`], again and again for some minutes while Home Assistant is not there.
    ///
    /// # Errors
    /// It does not let us in, or was not there for minutes.
    pub async fn connect_patiently(home: &HomeAssistant) -> Result<Self, ProbeError> {
        let mut calls = 1;
        loop {
            match Self::connect(home).await {
                Err(ProbeError::Connect(_) | ProbeError::Timeout | ProbeError::Closed) if calls < CALLS => {
                    calls += 1;
                    sleep(CALL_AGAIN).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// On a new connection from now on: an answer was lost on the way, and nothing that comes on the old one can be relied on.
    ///
    /// # Errors
    /// As [`Self::connect_patiently`].
    pub async fn connect_again(&mut self) -> Result<(), ProbeError> {
        self.visit = Self::connect_patiently(&self.home).await?.visit;
        Ok(())
    }

    /// Home Assistant's version.
    #[must_use]
    pub fn version(&self) -> &str {
        self.visit.version()
    }

    /// How the recorder fares, if it can be relied on.
    ///
    /// # Errors
    /// [`RecorderError::Off`] and [`RecorderError::Migrating`], and what can go wrong with any question.
    pub async fn info(&mut self) -> Result<Info, RecorderError> {
        let answer = match self.ask(json!({"type": "recorder/info"})).await {
            Err(err) if err.is_unknown_command() => return Err(RecorderError::Off),
            answer => answer?,
        };
        let info: Info = serde_json::from_str(answer.result()).map_err(|err| AskError::Unreadable(err.to_string()))?;
        if !info.recording || !info.thread_running {
            Err(RecorderError::Off)
        } else if info.migration_in_progress {
            Err(RecorderError::Migrating)
        } else {
            Ok(info)
        }
    }

    /// The states of this moment, and the registries.
    pub async fn present(&mut self) -> Result<Present, PresentError> {
        present::ask_all(&mut self.visit, PATIENCE).await
    }

    /// The rows of these entities in the window, as they were recorded. Entities without rows are not among them.
    pub async fn rows(&mut self, window: &Window) -> Result<Rows, AskError> {
        let answer = self.ask(question(window, Start::LeftOut)).await?;
        rows::read(answer.result(), window)
            .map_err(|err| AskError::Unreadable(err.to_string()))
            .map(|rows| Rows { bytes: answer.bytes(), ..rows })
    }

    /// Whether the recorder knows a state of any of these entities from before `moment`.
    pub async fn reaches_back(&mut self, entities: &[EntityId], moment: Timestamp) -> Result<bool, RecorderError> {
        for entities in entities.chunks(TOGETHER) {
            let until = Timestamp::from_micros(moment.as_micros() + 1);
            let window = Window { entities: entities.into(), from: moment, until };
            if self.ask_surely(&question(&window, Start::Briefly)).await?.result() != "{}" {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What each of the window's entities was when the window began. Those of which the recorder knows nothing from before
    /// are not among them.
    pub async fn before(&mut self, window: &Window) -> Result<Vec<(EntityId, Row)>, RecorderError> {
        let moment = Window { until: Timestamp::from_micros(window.from.as_micros() + 1), ..window.clone() };
        let answer = self.ask_surely(&question(&moment, Start::InFull)).await?;
        let ever = Window { from: Timestamp::from_micros(i64::MIN), until: window.from, ..window.clone() };
        let rows = rows::read(answer.result(), &ever).map_err(|err| AskError::Unreadable(err.to_string()))?;
        Ok(rows.entities.into_iter().filter_map(|(entity, mut rows)| Some((entity, rows.pop()?))).collect())
    }

    /// Asks again on a new connection if the answer is lost on the way, which a large one is every time.
    ///
    /// # Errors
    /// As [`Self::ask`], and if Home Assistant is gone for minutes.
    pub async fn ask_surely(&mut self, command: &Value) -> Result<Answer, RecorderError> {
        let mut tries = 1;
        loop {
            match self.ask(command.clone()).await {
                Err(err) if err.is_lost_on_the_way() && tries < TRIES => {
                    tries += 1;
                    self.connect_again().await?;
                }
                answer => return Ok(answer?),
            }
        }
    }

    /// Any command that has a result. `command` is an object with its `type`.
    pub async fn ask(&mut self, command: Value) -> Result<Answer, AskError> {
        self.visit.ask(command, PATIENCE).await
    }

    pub async fn end(self) {
        self.visit.end().await;
    }
}

/// The state at the start of a window, which is no change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    LeftOut,
    /// Without attributes.
    Briefly,
    InFull,
}

/// Home Assistant's defaults would leave out changes of attributes and make up a row at the start.
fn question(window: &Window, start: Start) -> Value {
    // One name that is none would spoil the question.
    let valid = window.entities.iter().filter(|entity| entity.is_valid());
    let entities: Vec<&str> = valid.map(EntityId::as_str).collect();
    json!({
        "type": "history/history_during_period",
        "start_time": Timestamp::from_micros(window.from.as_micros() - MARGIN_MICROS).to_string(),
        "end_time": Timestamp::from_micros(window.until.as_micros() + MARGIN_MICROS).to_string(),
        "entity_ids": entities,
        "include_start_time_state": start != Start::LeftOut,
        "significant_changes_only": false,
        "minimal_response": start == Start::Briefly,
        "no_attributes": start == Start::Briefly,
    })
}
