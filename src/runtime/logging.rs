//! The log: one line for people, or one JSON object for machines, on standard output, which the Supervisor's log panel
//! shows.

use std::io::IsTerminal;

use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use crate::config::settings::{Log, LogFormat};

/// Starts the log of the process. Called once; a second call changes nothing.
pub fn start(log: Log) {
    // The libraries below us speak of their own connections at every level; their warnings are enough.
    let filter = EnvFilter::default()
        .add_directive(LevelFilter::WARN.into())
        .add_directive(own(log.level).parse().expect("a crate name and a level make a directive"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_target(log.level > Level::INFO);
    let started = match log.format {
        LogFormat::Text => lines.with_ansi(std::io::stdout().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("the log was already started");
    }
}

fn own(level: Level) -> String {
    format!("ha_ingestor={level}")
}
