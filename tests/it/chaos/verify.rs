//! The ingestor's own verdict about the same period.

use std::process::Command;

use ha_ingestor::model::time::Timestamp;
use serde_json::Value;

use super::Compared;
use crate::ingestor::{Ingestor, binary};
use crate::peers::recorder_database::Row;

/// Runs `ha-ingestor verify` from the first row to the last, and compares its figures with those of the test, which were
/// found in another way: from the tables of the recorder, and with other questions to the databases.
///
/// # Panics
///
/// If they are not the same.
pub fn must_say_the_same(ingestor: &mut Ingestor, recorded: &[Row], compared: &[Compared]) {
    let [first, last] = [recorded.first(), recorded.last()].map(|row| row.expect("there was load").updated);
    let folder = ingestor.folder();
    let mut command = Command::new(binary());
    command.arg("verify").arg("--json").arg("--options").arg(folder.join("options.json"));
    command.arg("--data-dir").arg(folder.join("data"));
    // Exclusive at its end.
    for (bound, micros) in [("--from", first), ("--to", last + 1_000)] {
        command.args([bound, &Timestamp::from_micros(micros).to_string()]);
    }
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&told)
        .unwrap_or_else(|err| panic!("{err}: {told}{}", String::from_utf8_lossy(&output.stderr)));
    let mut verdicts = Vec::new();
    for (own, target) in compared.iter().zip(report["targets"].as_array().unwrap()) {
        let Compared { database, difference, known, .. } = own;
        let figures = ["known", "missing", "differing_timestamps", "extra"].map(|name| target["total"][name].as_u64());
        let figures = figures.map(|figure| figure.expect("a count"));
        let not_kept = target["not_kept"].as_u64().expect("a count");
        // What the recorder lost in a crash is what nobody but the database knows.
        let extra = difference.extra.len() + difference.never_recorded;
        let expected = [*known, difference.missing.len(), difference.differing.len(), extra].map(|count| count as u64);
        println!(
            "{database}: known, missing, differing, extra: the test says {expected:?}, verify {figures:?}; \
             {not_kept} more have no number"
        );
        let sees_all = figures[3] == expected[3] || own.loses_texts && figures[3] < expected[3];
        assert!(not_kept == 0 || own.loses_texts, "{database} keeps texts");
        // Of a text there may be a number among the attributes that the recorder leaves out: then it was kept all the same.
        let is_known = (figures[0]..=figures[0] + not_kept).contains(&expected[0]);
        verdicts.push(is_known && figures[1..3] == expected[1..3] && sees_all);
    }
    println!("verify: {}; cannot be verified: {}; {}", output.status, report["cannot_be_verified"], report["notes"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(verdicts, [true, true], "the figures are not the same");
}
