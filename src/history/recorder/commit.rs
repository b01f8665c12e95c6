//! Makes the recorder commit what it was told, and hears when it has.
//!
//! History reads what is committed. The recorder commits every `commit_interval` (5 s by default, 30 or 60 s where a memory
//! card is to be spared), and what it has taken from its queue and not committed is in no figure of `recorder/info`. But
//! `history/stream` puts a task into the recorder's queue that commits everything before it, and sends a second event when
//! that is done (Home Assistant's `components/history/websocket_api.py: ws_stream`, alike in 2025.4.4 and 2026.11.0). So
//! a stream of an entity that nobody has is subscribed to, and given up after its second event.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::{PATIENCE, Recorder, RecorderError};
use crate::ingest::hass::visit::AskError;
use crate::model::time::Timestamp;

/// Valid id of an entity that does not exist.
const NOBODY: &str = "sensor.ha_ingestor_commit_barrier";
/// Start of the stream: before Home Assistant's now, whatever its clock says.
const LONG_AGO: &str = "2013-01-01T00:00:00+00:00";
/// Interval between two looks at the backlog while waiting.
const LOOK: Duration = Duration::from_secs(2);

impl Recorder {
    /// Waits until everything that happened before the call is committed. Returns the time of the call by Home Assistant's
    /// clock. Takes milliseconds, or as long as a running backup; `hear` gets a message while it takes longer.
    ///
    /// # Errors
    /// [`RecorderError::NotCommitted`] after `within`, and as [`Recorder::info`].
    pub async fn commit(
        &mut self,
        within: Duration,
        mut hear: impl FnMut(&str) + Send,
    ) -> Result<Timestamp, RecorderError> {
        let mut info = self.info().await?;
        let began = Instant::now();
        let subscribe = json!({
            "type": "history/stream",
            "entity_ids": [NOBODY],
            "start_time": LONG_AGO,
            "include_start_time_state": false,
            "no_attributes": true,
        });
        let stream = self.visit.subscribe(subscribe, PATIENCE).await?;
        // The first event is what is committed already: nothing. It says when that was.
        let first = self.visit.next_event(&stream, PATIENCE).await?.ok_or(AskError::Timeout)?;
        let now = ended_at(first.event())?;
        while self.visit.next_event(&stream, LOOK).await?.is_none() {
            if began.elapsed() > within {
                return Err(RecorderError::NotCommitted { backlog: info.backlog });
            }
            info = self.info().await?;
            hear(&waiting_for(info.backlog));
        }
        self.visit.unsubscribe(stream, PATIENCE).await?;
        Ok(now)
    }
}

fn waiting_for(backlog: u64) -> String {
    match backlog {
        0 => "waiting until the recorder has committed".to_owned(),
        backlog => format!("waiting until the recorder has written {backlog} changes"),
    }
}

/// Reads the `end_time` of a stream event.
fn ended_at(event: &str) -> Result<Timestamp, AskError> {
    #[derive(Deserialize)]
    struct Body {
        end_time: f64,
    }
    let unreadable = |words: String| AskError::Unreadable(words);
    let body: Body = serde_json::from_str(event).map_err(|err| unreadable(err.to_string()))?;
    Timestamp::from_unix_seconds(body.end_time).ok_or_else(|| unreadable(format!("{} is no time", body.end_time)))
}

#[cfg(test)]
mod tests {
    use super::ended_at;

    #[test]
    fn the_moment_is_home_assistants_own() {
        let event = r#"{"states":{},"start_time":1356998400.0,"end_time":1795439842.618874}"#;
        assert_eq!(ended_at(event).unwrap().as_micros(), 1_795_439_842_618_874);
        assert!(ended_at(r#"{"states":{}}"#).is_err());
        assert!(ended_at(r#"{"end_time":1e300}"#).is_err());
    }
}
