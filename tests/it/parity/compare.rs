//! Are these the same points? Where they are not, is it for one of the reasons that are known?
//!
//! The built-in integration sees Python objects, we see the JSON made of them. Numbers, names, tags and times survive
//! that; a few texts do not. And it writes two things that a database cannot read. [`Way`] names every way there is,
//! and a text is excused only if undoing named ways turns the one into the other exactly. Everything else is a
//! difference.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;

use regex::Regex;

use crate::points::{Field, Fields, Place, Points};

/// How JSON, or the stream of differences that we read, changes a text; and what we write otherwise on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// `(1, 2)` arrives as `[1, 2]`.
    Tuple,
    /// `<ColorMode.HS: 'hs'>` arrives as `'hs'`.
    EnumMember,
    /// `2026-02-14 12:00:00+00:00` arrives as `2026-02-14T12:00:00+00:00`.
    DateTime,
    /// NaN and the infinities arrive as null.
    NotFinite,
    /// The built-in client writes a line break as a backslash and an `n`; we write a space, as newer ones do.
    LineBreak,
    /// A value that equals the one before, as `1 == 1.0 == True`, is not reported, so the text is still the old one.
    EqualNotReported,
    /// We write `"` in the name of a field as `'`: VictoriaMetrics loses the line otherwise.
    QuotationMarkInKey,
    /// A state such as `nan` or `1e400`: InfluxDB refuses the whole line of the built-in integration for its `value`. We
    /// leave the `value` out and write the rest.
    StateNotANumber,
}

/// The entities and times, in nanoseconds, at which the home had a state that is a number, but not a finite one.
pub type NotFinite = BTreeSet<(String, i64)>;

#[derive(Debug, Default)]
pub struct Report {
    /// How many points are in both.
    pub points: usize,
    numbers: usize,
    texts: usize,
    /// How often each way was met, with the first of them.
    excused: BTreeMap<Way, (usize, String)>,
    pub differences: Vec<String>,
}

/// The texts of the points before this one in the same series: of the built-in integration, of ours.
type Before<'a> = BTreeMap<&'a str, (&'a str, &'a str)>;

pub fn compare(builtin: &Points, ours: &Points, not_finite: &NotFinite) -> Report {
    let mut report = Report::default();
    let mut before = Before::new();
    let mut series = None;
    for (place, fields) in builtin {
        // Points are sorted by series, then by time.
        if series.replace(&place.series) != Some(&place.series) {
            before.clear();
        }
        match ours.get(place) {
            Some(our_fields) => report.point(place, fields, our_fields, &mut before),
            None => report.differences.push(format!("only built-in: {place}")),
        }
    }
    let mut unseen = not_finite.clone();
    for (place, fields) in ours {
        let was_not_finite = entity(place).is_some_and(|entity| unseen.remove(&(entity, place.time)));
        if builtin.contains_key(place) {
            continue;
        }
        if was_not_finite && !fields.contains_key("value") {
            report.excuse(Way::StateNotANumber, || place.to_string());
        } else {
            report.differences.push(format!("only ours: {place}"));
        }
    }
    // The built-in integration cannot tell that we lost one of these.
    report.differences.extend(unseen.iter().map(|(entity, time)| format!("only in the ledger: {entity} {time}")));
    report
}

fn entity(place: &Place) -> Option<String> {
    let tags = &place.series.tags;
    Some(format!("{}.{}", tags.get("domain")?, tags.get("entity_id")?))
}

