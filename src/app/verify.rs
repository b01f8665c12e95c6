//! `verify`: shows that a target has what Home Assistant knows, and repairs it if that is wished for.

use std::io::{self, Write};

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::voice::Voice;
use super::{Exit, coverage, places, rules};
use crate::cli::Verify;
use crate::config::settings::{NamedTarget, Settings};
use crate::history::gaps::entity_list;
use crate::history::verify::report::{Counts, EntityReport, Report, TargetReport, Unknown};
use crate::history::verify::{self, Plan, Progress, VerifyError};
use crate::runtime::clock;

/// Entities that are named without a difference, if there is no history of them.
const MOST_NAMED: usize = 20;

pub(super) async fn run(settings: &Settings, wishes: &Verify) -> anyhow::Result<Exit> {
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
    let targets = match chosen(settings, wishes) {
        Ok(targets) => targets,
        Err(words) => {
            voice.say(&words);
            return Ok(Exit::Options);
        }
    };
    let rules = rules::load(settings)?.rules;
    let plan = Plan {
        home,
        rules: &rules,
        places: places::load(&settings.place.data_dir.join(places::FILE)),
        skip_restored: settings.history.skip_restored,
        delivery: &settings.delivery,
        targets,
        from: wishes.from,
        until: wishes.to,
        entities: wishes.entities.clone(),
        renames: entity_list::known(&settings.place.data_dir).await.1,
        repair: wishes.repair,
        now,
    };
    let verified =
        verify::run(plan, &mut |progress| voice.progress(|| bar(&progress)), &CancellationToken::new()).await;
    let report = match verified {
        Ok(report) => report,
        Err(err) => {
            voice.say(&err.to_string());
            return Ok(exit_of(&err));
        }
    };
    if let Err(err) = coverage::keep(&settings.place.data_dir, &report, now) {
        voice.say(&format!("{err:#}"));
    }
    if wishes.json {
        let mut out = io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, &report).context("cannot write the answer")?;
        writeln!(out).context("cannot write the answer")?;
    } else {
        tell(&report, wishes.all, &mut voice);
    }
    Ok(if !report.not_verified.is_empty() {
        Exit::Unavailable
    } else if report.is_incomplete() || !report.unknown.is_empty() {
        Exit::Incomplete
    } else {
        Exit::Done
    })
}

/// Or words that say what to do.
fn chosen<'a>(settings: &'a Settings, wishes: &Verify) -> Result<Vec<&'a NamedTarget>, String> {
    if settings.targets.is_empty() {
        return Err("nowhere to look: set `influxdb.url`".to_owned());
    }
    let Some(wanted) = &wishes.target else { return Ok(settings.targets.iter().collect()) };
    let found: Vec<_> = settings.targets.iter().filter(|target| target.name == *wanted).collect();
    if found.is_empty() {
        let names: Vec<&str> = settings.targets.iter().map(|target| target.name.as_str()).collect();
        return Err(format!("--target: there is no target `{wanted}`; there is {}", names.join(", ")));
    }
    Ok(found)
}

fn exit_of(error: &VerifyError) -> Exit {
    match error {
        VerifyError::Open { .. } | VerifyError::NoTime { .. } => Exit::Options,
        VerifyError::Recorder { source } if source.is_wrong_token() => Exit::Options,
        _ => Exit::Unavailable,
    }
}

fn bar(progress: &Progress) -> String {
    match (&progress.waiting, progress.reached) {
        (Some(words), _) => words.clone(),
        (None, Some(reached)) => format!(
            "{:3.0} %, up to {reached}: {} changes, {} missing",
            progress.done * 100.0,
            progress.known,
            progress.missing
        ),
        (None, None) => String::new(),
    }
}

fn tell(report: &Report, all: bool, voice: &mut Voice) {
    voice.say(&format!("from {} to {}, Home Assistant {}", report.from, report.until, report.home_assistant));
    for target in &report.targets {
        tell_target(target, all, voice);
    }
    let doubtful = &report.cannot_be_verified;
    if !doubtful.is_empty() {
        voice.say(&format!("\ncannot be verified: {} entities", doubtful.len()));
        let shown = if all { doubtful.len() } else { MOST_NAMED };
        for doubt in doubtful.iter().take(shown) {
            voice.say(&format!("  {}: {}", doubt.entity, doubt.reason));
        }
        if doubtful.len() > shown {
            voice.say(&format!("  and {} more: see them with --all", doubtful.len() - shown));
        }
    }
    for Unknown { entity, nearest } in &report.unknown {
        let instead =
            if nearest.is_empty() { String::new() } else { format!(": did you mean {}?", nearest.join(" or ")) };
        voice.say(&format!("Home Assistant has no entity {entity}, and no history of it{instead}"));
    }
    for target in &report.not_verified {
        voice.say(&format!("\n{}: not verified: {}", target.target, target.why));
    }
    for note in &report.notes {
        voice.say(&format!("note: {note}"));
    }
}

fn tell_target(target: &TargetReport, all: bool, voice: &mut Voice) {
    voice.say(&format!("\n{}: {}", target.target, target.server));
    if let Some(from) = &target.verifiable_from {
        voice.say(&format!("it keeps nothing from before {from}"));
    }
    let shown: Vec<&EntityReport> = target.entities.iter().filter(|entity| all || entity.total.differs()).collect();
    if !shown.is_empty() {
        let width = shown.iter().map(|entity| entity.entity.len()).max().unwrap_or_default().max("entity".len());
        voice.say(&format!(
            "  {:width$}  {:>9} {:>9} {:>9} {:>9} {:>9}  hours",
            "entity", "known", "present", "missing", "extra", "differing"
        ));
        for entity in shown {
            voice.say(&format!(
                "  {:width$}  {}  {}{}",
                entity.entity,
                row(&entity.total),
                hours(entity),
                exactness(entity)
            ));
        }
        voice.say(&format!("  {:width$}  {}", "all", row(&target.total)));
    }
    if target.repaired > 0 {
        voice.say(&format!("repaired: {} points were missing and have been written", target.repaired));
    }
    if target.not_kept > 0 {
        voice.say(&format!("{} points have no number: this database does not keep those", target.not_kept));
    }
    let Counts { known, present, missing, extra, differing_timestamps } = target.total;
    voice.say(&format!("{known} known, {present} present"));
    voice.say(&format!("missing {missing}, extra {extra}, differing timestamps {differing_timestamps}"));
}

fn row(counts: &Counts) -> String {
    let Counts { known, present, missing, extra, differing_timestamps } = counts;
    format!("{known:>9} {present:>9} {missing:>9} {extra:>9} {differing_timestamps:>9}")
}

/// The first and the last hour with a difference.
fn hours(entity: &EntityReport) -> String {
    let short = |hour: &str| hour.get(..13).unwrap_or(hour).to_owned();
    let differing: Vec<&str> =
        entity.hours.iter().filter(|hour| hour.counts.differs()).map(|hour| hour.hour.as_str()).collect();
    match differing[..] {
        [] => String::new(),
        [only] => short(only),
        [first, .., last] => format!("{} hours, {} to {}", differing.len(), short(first), short(last)),
    }
}

fn exactness(entity: &EntityReport) -> &'static str {
    if entity.exact { "" } else { "  (a rule sets its pace: not compared exactly)" }
}
