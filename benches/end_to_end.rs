//! The whole service as a process, between the simulated home and an HTTP server that only counts lines.
//!
//! `cargo bench --bench end_to_end -- [EVENTS]`
//!
//! The home never runs more than a window ahead of what was counted, so nothing is dropped and the slowest part sets
//! the pace. Home, counter and service share the machine; the processor time is the service's own, from the kernel.

#[allow(dead_code, reason = "not every benchmark needs all that it can do")]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use ha_ingestor::demo::knobs::Window;
use serde_json::json;

use self::support::World;
use self::support::database::Mood;

const WINDOW: u64 = 50_000;

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
    let world = World::new(case.entities, Mood::Up).await?;
    let database = &world.database;
    let mut service = world.start(&json!({}))?;
    // The first lines are the states that the home has: then everything is connected.
    service.wait_until("first lines", || database.lines() > 0).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;

    let before = database.lines();
    let processor = service.processor()?;
    let begin = Instant::now();
    match case.rate {
        Some(rate) => world.handle.turn(|knobs| knobs.events_per_second = rate),
        None => {
            let window = Window { events: WINDOW, confirmed: Arc::clone(&database.lines) };
            world.flood(case.events, case.per_frame, window);
        }
    }
    // Now and then a device is `unavailable` or `unknown`, which is no point.
    let expected = before + case.events * 9 / 10;
    service.wait_until("all lines", || database.lines() >= expected).await?;
    let measured = Measured {
        wall: begin.elapsed(),
        lines: database.lines() - before,
        processor: service.processor()?.saturating_sub(processor),
        peak_kib: service.status("VmHWM")?,
        now_kib: service.status("VmRSS")?,
    };
    drop(service);
    world.end().await;
    Ok(measured)
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
