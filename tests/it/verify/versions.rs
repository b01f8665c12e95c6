//! InfluxDB 2 and 3: the same home, written by `import` and read back in the language of each.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fake::{Cut, Fake, TOKEN, Version};
use super::{Bench, counts};
use crate::import::{days_ago, import_with};
use crate::points::{Fields, Place};

const BOTH: [Version; 2] = [Version::V2, Version::V3];

/// A home whose last two days are in the server.
fn imported(version: Version) -> (Bench, Fake, Value) {
    let (bench, fake) = (Bench::new(), Fake::start(version));
    let options = bench.options_for(&fake.options(TOKEN));
    let [from, to] = days_ago(2);
    let (code, told) = import_with(bench.folder.path(), &options, &["--from", &from, "--to", &to]);
    assert_eq!(code, Some(0), "{version:?}: {told}");
    let stored = fake.with(|kept| {
        kept.written.clear();
        kept.points.len()
    });
    assert!(stored > 600 && told.contains(&format!("{stored} points written")), "{version:?}: {stored}, {told}");
    (bench, fake, options)
}

fn entity(place: &Place) -> String {
    format!("{}.{}", place.series.tags["domain"], place.series.tags["entity_id"])
}

/// What the report says of each entity with a difference: missing, extra, another time.
fn differences(report: &Value) -> BTreeMap<String, [u64; 3]> {
    let entities = report["targets"][0]["entities"].as_array().unwrap().iter();
    let figures = entities.map(|entity| {
        let figures = ["missing", "extra", "differing_timestamps"].map(|name| entity[name].as_u64().unwrap());
        (entity["entity"].as_str().unwrap().to_owned(), figures)
    });
    figures.filter(|(_, figures)| *figures != [0; 3]).collect()
}

#[test]
fn all_that_was_imported_is_there_and_exactly_what_is_taken_away_is_missing() {
    for version in BOTH {
        let (bench, fake, options) = imported(version);
        let (code, report) = bench.json_with(&options, &[]);
        let [known, present, missing, extra, differing] = counts(&report);
        assert_eq!((code, missing, extra, differing), (Some(0), 0, 0, 0), "{version:?}: {report}");
        assert!(known > 500 && present == known, "{version:?}: {known} known, {present} present");
        let named = if version == Version::V2 { "InfluxDB 2.7.11" } else { "InfluxDB 3.8.0" };
        assert!(report["targets"][0]["server"].as_str().unwrap().starts_with(named), "{report}");

        // Of the last day: what is older is not of the period. Two of the past, one with every nasty name.
        let young = ha_ingestor::runtime::clock::now().as_nanos() - 80_000_000_000_000;
        let is_raw = |place: &&Place| place.time > young && place.time % 3_600_000_000_000 != 0;
        let all: Vec<Place> = fake.with(|kept| kept.points.keys().filter(is_raw).cloned().collect());
        let (nasty, past): (Vec<Place>, Vec<Place>) = all.into_iter().partition(|p| entity(p) == "sensor.nasty");
        let (lost, shifted, strange) = ([&past[100], &past[301], &nasty[1]], &past[202], &past[303]);
        let mut expected = BTreeMap::<String, [u64; 3]>::new();
        for (place, figure) in lost.map(|place| (place, 0)).into_iter().chain([(strange, 1), (shifted, 2)]) {
            expected.entry(entity(place)).or_default()[figure] += 1;
        }
        let later = |place: &Place, nanos: i64| Place { time: place.time + nanos, ..place.clone() };
        let taken: Vec<(Place, Fields)> = fake.with(|kept| {
            let moved = kept.points.remove(shifted).unwrap();
            kept.points.insert(later(shifted, 1_000), moved);
            let copy = kept.points[strange].clone();
            kept.points.insert(later(strange, 2_000_000), copy);
            lost.map(|place| (place.clone(), kept.points.remove(place).unwrap())).into()
        });

        let (code, report) = bench.json_with(&options, &[]);
        assert_eq!((code, counts(&report)), (Some(1), [known, known - 4, 3, 1, 1]), "{version:?}: {report}");
        assert_eq!(differences(&report), expected, "{version:?}");
        assert!(fake.with(|kept| kept.written.is_empty()), "{version:?}: it was not to be repaired");

        let (code, report) = bench.json_with(&options, &["--repair"]);
        assert_eq!((code, counts(&report)), (Some(1), [known, known - 1, 0, 1, 1]), "{version:?}: {report}");
        assert_eq!(report["targets"][0]["repaired"], 3);
        let mut written = fake.with(|kept| kept.written.clone());
        written.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut taken = taken;
        taken.sort_by(|(one, _), (other, _)| one.cmp(other));
        assert_eq!(written, taken, "{version:?}: exactly what was taken away");

        fake.with(|kept| {
            let moved = kept.points.remove(&later(shifted, 1_000)).unwrap();
            kept.points.insert(shifted.clone(), moved);
            kept.points.remove(&later(strange, 2_000_000)).unwrap();
        });
        let (code, told) = bench.verify_with(&options, &["--repair"]);
        assert!(code == Some(0) && told.contains("missing 0, extra 0, differing timestamps 0"), "{version:?}: {told}");
        assert_eq!(fake.with(|kept| kept.written.len()), 3, "{version:?}: nothing else was written");
    }
}

#[test]
fn a_wrong_token_is_told_and_nothing_is_called_missing() {
    for version in BOTH {
        let (bench, fake) = (Bench::new(), Fake::start(version));
        for arguments in [&[][..], &["--repair"]] {
            let options = bench.options_for(&fake.options("that-of-the-neighbours"));
            let (code, told) = bench.verify_with(&options, arguments);
            assert!(code == Some(69) && told.contains("check influxdb.token"), "{version:?}: {code:?} {told}");
            assert!(!told.contains("missing"), "{version:?}: {told}");
        }
        assert_eq!(fake.with(|kept| (kept.answered, kept.written.len())), (0, 0), "{version:?}");
    }
}

#[test]
fn an_answer_that_ends_too_early_says_nothing_about_what_is_there() {
    for (version, cut) in [
        (Version::V2, Cut::Short),
        (Version::V2, Cut::InARow),
        (Version::V2, Cut::AfterARow),
        (Version::V3, Cut::Short),
        (Version::V3, Cut::InARow),
    ] {
        let (bench, fake, options) = imported(version);
        fake.with(|kept| kept.cut = Some(cut));
        let (code, told) = bench.verify_with(&options, &["--repair"]);
        assert_eq!(code, Some(69), "{version:?} {cut:?}: {told}");
        assert!(!told.contains("missing 0, extra 0"), "{version:?} {cut:?}: {told}");
        assert!(fake.with(|kept| kept.answered > 0 && kept.written.is_empty()), "{version:?} {cut:?}: {told}");
        println!("{version:?} {cut:?}: {}", told.trim());
    }
}
