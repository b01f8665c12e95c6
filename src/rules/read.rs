//! From a tree to the types of the file: all that is wrong is reported, and what is right is read.
//!
//! Derived deserializers stop at the first fault, and word it for programmers.

use super::faults::{Faults, Place};
use super::tree::Tree;
use crate::config::faults::{instead, shown};

pub(super) trait Read: Sized {
    /// `None`: it is wrong, and was reported.
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self>;
}

/// A struct whose fields are the keys of a group, each of which may be left out.
macro_rules! group {
    (
        $(#[$about:meta])*
        pub(super) struct $name:ident {
            $($(#[$help:meta])* $field:ident: $kind:ty,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Default)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[cfg_attr(test, schemars(deny_unknown_fields))]
        #[allow(clippy::struct_field_names, reason = "the fields are called as the keys are")]
        pub(super) struct $name {
            $($(#[$help])* pub(super) $field: Option<$kind>,)*
        }

        impl $crate::rules::read::Read for $name {
            fn read(
                tree: &$crate::rules::tree::Tree,
                at: &$crate::rules::faults::Place,
                faults: &mut $crate::rules::faults::Faults<'_>,
            ) -> Option<Self> {
                let known = [$($crate::rules::read::key_of(stringify!($field))),*];
                let mut group = Self::default();
                for (key, value) in faults.entries(tree, at, Some(&known))? {
                    let at = at.key(key);
                    $(if key == $crate::rules::read::key_of(stringify!($field)) {
                        group.$field = $crate::rules::read::Read::read(value, &at, faults);
                    })*
                }
                Some(group)
            }
        }
    };
}
pub(super) use group;

/// A field's name without the mark of a name that is a keyword.
pub(super) fn key_of(field: &'static str) -> &'static str {
    field.trim_start_matches("r#")
}

/// One or a list of them.
#[derive(Debug, Default)]
pub(super) struct Many<T>(pub(super) Vec<T>);

impl<T: Read> Read for Many<T> {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        match tree {
            Tree::List(_) => Vec::read(tree, at, faults).map(Self),
            Tree::Null => {
                faults.at(at, "has no value: write [] for an empty list, or remove the line");
                None
            }
            one => T::read(one, at, faults).map(|one| Self(vec![one])),
        }
    }
}

/// A list. One without any item may be left empty.
impl<T: Read> Read for Vec<T> {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        match tree {
            Tree::Null => Some(Self::new()),
            Tree::List(items) => {
                let item = |(number, item)| T::read(item, &at.item(number), faults);
                Some(items.iter().enumerate().filter_map(item).collect())
            }
            other => {
                faults.wrong(at, "a list", other);
                None
            }
        }
    }
}

/// Names and what belongs to them, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Pairs<T>(pub(super) Vec<(String, T)>);

impl<T: Read> Read for Pairs<T> {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        let mut pairs = Vec::new();
        for (key, value) in faults.entries(tree, at, None)? {
            let at = at.key(key);
            if key.trim().is_empty() {
                faults.at_key(&at, "an empty name names nothing");
            }
            pairs.extend(T::read(value, &at, faults).map(|value| (key.to_owned(), value)));
        }
        Some(Self(pairs))
    }
}

/// As an item of a list whose others are to keep their numbers.
impl<T: Read> Read for Option<T> {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        Some(T::read(tree, at, faults))
    }
}

impl Read for String {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        match tree {
            Tree::Text(text) => Some(text.clone()),
            // As text a number could be written in several ways, such as 1 and 1.0.
            Tree::Bool(_) | Tree::Integer(_) | Tree::Float(_) => {
                faults.at(at, format_args!("must be text, not {}: put it in quotes", tree.kind()));
                None
            }
            other => {
                faults.wrong(at, "text", other);
                None
            }
        }
    }
}

impl Read for bool {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        match tree {
            Tree::Bool(value) => Some(*value),
            // As Home Assistant's files have them.
            Tree::Text(text) if ["yes", "on"].contains(&&*text.to_lowercase()) => Some(true),
            Tree::Text(text) if ["no", "off"].contains(&&*text.to_lowercase()) => Some(false),
            other => {
                faults.wrong(at, "true or false", other);
                None
            }
        }
    }
}

impl Read for i64 {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        match tree {
            Tree::Integer(number) if let Ok(number) = Self::try_from(*number) => Some(number),
            Tree::Integer(_) | Tree::Float(_) => {
                faults.at(at, "must be a whole number, and not as large");
                None
            }
            other => {
                faults.wrong(at, "a whole number", other);
                None
            }
        }
    }
}

impl Read for f64 {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        match tree {
            #[expect(clippy::cast_precision_loss, reason = "a person wrote it; 2^53 is exact")]
            Tree::Integer(number) => Some(*number as Self),
            Tree::Float(number) if number.is_finite() => Some(*number),
            Tree::Float(_) => {
                faults.at(at, "must be a number that is finite");
                None
            }
            other => {
                faults.wrong(at, "a number", other);
                None
            }
        }
    }
}

/// Reads a text that means something more.
pub(super) fn text_as<T>(
    tree: &Tree,
    at: &Place,
    faults: &mut Faults<'_>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let text = String::read(tree, at, faults)?;
    parse(&text).map_err(|problem| faults.at(at, problem)).ok()
}

/// Reads one of the names as the value that belongs to it.
pub(super) fn choice<T: Clone>(tree: &Tree, at: &Place, faults: &mut Faults<'_>, known: &[(&str, T)]) -> Option<T> {
    text_as(tree, at, faults, |text| {
        let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| value.clone());
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        found.ok_or_else(|| format!("`{}` is no choice: {}", shown(text), instead(text, &names)))
    })
}

/// What editors are told about the types that are not derived.
#[cfg(test)]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{Many, Pairs};

    impl<T: JsonSchema> JsonSchema for Many<T> {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            "Many".into()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            let one = generator.subschema_for::<T>();
            json_schema!({"anyOf": [one, {"type": "array", "items": one}]})
        }
    }

    impl<T: JsonSchema> JsonSchema for Pairs<T> {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            "Pairs".into()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            let one = generator.subschema_for::<T>();
            json_schema!({"type": "object", "additionalProperties": one})
        }
    }
}
