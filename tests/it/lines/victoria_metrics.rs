//! A real VictoriaMetrics stores of every line exactly the names, tags and numbers that the encoder promises.
//!
//! It answers 204 to everything, so only reading back tells.

use std::collections::BTreeMap;

use ha_ingestor::line::encode::encode;
use proptest::prelude::{Just, Strategy};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::support::http;
use crate::support::nasty::points;
use crate::support::reading::{Reading, Value, promised};
use crate::support::victoria_metrics::{Labels, VictoriaMetrics};

const POINTS: i64 = 2_000;
const FIRST_MILLIS: i64 = 1_771_093_805_000;

/// One number, by the time and the name under which it is stored.
type Key = (i64, String);

#[test]
fn a_real_victoria_metrics_reads_every_line_as_promised() {
    let Some(victoria) = VictoriaMetrics::start() else { return };

    let mut runner = TestRunner::deterministic();
    let mut lines = Vec::new();
    let mut expected = BTreeMap::new();
    // VictoriaMetrics keeps milliseconds.
    for millis in (FIRST_MILLIS..).step_by(7).take(usize::try_from(POINTS).unwrap()) {
        let point = points(Just(millis * 1_000)).new_tree(&mut runner).unwrap().current().point();
        let Some(promised) = promised(&point) else { continue };
        encode(&point, &mut lines).unwrap();
        lines.push(b'\n');
        expected.extend(numbers(millis, &promised));
    }
    let lines = String::from_utf8(lines).unwrap();
    let answer = http::post(victoria.address, "/write?precision=ns", &[], &lines).unwrap();
    assert_eq!(answer.status, 204, "{answer:?}");

    let mut points_of = BTreeMap::new();
    for ((_, name), (tags, _)) in &expected {
        *points_of.entry((name.clone(), tags.clone())).or_insert(0) += 1;
    }
    let mut stored = read_everything(&victoria);
    for (key, (tags, number)) in expected {
        let Some((stored_tags, stored_number)) = stored.remove(&key) else { panic!("{key:?} {tags:?} is missing") };
        assert_eq!(stored_tags, tags, "{key:?}");
        // The numbers of a series share a power of ten: a small one beside a large one becomes zero.
        let alone = points_of[&(key.1.clone(), tags)] == 1;
        if alone && (1e-9..1e18).contains(&number.abs()) {
            assert!((stored_number / number - 1.0).abs() < 1e-12, "{key:?}: {stored_number} instead of {number}");
        }
    }
}

fn numbers(millis: i64, reading: &Reading) -> impl Iterator<Item = (Key, (Labels, f64))> {
    reading.fields.iter().filter_map(move |(field, value)| {
        let number = match value {
            Value::Float(number) => *number,
            #[expect(clippy::cast_precision_loss, reason = "VictoriaMetrics knows nothing but floats")]
            Value::Integer(number) => *number as f64,
            Value::Boolean(truth) => f64::from(u8::from(*truth)),
            // A text is stored as the number that it begins with, or as 0.
            Value::Text(_) => return None,
        };
        Some(((millis, format!("{}_{field}", reading.measurement)), (reading.tags.clone(), number)))
    })
}

fn read_everything(victoria: &VictoriaMetrics) -> BTreeMap<Key, (Labels, f64)> {
    let mut stored = BTreeMap::new();
    for (mut labels, samples) in victoria.export(r#"{__name__!=""}"#) {
        let name = labels.remove("__name__").unwrap();
        for (millis, number) in samples {
            let known = stored.insert((millis, name.clone()), (labels.clone(), number));
            assert_eq!(known, None, "two values of {name:?} at {millis}");
        }
    }
    stored
}
