//! Whether a target has what Home Assistant knows: rows of the recorder, shaped as they were live, against the points
//! that are read back.
//!
//! It goes through the period step by step, as the recorder is asked ([`crate::ingest::recorder::windows`]): memory holds the
//! rows and points of one step, and of the whole period the counts by entity and hour. [`mod@compare`], [`step`],
//! [`watched`] and [`report`] decide; this asks Home Assistant, and `side` a target.

pub mod compare;
pub mod coverage;
pub mod report;
mod side;
pub mod step;
pub mod watched;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::report::{Report, TargetReport, Unverifiable};
use self::side::Side;
use self::step::{Asked, Step};
use self::watched::Roster;
use crate::config::settings::{Delivery, HomeAssistant, NamedTarget};
use crate::influx::OpenError;
use crate::influx::query::ReadError;
use crate::ingest::hass::ProbeError;
use crate::ingest::hass::present::{Present, PresentError};
use crate::ingest::hass::protocol::parse_state;
use crate::ingest::hass::visit::AskError;
use crate::ingest::recorder::Recorder;
use crate::ingest::recorder::windows::{Window, Windows};
use crate::line::read::Series;
use crate::model::entity::EntityId;
use crate::model::event::StateChange;
use crate::model::time::Timestamp;
use crate::pipeline::Fate;
use crate::pipeline::past::Shaper;
use crate::pipeline::places::Places;
use crate::pipeline::treatment::Treatments;
use crate::rules::Rules;

/// How often the recorder is asked whether it has written everything down, a second apart.
const BACKLOG_ASKS: u32 = 15;
/// What is younger may still be on its way into the recorder.
const SETTLING_MICROS: i64 = 30 * 1_000_000;
const SECOND: Duration = Duration::from_secs(1);

/// What is to be verified.
pub struct Plan<'a> {
    pub home: &'a HomeAssistant,
    pub rules: &'a Arc<Rules>,
    /// What the service knows of where entities were.
    pub places: Places,
    pub skip_restored: bool,
    pub delivery: &'a Delivery,
    pub targets: Vec<&'a NamedTarget>,
    pub from: Timestamp,
    /// Exclusive.
    pub until: Timestamp,
    /// Empty: all.
    pub entities: Vec<EntityId>,
    /// What is missing is written.
    pub repair: bool,
    /// The wall clock.
    pub now: Timestamp,
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub from: Timestamp,
    pub reached: Timestamp,
    pub until: Timestamp,
    pub known: u64,
    pub missing: u64,
}

