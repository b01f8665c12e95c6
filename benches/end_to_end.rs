//! The whole service as a process, between the simulated home and an HTTP server that only counts lines.
//!
//! `cargo bench --bench end_to_end -- [EVENTS]`
//!
//! The home never runs more than a window ahead of what was counted, so nothing is dropped and the slowest part sets
//! the pace. Home, counter and service share the machine; the processor time is the service's own, from the kernel.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ha_ingestor::demo::home::Home;
use ha_ingestor::demo::knobs::{FloodKnobs, Knobs, Window};
use ha_ingestor::demo::server::Simulator;
use ha_ingestor::runtime::clock;
use ha_ingestor::runtime::group::{Group, shut_down};
use libdeflater::Decompressor;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const WINDOW: u64 = 50_000;
const PATIENCE: Duration = Duration::from_mins(2);

struct Case {
    name: &'static str,
    entities: usize,
    events: u64,
    per_frame: usize,
    /// `None`: as fast as it goes.
    rate: Option<f64>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let events = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(2_000_000);
    let full = |name, entities, per_frame| Case { name, entities, events, per_frame, rate: None };
    heading();
    for case in [
        full("500 entities, 64 events a frame", 500, 64),
        full("500 entities, 1 event a frame", 500, 1),
        full("10,000 entities, 64 events a frame", 10_000, 64),
        Case { name: "500 entities, 100 events/s", entities: 500, events: 1_000, per_frame: 1, rate: Some(100.0) },
        Case {
            name: "10,000 entities, 100 events/s",
            entities: 10_000,
            events: 1_000,
            per_frame: 1,
            rate: Some(100.0),
        },
    ] {
        report(&case, &run(&case).await.with_context(|| case.name.to_owned())?);
    }
    Ok(())
}

struct Measured {
    wall: Duration,
    lines: u64,
    processor: Duration,
    peak_kib: u64,
    now_kib: u64,
}

async fn run(case: &Case) -> anyhow::Result<Measured> {
    let counted = Arc::new(AtomicU64::new(0));
    let sink = TcpListener::bind("127.0.0.1:0").await?;
    let database = sink.local_addr()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let home = listener.local_addr()?;
    let knobs = Knobs { cut_slow_clients: false, ..Knobs::default() };
    let (simulator, handle) = Simulator::new(listener, Home::new(1, case.entities, clock::now()), knobs);
    let mut group = Group::new("bench");
    group.spawn("simulator", |stop| simulator.run(stop));
    group.spawn("sink", |stop| count_lines(sink, Arc::clone(&counted), stop));

    let folder = tempfile::tempdir()?;
    let mut service = Service::start(folder.path(), home, database)?;
    // The first lines are the states that the home has: then everything is connected.
    wait_for(&counted, 1, &mut service.0).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;

    let before = counted.load(Ordering::Acquire);
    let processor = service.processor()?;
    let begin = Instant::now();
    match case.rate {
        Some(rate) => handle.turn(|knobs| knobs.events_per_second = rate),
        None => handle.turn(|knobs| {
            let window = Some(Window { events: WINDOW, confirmed: Arc::clone(&counted) });
            knobs.flood = Some(FloodKnobs { events: case.events, per_frame: case.per_frame, window });
        }),
    }
    // Now and then a device is `unavailable` or `unknown`, which is no point.
    wait_for(&counted, before + case.events * 9 / 10, &mut service.0).await?;
    let measured = Measured {
        wall: begin.elapsed(),
        lines: counted.load(Ordering::Acquire) - before,
        processor: service.processor()?.saturating_sub(processor),
        peak_kib: service.status("VmHWM")?,
        now_kib: service.status("VmRSS")?,
    };
    drop(service);
    shut_down(vec![group], Duration::from_secs(5)).await;
    Ok(measured)
}

async fn wait_for(counted: &AtomicU64, expected: u64, service: &mut Child) -> anyhow::Result<()> {
    let begin = Instant::now();
    while counted.load(Ordering::Acquire) < expected {
        if let Some(status) = service.try_wait()? {
            bail!("the service ended: {status}");
        }
        if begin.elapsed() > PATIENCE {
            bail!("{} lines of {expected} after {} s", counted.load(Ordering::Acquire), PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

struct Service(Child);

impl Service {
    fn start(folder: &Path, home: SocketAddr, database: SocketAddr) -> anyhow::Result<Self> {
        let options = folder.join("options.json");
        let text = format!(
            r#"{{"log":{{"level":"warn"}},"home_assistant":{{"url":"http://{home}","token":"demo"}},
                "influxdb":{{"url":"http://{database}","api":"v1"}}}}"#
        );
        std::fs::write(&options, text)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_ha-ingestor"));
        command.args(["run", "--listen", "127.0.0.1:0"]).arg("--options").arg(options);
        command.arg("--data-dir").arg(folder);
        Ok(Self(command.spawn().context("cannot start the service")?))
    }

    /// User and system time so far; the kernel counts in hundredths of a second.
    fn processor(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let after_name = stat.rsplit_once(") ").context("/proc has another shape here")?.1;
        let ticks: u64 = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    fn status(&self, name: &str) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find(|line| line.starts_with(name)).context("/proc has another shape here")?;
        line.split_whitespace().nth(1).and_then(|field| field.parse().ok()).context("no number of kB")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself, which the waiting has told.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Takes every body, counts its lines, says 204.
async fn count_lines(listener: TcpListener, counted: Arc<AtomicU64>, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(serve(stream, Arc::clone(&counted)));
            }
        }
    }
}

async fn serve(stream: TcpStream, counted: Arc<AtomicU64>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut inflate = Decompressor::new();
    let (mut body, mut text) = (Vec::new(), Vec::new());
    loop {
        let (mut length, mut gzip) = (0, false);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            gzip |= line == "content-encoding: gzip";
        }
        body.resize(length, 0);
        stream.read_exact(&mut body).await?;
        let lines = if gzip {
            // The last four bytes of a gzip body are the length of what it holds.
            let size = u32::from_le_bytes(body[length - 4..].try_into()?);
            text.resize(size as usize, 0);
            inflate.gzip_decompress(&body, &mut text)?;
            &text
        } else {
            &body
        };
        let count = memchr::memchr_iter(b'\n', lines).count();
        counted.fetch_add(count as u64, Ordering::Release);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
    }
}

#[expect(clippy::print_stdout, reason = "figures for a person")]
fn heading() {
    println!("{:<36} {:>12} {:>22} {:>12} {:>12}", "", "events/s", "CPU s / 1 M events", "peak MiB", "end MiB");
}

#[expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "figures for a person")]
fn report(case: &Case, measured: &Measured) {
    println!(
        "{:<36} {:>12.0} {:>22.2} {:>12.1} {:>12.1}",
        case.name,
        measured.lines as f64 / measured.wall.as_secs_f64(),
        measured.processor.as_secs_f64() * 1e6 / measured.lines as f64,
        measured.peak_kib as f64 / 1024.0,
        measured.now_kib as f64 / 1024.0,
    );
}
