//! MQTT messages end to end: the real broker, its real clients, the service as a process, and an HTTP server that only
//! counts lines.
//!
//! `cargo bench --bench mqtt -- [MESSAGES]`
//!
//! Publishers, broker, service and counter share the machine; the processor time is the service's own, from the kernel.

#[allow(dead_code, reason = "not every benchmark needs all that it can do")]
mod support;

#[path = "../tests/support"]
#[allow(clippy::unwrap_used, clippy::disallowed_methods, dead_code, reason = "helpers of the tests")]
mod peers {
    pub(crate) mod mosquitto;
    mod peer;
    mod process;
    mod skip;
}

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;

use self::peers::mosquitto::Mosquitto;
use self::support::World;
use self::support::database::Mood;

/// `mosquitto_pub` waits for the broker after each 20 messages: one alone would be the slowest part.
const PUBLISHERS: u64 = 4;

const RULES: &str = "
mqtt:
  topics:
    - {name: number, topic: number/+, measurement: number, tags: {device: {level: 2}}, payload: raw}
    - {preset: zigbee2mqtt}
";

struct Case {
    name: &'static str,
    topic: fn(u64) -> String,
    payload: fn(u64) -> String,
}

const CASES: [Case; 2] = [
    Case { name: "a number", topic: |device| format!("number/{device}"), payload: |number| number.to_string() },
    Case {
        name: "JSON of zigbee2mqtt, 9 values",
        topic: |device| format!("zigbee2mqtt/lamp {device}"),
        payload: |number| {
            format!(
                r#"{{"state":"ON","brightness":{},"color_mode":"xy","color":{{"x":0.31,"y":0.33}},"linkquality":{},"update":{{"state":"idle","installed_version":1}},"power_on_behavior":null,"voltage":{number}}}"#,
                number % 255,
                number % 200,
            )
        },
    },
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let messages = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(200_000);
    heading();
    for case in CASES {
        let Some(measured) = run(&case, messages).await.with_context(|| case.name.to_owned())? else { return Ok(()) };
        report(&case, &measured);
    }
    Ok(())
}

struct Measured {
    messages: u64,
    /// Until the last line was in the database.
    wall: Duration,
    /// Until the broker had heard of each message that it is safe.
    acknowledged: Duration,
    processor: Duration,
    peak_kib: u64,
}

/// `None` if there is no broker.
async fn run(case: &Case, messages: u64) -> anyhow::Result<Option<Measured>> {
    let Some(broker) = Mosquitto::start("") else { return Ok(None) };
    let world = World::new(10, Mood::Up).await?;
    world.write_rules(RULES)?;
    let mqtt = json!({"host": broker.address.ip().to_string(), "port": broker.address.port()});
    let mut service = world.start_with(&json!({"mqtt": mqtt}))?;
    let database = &world.database;
    service.wait_until("first lines", || database.lines() > 0).await?;
    while service.metric("mqtt_sessions_total").await? == 0 {
        service.must_run()?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;

    let before = database.lines();
    let processor = service.processor()?;
    let each = messages / PUBLISHERS;
    let lines = |publisher| {
        (0..each).fold(String::new(), |mut lines, number| {
            let _ = writeln!(lines, "{}", (case.payload)(publisher * each + number));
            lines
        })
    };
    let inputs: Vec<(String, String)> =
        (0..PUBLISHERS).map(|publisher| ((case.topic)(publisher), lines(publisher))).collect();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for (topic, lines) in &inputs {
            scope.spawn(|| broker.publish_lines(topic, lines));
        }
    });
    service.wait_until("all lines", || database.lines() >= before + each * PUBLISHERS).await?;
    let wall = begin.elapsed();
    while service.metric("mqtt_unacknowledged_messages").await? > 0 {
        service.must_run()?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let measured = Measured {
        messages: each * PUBLISHERS,
        wall,
        acknowledged: begin.elapsed(),
        processor: service.processor()?.saturating_sub(processor),
        peak_kib: service.status("VmHWM")?,
    };
    drop(service);
    world.end().await;
    Ok(Some(measured))
}

#[expect(clippy::print_stdout, reason = "figures for a person")]
fn heading() {
    println!(
        "{:<32} {:>12} {:>20} {:>22} {:>10}",
        "", "messages/s", "acknowledged after", "CPU s / 1 M messages", "peak MiB"
    );
}

#[expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "figures for a person")]
fn report(case: &Case, measured: &Measured) {
    println!(
        "{:<32} {:>12.0} {:>18.2} s {:>22.2} {:>10.1}",
        case.name,
        measured.messages as f64 / measured.wall.as_secs_f64(),
        measured.acknowledged.as_secs_f64(),
        measured.processor.as_secs_f64() * 1e6 / measured.messages as f64,
        measured.peak_kib as f64 / 1024.0,
    );
}
