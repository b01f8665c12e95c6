//! Which texts are numbers, and which number they are.

/// Python's `float(text)`; `None` where it raises `ValueError`.
///
/// It runs for every text attribute of every event, and nearly all of them are names: the first byte tells.
#[must_use]
pub fn parse_float(text: &str) -> Option<f64> {
    match text.bytes().next()? {
        b'0'..=b'9' | b'+' | b'-' | b'.' | b'i' | b'I' | b'n' | b'N' | b'\t'..=b'\r' | b' ' | 0x80.. => {}
        _ => return None,
    }
    let text = text.trim_matches(is_space);
    if text.is_ascii() {
        return parse_ascii(text);
    }
    let ascii: Option<String> = text
        .chars()
        .map(|c| match decimal(c) {
            Some(digit) => Some(char::from(b'0' + digit)),
            None => c.is_ascii().then_some(c),
        })
        .collect();
    parse_ascii(&ascii?)
}

/// The number in a text that is not a number as a whole, such as 12 in `Hall 12` and 1.25 in `v1.25`.
///
/// The built-in integration takes texts that match `^[^\.]*\d+\.?\d+[^\.]*$` and reads what is left when everything
/// but digits and dots is removed. In other words: a single dot must stand between two digits, and without a dot two
/// digits must be neighbours. `kept` is a buffer; it saves an allocation per call.
#[must_use]
pub fn digits_of(text: &str, kept: &mut String) -> Option<f64> {
    // Most texts are names without a digit, which is seen at a glance.
    if !text.bytes().any(|byte| byte.is_ascii_digit() || !byte.is_ascii()) {
        return None;
    }
    kept.clear();
    let mut dot_seen = false;
    let mut neighbours = false;
    let mut dot_between_digits = false;
    let mut before = Kind::Other;
    for c in text.chars() {
        let kind = match (c, decimal(c)) {
            ('.', _) if dot_seen => return None,
            ('.', _) => {
                dot_seen = true;
                kept.push('.');
                if before == Kind::Digit { Kind::DotAfterDigit } else { Kind::Other }
            }
            (_, Some(digit)) => {
                kept.push(char::from(b'0' + digit));
                neighbours |= before == Kind::Digit;
                dot_between_digits |= before == Kind::DotAfterDigit;
                Kind::Digit
            }
            (_, None) => Kind::Other,
        };
        before = kind;
    }
    let matches = if dot_seen { dot_between_digits } else { neighbours };
    if matches { kept.parse().ok() } else { None }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Digit,
    DotAfterDigit,
    Other,
}

/// Rust and Python read the same numbers, but for the underscores, which Python allows one by one between digits.
fn parse_ascii(text: &str) -> Option<f64> {
    if !text.contains('_') {
        return text.parse().ok();
    }
    let bytes = text.as_bytes();
    let is_digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    for (at, _) in text.match_indices('_') {
        if !(is_digit(at.checked_sub(1)) && is_digit(Some(at + 1))) {
            return None;
        }
    }
    text.replace('_', "").parse().ok()
}

/// What `float()` ignores at both ends. It leaves out U+001C to U+001F, which `str.strip()` takes.
fn is_space(c: char) -> bool {
    matches!(c, '\t'..='\r' | ' ') || (!c.is_ascii() && c.is_whitespace())
}

/// The value of a decimal digit of any script (Unicode category Nd).
fn decimal(c: char) -> Option<u8> {
    if c.is_ascii() {
        return c.is_ascii_digit().then(|| c as u8 - b'0');
    }
    let code = u32::from(c);
    let script = ZEROS.partition_point(|&zero| zero <= code).checked_sub(1)?;
    u8::try_from(code - ZEROS[script]).ok().filter(|digit| *digit < 10)
}

