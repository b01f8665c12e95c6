//! Where the service lives on this machine: flags, then environment variables, then what fits the surroundings.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Machine;
use super::faults::{Faults, shown};
use super::settings::{Place, RulesFile};

pub(super) const DATA_FOLDER: &str = "/data";
/// Where the Supervisor mounts the add-on's own folder of files that people edit.
pub(super) const EDITABLE_FOLDER: &str = "/config";
const RULES_NAME: &str = "rules.yaml";

const DATA_DIR: &str = "HA_INGESTOR_DATA_DIR";
const LISTEN: &str = "HA_INGESTOR_LISTEN";
const RULES: &str = "HA_INGESTOR_RULES";
const METRICS_LISTEN: &str = "HA_INGESTOR_METRICS_LISTEN";
/// The image sets it to 1. In a container the outside is reached only through the ports that it publishes, so the
/// service listens on all addresses there and only on this machine's own elsewhere.
const CONTAINER: &str = "HA_INGESTOR_CONTAINER";
pub(super) const VARIABLES: [&str; 5] = [DATA_DIR, RULES, LISTEN, METRICS_LISTEN, CONTAINER];

const PORT: u16 = 8099;
const METRICS_PORT: u16 = 9273;

/// Flags that every command takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Where things are")]
pub struct Flags {
    /// The file with the options, in JSON [default: /data/options.json if there is one]
    ///
    /// Each option can also be given as an environment variable, which then counts more than the file:
    /// `HA_INGESTOR__INFLUXDB__URL` is `url` under `influxdb`. A list is separated by commas; `HA_INGESTOR__MIRRORS` is
    /// the list in JSON.
    /// `HA_INGESTOR__INFLUXDB__TOKEN_FILE` names a file that holds the value.
    #[arg(long, global = true, value_name = "FILE")]
    pub options: Option<PathBuf>,

    /// The folder for what must survive a restart [default: /data if there is one, else ./ha-ingestor-data]
    ///
    /// Environment variable: `HA_INGESTOR_DATA_DIR`.
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// The file with the rules, in YAML [default: rules.yaml in the add-on's own folder, else in the data folder]
    ///
    /// Environment variable: `HA_INGESTOR_RULES`.
    #[arg(long, global = true, value_name = "FILE")]
    pub rules: Option<PathBuf>,

    /// Where the panel and the health checks answer [default: 127.0.0.1:8099, in the container 0.0.0.0:8099]
    ///
    /// Environment variable: `HA_INGESTOR_LISTEN`.
    #[arg(long, global = true, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,

    /// Where metrics and health checks answer other machines [default: nowhere, in the container 0.0.0.0:9273]
    ///
    /// Environment variable: `HA_INGESTOR_METRICS_LISTEN`.
    #[arg(long, global = true, value_name = "ADDR:PORT")]
    pub metrics_listen: Option<SocketAddr>,

    /// How long an orderly stop may take [default: 8, as an add-on 45]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub grace_seconds: Option<u16>,
}

impl Place {
    pub(super) fn check(flags: &Flags, machine: &Machine<'_>, faults: &mut Faults) -> Self {
        let supervised = machine.supervisor_token().is_some();
        let in_container = supervised || says_yes(CONTAINER, machine, faults);

        let data_dir = flags.data_dir.clone().or_else(|| machine.variable(DATA_DIR).map(PathBuf::from));
        let data_dir = data_dir.unwrap_or_else(|| {
            let folder = if machine.has_data_folder { DATA_FOLDER } else { "./ha-ingestor-data" };
            Path::new(folder).to_owned()
        });

        let named = flags.rules.clone().or_else(|| machine.variable(RULES).map(PathBuf::from));
        let folder =
            if supervised && machine.has_editable_folder { Path::new(EDITABLE_FOLDER) } else { data_dir.as_path() };
        let rules =
            RulesFile { must_be_there: named.is_some(), path: named.unwrap_or_else(|| folder.join(RULES_NAME)) };

        let host = if in_container { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        let listen = flags.listen.or_else(|| address(LISTEN, machine, faults));
        let listen = listen.unwrap_or(SocketAddr::from((host, PORT)));
        let metrics_listen = flags.metrics_listen.or_else(|| address(METRICS_LISTEN, machine, faults));
        let metrics_listen = metrics_listen.or(in_container.then_some(SocketAddr::from((host, METRICS_PORT))));
        // Port 0 is a free port each time.
        if metrics_listen == Some(listen) && listen.port() != 0 {
            faults.add(format!("--listen and --metrics-listen are both {listen}: give each its own port"));
        }

        // The Supervisor kills after the 60 seconds that the add-on asks for, Docker after 10 by default.
        let usual = if supervised { 45 } else { 8 };
        let grace = Duration::from_secs(flags.grace_seconds.unwrap_or(usual).into());
        Self { data_dir, listen, metrics_listen, grace, rules }
    }
}

fn address(name: &str, machine: &Machine<'_>, faults: &mut Faults) -> Option<SocketAddr> {
    let text = machine.variable(name)?;
    let address = text.parse().ok();
    if address.is_none() {
        faults.add(format!("{name}: must be an address and a port like 0.0.0.0:8099, not `{}`", shown(text)));
    }
    address
}

fn says_yes(name: &str, machine: &Machine<'_>, faults: &mut Faults) -> bool {
    match machine.variable(name) {
        None | Some("0" | "false") => false,
        Some("1" | "true") => true,
        Some(text) => {
            faults.add(format!("{name}: must be 1 or 0, not `{}`", shown(text)));
            false
        }
    }
}
