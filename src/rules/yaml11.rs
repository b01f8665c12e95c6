//! What Home Assistant's YAML makes of a word without quotes. It is version 1.1, where `yes` is a truth value, `010` is 8 and
//! `12:30:45` is a number; ours is version 1.2. And what Python then makes of it as text.

use crate::pipeline::python::text::write_float;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Word {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text,
}

/// `word` stands in the file without quotes.
pub(super) fn read(word: &str) -> Word {
    match word {
        "" | "~" | "null" | "Null" | "NULL" => Word::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Word::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Word::Bool(false),
        _ => integer(word).map(Word::Integer).or_else(|| float(word).map(Word::Float)).unwrap_or(Word::Text),
    }
}

/// As Python's `str()` writes it. `None`: it is no value.
pub(super) fn python_text(word: &str) -> Option<String> {
    match read(word) {
        Word::Null => None,
        Word::Bool(true) => Some("True".to_owned()),
        Word::Bool(false) => Some("False".to_owned()),
        Word::Integer(number) => Some(number.to_string()),
        Word::Float(number) => {
            let mut text = String::new();
            write_float(number, &mut text);
            Some(text)
        }
        Word::Text => Some(word.to_owned()),
    }
}

fn signed(word: &str) -> (i128, &str) {
    match word.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, word.strip_prefix('+').unwrap_or(word)),
    }
}

fn integer(word: &str) -> Option<i128> {
    let (sign, digits) = signed(word);
    let plain = digits.replace('_', "");
    let consists_of =
        |text: &str, letters: fn(u8) -> bool| !text.is_empty() && text.bytes().all(|b| b == b'_' || letters(b));
    let number = if let Some(rest) = digits.strip_prefix("0b") {
        consists_of(rest, |b| matches!(b, b'0' | b'1')).then(|| i128::from_str_radix(&plain[2..], 2).ok())?
    } else if let Some(rest) = digits.strip_prefix("0x") {
        consists_of(rest, |b| b.is_ascii_hexdigit()).then(|| i128::from_str_radix(&plain[2..], 16).ok())?
    } else if plain == "0" && digits.starts_with('0') {
        Some(0)
    } else if digits.starts_with('0') {
        consists_of(digits, |b| matches!(b, b'0'..=b'7')).then(|| i128::from_str_radix(&plain, 8).ok())?
    } else if digits.starts_with(|first: char| first.is_ascii_digit()) {
        let (first, parts) = match digits.split_once(':') {
            Some((first, parts)) => (first, Some(parts)),
            None => (digits, None),
        };
        if !consists_of(first, |b| b.is_ascii_digit()) {
            return None;
        }
        let first = first.replace('_', "").parse().ok()?;
        parts.map_or(Some(first), |parts| {
            parts.split(':').try_fold(first, |sum: i128, part| sum.checked_mul(60)?.checked_add(sixtieth(part)?))
        })
    } else {
        None
    };
    number.map(|number: i128| sign * number)
}

/// One or two digits, below 60.
fn sixtieth(part: &str) -> Option<i128> {
    let fits = matches!(part.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']);
    fits.then(|| part.parse().ok())?
}

fn float(word: &str) -> Option<f64> {
    let (sign, digits) = signed(word);
    #[expect(clippy::cast_precision_loss, reason = "it is 1 or -1")]
    let sign = sign as f64;
    match (digits, word) {
        (".inf" | ".Inf" | ".INF", _) => return Some(sign * f64::INFINITY),
        (_, ".nan" | ".NaN" | ".NAN") => return Some(f64::NAN),
        _ => {}
    }
    let (whole, after) = digits.split_once('.')?;
    let is_number = |text: &str| text.bytes().all(|b| b == b'_' || b.is_ascii_digit());
    let (fraction, exponent) = match after.find(['e', 'E']) {
        Some(at) => (&after[..at], Some(&after[at + 1..])),
        None => (after, None),
    };
    // The sign of an exponent is not optional.
    let exponent_fits = exponent.is_none_or(|exponent| {
        exponent
            .strip_prefix(['+', '-'])
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
    });
    if !is_number(fraction) || !exponent_fits {
        return None;
    }
    if let Some((first, parts)) = whole.split_once(':') {
        let mut number: f64 =
            Some(first).filter(|first| starts_with_digit(first) && is_number(first))?.replace('_', "").parse().ok()?;
        for part in parts.split(':') {
            #[expect(clippy::cast_precision_loss, reason = "it is below 60")]
            let part = sixtieth(part)? as f64;
            number = number * 60.0 + part;
        }
        let fraction: f64 = format!("0.{}", fraction.replace('_', "")).parse().ok()?;
        return exponent.is_none().then_some(sign * (number + fraction));
    }
    let begins_well = if whole.is_empty() {
        // Only the second form has no digit before the dot, and it takes no sign.
        digits == word && starts_with_digit(fraction)
    } else {
        starts_with_digit(whole) && is_number(whole)
    };
    if !begins_well {
        return None;
    }
    digits.replace('_', "").parse::<f64>().ok().map(|number| sign * number)
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::python_text;

    #[test]
    fn words_are_read_as_python_reads_them() {
        // Each row was put to Home Assistant's own loader, and `str()`.
        for (word, expected) in [
            ("yes", "True"),
            ("Off", "False"),
            ("TRUE", "True"),
            ("y", "y"),
            ("oN", "oN"),
            ("5", "5"),
            ("+5", "5"),
            ("-0", "0"),
            ("010", "8"),
            ("-010", "-8"),
            ("08", "08"),
            ("0o10", "0o10"),
            ("0x1F", "31"),
            ("0b11", "3"),
            ("1_000", "1000"),
            ("1__0_", "10"),
            ("12:30:45", "45045"),
            ("-1:30", "-90"),
            ("1:60", "1:60"),
            ("0:30", "0:30"),
            ("1.0", "1.0"),
            ("1.10", "1.1"),
            ("1.", "1.0"),
            (".5", "0.5"),
            ("-.5", "-.5"),
            ("1e3", "1e3"),
            ("1.0e3", "1.0e3"),
            ("1.0e+3", "1000.0"),
            ("1.5E-7", "1.5e-07"),
            ("1:30.5", "90.5"),
            (".inf", "inf"),
            ("-.INF", "-inf"),
            (".nan", "nan"),
            ("1.2.3", "1.2.3"),
            ("10.0.0.1", "10.0.0.1"),
            ("v1.2", "v1.2"),
            ("2026-01-01", "2026-01-01"),
        ] {
            assert_eq!(python_text(word).as_deref(), Some(expected), "{word}");
        }
        for word in ["", "~", "null", "NULL"] {
            assert_eq!(python_text(word), None, "{word}");
        }
    }
}