/// The zeros of all scripts but ASCII; the digits up to nine follow each of them. From Python 3.13's `unicodedata`
/// (Unicode 15.1).
#[rustfmt::skip]
const ZEROS: [u32; 67] = [
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0, 0xf20,
    0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0,
    0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0,
    0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x11f50, 0x16a60,
    0x16ac0, 0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e4f0, 0x1e950, 0x1fbf0,
];

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use regex::Regex;

    use super::{decimal, digits_of, parse_float};

    /// `Debug` tells 0.0 from -0.0 and finds one NaN equal to another.
    fn check(text: &str, got: Option<f64>, expected: Option<f64>) {
        assert_eq!(format!("{got:?}"), format!("{expected:?}"), "{text:?}");
    }

    // The expected values of both tables were printed by Python 3.13.
    #[test]
    fn a_text_is_a_number_exactly_if_python_says_so() {
        let table = [
            ("21.5", Some(21.5)),
            (" 21.5\n", Some(21.5)),
            ("\x0b5\x0c", Some(5.0)),
            ("\u{a0}5\u{2003}", Some(5.0)),
            ("\x1c5", None),
            ("٣\x1f", None),
            ("+5", Some(5.0)),
            ("-5", Some(-5.0)),
            ("-0", Some(-0.0)),
            (".5", Some(0.5)),
            ("1.", Some(1.0)),
            ("-.5e-3", Some(-0.0005)),
            ("1e5", Some(100_000.0)),
            ("1E+05", Some(100_000.0)),
            ("1e", None),
            ("1e+", None),
            (".", None),
            ("", None),
            ("+", None),
            (" ", None),
            ("e5", None),
            (".e5", None),
            ("1_000", Some(1000.0)),
            ("1_0.0_1", Some(10.01)),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("1_.5", None),
            ("1._5", None),
            ("1e5_0", Some(1e50)),
            ("1e_5", None),
            ("0x10", None),
            ("1,5", None),
            ("1 2", None),
            ("1\x00", None),
            ("١٢.٥", Some(12.5)),
            ("१_०", Some(10.0)),
            ("५e٣", Some(5000.0)),
            ("²", None),
            ("Ⅷ", None),
            ("21 °C", None),
            ("5%", None),
            ("inf", Some(f64::INFINITY)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("iNfInItY", Some(f64::INFINITY)),
            ("infinit", None),
            ("nan", Some(f64::NAN)),
            ("-NaN", Some(f64::NAN)),
            ("+nan", Some(f64::NAN)),
            ("nan(1)", None),
            ("1e400", Some(f64::INFINITY)),
            ("-1e400", Some(f64::NEG_INFINITY)),
            ("1e-400", Some(0.0)),
            ("00012", Some(12.0)),
            ("Living Room", None),
            ("not_home", None),
            ("in_progress", None),
            ("Öffnen", None),
            ("12345678901234567890123", Some(1.234_567_890_123_456_8e22)),
        ];
        for (text, expected) in table {
            check(text, parse_float(text), expected);
        }
    }

    #[test]
    fn a_text_holds_a_number_exactly_if_the_integration_finds_one() {
        let nines = "9".repeat(400);
        let table = [
            ("Hall 12", Some(12.0)),
            ("Hall 1", None),
            ("1 2", None),
            ("v1.25", Some(1.25)),
            ("v1.2", Some(1.2)),
            ("1.", None),
            ("x.12", None),
            ("12.x", None),
            (".12", None),
            ("1.2.", None),
            ("1.5.2", None),
            ("10.0.0.1", None),
            ("2026-01-01T00:00:00+00:00", Some(2.026_010_1e17)),
            ("[255, 199, 142]", Some(255_199_142.0)),
            ("[28.0, 65.0]", None),
            ("[0.5]", Some(0.5)),
            ("12\n", Some(12.0)),
            ("1.5\n", Some(1.5)),
            ("1\n2", None),
            ("a\n12\nb", Some(12.0)),
            ("", None),
            ("a", None),
            ("None", None),
            ("١٢", Some(12.0)),
            ("Zone ٤٢ north", Some(42.0)),
            ("²²", None),
            ("5 and 1.5", Some(51.5)),
            ("5x.5", None),
            ("1a.5 77", None),
            ("{'a': 10}", Some(10.0)),
            ("1_000 x", Some(1000.0)),
            (&nines, Some(f64::INFINITY)),
        ];
        let mut kept = String::from("left from before");
        for (text, expected) in table {
            check(text, digits_of(text, &mut kept), expected);
        }
    }

    static DIGIT_TAIL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^[^\.]*\d+\.?\d+[^\.]*$").unwrap());
    static NOT_DECIMAL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[^\d.]+").unwrap());

    proptest! {
        #[test]
        fn the_rule_in_words_is_the_regular_expression(text in r"[0-9]{0,3}[a .\n٤]{0,2}[0-9]{0,3}[. ٤x\n]{0,2}[0-9]{0,2}") {
            let mut kept = String::new();
            let found = digits_of(&text, &mut kept);
            prop_assert_eq!(found.is_some(), DIGIT_TAIL.is_match(&text));
            if found.is_some() {
                prop_assert_eq!(found, parse_float(&NOT_DECIMAL.replace_all(&text, "")));
            }
        }

        #[test]
        fn any_text_can_be_asked(text in any::<String>()) {
            let mut kept = String::new();
            let known = text.chars().all(|c| c.is_ascii() || decimal(c).is_some() || !c.is_numeric());
            let found = digits_of(&text, &mut kept);
            prop_assert!(!known || found.is_some() == DIGIT_TAIL.is_match(&text));
            let _ = parse_float(&text);
        }
    }
}
