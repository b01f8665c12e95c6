//! Whether a target has what Home Assistant knows: rows of the recorder, shaped as they were live, against the points
//! that are read back.
//!
//! It goes through the period as the recorder is walked through ([`crate::history::recorder::walk`]): memory holds the rows
//! and points of one step, and of the whole period the counts by entity and hour. [`mod@compare`], [`expected`],
//! [`entities`] and [`report`] decide; this asks Home Assistant, and `side` a target.

pub mod compare;
pub mod coverage;
pub mod entities;
pub mod expected;
pub mod report;
mod side;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::entities::Roster;
use self::expected::{Asked, Expectations};
use self::report::{Report, TargetReport, Unknown, Unverifiable};
use self::side::Sides;
use crate::config::settings::{Delivery, HomeAssistant, NamedTarget};
use crate::history::recorder::present::{Present, nearest};
use crate::history::recorder::renames::{Rename, Renames};
use crate::history::recorder::rows::Row;
use crate::history::recorder::walk::{Step, Walk};
use crate::history::recorder::windows::Window;
use crate::history::recorder::{Recorder, RecorderError};
use crate::influx::OpenError;
use crate::influx::query::ReadError;
use crate::line::read::Series;
use crate::model::entity::EntityId;
use crate::model::event::StateChange;
use crate::model::time::Timestamp;
use crate::pipeline::Fate;
use crate::pipeline::past::Shaper;
use crate::pipeline::places::Places;
use crate::pipeline::treatment::Treatments;
use crate::rules::Rules;

/// How long the recorder may take to commit what it has. A backup of Home Assistant takes minutes.
const COMMIT: Duration = Duration::from_mins(15);
/// What is verified unless somebody says otherwise.
const DAY_MICROS: i64 = 86_400 * 1_000_000;

/// What is to be verified.
pub struct Plan<'a> {
    pub home: &'a HomeAssistant,
    pub rules: &'a Arc<Rules>,
    /// What the service knows of where entities were.
    pub places: Places,
    pub skip_restored: bool,
    pub delivery: &'a Delivery,
    pub targets: Vec<&'a NamedTarget>,
    /// `None`: a day before the end.
    pub from: Option<Timestamp>,
    /// Exclusive. `None`, or later than now: the moment at which it is asked for, by Home Assistant's clock.
    pub until: Option<Timestamp>,
    /// Empty: all.
    pub entities: Vec<EntityId>,
    /// What entities were called before.
    pub renames: Vec<Rename>,
    /// What is missing is written.
    pub repair: bool,
    /// The wall clock.
    pub now: Timestamp,
}

/// What is compared: from `from` until `until`, which is excluded. Of whole milliseconds, so that databases that keep those are
/// compared exactly, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Period {
    from: Timestamp,
    until: Timestamp,
    /// When everything was committed that is compared.
    committed: Timestamp,
}

impl Period {
    fn of(plan: &Plan<'_>, committed: Timestamp) -> Result<Self, VerifyError> {
        let until = plan.until.map_or(committed, |until| until.min(committed));
        let from = plan.from.unwrap_or(Timestamp::from_micros(until.as_micros() - DAY_MICROS));
        let whole = |time: Timestamp| Timestamp::from_micros(time.as_micros().div_euclid(1_000) * 1_000);
        let (from, until) = (whole(from), whole(until));
        if from < until { Ok(Self { from, until, committed }) } else { Err(VerifyError::NoTime { from, until }) }
    }
}

/// How far it is.
#[derive(Debug, Clone)]
pub struct Progress {
    /// What is being waited for, if anything is.
    pub waiting: Option<String>,
    /// From 0 to 1.
    pub done: f64,
    pub reached: Option<Timestamp>,
    pub known: u64,
    pub missing: u64,
}

/// Why nothing was found out, in words that say what to do.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("{source}{}", advice(source))]
    Recorder {
        #[from]
        source: RecorderError,
    },
    #[error("there is no time from {from} until {until}: `from` must be before `to`, and before now")]
    NoTime { from: Timestamp, until: Timestamp },
    #[error("{name}: {source}")]
    Open { name: String, source: OpenError },
    #[error("{}", .0.join("\n"))]
    NoTarget(Vec<String>),
    #[error("stopped before the end")]
    Stopped,
}

fn advice(err: &RecorderError) -> &'static str {
    match err {
        RecorderError::Off => ": without its history nothing can be verified",
        RecorderError::Migrating | RecorderError::NotCommitted { .. } => ": try again when it is done",
        _ => "",
    }
}

