//! The rules of the house that the compiler does not keep. `src/lib.rs` says them in prose; change both together.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `place`, or `place` itself; fails if there is none, so that a renamed module cannot leave a rule
/// without a subject.
fn files(place: &str, extension: &str) -> Vec<PathBuf> {
    let start = root().join(place);
    assert!(start.exists(), "{place} is gone: change the rule with it");
    let mut found = Vec::new();
    let mut open = vec![start];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
    assert!(!found.is_empty(), "{place} holds no .{extension} file");
    found
}

/// The program part of a file: tests may do what they like, in the file or in one of their own.
fn program(path: &Path) -> String {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    if ["tests.rs", "story.rs"].contains(&&*name) {
        return String::new();
    }
    let text = fs::read_to_string(path).unwrap();
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned()
}

fn check(places: &[&str], forbidden: &[&str], why: &str) {
    for place in places {
        for file in files(place, "rs") {
            let text = program(&file);
            for needle in forbidden {
                assert!(!text.contains(needle), "{} mentions `{needle}`: {why}", file.display());
            }
        }
    }
}

/// Modules that decide and never do.
const DECIDERS: &[&str] = &[
    "src/model",
    "src/ingest/hass/protocol",
    "src/ingest/hass/registry.rs",
    "src/ingest/hass/reload.rs",
    "src/ingest/hass/session.rs",
    "src/ingest/hass/states.rs",
    "src/pipeline/entity.rs",
    "src/ingest/mqtt/receipts.rs",
    "src/history/gaps/gap.rs",
    "src/history/gaps/restored.rs",
    "src/history/import/hours.rs",
    "src/history/import/points.rs",
    "src/history/recorder/missing_attributes.rs",
    "src/history/recorder/rows.rs",
    "src/history/recorder/statistics.rs",
    "src/history/recorder/windows.rs",
    "src/history/verify/compare.rs",
    "src/history/verify/entities.rs",
    "src/history/verify/expected.rs",
    "src/history/verify/report.rs",
    "src/ingest/mqtt/subscriptions.rs",
    "src/pipeline/filter.rs",
    "src/pipeline/fired.rs",
    "src/pipeline/frontier.rs",
    "src/pipeline/places.rs",
    "src/pipeline/glob.rs",
    "src/pipeline/mod.rs",
    "src/pipeline/pace.rs",
    "src/pipeline/past.rs",
    "src/pipeline/python",
    "src/pipeline/schema.rs",
    "src/pipeline/selection.rs",
    "src/pipeline/state.rs",
    "src/pipeline/transform.rs",
    "src/pipeline/treatment.rs",
    "src/pipeline/mqtt",
    "src/pipeline/twice.rs",
    "src/pipeline/words.rs",
    "src/rules",
    "src/line",
    "src/spool/frame.rs",
    "src/spool/front.rs",
    "src/spool/ledger.rs",
    "src/spool/pending.rs",
    "src/spool/progress.rs",
    "src/deliver/breaker.rs",
    "src/deliver/pace.rs",
    "src/deliver/verdict.rs",
    "src/deliver/complaints.rs",
    "src/deliver/isolate.rs",
    "src/runtime/repeats.rs",
    "src/demo/home.rs",
    "src/demo/trouble.rs",
    "src/web/health.rs",
    "src/web/metrics.rs",
    "src/web/rules.rs",
    "src/dead_letters/allowance.rs",
    "src/app/preview/told.rs",
];

#[test]
fn deciders_touch_nothing() {
    check(
        DECIDERS,
        &["tokio::", "std::fs", "std::net", "std::env", "Instant::now", "SystemTime::now", "clock::now"],
        "it decides; sockets, files, clocks and tasks belong to its caller",
    );
}

#[test]
fn nobody_knows_more_than_the_map_allows() {
    let rules: &[(&[&str], &[&str], &str)] = &[
        (
            &["src/model"],
            &[
                "crate::app",
                "crate::config",
                "crate::ingest",
                "crate::pipeline",
                "crate::line",
                "crate::spool",
                "crate::deliver",
                "crate::influx",
                "crate::status",
                "crate::web",
                "crate::demo",
                "crate::runtime",
            ],
            "the values know none of the parts that share them",
        ),
        (
            &["src/ingest", "src/history/gaps", "src/history/recorder"],
            &["crate::pipeline", "crate::line", "crate::spool", "crate::deliver", "crate::influx", "crate::web"],
            "a source emits events; what becomes of them is not its business",
        ),
        (&["src/ingest"], &["crate::history"], "what flows by itself knows nobody who asks"),
        (
            &["src/history/recorder"],
            &["crate::history::gaps", "crate::history::import", "crate::history::verify"],
            "the recorder is asked and knows nobody who asks",
        ),
        (
            &["src/pipeline"],
            &["crate::ingest", "crate::deliver", "crate::influx", "crate::web"],
            "the pipeline does not know where an event came from or where its point goes",
        ),
        (
            &["src/line"],
            &["crate::config", "crate::ingest", "crate::pipeline", "crate::spool", "crate::deliver", "crate::influx"],
            "a line is the same for every rule and every target",
        ),
        (
            &["src/spool"],
            &["crate::config", "crate::ingest", "crate::pipeline", "crate::line", "crate::deliver", "crate::influx"],
            "the spool stores bytes",
        ),
        (
            &["src/deliver"],
            &["crate::ingest", "crate::pipeline", "crate::line", "crate::model::point"],
            "delivery moves opaque batches",
        ),
        (
            &["src/influx"],
            &["crate::ingest", "crate::pipeline", "crate::spool", "crate::deliver", "crate::status"],
            "a target sends one request and reports",
        ),
        (
            &["src/status"],
            &[
                "crate::config",
                "crate::ingest",
                "crate::pipeline",
                "crate::line",
                "crate::spool",
                "crate::deliver",
                "crate::influx",
                "crate::web",
            ],
            "facts do not know how they are made or shown",
        ),
        (
            &["src/web"],
            &[
                "crate::config",
                "crate::ingest",
                "crate::pipeline",
                "crate::line",
                "crate::spool",
                "crate::deliver",
                "crate::influx",
                "crate::demo",
            ],
            "the web shows the snapshot, and asks others for what it does not show",
        ),
        (
            &[
                "src/runtime/alive.rs",
                "src/runtime/backoff.rs",
                "src/runtime/group.rs",
                "src/runtime/repeats.rs",
                "src/runtime/signal.rs",
                "src/runtime/mod.rs",
            ],
            &["crate::config", "crate::status", "crate::ingest", "crate::pipeline", "crate::spool"],
            "groups of tasks, and their patience, know no domain",
        ),
    ];
    for (places, forbidden, why) in rules {
        check(places, forbidden, why);
    }
}

