//! `replay`: sends again what is kept - lines that a database refused, or the files of an archive.
//!
//! What an answer means is decided by the same deciders as in the service, which may run at the same time. A line that is
//! sent twice is the same point, so this may be interrupted at any moment and begun again.

mod files;
mod letters;

use std::collections::BTreeMap;

use super::Exit;
use crate::cli::Replay;
use crate::config::settings::{Settings, Target};

use super::voice::Voice;

pub(super) async fn run(settings: &Settings, wishes: &Replay) -> anyhow::Result<Exit> {
    let mut voice = Voice::new();
    let targets = targets(settings);
    if targets.is_empty() {
        voice.say("nowhere to write to: set `influxdb.url`");
        return Ok(Exit::Options);
    }
    if let Some(wanted) = &wishes.target
        && !targets.iter().any(|(name, _)| name == wanted)
    {
        let names: Vec<&str> = targets.iter().map(|(name, _)| *name).collect();
        voice.say(&format!("--target: there is no target `{wanted}`; there is {}", names.join(", ")));
        return Ok(Exit::Options);
    }
    if wishes.dead_letters {
        letters::run(settings, &targets, wishes, &mut voice).await
    } else {
        files::run(settings, &targets, wishes, &mut voice).await
    }
}

/// The targets of the options, by their names.
fn targets(settings: &Settings) -> Vec<(&str, &Target)> {
    settings.targets.iter().map(|target| (target.name.as_str(), &target.place)).collect()
}

/// What was refused, by the words of the server.
#[derive(Default)]
struct Complaints(BTreeMap<String, u64>);

impl Complaints {
    fn add(&mut self, words: &str) {
        match self.0.get_mut(words) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(words.to_owned(), 1)),
        }
    }

    fn sum(&self) -> u64 {
        self.0.values().sum()
    }

    /// A line for each, indented.
    fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(words, count)| format!("  {count} refused: {words}"))
    }
}
