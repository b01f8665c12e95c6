//! What we tell Home Assistant.

use serde_json::{Map, Value, json};

use crate::config::secret::Secret;
use crate::config::settings::{EntitySet, Filter};

use super::Registry;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Auth {
        token: Secret,
    },
    /// It may send many messages as one array.
    CoalesceMessages {
        id: u64,
    },
    SubscribeEntities {
        id: u64,
        filter: Filter,
    },
    /// Events of this type, whatever entity they are of.
    SubscribeEvents {
        id: u64,
        event_type: String,
    },
    ListRegistry {
        id: u64,
        registry: Registry,
    },
    /// Ends the subscription that the command `subscription` began.
    Unsubscribe {
        id: u64,
        subscription: u64,
    },
    Ping {
        id: u64,
    },
}

/// The text of one frame.
#[must_use]
pub fn encode(command: &Command) -> String {
    match command {
        Command::Auth { token } => json!({"type": "auth", "access_token": token.expose()}),
        Command::CoalesceMessages { id } => {
            json!({"id": id, "type": "supported_features", "features": {"coalesce_messages": 1}})
        }
        Command::SubscribeEntities { id, filter } => {
            let mut message = Map::new();
            message.insert("id".into(), json!(id));
            message.insert("type".into(), json!("subscribe_entities"));
            for (name, set) in [("include", &filter.include), ("exclude", &filter.exclude)] {
                if !set.is_empty() {
                    message.insert(name.into(), entity_set(set));
                }
            }
            Value::Object(message)
        }
        Command::SubscribeEvents { id, event_type } => {
            json!({"id": id, "type": "subscribe_events", "event_type": event_type})
        }
        Command::ListRegistry { id, registry } => {
            json!({"id": id, "type": format!("config/{}_registry/list", registry.name())})
        }
        Command::Unsubscribe { id, subscription } => {
            json!({"id": id, "type": "unsubscribe_events", "subscription": subscription})
        }
        Command::Ping { id } => json!({"id": id, "type": "ping"}),
    }
    .to_string()
}

fn entity_set(set: &EntitySet) -> Value {
    let lists = [("domains", &set.domains), ("entity_globs", &set.entity_globs), ("entities", &set.entities)];
    lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(name, list)| (name.to_owned(), json!(list))).collect()
}

#[cfg(test)]
mod tests {
    use super::{Command, Registry, encode};
    use crate::config::secret::Secret;
    use crate::config::settings::{EntitySet, Filter};

    #[test]
    fn commands_are_what_home_assistant_reads() {
        let filter = Filter {
            include: EntitySet {
                domains: vec!["light".into()],
                entity_globs: vec!["sensor.*_t".into()],
                ..EntitySet::default()
            },
            exclude: EntitySet { entities: vec!["light.attic".into()], ..EntitySet::default() },
        };
        let table = [
            (Command::Auth { token: Secret::new("t\"k") }, r#"{"access_token":"t\"k","type":"auth"}"#),
            (
                Command::CoalesceMessages { id: 1 },
                r#"{"features":{"coalesce_messages":1},"id":1,"type":"supported_features"}"#,
            ),
            (
                Command::SubscribeEntities { id: 2, filter: Filter::default() },
                r#"{"id":2,"type":"subscribe_entities"}"#,
            ),
            (
                Command::SubscribeEntities { id: 3, filter },
                concat!(
                    r#"{"exclude":{"entities":["light.attic"]},"id":3,"#,
                    r#""include":{"domains":["light"],"entity_globs":["sensor.*_t"]},"type":"subscribe_entities"}"#
                ),
            ),
            (
                Command::Unsubscribe { id: 5, subscription: 2 },
                r#"{"id":5,"subscription":2,"type":"unsubscribe_events"}"#,
            ),
            (
                Command::SubscribeEvents { id: 6, event_type: "call_service".into() },
                r#"{"event_type":"call_service","id":6,"type":"subscribe_events"}"#,
            ),
            (
                Command::ListRegistry { id: 7, registry: Registry::Entities },
                r#"{"id":7,"type":"config/entity_registry/list"}"#,
            ),
            (Command::Ping { id: 4 }, r#"{"id":4,"type":"ping"}"#),
        ];
        for (command, text) in table {
            assert_eq!(encode(&command), text);
        }
    }

    #[test]
    fn a_command_does_not_show_its_token() {
        assert!(!format!("{:?}", Command::Auth { token: Secret::new("hunter2") }).contains("hunter2"));
    }
}
