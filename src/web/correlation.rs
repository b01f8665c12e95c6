//! The id that ties an answer to the log lines about it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use warp::http::{HeaderMap, HeaderName, HeaderValue};

pub(super) const HEADER: HeaderName = HeaderName::from_static("x-correlation-id");

/// What a caller may send as an id: long enough for a UUID and a prefix, short enough for a log line.
const MAX_CHARS: usize = 128;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CorrelationId(String);

/// The caller's id if it is one (letters, digits, `-`, `_`, `.`, `:`), else a new one.
pub(super) fn of(headers: &HeaderMap) -> CorrelationId {
    headers
        .get(HEADER)
        .and_then(|value| value.to_str().ok())
        .filter(|text| (1..=MAX_CHARS).contains(&text.len()) && text.chars().all(is_harmless))
        .map_or_else(fresh, |text| CorrelationId(text.to_owned()))
}

/// No quotes, spaces or control characters: the id stands in log lines as it is.
fn is_harmless(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-_.:".contains(character)
}

fn fresh() -> CorrelationId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    CorrelationId(format!("req-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
}

impl CorrelationId {
    pub(super) fn into_header(self) -> HeaderValue {
        HeaderValue::try_from(self.0).expect("only visible ASCII characters are let in")
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use warp::http::{HeaderMap, HeaderValue};

    use super::{HEADER, of};

    #[test]
    fn what_could_disturb_a_log_line_is_replaced() {
        for (sent, kept) in [("a-1", true), ("", false), ("a b", false), ("a\"b", false), (&"x".repeat(129), false)] {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_str(sent).unwrap());
            assert_eq!(of(&headers).to_string() == sent, kept, "{sent:?}");
        }
    }
}
