//! How a value looks as text, and what is one line.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::line::number::write_repr;
use crate::model::value::Value;

/// Appends Python's `str(value)`.
pub fn write_str(value: &Value, out: &mut String) {
    match value {
        Value::Text(text) => out.push_str(text),
        other => write_value_repr(other, out),
    }
}

/// Appends Python's `repr(number)`: `28.0`, `1e+16`, `inf`.
pub fn write_float(number: f64, out: &mut String) {
    if number.is_nan() {
        return out.push_str("nan");
    }
    if number.is_infinite() {
        return out.push_str(if number > 0.0 { "inf" } else { "-inf" });
    }
    let mut digits = Vec::with_capacity(32);
    write_repr(number, &mut digits);
    out.push_str(std::str::from_utf8(&digits).expect("a number is written in ASCII"));
}

/// Python's `" ".join(text.splitlines())`.
#[must_use]
pub fn join_lines(text: &str) -> Cow<'_, str> {
    // Nearly every text is plain ASCII, which is seen at a glance.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    let Some(first) = text.find(is_line_break) else {
        return Cow::Borrowed(text);
    };
    let mut joined = String::with_capacity(text.len());
    let (mut line, mut rest) = text.split_at(first);
    loop {
        joined.push_str(line);
        let mut after = rest.chars();
        if after.next() == Some('\r') && rest.starts_with("\r\n") {
            after.next();
        }
        rest = after.as_str();
        // A break at the very end ends the last line and opens no new one.
        if rest.is_empty() {
            return Cow::Owned(joined);
        }
        joined.push(' ');
        (line, rest) = rest.split_at(rest.find(is_line_break).unwrap_or(rest.len()));
    }
}

fn is_line_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn write_value_repr(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(number) => write(out, format_args!("{number}")),
        Value::UInt(number) => write(out, format_args!("{number}")),
        Value::Float(number) => write_float(*number, out),
        Value::Text(text) => write_quoted(text, out),
        Value::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                separate(at, out);
                write_value_repr(item, out);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (at, (key, item)) in entries.iter().enumerate() {
                separate(at, out);
                write_quoted(key, out);
                out.push_str(": ");
                write_value_repr(item, out);
            }
            out.push('}');
        }
    }
}

fn separate(at: usize, out: &mut String) {
    if at > 0 {
        out.push_str(", ");
    }
}

/// Python's `repr` of a `str`.
fn write_quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if c == quote => {
                out.push('\\');
                out.push(quote);
            }
            ' '..='~' => out.push(c),
            _ if is_printable(c) => out.push(c),
            _ => match u32::from(c) {
                code @ ..=0xff => write(out, format_args!("\\x{code:02x}")),
                code @ ..=0xffff => write(out, format_args!("\\u{code:04x}")),
                code => write(out, format_args!("\\U{code:08x}")),
            },
        }
    }
    out.push(quote);
}

/// Python's `str.isprintable` for a character beyond ASCII.
///
/// `escape_debug` takes the same Unicode categories for unprintable (other, and separators but the space), which saves
/// a table of 700 ranges. Behind another character it judges a combining mark like any other. The two differ only in
/// characters that the one's version of Unicode knows and the other's does not yet.
fn is_printable(c: char) -> bool {
    let mut pair = [b'x'; 5];
    let end = 1 + c.encode_utf8(&mut pair[1..]).len();
    let pair = std::str::from_utf8(&pair[..end]).expect("an x and a character");
    !c.is_ascii() && pair.escape_debug().count() == 2
}

fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes any text");
}

#[cfg(test)]
mod tests {
    use super::{join_lines, write_float, write_str};
    use crate::model::value::Value;

    // The expected values of all tables were printed by Python 3.13.
    #[test]
    fn lines_are_joined_where_python_splits_them() {
        let table = [
            ("plain", "plain"),
            ("", ""),
            ("a\nb", "a b"),
            ("a\r\nb", "a b"),
            ("a\n\rb", "a  b"),
            ("a\r\n\r\nb", "a  b"),
            ("a\n", "a"),
            ("a\r", "a"),
            ("a\n\n", "a "),
            ("\n", ""),
            ("\na", " a"),
            ("a\x0bb\x0cc", "a b c"),
            ("a\x1cb\x1dc\x1ed\x1fe", "a b c d\x1fe"),
            ("a\u{85}b\u{2028}c\u{2029}d", "a b c d"),
            ("a\tb", "a\tb"),
            ("ä\nö", "ä ö"),
        ];
        for (text, expected) in table {
            assert_eq!(join_lines(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_float_looks_as_python_prints_it() {
        let table = [
            (28.0, "28.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (123_456_789_012_345.0, "123456789012345.0"),
            (1.234_567_890_123_456_8e16, "1.2345678901234568e+16"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (0.000_12, "0.00012"),
            (1.5e-7, "1.5e-07"),
            (-0.0, "-0.0"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (1e22, "1e+22"),
            (1.0 / 3.0, "0.3333333333333333"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ];
        for (number, expected) in table {
            let mut out = String::new();
            write_float(number, &mut out);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn a_text_in_a_list_is_quoted_as_python_does() {
        let table = [
            ("a", "'a'"),
            ("it's", "\"it's\""),
            ("say \"x\"", "'say \"x\"'"),
            ("it's \"x\"", "'it\\'s \"x\"'"),
            ("a\\b", "'a\\\\b'"),
            ("\n\r\t", "'\\n\\r\\t'"),
            ("\x00\x1b\x7f", "'\\x00\\x1b\\x7f'"),
            ("\u{85}\u{a0}\u{ad}", "'\\x85\\xa0\\xad'"),
            ("\u{200b}\u{2028}\u{3000}\u{feff}", "'\\u200b\\u2028\\u3000\\ufeff'"),
            ("ä°€", "'ä°€'"),
            ("e\u{301}", "'e\u{301}'"),
            ("\u{301}", "'\u{301}'"),
            ("😀", "'😀'"),
            ("\u{e0001}", "'\\U000e0001'"),
            ("\u{e000}", "'\\ue000'"),
            ("\u{378}", "'\\u0378'"),
            ("\u{10ffff}", "'\\U0010ffff'"),
            (" ", "' '"),
        ];
        for (text, expected) in table {
            check(&Value::List([Value::Text(text.into())].into()), &format!("[{expected}]"));
            check(&Value::Text(text.into()), text);
        }
    }

    #[test]
    fn values_look_as_python_prints_them() {
        check(&Value::Null, "None");
        check(&Value::Bool(true), "True");
        check(&Value::Bool(false), "False");
        check(&Value::Int(-7), "-7");
        check(&Value::UInt(u64::MAX), "18446744073709551615");
        check(&Value::Float(28.0), "28.0");
        check(&Value::List([].into()), "[]");
        check(&Value::Map([].into()), "{}");
        let inner = Value::List([Value::Int(1), Value::Null].into());
        check(
            &Value::Map([("b".into(), inner), ("a".into(), Value::Bool(true))].into()),
            "{'b': [1, None], 'a': True}",
        );
    }

    fn check(value: &Value, expected: &str) {
        let mut out = String::new();
        write_str(value, &mut out);
        assert_eq!(out, expected);
    }
}
