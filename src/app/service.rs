//! The service: settings become parts, parts become tasks, tasks run until a signal or the first of them ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::coverage;
use super::first_import::FirstImport;
use super::greeting;
use super::jobs;
use super::lock::Lock;
use super::places;
use super::preview::panel::Panel;
use super::refused_events;
use super::rules;
use crate::config::settings::{self, Settings};
use crate::dead_letters::{self, Store};
use crate::history::gaps::gap_closer::{self, Wishes};
use crate::influx::Target;
use crate::ingest::{hass, mqtt};
use crate::model::event::{Arrival, Past};
use crate::pipeline::Pipeline;
use crate::rules::Rules;
use crate::runtime::clock;
use crate::runtime::group::{self, Group};
use crate::runtime::logging::Control;
use crate::runtime::repeats::{Repeats, Worth};
use crate::runtime::signal::StopSignals;
use crate::spool::shared::Shared;
use crate::status::board::Board;
use crate::web::{self, Surface};
use crate::{deliver, pipeline};

/// Frames of events on their way from Home Assistant to the pipeline. Sent by the session, received by the pipeline;
/// when it is full the session waits, and its reader keeps frames in its own bounded queue.
const EVENT_FRAMES: usize = 256;

/// Pieces of history on their way from the recorder to the pipeline. When it is full, the recorder is asked for no more.
const PAST_PIECES: usize = 8;

/// The target that there always is.
const MAIN_TARGET: &str = "influxdb";

/// What bringing a full memory to a slow disk may need of the grace period.
const LAST_SYNC: Duration = Duration::from_secs(3);

/// What a power cut may take of dead letters.
const LETTERS_SYNC: Duration = Duration::from_secs(5);

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

/// The board with a place for each target. Where nobody said where to write to, what comes waits for `influxdb`.
pub(super) fn board(settings: &Settings) -> Arc<Board> {
    let mut names: Vec<&str> = settings.targets.iter().map(|target| target.name.as_str()).collect();
    if names.first() != Some(&MAIN_TARGET) {
        names.insert(0, MAIN_TARGET);
    }
    Arc::new(Board::of(&names, Instant::now(), clock::now()))
}

/// Runs until a signal. The log outlives it: its last words are said when the web server has gone.
pub(super) async fn run(
    settings: Settings,
    log: &Control,
    doors: Doors,
    board: Arc<Board>,
    mut signals: StopSignals,
    extra: Extra,
) -> anyhow::Result<()> {
    let loaded = rules::load(&settings)?;
    let _alone = Lock::take(&settings.place.data_dir)?;
    let spool = open_spool(&settings, &board)?;
    let letters = Store::open(settings.place.data_dir.join(dead_letters::FOLDER), dead_letters::LIMIT_BYTES);
    let (events, arriving) = mpsc::channel(EVENT_FRAMES);

    // They may change while the service runs: whoever works by them hears of it.
    loaded.announce(&board);
    let (rules_change, rules) = watch::channel(Arc::clone(&loaded.rules));
    let preview = Arc::new(Panel::new(&settings, rules.clone(), Arc::clone(&board)));
    let (jobs, orders) = jobs::Desk::new(&settings);
    let first_import = FirstImport::open(&settings, &board);
    if first_import.is_some() {
        // Before anybody can ask.
        let _is_to_be_done = jobs.begin_first_import();
    }
    let web = serve(
        doors,
        web::State {
            board: Arc::clone(&board),
            letters: letters.clone(),
            rules: rules.clone(),
            preview,
            jobs: Arc::clone(&jobs) as Arc<dyn web::jobs::Jobs>,
            log: log.clone(),
        },
    )?;

    let grace = settings.place.grace;
    let mut keeping = Group::new("spool").with_reserve(LAST_SYNC.min(grace / 3));
    keeping.spawn("spool", |stop| spool.clone().keep(stop));
    keeping.spawn("dead_letters", |stop| keep_letters(letters.clone(), Arc::clone(&board), stop));
    let (refused, refused_events) = mpsc::channel(refused_events::WAITING);
    keeping.spawn("refused_events", |stop| {
        refused_events::keep(letters.clone(), refused_events, Arc::clone(&board), stop)
    });
    let (places_changed, places) = watch::channel(String::new());
    let places_file = settings.place.data_dir.join(places::FILE);
    let known = places::load(&places_file);
    keeping.spawn("places", |stop| places::keep(places_file, places, Arc::clone(&board), stop));

    keeping.spawn("coverage", |stop| coverage::watch(settings.place.data_dir.clone(), Arc::clone(&board), stop));

    let delivery = deliver_to_all(&settings, &spool, &letters, &board)?;

    let (history, past) = mpsc::channel(PAST_PIECES);
    let mut shaping = Group::new("pipeline");
    shaping.spawn("pipeline", |_| {
        let (rules, spool, board) = (rules.clone(), spool.clone(), Arc::clone(&board));
        pipeline::task::run(rules, known, places_changed, arriving, past, spool, refused, board)
    });

    let mut working = Group::new("jobs");
    working.spawn("jobs", |stop| jobs::work(jobs, orders, first_import, rules.clone(), Arc::clone(&board), stop));
    let mut inputs = listen(settings, &rules, (&events, history), spool.safe_marks(), &board);
    // The sender stays here too, so that whoever listens is not told of its end.
    inputs.spawn("rules", |stop| rules::watch(loaded, rules_change.clone(), Arc::clone(&board), stop));

    // In the order in which data flows, which is the order of the stop.
    let mut groups = vec![working, inputs, shaping, delivery, keeping, web];
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
            let in_memory = spool.abandon();
            bail!("{signal} again: stopped without waiting, {in_memory} records that were not on disk are lost");
        }
    };
    for name in &late {
        error!("the group `{name}` did not end within {} s", grace.as_secs());
    }
    // Nothing, unless neither a target nor the disk took it.
    let lost = spool.abandon();
    sum_up(&board);
    if lost > 0 {
        bail!("stopped while neither the database nor the disk took what was left: {lost} points are lost");
    }
    match ended {
        Some(ended) => Err(ended.into()),
        None if late.is_empty() => Ok(()),
        None => bail!("not everything ended in time"),
    }
}

