//! `import` into a real InfluxDB: all of the past, once, whatever happens meanwhile.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ha_ingestor::runtime::clock;
use serde_json::Value;

use crate::points::{self, Field, Points};
use crate::support::influxd::Influxd;
use crate::verify::{Bench, DATABASE};

const HOUR_NANOS: i64 = 3_600_000_000_000;

fn command(bench: &Bench, url: &str, arguments: &[&str]) -> Command {
    command_with(bench.folder.path(), &bench.options(url), arguments)
}

/// The command with a service's folder and these options.
fn command_with(folder: &Path, options: &Value, arguments: &[&str]) -> Command {
    let path = folder.join("import-options.json");
    std::fs::write(&path, options.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ha-ingestor"));
    command.env_clear().arg("import").args(arguments).arg("--options").arg(path);
    command.arg("--data-dir").arg(folder.join("data"));
    command
}

pub fn import(bench: &Bench, url: &str, arguments: &[&str]) -> (Option<i32>, String) {
    ended(&mut command(bench, url, arguments))
}

/// The same with these options.
pub fn import_with(folder: &Path, options: &Value, arguments: &[&str]) -> (Option<i32>, String) {
    ended(&mut command_with(folder, options, arguments))
}

fn ended(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), told)
}

pub fn all(influxd: &Influxd) -> Points {
    points::points(influxd, DATABASE, i64::MIN + 10, i64::MAX - 10)
}

/// A period that begins so many days ago and has ended.
pub fn days_ago(days: i64) -> [String; 2] {
    let at = |days: i64| {
        let micros = clock::now().as_micros() - days * 86_400_000_000;
        ha_ingestor::model::time::Timestamp::from_micros(micros).to_string()
    };
    [at(days), at(0)]
}

#[test]
fn the_past_is_there_and_is_what_verify_knows() {
    let Some(influxd) = Influxd::start() else { return };
    influxd.create_database(DATABASE);
    let (bench, url) = (Bench::new(), influxd.url());
    let [from, to] = days_ago(30);
    let period = ["--from", &from, "--to", &to];

    let (code, told) = import(&bench, &url, &[&period[..], &["--dry-run"]].concat());
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("points would be written"), "{told}");
    assert!(all(&influxd).is_empty(), "nothing was to be written");

    let (code, told) = import(&bench, &url, &period);
    assert_eq!(code, Some(0), "{told}");
    let stored = all(&influxd);
    let is_hour = |fields: &points::Fields| fields.contains_key("mean") || fields.contains_key("sum");
    let hours: Points =
        stored.iter().filter(|(_, fields)| is_hour(fields)).map(|(a, b)| (a.clone(), b.clone())).collect();
    let raw = stored.len() - hours.len();
    assert!(told.contains(&format!("{} points written", stored.len())), "{told}");
    assert!(raw > 1_000 && hours.len() > 500, "{raw} raw, {} hours: {told}", hours.len());
    for (place, fields) in &hours {
        assert_eq!(place.time % HOUR_NANOS, 0, "{place:?}");
        assert!(matches!(fields["value"], Field::Number(_)), "{place:?} {fields:?}");
        let oldest = stored.iter().find(|(other, fields)| other.series == place.series && !is_hour(fields));
        let Some((oldest, _)) = oldest else { continue };
        assert!(place.time + HOUR_NANOS <= oldest.time, "{place:?} is not before the raw history, {oldest:?}");
    }
    let (code, told) = bench.verify(&url, &[]);
    assert_eq!(code, Some(0), "{told}");
}

#[test]
fn it_goes_on_where_it_was_killed_and_ends_as_if_it_had_not_been() {
    let Some(influxd) = Influxd::start() else { return };
    influxd.create_database(DATABASE);
    let (bench, url) = (Bench::new(), influxd.url());
    let [from, to] = days_ago(60);
    let period = ["--from", &from, "--to", &to];
    let mut kills = 0;
    let mut wait = Duration::from_millis(30);
    let told = loop {
        let mut process = command(&bench, &url, &period).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(wait);
        if process.try_wait().unwrap().is_some() {
            break String::new();
        }
        process.kill().unwrap();
        process.wait().unwrap();
        kills += 1;
        wait += Duration::from_millis(40);
        let is_begun = bench.folder.path().join("data/import.json").exists();
        if kills >= 5 && is_begun {
            let (code, told) = import(&bench, &url, &period);
            assert_eq!(code, Some(0), "{told}");
            break told;
        }
    };
    assert!(told.contains("it went on where it had stopped"), "after {kills} kills: {told}");
    let interrupted = all(&influxd);

    influxd.query(DATABASE, "DROP DATABASE home");
    influxd.create_database(DATABASE);
    let (code, told) = import(&bench, &url, &[&period[..], &["--restart"]].concat());
    assert_eq!(code, Some(0), "{told}");
    let whole = all(&influxd);
    assert_eq!(whole.len(), interrupted.len());
    assert!(whole == interrupted, "not the same points");
}

#[test]
fn what_cannot_be_done_is_told_with_what_to_do() {
    let bench = Bench::new();
    let nobody = "http://127.0.0.1:9";
    let table: [(&[&str], i32, &str); 4] = [
        (&["--from", "yesterday"], 78, "give a time such as"),
        (&["--from", "2026-02-01", "--to", "2026-01-01"], 78, "--from: must be before --to"),
        (&["--target", "mirror_7"], 78, "there is no target `mirror_7`; there is influxdb"),
        (&["--from", "2026-11-01"], 69, "the same command goes on from there"),
    ];
    for (arguments, code, words) in table {
        let (ended, told) = import(&bench, nobody, arguments);
        assert_eq!(ended, Some(code), "{arguments:?}: {told}");
        assert!(told.contains(words), "{arguments:?}: {told}");
    }
    bench.home.home_mut(|home| home.unload_recorder(true));
    let (ended, told) = import(&bench, nobody, &[]);
    assert_eq!(ended, Some(69), "{told}");
    assert!(told.contains("Home Assistant's recorder is off: there is no history to import"), "{told}");
}
