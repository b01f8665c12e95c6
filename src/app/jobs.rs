//! The work that people order from the panel, one after the other, by the same code as the commands.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, FutureExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::first_import::FirstImport;
use super::lock::Lock;
use super::{coverage, import, places};
use crate::config::settings::{NamedTarget, Settings};
use crate::history::gaps::entity_list;
use crate::history::import::cursor::Wish;
use crate::history::verify;
use crate::ingest::hass::visit::Visit;
use crate::model::time::Timestamp;
use crate::rules::Rules;
use crate::runtime::alive::beating;
use crate::runtime::clock;
use crate::status::board::Board;
use crate::web::jobs::{Job, Jobs, NotOrdered, Order};

/// How long Home Assistant may take to name its administrators.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where orders are given, and looked after.
pub(super) struct Desk {
    settings: Settings,
    state: Mutex<State>,
    orders: mpsc::Sender<Task>,
}

#[derive(Default)]
struct State {
    job: Job,
    began: Option<Instant>,
    stop: CancellationToken,
}

impl State {
    fn begin(kind: &'static str) -> Self {
        let job = Job { kind, running: true, phase: "beginning".to_owned(), ..Job::default() };
        Self { job, began: Some(Instant::now()), stop: CancellationToken::new() }
    }
}

/// An order that makes sense.
pub(super) enum Task {
    Import { wish: Wish, dry_run: bool },
    Verify { from: Option<Timestamp>, until: Option<Timestamp>, repair: bool },
}

impl Desk {
    /// With the end at which [`work`] takes what was ordered.
    pub(super) fn new(settings: &Settings) -> (Arc<Self>, mpsc::Receiver<Task>) {
        let (orders, taken) = mpsc::channel(1);
        (Arc::new(Self { settings: settings.clone(), state: Mutex::default(), orders }), taken)
    }

    /// Everything that there is, if there is anybody to ask and anywhere to write to. Nothing else is running.
    pub(super) fn begin_first_import(&self) -> Option<Task> {
        let all = Order::Import { from: None, to: None, raw: true, statistics: true, value: true, dry_run: false };
        let (kind, task) = self.read(all).ok()?;
        *self.lock() = State::begin(kind);
        Some(task)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, order: Order) -> Result<(&'static str, Task), String> {
        if self.settings.home_assistant.is_none() {
            return Err("set `home_assistant.url` and `home_assistant.token`".to_owned());
        }
        if self.settings.targets.is_empty() {
            return Err("nowhere to write to: set `influxdb.url`".to_owned());
        }
        let now = clock::now();
        match order {
            Order::Import { from, to, raw, statistics, value, dry_run } => {
                let (from, until) = (moment("from", from)?, moment("to", to)?);
                if from.is_some_and(|from| from >= until.unwrap_or(now).min(now)) {
                    return Err("`from` must be before `to`, and before now".to_owned());
                }
                let wish = Wish {
                    from: from.map(Timestamp::as_micros),
                    until: until.map(|until| until.min(now).as_micros()),
                    raw,
                    statistics,
                    value,
                    targets: self.settings.targets.iter().map(|target| target.place.identity()).collect(),
                };
                Ok(("import", Task::Import { wish, dry_run }))
            }
            Order::Verify { from, to, repair } => {
                let (from, until) = (moment("from", from)?, moment("to", to)?);
                if from.is_some_and(|from| from >= until.unwrap_or(now).min(now)) {
                    return Err("`from` must be before `to`, and before now".to_owned());
                }
                Ok(("verify", Task::Verify { from, until, repair }))
            }
        }
    }

