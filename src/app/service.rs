//! The service: settings become parts, parts become tasks, tasks run until a signal or the first of them ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::greeting;
use crate::config::settings::{NamedTarget, Settings};
use crate::influx::Target;
use crate::ingest::hass;
use crate::model::fate::Lost;
use crate::pipeline::Pipeline;
use crate::runtime::clock;
use crate::runtime::group::{self, Group};
use crate::runtime::signal::StopSignals;
use crate::spool::shared::Shared;
use crate::status::board::Board;
use crate::web::{self, Surface};
use crate::{deliver, pipeline};

/// Frames of events on their way from Home Assistant to the pipeline. Sent by the session, received by the pipeline;
/// when it is full the session waits, and its reader keeps frames in its own bounded queue.
const EVENT_FRAMES: usize = 256;

/// What the inputs and the web may need of the grace period; the rest is for sending what is left.
const GOODBYES: Duration = Duration::from_secs(4);

/// The listeners, bound before anything runs: a busy port is an error of the start, not of a task.
pub(super) struct Doors {
    pub(super) web: TcpListener,
    monitoring: Option<TcpListener>,
}

impl Doors {
    pub(super) async fn open(settings: &Settings) -> anyhow::Result<Self> {
        let place = &settings.place;
        let web = TcpListener::bind(place.listen)
            .await
            .with_context(|| format!("cannot listen on {}: choose another address with --listen", place.listen))?;
        let monitoring = match place.metrics_listen {
            Some(address) => Some(TcpListener::bind(address).await.with_context(|| {
                format!("cannot listen on {address}: choose another address with --metrics-listen")
            })?),
            None => None,
        };
        Ok(Self { web, monitoring })
    }
}

/// What the demo adds to a service.
#[derive(Default)]
pub(super) struct Extra {
    /// Stopped last: the simulated home and its ticker.
    pub(super) group: Option<Group>,
    /// Stop by itself after this time.
    pub(super) run_for: Option<Duration>,
}

/// Runs until a signal.
pub(super) async fn run(
    settings: Settings,
    doors: Doors,
    board: Arc<Board>,
    mut signals: StopSignals,
    extra: Extra,
) -> anyhow::Result<()> {
    let spool = Shared::new(settings.spool.memory_bytes, Arc::clone(&board));
    let (events, arriving) = mpsc::channel(EVENT_FRAMES);

    let mut web = Group::new("web");
    let address = doors.web.local_addr().context("the web listener has no address")?;
    info!("health, readiness and metrics: http://{address}");
    web.spawn("web", |stop| web::serve(doors.web, Surface::Everything, Arc::clone(&board), stop));
    if let Some(listener) = doors.monitoring {
        let address = listener.local_addr().context("the monitoring listener has no address")?;
        info!("monitoring is answered on http://{address} as well");
        web.spawn("web_monitoring", |stop| web::serve(listener, Surface::Monitoring, Arc::clone(&board), stop));
    }

    let grace = settings.place.grace;
    let flush_for = grace.saturating_sub(GOODBYES).max(grace / 2);
    let mut delivery = Group::new("delivery");
    match settings.targets.into_iter().next() {
        Some(NamedTarget { place: named, .. }) => {
            let target = Target::open(&named, &settings.delivery)?;
            let (spool, board, settings) = (spool.clone(), Arc::clone(&board), settings.delivery);
            delivery.spawn("delivery", |stop| async move {
                tokio::join!(
                    greeting::run(&named, &settings, &board, &stop),
                    deliver::run(target, spool, settings.clone(), flush_for, Arc::clone(&board), stop.clone()),
                );
            });
        }
        None => {
            warn!("nowhere to write to: set `influxdb.url`; until then the newest records are held in memory");
            board.target.not_configured("set `influxdb.url`", clock::now());
        }
    }

    let mut shaping = Group::new("pipeline");
    let pipeline = Pipeline::new(&settings.filter, settings.schema);
    shaping.spawn("pipeline", |_| pipeline::task::run(pipeline, arriving, spool.clone(), Arc::clone(&board)));

    let mut inputs = Group::new("inputs");
    match settings.home_assistant {
        Some(home) => inputs
            .spawn("home_assistant", |stop| hass::run(home, settings.filter, events.clone(), Arc::clone(&board), stop)),
        None => {
            warn!("no Home Assistant to listen to: set `home_assistant.url` and `home_assistant.token`");
            board.home_assistant.not_configured("set `home_assistant.url` and `home_assistant.token`", clock::now());
        }
    }

    // In the order in which data flows, which is the order of the stop.
    let mut groups = vec![inputs, shaping, delivery, web];
    groups.extend(extra.group);
    let ended = tokio::select! {
        signal = signals.next() => {
            info!("{signal}: stopping within {} s", grace.as_secs());
            None
        }
        () = elapsed(extra.run_for) => None,
        ended = group::first_end(&mut groups) => {
            error!("{ended}: stopping the service");
            Some(ended)
        }
    };

    board.set_stopping();
    // The pipeline ends when everybody who sends to it is gone: the session, and this.
    drop(events);
    let late = tokio::select! {
        late = group::shut_down(groups, grace) => late,
        signal = signals.next() => {
            let held = board.snapshot(Instant::now(), clock::now()).books.held;
            bail!("{signal} again: stopped without waiting, {held} records are lost");
        }
    };
    for name in &late {
        error!("the group `{name}` did not end within {} s", grace.as_secs());
    }
    // What a delivery that was cut short, or was never there, leaves behind.
    let left = spool.release(u64::MAX);
    if left > 0 {
        board.books.lost.add(Lost::Stopped, left);
        error!(lost = left, "stopped with nobody to take what was left: {left} points are lost");
    }
    let books = board.snapshot(Instant::now(), clock::now()).books;
    info!(
        received = books.received,
        stored = books.stored,
        unaccounted = i64::try_from(books.unaccounted()).unwrap_or(i64::MAX),
        "stopped: {} events received, {} points stored, {} lost",
        books.received,
        books.stored,
        books.lost.iter().map(|(_, count)| count).sum::<u64>(),
    );
    match ended {
        Some(ended) => Err(ended.into()),
        None if late.is_empty() => Ok(()),
        None => bail!("not everything ended in time"),
    }
}

async fn elapsed(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
