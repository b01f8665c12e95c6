//! The service as a process, and what the kernel and the service itself say about it.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) struct Service {
    child: Child,
    web: SocketAddr,
    log: PathBuf,
}

impl Service {
    /// `folder` gets the options, the log, and the data. `sections` are those of the options that are not usual.
    pub(crate) fn start(
        folder: &Path,
        home: SocketAddr,
        database: SocketAddr,
        sections: &Value,
    ) -> anyhow::Result<Self> {
        let mut options = json!({
            "log": {"level": "warn"},
            "home_assistant": {"url": format!("http://{home}"), "token": "demo"},
            "influxdb": {"url": format!("http://{database}"), "api": "v1"},
        });
        for (name, section) in sections.as_object().into_iter().flatten() {
            options[name] = section.clone();
        }
        let file = folder.join("options.json");
        std::fs::write(&file, options.to_string())?;
        let log = folder.join("log");
        let output = File::options().create(true).append(true).open(&log)?;
        // Free a moment ago.
        let web = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_ha-ingestor"));
        command.args(["run", "--listen", &web.to_string()]).arg("--options").arg(file);
        command.arg("--data-dir").arg(data_of(folder));
        command.stdout(output.try_clone()?).stderr(output);
        Ok(Self { child: command.spawn().context("cannot start the service")?, web, log })
    }

    /// Waits until `is_so`, and says how long it took.
    pub(crate) async fn wait_until(&mut self, what: &str, mut is_so: impl FnMut() -> bool) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        while !is_so() {
            self.must_run()?;
            if begin.elapsed() > PATIENCE {
                bail!("{what}: not within {} s", PATIENCE.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(begin.elapsed())
    }

    /// Fails with its log if the service is gone.
    pub(crate) fn must_run(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the service ended ({status}):\n{}", std::fs::read_to_string(&self.log)?);
        }
        Ok(())
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(self.web).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// The sum over all labels.
    pub(crate) async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let answer = self.get("/metrics").await?;
        let values = answer.lines().filter_map(|line| {
            let rest = line.strip_prefix("ha_ingest_")?.strip_prefix(name)?;
            rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
        });
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts and bytes")]
        values.map(|value| value as u64).reduce(|a, b| a + b).with_context(|| format!("no metric {name}"))
    }

    /// User and system time so far; the kernel counts in hundredths of a second.
    pub(crate) fn processor(&self) -> anyhow::Result<Duration> {
        let stat = self.about("stat")?;
        let after_name = stat.rsplit_once(") ").context("/proc has another shape here")?.1;
        let ticks: u64 = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// A line of `/proc/PID/status` that is in kB.
    pub(crate) fn status(&self, name: &str) -> anyhow::Result<u64> {
        number(&self.about("status")?, name)
    }

    /// The peak of memory begins anew.
    pub(crate) fn forget_peak(&self) -> anyhow::Result<()> {
        Ok(std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?)
    }

    /// Bytes that it caused to be sent to the block layer.
    pub(crate) fn written(&self) -> anyhow::Result<u64> {
        number(&self.about("io")?, "write_bytes")
    }

    /// SIGTERM, and how long it takes to end.
    pub(crate) async fn terminate(mut self) -> anyhow::Result<(Duration, ExitStatus)> {
        // The standard library knows only SIGKILL.
        let id = self.child.id();
        let mut kill = Command::new("kill").args(["-TERM", &id.to_string()]).spawn()?;
        let begin = Instant::now();
        kill.wait()?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok((begin.elapsed(), status));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn about(&self, what: &str) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(format!("/proc/{}/{what}", self.child.id()))?)
    }
}

impl Drop for Service {
    /// SIGKILL.
    fn drop(&mut self) {
        // Both fail only if it has ended by itself, which the waiting has told.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a service that was started with this folder keeps its data.
pub(crate) fn data_of(folder: &Path) -> PathBuf {
    folder.join("data")
}

fn number(text: &str, name: &str) -> anyhow::Result<u64> {
    let line = text.lines().find(|line| line.starts_with(name)).context("/proc has another shape here")?;
    line.split_whitespace().nth(1).and_then(|field| field.parse().ok()).context("no number there")
}
