//! `/api/rules`: what is in force, by name.

use serde::Serialize;

use crate::model::topic::TopicFilter;
use crate::rules::Rules;

#[derive(Debug, Serialize)]
pub(super) struct InForce<'a> {
    rules: Vec<&'a str>,
    topics: Vec<Topic<'a>>,
    ignored_topics: Vec<&'a str>,
    /// Types of events that are written, besides changes of states.
    events: &'a [String],
}

#[derive(Debug, Serialize)]
struct Topic<'a> {
    name: &'a str,
    topic: &'a str,
}

pub(super) fn in_force(rules: &Rules) -> InForce<'_> {
    InForce {
        rules: rules.rules.iter().map(|rule| &*rule.name).collect(),
        topics: rules.topics.iter().map(|topic| Topic { name: &topic.name, topic: topic.filter.as_str() }).collect(),
        ignored_topics: rules.ignored_topics.iter().map(TopicFilter::as_str).collect(),
        events: &rules.events,
    }
}
