//! Floats as text: the shortest digits that read back as the same value, laid out as Python lays them out.
//!
//! The layout matters because Home Assistant's own integration is Python: a text made by `str(28.0)` must not depend on
//! who wrote it. What is printed here matches `-?\d+(\.\d+)?(e[+-]?\d+)?`, which every reader of line protocol takes;
//! `.5`, `1.` and `+1` are not read everywhere.

/// Appends Python's `repr` of a finite float: `28.0`, `1e+16`, `1e-05`, `0.0001`, `-0.0`.
pub fn write_repr(value: f64, out: &mut Vec<u8>) {
    debug_assert!(value.is_finite(), "only finite numbers have digits");
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    let digits = text.strip_prefix('-').unwrap_or(text);
    // zmij and Python agree but for two habits of Python: the exponent begins one power of ten earlier (1e-05), and it
    // has at least two digits.
    if let Some(fraction) = digits.strip_prefix("0.0000") {
        let (first, others) = fraction.split_at(1);
        let point = if others.is_empty() { "" } else { "." };
        write_parts(&[sign(text), first, point, others, "e-05"], out);
    } else if let Some((mantissa, exponent)) = digits.split_once("e-").filter(|(_, exponent)| exponent.len() == 1) {
        write_parts(&[sign(text), mantissa, "e-0", exponent], out);
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

/// The same without a trailing `.0`: `28`, `1e+16`, `1e-05`, `0.0001`, `-0`.
///
/// The sign of a negative zero is kept: every reader takes `-0`, and it reads back as the value that was given.
pub fn write_shortest(value: f64, out: &mut Vec<u8>) {
    write_repr(value, out);
    if out.ends_with(b".0") {
        out.truncate(out.len() - 2);
    }
}

fn sign(text: &str) -> &str {
    if text.starts_with('-') { "-" } else { "" }
}

fn write_parts(parts: &[&str], out: &mut Vec<u8>) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}
