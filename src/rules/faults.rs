//! Everything that is wrong with the file, and where, collected before anybody is told.

use std::fmt;

use super::tree::{self, Tree};
use crate::config::faults::{instead, shown};

/// The file cannot be used as it is. `Display` is one line per fault, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct InvalidRules(Vec<Fault>);

impl InvalidRules {
    pub(super) fn one(fault: Fault) -> Self {
        Self(vec![fault])
    }

    /// Never empty.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.0
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line and column, from 1. `None`: nowhere in particular.
    pub at: Option<(usize, usize)>,
    /// What is wrong, and what to do.
    pub words: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((line, column)) => write!(f, "line {line}, column {column}: {}", self.words),
            None => f.write_str(&self.words),
        }
    }
}

/// Something that is not wrong, and perhaps not what was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(pub String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Keys and numbers of items that lead to a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Key(String),
    Item(usize),
}

/// What of a place a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    Value,
    /// The key itself; of several equal ones the one with this number, from 1.
    Key(usize),
}

impl Place {
    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Part::Key(key.to_owned()))
    }

    pub(super) fn item(&self, index: usize) -> Self {
        self.with(Part::Item(index))
    }

    fn with(&self, part: Part) -> Self {
        Self(self.0.iter().cloned().chain([part]).collect())
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.0
    }

    fn parent(&self) -> Option<Self> {
        let (_, parent) = self.0.split_last()?;
        Some(Self(parent.to_vec()))
    }
}

/// As a person says it: `rules[2].match.domains`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, part) in self.0.iter().enumerate() {
            match part {
                Part::Item(index) => write!(f, "[{index}]")?,
                Part::Key(key) if number == 0 => f.write_str(&shown(key))?,
                Part::Key(key) => write!(f, ".{}", shown(key))?,
            }
        }
        Ok(())
    }
}

pub(super) struct Faults<'a> {
    text: &'a str,
    found: Vec<(Place, Spot, String)>,
    /// How many were found beyond those that are kept.
    more: usize,
    /// How often the text may still be searched for how a scalar was written.
    searches: usize,
}

/// Nobody reads more; and each one's place is searched for in the whole text.
const MOST: usize = 50;

/// For a file of the largest size they take some seconds.
const MOST_SEARCHES: usize = 500;

impl<'a> Faults<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { text, found: Vec::new(), more: 0, searches: MOST_SEARCHES }
    }

    /// `problem` continues the sentence that the place begins.
    pub(super) fn at(&mut self, place: &Place, problem: impl fmt::Display) {
        self.add(place, Spot::Value, format!("{place}: {problem}"));
    }

    /// As [`Self::at`], for the key of a value.
    pub(super) fn at_key(&mut self, place: &Place, problem: impl fmt::Display) {
        self.add(place, Spot::Key(1), format!("{place}: {problem}"));
    }

    /// A value that is not of the kind that belongs there.
    pub(super) fn wrong(&mut self, place: &Place, expected: &str, found: &Tree) {
        match found {
            Tree::Null => self.at(place, format_args!("has no value: give {expected}, or remove the line")),
            Tree::Tagged(tag) => self.at(place, tag_is_not_ours(tag)),
            other => self.at(place, format_args!("must be {expected}, not {}", other.kind())),
        }
    }

    /// Keys and values of a map. Keys that are there twice are reported, and those that are no text, or not in `known`.
    pub(super) fn entries<'t>(
        &mut self,
        tree: &'t Tree,
        at: &Place,
        known: Option<&[&str]>,
    ) -> Option<Vec<(&'t str, &'t Tree)>> {
        let Tree::Map(map) = tree else {
            self.wrong(at, "a group of keys", tree);
            return None;
        };
        let mut entries: Vec<(&str, &Tree)> = Vec::new();
        for (key, value) in map {
            let Tree::Text(key) = key else {
                let place = at.key(&key.as_key());
                self.at_key(&place, "is a key that is no text: put it in quotes");
                continue;
            };
            entries.push((key, value));
            if let Some(known) = known.filter(|known| !known.contains(&key.as_str())) {
                let place = at.key(key);
                let words = format!("unknown key `{place}`: {}", instead(key, known));
                self.add(&place, Spot::Key(1), words);
                entries.pop();
            }
        }
        self.report_twins(map.iter().map(|(key, _)| key.as_key()), at);
        Some(entries)
    }

    /// YAML takes the last of several equal keys, or the first, as the program likes that reads it.
    pub(super) fn report_twins(&mut self, keys: impl Iterator<Item = String>, at: &Place) {
        let mut counts = std::collections::HashMap::new();
        for key in keys {
            let count = counts.entry(key.clone()).or_insert(0_usize);
            *count += 1;
            if *count > 1 {
                let place = at.key(&key);
                let words = format!("{place}: is there twice: remove one of them");
                self.add(&place, Spot::Key(*count), words);
            }
        }
    }

    /// Whether there is a fault in a value already: what follows from it is not another fault.
    pub(super) fn has_any_in(&self, place: &Place) -> bool {
        self.found.iter().any(|(known, ..)| known.0.starts_with(&place.0))
    }

    /// How a scalar is written, if it is written without quotes. `None` too if it cannot be found.
    pub(super) fn plain_source(&mut self, place: &Place, spot: Spot) -> Option<String> {
        if self.searches == 0 {
            self.add(place, spot, format!("{place}: must be in quotes: too many values are not in this file"));
            return None;
        }
        self.searches -= 1;
        tree::plain_source(self.text, &tree::locate(self.text, place, spot)?)
    }

    fn add(&mut self, place: &Place, spot: Spot, words: String) {
        if self.found.len() < MOST {
            self.found.push((place.clone(), spot, words));
        } else {
            self.more += 1;
        }
    }

    pub(super) fn into_result<T>(self, value: T) -> Result<T, InvalidRules> {
        if self.found.is_empty() {
            return Ok(value);
        }
        let mut faults: Vec<Fault> = self
            .found
            .into_iter()
            .map(|(place, spot, words)| Fault { at: nearest_place(self.text, place, spot), words })
            .collect();
        faults.sort_by_key(|fault| fault.at);
        if self.more > 0 {
            faults.push(Fault { at: None, words: format!("and {} more", self.more) });
        }
        Err(InvalidRules(faults))
    }
}

/// The place in the text, or that of what it is in.
fn nearest_place(text: &str, mut place: Place, mut spot: Spot) -> Option<(usize, usize)> {
    loop {
        if let Some(found) = tree::locate(text, &place, spot) {
            return Some((found.line(), found.column()));
        }
        place = place.parent()?;
        spot = Spot::Value;
    }
}

fn tag_is_not_ours(tag: &str) -> String {
    let tag = shown(tag);
    match &*tag {
        "secret" => "`!secret` is known to Home Assistant only: write the value itself here".to_owned(),
        "include" | "include_dir_list" | "include_dir_named" | "include_dir_merge_list" | "include_dir_merge_named" => {
            format!("`!{tag}` is known to Home Assistant only: write what the other file holds here")
        }
        _ => format!("`!{tag}` is not known here: remove it"),
    }
}
