//! What keeping everything costs: writes to the disk while all is well, and memory, time and speed around an outage.
//!
//! `cargo bench --bench outage -- [writes] [memory] [backlog] [stop]`
//!
//! The service is the real program, its folder is in `target` on a real disk. A backlog is poured in faster than a home
//! makes it, evenly and slower than the disk takes it; each chapter fails if anything was lost on the way.

#[allow(dead_code, reason = "not every benchmark needs all that it can do")]
mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use ha_ingestor::demo::knobs::Window;
use serde_json::{Value, json};
use tokio::time::sleep;

use self::support::World;
use self::support::database::{Mood, Seen};
use self::support::service::{Service, data_of};

const ENTITIES: usize = 500;

/// How fast a backlog is poured in.
const POUR: u64 = 30_000;

const MIB: u64 = 1024 * 1024;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |chapter: &str| wanted.is_empty() || wanted.iter().any(|word| word == chapter);
    tell_disk()?;
    if is_wanted("writes") {
        writes().await.context("writes")?;
    }
    if is_wanted("memory") {
        memory().await.context("memory")?;
    }
    if is_wanted("backlog") {
        backlog().await.context("backlog")?;
    }
    if is_wanted("stop") {
        stop().await.context("stop")?;
    }
    Ok(())
}

/// Bytes that reach the disk while the database takes everything: four services beside one another for a minute.
async fn writes() -> anyhow::Result<()> {
    const MEASURED: Duration = Duration::from_mins(1);
    say(&format!(
        "\n{:<36} {:>12} {:>14} {:>16} {:>14}",
        "all is well", "lines", "bytes a line", "MB/h to disk", "amplification"
    ));
    let quiet = async |durability: &'static str, rate: f64| -> anyhow::Result<String> {
        let world = World::new(ENTITIES, Mood::Up).await?;
        let database = &world.database;
        let mut service = world.start(&json!({"durability": durability}))?;
        service.wait_until("first lines", || database.lines() > 0).await?;
        world.handle.turn(|knobs| knobs.events_per_second = rate);
        sleep(Duration::from_secs(10)).await;
        let before = (service.written()?, bytes(&world), database.lines());
        sleep(MEASURED).await;
        let written = service.written()? - before.0;
        let (bytes, lines) = (bytes(&world) - before.1, database.lines() - before.2);
        nothing_lost(&service).await?;
        drop(service);
        world.end().await;
        Ok(format!(
            "{:<36} {lines:>12} {:>14.0} {:>16.1} {:>14.2}",
            format!("{durability}, {rate:.0} events/s"),
            ratio(bytes, lines),
            ratio(written * 60, 1_000_000),
            ratio(written, bytes)
        ))
    };
    let (a, b, c, d) = tokio::try_join!(
        quiet("balanced", 10.0),
        quiet("balanced", 100.0),
        quiet("strict", 10.0),
        quiet("strict", 100.0)
    )?;
    [a, b, c, d].iter().for_each(|row| say(row));
    Ok(())
}

/// Memory during and after an outage of an hour at 100 events/s.
async fn memory() -> anyhow::Result<()> {
    const HOUR: u64 = 360_000;
    say(&format!("\n{:<56} {:>12} {:>12}", "an hour's outage at 100 events/s", "RSS MiB", "peak MiB"));
    for durability in ["balanced", "strict"] {
        let world = World::new(ENTITIES, Mood::Away).await?;
        let mut service = world.start(&impatient(durability))?;
        is_connected(&mut service).await?;
        let row = |service: &Service, what: &str| -> anyhow::Result<()> {
            let (now, peak) = (service.status("VmRSS")?, service.status("VmHWM")?);
            say(&format!("{:<56} {:>12.1} {:>12.1}", format!("{durability}, {what}"), mib(now), mib(peak)));
            service.forget_peak()
        };
        row(&service, "before")?;
        world.pour(&mut service, HOUR, POUR).await?;
        row(&service, "360,000 events poured in within 12 s")?;
        world.handle.turn(|knobs| knobs.events_per_second = 100.0);
        sleep(Duration::from_secs(10)).await;
        row(&service, "10 s later, at 100 events/s")?;
        sleep(Duration::from_mins(1)).await;
        row(&service, "a minute more, at 100 events/s")?;
        world.database.turn(Mood::Up);
        drained(&mut service).await?;
        row(&service, "the database is back, and has everything")?;
        nothing_lost(&service).await?;
        drop(service);
        world.end().await;
    }
    Ok(())
}

