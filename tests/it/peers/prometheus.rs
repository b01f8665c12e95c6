//! Prometheus' own opinion of a page of metrics.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::peer::find;

/// Panics with what `promtool check metrics` says, if it says anything.
pub fn check_metrics(page: &str) {
    let Some(promtool) = find("HA_INGESTOR_TEST_PROMTOOL", "bin/promtool") else { return };
    let mut command = Command::new(promtool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().expect("it was piped").write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "promtool: {}\n{said}\nof\n{page}", output.status);
}

#[test]
fn a_page_that_prometheus_likes_passes() {
    check_metrics("# HELP a_total How many.\n# TYPE a_total counter\na_total 1\n");
}

#[test]
fn a_page_that_prometheus_does_not_like_fails() {
    if find("HA_INGESTOR_TEST_PROMTOOL", "bin/promtool").is_some() {
        let page = "# HELP a How many.\n# TYPE a counter\na 1\n";
        assert!(std::panic::catch_unwind(|| check_metrics(page)).is_err());
    }
}