    fn progress(&self, phase: &str, done: f64, rows: u64, points: u64) {
        let mut state = self.lock();
        let seconds = state.began.map_or(0.0, |began| began.elapsed().as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rows_per_second = rows as f64 / seconds.max(0.001);
        let seconds_left = (done > 0.0).then(|| seconds / done * (1.0 - done));
        let job =
            Job { phase: phase.to_owned(), done, rows, points, rows_per_second, seconds_left, ..state.job.clone() };
        state.job = job;
    }

    /// Shows what was done. Returns why not all of it was.
    fn end(&self, done: anyhow::Result<(Value, Option<String>)>) -> Option<String> {
        let mut state = self.lock();
        let kind = state.job.kind;
        state.job.running = false;
        state.job.seconds = state.began.map_or(0.0, |began| began.elapsed().as_secs_f64());
        state.job.seconds_left = None;
        let failure = match done {
            Ok((result, failure)) => {
                info!("{kind}: done: {result}");
                state.job.done = 1.0;
                state.job.result = Some(result);
                failure
            }
            Err(err) => Some(format!("{err:#}")),
        };
        state.job.error.clone_from(&failure);
        failure
    }

    /// Returns what was done, and why not all of it was.
    async fn do_it(
        &self,
        task: Task,
        rules: &Arc<Rules>,
        stop: &CancellationToken,
    ) -> anyhow::Result<(Value, Option<String>)> {
        let settings = &self.settings;
        let data_dir = &settings.place.data_dir;
        let home = settings.home_assistant.as_ref().ok_or_else(|| anyhow::anyhow!("no Home Assistant to ask"))?;
        let targets: Vec<&NamedTarget> = settings.targets.iter().collect();
        let places = places::load(&data_dir.join(places::FILE));
        let now = clock::now();
        match task {
            Task::Import { wish, dry_run } => {
                let _alone = Lock::take(&data_dir.join(import::LOCK))?;
                let plan = crate::history::import::Plan {
                    home,
                    rules,
                    places,
                    delivery: &settings.delivery,
                    targets,
                    wish,
                    dry_run,
                    restart: false,
                    data_dir,
                    now,
                };
                let mut hear = |told: crate::history::import::Progress| {
                    let totals = &told.totals;
                    self.progress(&told.phase, told.done, totals.rows + totals.hours, totals.points);
                };
                let summary = crate::history::import::run(plan, &mut hear, stop).await?;
                let failed: Vec<String> =
                    summary.failed.iter().map(|(target, words)| format!("{target}: {words}")).collect();
                let told = json!({
                    "resumed": summary.resumed,
                    "totals": summary.cursor.totals,
                    "failed": failed,
                    "notes": summary.notes,
                });
                Ok((told, (!failed.is_empty()).then(|| failed.join("; "))))
            }
            Task::Verify { from, until, repair } => {
                let plan = verify::Plan {
                    home,
                    rules,
                    places,
                    skip_restored: settings.history.skip_restored,
                    delivery: &settings.delivery,
                    targets,
                    from,
                    until,
                    entities: Vec::new(),
                    renames: entity_list::known(data_dir).await.1,
                    repair,
                    now,
                };
                let mut hear = |told: verify::Progress| {
                    let phase = told.waiting.as_deref().unwrap_or("comparing");
                    self.progress(phase, told.done, told.known, 0);
                };
                let report = verify::run(plan, &mut hear, stop).await?;
                coverage::keep(data_dir, &report, now)?;
                let totals =
                    report.targets.iter().map(|target| json!({"target": target.target, "total": target.total}));
                let told = json!({
                    "from": report.from,
                    "until": report.until,
                    "targets": totals.collect::<Vec<_>>(),
                    "not_verified": report.not_verified,
                });
                let failed = report.not_verified.iter().map(|failed| format!("{}: {}", failed.target, failed.why));
                let failed: Vec<String> = failed.collect();
                Ok((told, (!failed.is_empty()).then(|| failed.join("; "))))
            }
        }
    }
}

/// A time with an offset, or a date.
fn moment(name: &str, text: Option<String>) -> Result<Option<Timestamp>, String> {
    let Some(text) = text else { return Ok(None) };
    crate::cli::moment(&text).map(Some).map_err(|words| format!("`{name}`: {words}"))
}

/// Does what is ordered, until `stop`. `first`: the import that is to be done without an order.
pub(super) async fn work(
    desk: Arc<Desk>,
    mut orders: mpsc::Receiver<Task>,
    mut first: Option<FirstImport>,
    rules: watch::Receiver<Arc<Rules>>,
    board: Arc<Board>,
    stop: CancellationToken,
) {
    let work = async {
        loop {
            let (task, is_first) = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                task = orders.recv() => match task {
                    Some(task) => (task, false),
                    None => return,
                },
                () = due(first.as_ref()) => match desk.begin_first_import() {
                    Some(task) => (task, true),
                    None => {
                        first = None;
                        continue;
                    }
                },
            };
            let rules = Arc::clone(&rules.borrow());
            let ordered_stop = desk.lock().stop.clone();
            let done = tokio::select! {
                // What is under way may be waiting for somebody else: it begins again where it was noted.
                () = stop.cancelled() => Err(anyhow::anyhow!("stopped with the service")),
                () = ordered_stop.cancelled() => Err(anyhow::anyhow!("stopped; the same order goes on from there")),
                done = Box::pin(desk.do_it(task, &rules, &ordered_stop)) => done,
            };
            let failure = desk.end(done);
            if is_first {
                match failure {
                    None => first.take().into_iter().for_each(FirstImport::done),
                    // Whoever stopped it wants to have it stopped, until the next start.
                    Some(_) if ordered_stop.is_cancelled() => first = None,
                    Some(words) => first.iter_mut().for_each(|first| first.failed(&words)),
                }
            } else if let Some(words) = failure {
                warn!("{}: {words}", desk.lock().job.kind);
            }
        }
    };
    beating(|| board.beat("jobs", Instant::now()), work).await;
}