impl Report {
    fn point<'a>(&mut self, place: &Place, builtin: &'a Fields, ours: &'a Fields, before: &mut Before<'a>) {
        self.points += 1;
        let mut done = BTreeSet::new();
        for (name, renamed) in builtin.keys().map(|name| (name, name.replace('"', "'"))) {
            if let Some((our_name, value)) = ours.get_key_value(&renamed)
                && !builtin.contains_key(&renamed)
                && is_same(&builtin[name], value)
            {
                let first = || format!("{place}\n    {name}: as {our_name} with {value}");
                self.excuse(Way::QuotationMarkInKey, first);
                done.extend([name, our_name]);
            }
        }
        let names = builtin.keys().chain(ours.keys().filter(|name| !builtin.contains_key(*name)));
        for name in names.filter(|name| !done.contains(name)) {
            let mut excuse = |way| self.excuse(way, || describe(place, name, builtin, ours));
            match (builtin.get(name), ours.get(name)) {
                (Some(Field::Number(a)), Some(Field::Number(b))) if a.to_bits() == b.to_bits() => self.numbers += 1,
                (Some(Field::Text(a)), Some(Field::Text(b))) => {
                    match ways(a, b).or_else(|| not_reported(a, b, before.get(name.as_str()).copied())) {
                        Some(ways) => ways.into_iter().for_each(excuse),
                        None => self.differ(place, name, builtin, ours),
                    }
                    self.texts += 1;
                    before.insert(name, (a, b));
                }
                (None, Some(Field::Text(b))) if b == "None" && is_alone(name, builtin) => excuse(Way::NotFinite),
                _ => self.differ(place, name, builtin, ours),
            }
        }
    }

    fn excuse(&mut self, way: Way, first: impl FnOnce() -> String) {
        self.excused.entry(way).or_insert_with(|| (0, first())).0 += 1;
    }

    fn differ(&mut self, place: &Place, name: &str, builtin: &Fields, ours: &Fields) {
        self.differences.push(describe(place, name, builtin, ours));
    }
}

/// Numbers to the last bit.
fn is_same(a: &Field, b: &Field) -> bool {
    match (a, b) {
        (Field::Number(a), Field::Number(b)) => a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    }
}

/// Whether there is neither the text `name` nor the number that would stand beside it.
fn is_alone(name: &str, fields: &Fields) -> bool {
    name.strip_suffix("_str").is_some_and(|number| !fields.contains_key(number) && !fields.contains_key(name))
}

fn describe(place: &Place, name: &str, builtin: &Fields, ours: &Fields) -> String {
    let show = |fields: &Fields| fields.get(name).map_or_else(|| "nothing".to_owned(), Field::to_string);
    format!("{place}\n    {name}: built-in {}\n    {name}: ours     {}", show(builtin), show(ours))
}

/// The ways that lead from the text of the built-in integration to ours; none if they are the same, `None` if no ways
/// lead there.
fn ways(builtin: &str, ours: &str) -> Option<Vec<Way>> {
    if builtin.replace("\\n", " ") == ours && builtin != ours {
        return Some(vec![Way::LineBreak]);
    }
    let mut text = builtin.to_owned();
    let mut ways = Vec::new();
    for way in [Way::EnumMember, Way::Tuple, Way::DateTime, Way::NotFinite] {
        if text == ours {
            break;
        }
        let undone = match way {
            Way::EnumMember => without_enum_members(&text),
            Way::Tuple => without_tuples(&text),
            Way::DateTime => with_t(&text),
            _ => without_nan(&text),
        };
        if undone != text {
            ways.push(way);
            text = undone;
        }
    }
    (text == ours).then_some(ways)
}

/// Ours is still the text of the point before, and to Python nothing has changed since then.
fn not_reported(builtin: &str, ours: &str, before: Option<(&str, &str)>) -> Option<Vec<Way>> {
    let (builtin_before, ours_before) = before?;
    let same = as_python_compares(builtin) == as_python_compares(builtin_before);
    (ours == ours_before && same).then(|| vec![Way::EqualNotReported])
}

fn without_enum_members(text: &str) -> String {
    static MEMBER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"<\w+(?:\.\w+)+: ('[^']*'|-?\d+)>").unwrap());
    MEMBER.replace_all(text, "$1").into_owned()
}

fn without_tuples(text: &str) -> String {
    outside_quotes(text, |code| code.replace(",)", "]").replace(')', "]").replace('(', "["))
}

fn with_t(text: &str) -> String {
    static DATE_TIME: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d{6})?(?:[+-]\d\d:\d\d)?)$").unwrap());
    DATE_TIME.replace(text, "${1}T$2").into_owned()
}

