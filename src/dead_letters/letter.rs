//! A line that was refused, with all that is needed to understand it and to send it again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::model::event::ContextId;
use crate::model::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// From [`Ids`].
    pub id: String,
    /// When it was refused.
    #[serde(with = "moment")]
    pub at: Timestamp,
    /// The name of the target that refused it.
    pub target: String,
    /// The label of the reason.
    pub reason: String,
    /// What the server said, without the user's data.
    pub words: String,
    /// The batch that it was in, as the log names it.
    pub batch: String,
    /// Home Assistant's `context.id` of the event.
    #[serde(default, with = "context", skip_serializing_if = "Option::is_none")]
    pub context: Option<ContextId>,
    /// When the event happened.
    #[serde(with = "moment")]
    pub time: Timestamp,
    /// One line of line protocol, without its line end.
    pub line: String,
}

/// Makes ids that no other run of the program makes: a number drawn at the start, and a count.
pub struct Ids {
    run: u64,
    next: AtomicU64,
}

impl Ids {
    #[must_use]
    pub fn new() -> Self {
        // The keys of the standard library's hash maps come from the system's source of randomness.
        Self { run: RandomState::new().build_hasher().finish(), next: AtomicU64::new(1) }
    }

    /// Letters, digits and a dash.
    #[must_use]
    pub fn next(&self) -> String {
        format!("{:016x}-{}", self.run, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

impl Default for Ids {
    fn default() -> Self {
        Self::new()
    }
}

/// As [`Timestamp`] prints itself: a date, or microseconds for what no calendar has.
mod moment {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    use crate::model::time::Timestamp;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| D::Error::custom("not a time"))
    }

    fn parse(text: &str) -> Option<Timestamp> {
        if let Some(micros) = text.strip_suffix(" us") {
            return micros.parse().ok().map(Timestamp::from_micros);
        }
        let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
        i64::try_from(nanos.div_euclid(1_000)).ok().map(Timestamp::from_micros)
    }
}

/// What is no context is none: no reason to lose the letter.
mod context {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::model::event::ContextId;

    #[expect(clippy::ref_option, reason = "serde asks for it")]
    pub(super) fn serialize<S: Serializer>(context: &Option<ContextId>, serializer: S) -> Result<S::Ok, S::Error> {
        match context {
            Some(context) => serializer.collect_str(context),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ContextId>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(text.and_then(|text| ContextId::parse(&text)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{DeadLetter, Ids};
    use crate::model::event::ContextId;
    use crate::model::time::Timestamp;

    fn letter(context: Option<&str>, micros: i64) -> DeadLetter {
        DeadLetter {
            id: "1-1".into(),
            at: Timestamp::from_micros(1_795_448_700_000_001),
            target: "influxdb".into(),
            reason: "refused_by_database".into(),
            words: "field type conflict".into(),
            batch: "b-7".into(),
            context: context.map(|text| ContextId::parse(text).unwrap()),
            time: Timestamp::from_micros(micros),
            line: "°C,entity_id=hall value=\"a \\\"quoted\\\" word\" 1".into(),
        }
    }

    #[test]
    fn a_letter_is_one_line_of_json_and_comes_back_as_it_was() {
        for context in [None, Some("01JD5Y0Z3N8Q4T7W1A2B3C4D5E")] {
            for micros in [0, -1, 1_795_448_700_123_456, i64::MIN, i64::MAX] {
                let letter = letter(context, micros);
                let text = serde_json::to_string(&letter).unwrap();
                assert!(!text.contains('\n'), "{text}");
                assert_eq!(serde_json::from_str::<DeadLetter>(&text).unwrap(), letter, "{text}");
            }
        }
        let text = serde_json::to_string(&letter(None, 0)).unwrap();
        assert!(text.contains(r#""at":"2026-11-23T15:45:00.000001Z""#), "{text}");
    }

    #[test]
    fn ids_are_new_in_every_run() {
        let ids: HashSet<String> = (0..10)
            .flat_map(|_| {
                let run = Ids::new();
                (0..10).map(move |_| run.next())
            })
            .collect();
        assert_eq!(ids.len(), 100);
    }
}
