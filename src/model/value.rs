//! Attribute values as Home Assistant sends them: JSON, with the difference between `28` and `28.0` kept,
//! because Python prints them differently.

use std::sync::Arc;

/// One JSON value. Objects keep their order, as Python's `dict` does.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// Only for what does not fit `Int`.
    UInt(u64),
    /// Finite: JSON has no other numbers.
    Float(f64),
    Text(Box<str>),
    List(Box<[Value]>),
    Map(Box<[(Box<str>, Value)]>),
}

/// The attributes of a state, in the order in which Home Assistant holds them; each name once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes(Vec<(Arc<str>, Value)>);

impl Attributes {
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(key, _)| &**key == name).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.0.iter_mut().find(|(key, _)| &**key == name).map(|(_, value)| value)
    }

    /// Replaces the value of a name where it stands, or adds the name at the end (as `dict` does).
    pub fn set(&mut self, name: Arc<str>, value: Value) {
        match self.get_mut(&name) {
            Some(old) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(key, _)| &**key != name);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (&**key, value))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(Arc<str>, Value)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Value)>>(pairs: I) -> Self {
        let mut attributes = Self::default();
        for (name, value) in pairs {
            attributes.set(name, value);
        }
        attributes
    }
}

#[cfg(test)]
mod tests {
    use super::{Attributes, Value};

    #[test]
    fn a_name_keeps_its_place_when_its_value_changes() {
        let mut attributes: Attributes =
            [("a".into(), Value::Int(1)), ("b".into(), Value::Int(2))].into_iter().collect();
        attributes.set("a".into(), Value::Int(3));
        attributes.set("c".into(), Value::Null);
        attributes.remove("b");
        let left: Vec<_> = attributes.iter().collect();
        assert_eq!(left, [("a", &Value::Int(3)), ("c", &Value::Null)]);
    }
}