async fn due(first: Option<&FirstImport>) {
    match first {
        Some(first) => first.due().await,
        None => std::future::pending().await,
    }
}

impl Jobs for Desk {
    fn seen(&self) -> Job {
        let state = self.lock();
        let mut job = state.job.clone();
        if job.running {
            job.seconds = state.began.map_or(0.0, |began| began.elapsed().as_secs_f64());
        }
        job
    }

    fn order(&self, order: Order) -> Result<(), NotOrdered> {
        let (kind, task) = self.read(order).map_err(NotOrdered::Wrong)?;
        let mut state = self.lock();
        if state.job.running {
            return Err(NotOrdered::Busy);
        }
        self.orders.try_send(task).map_err(|_| NotOrdered::Busy)?;
        *state = State::begin(kind);
        info!("{kind}: ordered");
        Ok(())
    }

    fn stop(&self) -> bool {
        let state = self.lock();
        state.stop.cancel();
        state.job.running
    }

    fn is_administrator(self: Arc<Self>, user: String) -> BoxFuture<'static, Result<bool, String>> {
        async move {
            let home = self.settings.home_assistant.as_ref().ok_or("no Home Assistant to ask who you are")?;
            let mut visit = Visit::begin(home, PATIENCE).await.map_err(|err| err.to_string())?;
            let listed = visit.ask(json!({"type": "config/auth/list"}), PATIENCE).await;
            visit.end().await;
            Ok(names(listed.map_err(|err| err.to_string())?.result(), &user))
        }
        .boxed()
    }

    fn coverage(self: Arc<Self>, entity_id: Option<String>) -> BoxFuture<'static, Value> {
        let path = self.settings.place.data_dir.join(coverage::FILE);
        let read = tokio::task::spawn_blocking(move || coverage::load(&path).figures(entity_id.as_deref()));
        async { read.await.expect("reading a file does not panic") }.boxed()
    }
}

#[derive(Deserialize)]
struct User {
    id: String,
    #[serde(default)]
    is_owner: bool,
    #[serde(default)]
    is_active: bool,
    #[serde(default)]
    group_ids: Vec<String>,
}

/// Whether this list of users has him as an administrator.
fn names(users: &str, wanted: &str) -> bool {
    let users: Vec<User> = serde_json::from_str(users).unwrap_or_default();
    users.iter().any(|user| {
        let is_administrator = user.is_owner || user.group_ids.iter().any(|group| group == "system-admin");
        user.id == wanted && user.is_active && is_administrator
    })
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn administrators_are_told_from_others() {
        let users = r#"[{"id":"o","is_owner":true,"is_active":true,"group_ids":[]},
            {"id":"a","is_owner":false,"is_active":true,"group_ids":["system-admin"]},
            {"id":"u","is_owner":false,"is_active":true,"group_ids":["system-users"]},
            {"id":"x","is_owner":false,"is_active":false,"group_ids":["system-admin"]}]"#;
        for (user, expected) in [("o", true), ("a", true), ("u", false), ("x", false), ("", false)] {
            assert_eq!(names(users, user), expected, "{user}");
        }
        assert!(!names("{}", "o"));
    }
}
