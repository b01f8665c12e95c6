//! Python, asked what it would do.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::skip::skip;

/// Puts all questions, one JSON value a line, to a program of `tests/peers` and returns its answers. `None` if there is
/// no such Python here.
pub(crate) fn ask(python: &Path, program: &str, questions: &[String]) -> Option<Vec<Value>> {
    let program: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/peers", program].iter().collect();
    let mut command = Command::new(python);
    command.arg(&program).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut peer = match command.spawn() {
        Ok(peer) => peer,
        Err(error) => {
            skip(&format!("{} does not start: {error}", python.display()));
            return None;
        }
    };
    // The programs read everything before they answer, so neither side waits for the other.
    let mut stdin = peer.stdin.take().expect("it was piped");
    stdin.write_all((questions.join("\n") + "\n").as_bytes()).unwrap();
    drop(stdin);
    let output = peer.wait_with_output().unwrap();
    assert!(output.status.success(), "{} failed", program.display());
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = answers.lines().map(|answer| serde_json::from_str(answer).unwrap()).collect();
    assert_eq!(answers.len(), questions.len(), "one answer per question");
    Some(answers)
}
