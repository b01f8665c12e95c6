//! A container of the image, with what the Supervisor gives it: two folders, no capabilities, a limited memory.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::http;
use crate::support::peer::find;
use crate::support::process::{free_address, wait_until};

const IMAGE: &str = "localhost/ha-ingestor:test";
/// `timeout` in config.yaml.
const GRACE_SECONDS: &str = "60";
const PATIENCE: Duration = Duration::from_mins(1);

/// podman with the settings of `make image`.
pub fn podman() -> Option<PathBuf> {
    find("HA_INGESTOR_TEST_PODMAN", "../image/podman")
}

/// The folders that outlive a container: `/data` with the options in it, and `/config`.
pub struct Folders(TempDir);

impl Folders {
    pub fn new(options: &Value, rules: &str) -> Self {
        let folder = TempDir::new().unwrap();
        for name in ["data", "config"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("data/options.json"), options.to_string()).unwrap();
        fs::write(folder.path().join("config/rules.yaml"), rules).unwrap();
        Self(folder)
    }
}

pub struct Container {
    podman: PathBuf,
    name: String,
    address: SocketAddr,
}

impl Container {
    /// On the network of this machine, because that is where the peers are. The root is read-only, which the Supervisor
    /// does not ask for: nothing may be written but to the folders.
    pub fn run(podman: &Path, folders: &Folders) -> Self {
        Self::start(podman, folders, &[], &[])
    }

    /// As user 10001, whose the data folder is then.
    pub fn run_without_s6(podman: &Path, folders: &Folders) -> Self {
        chown(folders.0.path(), Some(10001), Some(10001)).unwrap();
        chown(folders.0.path().join("data"), Some(10001), Some(10001)).unwrap();
        let options = ["--user", "10001:10001", "--entrypoint", "/usr/bin/ha-ingestor"];
        Self::start(podman, folders, &options, &["run", "--grace-seconds", "45"])
    }

    /// `options` are podman's, `command` is what the image is told to run.
    fn start(podman: &Path, folders: &Folders, options: &[&str], command: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ha-ingestor-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let (address, metrics) = (free_address(), free_address());
        let container = Self { podman: podman.to_owned(), name, address };
        let volume = |folder: &str, at: &str| format!("{}:{at}", folders.0.path().join(folder).display());
        let arguments = [
            ["--name", &container.name],
            ["--network", "host"],
            ["--volume", &volume("data", "/data")],
            ["--volume", &volume("config", "/config:ro")],
            ["--tmpfs", "/run:rw,exec,nosuid,nodev,size=16m"],
            ["--tmpfs", "/tmp"],
            ["--cap-drop", "ALL"],
            ["--security-opt", "no-new-privileges"],
            ["--memory", "256m"],
            ["--pids-limit", "64"],
            ["--env", &format!("HA_INGESTOR_LISTEN={address}")],
            ["--env", &format!("HA_INGESTOR_METRICS_LISTEN={metrics}")],
            ["--env", "HA_INGESTOR_RULES=/config/rules.yaml"],
            ["--env", "S6_READ_ONLY_ROOT=1"],
        ];
        let mut all = vec!["run", "--detach", "--read-only"];
        all.extend(arguments.iter().flatten());
        all.extend(options);
        all.push(IMAGE);
        all.extend(command);
        container.must(&all);
        container
    }

    /// The health check of the image. podman runs it only when asked, where there is no systemd.
    pub fn is_healthy(&self) -> bool {
        self.podman(&["healthcheck", "run", &self.name]).status.success()
    }

    pub fn wait_until_healthy(&self) {
        wait_until("the container is healthy", PATIENCE, || self.is_healthy().then_some(()));
    }

    /// Until it hears Home Assistant and reaches its database.
    pub fn wait_until_ready(&self) {
        let ready = || http::get(self.address, "/ready", &[]).is_ok_and(|answer| answer.status == 200);
        wait_until("the program is ready", PATIENCE, || ready().then_some(()));
    }

    /// The program's id on this machine.
    pub fn program(&self) -> u32 {
        self.program_if_any().unwrap_or_else(|| panic!("the program does not run:\n{}", self.log()))
    }

    pub fn program_if_any(&self) -> Option<u32> {
        let shown = self.podman(&["top", &self.name, "hpid", "comm"]);
        let shown = String::from_utf8(shown.stdout).unwrap();
        let program = shown.lines().find_map(|line| line.trim().strip_suffix("ha-ingestor"));
        program.map(|id| id.trim().parse().unwrap_or_else(|_| panic!("{shown}")))
    }

    /// A signal for the program alone, such as `KILL`.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.program());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
    }

    /// As the Supervisor stops an app: SIGTERM, and SIGKILL after the time that config.yaml asks for, which would be exit
    /// code 137.
    pub fn stop(&self) -> i32 {
        self.must(&["stop", "--time", GRACE_SECONDS, &self.name]);
        self.wait_until_ended()
    }

    pub fn wait_until_ended(&self) -> i32 {
        let state = wait_until("the container ends", PATIENCE, || {
            let state = self.must(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", &self.name]);
            state.trim().strip_prefix("exited ").map(str::to_owned)
        });
        state.parse().unwrap()
    }

    /// Output of the container, as the log panel shows it.
    pub fn log(&self) -> String {
        let logs = self.podman(&["logs", &self.name]);
        format!("{}{}", String::from_utf8_lossy(&logs.stdout), String::from_utf8_lossy(&logs.stderr))
    }

    fn must(&self, arguments: &[&str]) -> String {
        let output = self.podman(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "podman {arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn podman(&self, arguments: &[&str]) -> Output {
        Command::new(&self.podman).args(arguments).output().unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- the log of the container\n{}\n---", self.log());
        }
        self.podman(&["rm", "--force", "--time", "1", &self.name]);
    }
}
