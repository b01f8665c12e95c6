//! What would become of a state under these rules: a line, or the reason why there is none.

use std::fmt::Write;
use std::sync::Arc;

use serde::Serialize;

use crate::ingest::hass::protocol::{InvalidState, parse_state};
use crate::line::encode::encode;
use crate::model::event::{Event, StateChange};
use crate::model::fate::Reason;
use crate::model::registries::Registries;
use crate::model::time::Timestamp;
use crate::pipeline::treatment::Decision;
use crate::pipeline::{Explanation, Fate, Pipeline};
use crate::rules::Rules;

/// One of `line`, `filtered` and `refused` is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Told {
    line: Option<String>,
    filtered: Option<&'static str>,
    refused: Option<&'static str>,
    /// The name of the rule that refused it, or that changed it last.
    rule: Option<String>,
    explanation: Vec<Because>,
}

/// One thing that was decided, and what decided it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Because {
    decided: &'static str,
    by: String,
}

impl Told {
    /// Of a state in JSON, as Home Assistant gives it.
    pub(super) fn of_state(
        rules: &Arc<Rules>,
        registries: &Arc<Registries>,
        json: &str,
        now: Timestamp,
    ) -> Result<Self, InvalidState> {
        Ok(Self::of(rules, registries, parse_state(json, now)?, now))
    }

    fn of(rules: &Arc<Rules>, registries: &Arc<Registries>, change: StateChange, now: Timestamp) -> Self {
        // A pipeline of its own for each: a state that is asked about twice is no duplicate.
        let mut pipeline = Pipeline::new(rules);
        // Nobody writes down what this one learns.
        let _ = pipeline.learn(Arc::clone(registries), now);
        let explanation = because(&pipeline.explain(&change));
        let event = Event::Changed(change);
        let told = Self { line: None, filtered: None, refused: None, rule: None, explanation };
        match pipeline.handle(&event, now) {
            Fate::Filtered(reason) => Self { filtered: Some(reason.label()), ..told },
            Fate::Duplicate | Fate::Waiting => unreachable!("a fresh pipeline has seen nothing before"),
            Fate::Refused { reason, rule } => Self { refused: Some(reason.label()), rule: named(rule), ..told },
            Fate::Point { point, rule, .. } => {
                let rule = named(rule);
                let mut bytes = Vec::new();
                match encode(point, &mut bytes) {
                    Ok(_) => {
                        let line = String::from_utf8(bytes).expect("a line is made of text");
                        Self { line: Some(line), rule, ..told }
                    }
                    Err(reason) => Self { refused: Some(reason.label()), rule, ..told },
                }
            }
        }
    }

    /// As it stands in a pipe: one line, and comments.
    pub(super) fn text(&self, explain: bool) -> String {
        let mut text = match (&self.line, self.filtered, self.refused) {
            (Some(line), ..) => line.clone(),
            (None, Some(reason), _) => format!("# filtered: {reason}"),
            (None, None, reason) => format!("# refused: {}", reason.unwrap_or_default()),
        };
        if explain {
            for Because { decided, by } in &self.explanation {
                write!(text, "\n# {decided}: {by}").expect("writing to a string cannot fail");
            }
        }
        text
    }
}

fn named(rule: Option<Arc<str>>) -> Option<String> {
    rule.map(|name| name.to_string())
}

/// The one place that knows what an explanation holds.
fn because(explanation: &Explanation) -> Vec<Because> {
    let mut reasons = vec![
        Because { decided: "filter", by: explanation.filter.because.to_owned() },
        Because { decided: "measurement", by: explanation.measurement_from.to_owned() },
    ];
    let decisions = explanation.decisions.iter();
    reasons.extend(decisions.map(|Decision { what, by }| Because { decided: what, by: format!("rule {by}") }));
    reasons.extend(explanation.unit.iter().map(|why| Because { decided: "unit", by: why.clone() }));
    reasons
}
