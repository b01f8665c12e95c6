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
    } else if let (before, last) = digits.split_at(digits.len() - 1)
        && let Some(mantissa) = before.strip_suffix("e-")
    {
        write_parts(&[sign(text), mantissa, "e-0", last], out);
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

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use proptest::test_runner::Config;

    use super::{write_repr, write_shortest};

    static FORM: LazyLock<regex::Regex> =
        LazyLock::new(|| regex::Regex::new(r"^-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?$").unwrap());

    fn repr(value: f64) -> String {
        let mut out = Vec::new();
        write_repr(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn shortest(value: f64) -> String {
        let mut out = Vec::new();
        write_shortest(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_print_as_python_prints_them() {
        // `repr(value)` of CPython 3.11.
        let texts = "
            28.0 0.0 -0.0 1.0 -1.0 21.5 0.1 0.2 0.3 0.3333333333333333 4.35 100.0 -273.15 1013.25
            123456.789 1000000000000000.0 9007199254740992.0 9999999999999998.0 1e+16 -1e+16
            2.0260101123456788e+16 1.2345678901234568e+17 2.0260101e+17 1e+21 1e+22 1e+23 1e+100
            1.5e+300 1.7976931348623157e+308 0.001 0.0001 -0.0001 0.00012345 9.999e-05 1e-05 -1e-05
            1.5e-05 1.234567e-05 1e-06 1e-07 -1e-10 1.25e-09 1e-100 5e-324
        ";
        for text in texts.split_whitespace() {
            assert_eq!(repr(text.parse().unwrap()), text);
        }
    }

    #[test]
    fn whole_numbers_lose_their_fraction_in_lines() {
        let table =
            [(28.0, "28"), (-0.0, "-0"), (0.0, "0"), (21.5, "21.5"), (1e16, "1e+16"), (1e-5, "1e-05"), (100.0, "100")];
        for (value, text) in table {
            assert_eq!(shortest(value), text);
        }
    }

    #[test]
    fn what_stands_before_is_left_alone() {
        let mut out = b"a=1.0,b=".to_vec();
        write_shortest(2.0, &mut out);
        assert_eq!(out, b"a=1.0,b=2");
    }

    proptest! {
        #![proptest_config(Config::with_cases(20_000))]

        #[test]
        fn every_finite_float_reads_back_as_itself(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            if value.is_finite() {
                for text in [repr(value), shortest(value)] {
                    prop_assert!(FORM.is_match(&text), "{}", text);
                    prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits, "{}", text);
                }
            }
        }

        /// Numbers as homes have them: a few digits before and after the point.
        #[test]
        fn a_decimal_number_prints_as_it_was_written(whole in -99_999_i32..99_999, cents in 1_u32..99) {
            let text = format!("{whole}.{cents:02}");
            prop_assert_eq!(shortest(text.parse().unwrap()), text.trim_end_matches('0'));
        }
    }
}
