//! Home Assistant's recorder as a source: what happened while nobody listened, and in the years before.
//!
//! [`Recorder`] asks one question at a time, on a connection of its own. [`rows`] reads the answers, [`windows`] cuts a
//! long time into questions with answers of a good size, [`left_out`] puts back what the recorder does not keep. With
//! them [`closing`] fetches what was missed, in one attempt or several: [`gap`] says from when until when, [`restored`]
//! what is no change.

mod attempt;
pub mod closing;
pub mod gap;
pub mod known;
pub mod left_out;
pub mod restored;
pub mod rows;
pub mod statistics;
pub mod windows;

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::settings::HomeAssistant;
use crate::ingest::hass::ProbeError;
use crate::ingest::hass::present::{self, Present, PresentError};
use crate::ingest::hass::visit::{Answer, AskError, Visit};
use crate::model::entity::EntityId;
use crate::model::time::Timestamp;

use self::rows::{Row, Rows};
use self::windows::Window;

/// How long Home Assistant may take for one answer. A large one from a slow memory card takes many seconds.
const PATIENCE: Duration = Duration::from_mins(2);

/// How long it may take to be let in.
const CONNECT: Duration = Duration::from_secs(10);

/// Both bounds of a question are exclusive, and compared with times that are not rounded: so much more is asked for on
/// either side, and what does not belong to the window is left out here.
const MARGIN_MICROS: i64 = 1_000;

/// A connection on which the recorder is asked.
pub struct Recorder {
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
}

/// How the recorder fares: the result of `recorder/info`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Info {
    /// Changes that wait to be written. During a backup of Home Assistant they only grow more.
    pub backlog: u64,
    pub migration_in_progress: bool,
    pub recording: bool,
    pub thread_running: bool,
}

impl Info {
    /// Why history cannot be relied on now, in words for people. `None`: it can.
    #[must_use]
    pub fn trouble(&self) -> Option<&'static str> {
        if !self.recording || !self.thread_running {
            Some("Home Assistant's recorder is off")
        } else if self.migration_in_progress {
            Some("Home Assistant's recorder brings its database to a new version")
        } else {
            None
        }
    }
}

impl Recorder {
    pub async fn connect(settings: &HomeAssistant) -> Result<Self, ProbeError> {
        Ok(Self { visit: Visit::begin(settings, CONNECT).await? })
    }

    /// Home Assistant's version.
    #[must_use]
    pub fn version(&self) -> &str {
        self.visit.version()
    }

    /// [`AskError::is_unknown_command`] where the recorder is not loaded.
    pub async fn info(&mut self) -> Result<Info, AskError> {
        let answer = self.ask(json!({"type": "recorder/info"})).await?;
        serde_json::from_str(answer.result()).map_err(|err| AskError::Unreadable(err.to_string()))
    }

    /// The states of this moment, and the registries.
    pub async fn present(&mut self) -> Result<Present, PresentError> {
        present::ask_all(&mut self.visit, PATIENCE).await
    }

    /// The rows of these entities in the window, as they were recorded. Entities without rows are not among them.
    pub async fn rows(&mut self, window: &Window) -> Result<Rows, AskError> {
        let answer = self.ask(question(window, Start::LeftOut)).await?;
        rows::read(answer.result(), window.from, window.until)
            .map_err(|err| AskError::Unreadable(err.to_string()))
            .map(|rows| Rows { bytes: answer.bytes(), ..rows })
    }

    /// Whether the recorder knows a state of any of the window's entities from before the window. It asks for a moment, not
    /// for the window.
    pub async fn reaches_back(&mut self, window: &Window) -> Result<bool, AskError> {
        let moment = Window { until: Timestamp::from_micros(window.from.as_micros() + 1), ..window.clone() };
        let answer = self.ask(question(&moment, Start::Briefly)).await?;
        Ok(answer.result() != "{}")
    }

    /// What each of the window's entities was when the window began. Those of which the recorder knows nothing from before
    /// are not among them.
    pub async fn before(&mut self, window: &Window) -> Result<Vec<(EntityId, Row)>, AskError> {
        let moment = Window { until: Timestamp::from_micros(window.from.as_micros() + 1), ..window.clone() };
        let answer = self.ask(question(&moment, Start::InFull)).await?;
        let rows = rows::read(answer.result(), Timestamp::from_micros(i64::MIN), window.from)
            .map_err(|err| AskError::Unreadable(err.to_string()))?;
        Ok(rows.entities.into_iter().filter_map(|(entity, mut rows)| Some((entity, rows.pop()?))).collect())
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