/// Starting after SIGKILL with a backlog of 256 MiB, and bringing it to the database.
async fn backlog() -> anyhow::Result<()> {
    const STARTS: usize = 5;
    let world = World::new(ENTITIES, Mood::Away).await?;
    let mut service = world.start(&impatient("balanced"))?;
    is_connected(&mut service).await?;
    fill(&world, &mut service).await?;
    let (records, size) = (service.metric("wal_backlog_records").await?, service.metric("wal_size_bytes").await?);
    nothing_lost(&service).await?;
    drop(service);

    say(&format!("\n{:<56} {:>12} {:>14}", "start after SIGKILL", "answers ms", "first lines ms"));
    world.database.turn(Mood::Up);
    for cached in [true, false] {
        let mut best = (Duration::MAX, Duration::MAX);
        for _ in 0..STARTS {
            if !cached {
                drop_from_cache(world.folder.path())?;
            }
            world.database.watch();
            let begin = Instant::now();
            let mut service = world.start(&impatient("balanced"))?;
            is_listening(&mut service).await?;
            let answers = begin.elapsed();
            service.wait_until("first lines", || world.database.first().is_some()).await?;
            let first = world.database.first().context("it was there")?.duration_since(begin);
            best = (best.0.min(answers), best.1.min(first));
        }
        let what =
            format!("{:.0} MiB, {records} records, {}", ratio(size, MIB), if cached { "in cache" } else { "cold" });
        say(&format!("{what:<56} {:>12.0} {:>14.0}", best.0.as_secs_f64() * 1e3, best.1.as_secs_f64() * 1e3));
    }
    world.database.turn(Mood::Away);
    let mut service = world.start(&impatient("balanced"))?;
    is_connected(&mut service).await?;
    drain(&world, &mut service, Mood::Up).await?;
    world.database.turn(Mood::Away);
    fill(&world, &mut service).await?;
    drain(&world, &mut service, Mood::Slow).await?;
    drop(service);
    world.end().await;
    Ok(())
}

async fn fill(world: &World, service: &mut Service) -> anyhow::Result<()> {
    world.handle.turn(|knobs| knobs.events_per_second = 0.0);
    while service.metric("wal_size_bytes").await? < 256 * MIB {
        world.pour(service, 50_000, POUR).await?;
    }
    // What memory holds follows after five seconds.
    sleep(Duration::from_secs(7)).await;
    Ok(())
}

async fn drain(world: &World, service: &mut Service, mood: Mood) -> anyhow::Result<()> {
    world.handle.turn(|knobs| knobs.events_per_second = 100.0);
    sleep(Duration::from_secs(3)).await;
    let (bytes_before, processor) = (bytes(world), service.processor()?);
    service.forget_peak()?;
    world.database.watch();
    world.database.turn(mood);
    drained(service).await?;
    let seen = world.database.seen();
    let (bytes, processor) = (bytes(world) - bytes_before, service.processor()? - processor);
    let (seconds, peak) = (seen.drained_in.as_secs_f64(), mib(service.status("VmHWM")?));
    #[expect(clippy::cast_precision_loss, reason = "figures for a person")]
    let (lines, bytes) = (seen.backlog_lines as f64, bytes as f64);
    say(&format!(
        "\n{:<36} {:>12} {:>12} {:>12} {:>22} {:>12}",
        "draining, 100 events/s beside it", "lines", "lines/s", "MB/s", "CPU s / 1 M lines", "peak MiB"
    ));
    say(&format!(
        "{:<36} {lines:>12.0} {:>12.0} {:>12.1} {:>22.2} {peak:>12.1}",
        format!("database {mood:?}").to_lowercase(),
        lines / seconds,
        bytes / seconds / 1e6,
        processor.as_secs_f64() * 1e6 / lines,
    ));
    world.database.watch();
    sleep(Duration::from_secs(20)).await;
    say(&format!("\n{:<36} {:>12} {:>12} {:>12}", "event -> database, ms", "median", "99 %", "longest"));
    latencies("live lines while it drains", &seen);
    latencies("afterwards", &world.database.seen());
    nothing_lost(service).await
}

