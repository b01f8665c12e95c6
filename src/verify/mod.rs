//! Whether a target has what Home Assistant knows: rows of the recorder, shaped as they were live, against the points
//! that are read back.
//!
//! It goes through the period step by step, as the recorder is asked ([`crate::ingest::recorder::windows`]), so that memory
//! holds one step however long the period is. [`mod@compare`], [`step`], [`watched`] and [`report`] decide; this asks.

pub mod compare;
pub mod coverage;
pub mod report;
pub mod step;
pub mod watched;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::compare::{Expected, Finding, Measure, compare};
use self::report::{Counts, Report, Tally, TargetReport, Unverifiable};
use self::step::{Asked, Step};
use self::watched::Roster;
use crate::config::settings::{Delivery, HomeAssistant, NamedTarget};
use crate::deliver::carrier::Carrier;
use crate::influx::OpenError;
use crate::influx::query::{Found, Question, ReadError, Reader};
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
/// How often it is looked whether a repaired point is there, a second apart: some databases find it after a moment.
const LOOKS: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);
const GRAIN_OF_MILLIS: i64 = 1_000_000;

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

/// One target, and what was found out about it.
struct Side<'a> {
    target: &'a NamedTarget,
    reader: Reader,
    carrier: Option<Carrier>,
    /// In nanoseconds. What is older is not kept.
    kept_from: Option<i64>,
    tally: Tally,
    repaired: u64,
    not_kept: u64,
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
    if let Some(first) = walk.first.filter(|_| !walk.reaches_back) {
        notes.push(format!("Home Assistant's history begins at {first}: what is older cannot be verified"));
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

impl<'a> Side<'a> {
    async fn open(target: &'a NamedTarget, plan: &Plan<'_>) -> Result<Self, VerifyError> {
        let name = &target.name;
        let open = |source| VerifyError::Open { name: name.clone(), source };
        let read = |source| VerifyError::Read { name: name.clone(), source };
        let mut reader = Reader::open(&target.place, plan.delivery).map_err(open)?;
        reader.connect().await.map_err(read)?;
        reader.settle().await;
        let retention = reader.retention().await.map_err(read)?;
        let kept_from = retention
            .map(|kept| plan.now.as_nanos().saturating_sub(i64::try_from(kept.as_nanos()).unwrap_or(i64::MAX)));
        let carrier = if plan.repair { Some(Carrier::open(&target.place, plan.delivery).map_err(open)?) } else { None };
        let kept_from = kept_from.filter(|kept| *kept > plan.from.as_nanos());
        Ok(Self { target, reader, carrier, kept_from, tally: Tally::default(), repaired: 0, not_kept: 0 })
    }

    async fn compare(
        &mut self,
        walk: &Walk,
        plan: &Plan<'_>,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<(), VerifyError> {
        let found = self.find(walk, from, until).await?;
        let (mut tally, mut missing) = self.judge(walk, &found, from, until);
        if !missing.is_empty() && self.carrier.is_some() {
            let written = self.write(walk, plan, &missing).await?;
            let before = missing.len();
            for look in 0..LOOKS {
                self.reader.settle().await;
                let found = self.find(walk, from, until).await?;
                (tally, missing) = self.judge(walk, &found, from, until);
                if before - missing.len().min(before) >= written {
                    break;
                }
                if look + 1 < LOOKS {
                    sleep(SECOND).await;
                }
            }
            self.repaired += (before - missing.len().min(before)) as u64;
        }
        for ((entity, hour), counts) in tally.into_hours() {
            self.tally.add(entity, hour, counts);
        }
        if self.reader.keeps_numbers_only() {
            let points = walk.step.series.values().flatten();
            self.not_kept += points.filter(|point| !point.has_number).count() as u64;
        }
        Ok(())
    }

    async fn find(&mut self, walk: &Walk, from: Timestamp, until: Timestamp) -> Result<Found, VerifyError> {
        // Whole milliseconds, and as much more as rules may shift a point.
        let slack = walk.roster.most_slack() / 1_000;
        let from = (from.as_micros() - slack).div_euclid(1_000) * 1_000;
        let until = (until.as_micros() + slack + 999).div_euclid(1_000) * 1_000;
        let numbers = self.reader.keeps_numbers_only();
        let question = Question {
            fields: if numbers { &walk.asked.numbers } else { &walk.asked.any },
            from: Timestamp::from_micros(from),
            until: Timestamp::from_micros(until),
        };
        let name = &self.target.name;
        self.reader.find(&question).await.map_err(|source| VerifyError::Read { name: name.clone(), source })
    }

    /// What there is to count, and the points that are missing.
    fn judge(&self, walk: &Walk, found: &Found, from: Timestamp, until: Timestamp) -> (Tally, Vec<Expected>) {
        let numbers = self.reader.keeps_numbers_only();
        let mut tally = Tally::default();
        let mut missing = Vec::new();
        let mut seen = BTreeSet::new();
        let known_from = walk.first.filter(|_| !walk.reaches_back).map_or(i64::MIN, Timestamp::as_nanos);
        let mut judge_one = |owner: usize, expected: &[Expected], times: &[i64]| {
            let watched = &walk.roster.entities[owner];
            let measure = Measure {
                grain_nanos: if numbers { GRAIN_OF_MILLIS } else { 1 },
                slack_nanos: watched.slack_nanos,
                counts_extra: watched.is_exact,
                from_nanos: from.as_nanos().max(known_from),
                until_nanos: until.as_nanos(),
            };
            compare(expected, times, measure, &mut |finding| match finding {
                Finding::Present(point) => count(&mut tally, point, |counts| counts.present += 1),
                Finding::Differing(point) => count(&mut tally, point, |counts| counts.differing_timestamps += 1),
                Finding::Extra(nanos) => tally.at(owner, nanos).extra += 1,
                Finding::Missing(point) => {
                    missing.push(point.clone());
                    count(&mut tally, point, |counts| counts.missing += 1);
                }
            });
        };
        for (series, points) in &walk.step.series {
            let Some(first) = points.first() else { continue };
            let kept: Vec<Expected> = points
                .iter()
                .filter(|point| (!numbers || point.has_number) && self.kept_from.is_none_or(|kept| point.nanos >= kept))
                .cloned()
                .collect();
            let series = if numbers { without_database(series) } else { series.clone() };
            let times = found.get(&series).map_or(&[][..], Vec::as_slice);
            judge_one(first.entity, &kept, times);
            seen.insert(series);
        }
        for (series, times) in found.iter().filter(|(series, _)| !seen.contains(*series)) {
            if let Some(owner) = walk.owner(series) {
                judge_one(owner, &[], times);
            }
        }
        (tally, missing)
    }

    /// Returns how many were taken.
    async fn write(&mut self, walk: &Walk, plan: &Plan<'_>, missing: &[Expected]) -> Result<usize, VerifyError> {
        let Some(carrier) = &mut self.carrier else { return Ok(0) };
        let (points, bytes) = (plan.delivery.batch_points.get(), plan.delivery.batch_bytes.get());
        let mut written = 0;
        for batch in walk.step.batches(missing, points, bytes) {
            let count = batch.len();
            let outcome = carrier.carry(batch, &mut |_| {}).await;
            if let Some(words) = outcome.gave_up {
                return Err(VerifyError::Repair { name: self.target.name.clone(), words });
            }
            written += count - outcome.refused.len().min(count);
        }
        Ok(written)
    }
}

fn count(tally: &mut Tally, point: &Expected, add: impl FnOnce(&mut Counts)) {
    let counts = tally.at(point.entity, point.nanos);
    counts.known += 1;
    add(counts);
}

/// VictoriaMetrics has a tag `db` of its own.
fn without_database(series: &Series) -> Series {
    let mut series = series.clone();
    series.tags.remove("db");
    series
}
