//! How many events a second the simulated home puts on a socket, to a client that only counts.
//!
//! `cargo bench --bench simulator -- [EVENTS] [PER_FRAME]`

use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use ha_ingestor::demo::home::Home;
use ha_ingestor::demo::knobs::{FloodKnobs, Knobs};
use ha_ingestor::demo::server::Simulator;
use ha_ingestor::runtime::clock;
use ha_ingestor::runtime::group::Group;
use tokio::net::TcpListener;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let events = numbers.next().unwrap_or(5_000_000);
    let per_frame = numbers.next().unwrap_or(100);

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}/api/websocket", listener.local_addr()?);
    let (simulator, handle) = Simulator::new(listener, Home::new(1, 500, clock::now()), Knobs::default());
    let mut group = Group::new("demo");
    group.spawn("simulator", |stop| simulator.run(stop));

    let (mut socket, _) = connect_async(url).await?;
    for text in [
        r#"{"type":"auth","access_token":"demo"}"#,
        r#"{"id":1,"type":"supported_features","features":{"coalesce_messages":1}}"#,
        r#"{"id":2,"type":"subscribe_entities"}"#,
    ] {
        socket.send(Message::text(text)).await?;
    }
    // The snapshot is the first frame of more than a few kilobytes.
    while let Some(frame) = socket.next().await {
        if frame?.len() > 10_000 {
            break;
        }
    }
    let begin = Instant::now();
    handle.turn(|knobs| knobs.flood = Some(FloodKnobs { events: events as u64, per_frame, window: None }));
    let (mut bytes, mut received) = (0, 0);
    while received < events {
        let frame = socket.next().await.ok_or_else(|| anyhow::anyhow!("the simulated home hung up"))??;
        bytes += frame.len();
        received += per_frame.min(events - received);
    }
    let seconds = begin.elapsed().as_secs_f64();
    report(events, bytes, seconds);
    Ok(())
}

#[expect(clippy::print_stdout, clippy::cast_precision_loss, reason = "a figure for a person")]
fn report(events: usize, bytes: usize, seconds: f64) {
    println!(
        "{events} events in {seconds:.2} s: {:.0} events/s, {:.0} bytes an event, {:.0} MB/s, {:.2} us of processor time an event",
        events as f64 / seconds,
        bytes as f64 / events as f64,
        bytes as f64 / seconds / 1e6,
        processor_seconds() * 1e6 / events as f64,
    );
}

/// Of this whole process: both ends of the socket.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in brackets: the times are the 12th and 13th, in hundredths.
    let times = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    times.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}
