//! Our units of measurement against those of a real Home Assistant 2025.4, without a home.

use ha_ingestor::model::units::{Conversion, known};
use serde_json::json;

use crate::peers::home_assistant::python;
use crate::support::python::ask;

/// Not zero, where every factor is right, and with more than one digit.
const NUMBER: f64 = 12.75;

/// It is enough that a family without an answer is seen.
const FEWEST_PAIRS: usize = 1_200;

#[test]
fn every_pair_of_units_that_home_assistant_knows_too_is_converted_as_it_does() {
    let units: Vec<&str> = known().collect();
    let pairs: Vec<(&str, &str)> = units
        .iter()
        .flat_map(|from| units.iter().map(move |to| (*from, *to)))
        .filter(|(from, to)| from != to)
        .collect();
    let questions: Vec<String> = pairs.iter().map(|(from, to)| json!([NUMBER, from, to]).to_string()).collect();
    let Some(python) = python() else { return };
    let Some(answers) = ask(&python, "units.py", &questions) else { return };
    let mut compared = 0;
    for ((from, to), answer) in pairs.into_iter().zip(answers) {
        let Some(expected) = answer.as_f64() else { continue };
        let Some(conversion) = Conversion::between(from, to) else { panic!("{from} to {to} is {expected}") };
        let converted = conversion.apply(NUMBER);
        let most = expected.abs() * 1e-12;
        assert!((converted - expected).abs() <= most, "{NUMBER} {from} are {converted} {to}, and not {expected}");
        compared += 1;
    }
    assert!(compared >= FEWEST_PAIRS, "only {compared} pairs were compared");
}
