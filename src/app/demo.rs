//! `demo`: the whole service against a simulated home, writing into files. Nothing to set up, nothing left running.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::service::{self, Doors, Extra};
use super::{Exit, rules};
use crate::cli;
use crate::config;
use crate::config::place::Flags;
use crate::config::settings::{HomeAssistant, NamedTarget, Target, Tls};
use crate::demo::Demo;
use crate::demo::handle::Handle;
use crate::line::encode::encode;
use crate::model::entity::EntityId;
use crate::model::event::{Event, StateChange};
use crate::model::time::Timestamp;
use crate::pipeline::{Fate, Pipeline};
use crate::runtime::group::Group;
use crate::runtime::signal::StopSignals;
use crate::runtime::{clock, logging};
use crate::status::board::Board;

/// How often the terminal hears how it goes.
const TICK: Duration = Duration::from_secs(2);

#[expect(clippy::print_stdout, reason = "the words of a command")]
pub(super) async fn run(flags: &Flags, wishes: cli::Demo) -> anyhow::Result<Exit> {
    let signals = StopSignals::listen().context("cannot listen for signals")?;
    let home = Demo {
        entities: wishes.entities as usize,
        events_per_second: f64::from(wishes.events_per_second),
        ..Demo::default()
    };
    let prepared = home.prepare(clock::now()).await.context("cannot open a port for the simulated home")?;
    let mut settings = config::load(flags, std::iter::empty())?;
    let archive = settings.place.data_dir.join("demo");
    settings.log.level = tracing::Level::WARN;
    settings.home_assistant = Some(HomeAssistant {
        url: prepared.url().parse().context("the simulated home has no address")?,
        token: prepared.token.clone(),
        tls: Tls { verify: true, ca_certificate: None },
    });
    // A service that was stopped here left its own points to be delivered, and not to this archive.
    settings.place.data_dir = settings.place.data_dir.join("demo-data");
    settings.targets = vec![NamedTarget { name: "influxdb".to_owned(), place: Target::Archive(archive.clone()) }];
    let log = logging::start(settings.log, &settings.place.data_dir);

    // Wrong rules are told before anything is said to listen.
    let pipeline = Pipeline::new(&rules::load(&settings)?.rules);
    let doors = Doors::open(&settings).await?;
    println!("A simulated home with {} entities, about {} changes a second.", home.entities, home.events_per_second);
    println!("  Home Assistant's WebSocket API  {}  (token: {})", prepared.url(), prepared.token.expose());
    announce(doors.web.local_addr().context("the web listener has no address")?, &archive);

    let board = Arc::new(Board::new(Instant::now(), clock::now()));
    let mut extra = Group::new("demo");
    extra.spawn("simulated_home", |stop| prepared.simulator.run(stop));
    extra.spawn("ticker", |stop| tick(Arc::clone(&board), prepared.handle, pipeline, stop));
    let run_for = wishes.seconds.map(|seconds| Duration::from_secs(u64::from(seconds)));
    service::run(settings, &log, doors, Arc::clone(&board), signals, Extra { group: Some(extra), run_for }).await?;

    let seen = board.snapshot(Instant::now(), clock::now());
    let books = &seen.targets[0].books;
    println!(
        "Stopped. {} events received, {} points in the files, {} lost.",
        seen.arrivals.received(),
        books.stored,
        books.dropped() + books.expired + books.set_aside()
    );
    println!("Read them with:  gzip -dc {}/*.lp.gz | tail", archive.display());
    Ok(Exit::Done)
}

#[expect(clippy::print_stdout, reason = "the words of a command")]
fn announce(web: SocketAddr, archive: &Path) {
    println!("  Line protocol goes to           {}", archive.display());
    println!("  Health and what it depends on   http://{web}/health/dependencies");
    println!("  Ready or not, and why           http://{web}/ready");
    println!("  Metrics for Prometheus          http://{web}/metrics");
    println!("Stop it with Ctrl-C.\n");
}

/// Says how it goes, with one line that was just written as an example.
#[expect(clippy::print_stdout, reason = "the words of a command")]
async fn tick(board: Arc<Board>, home: Handle, mut pipeline: Pipeline, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(TICK);
    // The first tick is at once, when nothing has happened yet.
    ticks.tick().await;
    let mut before = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let seen = board.snapshot(Instant::now(), clock::now());
        let (received, books) = (seen.arrivals.received(), &seen.targets[0].books);
        let rate = (received - before) / TICK.as_secs();
        before = received;
        println!(
            "{:>8} received ({rate}/s)  {:>8} written  {:>6} held  {:>6} filtered",
            received,
            books.stored,
            books.held,
            seen.arrivals.filtered.iter().map(|(_, count)| count).sum::<u64>(),
        );
        if let Some(line) = newest(&home).and_then(|change| shown(&mut pipeline, change)) {
            println!("         {line}");
        }
    }
}

/// The state that changed last.
fn newest(home: &Handle) -> Option<StateChange> {
    home.home(|home| {
        let (id, state) = home.states().max_by(|(_, a), (_, b)| a.last_updated.total_cmp(&b.last_updated))?;
        Some(StateChange {
            entity: EntityId::parse(id).ok()?,
            state: Arc::clone(&state.state),
            attributes: Arc::new(state.attributes.clone()),
            last_updated: Timestamp::from_unix_seconds(state.last_updated)?,
            context: None,
        })
    })
}

/// The line that the service makes of it, by the same code.
fn shown(pipeline: &mut Pipeline, change: StateChange) -> Option<String> {
    let Fate::Point { point, .. } = pipeline.handle(&Event::Changed(change), clock::now()) else { return None };
    let mut bytes = Vec::new();
    encode(point, &mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}
