//! What Home Assistant's registries say about its entities: where they are, what they belong to.

use std::collections::HashMap;
use std::sync::Arc;

use super::entity::EntityId;

/// All registered entities, each with what its area, device and so on are called at this moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Registries {
    pub entities: HashMap<EntityId, Registered>,
}

/// One entity. What is the same for many of them is held once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registered {
    /// The registry's own id of it, which stays when it gets another name.
    pub id: Option<Arc<str>>,
    /// Its own area, else that of its device, else that of the device which that one is a part of.
    pub area: Option<Arc<Named>>,
    /// The floor of that area.
    pub floor: Option<Arc<Named>>,
    pub device: Option<Arc<Named>>,
    /// Its own and those of its device and its area, sorted by name, each once.
    pub labels: Arc<[Arc<Named>]>,
    /// The integration that made it, such as `hue`.
    pub platform: Option<Arc<str>>,
    /// `config` or `diagnostic`; `None` for what is neither.
    pub category: Option<Arc<str>>,
}

/// Something that Home Assistant gave an id and a person a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// As the person wrote it; a device's is the one that the person gave it, if there is one.
    pub name: Arc<str>,
    pub id: Arc<str>,
}

impl Registries {
    #[must_use]
    pub fn get(&self, entity: &EntityId) -> Option<&Registered> {
        self.entities.get(entity)
    }
}

impl Named {
    /// Whether a user who wrote `text` means this: its id, or its name in any case.
    #[must_use]
    pub fn is_called(&self, text: &str) -> bool {
        *self.id == *text || self.name.to_lowercase() == text.to_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use super::Named;

    #[test]
    fn a_thing_is_known_by_its_id_and_by_its_name_in_any_case() {
        let kitchen = Named { name: "Küche 1".into(), id: "kuche_1".into() };
        for (text, expected) in
            [("kuche_1", true), ("KÜCHE 1", true), ("küche 1", true), ("Kuche_1", false), ("", false)]
        {
            assert_eq!(kitchen.is_called(text), expected, "{text}");
        }
    }
}