/// Why a target cannot be compared, or not to the end.
#[derive(Debug, thiserror::Error)]
enum TargetError {
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("what is missing cannot be written: {0}")]
    Repair(String),
}

/// All that goes along with the time.
struct Course {
    period: Period,
    renames: Renames,
    /// Of all entities that Home Assistant has now.
    names: Vec<String>,
    roster: Roster,
    shaper: Shaper,
    expected: Expectations,
    asked: Asked,
    /// Entities by the series of their points.
    owners: HashMap<Series, usize>,
    /// Rows of this moment that do no harm if there is no point of them: place and time.
    optional: BTreeSet<(usize, Timestamp)>,
    /// If nothing is known from before the period: the first that is.
    first: Option<Timestamp>,
    reaches_back: bool,
}

/// Compares, repairs if that is wished for, and tells. It ends early at `stop`. A target that cannot be reached does not keep
/// the others from being compared.
///
/// # Errors
/// Home Assistant cannot be asked, no target can, or an option of one is wrong.
pub async fn run(
    plan: Plan<'_>,
    progress: &mut (dyn FnMut(Progress) + Send),
    stop: &CancellationToken,
) -> Result<Report, VerifyError> {
    tokio::select! {
        outcome = verify(&plan, progress) => outcome,
        () = stop.cancelled() => Err(VerifyError::Stopped),
    }
}

async fn verify(plan: &Plan<'_>, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<Report, VerifyError> {
    let mut sides = Sides::open(plan).await?;
    let mut recorder = Recorder::connect_patiently(plan.home).await.map_err(RecorderError::from)?;
    let present = recorder.present().await.map_err(RecorderError::from)?;
    let committed = recorder.commit(COMMIT, |words| progress(Progress::waiting(words))).await?;
    let period = Period::of(plan, committed)?;
    sides.learn_retention(plan, period).await?;
    let mut renames = plan.renames.clone();
    renames.retain(|rename| rename.at > period.from);
    let renames = Renames::that_moved(&renames, &mut recorder).await?;
    let mut course = Course::new(plan, present, period, renames);
    let ids = course.roster.ids();
    course.reaches_back = recorder.reaches_back(&ids, period.from).await?;
    if plan.skip_restored {
        learn_what_was_before(&mut recorder, &ids, period, &mut course.roster).await?;
    }

    let mut notes = course.renamed();
    let mut walk = Walk::new(&ids, period.from, period.until);
    let mut begun = period.from;
    loop {
        match walk.next(&mut recorder).await? {
            Step::Rows(rows) => {
                for (entity, rows) in rows.entities {
                    course.take(&entity, rows);
                }
            }
            Step::Lost(window, why) => {
                notes.push(format!("the history of {} from {} on: {why}", window.entities[0], window.from));
            }
            Step::Reached(reached) => {
                course.release(reached, reached >= period.until);
                sides.compare(&course, plan, begun, reached).await?;
                course.expected.clear();
                begun = reached;
                progress(sides.told(period, reached));
            }
            Step::End => break,
        }
    }
    let version = recorder.version().to_owned();
    recorder.end().await;
    match course.first {
        _ if course.reaches_back => {}
        Some(first) => {
            notes.push(format!("Home Assistant's history begins at {first}: what is older cannot be verified"));
        }
        None => notes.push("Home Assistant has no history of this time: nothing can be verified".to_owned()),
    }
    Ok(conclude(&course, sides, version, notes))
}

/// Of a state that was restored in the period it has to be known whether it is the one from before.
async fn learn_what_was_before(
    recorder: &mut Recorder,
    ids: &[EntityId],
    period: Period,
    roster: &mut Roster,
) -> Result<(), RecorderError> {
    for entities in ids.chunks(100) {
        let window = Window { entities: entities.into(), from: period.from, until: period.until };
        for (entity, row) in recorder.before(&window).await? {
            roster.learn_what_was_before(&entity, &row);
        }
    }
    Ok(())
}

impl Progress {
    fn waiting(words: &str) -> Self {
        Self { waiting: Some(words.to_owned()), done: 0.0, reached: None, known: 0, missing: 0 }
    }
}

