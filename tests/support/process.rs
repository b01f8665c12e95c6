//! A program that a test starts, and that never outlives the test.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

/// How much of its log a program shows when the test fails.
const LINES_SHOWN: usize = 60;

pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the program; what it prints goes to the end of `log`.
    pub(crate) fn start(name: &'static str, command: &mut Command, log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).expect("the test's own folder takes files");
        let errors = output.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name, child, log: log.to_owned() }
    }

    /// Panics with the end of the log if the program is gone.
    pub(crate) fn must_run(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("{} ended ({status}):\n{}", self.name, self.last_lines());
        }
    }

    /// SIGTERM. `None` if it is still there after the grace.
    pub(crate) fn terminate(&mut self, grace: Duration) -> Option<ExitStatus> {
        // Once it was waited for, its id may be another's.
        if let Some(status) = self.child.try_wait().unwrap() {
            return Some(status);
        }
        // The standard library knows only SIGKILL.
        let id = self.child.id();
        let _ = Command::new("sh").args(["-c", &format!("kill -TERM {id}")]).stderr(Stdio::null()).status();
        let deadline = Instant::now() + grace;
        loop {
            match self.child.try_wait().unwrap() {
                None if Instant::now() < deadline => pause(),
                status => return status,
            }
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A signal by its name, such as `STOP`.
    pub(crate) fn signal(&mut self, name: &str) {
        self.must_run();
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn last_lines(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Process {
    #[expect(clippy::print_stdout, reason = "the test runner shows it together with the failure")]
    fn drop(&mut self) {
        if thread::panicking() {
            println!("--- the end of the log of {}\n{}\n---", self.name, self.last_lines());
        }
        if self.terminate(Duration::from_secs(10)).is_none() {
            self.kill();
        }
    }
}

/// A port of the loopback on which nobody else listens and from which nobody connects, as long as this test runs: for a
/// program that is told where to listen, and for one that comes back there. Two databases once had the same port, because
/// the second was given it before the first had begun to listen.
pub(crate) fn free_address() -> SocketAddr {
    /// Bound, and not listening: the system gives their ports to nobody who asks for any, and to whoever asks for this one.
    static RESERVED: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    RESERVED.lock().unwrap().push(socket);
    address
}

/// Asks until there is an answer; panics with `what` when there is none in time.
pub(crate) fn wait_until<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {} s: {what}", patience.as_secs());
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "another process is waited for, and no runtime is there to block")]
fn pause() {
    thread::sleep(Duration::from_millis(50));
}

#[test]
fn a_port_that_was_given_to_a_test_is_given_to_nobody_else() {
    use std::net::TcpListener;

    let given: Vec<SocketAddr> = (0..100).map(|_| free_address()).collect();
    for _ in 0..5_000 {
        let other = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(!given.contains(&other), "{other} was given to somebody");
    }
    for address in given {
        assert!(TcpListener::bind(address).is_ok(), "whoever was given {address} may listen there, again and again");
        assert!(TcpListener::bind(address).is_ok());
    }
}
