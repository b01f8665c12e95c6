//! `import`: what the recorder has of the past, into the databases.

use std::pin::pin;
use std::time::Instant;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::lock::Lock;
use super::voice::Voice;
use super::{Exit, places, rules};
use crate::cli::Import;
use crate::config::settings::Settings;
use crate::history::import::cursor::Wish;
use crate::history::import::{self, ImportError, Plan, Progress, Summary};
use crate::model::time::Timestamp;
use crate::runtime::clock;
use crate::runtime::signal::StopSignals;

/// Beside that of the service, which may run at the same time.
pub(super) const LOCK: &str = "import";

/// Names in one sentence.
const MOST_NAMED: usize = 20;

pub(super) async fn run(settings: &Settings, wishes: &Import) -> anyhow::Result<Exit> {
    let mut voice = Voice::new();
    let now = clock::now();
    if wishes.from.zip(wishes.to.or(Some(now))).is_some_and(|(from, to)| from >= to) {
        voice.say("--from: must be before --to, and before now");
        return Ok(Exit::Options);
    }
    let Some(home) = &settings.home_assistant else {
        voice.say("no Home Assistant to ask: set `home_assistant.url` and `home_assistant.token`");
        return Ok(Exit::Options);
    };
    let targets: Vec<_> = settings
        .targets
        .iter()
        .filter(|target| wishes.target.as_ref().is_none_or(|wanted| *wanted == target.name))
        .collect();
    if targets.is_empty() {
        let names: Vec<&str> = settings.targets.iter().map(|target| target.name.as_str()).collect();
        voice.say(&match &wishes.target {
            Some(wanted) if !names.is_empty() => {
                format!("--target: there is no target `{wanted}`; there is {}", names.join(", "))
            }
            _ => "nowhere to write to: set `influxdb.url`".to_owned(),
        });
        return Ok(Exit::Options);
    }
    let rules = rules::load(settings)?.rules;
    let data_dir = &settings.place.data_dir;
    let _alone = Lock::take(&data_dir.join(LOCK))?;
    let plan = Plan {
        home,
        rules: &rules,
        places: places::load(&data_dir.join(places::FILE)),
        delivery: &settings.delivery,
        wish: Wish {
            from: wishes.from.map(Timestamp::as_micros),
            until: wishes.to.map(|to| to.min(now).as_micros()),
            raw: !wishes.no_raw,
            statistics: !wishes.no_statistics,
            value: !wishes.no_value,
            targets: targets.iter().map(|target| target.place.identity()).collect(),
        },
        targets,
        dry_run: wishes.dry_run,
        restart: wishes.restart,
        data_dir,
        now,
    };
    let began = Instant::now();
    let stop = CancellationToken::new();
    let mut signals = StopSignals::listen().context("cannot listen for signals")?;
    let mut reached = 0.0;
    let mut hear = |progress: Progress| {
        reached = progress.done;
        voice.progress_of(began, &bar(&progress, began));
    };
    let told = {
        let mut import = pin!(import::run(plan, &mut hear, &stop));
        tokio::select! {
            told = &mut import => told,
            _ = signals.next() => {
                stop.cancel();
                import.await
            }
        }
    };
    match told {
        Ok(summary) => {
            tell(&summary, wishes.dry_run, began, &mut voice);
            Ok(if summary.failed.is_empty() { Exit::Done } else { Exit::Unavailable })
        }
        Err(ImportError::Stopped) => {
            let go_on = if wishes.dry_run { "" } else { " Run the same command to resume." };
            voice.say(&format!("Interrupted at {:.0} %.{go_on}", reached * 100.0));
            Ok(Exit::Interrupted)
        }
        Err(err) => {
            voice.say(&err.to_string());
            if !wishes.dry_run {
                voice.say("what was imported stays; the same command goes on from there");
            }
            Ok(exit_of(&err))
        }
    }
}

fn exit_of(error: &ImportError) -> Exit {
    match error {
        ImportError::Open { .. } => Exit::Options,
        ImportError::Recorder { source } if source.is_wrong_token() => Exit::Options,
        _ => Exit::Unavailable,
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a picture for people")]
fn bar(progress: &Progress, began: Instant) -> String {
    const WIDTH: usize = 24;
    let done = progress.done.clamp(0.0, 1.0);
    let filled = ((done * 24.0) as usize).min(WIDTH);
    let seconds = began.elapsed().as_secs_f64().max(0.001);
    let seen = progress.totals.rows + progress.totals.hours;
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = seen as f64 / seconds;
    let left = if done > 0.0 { format!(", {:.0} s left", seconds / done * (1.0 - done)) } else { String::new() };
    let (full, empty) = ("#".repeat(filled), "-".repeat(WIDTH - filled));
    format!("{} [{full}{empty}] {:3.0} %, {seen} rows, {rate:.0} rows/s{left}", progress.phase, done * 100.0)
}

fn tell(summary: &Summary, is_dry_run: bool, began: Instant, voice: &mut Voice) {
    let (cursor, totals) = (&summary.cursor, &summary.cursor.totals);
    let (from, until) = (Timestamp::from_micros(cursor.began_at), Timestamp::from_micros(cursor.until));
    if summary.resumed {
        voice.say("it went on where it had stopped; all figures are of the whole import");
    }
    voice.say(&format!("raw history from {from} to {until}: {} rows of {} entities", totals.rows, cursor.oldest.len()));
    voice.say(&format!("statistics: {} hours of {} entities", totals.hours, cursor.statistics_of.len()));
    let written = if is_dry_run { "would be written" } else { "written" };
    voice.say(&format!(
        "{} points {written}, {} rows filtered as live changes are, {} older than the database keeps, in {:.1} s",
        totals.points,
        totals.filtered,
        totals.expired,
        began.elapsed().as_secs_f64()
    ));
    if totals.not_representable > 0 {
        voice.say(&format!(
            "{} points have no number, and a database that keeps numbers only has nothing of them",
            totals.not_representable
        ));
    }
    for (target, words) in &summary.failed {
        voice.say(&format!("{target}: not all of it was written: {words}; the same command goes on there"));
    }
    for note in &summary.notes {
        voice.say(&format!("note: {note}"));
    }
    if totals.external > 0 {
        voice.say(&format!("{} statistics belong to no entity and are left out", totals.external));
    }
    if !totals.gone.is_empty() {
        let names: Vec<&str> = totals.gone.iter().take(MOST_NAMED).map(String::as_str).collect();
        let more = if totals.gone.len() > names.len() { ", ..." } else { "" };
        voice.say(&format!(
            "statistics of {} entities that have no state in Home Assistant now are left out: {}{more}",
            totals.gone.len(),
            names.join(", ")
        ));
    }
    if totals.unreadable > 0 {
        voice.say(&format!("{} rows could not be read, or were not asked for", totals.unreadable));
    }
    for (words, count) in &totals.refused {
        voice.say(&format!("  {count} refused: {words}"));
    }
}
