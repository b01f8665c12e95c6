//! The text of the file as a tree of values, and back from a value to its place in the text.
//!
//! The tree keeps what a deserializer would drop: keys that are there twice, and tags such as `!secret`. Aliases are
//! written out and merge keys (`<<`) are obeyed, within bounds: a few lines of aliases of aliases can stand for gigabytes.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde_yaml::Location;

use super::faults::{Fault, Part, Place, Spot};

/// What the whole tree may weigh, in bytes: some times what the largest file can hold without aliases.
const HEAVIEST: usize = 64 << 20;

/// What a value weighs beside its text.
const NODE: usize = 64;

const TOO_HEAVY: &str = "its aliases stand for more than fits into memory: write fewer of them";

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Tree>),
    /// In the order of the file; a key may be there twice.
    Map(Vec<(Tree, Tree)>),
    /// A value with a tag that YAML itself does not know, by the name of the tag. Its value is not looked at.
    Tagged(String),
}

impl Tree {
    /// Nothing but comments is `Null`.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let left = Cell::new(HEAVIEST);
        Build(&left).deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|err| not_yaml(text, &err))
    }

    /// As a key of a map it is known by this text.
    pub(super) fn as_key(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Text(text) => text.clone(),
            Self::List(_) | Self::Map(_) | Self::Tagged(_) => "?".to_owned(),
        }
    }

    /// What it is, in words. The value itself may be a secret.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a group of keys",
            Self::Tagged(_) => "a tag",
        }
    }
}

fn not_yaml(text: &str, err: &serde_yaml::Error) -> Fault {
    let at = err.location().map(|at| (at.line(), at.column()));
    let message = err.to_string();
    let words = if message.contains(TOO_HEAVY) || message.contains("repetition limit") {
        TOO_HEAVY.to_owned()
    } else if message.contains("more than one document") {
        "there is a second document: remove the line `---` before it".to_owned()
    } else if message.contains("recursion limit") {
        "lists and groups stand too deep in one another".to_owned()
    } else if at.is_some_and(|(line, column)| letter_at(text, line, column) == Some('\t')) {
        "there is a tab here: indent with spaces, as YAML wants it".to_owned()
    } else {
        format!("this is not YAML: {message}")
    };
    Fault { at, words }
}

fn letter_at(text: &str, line: usize, column: usize) -> Option<char> {
    text.lines().nth(line.checked_sub(1)?)?.chars().nth(column.checked_sub(1)?)
}

/// Builds a tree as long as there is weight left.
#[derive(Clone, Copy)]
struct Build<'a>(&'a Cell<usize>);

