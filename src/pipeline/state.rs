//! What a state tells: a number, a text, or a text that stands for a number.

use std::sync::Arc;

use super::python::number;
use super::words::number_of;
use crate::model::fate::{Filtered, Refused};

/// Why a change becomes no point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoPoint {
    Filtered(Filtered),
    Refused { reason: Refused, rule: Arc<str> },
}

/// What a state tells: a number, a text, or a text that stands for a number.
#[derive(Clone, Copy)]
pub struct State<'a> {
    pub text: Option<&'a str>,
    pub value: Option<f64>,
}

/// Which fields a state makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is asked for by itself")]
pub struct StateFields {
    pub state: bool,
    pub value: bool,
    /// The value is not finite: its field keeps the name from the attributes, and then goes.
    pub omitted: bool,
    /// So is the number that a rule read in the text.
    pub omitted_state: bool,
}

impl<'a> State<'a> {
    /// `numbers`: of texts, in addition to those that everybody knows.
    #[must_use]
    pub fn read(text: &'a str, numbers: &[(String, f64)]) -> Self {
        if let Some(value) = number::parse_float(text) {
            return Self { text: None, value: Some(value) };
        }
        if let Some((_, number)) = numbers.iter().find(|(known, _)| known == text) {
            return Self { text: Some(text), value: Some(*number) };
        }
        Self { text: Some(text), value: number_of(text) }
    }

    #[must_use]
    pub fn fields(self) -> StateFields {
        StateFields {
            state: self.text.is_some(),
            value: self.value.is_some(),
            omitted: self.value.is_some_and(|value| !value.is_finite()),
            omitted_state: false,
        }
    }
}

impl NoPoint {
    #[must_use]
    pub fn refused(reason: Refused, rule: &Arc<str>) -> Self {
        Self::Refused { reason, rule: Arc::clone(rule) }
    }
}

/// Why a state is no value, if it is none.
#[must_use]
pub fn no_value(state: &str) -> Option<Filtered> {
    match state {
        "" => Some(Filtered::Empty),
        "unknown" => Some(Filtered::Unknown),
        "unavailable" => Some(Filtered::Unavailable),
        _ => None,
    }
}
