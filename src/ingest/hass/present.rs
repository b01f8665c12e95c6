//! A short visit that asks for the states of this moment, and what the registries say of their entities.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::ProbeError;
use super::protocol::Registry;
use super::registry::Gathered;
use super::session::Ended;
use super::visit::{AskError, Visit};
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
    Ask(#[from] AskError),
}

impl PresentError {
    /// Whether another token is needed.
    #[must_use]
    pub fn is_wrong_token(&self) -> bool {
        matches!(self, Self::Visit(ProbeError::Session(Ended::WrongToken(_))))
    }
}

pub async fn look(settings: &HomeAssistant, within: Duration) -> Result<Present, PresentError> {
    let look = async {
        let mut visit = Visit::begin(settings, within).await?;
        let seen = ask_all(&mut visit, within).await;
        visit.end().await;
        seen
    };
    timeout(within, look).await.unwrap_or(Err(ProbeError::Timeout.into()))
}

/// As [`look`], on a connection that there is.
pub async fn ask_all(visit: &mut Visit, within: Duration) -> Result<Present, PresentError> {
    let states = list(visit.ask(json!({"type": "get_states"}), within).await?.result())?;
    let mut gathered = Gathered::default();
    for registry in Registry::ALL {
        let list = json!({"type": format!("config/{}_registry/list", registry.name())});
        match visit.ask(list, within).await {
            // A row that cannot be read is no reason to show nothing.
            Ok(rows) => drop(gathered.take(registry, rows.result())),
            Err(AskError::Refused { .. }) => {}
            Err(err) => return Err(err.into()),
        }
    }
    Ok(Present { states, registries: gathered.assemble() })
}

/// What has no entity id is left out.
fn list(states: &str) -> Result<Vec<State>, PresentError> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        entity_id: Cow<'a, str>,
    }
    let states: Vec<&RawValue> = serde_json::from_str(states).map_err(|err| AskError::Unreadable(err.to_string()))?;
    let named = |state: &RawValue| {
        let Named { entity_id } = serde_json::from_str(state.get()).ok()?;
        Some(State { entity_id: entity_id.into_owned(), state: state.to_owned() })
    };
    Ok(states.into_iter().filter_map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::list;

    #[test]
    fn what_has_no_name_costs_nothing_else() {
        let states = r#"[{"entity_id":"a.b","state":"1"},{"state":"2"},7,{"entity_id":"c.d","state":"\n"}]"#;
        let listed = list(states).unwrap();
        let names: Vec<&str> = listed.iter().map(|state| &*state.entity_id).collect();
        assert_eq!(names, ["a.b", "c.d"]);
        assert_eq!(listed[0].state.get(), r#"{"entity_id":"a.b","state":"1"}"#);
    }
}
