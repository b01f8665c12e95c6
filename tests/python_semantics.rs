//! Our `float()`, `str()`, `splitlines()` and `fnmatch` against those of a real Python, on some thousand values.
//!
//! The values are random but the same in every run. Their characters are older than any Python in use: versions of
//! Unicode differ in what they know of the newest.

#![allow(clippy::disallowed_methods, reason = "tests are told by the environment where the real peers are")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail")]

mod support {
    pub(crate) mod python;
    pub(crate) mod skip;
}

use std::path::Path;

use ha_ingestor::demo::json::push_value;
use ha_ingestor::model::value::Value;
use ha_ingestor::pipeline::glob::Glob;
use ha_ingestor::pipeline::python::{number, text};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::json;
use support::python::ask;

/// Puts `values` to both sides: `question` is the JSON for Python, `ours` what we say to the same.
fn compare<T>(kind: &str, values: &[T], question: impl Fn(&T) -> String, mut ours: impl FnMut(&T) -> Option<String>) {
    let questions: Vec<_> = values.iter().map(|value| format!(r#"["{kind}", {}]"#, question(value))).collect();
    let Some(answers) = ask(Path::new("python3"), "semantics.py", &questions) else { return };
    for ((value, question), answer) in values.iter().zip(&questions).zip(answers) {
        assert_eq!(json!(ours(value)), answer, "{question}");
    }
}

fn quoted(text: &str) -> String {
    json!(text).to_string()
}

fn to_json(value: &Value) -> String {
    let mut json = String::new();
    push_value(&mut json, value);
    json
}

fn samples<S: Strategy>(count: usize, strategy: &S) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// Texts that are rich in what Python treats in some special way.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}",
        "[\\x00-\\x20'\"\\\\a\\x7f]{0,6}",
        "[a\r\n\\x0b\\x0c\\x1c-\\x1f\u{85}\u{2028}\u{2029}]{0,6}",
        "[ae'\u{301}\u{200b}\u{ad}\u{a0}\u{378}\u{e000}\u{e0001}\u{feff}\u{ffff}\u{10ffff}°ß世😀\u{1160}\u{600}]{0,6}",
    ]
}

fn numbers() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ \\t\\x0b\u{a0}\\x1c]?[+-]?[0-9_]{0,4}[.]?[0-9_]{0,4}([eE][+-]?[0-9_]{0,3})?[ \\n\u{2003}\\x1f]?",
        "[+-]{0,2}[0-9٤५０𝟗_.]{1,5}(e[-+]?[0-9٣]{1,3})?[ \u{3000}]?",
        "[ ]?[+-]?[iI][nN][fF]([iI][nN][iI][tT][yY]?)?[_]?",
        "[+-]?[nN][aA][nN][ a]?",
        "[0-9]{15,25}[.]?[0-9]{0,20}(e[-+]?[0-9]{1,3})?",
        any::<f64>().prop_map(|number| number.to_string()),
        texts(),
    ]
}

#[test]
fn float_agrees_with_python() {
    let ours = |text: &String| {
        let mut out = String::new();
        number::parse_float(text).map(|number| {
            text::write_float(number, &mut out);
            std::mem::take(&mut out)
        })
    };
    compare("float", &samples(6000, &numbers()), |text| quoted(text), ours);
}

#[test]
fn the_number_in_a_text_agrees_with_python() {
    let holding = "[0-9٤]{0,3}[a .\\n]{0,2}[0-9五𝟗]{0,3}[.xé]{0,2}[0-9]{0,2}[\\n]?";
    let mut kept = String::new();
    let ours = |text: &String| {
        let mut out = String::new();
        number::digits_of(text, &mut kept).map(|number| {
            text::write_float(number, &mut out);
            std::mem::take(&mut out)
        })
    };
    compare("digits", &samples(6000, &prop_oneof![holding, numbers()]), |text| quoted(text), ours);
}

#[test]
fn str_agrees_with_python() {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (i64::MAX as u64 + 1..=u64::MAX).prop_map(Value::UInt),
        any::<f64>().prop_filter("JSON has finite numbers only", |number| number.is_finite()).prop_map(Value::Float),
        (-1000i32..1000, 0..25).prop_map(|(digits, shift)| Value::Float(f64::from(digits) * 10f64.powi(shift - 8))),
        texts().prop_map(|text| Value::Text(text.into())),
    ];
    let values = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| Value::List(items.into())),
            proptest::collection::btree_map(texts(), inner, 0..4)
                .prop_map(|map| Value::Map(map.into_iter().map(|(key, item)| (key.into(), item)).collect())),
        ]
    });
    let ours = |value: &Value| {
        let mut out = String::new();
        text::write_str(value, &mut out);
        Some(out)
    };
    compare("str", &samples(6000, &values), to_json, ours);
}

#[test]
fn joined_lines_agree_with_python() {
    compare("lines", &samples(2000, &texts()), |text| quoted(text), |text| Some(text::join_lines(text).into_owned()));
}

#[test]
fn globs_agree_with_python() {
    // Without `!` inside a set: Python mistakes it for a negation if an empty range stood before it.
    let patterns = r"([ab.*?_-]|\[!?[]ab._^&|\\-]{0,4}\]?){0,5}";
    let ours = |(pattern, text): &(String, String)| {
        Some(if Glob::new(pattern).matches(text) { "True" } else { "False" }.to_owned())
    };
    let pairs = (patterns, r"[ab._^\[\]-]{0,4}");
    compare("glob", &samples(6000, &pairs), |(pattern, text)| format!("[{}, {}]", quoted(pattern), quoted(text)), ours);
}
