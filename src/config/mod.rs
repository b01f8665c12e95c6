//! Options as they were typed, settings as they are true.
//!
//! [`load`] is the one door: options file and environment become [`options::Options`], which become
//! [`settings::Settings`], or every fault at once in the user's words. Only [`environment`] reads the environment, and only
//! this file reads from the disk; the rest is told.
//!
//! This module does not know what a setting is used for, and opens no connection.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

pub(crate) mod check;
pub(crate) mod faults;
mod layers;
pub mod options;
pub mod place;
pub mod secret;
pub mod settings;
mod variables;

use faults::Faults;
pub use faults::Invalid;
use place::Flags;
use secret::Secret;
use settings::{Place, Settings};

/// All that the service needs to know, from the flags, the options file and the environment.
pub fn load(flags: &Flags, environment: impl IntoIterator<Item = (String, String)>) -> Result<Settings, Invalid> {
    assemble(flags, &Machine::here(environment))
}

/// Only where the service lives: enough to ask a running one how it is.
pub fn load_place(flags: &Flags, environment: impl IntoIterator<Item = (String, String)>) -> Result<Place, Invalid> {
    let mut faults = Faults::default();
    let place = Place::check(flags, &Machine::here(environment), &mut faults);
    faults.into_result(place)
}

/// The environment of this process. Bytes that are no text become `U+FFFD`, which no option accepts.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

fn assemble(flags: &Flags, machine: &Machine<'_>) -> Result<Settings, Invalid> {
    let mut faults = Faults::default();
    let place = Place::check(flags, machine, &mut faults);
    let options = layers::merge(flags.options.as_deref(), machine, &mut faults);
    let settings = Settings::check(options, place, machine, &mut faults);
    faults.into_result(settings)
}

/// What this machine says. Tests make one up.
struct Machine<'a> {
    environment: BTreeMap<String, String>,
    read: &'a dyn Fn(&Path) -> io::Result<String>,
    /// Whether `/data` is there: the Supervisor mounts it, and so does the image.
    has_data_folder: bool,
    /// Whether `/config` is there: under the Supervisor that is the add-on's own folder, elsewhere it may be anybody's.
    has_editable_folder: bool,
}

impl Machine<'_> {
    fn here(environment: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            environment: environment.into_iter().collect(),
            read: &|path| std::fs::read_to_string(path),
            has_data_folder: Path::new(place::DATA_FOLDER).is_dir(),
            has_editable_folder: Path::new(place::EDITABLE_FOLDER).is_dir(),
        }
    }

    /// A variable that is set and says something.
    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// There is one exactly when the Supervisor started us.
    fn supervisor_token(&self) -> Option<Secret> {
        self.variable("SUPERVISOR_TOKEN").map(Secret::new)
    }
}

#[cfg(test)]
mod tests;