#[test]
fn rules_are_what_was_typed() {
    let others = ["app", "ingest", "line", "spool", "deliver", "influx", "status", "web"];
    let others = others.map(|part| format!("crate::{part}"));
    let why = "rules are options and a file, checked; others work by them";
    check(&["src/rules"], &others.each_ref().map(String::as_str), why);
}

#[test]
fn the_supervisor_is_asked_and_knows_nobody_who_asks() {
    for file in files("src/supervisor", "rs") {
        let text = program(&file).replace("crate::config::", "").replace("crate::net", "");
        assert!(!text.contains("crate::"), "{} knows more than the settings", file.display());
    }
}

#[test]
fn connections_know_no_protocol_and_nobody_who_makes_them() {
    for file in files("src/net", "rs") {
        let text = program(&file).replace("crate::config::settings::Tls", "");
        assert!(!text.contains("crate::"), "{} knows more than the options for TLS", file.display());
    }
    let libraries = ["TlsConnector::builder", "TcpStream::connect", "lookup_host"];
    check(&["src/ingest", "src/influx", "src/history", "src/supervisor"], &libraries, "connections are made in net");
}

#[test]
fn dead_letters_are_lines_in_files() {
    for file in files("src/dead_letters", "rs") {
        let text =
            program(&file).replace("crate::model::", "").replace("crate::runtime::file", "").replace("pub(crate)", "");
        assert!(!text.contains("crate::"), "{} knows more than the shared values", file.display());
    }
    check(&["src/dead_letters"], &["tokio::", "clock::now", "Instant::now"], "the caller has threads and a clock");
}

#[test]
fn only_config_reads_the_environment() {
    for file in files("src", "rs") {
        let text = program(&file);
        let in_config = file.strip_prefix(root().join("src/config")).is_ok();
        assert!(in_config || !text.contains("env::var"), "{} reads the environment", file.display());
    }
}

/// The Supervisor searches the whole repository and takes each such file for the add-on's own.
#[test]
fn no_second_file_bears_a_name_that_the_supervisor_looks_for() {
    let mut open = vec![root().to_path_buf()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let ours = path == root() || !(name.starts_with('.') || name == "target" || name == "ha-ingestor-data");
            if ours {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            continue;
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let kind = path.extension().unwrap_or_default().to_string_lossy();
        let looked_for =
            ["config", "build", "repository"].contains(&&*stem) && ["yaml", "yml", "json"].contains(&&*kind);
        let allowed = path.parent() == Some(root()) && kind == "yaml";
        assert!(!looked_for || allowed, "{} would be taken for the add-on's own file", path.display());
    }
}

/// A promise whose test was renamed or removed is a promise that nothing shows.
#[test]
fn every_test_that_the_documents_name_is_there() {
    let mut code = String::new();
    for place in ["src", "tests"] {
        for file in files(place, "rs") {
            code.push_str(&fs::read_to_string(file).unwrap());
        }
    }
    let text = fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    let named: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with('|'))
        .filter_map(|row| row.trim_end_matches(['|', ' ']).rsplit('|').next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter(|name| name.matches('_').count() > 3)
        .collect();
    assert!(named.len() > 40, "the table is read: {named:?}");
    for name in named {
        assert!(code.contains(&format!("fn {name}(")), "docs/reliability.md names `{name}`, which is no test");
    }
}

/// A module doc is the first thing a reader sees.
#[test]
fn every_file_begins_by_saying_what_it_is() {
    for file in files("src", "rs") {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//! "), "{} has no module documentation", file.display());
    }
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    for file in files("src", "rs") {
        let lines = program(&file).lines().count();
        assert!(lines <= 500, "{} has {lines} lines before its tests: split it by responsibility", file.display());
    }
}
