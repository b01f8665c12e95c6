//! The ingestor's own verdict about the same period.

use std::process::Command;

use ha_ingestor::model::time::Timestamp;

use crate::ingestor::{Ingestor, binary};
use crate::peers::recorder_database::Row;

/// Runs `ha-ingestor verify` from the first row to the last.
///
/// # Panics
///
/// If it finds that anything is missing.
pub fn must_say_the_same(ingestor: &mut Ingestor, recorded: &[Row]) {
    let help = Command::new(binary()).arg("--help").output().unwrap();
    if !String::from_utf8_lossy(&help.stdout).lines().any(|line| line.trim_start().starts_with("verify ")) {
        println!("verify: this binary has no such command");
        return;
    }
    let [first, last] = [recorded.first(), recorded.last()].map(|row| row.expect("there was load").updated);
    let folder = ingestor.folder();
    let mut command = Command::new(binary());
    command.arg("--options").arg(folder.join("options.json")).arg("--data-dir").arg(folder.join("data"));
    // Exclusive at its end.
    for (bound, micros) in [("--from", first), ("--to", last + 1)] {
        command.args([bound, &Timestamp::from_micros(micros).to_string()]);
    }
    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let output = Command::new(binary()).arg("verify").args(args).output().unwrap();
    println!("verify: {}\n{}", output.status, String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
