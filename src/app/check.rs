//! `check`: tries everything that the service depends on, without writing a point, and tells what was found.

use std::sync::Arc;
use std::time::Duration;

use super::{Exit, rules};
use crate::config::settings::{self, HomeAssistant, NamedTarget, Settings, Target};
use crate::influx::in_options_of;
use crate::influx::probe::{self, About};
use crate::ingest::{hass, mqtt};
use crate::rules::Rules;

/// How long Home Assistant and the MQTT broker may take to introduce themselves.
const PATIENCE: Duration = Duration::from_secs(10);

/// One line of the answer.
struct Row {
    good: bool,
    about: String,
    words: String,
}

#[expect(clippy::print_stdout, reason = "the answer of a command")]
pub(super) async fn run(settings: &Settings) -> anyhow::Result<Exit> {
    let mut rows = vec![Row { good: true, about: "options".to_owned(), words: "nothing wrong with them".to_owned() }];
    let (rules, of_rules) = of_rules(settings);
    rows.extend(of_rules);
    rows.push(home_assistant(settings.home_assistant.as_ref()).await);
    let wants_messages = rules.as_ref().is_some_and(|rules| !rules.topics.is_empty());
    rows.extend(mqtt(settings.mqtt.as_ref(), wants_messages).await);
    rows.extend(targets(settings).await);
    for row in &rows {
        println!("{}  {:<24} {}", if row.good { "ok    " } else { "FAILED" }, row.about, row.words);
    }
    if rules.is_none() {
        return Ok(Exit::Options);
    }
    Ok(if rows.iter().all(|row| row.good) { Exit::Done } else { Exit::Unavailable })
}

/// The rules, if they can be used, and what there is to say about them.
fn of_rules(settings: &Settings) -> (Option<Arc<Rules>>, Vec<Row>) {
    let row = |good, words: String| Row { good, about: "rules".to_owned(), words };
    match rules::load(settings) {
        Ok(loaded) => {
            let warnings = loaded.warnings.iter().cloned();
            let rows = [loaded.summary()].into_iter().chain(warnings).map(|words| row(true, words)).collect();
            (Some(loaded.rules), rows)
        }
        Err(unusable) => (None, unusable.to_string().lines().map(|line| row(false, line.to_owned())).collect()),
    }
}

async fn home_assistant(settings: Option<&HomeAssistant>) -> Row {
    let about = "home_assistant".to_owned();
    let Some(settings) = settings else {
        let words = "set `home_assistant.url` and `home_assistant.token`".to_owned();
        return Row { good: false, about, words };
    };
    match hass::probe(settings, PATIENCE).await {
        Ok(found) => Row { good: true, about, words: format!("Home Assistant {} accepts the token", found.version) },
        Err(err) => Row { good: false, about, words: err.to_string() },
    }
}

async fn mqtt(settings: Option<&settings::Mqtt>, wants_messages: bool) -> Option<Row> {
    let about = "mqtt".to_owned();
    let Some(settings) = settings else {
        let words = "rules.yaml has topics, and there is no broker: set `mqtt.host`, and `mqtt.enabled`".to_owned();
        return wants_messages.then_some(Row { good: false, about, words });
    };
    let (good, words) = match mqtt::probe(settings, PATIENCE).await {
        Ok(mqtt::Probe::Welcome { place }) => (true, format!("the broker at {place} takes us in")),
        Ok(mqtt::Probe::NoBroker) if wants_messages => (false, mqtt::NO_BROKER.to_owned()),
        Ok(mqtt::Probe::NoBroker) => (true, "no broker is installed; topics in rules.yaml would need one".to_owned()),
        Err(err) => (false, err.to_string()),
    };
    Some(Row { good, about, words })
}

async fn targets(settings: &Settings) -> Vec<Row> {
    let mut rows = Vec::new();
    if settings.targets.is_empty() {
        rows.push(Row { good: false, about: "influxdb".to_owned(), words: "set `influxdb.url`".to_owned() });
    }
    for NamedTarget { name, place } in &settings.targets {
        let archive = matches!(place, Target::Archive(_));
        rows.extend(probe::probe(place, &settings.delivery).await.into_iter().map(|found| {
            let about = match found.about {
                About::Settings => name.clone(),
                About::Server => format!("{name}: server"),
                About::Writing if archive => format!("{name}: files"),
                About::Writing => format!("{name}: writing"),
            };
            Row { good: found.good, about, words: in_options_of(name, &found.words) }
        }));
    }
    rows
}
