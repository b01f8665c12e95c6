//! Everything that is wrong with the options, collected before anybody is told.
//!
//! A fault names the option as the user knows it and says what to do. It never shows the value of a secret or of a URL.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The options cannot be used. `Display` is one line per fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Invalid(Vec<String>);

impl Invalid {
    /// Never empty.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        &self.0
    }
}

#[derive(Default)]
pub(super) struct Faults {
    found: Vec<String>,
    /// Options with a fault already: what follows from a wrong value is not another fault.
    broken: BTreeSet<String>,
    /// Which variable decides an option, for those that the environment decides.
    variables: BTreeMap<String, String>,
}

impl Faults {
    /// From now on faults of this option name the variable too.
    pub(super) fn decided_by(&mut self, key: &str, variable: &str) {
        self.variables.insert(key.to_owned(), variable.to_owned());
    }

    /// A fault that belongs to no option.
    pub(super) fn add(&mut self, fault: String) {
        self.found.push(fault);
    }

    /// One option, one fault of a kind: the first. `problem` continues the sentence that the option's name begins.
    pub(super) fn at(&mut self, key: &str, problem: impl fmt::Display) {
        if self.broken.insert(key.to_owned()) {
            self.also_at(key, problem);
        }
    }

    /// One of possibly many faults of an option that is a list.
    pub(super) fn also_at(&mut self, key: &str, problem: impl fmt::Display) {
        self.found.push(format!("{}: {problem}", self.named(key, key)));
    }

    /// `instead` says what there is. The key comes from the user, with line breaks and whatever else was typed.
    pub(super) fn unknown_option(&mut self, key: &str, instead: &str) {
        let name = format!("unknown option `{}`", shown(key));
        self.found.push(format!("{}: {instead}", self.named(key, &name)));
    }

    /// As [`Faults::at`], for a text that only the variable knows.
    pub(super) fn at_variable(&mut self, variable: &str, key: &str, problem: impl fmt::Display) {
        self.broken.insert(key.to_owned());
        self.found.push(format!("{variable}: {problem}"));
    }

    /// A variable that holds a whole list decides all that is in it.
    fn named(&self, key: &str, name: &str) -> String {
        let section = key.split_once('.').map_or(key, |(section, _)| section);
        match self.variables.get(key).or_else(|| self.variables.get(section)) {
            Some(variable) => format!("{name} (from {variable})"),
            None => name.to_owned(),
        }
    }

    pub(super) fn is_broken(&self, key: &str) -> bool {
        self.broken.contains(key)
    }

    pub(super) fn into_result<T>(self, value: T) -> Result<T, Invalid> {
        if self.found.is_empty() { Ok(value) } else { Err(Invalid(self.found)) }
    }
}

/// Text of the user's as it may stand in a message: one line, and not too long.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 80;
    let mut line: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        line.push('…');
    }
    line
}

/// `: did you mean ..?`, or the names that there are.
pub(crate) fn instead(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("it can be {}", known.join(", ")),
    }
}

pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    const ALIKE: f64 = 0.55;
    // The comparison takes time in proportion to both lengths; no option has a name of this length.
    if word.len() > 100 {
        return None;
    }
    let word = word.to_lowercase();
    let likeness = |name: &str| strsim::normalized_damerau_levenshtein(&word, &name.to_lowercase());
    let best = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= ALIKE).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::{nearest, shown};

    #[test]
    fn the_nearest_name_is_found_or_none() {
        let known = ["url", "database", "password", "username"];
        for (word, expected) in [
            ("databse", Some("database")),
            ("Password", Some("password")),
            ("user_name", Some("username")),
            ("flush", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, &known), expected, "{word}");
        }
        assert_eq!(nearest("url", &[]), None);
    }

    #[test]
    fn shown_text_is_one_short_line() {
        assert_eq!(shown("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(shown(&"x".repeat(81)), format!("{}…", "x".repeat(80)));
    }
}
