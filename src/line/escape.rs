//! One name or text of a line: which bytes need a backslash before them, and which must not be written at all.

/// Where a name stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Measurement,
    /// The key or the value of a tag.
    Tag,
    FieldKey,
}

/// A name holds something that the databases read differently: it must be cleaned before it can be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unclean;

/// What to do with a byte. Bytes of characters beyond ASCII are plain everywhere.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain = 0,
    Escaped,
    /// Perhaps not to be written as it is.
    Suspect,
}

type Table = [Class; 256];

static MEASUREMENT: Table = name_table(b", ", b"\\");
static TAG: Table = name_table(b",= ", b"\\");
/// VictoriaMetrics takes a quotation mark in a field key for the beginning of a text. No escape helps: InfluxDB 3 and
/// VictoriaMetrics keep a backslash before it, InfluxDB 1 drops it.
static FIELD_KEY: Table = name_table(b",= ", b"\\\"");
/// A line feed inside a text is legal for InfluxDB, but VictoriaMetrics cuts the line there. A carriage return is cut
/// off by tools that split archives into lines. Other control characters pass: all of them read them as they are.
static TEXT: Table = table(b"\\\"", b"\n\r");

/// Appends a name, or stops in the middle if it needs cleaning.
pub(super) fn write_name(name: &str, slot: Slot, out: &mut Vec<u8>) -> Result<(), Unclean> {
    let table = match slot {
        Slot::Measurement => &MEASUREMENT,
        Slot::Tag => &TAG,
        Slot::FieldKey => &FIELD_KEY,
    };
    let mut rest = name.as_bytes();
    while let Some((before, byte, after)) = split_at_special(rest, table) {
        out.extend_from_slice(before);
        match table[usize::from(byte)] {
            Class::Escaped => out.push(b'\\'),
            Class::Suspect if byte != b'\\' || backslash_is_ambiguous_before(after.first()) => return Err(Unclean),
            Class::Suspect | Class::Plain => {}
        }
        out.push(byte);
        rest = after;
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// Appends a text in quotation marks, with line ends made into spaces. Tells whether there were any.
pub(super) fn write_text(text: &str, out: &mut Vec<u8>) -> bool {
    let mut changed = false;
    let mut rest = text.as_bytes();
    out.push(b'"');
    while let Some((before, byte, after)) = split_at_special(rest, &TEXT) {
        out.extend_from_slice(before);
        if TEXT[usize::from(byte)] == Class::Escaped {
            out.extend_from_slice(&[b'\\', byte]);
        } else {
            out.push(b' ');
            changed = true;
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
    changed
}

/// Whether the databases disagree about a backslash in a name, by what follows it.
///
/// At the end of a name it swallows the separator. Before a separator InfluxDB 1 wants `\\,` for what InfluxDB 3 wants
/// as `\\\,`. Before another one InfluxDB 1 keeps both and InfluxDB 3 one. Before a quotation mark InfluxDB 1 drops it.
/// Control characters become spaces, so they count as such.
pub(super) fn backslash_is_ambiguous_before(next: Option<&u8>) -> bool {
    next.is_none_or(|byte| matches!(byte, b',' | b'=' | b' ' | b'"' | b'\\') || byte.is_ascii_control())
}

/// The bytes before the first one that is not plain, that byte, and those after it.
fn split_at_special<'a>(bytes: &'a [u8], table: &Table) -> Option<(&'a [u8], u8, &'a [u8])> {
    // Nearly all are plain to the end, and without a way out in the middle that is seen in half the time.
    if bytes.iter().fold(0, |seen, byte| seen | table[usize::from(*byte)] as u8) == Class::Plain as u8 {
        return None;
    }
    let at = bytes.iter().position(|byte| table[usize::from(*byte)] != Class::Plain)?;
    Some((&bytes[..at], bytes[at], &bytes[at + 1..]))
}

/// Names hold no control characters: a line feed begins a new point, a tab or a zero ends the name for some readers.
const fn name_table(escaped: &[u8], suspect: &[u8]) -> Table {
    let mut table = table(escaped, suspect);
    let mut control = 0;
    while control < 0x20 {
        table[control] = Class::Suspect;
        control += 1;
    }
    table[0x7f] = Class::Suspect;
    table
}

const fn table(mut escaped: &[u8], mut suspect: &[u8]) -> Table {
    let mut table = [Class::Plain; 256];
    while let [byte, rest @ ..] = escaped {
        table[*byte as usize] = Class::Escaped;
        escaped = rest;
    }
    while let [byte, rest @ ..] = suspect {
        table[*byte as usize] = Class::Suspect;
        suspect = rest;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{Slot, Unclean, write_name, write_text};

    fn name(text: &str, slot: Slot) -> Result<String, Unclean> {
        let mut out = Vec::new();
        write_name(text, slot, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_name_is_escaped_as_its_place_asks() {
        let table = [
            (r"a,b=c d", r"a\,b=c\ d", r"a\,b\=c\ d"),
            (" ", r"\ ", r"\ "),
            ("°C", "°C", "°C"),
            (r"a\b", r"a\b", r"a\b"),
            (r"\°", r"\°", r"\°"),
            ("", "", ""),
        ];
        for (given, as_measurement, as_key) in table {
            assert_eq!(name(given, Slot::Measurement).as_deref(), Ok(as_measurement));
            assert_eq!(name(given, Slot::Tag).as_deref(), Ok(as_key));
            assert_eq!(name(given, Slot::FieldKey).as_deref(), Ok(as_key));
        }
    }

    #[test]
    fn what_is_read_differently_is_not_written() {
        for text in [r"a\", r"\\a", r"\,", r"\=", r"\ a", "\\\"", "\\\n", "a\nb", "\t", "\0", "\r", "\u{7f}", "\u{1f}"]
        {
            for slot in [Slot::Measurement, Slot::Tag, Slot::FieldKey] {
                assert_eq!(name(text, slot), Err(Unclean), "{text:?}");
            }
        }
        assert_eq!(name("\"", Slot::FieldKey), Err(Unclean));
        assert_eq!(name("\"", Slot::Tag).as_deref(), Ok("\""));
        assert_eq!(name("\"", Slot::Measurement).as_deref(), Ok("\""));
    }

    #[test]
    fn a_text_is_quoted_and_stays_on_one_line() {
        let table = [
            ("on", r#""on""#, false),
            ("", r#""""#, false),
            (r#"say "a\b""#, r#""say \"a\\b\"""#, false),
            ("a\nb\r\nc", r#""a b  c""#, true),
            ("\0\t,= \u{7f}é", "\"\0\t,= \u{7f}é\"", false),
        ];
        for (given, line, changed) in table {
            let mut out = Vec::new();
            assert_eq!(write_text(given, &mut out), changed, "{given:?}");
            assert_eq!(String::from_utf8(out).unwrap(), line);
        }
    }
}
