//! What a server said, in whatever form it says things.

use serde::Deserialize;

use super::Dialect;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub dialect: Dialect,
    pub status: u16,
    /// The header `Retry-After`.
    pub retry_after: Option<String>,
    /// The first 64 KiB.
    pub body: Vec<u8>,
}

/// One line that InfluxDB 3 names. Its `original_line` is not used: after a line end inside a text it is another line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NamedLine {
    /// Counted from 1.
    pub line_number: usize,
    #[serde(default)]
    pub error_message: String,
}

/// `data` of an answer of InfluxDB 3.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum NamedLines {
    /// All lines that were refused; the others were stored.
    All(Vec<NamedLine>),
    /// The first of them; nothing was stored.
    First(NamedLine),
}

/// The longest text that is shown.
const SHOWN_CHARS: usize = 300;

impl Reply {
    /// The server's message, in full. Empty if there is none.
    #[must_use]
    pub fn message(&self) -> String {
        // InfluxDB 1 and 3 say `error`. InfluxDB 2 says `message`, and may have an `error` beside it that says less.
        #[derive(Deserialize)]
        struct Json {
            message: Option<String>,
            error: Option<String>,
        }
        let json = serde_json::from_slice::<Json>(&self.body).ok();
        json.and_then(|json| json.message.or(json.error))
            .unwrap_or_else(|| String::from_utf8_lossy(&self.body).trim().to_owned())
    }

    #[must_use]
    pub fn named_lines(&self) -> Option<NamedLines> {
        #[derive(Deserialize)]
        struct Json {
            data: NamedLines,
        }
        serde_json::from_slice::<Json>(&self.body).ok().map(|json| json.data)
    }

    /// A web page: something else than the database answered.
    #[must_use]
    pub fn is_page(&self) -> bool {
        self.body.trim_ascii_start().starts_with(b"<")
    }

    /// JSON without its end: more than we read of an answer. It may hold anything of the user's.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.body.trim_ascii_start().starts_with(b"{")
            && serde_json::from_slice::<serde::de::IgnoredAny>(&self.body).is_err()
    }

    /// The message for the log and the panel.
    #[must_use]
    pub fn words(&self) -> String {
        if self.is_page() {
            "a web page".to_owned()
        } else if self.is_torn() {
            "an answer too long to read".to_owned()
        } else {
            for_people(&self.message())
        }
    }
}

/// One line, short, and without the lines that a server quotes: they are the user's data. Without the count at its end,
/// too: the same complaint has the same words.
#[must_use]
pub fn for_people(message: &str) -> String {
    let mut shown = String::new();
    let mut rest = message.rfind(" dropped=").map_or(message, |end| &message[..end]);
    while let Some(quote) = next_quote(rest) {
        shown.push_str(&rest[..quote]);
        shown.push_str("...");
        rest = &rest[quote..];
        // A quoted line may hold what ends a quote; the last end before the next quote is the true one.
        let here = &rest[..next_quote(rest).unwrap_or(rest.len())];
        rest = here.rfind("': ").map_or(&rest[here.len()..], |end| &rest[end..]);
    }
    shown.push_str(rest);
    let one_line = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    match one_line.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{} ...", &one_line[..end]),
        None => one_line,
    }
}

/// Where the next piece of a line begins. InfluxDB 1 and 2 quote the whole line, or name the series of points that are
/// too old; InfluxDB 3 quotes what it could not read.
fn next_quote(text: &str) -> Option<usize> {
    ["unable to parse '", "trailing content: '", " - oldest point "]
        .iter()
        .filter_map(|mark| Some(text.find(mark)? + mark.len()))
        .min()
}

#[cfg(test)]
mod tests {
    use super::{NamedLine, NamedLines, Reply};
    use crate::influx::Dialect;

    fn reply(body: &str) -> Reply {
        Reply { dialect: Dialect::V1, status: 400, retry_after: None, body: body.into() }
    }

    #[test]
    fn a_message_is_found_in_every_form_of_body() {
        let table = [
            (r#"{"error":"database not found: \"x\""}"#, "database not found: \"x\""),
            (r#"{"code":"invalid","message":"no points"}"#, "no points"),
            (r#"{"code":"invalid","message":"no points","error":"x"}"#, "no points"),
            (
                r#"{"error":"partial write of line protocol occurred","data":[]}"#,
                "partial write of line protocol occurred",
            ),
            ("404 page not found\n", "404 page not found"),
            ("", ""),
            (r#"{"error":"cut o"#, r#"{"error":"cut o"#),
        ];
        for (body, message) in table {
            assert_eq!(reply(body).message(), message);
        }
        assert_eq!(reply("\n<html><title>502</title>").words(), "a web page");
        let cut = r#"{"error":"partial write of line protocol occurred","data":[{"original_line":"secret"#;
        assert_eq!(reply(cut).words(), "an answer too long to read");
    }

    #[test]
    fn the_lines_that_version_3_names_are_read() {
        let line = |line_number, message: &str| NamedLine { line_number, error_message: message.into() };
        let all =
            r#"{"error":"e","data":[{"original_line":"x","line_number":2,"error_message":"bad"},{"line_number":7}]}"#;
        assert_eq!(reply(all).named_lines(), Some(NamedLines::All(vec![line(2, "bad"), line(7, "")])));
        let first = r#"{"error":"e","data":{"original_line":"x","line_number":2,"error_message":"bad"}}"#;
        assert_eq!(reply(first).named_lines(), Some(NamedLines::First(line(2, "bad"))));
        for none in ["", "{}", r#"{"data":null}"#, r#"{"data":[{"line_number":-1}]}"#] {
            assert_eq!(reply(none).named_lines(), None, "{none}");
        }
    }

    #[test]
    fn what_is_shown_holds_no_data_of_the_user() {
        let shown = |message: &str| super::for_people(message);
        let quoted = "partial write: unable to parse 'm v=\"it's': secret\"': invalid number\nunable to parse 'secret': x dropped=0";
        assert!(!shown(quoted).contains("secret"), "{}", shown(quoted));
        assert!(shown(quoted).contains("invalid number"));
        assert_eq!(shown("unable to parse 'cut off secret"), "unable to parse '...");
        assert_eq!(
            shown("dropped 1 points outside retention policy - oldest point secret at 0"),
            "dropped 1 points outside retention policy - oldest point ..."
        );
        assert_eq!(shown("a\n\tb  c"), "a b c");
        assert!(shown(&"ä".repeat(1_000)).chars().count() < 310);
    }
}
