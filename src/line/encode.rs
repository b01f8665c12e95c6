//! A point becomes one line.
//!
//! The usual point is written in one pass, straight into the buffer. If the pass meets anything that must not be
//! written as it is, it stops, and the point is cleaned and written again: so the rules cost nothing until they are
//! needed, and any point may come: unsorted, with keys given twice, with any text anywhere.

use super::clean::{Cleaned, begins_a_comment, clean, is_reserved_field, is_reserved_tag, is_writable};
use super::escape::{Slot, Unclean, write_name, write_text};
use super::number::write_shortest;
use crate::model::fate::Refused;
use crate::model::point::{FieldValue, Point};
use crate::model::time::Timestamp;

/// InfluxDB 1 and 2 store measurement, tags, a separator of four bytes and the field's key as one key of at most so
/// many bytes, and refuse the line otherwise. InfluxDB 3 takes as much for each name.
const MAX_KEY_BYTES: usize = 65_535;
const KEY_SEPARATOR_BYTES: usize = 4;

/// A longer text field is cut. InfluxDB takes at most 1 MiB, VictoriaMetrics at most 256 KiB for a whole line.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;

/// What had to be changed in a point so that every database reads the line the same way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Names and texts that were written otherwise than given, and tags without a key or with one given again later.
    pub adjusted_texts: u32,
    /// Fields that were not written: not finite, without a key, or with the key of one given later.
    pub omitted_fields: u32,
}

/// Why a pass over a point ended early.
enum Stop {
    Unclean,
    Refused(Refused),
}

