//! `check`: tries everything that the service depends on, without writing a point, and tells what was found.

use std::time::Duration;

use super::Exit;
use crate::config::settings::{HomeAssistant, NamedTarget, Settings, Target};
use crate::influx::probe::{self, About};
use crate::ingest::hass;

/// How long Home Assistant may take to introduce itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// One line of the answer.
struct Row {
    good: bool,
    about: &'static str,
    words: String,
}

#[expect(clippy::print_stdout, reason = "the answer of a command")]
pub(super) async fn run(settings: &Settings) -> anyhow::Result<Exit> {
    let mut rows = vec![Row { good: true, about: "options", words: "nothing wrong with them".to_owned() }];
    rows.push(home_assistant(settings.home_assistant.as_ref()).await);
    rows.extend(influxdb(settings).await);
    for row in &rows {
        println!("{}  {:<24} {}", if row.good { "ok    " } else { "FAILED" }, row.about, row.words);
    }
    Ok(if rows.iter().all(|row| row.good) { Exit::Done } else { Exit::Unavailable })
}

async fn home_assistant(settings: Option<&HomeAssistant>) -> Row {
    let about = "home_assistant";
    let Some(settings) = settings else {
        let words = "set `home_assistant.url` and `home_assistant.token`".to_owned();
        return Row { good: false, about, words };
    };
    match hass::probe(settings, PATIENCE).await {
        Ok(found) => Row { good: true, about, words: format!("Home Assistant {} accepts the token", found.version) },
        Err(err) => Row { good: false, about, words: err.to_string() },
    }
}

async fn influxdb(settings: &Settings) -> Vec<Row> {
    let Some(NamedTarget { place: target, .. }) = settings.targets.first() else {
        return vec![Row { good: false, about: "influxdb", words: "set `influxdb.url`".to_owned() }];
    };
    let findings = probe::probe(target, &settings.delivery).await;
    let archive = matches!(target, Target::Archive(_));
    findings
        .into_iter()
        .map(|found| {
            let about = match found.about {
                About::Settings => "influxdb",
                About::Server => "influxdb: server",
                About::Writing if archive => "influxdb: files",
                About::Writing => "influxdb: writing",
            };
            Row { good: found.good, about, words: found.words }
        })
        .collect()
}
