//! A line without its texts, for databases that keep numbers only. Pure.
//!
//! VictoriaMetrics takes a text field for a series of zeros: in a home that is most of the series, and none of them means
//! anything.

/// Appends the line to `out` without the fields that are texts. If no field is left, nothing is appended and it returns `false`. It
/// reads what [`super::encode`] writes; what is no line is left out as well.
#[must_use]
pub fn without_texts(line: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let kept = copy(line, out).unwrap_or_default();
    if !kept {
        out.truncate(start);
    }
    kept
}

/// Whether a field is left. `None`: it ends too early.
fn copy(line: &[u8], out: &mut Vec<u8>) -> Option<bool> {
    let fields = end_of_name(line, b' ')? + 1;
    out.extend_from_slice(line.get(..fields)?);
    let mut rest = line.get(fields..)?;
    let mut kept = false;
    loop {
        let value = end_of_name(rest, b'=')? + 1;
        let is_text = rest.get(value) == Some(&b'"');
        let end = if is_text {
            end_of_text(rest, value)?
        } else {
            value + rest[value..].iter().position(|byte| is_end(*byte))?
        };
        if !is_text {
            if std::mem::replace(&mut kept, true) {
                out.push(b',');
            }
            out.extend_from_slice(&rest[..end]);
        }
        if *rest.get(end)? != b',' {
            out.extend_from_slice(&rest[end..]);
            return Some(kept);
        }
        rest = &rest[end + 1..];
    }
}

/// Where the first such byte is that no backslash stands before.
fn end_of_name(text: &[u8], end: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        match *text.get(at)? {
            b'\\' => at += 2,
            byte if byte == end => return Some(at),
            _ => at += 1,
        }
    }
}

/// The place after the quote that ends a text.
fn end_of_text(text: &[u8], quote: usize) -> Option<usize> {
    Some(quote + 2 + end_of_name(text.get(quote + 1..)?, b'"')?)
}

fn is_end(byte: u8) -> bool {
    matches!(byte, b',' | b' ')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::without_texts;
    use crate::line::encode::encode;
    use crate::line::read::read;
    use crate::model::point::{FieldValue, Point};
    use crate::model::time::Timestamp;

    fn check(line: &str, expected: Option<&str>) {
        let mut out = b"before\n".to_vec();
        assert_eq!(without_texts(line.as_bytes(), &mut out), expected.is_some(), "{line}");
        assert_eq!(String::from_utf8(out).unwrap(), format!("before\n{}", expected.unwrap_or_default()), "{line}");
    }

    #[test]
    fn texts_go_and_numbers_stay() {
        check("W,domain=sensor value=1.5,friendly_name_str=\"Lab\" 7\n", Some("W,domain=sensor value=1.5 7\n"));
        check("m a_str=\"x\",b=1,c_str=\"y\",d=2i,e_str=\"z\" 7\n", Some("m b=1,d=2i 7\n"));
        check("m state=\"on\" 7\n", None);
        check("m\\ n,t\\,g=a\\=b\\ c f\\ g=1,s=\"a, b=1 \\\" \\\\\" 7\n", Some("m\\ n,t\\,g=a\\=b\\ c f\\ g=1 7\n"));
    }

    #[test]
    fn what_is_no_line_is_left_out() {
        for text in ["", "m", "m ", "m a", "m a=", "m a=1", "m a=\"1", "m a=1,", "m a=1,b\\", "\\"] {
            check(text, None);
        }
    }

    proptest! {
        #[test]
        fn the_numbers_of_any_point_are_read_back(
            measurement in "\\PC{1,12}",
            fields in prop::collection::vec(("\\PC{1,12}", prop::option::of(-1e9..1e9_f64), "\\PC{0,12}"), 1..6),
        ) {
            let mut point = Point::default();
            point.set_measurement(&[&measurement]);
            for (key, number, text) in &fields {
                point.push_field(&[key], number.map_or(FieldValue::Text(text), FieldValue::Float));
            }
            point.set_time(Timestamp::from_micros(3));
            let (mut line, mut numbers) = (Vec::new(), Vec::new());
            prop_assume!(encode(&point, &mut line).is_ok());
            line.push(b'\n');
            let before = read(line.trim_ascii_end()).expect("what was encoded is read");
            let is_left = without_texts(&line, &mut numbers);
            let expected: Vec<String> =
                before.fields.iter().filter(|field| !field.is_text).map(|field| field.key.clone()).collect();
            prop_assert_eq!(is_left, !expected.is_empty());
            if is_left {
                let after = read(numbers.trim_ascii_end()).expect("what is left is a line");
                let keys: Vec<String> = after.fields.iter().map(|field| field.key.clone()).collect();
                prop_assert_eq!((after.series, after.nanos, keys), (before.series, before.nanos, expected));
            }
        }
    }
}
