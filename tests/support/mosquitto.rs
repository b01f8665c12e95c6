//! The MQTT broker mosquitto, and its own clients.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::peer::find;
use super::process::{Process, free_address, wait_until};

const SETTINGS: &str = "mosquitto.conf";

/// Keeps on disk what it has at its end.
pub(crate) const PERSISTENT: &str = "persistence true";

pub(crate) struct Mosquitto {
    pub(crate) address: SocketAddr,
    process: Process,
    program: PathBuf,
    data: TempDir,
}

impl Mosquitto {
    /// `options` are lines of its settings, after those of the listener.
    pub(crate) fn start(options: &str) -> Option<Self> {
        Self::start_in(TempDir::new().unwrap(), options)
    }

    /// `data` may hold files that the options name.
    pub(crate) fn start_in(data: TempDir, options: &str) -> Option<Self> {
        let program = find("HA_INGESTOR_TEST_MOSQUITTO", "mosquitto/bin/mosquitto")?;
        let address = free_address();
        // As root it would become somebody who may not read the folder.
        let settings = format!(
            "user root\nlistener {} {}\npersistence_location {}/\nmax_queued_messages 0\nlog_dest stderr\n{}{options}\n",
            address.port(),
            address.ip(),
            data.path().display(),
            if options.contains("allow_anonymous") { "" } else { "allow_anonymous true\n" },
        );
        fs::write(data.path().join(SETTINGS), settings).unwrap();
        let process = run(&program, data.path(), address);
        Some(Self { address, process, program, data })
    }

    /// Brings to its disk what it has in memory.
    pub(crate) fn save(&mut self) {
        let file = self.data.path().join("mosquitto.db");
        let _ = fs::remove_file(&file);
        self.process.signal("USR1");
        wait_until("mosquitto has saved", Duration::from_secs(10), || file.exists().then_some(()));
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM.
    pub(crate) fn stop(&mut self) {
        assert!(self.process.terminate(Duration::from_secs(10)).is_some());
    }

    /// With the same data on the same port.
    pub(crate) fn start_again(&mut self) {
        self.process = run(&self.program, self.data.path(), self.address);
    }

    pub(crate) fn publish(&self, topic: &str, payload: &str) {
        self.publish_with(&["-t", topic], payload.as_bytes());
    }

    pub(crate) fn publish_retained(&self, topic: &str, payload: &str) {
        self.publish_with(&["-r", "-t", topic], payload.as_bytes());
    }

    /// One message with this payload.
    pub(crate) fn publish_with(&self, options: &[&str], payload: &[u8]) {
        let from = if payload.is_empty() { "-n" } else { "-s" };
        self.publish_stream(&[&[from], options].concat(), payload);
    }

    /// One message for each line.
    pub(crate) fn publish_lines(&self, topic: &str, lines: &str) {
        self.publish_stream(&["-l", "-t", topic], lines.as_bytes());
    }

    fn publish_stream(&self, options: &[&str], input: &[u8]) {
        let mut child = self.client("mosquitto_pub").args(["-q", "1"]).args(options).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What the broker keeps under this topic.
    pub(crate) fn retained(&self, topic: &str) -> Option<String> {
        let output = self.client("mosquitto_sub").args(["-C", "1", "-W", "1", "-t", topic]).output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    fn client(&self, name: &str) -> Command {
        let mut command = program(&self.program.with_file_name(name));
        let (host, port) = (self.address.ip().to_string(), self.address.port().to_string());
        command.args(["-V", "mqttv5", "-h", &host, "-p", &port]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// A file of logins, made by mosquitto's own program.
pub(crate) fn write_passwords(path: &Path, username: &str, password: &str) {
    let Some(broker) = find("HA_INGESTOR_TEST_MOSQUITTO", "mosquitto/bin/mosquitto") else { return };
    let mut command = program(&broker.with_file_name("mosquitto_passwd"));
    let output = command.args(["-b", "-c"]).arg(path).args([username, password]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// With the libraries that were unpacked beside it.
fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    if let Some(libraries) = path.parent().and_then(Path::parent).map(|place| place.join("lib")) {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    command
}

fn run(path: &Path, data: &Path, address: SocketAddr) -> Process {
    let mut command = program(path);
    command.arg("-c").arg(data.join(SETTINGS));
    let mut process = Process::start("mosquitto", &mut command, &data.join("log"));
    wait_until("mosquitto listens", Duration::from_secs(30), || {
        process.must_run();
        std::net::TcpStream::connect(address).ok()
    });
    process
}