fn serve(doors: Doors, state: web::State) -> anyhow::Result<Group> {
    let mut web = Group::new("web");
    let address = doors.web.local_addr().context("the web listener has no address")?;
    info!("health, readiness and metrics: http://{address}");
    web.spawn("web", |stop| web::serve(doors.web, Surface::Everything, state.clone(), stop));
    if let Some(listener) = doors.monitoring {
        let address = listener.local_addr().context("the monitoring listener has no address")?;
        info!("monitoring is answered on http://{address} as well");
        web.spawn("web_monitoring", |stop| web::serve(listener, Surface::Monitoring, state, stop));
    }
    Ok(web)
}

/// One task for each target that has an address.
fn deliver_to_all(settings: &Settings, spool: &Shared, letters: &Store, board: &Arc<Board>) -> anyhow::Result<Group> {
    let grace = settings.place.grace;
    let flush_for = grace.saturating_sub(GOODBYES).max(grace / 2);
    let mut delivery = Group::new("delivery");
    for (at, target) in board.targets.iter().enumerate() {
        let Some(settings::NamedTarget { name, place }) =
            settings.targets.iter().find(|known| known.name == target.name)
        else {
            warn!("nowhere to write to: set `influxdb.url`; until then the newest records are kept on disk");
            target.link.not_configured("set `influxdb.url`", clock::now());
            continue;
        };
        let (place, settings) = (place.clone(), settings.delivery.clone());
        let open = Target::open(&place, &settings).map_err(|err| err.of(name))?;
        let (reader, letters, target, board) =
            (spool.reader(at), letters.clone(), Arc::clone(target), Arc::clone(board));
        delivery.spawn(format!("delivery_{name}"), |stop| async move {
            tokio::join!(
                greeting::run(&place, &settings, &target, &stop),
                deliver::run(open, reader, letters, settings.clone(), flush_for, board, stop.clone()),
            );
        });
    }
    Ok(delivery)
}

