//! The process, and what can be seen of it from outside: its log, its answers, its end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::page::Page;
use crate::process::{Process, wait_until};

/// Long enough for a machine that is busy with something else.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The program with nothing of this machine's environment.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ha-ingestor"));
    command.env_clear();
    command
}

/// Runs a command of the program to its end, which must come.
pub fn output(arguments: &[&str]) -> Output {
    let mut command = program();
    let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() >= deadline {
            child.kill().unwrap();
            panic!("{arguments:?} does not end: {}", printed(&child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

/// What a command printed, on both ways.
pub fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// An options file in a folder of its own.
pub fn options_file(folder: &TempDir, text: &str) -> String {
    let path = folder.path().join("options.json");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

pub fn ask(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Option<Answer> {
    send(address, method, path, headers, "")
}

fn send(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n");
    // A test may announce more than it sends.
    if !headers.iter().any(|(name, _)| *name == "Content-Length") {
        request.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
    }
    for (name, value) in headers {
        request.extend([name, ": ", value, "\r\n"]);
    }
    request.extend(["\r\n", body]);
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Some(Answer { status, headers, body: body.to_owned() })
}

/// Where a service lives: its options, its data, its logs. It outlives the service; cheap to clone.
#[derive(Clone)]
pub struct Place {
    folder: Arc<TempDir>,
    starts: Arc<AtomicUsize>,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: Arc::new(TempDir::new().unwrap()), starts: Arc::default() }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The program as the service is started here.
    pub fn command(&self, options: Option<&Value>, arguments: &[&str]) -> Command {
        let mut command = program();
        command.args(["run", "--listen", "127.0.0.1:0"]).args(arguments);
        if let Some(options) = options {
            command.args(["--options", &options_file(&self.folder, &options.to_string())]);
        }
        command.arg("--data-dir").arg(self.data());
        command
    }

    /// A log for each start: what an earlier one said is not said by the next.
    fn next_log(&self) -> PathBuf {
        self.folder.path().join(format!("log.{}", self.starts.fetch_add(1, Ordering::Relaxed)))
    }
}

pub struct Service {
    process: Process,
    address: SocketAddr,
    log: PathBuf,
    _place: Place,
}

/// What is left of a service that ended as it should.
pub struct Ended {
    pub log: String,
    pub took: Duration,
}

impl Service {
    pub fn start(options: &Value) -> Self {
        Self::start_with(Some(options), &[])
    }

    /// Returns when it listens; whatever it has to connect to may be missing.
    pub fn start_with(options: Option<&Value>, arguments: &[&str]) -> Self {
        let place = Place::new();
        let command = place.command(options, arguments);
        Self::start_at(&place, command)
    }

    /// Where one may have been before.
    pub fn start_at(place: &Place, command: Command) -> Self {
        let (mut process, log) = Self::begin(place, command);
        let address = wait_until("it says where it listens", PATIENCE, || {
            process.must_run();
            listens_at(&log)
        });
        Self { process, address, log, _place: place.clone() }
    }

    /// The same for one that may end before it listens: then how, and what it said.
    pub fn try_start_at(place: &Place, command: Command) -> Result<Self, (ExitStatus, String)> {
        let (mut process, log) = Self::begin(place, command);
        let address = wait_until("it says where it listens, or ends", PATIENCE, || match process.ended() {
            Some(status) => Some(Err((status, fs::read_to_string(&log).unwrap()))),
            None => listens_at(&log).map(Ok),
        })?;
        Ok(Self { process, address, log, _place: place.clone() })
    }

    fn begin(place: &Place, mut command: Command) -> (Process, PathBuf) {
        let log = place.next_log();
        (Process::start("ha-ingestor", &mut command, &log), log)
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// A signal by its name, such as `STOP`.
    pub fn signal(&mut self, name: &str) {
        self.process.signal(name);
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it answers, if it does.
    pub fn try_get(&self, path: &str) -> Option<Answer> {
        ask(self.address, "GET", path, &[])
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The lines of the log that hold this text.
    pub fn said(&self, text: &str) -> Vec<String> {
        lines_with(&self.log(), text)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[])
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        ask(self.address, method, path, headers).unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.post_with(path, &[], body)
    }

    pub fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.send("POST", path, headers, body)
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        send(self.address, method, path, headers, body).unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    /// The sum of the samples that have this name and at least these labels, such as `ha_sessions_total` or
    /// `points_dropped_total{reason="spool_full"}`.
    pub fn metric(&self, name: &str) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
        let value = self.sample(name).round() as u64;
        value
    }

    pub fn sample(&self, name: &str) -> f64 {
        let page = self.page();
        page.sum(name).unwrap_or_else(|| panic!("no {name} in\n{}", page.0))
    }

    pub fn page(&self) -> Page {
        Page(self.get("/metrics").body)
    }

    /// For each target: its name, what is to be explained, and the sum of all fates.
    pub fn books(&self) -> Vec<(String, i64, i64)> {
        let page = self.page();
        #[expect(clippy::cast_possible_truncation, reason = "counts")]
        let count = |name: &str| page.sum(name).unwrap_or_else(|| panic!("no {name} in\n{}", page.0)) as i64;
        let points = count("events_received_total")
            - count("events_filtered_total")
            - count("points_duplicate_suppressed_total")
            - count("points_refused_total")
            - count("events_waiting");
        let names = page.0.lines().filter_map(|line| {
            line.strip_prefix("ha_ingest_points_written_total{target=\"")?.split('"').next().map(str::to_owned)
        });
        names
            .map(|target| {
                let count = |name: &str| count(&format!("{name}{{target=\"{target}\"}}"));
                let fates = count("points_written_total")
                    + count("points_pending")
                    + count("points_dead_lettered_total")
                    + count("points_expired_total")
                    + count("points_not_representable_total")
                    + count("points_dropped_total");
                (target.clone(), points + count("points_recovered_total"), fates)
            })
            .collect()
    }

    pub fn books_balance(&self) -> bool {
        let books = self.books();
        assert!(!books.is_empty(), "there is at least one target");
        books.iter().all(|(_, points, fates)| points == fates)
    }

    pub fn wait_until_ready(&mut self) {
        self.wait_until("it is ready", |service| service.get("/ready").status == 200);
    }

    /// Until `/ready` names this as a reason.
    pub fn wait_for_reason(&mut self, reason: &str) {
        self.wait_until(&format!("/ready says {reason:?}"), |service| {
            let ready = service.get("/ready");
            assert_eq!(service.get("/health").status, 200, "what is around the service does not make it sick");
            ready.status == 503 && ready.body.contains(reason)
        });
    }

    pub fn wait_for_log(&mut self, text: &str) {
        self.wait_until(&format!("the log says {text:?}"), |service| !service.said(text).is_empty());
    }

    /// Panics with the log when it is not so in time, or when the service is gone.
    pub fn wait_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        self.wait_until_within(PATIENCE, what, is_so);
    }

    pub fn wait_until_within(&mut self, patience: Duration, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + patience;
        loop {
            self.process.must_run();
            if is_so(self) {
                return;
            }
            assert!(Instant::now() < deadline, "not in time: {what}; {}", self.get("/ready").body);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGTERM, without waiting for what comes of it.
    pub fn ask_to_stop(&mut self) {
        assert!(self.process.terminate(Duration::ZERO).is_none(), "it does not end within no time");
    }

    /// The exit code, once it has ended after another SIGTERM.
    pub fn exit_code(&mut self, within: Duration) -> Option<i32> {
        self.process.terminate(within).and_then(|status| status.code())
    }

    /// SIGTERM, exit code 0 within this time, and books that balance.
    pub fn stop_within(mut self, time: Duration) -> Ended {
        self.wait_until("the books balance", Self::books_balance);
        let began = Instant::now();
        assert_eq!(self.exit_code(time), Some(0));
        let took = began.elapsed();
        let log = self.log();
        let sums = lines_with(&log, "stopped: ");
        assert!(!sums.is_empty(), "it sums up at the end: {log}");
        for sum in sums {
            assert!(sum.contains("unaccounted=0") || sum.contains("\"unaccounted\":0"), "{sum}");
        }
        assert!(!log.contains("panicked"), "{log}");
        Ended { log, took }
    }

    pub fn stop(self) -> Ended {
        self.stop_within(Duration::from_secs(8))
    }
}

/// The sum of the samples of a page of metrics that have this name and at least these labels. `None` if there is none.
pub fn lines_with(log: &str, text: &str) -> Vec<String> {
    log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

fn listens_at(log: &Path) -> Option<SocketAddr> {
    let log = fs::read_to_string(log).unwrap_or_default();
    let (_, rest) = log.split_once("health, readiness and metrics: http://")?;
    // The line may still be on its way.
    let (line, _) = rest.split_once('\n')?;
    Some(line.split('"').next()?.parse().unwrap())
}

/// Puts a pipe that nobody writes to in the place of a file: whoever reads it waits for ever, as on a dead network share.
pub fn make_unreadable(path: &Path) {
    fs::remove_file(path).unwrap();
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// The other end of the pipe, if somebody reads from it. The reader goes on when it is dropped.
pub fn other_end(pipe: &Path) -> Option<File> {
    // Without waiting, a pipe opens for writing only when there is a reader.
    File::options().write(true).custom_flags(libc::O_NONBLOCK).open(pipe).ok()
}