fn conclude(course: &Course, sides: Sides<'_>, version: String, notes: Vec<String>) -> Report {
    let (roster, period) = (&course.roster, course.period);
    let mut cannot_be_verified = Vec::new();
    let has_extra: BTreeSet<usize> = sides.open.iter().flat_map(|side| side.tally.with_extra()).collect();
    let mut unknown = Vec::new();
    for (place, watched) in roster.entities.iter().enumerate() {
        if !roster.is_known(place) && !has_extra.contains(&place) {
            let names = course.names.iter().map(String::as_str);
            let nearest = nearest(watched.id.as_str(), names).into_iter().map(str::to_owned).collect();
            unknown.push(Unknown { entity: watched.id.to_string(), nearest });
        } else if let Some(reason) = roster.doubt(place, period.from, period.until, has_extra.contains(&place)) {
            cannot_be_verified.push(Unverifiable { entity: watched.id.to_string(), reason });
        }
    }
    let mut targets = Vec::new();
    for mut side in sides.open {
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
    let (from, until) = (period.from.to_string(), period.until.to_string());
    let not_verified = sides.failed;
    Report { from, until, home_assistant: version, targets, not_verified, cannot_be_verified, unknown, notes }
}

impl Course {
    fn new(plan: &Plan<'_>, present: Present, period: Period, renames: Renames) -> Self {
        let states = present.by_entity(plan.now);
        let registries = Arc::new(present.registries);
        let shaper = || Shaper::new(plan.rules, plan.places.clone(), Arc::clone(&registries), plan.now);
        let mut entities: Vec<(EntityId, Option<StateChange>)> =
            states.into_iter().map(|(entity, state)| (entity, Some(state))).collect();
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
        let mut roster = Roster::new(entities, plan.rules, &treatments, plan.skip_restored);
        for place in 0..roster.entities.len() {
            let entity = roster.entities[place].id.clone();
            renames.of(&entity).for_each(|rename| roster.also_called(place, &rename.before));
        }
        let mut course = Self {
            period,
            renames,
            names: present.states.into_iter().map(|state| state.entity_id).collect(),
            shaper: wanting,
            roster,
            expected: Expectations::default(),
            asked: Asked::default(),
            owners: HashMap::new(),
            optional: BTreeSet::new(),
            first: None,
            reaches_back: true,
        };
        // So that points of which Home Assistant knows nothing are found from the beginning.
        for state in course.roster.present().collect::<Vec<_>>() {
            course.shape(state);
        }
        course.release(crate::pipeline::END_OF_TIME, true);
        course.expected.clear();
        course.shaper = shaper();
        course
    }

    /// In words: whose points have another name before some time.
    fn renamed(&self) -> Vec<String> {
        let of_one = |entity: &EntityId| {
            let words = |rename: &Rename| {
                let Rename { before, now, at } = rename;
                format!("{before} is renamed to {now} since {at}: its points of before have the name that it had")
            };
            self.renames.of(entity).map(words).collect::<Vec<_>>()
        };
        self.roster.entities.iter().flat_map(|watched| of_one(&watched.id)).collect()
    }

    fn take(&mut self, entity: &EntityId, rows: Vec<Row>) {
        let Some(place) = self.roster.place(entity.as_str()) else { return };
        for row in rows {
            let (mut change, is_optional) = self.roster.take(place, row);
            change.entity = self.renames.name_at(entity, change.last_updated).clone();
            if is_optional {
                self.optional.insert((place, change.last_updated));
            }
            self.first = Some(self.first.map_or(change.last_updated, |first| first.min(change.last_updated)));
            self.shape(change);
        }
    }

    fn shape(&mut self, change: StateChange) {
        let Self { roster, shaper, expected, asked, owners, optional, .. } = self;
        shaper.take(change, &mut |fate, change| expect(&fate, change, roster, expected, asked, owners, optional));
    }

    /// Nothing older comes any more; at the end nothing at all.
    fn release(&mut self, reached: Timestamp, is_end: bool) {
        let Self { roster, shaper, expected, asked, owners, optional, .. } = self;
        let mut each =
            |fate: Fate<'_>, change: &StateChange| expect(&fate, change, roster, expected, asked, owners, optional);
        shaper.release(reached, &mut each);
        if is_end {
            shaper.finish(&mut each);
        }
        expected.sort();
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
    expected: &mut Expectations,
    asked: &mut Asked,
    owners: &mut HashMap<Series, usize>,
    optional: &BTreeSet<(usize, Timestamp)>,
) {
    let Fate::Point { point, .. } = fate else { return };
    let Some(place) = roster.place(change.entity.as_str()) else { return };
    let is_optional = optional.contains(&(place, change.last_updated));
    if let Some(series) = expected.expect(place, point, is_optional, asked) {
        owners.insert(series, place);
    }
}
