//! A short visit that asks for the states of this moment, and what the registries say of their entities.

use std::borrow::Cow;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;

use super::protocol::Registry;
use super::registry::Gathered;
use super::session::Ended;
use super::socket::{self, Socket};
use super::{ProbeError, visit};
use crate::config::settings::HomeAssistant;
use crate::model::registries::Registries;

/// What Home Assistant knows at this moment.
#[derive(Debug)]
pub struct Present {
    /// Of all entities that the token may see.
    pub states: Vec<State>,
    /// Without those that Home Assistant does not have or does not tell.
    pub registries: Registries,
}

#[derive(Debug, Clone)]
pub struct State {
    pub entity_id: String,
    /// As [`super::protocol::parse_state`] reads it.
    pub state: Box<RawValue>,
}

/// Why the states are not known, in words that say what to do.
#[derive(Debug, thiserror::Error)]
pub enum PresentError {
    #[error(transparent)]
    Visit(#[from] ProbeError),
    #[error("Home Assistant does not tell its states: {0}")]
    Refused(String),
}

impl PresentError {
    /// Whether another token is needed.
    #[must_use]
    pub fn is_wrong_token(&self) -> bool {
        matches!(self, Self::Visit(ProbeError::Session(Ended::WrongToken(_))))
    }
}

pub async fn look(settings: &HomeAssistant, within: Duration) -> Result<Present, PresentError> {
    let ask_for_all = async {
        let mut socket = socket::connect(settings, within).await.map_err(ProbeError::from)?;
        visit(&mut socket, settings).await?;
        let seen = ask_all(&mut socket).await;
        // A courtesy, whatever was answered.
        let _said = socket.close(None).await;
        seen
    };
    timeout(within, ask_for_all).await.unwrap_or(Err(ProbeError::Timeout.into()))
}

async fn ask_all(socket: &mut Socket) -> Result<Present, PresentError> {
    let states = list(&ask(socket, 1, "get_states").await?)?;
    let mut gathered = Gathered::default();
    for (registry, id) in Registry::ALL.into_iter().zip(2..) {
        match ask(socket, id, &format!("config/{}_registry/list", registry.name())).await {
            // A row that cannot be read is no reason to show nothing.
            Ok(rows) => drop(gathered.take(registry, rows.get())),
            Err(PresentError::Refused(_)) => {}
            Err(err) => return Err(err),
        }
    }
    Ok(Present { states, registries: gathered.assemble() })
}

/// The result of one command. `id` grows from command to command.
async fn ask(socket: &mut Socket, id: u64, command: &str) -> Result<Box<RawValue>, PresentError> {
    let command = json!({"id": id, "type": command}).to_string();
    socket.send(tungstenite::Message::text(command)).await.map_err(|_| ProbeError::Closed)?;
    while let Some(Ok(frame)) = socket.next().await {
        let tungstenite::Message::Text(text) = frame else { continue };
        if let Some(result) = result(&text, id)? {
            return Ok(result);
        }
    }
    Err(ProbeError::Closed.into())
}

/// What this frame answers to the command `id`, if it does.
fn result(text: &str, id: u64) -> Result<Option<Box<RawValue>>, PresentError> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        id: Option<u64>,
        #[serde(borrow)]
        result: Option<&'a RawValue>,
        #[serde(borrow)]
        error: Option<Failure<'a>>,
    }
    #[derive(Deserialize)]
    struct Failure<'a> {
        #[serde(borrow, default)]
        message: Cow<'a, str>,
    }
    let answer: Answer<'_> = serde_json::from_str(text).map_err(|err| PresentError::Refused(err.to_string()))?;
    match answer {
        Answer { id: answered, .. } if answered != Some(id) => Ok(None),
        Answer { error: Some(failure), .. } => Err(PresentError::Refused(failure.message.into_owned())),
        Answer { result: Some(result), .. } => Ok(Some(result.to_owned())),
        Answer { .. } => Err(PresentError::Refused("the answer is empty".to_owned())),
    }
}

/// What has no entity id is left out.
fn list(states: &RawValue) -> Result<Vec<State>, PresentError> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        entity_id: Cow<'a, str>,
    }
    let states: Vec<&RawValue> =
        serde_json::from_str(states.get()).map_err(|err| PresentError::Refused(err.to_string()))?;
    let named = |state: &RawValue| {
        let Named { entity_id } = serde_json::from_str(state.get()).ok()?;
        Some(State { entity_id: entity_id.into_owned(), state: state.to_owned() })
    };
    Ok(states.into_iter().filter_map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::{list, result};

    #[test]
    fn the_answer_is_that_to_the_command() {
        let table = [
            (r#"{"id":1,"type":"result","success":true,"result":[5]}"#, Ok(Some("[5]"))),
            (r#"{"id":2,"type":"result","success":true,"result":[5]}"#, Ok(None)),
            (r#"{"type":"auth_ok"}"#, Ok(None)),
            (
                r#"{"id":1,"success":true,"result":null}"#,
                Err("Home Assistant does not tell its states: the answer is empty"),
            ),
            (
                r#"{"id":1,"success":false,"error":{"code":"unauthorized","message":"Unauthorized"}}"#,
                Err("Home Assistant does not tell its states: Unauthorized"),
            ),
        ];
        for (text, expected) in table {
            let told = result(text, 1).map_err(|err| err.to_string());
            let told = told.as_ref().map(|found| found.as_ref().map(|raw| raw.get())).map_err(String::as_str);
            assert_eq!(told, expected, "{text}");
        }
        assert!(result("no JSON", 1).is_err());
    }

    #[test]
    fn what_has_no_name_costs_nothing_else() {
        let states = r#"[{"entity_id":"a.b","state":"1"},{"state":"2"},7,{"entity_id":"c.d","state":"\n"}]"#;
        let listed = list(&serde_json::from_str::<Box<serde_json::value::RawValue>>(states).unwrap()).unwrap();
        let names: Vec<&str> = listed.iter().map(|state| &*state.entity_id).collect();
        assert_eq!(names, ["a.b", "c.d"]);
        assert_eq!(listed[0].state.get(), r#"{"entity_id":"a.b","state":"1"}"#);
    }
}
