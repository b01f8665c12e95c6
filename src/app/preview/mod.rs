//! `preview`: what would be written for a state, without writing it.

pub(super) mod panel;
mod told;

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use self::told::Told;
use super::{Exit, rules};
use crate::cli::{Preview, StateSource};
use crate::config::settings::Settings;
use crate::history::recorder::present::{self, State, nearest};
use crate::model::entity::EntityId;
use crate::model::registries::Registries;
use crate::rules::Rules;
use crate::runtime::clock;

/// How long Home Assistant may take to tell its states.
const PATIENCE: Duration = Duration::from_secs(10);

/// One state in, one line out: a point, or a comment that says why there is none.
pub(super) async fn run(settings: &Settings, wishes: &Preview) -> anyhow::Result<Exit> {
    let rules = rules::load(settings)?.rules;
    let mut out = BufWriter::new(io::stdout().lock());
    let exit = match &wishes.state {
        Some(source) => of_states(source, &rules, settings, wishes.explain, &mut out),
        None => of_entities(&wishes.entities, &rules, settings, wishes.explain, &mut out).await,
    }?;
    out.flush().context("cannot write the answer")?;
    Ok(exit)
}

/// The function blocks. Nothing else waits for this thread.
fn of_states(
    source: &StateSource,
    rules: &Arc<Rules>,
    settings: &Settings,
    explain: bool,
    out: &mut impl Write,
) -> anyhow::Result<Exit> {
    let states: Box<dyn BufRead> = match source {
        StateSource::StandardInput => Box::new(BufReader::new(io::stdin())),
        StateSource::File(path) => Box::new(BufReader::new(open(path)?)),
    };
    name_targets(settings, out)?;
    for state in states.split(b'\n') {
        let state = state.context("cannot read the states")?;
        if !state.trim_ascii().is_empty() {
            let answer = match str::from_utf8(&state) {
                // Nobody says what the registries of these states are.
                Ok(state) => answer(rules, &Arc::default(), state, explain),
                Err(_) => "# refused: not a state as Home Assistant gives it: not UTF-8".to_owned(),
            };
            writeln!(out, "{answer}").context("cannot write the answer")?;
        }
    }
    Ok(Exit::Done)
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

async fn of_entities(
    entities: &[EntityId],
    rules: &Arc<Rules>,
    settings: &Settings,
    explain: bool,
    out: &mut impl Write,
) -> anyhow::Result<Exit> {
    let Some(home) = &settings.home_assistant else {
        say("no Home Assistant to ask: set `home_assistant.url` and `home_assistant.token`");
        return Ok(Exit::Options);
    };
    let present = match present::look(home, PATIENCE).await {
        Ok(present) => present,
        Err(err) => {
            say(&err.to_string());
            return Ok(if err.is_wrong_token() { Exit::Options } else { Exit::Unavailable });
        }
    };
    name_targets(settings, out)?;
    let registries = Arc::new(present.registries);
    let mut exit = Exit::Done;
    for entity in entities {
        let answer = match find(&present.states, entity) {
            Ok(state) => answer(rules, &registries, state, explain),
            Err(words) => {
                exit = Exit::Unavailable;
                format!("# refused: {words}")
            }
        };
        writeln!(out, "{answer}").context("cannot write the answer")?;
    }
    Ok(exit)
}

#[expect(clippy::print_stderr, reason = "what is wrong is no part of the answer")]
fn say(words: &str) {
    eprintln!("ha-ingestor: {words}");
}

/// A line is the same for all of them.
fn name_targets(settings: &Settings, out: &mut impl Write) -> anyhow::Result<()> {
    let names: Vec<&str> = settings.targets.iter().map(|target| target.name.as_str()).collect();
    if let [_, _, ..] = names[..] {
        writeln!(out, "# each line goes to {}", names.join(", ")).context("cannot write the answer")?;
    }
    Ok(())
}

fn answer(rules: &Arc<Rules>, registries: &Arc<Registries>, state: &str, explain: bool) -> String {
    match Told::of_state(rules, registries, state, clock::now()) {
        Ok(told) => told.text(explain),
        Err(err) => format!("# refused: {err}"),
    }
}

/// The state of this entity in JSON, or words that name those that are called nearly so.
fn find<'a>(present: &'a [State], entity: &EntityId) -> Result<&'a str, String> {
    if let Some(found) = present.iter().find(|state| state.entity_id == entity.as_str()) {
        return Ok(found.state.get());
    }
    let nearest = nearest(entity.as_str(), present.iter().map(|state| state.entity_id.as_str()));
    Err(match &nearest[..] {
        [] => format!("Home Assistant has no entity {}", entity.as_str()),
        names => format!("Home Assistant has no entity {}: did you mean {}?", entity.as_str(), names.join(" or ")),
    })
}
