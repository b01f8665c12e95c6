//! The one place that knows everyone: commands become settings, settings become parts.

mod check;
mod coverage;
mod demo;
mod first_import;
mod greeting;
mod healthcheck;
mod import;
mod jobs;
mod lock;
mod places;
mod preview;
mod refused_events;
mod replay;
mod rules;
mod service;
mod verify;
mod voice;

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tracing::error;

use crate::cli::{Cli, Command};
use crate::config::{self, Invalid};
use crate::influx::UnusableTarget;
use crate::runtime::logging;
use crate::runtime::signal::StopSignals;
use crate::spool::opening;

use self::lock::Taken;
use self::rules::UnusableRules;
use self::service::{Doors, Extra};

/// How long work that cannot be interrupted may keep the process after its end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How a command ended, in the numbers of `sysexits.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Done = 0,
    /// `verify`: something is missing.
    Incomplete = 1,
    /// Something needed cannot be reached, or does not take what it is given.
    Unavailable = 69,
    /// A fault of this program.
    Software = 70,
    /// Somebody ended it before its end; the number is that of a shell for SIGINT.
    Interrupted = 130,
    /// Something is wrong with the options. The add-on stays down: a restart would not help.
    Options = 78,
}

/// Runs the command on this command line.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(told) => {
            // Help and version come this way too, and are no fault.
            let exit = if told.use_stderr() { Exit::Options } else { Exit::Done };
            // Nobody may be listening: then nothing is lost.
            let _ = told.print();
            return ExitCode::from(exit as u8);
        }
    };
    let exit = obey(&cli).unwrap_or_else(|failure| report(&failure));
    ExitCode::from(exit as u8)
}

fn obey(cli: &Cli) -> anyhow::Result<Exit> {
    let environment = config::environment();
    match cli.command.clone().unwrap_or_default() {
        Command::Run => {
            let settings = config::load(&cli.flags, environment)?;
            let log = logging::start(settings.log, &settings.place.data_dir);
            on_runtime(async {
                let signals = StopSignals::listen().context("cannot listen for signals")?;
                let doors = Doors::open(&settings).await?;
                let board = service::board(&settings);
                service::run(settings, &log, doors, board, signals, Extra::default()).await?;
                Ok(Exit::Done)
            })
        }
        Command::Demo(wishes) => on_runtime(demo::run(&cli.flags, wishes)),
        Command::Check => {
            let settings = config::load(&cli.flags, environment)?;
            on_runtime(check::run(&settings))
        }
        Command::Preview(wishes) => {
            let settings = config::load(&cli.flags, environment)?;
            on_runtime(preview::run(&settings, &wishes))
        }
        Command::Replay(wishes) => {
            let settings = config::load(&cli.flags, environment)?;
            on_runtime(replay::run(&settings, &wishes))
        }
        Command::Import(wishes) => {
            let settings = config::load(&cli.flags, environment)?;
            on_runtime(import::run(&settings, &wishes))
        }
        Command::Verify(wishes) => {
            let settings = config::load(&cli.flags, environment)?;
            on_runtime(verify::run(&settings, &wishes))
        }
        Command::Healthcheck => Ok(healthcheck::run(&config::load_place(&cli.flags, environment)?)),
    }
}

/// Two workers: decoding on one, delivery on the other. More would only cost memory at the rates of a home.
fn on_runtime(work: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let exit = runtime.block_on(work);
    // A look-up at a dead resolver or a write to a hung disk cannot be ended; it must not keep the process.
    runtime.shutdown_timeout(LAST_WORDS);
    exit
}

#[expect(clippy::print_stderr, reason = "the log may not have started, and a person is waiting for a word")]
fn report(failure: &anyhow::Error) -> Exit {
    if let Some(invalid) = failure.downcast_ref::<Invalid>() {
        eprintln!("{invalid}");
        return Exit::Options;
    }
    if let Some(unusable) = failure.downcast_ref::<UnusableRules>() {
        // The panel of the add-on shows the log; a person who tries a command sees both alike.
        if tracing::dispatcher::has_been_set() {
            unusable.to_string().lines().for_each(|line| error!("{line}"));
        } else {
            eprintln!("{unusable}");
        }
        return Exit::Options;
    }
    // The options read well and still cannot be used, such as a certificate that is none.
    let is_of_the_future = |error: &opening::OpenError| matches!(error, opening::OpenError::NewerFormat { .. });
    let exit = if failure.is::<UnusableTarget>() || failure.downcast_ref().is_some_and(is_of_the_future) {
        Exit::Options
    } else if failure.is::<Taken>() || failure.is::<opening::OpenError>() {
        Exit::Unavailable
    } else {
        Exit::Software
    };
    if tracing::dispatcher::has_been_set() {
        error!("{failure:#}");
    } else {
        eprintln!("ha-ingestor: {failure:#}");
    }
    exit
}
