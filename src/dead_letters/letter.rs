//! A line that was refused, with all that is needed to understand it and to send it again; or an event that never became
//! one, with all that is needed to repair the rule.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::model::event::ContextId;
use crate::model::fate::{Reason, Refused};
use crate::model::refused::RefusedEvent;
use crate::model::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// From [`Ids`].
    pub id: String,
    /// When it was refused.
    #[serde(with = "moment")]
    pub at: Timestamp,
    /// The name of the target that refused it; [`NO_TARGET`] if it never came to one.
    pub target: String,
    /// The label of the reason.
    pub reason: String,
    /// What the server said, without the user's data; or what the reason means.
    pub words: String,
    /// The batch that it was in, as the log names it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub batch: String,
    /// The rule that wanted a point of an event, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Home Assistant's `context.id` of the event.
    #[serde(default, with = "context", skip_serializing_if = "Option::is_none")]
    pub context: Option<ContextId>,
    /// When the event happened.
    #[serde(with = "moment")]
    pub time: Timestamp,
    /// One line of line protocol, without its line end. Empty: there is only the event.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub line: String,
    /// An event that never became a line: its entity or topic, and what it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
}

/// Stands where a target is named, for what never became a line.
pub const NO_TARGET: &str = "-";

impl DeadLetter {
    /// Whether there is a line that can be sent again.
    #[must_use]
    pub fn has_line(&self) -> bool {
        !self.line.is_empty()
    }

    /// Of an event that was refused at this time.
    #[must_use]
    pub fn of_event(event: RefusedEvent, id: String, at: Timestamp) -> Self {
        Self {
            id,
            at,
            target: NO_TARGET.to_owned(),
            reason: event.reason.label().to_owned(),
            words: words(event.reason).to_owned(),
            batch: String::new(),
            rule: event.rule.map(|name| name.to_string()),
            context: event.context,
            time: event.time,
            line: String::new(),
            event: Some(event.what),
        }
    }
}

/// The reason in words.
fn words(reason: Refused) -> &'static str {
    match reason {
        Refused::NoFields => "no field is left that can be written",
        Refused::NoMeasurement => "there is no name for the measurement",
        Refused::KeyTooLong => "measurement, tags and a field's name are longer together than a database takes",
        Refused::TimeOutOfRange => "the time is outside of the years that a database knows",
        Refused::NotJson => "the payload is not the JSON that the rule expects",
        Refused::NotText => "the payload is not text",
        Refused::PayloadTooLarge => "the payload is larger than what is looked at",
        Refused::NoTime => "the payload has no time where the rule says",
        Refused::WrongType => "a value is not of the type that the rule says",
    }
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
    use crate::model::fate::Refused;
    use crate::model::refused::RefusedEvent;
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
            rule: None,
            event: None,
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
    fn an_event_without_a_line_comes_back_as_it_was() {
        let event = RefusedEvent {
            time: Timestamp::from_micros(1),
            context: ContextId::parse("01JD5Y0Z3N8Q4T7W1A2B3C4D5E"),
            rule: Some("Power in kW".into()),
            reason: Refused::WrongType,
            what: "sensor.oven {\"state\":\"hot\"}".into(),
        };
        let letter = DeadLetter::of_event(event, "1-1".into(), Timestamp::from_micros(2));
        assert!(!letter.has_line());
        assert_eq!((letter.rule.as_deref(), &*letter.reason), (Some("Power in kW"), "wrong_type"));
        let text = serde_json::to_string(&letter).unwrap();
        assert!(!text.contains("\"line\"") && !text.contains("\"batch\""), "{text}");
        assert!(text.contains(r#""target":"-","reason":"wrong_type""#), "{text}");
        assert_eq!(serde_json::from_str::<DeadLetter>(&text).unwrap(), letter);
    }

    /// As the program before this one wrote it.
    #[test]
    fn a_letter_of_before_there_were_rules_is_read() {
        let text = r#"{"id":"a-1","at":"2026-11-23T15:45:00.000001Z","target":"influxdb","reason":"unparsable",
            "words":"no","batch":"7","time":"1970-01-01T00:00:00.000000Z","line":"m v=1 0"}"#;
        let letter: DeadLetter = serde_json::from_str(text).unwrap();
        assert!(letter.has_line());
        assert_eq!((&*letter.line, letter.rule, letter.event), ("m v=1 0", None, None));
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