/// How long SIGTERM takes when memory is full and nobody takes it.
async fn stop() -> anyhow::Result<()> {
    say(&format!(
        "\n{:<36} {:>12} {:>16} {:>22} {:>12}",
        "SIGTERM", "memory MiB", "on disk MiB", "on disk at the end MiB", "exit after s"
    ));
    for durability in ["balanced", "strict"] {
        for mood in [Mood::Silent, Mood::Away] {
            let world = World::new(ENTITIES, mood).await?;
            let mut service = world.start(&json!({"durability": durability, "memory_megabytes": 32}))?;
            is_connected(&mut service).await?;
            // More than memory holds, as fast as the service takes it.
            let unlimited = Window { events: u64::MAX, confirmed: Arc::default() };
            world.flood(150_000, 64, unlimited);
            while service.metric("events_received_total").await? < 150_000 {
                service.must_run()?;
            }
            let memory = service.metric("wal_memory_bytes").await?;
            let disk = size_of(&data_of(world.folder.path()).join("spool"))?;
            nothing_lost(&service).await?;
            let (took, status) = service.terminate().await?;
            ensure!(status.success(), "it ended with {status}");
            let disk_after = size_of(&data_of(world.folder.path()).join("spool"))?;
            say(&format!(
                "{:<36} {:>12.1} {:>16.1} {:>22.1} {:>12.2}",
                format!("{durability}, database {mood:?}").to_lowercase(),
                ratio(memory, MIB),
                ratio(disk, MIB),
                ratio(disk_after, MIB),
                took.as_secs_f64()
            ));
            world.end().await;
        }
    }
    Ok(())
}

/// A service that tries again soon, so that waiting for it is not what is measured.
fn impatient(durability: &str) -> Value {
    json!({"durability": durability, "spool_megabytes": 512, "breaker_open_seconds": 1, "retry_max_ms": 1000})
}

/// Until it answers on the web, which it does once the spool is open.
async fn is_listening(service: &mut Service) -> anyhow::Result<()> {
    while service.get("/health").await.is_err() {
        service.must_run()?;
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Until it has the states of the home, and waits for events.
async fn is_connected(service: &mut Service) -> anyhow::Result<()> {
    is_listening(service).await?;
    while service.metric("ha_entities").await? == 0 {
        service.must_run()?;
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

async fn drained(service: &mut Service) -> anyhow::Result<()> {
    while service.metric("wal_backlog_records").await? > 0 {
        service.must_run()?;
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn nothing_lost(service: &Service) -> anyhow::Result<()> {
    let lost = service.metric("points_dropped_total").await?;
    let corrupt = service.metric("wal_corrupt_records_total").await?;
    ensure!((lost, corrupt) == (0, 0), "{lost} points dropped, {corrupt} corrupt");
    Ok(())
}

fn bytes(world: &World) -> u64 {
    world.database.bytes.load(std::sync::atomic::Ordering::Acquire)
}

fn size_of(folder: &Path) -> anyhow::Result<u64> {
    let mut size = 0;
    if folder.exists() {
        for entry in std::fs::read_dir(folder)? {
            size += entry?.metadata()?.len();
        }
    }
    Ok(size)
}

/// As after a restart of the machine: the system forgets what the files hold.
fn drop_from_cache(folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(data_of(folder).join("spool"))? {
        let mut file = std::ffi::OsString::from("if=");
        file.push(entry?.path());
        let status = Command::new("dd").arg(file).args(["iflag=nocache", "count=0", "status=none"]).status()?;
        ensure!(status.success(), "dd ended with {status}");
    }
    Ok(())
}

/// Memory would make all figures of this look good.
fn tell_disk() -> anyhow::Result<()> {
    let folder = env!("CARGO_TARGET_TMPDIR");
    let output = Command::new("stat").args(["-f", "-c", "%T", folder]).output()?;
    let kind = String::from_utf8(output.stdout)?;
    if kind.trim() == "tmpfs" {
        bail!("{folder} is in memory");
    }
    say(&format!("files: {}", kind.trim()));
    Ok(())
}

fn latencies(what: &str, seen: &Seen) {
    let at = |percent: usize| {
        let place = (seen.latencies.len() * percent / 100).min(seen.latencies.len().saturating_sub(1));
        seen.latencies.get(place).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    };
    say(&format!("{what:<36} {:>12.0} {:>12.0} {:>12.0}", at(50), at(99), at(100)));
}

#[expect(clippy::cast_precision_loss, reason = "figures for a person")]
fn ratio(of: u64, to: u64) -> f64 {
    of as f64 / to as f64
}

fn mib(kib: u64) -> f64 {
    ratio(kib, 1024)
}

#[expect(clippy::print_stdout, reason = "figures for a person")]
fn say(text: &str) {
    println!("{text}");
}