impl From<Unclean> for Stop {
    fn from(_: Unclean) -> Self {
        Self::Unclean
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// Appends exactly one line, without line end, to `out`. On a refusal `out` is as before.
///
/// Tags without a value are left out uncounted: for InfluxDB an empty tag is an absent one.
pub fn encode(point: &Point, out: &mut Vec<u8>) -> Result<Encoded, Refused> {
    let start = out.len();
    let encoded = encode_or_stop(point, out);
    if encoded.is_err() {
        out.truncate(start);
    }
    encoded
}

fn encode_or_stop(point: &Point, out: &mut Vec<u8>) -> Result<Encoded, Refused> {
    let nanos = nanos(point.time()).ok_or(Refused::TimeOutOfRange)?;
    let start = out.len();
    match write_line(point, nanos, out) {
        Ok(encoded) => Ok(encoded),
        Err(Stop::Refused(refused)) => Err(refused),
        Err(Stop::Unclean) => {
            out.truncate(start);
            let Cleaned { point, adjusted_texts, omitted_fields } = clean(point);
            match write_line(&point, nanos, out) {
                Ok(encoded) => Ok(Encoded {
                    adjusted_texts: encoded.adjusted_texts + adjusted_texts,
                    omitted_fields: encoded.omitted_fields + omitted_fields,
                }),
                Err(Stop::Refused(refused)) => Err(refused),
                Err(Stop::Unclean) => unreachable!("a cleaned point is clean"),
            }
        }
    }
}

/// Nanoseconds in 64 bits reach from 1677 to 2262. InfluxDB keeps the outermost few for itself, but none of those is a
/// whole number of microseconds.
fn nanos(time: Timestamp) -> Option<i64> {
    time.as_micros().checked_mul(1_000)
}

fn write_line(point: &Point, nanos: i64, out: &mut Vec<u8>) -> Result<Encoded, Stop> {
    let start = out.len();
    write_measurement(point, out)?;
    write_tags(point, out)?;
    let series_bytes = out.len() - start;
    let encoded = write_fields(point, series_bytes, out)?;
    write_integer(nanos, out);
    Ok(encoded)
}

fn write_measurement(point: &Point, out: &mut Vec<u8>) -> Result<(), Stop> {
    let measurement = point.measurement();
    if measurement.is_empty() {
        return Err(Refused::NoMeasurement.into());
    }
    if begins_a_comment(measurement) {
        return Err(Stop::Unclean);
    }
    Ok(write_name(measurement, Slot::Measurement, out)?)
}

fn write_tags(point: &Point, out: &mut Vec<u8>) -> Result<(), Unclean> {
    let mut previous = "";
    for (key, value) in written_tags(point) {
        // The empty key is not greater than the first "previous" one either.
        if key <= previous || is_reserved_tag(key) {
            return Err(Unclean);
        }
        out.push(b',');
        write_name(key, Slot::Tag, out)?;
        out.push(b'=');
        write_name(value, Slot::Tag, out)?;
        previous = key;
    }
    Ok(())
}

/// Every field with the space or comma before it, and the space after the last.
fn write_fields(point: &Point, series_bytes: usize, out: &mut Vec<u8>) -> Result<Encoded, Stop> {
    let mut encoded = Encoded::default();
    let mut tags = written_tags(point).map(|(key, _)| key).peekable();
    let mut previous = "";
    for (key, value) in point.fields() {
        if !is_writable(value) {
            encoded.omitted_fields += 1;
            continue;
        }
        while tags.next_if(|tag| *tag < key).is_some() {}
        if key <= previous || is_reserved_field(key) || tags.peek() == Some(&key) {
            return Err(Stop::Unclean);
        }
        out.push(if previous.is_empty() { b' ' } else { b',' });
        let key_start = out.len();
        write_name(key, Slot::FieldKey, out)?;
        if series_bytes + KEY_SEPARATOR_BYTES + (out.len() - key_start) > MAX_KEY_BYTES {
            return Err(Refused::KeyTooLong.into());
        }
        out.push(b'=');
        encoded.adjusted_texts += u32::from(write_value(value, out));
        previous = key;
    }
    if previous.is_empty() {
        return Err(Refused::NoFields.into());
    }
    out.push(b' ');
    Ok(encoded)
}

/// Tells whether the value was changed.
fn write_value(value: FieldValue<'_>, out: &mut Vec<u8>) -> bool {
    match value {
        FieldValue::Float(number) => write_shortest(number, out),
        FieldValue::Integer(number) => {
            write_integer(number, out);
            out.push(b'i');
        }
        FieldValue::Boolean(truth) => out.extend_from_slice(if truth { b"true" } else { b"false" }),
        FieldValue::Text(text) => {
            let kept = &text[..text.floor_char_boundary(MAX_TEXT_BYTES)];
            return write_text(kept, out) || kept.len() < text.len();
        }
    }
    false
}

fn write_integer(number: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn written_tags(point: &Point) -> impl Iterator<Item = (&str, &str)> {
    point.tags().filter(|(_, value)| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{Encoded, MAX_KEY_BYTES, MAX_TEXT_BYTES, encode};
    use crate::model::fate::Refused;
    use crate::model::point::{FieldValue, Point};
    use crate::model::time::Timestamp;

    /// A point `W,domain=sensor value=21` of 2026-02-14, to be changed by the test.
    fn point(change: impl FnOnce(&mut Point)) -> Point {
        let mut point = Point::default();
        point.set_time(Timestamp::from_micros(1_771_093_805_123_456));
        point.set_measurement(&["W"]);
        point.set_tag("domain", "sensor");
        point.push_field(&["value"], FieldValue::Float(21.0));
        change(&mut point);
        point
    }

    fn line(point: &Point) -> Result<(String, Encoded), Refused> {
        let mut out = b"before\n".to_vec();
        let encoded = encode(point, &mut out);
        let text = String::from_utf8(out).unwrap();
        let line = text.strip_prefix("before\n").expect("what stands in the buffer stays").to_owned();
        match encoded {
            Ok(encoded) => Ok((line, encoded)),
            Err(refused) => {
                assert_eq!(line, "", "a refusal leaves nothing behind");
                Err(refused)
            }
        }
    }

    fn check(change: impl FnOnce(&mut Point), expected: &str, adjusted_texts: u32, omitted_fields: u32) {
        let expected = format!("{expected} 1771093805123456000");
        assert_eq!(line(&point(change)), Ok((expected, Encoded { adjusted_texts, omitted_fields })));
    }

    fn check_refused(change: impl FnOnce(&mut Point), expected: Refused) {
        assert_eq!(line(&point(change)), Err(expected));
    }

    #[test]
    fn every_type_of_field_has_its_form() {
        check(
            |point| {
                point.set_tag("entity_id", "plug");
                point.push_field(&["value_bool"], FieldValue::Boolean(true));
                point.push_field(&["value_int"], FieldValue::Integer(i64::MIN));
                point.push_field(&["value", "_str"], FieldValue::Text(r#"a "b" \"#));
            },
            r#"W,domain=sensor,entity_id=plug value=21,value_bool=true,value_int=-9223372036854775808i,value_str="a \"b\" \\""#,
            0,
            0,
        );
    }

    #[test]
    fn an_unsorted_point_is_written_sorted_and_that_is_no_change() {
        check(
            |point| {
                point.set_tag("area", "attic");
                point.push_field(&["a"], FieldValue::Integer(1));
            },
            "W,area=attic,domain=sensor a=1i,value=21",
            0,
            0,
        );
    }

    #[test]
    fn a_point_needs_no_tags_and_an_empty_tag_is_none() {
        check(|point| point.set_tag("domain", ""), "W value=21", 0, 0);
    }

    #[test]
    fn of_equal_keys_the_last_one_stays() {
        check(|point| point.push_field(&["value"], FieldValue::Float(22.0)), "W,domain=sensor value=22", 0, 1);
        // Equal only after cleaning.
        check(
            |point| {
                point.push_field(&["a\nb"], FieldValue::Float(1.0));
                point.push_field(&["a\tb"], FieldValue::Float(2.0));
                point.set_tag("x\r", "1");
                point.set_tag("x\n", "2");
            },
            r"W,domain=sensor,x\ =2 a\ b=2,value=21",
            5,
            1,
        );
    }

    #[test]
    fn reserved_and_taken_keys_get_an_underscore() {
        check(
            |point| {
                for key in ["time", "_field", "_measurement", "domain_"] {
                    point.set_tag(key, "t");
                }
                for key in ["time", "domain", "_field"] {
                    point.push_field(&[key], FieldValue::Boolean(true));
                }
            },
            "W,_field_=t,_measurement_=t,domain=sensor,domain_=t,time_=t _field=true,domain__=true,time__=true,value=21",
            5,
            0,
        );
    }

    #[test]
    fn a_field_never_shares_its_key_with_a_tag() {
        check(|point| point.set_tag("value", "t"), "W,domain=sensor,value=t value_=21", 1, 0);
        // After fields before and between the tags, and with the next key taken too.
        check(
            |point| {
                for key in ["a", "b", "value", "value_", "z"] {
                    point.set_tag(key, "t");
                }
                point.push_field(&["_"], FieldValue::Float(1.0));
                point.push_field(&["c"], FieldValue::Float(1.0));
                point.sort();
            },
            "W,a=t,b=t,domain=sensor,value=t,value_=t,z=t _=1,c=1,value__=21",
            1,
            0,
        );
    }

    #[test]
    fn a_unit_that_would_begin_a_comment_is_written_with_its_look_alike() {
        check(|point| point.set_measurement(&["#"]), "\u{ff03},domain=sensor value=21", 1, 0);
    }

    #[test]
    fn numbers_that_are_none_are_left_out_and_a_point_of_nothing_else_is_refused() {
        check(
            |point| {
                point.push_field(&["value"], FieldValue::Float(f64::NAN));
                point.push_field(&["z"], FieldValue::Float(f64::NEG_INFINITY));
                point.push_field(&[""], FieldValue::Float(1.0));
            },
            "W,domain=sensor value=21",
            0,
            3,
        );
        let mut empty = Point::default();
        empty.set_measurement(&["W"]);
        assert_eq!(line(&empty), Err(Refused::NoFields));
        empty.push_field(&["value"], FieldValue::Float(f64::INFINITY));
        assert_eq!(line(&empty), Err(Refused::NoFields));
    }

    #[test]
    fn a_point_without_a_measurement_is_refused() {
        check_refused(|point| point.set_measurement(&[]), Refused::NoMeasurement);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "é".repeat(MAX_TEXT_BYTES);
        let kept = "é".repeat(MAX_TEXT_BYTES / 2);
        check(
            |point| point.push_field(&["z"], FieldValue::Text(&text)),
            &format!("W,domain=sensor value=21,z=\"{kept}\""),
            1,
            0,
        );
        let odd = format!("x{text}");
        let kept = format!("x{}", "é".repeat(MAX_TEXT_BYTES / 2 - 1));
        check(
            |point| point.push_field(&["z"], FieldValue::Text(&odd)),
            &format!("W,domain=sensor value=21,z=\"{kept}\""),
            1,
            0,
        );
    }

    #[test]
    fn a_key_longer_than_influxdb_takes_is_refused() {
        let fits = "k".repeat(MAX_KEY_BYTES - "W,domain=sensor".len() - 4);
        let longest = point(|point| point.push_field(&[&fits], FieldValue::Boolean(true)));
        assert!(line(&longest).is_ok());
        check_refused(|point| point.push_field(&[&fits, "k"], FieldValue::Boolean(true)), Refused::KeyTooLong);
        check_refused(|point| point.set_tag("z", &"v".repeat(MAX_KEY_BYTES)), Refused::KeyTooLong);
    }

    #[test]
    fn a_time_beyond_64_bits_of_nanoseconds_is_refused() {
        let edge = i64::MAX / 1_000;
        for micros in [edge, -edge] {
            let point = point(|point| point.set_time(Timestamp::from_micros(micros)));
            assert!(line(&point).unwrap().0.ends_with(&format!(" {micros}000")));
        }
        for micros in [edge + 1, -edge - 1, i64::MAX, i64::MIN] {
            check_refused(|point| point.set_time(Timestamp::from_micros(micros)), Refused::TimeOutOfRange);
        }
    }
}