/// The sources of events. `safe`: up to which of its messages the broker may be told that they have arrived.
fn listen(
    settings: Settings,
    rules: &watch::Receiver<Arc<Rules>>,
    (events, history): (&mpsc::Sender<Arrival>, mpsc::Sender<Past>),
    safe: watch::Receiver<u64>,
    board: &Arc<Board>,
) -> Group {
    let mut inputs = Group::new("inputs");
    match settings.home_assistant {
        Some(home) => {
            let (news, told) = mpsc::unbounded_channel();
            let parts = gap_closer::Parts {
                home: home.clone(),
                history: settings.history,
                wishes: wishes(rules, board),
                data_dir: settings.place.data_dir.clone(),
                news: told,
                past: history,
                board: Arc::clone(board),
            };
            inputs.spawn("history", |stop| gap_closer::run(parts, stop));
            let (rules, events, board) = (rules.clone(), events.clone(), Arc::clone(board));
            inputs.spawn("home_assistant", |stop| hass::run(home, rules, events, news, board, stop));
        }
        None => {
            warn!("no Home Assistant to listen to: set `home_assistant.url` and `home_assistant.token`");
            board.home_assistant.not_configured("set `home_assistant.url` and `home_assistant.token`", clock::now());
        }
    }
    match settings.mqtt {
        Some(broker) => {
            let (rules, events, board) = (rules.clone(), events.clone(), Arc::clone(board));
            let data_dir = settings.place.data_dir;
            inputs.spawn("mqtt", |stop| mqtt::run(broker, data_dir, rules, safe, events, board, stop));
        }
        None => {
            if !rules.borrow().topics.is_empty() {
                warn!("rules.yaml names topics, and there is no MQTT broker to listen to: set `mqtt.host`");
            }
            board.mqtt.link.not_configured("set `mqtt.host`", clock::now());
        }
    }
    inputs
}

/// What of the past is wanted, by the rules and registries of the moment of asking.
fn wishes(rules: &watch::Receiver<Arc<Rules>>, board: &Arc<Board>) -> Arc<dyn Fn() -> Wishes + Send + Sync> {
    let (rules, board) = (rules.clone(), Arc::clone(board));
    Arc::new(move || {
        let rules = Arc::clone(&rules.borrow());
        let mut pipeline = Pipeline::new(&rules);
        let _ = pipeline.learn(board.registries(), clock::now());
        Wishes { tags: rules.schema.tags_attributes.clone(), wants: Box::new(move |entity| pipeline.wants(entity)) }
    })
}

/// The last words: the books of each target.
fn sum_up(board: &Board) {
    let seen = board.snapshot(Instant::now(), clock::now());
    let received = seen.arrivals.received();
    for target in &seen.targets {
        let (name, books) = (&target.name, &target.books);
        info!(
            target_name = name,
            received,
            stored = books.stored,
            held = books.held,
            unaccounted = i64::try_from(seen.unaccounted(target)).unwrap_or(i64::MAX),
            "stopped: {name}: {received} events received, {} points stored, {} on disk for the next start, {} set aside, {} lost",
            books.stored,
            books.held,
            books.set_aside(),
            books.dropped() + books.expired,
        );
    }
}

fn open_spool(settings: &Settings, board: &Arc<Board>) -> anyhow::Result<Shared> {
    // What waits for the main target waits for it wherever it moves to; a mirror is the place that it is, whatever others
    // there are.
    let key = |name: &String| match settings.targets.iter().find(|known| known.name == *name) {
        Some(known) if name != MAIN_TARGET => known.place.identity(),
        _ => name.clone(),
    };
    let keys: Vec<String> = board.targets.iter().map(|target| key(&target.name)).collect();
    Ok(Shared::open(&settings.place.data_dir.join("spool"), settings.spool, &keys, Arc::clone(board))?)
}

/// Dead letters are written at once and made sure of now and then: each time would wear out a memory card.
async fn keep_letters(letters: Store, board: Arc<Board>, stop: CancellationToken) {
    let mut failures = Repeats::default();
    let mut goes_on = true;
    let mut ticks = tokio::time::interval(LETTERS_SYNC);
    while goes_on {
        tokio::select! {
            () = stop.cancelled() => goes_on = false,
            _ = ticks.tick() => {}
        }
        let store = letters.clone();
        let kept = tokio::task::spawn_blocking(move || store.sync().and_then(|()| store.count())).await;
        match kept.expect("the store does not panic") {
            Ok(count) => {
                // `replay` takes some away while we run.
                board.dead_letters.kept.set(count.letters);
                failures.recovered(Instant::now());
            }
            Err(err) if failures.failed((), Instant::now()) != Worth::Nothing => {
                warn!("the disk does not make sure of dead letters, a power cut may take them: {err}");
            }
            Err(_) => {}
        }
    }
}

async fn elapsed(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}
