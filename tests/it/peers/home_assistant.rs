//! A headless Home Assistant with an owner, who has a token.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::http;
use crate::support::peer::find;
use crate::support::process::{Process, free_address, wait_until};

/// A boot takes a core for 12 s and 200 MB: one home at a time.
static ONE_HOME: Mutex<()> = Mutex::new(());

/// Boots take a minute on a machine that builds something else at the same time.
const BOOT: Duration = Duration::from_mins(3);

/// What is in the home besides the helpers and template sensors of [`configuration`] and the load generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup<'a> {
    /// The integration `demo`: about 110 entities of all domains.
    pub demo: bool,
    /// The integration `influxdb`, on its way to this port and database.
    pub influxdb: Option<(u16, &'a str)>,
    /// The integration `mqtt` with the broker at this port of the loopback. What happens is published as well: by
    /// `mqtt_statestream` below `stream`, with times and attributes, and by `mqtt_eventstream` to `home/events`.
    /// An automation switches the flag whenever `night_falls` is fired.
    pub mqtt: Option<u16>,
    /// The recorder with its usual settings, and the history that is asked from it.
    pub recorder: bool,
    /// So many seconds pass between two commits of the recorder.
    pub commit_interval: Option<u32>,
    /// Every state goes into a ledger, whoever made it: [`HomeAssistant::every_state`].
    pub ledger: bool,
    pub version: Version,
}

/// Which of the two that `make peers` fetches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Version {
    /// 2025.4.4, or what `HA_INGESTOR_TEST_HASS_PYTHON` has.
    #[default]
    Usual,
    /// 2026.11.0.
    Newest,
}

pub struct HomeAssistant {
    python: PathBuf,
    process: Process,
    address: SocketAddr,
    token: String,
    folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// What the load generator is to do; see `tests/peers/custom_components/loadgen`.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub count: usize,
    pub rate: u32,
    pub entities: u32,
    pub seed: u32,
    pub nasty: bool,
}

/// A row of the ledger.
#[derive(Debug, Clone)]
pub struct Change {
    pub entity_id: String,
    /// As CSV has it: in quotes if it holds one, or a comma.
    pub state: String,
    /// Microseconds since 1970, rounded as Home Assistant rounds them.
    pub micros: i64,
}

impl Change {
    /// Returns whether the state is one of those that become a point.
    pub fn is_written(&self) -> bool {
        !matches!(self.state.as_str(), "" | "unknown" | "unavailable")
    }

    fn parse(row: &str) -> Self {
        let change = || {
            let (_seq, rest) = row.split_once(',')?;
            let (entity_id, rest) = rest.split_once(',')?;
            let (state, micros) = rest.rsplit_once(',')?;
            Some(Self { entity_id: entity_id.to_owned(), state: state.to_owned(), micros: micros.parse().ok()? })
        };
        change().unwrap_or_else(|| panic!("not a row of the ledger: {row}"))
    }
}

impl HomeAssistant {
    /// Boots it and makes its owner; it is in state RUNNING.
    pub fn start(setup: Setup) -> Option<Self> {
        let python = match setup.version {
            Version::Usual => python()?,
            Version::Newest => find("HA_INGESTOR_TEST_NEWEST_HASS_PYTHON", "home-assistant-newest/python")?,
        };
        let turn = ONE_HOME.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = TempDir::new().unwrap();
        let address = free_address();
        fs::write(folder.path().join("configuration.yaml"), configuration(address.port(), setup)).unwrap();
        if let Some(port) = setup.mqtt {
            fs::create_dir(folder.path().join(".storage")).unwrap();
            fs::write(folder.path().join(".storage/core.config_entries"), mqtt_entry(port)).unwrap();
        }
        // Python leaves compiled files beside its sources: not in the checkout.
        copy_loadgen_to(&folder.path().join("custom_components/loadgen"));

        let process = run(&python, folder.path());
        let mut home = Self { python, process, address, token: String::new(), folder, _turn: turn };
        home.token = home.onboard();
        home.wait_until_running();
        Some(home)
    }

    /// SIGTERM, and what it takes to end in order; the recorder writes what it has.
    pub fn stop(&mut self) {
        self.process.terminate(BOOT).expect("Home Assistant ends");
    }