impl Build<'_> {
    fn weigh<E: serde::de::Error>(self, text: usize) -> Result<(), E> {
        self.0.set(self.0.get().checked_sub(NODE + text).ok_or_else(|| E::custom(TOO_HEAVY))?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Build<'_> {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Build<'_> {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Tree, E> {
        self.weigh(0).map(|()| Tree::Null)
    }

    /// A file without any value.
    fn visit_none<E: serde::de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Tree, E> {
        self.weigh(0).map(|()| Tree::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Tree, E> {
        self.visit_i128(value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Tree, E> {
        self.visit_i128(value.into())
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Tree, E> {
        self.weigh(0).map(|()| Tree::Integer(value))
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Tree, E> {
        #[expect(clippy::cast_precision_loss, reason = "a number of this size is refused wherever it stands")]
        let float = value as f64;
        self.visit_f64(float)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Tree, E> {
        self.weigh(0).map(|()| Tree::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Tree, E> {
        self.weigh(value.len()).map(|()| Tree::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        self.weigh(0)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        self.weigh(0)?;
        let mut map = Vec::new();
        let mut merged = Vec::new();
        while let Some(key) = entries.next_key_seed(self)? {
            match (key, entries.next_value_seed(self)?) {
                (Tree::Text(key), Tree::Map(from)) if key == "<<" => merged.push(from),
                (Tree::Text(key), Tree::List(from)) if key == "<<" && from.iter().all(is_map) => {
                    merged.extend(
                        from.into_iter().filter_map(|from| if let Tree::Map(map) = from { Some(map) } else { None }),
                    );
                }
                entry => map.push(entry),
            }
        }
        if !merged.is_empty() {
            let mut known: HashSet<String> = map.iter().map(|(key, _)| key.as_key()).collect();
            map.extend(merged.into_iter().flatten().filter(|(key, _)| known.insert(key.as_key())));
        }
        Ok(Tree::Map(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Tree, A::Error> {
        self.weigh(0)?;
        let (tag, value): (String, _) = tagged.variant()?;
        value.newtype_variant::<IgnoredAny>()?;
        Ok(Tree::Tagged(tag))
    }
}

fn is_map(tree: &Tree) -> bool {
    matches!(tree, Tree::Map(_))
}

/// Where a value, or its key, begins in a text that is YAML. `None`: it is not there as such, because it comes from a merge
/// of maps in another order than this looks at them, or the place is the whole file.
///
/// The parser tells places in errors only. So the text is read once more, up to an error at the value in question.
pub(super) fn locate(text: &str, place: &Place, spot: Spot) -> Option<Location> {
    [false, true].into_iter().find_map(|through_merges| {
        let seek = Seek { path: place.parts(), spot, through_merges };
        seek.deserialize(serde_yaml::Deserializer::from_str(text)).err()?.location()
    })
}

/// As a scalar stands in the text, if it stands there without quotes and has no spaces.
pub(super) fn plain_source(text: &str, at: &Location) -> Option<String> {
    // The parser counts letters here, not bytes.
    let mut rest: &str = text.char_indices().nth(at.index()).map(|(byte, _)| &text[byte..])?;
    while rest.starts_with(['&', '!']) {
        // Said to be text.
        if rest.starts_with("!!str") {
            return None;
        }
        rest = rest.trim_start_matches(|letter: char| !letter.is_whitespace()).trim_start();
    }
    if rest.starts_with(['"', '\'', '|', '>', '*']) {
        return None;
    }
    let word = rest.split(|letter: char| letter.is_whitespace() || ",]}".contains(letter)).next()?;
    Some(word.strip_suffix(':').unwrap_or(word).to_owned())
}

#[derive(Clone, Copy)]
struct Seek<'a> {
    path: &'a [Part],
    spot: Spot,
    through_merges: bool,
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.path.is_empty() { deserializer.deserialize_any(Here) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i128<E>(self, _: i128) -> Result<(), E> {
        Ok(())
    }

    fn visit_u128<E>(self, _: u128) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let wanted = match self.path.first() {
            Some(Part::Item(wanted)) => Some(*wanted),
            _ => None,
        };
        for index in 0.. {
            let found = if wanted == Some(index) {
                items.next_element_seed(Self { path: &self.path[1..], ..self })?
            } else if wanted.is_none() && self.through_merges {
                // The maps of a merge.
                items.next_element_seed(self)?
            } else {
                items.next_element::<IgnoredAny>()?.map(|_| ())
            };
            if found.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let wanted = match self.path.first() {
            Some(Part::Key(wanted)) => Some(wanted.as_str()),
            _ => None,
        };
        // The one of several equal keys whose place is asked for.
        let fails_at = match self.spot {
            Spot::Key(number) if self.path.len() == 1 => number,
            _ => 0,
        };
        let mut seen = 0;
        while let Some(key) = entries.next_key_seed(Key { wanted, seen: &mut seen, fails_at })? {
            match key {
                Match::Wanted => entries.next_value_seed(Self { path: &self.path[1..], ..self })?,
                Match::Merge if self.through_merges => entries.next_value_seed(self)?,
                Match::Merge | Match::Other => {
                    entries.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<(), A::Error> {
        let (_, value): (IgnoredAny, _) = tagged.variant()?;
        value.newtype_variant::<IgnoredAny>()?;
        Ok(())
    }
}

/// Fails at whatever it meets.
struct Here;

impl Visitor<'_> for Here {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the place that is looked for")
    }
}

enum Match {
    Wanted,
    Merge,
    Other,
}

struct Key<'a> {
    wanted: Option<&'a str>,
    seen: &'a mut usize,
    fails_at: usize,
}

impl Key<'_> {
    fn compare<E: serde::de::Error>(self, key: &Tree) -> Result<Match, E> {
        let key = key.as_key();
        if self.wanted != Some(&key) {
            return Ok(if key == "<<" { Match::Merge } else { Match::Other });
        }
        *self.seen += 1;
        match self.fails_at {
            0 => Ok(Match::Wanted),
            number if number == *self.seen => Err(E::custom("here")),
            _ => Ok(Match::Other),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Match;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Match, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = Match;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Match, E> {
        self.compare(&Tree::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Match, E> {
        self.compare(&Tree::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Match, E> {
        self.compare(&Tree::Integer(value.into()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Match, E> {
        self.compare(&Tree::Integer(value.into()))
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Match, E> {
        self.compare(&Tree::Integer(value))
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<Match, E> {
        Ok(Match::Other)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Match, E> {
        self.compare(&Tree::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Match, E> {
        self.compare(&Tree::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Match, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        self.compare(&Tree::List(Vec::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Match, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.compare(&Tree::Map(Vec::new()))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Match, A::Error> {
        let (tag, value): (String, _) = tagged.variant()?;
        value.newtype_variant::<IgnoredAny>()?;
        self.compare(&Tree::Tagged(tag))
    }
}
