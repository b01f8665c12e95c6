//! The states of this moment, what the registries say of their entities, and whom to ask the recorder about.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::timeout;

use crate::config::settings::HomeAssistant;
use crate::ingest::hass::ProbeError;
use crate::ingest::hass::protocol::{Registry, parse_state};
use crate::ingest::hass::registry::Gathered;
use crate::ingest::hass::visit::{AskError, Visit};
use crate::model::entity::EntityId;
use crate::model::event::StateChange;
use crate::model::registries::Registries;
use crate::model::time::Timestamp;

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
    /// As [`parse_state`] reads it.
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
        matches!(self, Self::Visit(err) if err.is_wrong_token())
    }
}

impl Present {
    /// The states by entity, without those that cannot be read. `now`: for those that have no time.
    #[must_use]
    pub fn by_entity(&self, now: Timestamp) -> HashMap<EntityId, StateChange> {
        let states = self.states.iter().filter_map(|state| parse_state(state.state.get(), now).ok());
        states.map(|state| (state.entity.clone(), state)).collect()
    }
}

/// Whom to ask about: everybody who is there, is registered or was known, and is wanted. In the order of their names.
#[must_use]
pub fn scope<'a>(
    there: impl Iterator<Item = &'a EntityId>,
    registries: &'a Registries,
    known: impl IntoIterator<Item = EntityId>,
    wants: impl Fn(&EntityId) -> bool,
) -> Vec<EntityId> {
    let all = there.chain(registries.entities.keys()).cloned().chain(known);
    let mut scope: Vec<EntityId> = all.filter(|entity| entity.is_valid() && wants(entity)).collect();
    scope.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    scope.dedup();
    scope
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

/// Names that look like the wanted one: at most three, the nearest first.
#[must_use]
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    const ALIKE: f64 = 0.75;
    // The comparison takes time in proportion to both lengths.
    const LONG: usize = 100;
    if wanted.len() > LONG {
        return Vec::new();
    }
    let likeness = |name: &str| strsim::normalized_damerau_levenshtein(wanted, name);
    let alike = names.filter(|name| name.len() <= LONG).map(|name| (likeness(name), name));
    let mut alike: Vec<(f64, &str)> = alike.filter(|(likeness, _)| *likeness >= ALIKE).collect();
    alike.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(other.1)));
    alike.into_iter().take(3).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::{list, nearest};

    #[test]
    fn what_has_no_name_costs_nothing_else() {
        let states = r#"[{"entity_id":"a.b","state":"1"},{"state":"2"},7,{"entity_id":"c.d","state":"\n"}]"#;
        let listed = list(states).unwrap();
        let names: Vec<&str> = listed.iter().map(|state| &*state.entity_id).collect();
        assert_eq!(names, ["a.b", "c.d"]);
        assert_eq!(listed[0].state.get(), r#"{"entity_id":"a.b","state":"1"}"#);
    }

    #[test]
    fn a_slip_is_answered_with_the_names_that_look_like_it() {
        let names = ["sensor.kitchen_temperature", "sensor.kitchen_humidity", "light.kitchen", "sensor.kitchen", "a.b"];
        for (wanted, expected) in [
            ("sensor.kitchen_temprature", &["sensor.kitchen_temperature"][..]),
            ("sensor.kitchn", &["sensor.kitchen"]),
            ("switch.attic", &[]),
        ] {
            assert_eq!(nearest(wanted, names.into_iter()), expected, "{wanted}");
        }
        let many: Vec<String> = (0..9).map(|number| format!("sensor.oven_{number}")).collect();
        let found = nearest("sensor.oven_x", many.iter().map(String::as_str));
        assert_eq!(found, ["sensor.oven_0", "sensor.oven_1", "sensor.oven_2"]);
        assert!(nearest(&"s".repeat(101), names.into_iter()).is_empty());
    }
}