/// Why nothing was found out, in words that say what to do.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Visit(#[from] ProbeError),
    #[error(transparent)]
    Present(#[from] PresentError),
    #[error("the recorder of Home Assistant is not loaded: without its history nothing can be verified")]
    NoRecorder,
    #[error("{0}: without its history nothing can be verified")]
    Recorder(&'static str),
    #[error("history cannot be read: {0}")]
    Ask(#[from] AskError),
    #[error("{name}: {source}")]
    Open { name: String, source: OpenError },
    #[error("{name}: {source}")]
    Read { name: String, source: ReadError },
    #[error("{name}: what is missing cannot be written: {words}")]
    Repair { name: String, words: String },
    #[error("stopped before the end")]
    Stopped,
}

/// All that goes along with the time.
struct Walk {
    roster: Roster,
    shaper: Shaper,
    step: Step,
    asked: Asked,
    /// Entities by the series of their points.
    owners: HashMap<Series, usize>,
    /// Rows of this moment that do no harm if there is no point of them: place and time.
    optional: BTreeSet<(usize, Timestamp)>,
    /// If nothing is known from before the period: the first that is.
    first: Option<Timestamp>,
    reaches_back: bool,
}

/// Compares, repairs if that is wished for, and tells. It ends early at `stop`.
pub async fn run(
    plan: Plan<'_>,
    progress: &mut (dyn FnMut(Progress) + Send),
    stop: &CancellationToken,
) -> Result<Report, VerifyError> {
    let mut sides = Vec::new();
    for target in &plan.targets {
        sides.push(Side::open(target, &plan).await?);
    }
    let mut recorder = Recorder::connect(plan.home).await?;
    let mut notes = Vec::new();
    notes.extend(wait_for_backlog(&mut recorder).await?);
    let present = recorder.present().await?;
    let mut walk = Walk::new(&plan, present);
    let ids = walk.roster.ids();
    let whole = Window { entities: ids.as_slice().into(), from: plan.from, until: plan.until };
    walk.reaches_back = reaches_back(&mut recorder, &whole).await?;
    if plan.skip_restored {
        learn_what_was_before(&mut recorder, &whole, &mut walk.roster).await?;
    }

    let mut windows = Windows::new(&ids, plan.from, plan.until);
    let mut begun = plan.from;
    while let Some(window) = windows.next_window().cloned() {
        if stop.is_cancelled() {
            return Err(VerifyError::Stopped);
        }
        match recorder.rows(&window).await {
            Ok(rows) => {
                for (entity, rows) in rows.entities {
                    walk.take(&entity, rows);
                }
                windows.answered(rows.bytes);
            }
            Err(AskError::TooLarge) => {
                if let Some(lost) = windows.too_large() {
                    notes.push(format!(
                        "the history of {} from {} on is too large to read",
                        lost.entities[0], lost.from
                    ));
                }
                recorder = Recorder::connect(plan.home).await?;
            }
            Err(err) => return Err(err.into()),
        }
        let reached = windows.reached();
        if reached > begun {
            walk.release(reached, reached >= plan.until);
            for side in &mut sides {
                side.compare(&walk, &plan, begun, reached).await?;
            }
            walk.step.clear();
            begun = reached;
            progress(told(&plan, reached, &sides));
        }
    }
    let version = recorder.version().to_owned();
    recorder.end().await;
    match walk.first {
        _ if walk.reaches_back => {}
        Some(first) => {
            notes.push(format!("Home Assistant's history begins at {first}: what is older cannot be verified"));
        }
        None => notes.push("Home Assistant has no history of this time: nothing can be verified".to_owned()),
    }
    Ok(conclude(&plan, sides, &walk.roster, version, notes))
}

/// Says so if there still is a backlog after some time.
async fn wait_for_backlog(recorder: &mut Recorder) -> Result<Option<String>, VerifyError> {
    let mut backlog = 0;
    for _ in 0..BACKLOG_ASKS {
        let info = match recorder.info().await {
            Err(err) if err.is_unknown_command() => return Err(VerifyError::NoRecorder),
            info => info?,
        };
        if let Some(trouble) = info.trouble() {
            return Err(VerifyError::Recorder(trouble));
        }
        backlog = info.backlog;
        if backlog == 0 {
            return Ok(None);
        }
        sleep(SECOND).await;
    }
    Ok(Some(format!("{backlog} changes wait to be recorded: the end of the period may look emptier than it is")))
}

/// Whether anything is known from before the period, asked for in parts.
async fn reaches_back(recorder: &mut Recorder, whole: &Window) -> Result<bool, VerifyError> {
    for entities in whole.entities.chunks(500) {
        if recorder.reaches_back(&Window { entities: entities.into(), ..whole.clone() }).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Of a state that was restored in the period it has to be known whether it is the one from before.
async fn learn_what_was_before(
    recorder: &mut Recorder,
    whole: &Window,
    roster: &mut Roster,
) -> Result<(), VerifyError> {
    for entities in whole.entities.chunks(100) {
        for (entity, row) in recorder.before(&Window { entities: entities.into(), ..whole.clone() }).await? {
            roster.learn_what_was_before(&entity, &row);
        }
    }
    Ok(())
}

fn told(plan: &Plan<'_>, reached: Timestamp, sides: &[Side<'_>]) -> Progress {
    let total = sides.first().map(|side| side.tally.total()).unwrap_or_default();
    Progress { from: plan.from, reached, until: plan.until, known: total.known, missing: total.missing }
}

fn conclude(plan: &Plan<'_>, sides: Vec<Side<'_>>, roster: &Roster, version: String, notes: Vec<String>) -> Report {
    let settled = Timestamp::from_micros(plan.now.as_micros() - SETTLING_MICROS);
    let mut cannot_be_verified = Vec::new();
    let mut targets = Vec::new();
    let has_extra: BTreeSet<usize> = sides.iter().flat_map(|side| side.tally.with_extra()).collect();
    for (place, watched) in roster.entities.iter().enumerate() {
        if let Some(reason) = roster.doubt(place, plan.from, plan.until, settled, has_extra.contains(&place)) {
            cannot_be_verified.push(Unverifiable { entity: watched.id.to_string(), reason });
        }
    }
    for mut side in sides {
        side.tally.forget_extra(|place| !roster.has_rows(place));
        let describe = |place: usize| (roster.entities[place].id.to_string(), roster.entities[place].is_exact);
        targets.push(TargetReport {
            target: side.target.name.clone(),
            server: side.reader.describe(),
            verifiable_from: side.kept_from.map(|nanos| Timestamp::from_micros(nanos / 1_000).to_string()),
            total: side.tally.total(),
            repaired: side.repaired,
            not_kept: side.not_kept,
            entities: side.tally.entities(describe),
        });
    }
    let (from, until) = (plan.from.to_string(), plan.until.to_string());
    Report { from, until, home_assistant: version, targets, cannot_be_verified, notes }
}

impl Walk {
    fn new(plan: &Plan<'_>, present: Present) -> Self {
        let registries = Arc::new(present.registries);
        let shaper = || Shaper::new(plan.rules, plan.places.clone(), Arc::clone(&registries), plan.now);
        let mut entities: Vec<(EntityId, Option<StateChange>)> = present
            .states
            .iter()
            .filter_map(|state| parse_state(state.state.get(), plan.now).ok())
            .map(|state| (state.entity.clone(), Some(state)))
            .collect();
        if !plan.entities.is_empty() {
            entities.retain(|(entity, _)| plan.entities.contains(entity));
            let unknown = plan.entities.iter().filter(|wanted| !entities.iter().any(|(known, _)| known == *wanted));
            let unknown: Vec<_> = unknown.map(|wanted| (wanted.clone(), None)).collect();
            entities.extend(unknown);
        }
        let wanting = shaper();
        entities.retain(|(entity, _)| wanting.wants(entity));
        entities.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        let mut treatments = Treatments::new(plan.rules);
        let _ = treatments.learn(Arc::clone(&registries));
        let roster = Roster::new(entities, plan.rules, &treatments, plan.skip_restored);
        let mut walk = Self {
            shaper: wanting,
            roster,
            step: Step::default(),
            asked: Asked::default(),
            owners: HashMap::new(),
            optional: BTreeSet::new(),
            first: None,
            reaches_back: true,
        };
        // So that points of which Home Assistant knows nothing are found from the beginning.
        for state in walk.roster.present().collect::<Vec<_>>() {
            walk.shape(state);
        }
        walk.release(crate::pipeline::END_OF_TIME, true);
        walk.step.clear();
        walk.shaper = shaper();
        walk
    }

    fn take(&mut self, entity: &EntityId, rows: Vec<crate::ingest::recorder::rows::Row>) {
        let Some(place) = self.roster.place(entity.as_str()) else { return };
        for row in rows {
            let (change, is_optional) = self.roster.take(place, row);
            if is_optional {
                self.optional.insert((place, change.last_updated));
            }
            self.first = Some(self.first.map_or(change.last_updated, |first| first.min(change.last_updated)));
            self.shape(change);
        }
    }

    fn shape(&mut self, change: StateChange) {
        let Self { roster, shaper, step, asked, owners, optional, .. } = self;
        shaper.take(change, &mut |fate, change| expect(&fate, change, roster, step, asked, owners, optional));
    }

    /// Nothing older comes any more; at the end nothing at all.
    fn release(&mut self, reached: Timestamp, is_end: bool) {
        let Self { roster, shaper, step, asked, owners, optional, .. } = self;
        let mut each =
            |fate: Fate<'_>, change: &StateChange| expect(&fate, change, roster, step, asked, owners, optional);
        shaper.release(reached, &mut each);
        if is_end {
            shaper.finish(&mut each);
        }
        step.sort();
        if shaper.waiting() == 0 {
            optional.clear();
        }
    }

    /// The entity that a series belongs to. `None`: somebody else writes it.
    fn owner(&self, series: &Series) -> Option<usize> {
        self.owners.get(series).copied().or_else(|| {
            let (domain, entity) = (series.tags.get("domain")?, series.tags.get("entity_id")?);
            self.roster.place(&format!("{domain}.{entity}"))
        })
    }
}

fn expect(
    fate: &Fate<'_>,
    change: &StateChange,
    roster: &Roster,
    step: &mut Step,
    asked: &mut Asked,
    owners: &mut HashMap<Series, usize>,
    optional: &BTreeSet<(usize, Timestamp)>,
) {
    let Fate::Point { point, .. } = fate else { return };
    let Some(place) = roster.place(change.entity.as_str()) else { return };
    let is_optional = optional.contains(&(place, change.last_updated));
    if let Some(series) = step.expect(place, point, is_optional, asked) {
        owners.insert(series, place);
    }
}
