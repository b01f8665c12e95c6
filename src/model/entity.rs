//! The name of an entity: `domain.object_id`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// An entity id such as `sensor.living_room_temperature`. Cheap to clone.
///
/// Both halves are there, split at the first dot as Home Assistant does. Which characters they hold is not checked:
/// whatever a peer sends must be carried and reported, and the line encoder makes any text safe.
#[derive(Clone)]
pub struct EntityId {
    text: Arc<str>,
    dot: usize,
}

/// Why a text is not an entity id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntityId {
    #[error("an entity id needs a domain, a dot and an object id")]
    NoDomain,
    #[error("an entity id has at most {} bytes", EntityId::MAX_BYTES)]
    TooLong,
}

impl EntityId {
    /// Home Assistant's own limit on the length of an entity id (`MAX_LENGTH_STATE_ENTITY_ID`), in characters there and
    /// in bytes here: real ids are ASCII.
    pub const MAX_BYTES: usize = 255;

    pub fn parse(text: &str) -> Result<Self, InvalidEntityId> {
        if text.len() > Self::MAX_BYTES {
            return Err(InvalidEntityId::TooLong);
        }
        match text.find('.') {
            Some(dot) if dot > 0 && dot + 1 < text.len() => Ok(Self { text: text.into(), dot }),
            _ => Err(InvalidEntityId::NoDomain),
        }
    }

    /// Whether Home Assistant itself would call it one (`valid_entity_id`): it answers no question about others.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let is_half = |half: &str| {
            !half.starts_with('_')
                && !half.ends_with('_')
                && half.bytes().all(|letter| matches!(letter, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        };
        // The first letter does not count.
        let has_double = self.text.get(1..).is_some_and(|rest| rest.contains("__"));
        is_half(self.domain()) && is_half(self.object_id()) && !has_double
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    #[must_use]
    pub fn domain(&self) -> &str {
        &self.text[..self.dot]
    }

    #[must_use]
    pub fn object_id(&self) -> &str {
        &self.text[self.dot + 1..]
    }
}

impl PartialEq for EntityId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for EntityId {}

/// The same as `str`, so that a map keyed by entity ids can be asked with a `&str`.
impl Hash for EntityId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl std::borrow::Borrow<str> for EntityId {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::{EntityId, InvalidEntityId};

    #[test]
    fn the_first_dot_separates_domain_and_object_id() {
        let id = EntityId::parse("sensor.a.b").unwrap();
        assert_eq!((id.domain(), id.object_id()), ("sensor", "a.b"));
    }

    #[test]
    fn only_some_are_valid_to_home_assistant() {
        // Expected values: homeassistant.core.valid_entity_id, 2025.4.
        for (text, expected) in [
            ("sensor.a_1", true),
            ("2.3", true),
            ("sensor.a__b", false),
            ("sensor._a", false),
            ("sensor.a_", false),
            ("_sensor.a", false),
            ("sensor_.a", false),
            ("sensor.A", false),
            ("sensor.a.b", false),
            ("sensor.ä", false),
        ] {
            assert_eq!(EntityId::parse(text).unwrap().is_valid(), expected, "{text}");
        }
    }

    #[test]
    fn a_missing_half_is_refused() {
        for text in ["", "sensor", ".x", "sensor.", "."] {
            assert_eq!(EntityId::parse(text), Err(InvalidEntityId::NoDomain), "{text:?}");
        }
        assert_eq!(EntityId::parse(&format!("a.{}", "x".repeat(255))), Err(InvalidEntityId::TooLong));
    }
}