fn without_nan(text: &str) -> String {
    static NOT_FINITE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"-?\b(?:nan|inf)\b").unwrap());
    outside_quotes(text, |code| NOT_FINITE.replace_all(code, "None").into_owned())
}

/// Every number as a float, truth as 1 and 0.
fn as_python_compares(text: &str) -> String {
    static NUMBER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\bTrue\b|\bFalse\b|-?\b\d+(?:\.\d+)?(?:e[+-]?\d+)?\b").unwrap());
    outside_quotes(text, |code| {
        let float = |number: &str| match number {
            "True" => 1.0,
            "False" => 0.0,
            // Python has one zero as far as `==` goes.
            number => number.parse::<f64>().unwrap() + 0.0,
        };
        NUMBER.replace_all(code, |found: &regex::Captures| format!("{:?}", float(&found[0]))).into_owned()
    })
}

/// Rewrites what stands outside of the quoted strings of a Python literal.
fn outside_quotes(text: &str, rewrite: impl Fn(&str) -> String) -> String {
    static QUOTED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*""#).unwrap());
    let mut result = String::new();
    let mut end = 0;
    for quoted in QUOTED.find_iter(text) {
        result += &rewrite(&text[end..quoted.start()]);
        result += quoted.as_str();
        end = quoted.end();
    }
    result + &rewrite(&text[end..])
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { points, numbers, texts, excused, differences } = self;
        writeln!(f, "parity: {points} points in both, with {numbers} numbers (equal) and {texts} texts")?;
        for (way, (times, first)) in excused {
            writeln!(f, "  {times} x {way:?}, first {first}")?;
        }
        writeln!(f, "  {} differences", differences.len())?;
        for difference in differences.iter().take(20) {
            writeln!(f, "  - {difference}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{NotFinite, Report, Way, compare, outside_quotes, ways};
    use crate::points::{Field, Fields, Place, Points, Series};

    fn place(time: i64) -> Place {
        let tags = BTreeMap::from([("entity_id".to_owned(), "x".to_owned())]);
        Place { series: Series { measurement: "W".to_owned(), tags }, time }
    }

    fn number(value: f64) -> Field {
        Field::Number(value)
    }

    fn text(value: &str) -> Field {
        Field::Text(value.to_owned())
    }

    fn fields(fields: &[(&str, Field)]) -> Fields {
        fields.iter().map(|(name, field)| ((*name).to_owned(), field.clone())).collect()
    }

    fn points<const N: usize>(points: [(i64, &[(&str, Field)]); N]) -> Points {
        points.into_iter().map(|(time, named)| (place(time), fields(named))).collect()
    }

    /// What is excused, and how many differences there are.
    #[track_caller]
    fn check(builtin: &Points, ours: &Points, excused: &[Way], differences: usize) {
        check_report(&compare(builtin, ours, &NotFinite::new()), excused, differences);
    }

    #[track_caller]
    fn check_report(report: &Report, excused: &[Way], differences: usize) {
        assert_eq!(report.excused.keys().copied().collect::<Vec<_>>(), excused, "{report}");
        assert_eq!(report.differences.len(), differences, "{report}");
    }

    #[track_caller]
    fn check_text(builtin: &str, ours: &str, expected: Option<&[Way]>) {
        assert_eq!(ways(builtin, ours).as_deref(), expected, "{builtin} -> {ours}");
    }

    #[test]
    fn equal_points_are_equal() {
        let same = points([(1, &[("value", number(21.5)), ("a_str", text("b"))]), (2, &[("value", number(-0.0))])]);
        check(&same, &same, &[], 0);
        assert_eq!(compare(&same, &same, &NotFinite::new()).points, 2);
    }

    #[test]
    fn a_point_that_only_one_has_is_a_difference() {
        let one = points([(1, &[("value", number(1.0))])]);
        let two = points([(1, &[("value", number(1.0))]), (2, &[("value", number(1.0))])]);
        check(&two, &one, &[], 1);
        check(&one, &two, &[], 1);
    }

    #[test]
    fn a_microsecond_a_tag_and_a_measurement_are_differences() {
        let one = points([(1_000, &[("value", number(1.0))])]);
        check(&one, &points([(2_000, &[("value", number(1.0))])]), &[], 2);
        let mut tagged = place(1_000);
        tagged.series.tags.insert("area".to_owned(), "hall".to_owned());
        check(&one, &Points::from([(tagged, one[&place(1_000)].clone())]), &[], 2);
        let mut renamed = place(1_000);
        renamed.series.measurement = "kW".to_owned();
        check(&one, &Points::from([(renamed, one[&place(1_000)].clone())]), &[], 2);
    }

    #[test]
    fn the_last_bit_of_a_number_and_the_type_of_a_field_are_differences() {
        let one = points([(1, &[("value", number(0.3))])]);
        for other in [number(0.1 + 0.2), text("0.3"), Field::Boolean(true)] {
            check(&one, &points([(1, &[("value", other)])]), &[], 1);
        }
        check(&points([(1, &[("v", number(0.0))])]), &points([(1, &[("v", number(-0.0))])]), &[], 1);
    }

    #[test]
    fn a_field_that_only_one_has_is_a_difference() {
        let one = points([(1, &[("value", number(1.0))])]);
        for field in [("b", number(1.0)), ("b_str", text("x")), ("state", text("None"))] {
            let two = points([(1, &[("value", number(1.0)), field])]);
            check(&one, &two, &[], 1);
            check(&two, &one, &[], 1);
        }
    }

    #[test]
    fn a_quotation_mark_in_a_name_is_excused_only_as_an_apostrophe_with_the_same_value() {
        let one = |name: &str, value: Field| points([(1, &[("value", number(1.0)), (name, value)])]);
        for value in [number(4.0), text("x"), Field::Boolean(true)] {
            check(&one("a\"b\"", value.clone()), &one("a'b'", value), &[Way::QuotationMarkInKey], 0);
        }
        check(&one("a\"b", number(4.0)), &one("a'b", number(5.0)), &[], 2);
        check(&one("a\"b", number(0.0)), &one("a'b", number(-0.0)), &[], 2);
        check(&one("a\"b", text("(1, 2)")), &one("a'b", text("[1, 2]")), &[], 2);
        check(&one("a'b", number(4.0)), &one("a\"b", number(4.0)), &[], 2);
        check(&one("a\"b", number(4.0)), &one("a_b", number(4.0)), &[], 2);
        let both = points([(1, &[("a\"b", number(4.0)), ("a'b", number(4.0))])]);
        check(&both, &points([(1, &[("a'b", number(4.0))])]), &[], 1);
    }

    #[test]
    fn a_point_that_only_we_have_is_excused_only_without_value_where_the_state_was_not_finite() {
        let mut place = place(7_000);
        place.series.tags.insert("domain".to_owned(), "sensor".to_owned());
        let at = |fields: &[(&str, Field)]| Points::from([(place.clone(), self::fields(fields))]);
        let ledger = NotFinite::from([("sensor.x".to_owned(), 7_000)]);
        let without = at(&[("a_str", text("b"))]);
        check_report(&compare(&Points::new(), &without, &ledger), &[Way::StateNotANumber], 0);
        check_report(&compare(&Points::new(), &at(&[("value", number(1.0))]), &ledger), &[], 1);
        check_report(&compare(&Points::new(), &Points::new(), &ledger), &[], 1);
        for (entity, time) in [("sensor.x", 7_001), ("sensor.y", 7_000)] {
            let other = NotFinite::from([(entity.to_owned(), time)]);
            check_report(&compare(&Points::new(), &without, &other), &[], 2);
        }
    }

    #[test]
    fn none_is_excused_only_where_it_may_stand_for_nan() {
        let without = points([(1, &[("value", number(1.0))])]);
        let with = points([(1, &[("value", number(1.0)), ("b_str", text("None"))])]);
        check(&without, &with, &[Way::NotFinite], 0);
        check(&with, &without, &[], 1);
        let finite = points([(1, &[("value", number(1.0)), ("b", number(2.0))])]);
        check(&finite, &with, &[], 2);
    }

    #[test]
    fn an_equal_value_is_excused_only_while_ours_is_still_the_one_before() {
        let at = |first: &str, second: &str| points([(1, &[("a_str", text(first))]), (2, &[("a_str", text(second))])]);
        check(&at("[1, 2]", "[1.0, 2.0]"), &at("[1, 2]", "[1, 2]"), &[Way::EqualNotReported], 0);
        check(&at("[1, 0]", "[True, False]"), &at("[1, 0]", "[1, 0]"), &[Way::EqualNotReported], 0);
        check(&at("[3]", "[1.0]"), &at("[3]", "[1]"), &[], 1);
        check(&at("[1]", "[2]"), &at("[1]", "[1]"), &[], 1);
        check(&at("['1']", "['1.0']"), &at("['1']", "['1']"), &[], 1);
    }

    #[test]
    fn the_texts_that_json_changes_are_told_by_the_way_they_change() {
        check_text("a (b)", "a (b)", Some(&[]));
        check_text("(255, 199, 142)", "[255, 199, 142]", Some(&[Way::Tuple]));
        check_text("(7,)", "[7]", Some(&[Way::Tuple]));
        check_text("()", "[]", Some(&[Way::Tuple]));
        check_text("{'a': (1, ('(', \")'\"))}", "{'a': [1, ['(', \")'\"]]}", Some(&[Way::Tuple]));
        check_text("[<ColorMode.HS: 'hs'>, <ColorMode.XY: 'xy'>]", "['hs', 'xy']", Some(&[Way::EnumMember]));
        check_text("(<Mode.A: 1>, (0.5, 2))", "[1, [0.5, 2]]", Some(&[Way::EnumMember, Way::Tuple]));
        check_text("2026-02-14 12:00:00+00:00", "2026-02-14T12:00:00+00:00", Some(&[Way::DateTime]));
        check_text("2026-02-14 12:00:00.000001", "2026-02-14T12:00:00.000001", Some(&[Way::DateTime]));
        check_text("[nan, -inf, 'nan']", "[None, None, 'nan']", Some(&[Way::NotFinite]));
        check_text("two\\nlines", "two lines", Some(&[Way::LineBreak]));
    }

    #[test]
    fn any_other_text_is_a_difference() {
        for (builtin, ours) in [
            ("a", "b"),
            ("'('", "'['"),
            ("[1, 2]", "[1, 3]"),
            ("[1]", "[1.0]"),
            ("[1, 2]", "(1, 2)"),
            ("2026-02-14T12:00:00", "2026-02-14 12:00:00"),
            ("2026-02-14 12:00:00", "2026-02-14T12:00:01"),
            ("None", "null"),
            ("['hs']", "[<ColorMode.HS: 'hs'>]"),
            ("(255, 199)", "[255, 198]"),
        ] {
            check_text(builtin, ours, None);
        }
    }

    proptest! {
        #[test]
        fn what_is_not_rewritten_comes_back_as_it_was(text in ".*") {
            prop_assert_eq!(outside_quotes(&text, str::to_owned), text.clone());
            prop_assert_eq!(ways(&text, &text), Some(vec![]));
        }

        #[test]
        fn no_text_breaks_the_comparison(builtin in r"[ -~]{0,20}", ours in r#"[(\[\])'", 0-9a-z.<>:]{0,20}"#) {
            let _ = ways(&builtin, &ours);
            check_never_panics(&builtin, &ours);
        }
    }

    fn check_never_panics(builtin: &str, ours: &str) {
        let one = points([(1, &[("a_str", text(builtin))]), (2, &[("a_str", text(ours))])]);
        let two = points([(1, &[("a_str", text(ours))]), (2, &[("a_str", text(ours))])]);
        let _ = compare(&one, &two, &NotFinite::new());
    }
}
