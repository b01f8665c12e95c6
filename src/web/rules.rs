//! `/api/rules`: what is in force, by name; whether the file counts, and what it says in vain.

use serde::Serialize;

use crate::model::topic::TopicFilter;
use crate::rules::Rules;
use crate::status::snapshot::Snapshot;

#[derive(Debug, Serialize)]
pub(super) struct InForce<'a> {
    file: &'a str,
    /// Whether the file as it is now counts; if not, those from before do.
    valid: bool,
    since: String,
    /// Why it does not.
    error: Option<&'a str>,
    /// What works and may not be meant so.
    warnings: Vec<&'a str>,
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

/// `seen` is of this moment, or a little older than `rules`.
pub(super) fn in_force<'a>(rules: &'a Rules, seen: &'a Snapshot) -> InForce<'a> {
    InForce {
        file: &seen.rules.file,
        valid: seen.rules.valid,
        since: seen.rules.since.to_string(),
        error: seen.rules.error.as_deref(),
        warnings: seen.rules.warnings.iter().chain(&seen.unmatched).map(String::as_str).collect(),
        rules: rules.rules.iter().map(|rule| &*rule.name).collect(),
        topics: rules.topics.iter().map(|topic| Topic { name: &topic.name, topic: topic.filter.as_str() }).collect(),
        ignored_topics: rules.ignored_topics.iter().map(TopicFilter::as_str).collect(),
        events: &rules.events,
    }
}
