//! What to ask the broker for, from the topics of the rules.
//!
//! A filter that lies within another one is not asked for: the broker would send two copies of what both match.

use std::collections::BTreeMap;

use crate::model::topic::TopicFilter;
use crate::rules::Topic;

/// The filters that are asked for, each with whether messages are wanted that the broker kept from before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted(BTreeMap<TopicFilter, bool>);

/// One request to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Subscribe { filter: TopicFilter, retained: Retained },
    Unsubscribe(TopicFilter),
}

/// Which of the messages that it kept the broker is to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retained {
    None,
    /// All, if it does not know the subscription yet.
    IfNew,
    /// All, though it may know the subscription.
    All,
}

impl Wanted {
    #[must_use]
    pub fn of(topics: &[Topic]) -> Self {
        let mut all: BTreeMap<TopicFilter, bool> = BTreeMap::new();
        for topic in topics {
            *all.entry(topic.filter.clone()).or_default() |= topic.retained;
        }
        let is_within_another = |filter: &TopicFilter, retained: bool| {
            all.iter().any(|(other, other_retained)| {
                other != filter && (*other_retained || !retained) && covers(other.as_str(), filter.as_str())
            })
        };
        Self(all.iter().filter(|(filter, retained)| !is_within_another(filter, **retained)).map(cloned).collect())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn filters(&self) -> impl Iterator<Item = &TopicFilter> {
        self.0.keys()
    }

    /// For a connection that has just begun. `earlier`: what was asked for before, which the broker may still know.
    #[must_use]
    pub fn from_the_start<'a>(&self, earlier: impl IntoIterator<Item = &'a TopicFilter>) -> Vec<Request> {
        let gone = earlier.into_iter().filter(|filter| !self.0.contains_key(filter));
        let mut requests: Vec<Request> = gone.cloned().map(Request::Unsubscribe).collect();
        requests.extend(self.0.iter().map(|(filter, retained)| Request::Subscribe {
            filter: filter.clone(),
            retained: if *retained { Retained::IfNew } else { Retained::None },
        }));
        requests
    }

    /// From these to those. What comes is asked for before what goes is given up: it may be within it.
    #[must_use]
    pub fn change_to(&self, other: &Self) -> Vec<Request> {
        let mut requests = Vec::new();
        for (filter, retained) in &other.0 {
            let retained = match (self.0.get(filter), retained) {
                (Some(before), now) if before == now => continue,
                (Some(_), true) => Retained::All,
                (None, true) => Retained::IfNew,
                (_, false) => Retained::None,
            };
            requests.push(Request::Subscribe { filter: filter.clone(), retained });
        }
        let gone = self.0.keys().filter(|filter| !other.0.contains_key(filter));
        requests.extend(gone.cloned().map(Request::Unsubscribe));
        requests
    }
}

fn cloned((filter, retained): (&TopicFilter, &bool)) -> (TopicFilter, bool) {
    (filter.clone(), *retained)
}

/// Whether each topic that `inner` matches is one that `outer` matches.
fn covers(outer: &str, inner: &str) -> bool {
    if inner.starts_with('$') && outer.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = inner.split('/');
    for wanted in outer.split('/') {
        if wanted == "#" {
            return true;
        }
        match levels.next() {
            Some("#") | None => return false,
            Some(level) if wanted == "+" || wanted == level => {}
            Some(_) => return false,
        }
    }
    levels.next().is_none()
}

/// A number for the broker to send along with each message of this subscription: the same in every run, so that a message
/// that waited through a restart bears it too.
#[must_use]
pub fn identifier(filter: &TopicFilter) -> u32 {
    const MOST: u32 = 268_435_455;
    crc32fast::hash(filter.as_str().as_bytes()) % MOST + 1
}

#[cfg(test)]
mod tests {
    use super::{Request, Retained, Wanted, covers, identifier};
    use crate::model::topic::TopicFilter;
    use crate::rules::{Meaning, Topic};

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    fn wanted(topics: &[(&str, bool)]) -> Wanted {
        let topic = |&(text, retained): &(&str, bool)| Topic {
            name: text.into(),
            filter: filter(text),
            retained,
            meaning: Meaning::StateStream,
        };
        Wanted::of(&topics.iter().map(topic).collect::<Vec<_>>())
    }

    fn subscribe(text: &str, retained: Retained) -> Request {
        Request::Subscribe { filter: filter(text), retained }
    }

    fn names(wanted: &Wanted) -> Vec<&str> {
        wanted.filters().map(TopicFilter::as_str).collect()
    }

    #[test]
    fn a_filter_within_another_one_is_not_asked_for() {
        assert_eq!(names(&wanted(&[("a/#", false), ("a/+/b", false), ("c", false), ("a", false)])), ["a/#", "c"]);
        assert_eq!(
            names(&wanted(&[("a/#", false), ("a/b", true)])),
            ["a/#", "a/b"],
            "its retained messages are wanted"
        );
        assert_eq!(names(&wanted(&[("a/#", true), ("a/b", true), ("a/b", false)])), ["a/#"]);
        assert_eq!(names(&wanted(&[("+/b", false), ("a/+", false)])), ["+/b", "a/+"]);
    }

    #[test]
    fn one_filter_covers_another_if_it_matches_all_that_the_other_does() {
        for (outer, inner, expected) in [
            ("#", "a/b", true),
            ("#", "#", true),
            ("#", "$SYS/#", false),
            ("+/a", "$SYS/a", false),
            ("a/#", "a", true),
            ("a/#", "a/+/#", true),
            ("a/+", "a/#", false),
            ("a/+", "a/+", true),
            ("a/b", "a/+", false),
            ("a/+/c", "a/b/c", true),
            ("a/+", "a/b/c", false),
            ("a/b/c", "a/b", false),
        ] {
            assert_eq!(covers(outer, inner), expected, "{outer} and {inner}");
        }
    }

    #[test]
    fn a_connection_begins_by_giving_up_what_is_not_wanted_any_more() {
        let wanted = wanted(&[("a", false), ("b", true)]);
        let earlier = [filter("a"), filter("old")];
        let expected =
            [Request::Unsubscribe(filter("old")), subscribe("a", Retained::None), subscribe("b", Retained::IfNew)];
        assert_eq!(wanted.from_the_start(&earlier), expected);
    }

    #[test]
    fn a_change_asks_for_the_difference_and_for_retained_messages_that_were_not_wanted_before() {
        let before = wanted(&[("same", true), ("turned_on", false), ("turned_off", true), ("gone", false)]);
        let after = wanted(&[("same", true), ("turned_on", true), ("turned_off", false), ("new", true)]);
        let expected = [
            subscribe("new", Retained::IfNew),
            subscribe("turned_off", Retained::None),
            subscribe("turned_on", Retained::All),
            Request::Unsubscribe(filter("gone")),
        ];
        assert_eq!(before.change_to(&after), expected);
        assert_eq!(after.change_to(&after), []);
    }

    #[test]
    fn an_identifier_is_one_that_mqtt_allows_and_stays() {
        assert_eq!(identifier(&filter("a/#")), identifier(&filter("a/#")));
        assert_ne!(identifier(&filter("a/#")), identifier(&filter("b/#")));
        for number in 0..1_000 {
            assert!((1..=268_435_455).contains(&identifier(&filter(&format!("t{number}")))));
        }
    }
}
