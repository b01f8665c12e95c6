//! What a client's commands may hold. Home Assistant refuses what it does not know, and so does this.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Why a command is refused: the code and the message.
#[derive(Debug)]
pub struct Refusal(pub &'static str, pub String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Features {
    pub features: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    pub event_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unsubscribe {
    pub subscription: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fire {
    pub event_type: String,
    #[serde(default)]
    pub event_data: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "the switches of the command, one by one")]
pub struct History {
    pub start_time: String,
    pub end_time: Option<String>,
    pub entity_ids: Vec<String>,
    #[serde(default = "yes")]
    pub include_start_time_state: bool,
    #[serde(default = "yes")]
    pub significant_changes_only: bool,
    #[serde(default)]
    pub minimal_response: bool,
    #[serde(default)]
    pub no_attributes: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatisticIds {
    pub statistic_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    pub start_time: String,
    pub end_time: Option<String>,
    pub statistic_ids: Vec<String>,
    pub period: String,
    pub types: Option<Vec<String>>,
    /// Accepted and not used: the simulated home has one unit for everything.
    #[serde(default, rename = "units")]
    _units: Map<String, Value>,
}

fn yes() -> bool {
    true
}

/// The arguments of a command; the message of the refusal is our own, the code is Home Assistant's.
pub fn read<T: DeserializeOwned>(arguments: Map<String, Value>) -> Result<T, Refusal> {
    serde_json::from_value(Value::Object(arguments)).map_err(|err| Refusal("invalid_format", err.to_string()))
}

#[must_use]
pub fn unknown_command() -> Refusal {
    Refusal("unknown_command", "Unknown command.".to_owned())
}
