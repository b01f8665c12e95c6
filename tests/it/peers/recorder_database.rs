//! What Home Assistant's recorder wrote, read from its own tables.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::home_assistant::{HomeAssistant, python};

#[derive(Debug, Clone, Deserialize)]
pub struct Row {
    pub entity: String,
    /// `None` is the removal of the entity.
    pub state: Option<String>,
    /// Microseconds since 1970, rounded as Home Assistant rounds them.
    pub updated: i64,
    pub changed: i64,
    pub attributes: Map<String, Value>,
}

impl Row {
    /// The state, if it is one that a database gets.
    pub fn value(&self) -> Option<&str> {
        self.state.as_deref().filter(|state| !matches!(*state, "" | "unknown" | "unavailable"))
    }
}

/// All rows that are committed, the oldest first. The recorder commits every five seconds.
pub fn rows(home: &HomeAssistant) -> Vec<Row> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/recorder_rows.py");
    let mut command = Command::new(python().expect("Home Assistant runs"));
    let output = command.arg(program).arg(home.folder().join("home-assistant_v2.db")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|row| serde_json::from_str(row).unwrap()).collect()
}
