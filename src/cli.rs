//! The commands and flags, as a person sees them with `--help`. What they do is decided elsewhere.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

use crate::config::place::Flags;
use crate::model::entity::EntityId;
use crate::model::time::Timestamp;

/// Writes everything a Home Assistant home does into InfluxDB, and keeps the books on it
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "ha-ingestor", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub flags: Flags,

    /// Without one the service runs: `command.unwrap_or_default()`.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const EXIT_CODES: &str = "Exit codes: 0 all is well, 1 verify found that something is missing, 69 something needed cannot be reached or does not \
                          take what it is given, 70 a fault of this program, \
                          78 something is wrong with the options, 130 interrupted.";

#[derive(Debug, Clone, Default, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the service until it is stopped (this is what happens without a command)
    #[default]
    Run,
    /// Try everything with a simulated home that writes into files: nothing to set up
    Demo(Demo),
    /// Read the options, try to reach Home Assistant and the database, and tell what was found
    Check,
    /// Show what would be written for entities of your home, or for states that you have
    Preview(Preview),
    /// Send again what the database refused once, or the files of an archive
    ///
    /// What was stored leaves the dead letters; what is refused again stays. It may be done while the service runs, and be
    /// interrupted and begun again: a line that is written twice is one point.
    Replay(Replay),
    /// Show that the database has everything that Home Assistant knows
    ///
    /// It reads Home Assistant's history and the points of the database, and compares them. It may be done while the service
    /// runs, and be interrupted.
    Verify(Verify),
    /// Bring in the past: Home Assistant's raw history, and before that its hourly statistics
    ///
    /// It may be done while the service runs. It can be interrupted at any moment: the same command goes on where it was.
    Import(Import),
    /// Ask the running service whether it is alive (for the health check of a container)
    Healthcheck,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Demo {
    /// Stop after this time [default: run until stopped]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: Option<u32>,

    /// How much happens in the simulated home
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub events_per_second: u32,

    /// How many entities the simulated home has
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub entities: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Preview {
    /// A file with one state in JSON per line, as Home Assistant gives them; - is standard input
    #[arg(long, value_name = "FILE|-", required_unless_present = "entities", conflicts_with = "entities")]
    pub state: Option<StateSource>,

    /// An entity of the Home Assistant that runs now; may be given several times
    #[arg(long = "entity", value_name = "ID", value_parser = EntityId::parse)]
    pub entities: Vec<EntityId>,

    /// Also name the rule that decided
    #[arg(long)]
    pub explain: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Replay {
    /// Files of line protocol, packed with gzip, such as those of an archive (`file://` in influxdb.url)
    #[arg(value_name = "FILE.lp.gz", required_unless_present = "dead_letters", conflicts_with = "dead_letters")]
    pub files: Vec<PathBuf>,

    /// Send the lines that a database refused, each to the target that refused it
    #[arg(long)]
    pub dead_letters: bool,

    /// Send everything to this target [default: influxdb]
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,

    /// Only tell what there is
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Import {
    /// Begin here: a time such as 2026-02-14T18:30:00Z, or a date (in UTC) [default: as far back as there is]
    #[arg(long, value_name = "T", value_parser = moment)]
    pub from: Option<Timestamp>,

    /// End before this [default: now]
    #[arg(long, value_name = "T", value_parser = moment)]
    pub to: Option<Timestamp>,

    /// Without the raw history
    #[arg(long)]
    pub no_raw: bool,

    /// Without the statistics
    #[arg(long)]
    pub no_statistics: bool,

    /// Statistics get mean, min, max and sum, and no `value`
    #[arg(long)]
    pub no_value: bool,

    /// Only into this target [default: all of them]
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,

    /// Only count: nothing is written
    #[arg(long)]
    pub dry_run: bool,

    /// Begin anew, though an earlier import was interrupted
    #[arg(long)]
    pub restart: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Verify {
    /// Begin here: a time such as 2026-02-14T18:30:00Z, or a date (in UTC) [default: a day before the end]
    #[arg(long, value_name = "T", value_parser = moment)]
    pub from: Option<Timestamp>,

    /// End before this [default: now]
    #[arg(long, value_name = "T", value_parser = moment)]
    pub to: Option<Timestamp>,

    /// Only this entity; may be given several times
    #[arg(long = "entity", value_name = "ID", value_parser = EntityId::parse)]
    pub entities: Vec<EntityId>,

    /// Write what is missing, and compare again
    #[arg(long)]
    pub repair: bool,

    /// Only this target [default: all of them]
    #[arg(long, value_name = "NAME")]
    pub target: Option<String>,

    /// Also name entities without a difference
    #[arg(long)]
    pub all: bool,

    /// Print everything that was found out as JSON
    #[arg(long)]
    pub json: bool,
}

/// A time with an offset, or the beginning of a day in UTC. `Err`: what to write instead.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::from_rfc3339(text)
        .or_else(|| Timestamp::from_rfc3339(&format!("{text}T00:00:00Z")))
        .ok_or_else(|| "give a time such as 2026-02-14T18:30:00Z, or a date such as 2026-02-14".to_owned())
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateSource {
    StandardInput,
    File(PathBuf),
}

impl FromStr for StateSource {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "-" { Self::StandardInput } else { Self::File(text.into()) })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use clap::{CommandFactory, Parser};

    use super::{Cli, Command, Demo, Preview, Replay, StateSource, Verify};
    use crate::model::entity::EntityId;
    use crate::model::time::Timestamp;

    fn check(line: &str, expected: &Command) {
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(&cli.command.unwrap_or_default(), expected, "{line}");
    }

    fn refused(line: &str) -> String {
        Cli::try_parse_from(line.split_whitespace()).expect_err(line).to_string()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_are_read_as_typed() {
        check("ha-ingestor", &Command::Run);
        check("ha-ingestor run", &Command::Run);
        check("ha-ingestor check --options here.json", &Command::Check);
        check("ha-ingestor healthcheck", &Command::Healthcheck);
        let verify = Verify {
            from: Some(Timestamp::from_micros(86_400_000_000)),
            to: Some(Timestamp::from_micros(0)),
            entities: vec![EntityId::parse("a.b").unwrap()],
            repair: true,
            target: None,
            all: false,
            json: true,
        };
        let line = "ha-ingestor verify --from 1970-01-02 --to 1970-01-01T01:00:00+01:00 --entity a.b --repair --json";
        check(line, &Command::Verify(verify));
        assert!(refused("ha-ingestor verify --from soon").contains("a date such as 2026-02-14"));
        check("ha-ingestor demo", &Command::Demo(Demo { seconds: None, events_per_second: 20, entities: 100 }));
        check(
            "ha-ingestor demo --seconds 5 --events-per-second 1000 --entities 7",
            &Command::Demo(Demo { seconds: Some(5), events_per_second: 1000, entities: 7 }),
        );
        check(
            "ha-ingestor preview --state - --explain",
            &Command::Preview(Preview { state: Some(StateSource::StandardInput), entities: vec![], explain: true }),
        );
        check(
            "ha-ingestor preview --state states.jsonl",
            &Command::Preview(Preview {
                state: Some(StateSource::File("states.jsonl".into())),
                entities: vec![],
                explain: false,
            }),
        );
        let entities = ["light.a", "sensor.b"].map(|id| EntityId::parse(id).unwrap()).into();
        check(
            "ha-ingestor preview --entity light.a --entity sensor.b",
            &Command::Preview(Preview { state: None, entities, explain: false }),
        );
    }

    #[test]
    fn replay_takes_letters_or_files() {
        let letters = Replay { files: vec![], dead_letters: true, target: None, dry_run: false };
        check("ha-ingestor replay --dead-letters", &Command::Replay(letters.clone()));
        check(
            "ha-ingestor replay --dead-letters --target mirror_1 --dry-run",
            &Command::Replay(Replay { target: Some("mirror_1".into()), dry_run: true, ..letters.clone() }),
        );
        check(
            "ha-ingestor replay a.lp.gz b.lp.gz",
            &Command::Replay(Replay {
                files: vec!["a.lp.gz".into(), "b.lp.gz".into()],
                dead_letters: false,
                ..letters
            }),
        );
        assert!(refused("ha-ingestor replay").contains("<FILE.lp.gz>"));
        assert!(refused("ha-ingestor replay --dead-letters a.lp.gz").contains("cannot be used with"));
    }

    #[test]
    fn flags_may_stand_before_or_after_the_command() {
        for line in ["ha-ingestor --data-dir /tmp/x check", "ha-ingestor check --data-dir /tmp/x"] {
            let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
            assert_eq!(cli.flags.data_dir, Some(PathBuf::from("/tmp/x")), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_hint() {
        for (line, part) in [
            ("ha-ingestor demmo", "'demo'"),
            ("ha-ingestor --listn 127.0.0.1:1", "'--listen'"),
            ("ha-ingestor --listen 8099", "'--listen <ADDR:PORT>'"),
            ("ha-ingestor --grace-seconds 0", "'--grace-seconds <N>'"),
            ("ha-ingestor demo --entities 0", "'--entities <N>'"),
            ("ha-ingestor preview", "--state <FILE|->"),
            ("ha-ingestor preview --state - --entity a.b", "cannot be used with"),
            ("ha-ingestor preview --entity kitchen", "an entity id needs a domain, a dot and an object id"),
        ] {
            let message = refused(line);
            assert!(message.contains(part), "{line}: {message}");
        }
    }
}