    /// SIGKILL: what the recorder has not written is lost.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// With the same folder on the same port, until it is in state RUNNING. The token stays good.
    pub fn start_again(&mut self) {
        self.process = run(&self.python, self.folder.path());
        self.wait_until_running();
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    #[allow(dead_code, reason = "not every binary needs it")]
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    /// Calls `domain.service` and waits until Home Assistant is done with it.
    pub fn call(&self, service: &str, data: &Value) -> Value {
        let path = format!("/api/services/{}", service.replace('.', "/"));
        let answer = self.post(&path, &data.to_string());
        assert_eq!(answer.status, 200, "{service} {data}: {}", answer.body);
        answer.json()
    }

    pub fn set_state(&self, entity_id: &str, state: &str, attributes: &Value) {
        let body = json!({"state": state, "attributes": attributes}).to_string();
        let answer = self.post(&format!("/api/states/{entity_id}"), &body);
        assert!(matches!(answer.status, 200 | 201), "{entity_id}: {answer:?}");
    }

    /// Takes an entity away, as an integration does that is unloaded.
    pub fn remove(&self, entity_id: &str) {
        let authorization = format!("Bearer {}", self.token);
        let headers = [("Authorization", authorization.as_str())];
        let answer = http::delete(self.address, &format!("/api/states/{entity_id}"), &headers).unwrap();
        assert_eq!(answer.status, 200, "{entity_id}: {answer:?}");
    }

    /// Fires an event of this type, without data.
    pub fn fire(&self, event_type: &str) {
        let answer = self.post(&format!("/api/events/{event_type}"), "{}");
        assert_eq!(answer.status, 200, "{event_type}: {answer:?}");
    }

    /// Makes changes, and gives the ledger of them once they are made.
    pub fn load(&self, load: Load) -> Vec<Change> {
        let Load { count, rate, entities, seed, nasty } = load;
        let mut data = json!({"count": count, "rate": rate, "entities": entities, "seed": seed, "nasty": nasty});
        data["ledger"] = json!(self.ledger_file());
        self.call("loadgen.run", &data);
        let ledger = self.ledger();
        assert_eq!(ledger.len(), count, "the load generator did not do as it was told");
        ledger
    }

    /// The changes that [`Self::load`] has made so far; without a rate, but for those of the last quarter of a second.
    pub fn ledger(&self) -> Vec<Change> {
        read_ledger(&self.ledger_file())
    }

    fn ledger_file(&self) -> PathBuf {
        self.folder.path().join("ledger.csv")
    }

    /// Every state that there was, whoever made it, if [`Setup::ledger`] asks for that.
    pub fn every_state(&self) -> Vec<Change> {
        read_ledger(&self.folder.path().join(EVERY_STATE))
    }

    /// The steps of the first page that a new user sees. The token is good for half an hour.
    fn onboard(&mut self) -> String {
        let client = format!("{}/", self.url());
        let user = json!({"client_id": client, "name": "Owner", "username": "owner", "password": "a long password",
            "language": "en"});
        let created = wait_until("Home Assistant makes its owner", BOOT, || {
            self.process.must_run();
            let answer = http::post(self.address, "/api/onboarding/users", &JSON, &user.to_string()).ok()?;
            // 404 until the part that answers is loaded.
            (answer.status != 404).then(|| answer.json())
        });
        let code = created["auth_code"].as_str().unwrap();
        let grant = [("grant_type", "authorization_code"), ("code", code), ("client_id", &client)];
        let granted = http::post(self.address, "/auth/token", &[http::FORM], &http::form(&grant)).unwrap().json();
        // It is on disk a moment later; killed before, Home Assistant would know neither the owner nor the token.
        wait_until("Home Assistant keeps the token", BOOT, || {
            let kept = std::fs::read_to_string(self.folder().join(".storage/auth")).ok()?;
            kept.contains(&client).then_some(())
        });
        granted["access_token"].as_str().unwrap().to_owned()
    }

    fn wait_until_running(&mut self) {
        wait_until("Home Assistant is running", BOOT, || {
            self.process.must_run();
            let authorization = format!("Bearer {}", self.token);
            let answer = http::get(self.address, "/api/config", &[("Authorization", &authorization)]).ok()?;
            (answer.json()["state"] == "RUNNING").then_some(())
        });
    }

    fn post(&self, path: &str, body: &str) -> http::Response {
        let authorization = format!("Bearer {}", self.token);
        let headers = [JSON[0], ("Authorization", authorization.as_str())];
        http::post(self.address, path, &headers, body).expect("Home Assistant answers")
    }
}

/// The rows that are whole. Empty if there is no file.
pub fn read_ledger(file: &Path) -> Vec<Change> {
    let rows = fs::read_to_string(file).unwrap_or_default();
    let whole = rows.rfind('\n').map_or("", |end| &rows[..=end]);
    whole.lines().skip(1).map(Change::parse).collect()
}

fn run(python: &Path, folder: &Path) -> Process {
    let mut command = Command::new(python);
    // Without `--skip-pip` it would look for packages of its own.
    command.args(["-m", "homeassistant", "--skip-pip", "--config"]).arg(folder);
    Process::start("Home Assistant", &mut command, &folder.join("console.log"))
}

/// The Python that has the package `homeassistant`.
pub fn python() -> Option<PathBuf> {
    find("HA_INGESTOR_TEST_HASS_PYTHON", "home-assistant/bin/python")
}

/// The ledger of everything, in the folder of the configuration.
const EVERY_STATE: &str = "every_state.csv";
const JSON: [(&str, &str); 1] = [("Content-Type", "application/json")];

/// What the default configuration would load is named one by one, so that no boot looks for devices on the network.
fn configuration(port: u16, setup: Setup) -> String {
    let loadgen = if setup.ledger { format!("{{ledger: {EVERY_STATE}}}") } else { String::new() };
    let mut yaml = format!(
        r#"
homeassistant: {{name: Home, latitude: 48.85, longitude: 2.35, elevation: 35, unit_system: metric,
  time_zone: Europe/Paris, country: FR}}
http: {{server_host: 127.0.0.1, server_port: {port}}}
api:
websocket_api:
config:
onboarding:
logger: {{default: warning}}
loadgen: {loadgen}
input_boolean: {{flag: {{name: Flag}}}}
input_button: {{knob: {{name: Knob 17}}}}
input_datetime: {{moment: {{has_date: true, has_time: true}}}}
input_number: {{level: {{min: -1000000, max: 1000000, step: 0.001, unit_of_measurement: W}}}}
input_select: {{mood: {{options: [calm, "it's 5, or = 6", 'a "quoted" one']}}}}
input_text: {{note: {{max: 255}}}}
counter: {{visits: {{step: 3}}}}
timer: {{tea: {{duration: "00:03:00"}}}}
template:
  - sensor:
      - name: Twice the level
        unique_id: twice
        unit_of_measurement: W
        device_class: power
        state_class: measurement
        state: "{{{{ states('input_number.level') | float(0) * 2 }}}}"
        attributes:
          half: "{{{{ states('input_number.level') | float(0) / 3 }}}}"
          list: "{{{{ [1, 2.5, 'three', none, true] }}}}"
          pair: "{{{{ (1, 'two') }}}}"
      - name: The note
        unique_id: note
        state: "{{{{ states('input_text.note') }}}}"
  - binary_sensor:
      - name: Level is high
        unique_id: high
        state: "{{{{ states('input_number.level') | float(0) > 100 }}}}"
"#
    );
    if setup.recorder {
        let commits = setup.commit_interval.map(|seconds| format!(" {{commit_interval: {seconds}}}"));
        writeln!(yaml, "recorder:{}\nhistory:", commits.unwrap_or_default()).unwrap();
    }
    if setup.demo {
        yaml.push_str("demo:\n");
    }
    if let Some((port, database)) = setup.influxdb {
        writeln!(yaml, "influxdb: {{api_version: 1, host: 127.0.0.1, port: {port}, database: {database}}}").unwrap();
    }
    if setup.mqtt.is_some() {
        yaml.push_str(
            "mqtt_statestream: {base_topic: stream, publish_attributes: true, publish_timestamps: true}\n\
             mqtt_eventstream: {publish_topic: home/events}\n\
             automation: [{id: night, alias: Night, triggers: [{trigger: event, event_type: night_falls}],\n\
             \x20 actions: [{action: input_boolean.toggle, target: {entity_id: input_boolean.flag}}]}]\n",
        );
    }
    yaml
}

/// What the page for a new MQTT integration leaves behind. Both integrations that publish want it at the boot.
fn mqtt_entry(port: u16) -> String {
    let entry = json!({
        "entry_id": "01JD5Y0Z3N8Q4T7W1A2B3C4D5E", "domain": "mqtt", "title": "broker", "source": "user", "version": 1,
        "minor_version": 2, "data": {"broker": "127.0.0.1", "port": port}, "options": {}, "subentries": [],
        "discovery_keys": {}, "disabled_by": null, "unique_id": null, "pref_disable_new_entities": false,
        "pref_disable_polling": false, "created_at": "2026-01-01T00:00:00+00:00",
        "modified_at": "2026-01-01T00:00:00+00:00",
    });
    let entries = json!({"entries": [entry]});
    json!({"version": 1, "minor_version": 5, "key": "core.config_entries", "data": entries}).to_string()
}

fn copy_loadgen_to(folder: &Path) {
    let source: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/peers/custom_components/loadgen"].iter().collect();
    fs::create_dir_all(folder).unwrap();
    for file in ["__init__.py", "kinds.py", "manifest.json", "services.yaml"] {
        fs::copy(source.join(file), folder.join(file)).unwrap();
    }
}
