//! MQTT's topic filters: which topics they match.
//!
//! `+` is one level, `#` at the end is all levels from there on, including none (MQTT 5, section 4.7). A wildcard at the
//! start does not match a topic that begins with `$`.

use std::fmt;
use std::sync::Arc;

/// Mosquitto ends the connection of a client that asks for more.
const MOST_LEVELS: usize = 200;

/// A topic filter that a broker takes. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter(Arc<str>);

/// Why a text is no topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopicFilter {
    #[error("a topic filter has at least one letter")]
    Empty,
    #[error("a topic filter has at most 65535 bytes")]
    TooLong,
    #[error("a topic has at most {MOST_LEVELS} levels")]
    TooDeep,
    #[error("`#` stands alone in the last level, like `home/#`")]
    Hash,
    #[error("`+` stands alone in its level, like `home/+/state`")]
    Plus,
    #[error("no topic has the letter NUL")]
    Nul,
}

impl TopicFilter {
    pub fn parse(text: &str) -> Result<Self, InvalidTopicFilter> {
        if text.is_empty() {
            return Err(InvalidTopicFilter::Empty);
        }
        if text.len() > 65_535 {
            return Err(InvalidTopicFilter::TooLong);
        }
        if text.contains('\0') {
            return Err(InvalidTopicFilter::Nul);
        }
        if text.split('/').count() > MOST_LEVELS {
            return Err(InvalidTopicFilter::TooDeep);
        }
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('#') && (level != "#" || levels.peek().is_some()) {
                return Err(InvalidTopicFilter::Hash);
            }
            if level.contains('+') && level != "+" {
                return Err(InvalidTopicFilter::Plus);
            }
        }
        Ok(Self(text.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        if topic.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.split('/');
        for wanted in self.0.split('/') {
            if wanted == "#" {
                return true;
            }
            match levels.next() {
                Some(level) if wanted == "+" || wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidTopicFilter, MOST_LEVELS, TopicFilter};

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, matching, other) in [
            (
                "sport/tennis/#",
                &["sport/tennis", "sport/tennis/a", "sport/tennis/a/b"][..],
                &["sport", "sport/tennisa"][..],
            ),
            ("sport/+/a", &["sport/x/a", "sport//a"], &["sport/x/y/a", "sport/a", "Sport/x/a"]),
            ("+", &["a", ""], &["a/b", "/a", "$SYS"]),
            ("#", &["a", "a/b", "/"], &["$SYS/broker"]),
            ("$SYS/#", &["$SYS", "$SYS/a"], &["a"]),
            ("/+", &["/a", "/"], &["a"]),
            ("ü b", &["ü b"], &["ü  b"]),
        ] {
            let filter = TopicFilter::parse(filter).unwrap();
            for topic in matching {
                assert!(filter.matches(topic), "{filter} and {topic}");
            }
            for topic in other {
                assert!(!filter.matches(topic), "{filter} and {topic}");
            }
        }
    }

    #[test]
    fn what_no_broker_takes_is_refused() {
        for (text, error) in [
            ("", InvalidTopicFilter::Empty),
            ("a/#/b", InvalidTopicFilter::Hash),
            ("a#", InvalidTopicFilter::Hash),
            ("a+/b", InvalidTopicFilter::Plus),
            ("a\0", InvalidTopicFilter::Nul),
        ] {
            assert_eq!(TopicFilter::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(TopicFilter::parse(&"a".repeat(65_536)), Err(InvalidTopicFilter::TooLong));
        let deep = |levels: usize| TopicFilter::parse(&vec!["a"; levels].join("/"));
        assert!(deep(MOST_LEVELS).is_ok());
        assert_eq!(deep(MOST_LEVELS + 1), Err(InvalidTopicFilter::TooDeep));
    }
}
