//! The part of an import whose targets are as far: from the recorder, shaped, to each of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::asking::{OLDEST_MICROS, SPAN_MICROS, Spans, oldest};
use super::cursor::{Cursor, Imports, Wish};
use super::points::Points;
use super::{HOUR_MICROS, ImportError, Plan, Progress, hours, store};
use crate::config::settings::NamedTarget;
use crate::deliver::carrier::{Carried, Carrier};
use crate::history::gaps::entity_list;
use crate::history::recorder::missing_attributes::put_back;
use crate::history::recorder::present::scope;
use crate::history::recorder::renames::Renames;
use crate::history::recorder::rows::Rows;
use crate::history::recorder::statistics::{self, Described, Listing};
use crate::history::recorder::walk::{Step, Walk, rest};
use crate::history::recorder::{Recorder, RecorderError};
use crate::influx::in_options_of;
use crate::model::entity::EntityId;
use crate::model::event::StateChange;
use crate::model::fate::Rejection;
use crate::model::record::{Batch, Record};
use crate::model::registries::Registries;
use crate::model::time::Timestamp;
use crate::model::value::Value;
use crate::pipeline::past::Shaper;
use crate::rules::Rules;

/// How long the recorder may take to commit what it has. A backup of Home Assistant takes minutes.
const COMMIT: Duration = Duration::from_mins(15);
/// Entities whose statistics are asked for together.
const TOGETHER: usize = 4;

pub(super) struct Part<'a> {
    plan: &'a Plan<'a>,
    progress: &'a mut (dyn FnMut(Progress) + Send),
    pub(super) recorder: Recorder,
    present: HashMap<EntityId, StateChange>,
    registries: Arc<Registries>,
    scope: Vec<EntityId>,
    renames: Renames,
    sides: Vec<Side<'a>>,
    pub(super) imports: Imports,
    pub(super) cursor: Cursor,
    pub(super) resumed: bool,
    /// What was noted last: where a target goes on that gives up.
    noted: Cursor,
    /// Where those are that gave up.
    behind: Option<Cursor>,
    pub(super) failed: Vec<(String, String)>,
    pub(super) notes: Vec<String>,
    /// What is sent next.
    batch: Batch,
    next_id: u64,
    line: Vec<u8>,
}

/// A target.
struct Side<'a> {
    target: &'a NamedTarget,
    carrier: Carrier,
}

impl<'a> Part<'a> {
    pub(super) async fn begin(
        plan: &'a Plan<'a>,
        progress: &'a mut (dyn FnMut(Progress) + Send),
        imports: Imports,
        earlier: Option<Cursor>,
    ) -> Result<Self, ImportError> {
        let mut notes = Vec::new();
        // Some of its targets may have everything.
        let lacking = earlier.as_ref().map_or(&plan.wish.targets, |cursor| &cursor.wish.targets);
        let is_lacking = |target: &&&'a NamedTarget| !plan.dry_run && lacking.contains(&target.place.identity());
        let mut sides = Vec::new();
        for target in plan.targets.iter().filter(is_lacking) {
            match Carrier::open(&target.place, plan.delivery) {
                Ok(carrier) => sides.push(Side { target, carrier }),
                Err(source) => return Err(ImportError::Open { name: target.name.clone(), source }),
            }
        }
        let mut recorder = Recorder::connect_patiently(plan.home).await.map_err(RecorderError::from)?;
        let seen = recorder.present().await.map_err(RecorderError::from)?;
        let present = seen.by_entity(plan.now);
        let registries = Arc::new(seen.registries);
        let now = recorder.commit(COMMIT, |words| progress(Progress::waiting(words))).await?;
        let shaper = Shaper::new(plan.rules, plan.places.clone(), Arc::clone(&registries), plan.now);
        // Whoever is gone, or has another name now, may still have a past.
        let (known, renames) = entity_list::known(plan.data_dir).await;
        let renames = Renames::that_moved(&renames, &mut recorder).await?;
        let scope = scope(present.keys(), &registries, known, |entity| shaper.wants(entity));
        let resumed = earlier.is_some();
        let cursor = match earlier {
            Some(cursor) => cursor,
            None => {
                // Home Assistant's clock may be another than ours.
                let now = Timestamp::from_micros(now.as_micros() + 1);
                let until = plan.wish.until.map_or(now, Timestamp::from_micros);
                let from = match plan.wish.from.map(Timestamp::from_micros) {
                    Some(from) => {
                        if plan.wish.raw && !recorder.reaches_back(&scope, from).await? {
                            let begins = oldest(&mut recorder, &scope, now).await?;
                            // To the hour.
                            if begins > from {
                                notes.push(format!("Home Assistant's raw history begins at {begins}"));
                            }
                        }
                        from
                    }
                    None => oldest(&mut recorder, &scope, until).await?,
                };
                Cursor::new(plan.wish.clone(), from, until)
            }
        };
        Ok(Self {
            plan,
            progress,
            recorder,
            present,
            registries,
            scope,
            renames,
            sides,
            imports,
            noted: cursor.clone(),
            cursor,
            resumed,
            behind: None,
            failed: Vec::new(),
            notes,
            batch: Batch::default(),
            next_id: 0,
            line: Vec::new(),
        })
    }

    fn shaper(&self, rules: &Arc<Rules>) -> Shaper {
        Shaper::new(rules, self.plan.places.clone(), Arc::clone(&self.registries), self.plan.now)
    }

    async fn raw(&mut self) -> Result<(), ImportError> {
        let mut shaper = self.shaper(self.plan.rules);
        let (from, until) = (Timestamp::from_micros(self.cursor.reached), Timestamp::from_micros(self.cursor.until));
        let mut walk = Walk::new(&self.scope, from, until);
        loop {
            match walk.next(&mut self.recorder).await? {
                Step::Rows(rows) => self.take(rows, &mut shaper).await?,
                Step::Lost(..) => self.cursor.totals.unreadable += 1,
                Step::Reached(reached) => {
                    let mut points = Points::default();
                    shaper.release(reached, &mut |fate, _| points.take(&fate));
                    self.push(points).await?;
                    self.flush().await?;
                    self.cursor.reached = reached.as_micros();
                    self.note().await?;
                    self.tell("raw history", from, reached, until);
                }
                Step::End => break,
            }
        }
        let mut points = Points::default();
        shaper.finish(&mut |fate, _| points.take(&fate));
        self.push(points).await?;
        self.flush().await?;
        self.cursor.raw_done = true;
        self.note().await
    }

    async fn take(&mut self, rows: Rows, shaper: &mut Shaper) -> Result<(), ImportError> {
        self.cursor.totals.rows += rows.count();
        self.cursor.totals.unreadable += rows.unreadable;
        for (entity, rows) in rows.entities {
            if let Some(first) = rows.first() {
                let first = first.last_updated.as_micros();
                let oldest = self.cursor.oldest.entry(entity.as_str().to_owned()).or_insert(first);
                *oldest = first.min(*oldest);
            }
            let present = self.present.get(&entity).map(|state| Arc::clone(&state.attributes));
            let tags = &self.plan.rules.schema.tags_attributes;
            let mut points = Points::default();
            for mut row in rows {
                row.attributes = put_back(&row.attributes, present.as_deref(), tags);
                let name = self.renames.name_at(&entity, row.last_updated);
                shaper.take(row.into_change(name), &mut |fate, _| points.take(&fate));
            }
            self.push(points).await?;
        }
        Ok(())
    }

    async fn statistics(&mut self) -> Result<(), ImportError> {
        let mut shaper = self.shaper(&hours::without_pace(self.plan.rules));
        let listed = serde_json::json!({"type": "recorder/list_statistic_ids"});
        let answer = self.recorder.ask_surely(&listed).await?;
        let Listing { described, external, unreadable } = statistics::read_ids(answer.result())?;
        self.cursor.totals.external = external;
        if self.cursor.statistics_of.is_empty() {
            self.cursor.totals.unreadable += unreadable;
        }
        let shaper_wants = |known: &Described| shaper.wants(&known.entity);
        let (wanted, gone): (Vec<_>, Vec<_>) =
            described.into_iter().filter(shaper_wants).partition(|known| self.present.contains_key(&known.entity));
        self.cursor.totals.gone = gone.into_iter().map(|known| known.entity.to_string()).collect();
        let is_done = |known: &Described| self.cursor.statistics_of.contains(known.entity.as_str());
        let wanted: Vec<Described> = wanted.into_iter().filter(|known| !is_done(known)).collect();
        // Those that have their unit pinned alike can be asked together.
        let mut alike: BTreeMap<Option<(String, String)>, Vec<EntityId>> = BTreeMap::new();
        for Described { entity, unit_class, unit: kept_in } in wanted {
            let Some(present) = self.present.get_mut(&entity) else { continue };
            let unit = match present.attributes.get("unit_of_measurement") {
                Some(Value::Text(unit)) => Some(unit.to_string()),
                _ => None,
            };
            if let Some(kept_in) = kept_in.filter(|kept_in| unit_class.is_none() && unit.as_ref() != Some(kept_in)) {
                // Nobody can convert these numbers to the unit of now: they are in the measurement that they were in.
                let mut attributes = (*present.attributes).clone();
                attributes.set("unit_of_measurement".into(), Value::Text(kept_in.as_str().into()));
                present.attributes = Arc::new(attributes);
            }
            alike.entry(unit_class.zip(unit)).or_default().push(entity);
        }
        let all: usize = alike.values().map(Vec::len).sum();
        let mut done = 0;
        for (unit, entities) in alike {
            for together in entities.chunks(TOGETHER) {
                self.hours(together, unit.as_ref(), &mut shaper).await?;
                done += together.len();
                self.flush().await?;
                self.cursor.statistics_of.extend(together.iter().map(|entity| entity.as_str().to_owned()));
                self.note().await?;
                let (phase, totals) = ("statistics".to_owned(), self.cursor.totals.clone());
                #[expect(clippy::cast_precision_loss, reason = "a share for people")]
                (self.progress)(Progress { phase, done: done as f64 / all as f64, totals });
            }
        }
        Ok(())
    }

    /// All hours of these entities that are before their raw rows.
    async fn hours(
        &mut self,
        entities: &[EntityId],
        unit: Option<&(String, String)>,
        shaper: &mut Shaper,
    ) -> Result<(), ImportError> {
        let until = entities.iter().map(|entity| self.cursor.statistics_until(entity.as_str())).max();
        let until = until.map_or(self.cursor.until, Timestamp::as_micros);
        let mut from = self.plan.wish.from.unwrap_or(OLDEST_MICROS);
        let mut spans = Spans::new(SPAN_MICROS);
        while from < until {
            let end = (from + spans.micros()).min(until);
            let asked = Instant::now();
            let pinned = unit.map(|(class, unit)| (class.as_str(), unit.as_str()));
            let (start, stop) = (Timestamp::from_micros(from), Timestamp::from_micros(end));
            let question = statistics::question(entities, start, stop, pinned);
            let answer = match self.recorder.ask(question).await {
                Ok(answer) => answer,
                Err(err) if err.is_lost_on_the_way() && spans.failed() => {
                    self.recorder.connect_again().await.map_err(RecorderError::from)?;
                    continue;
                }
                Err(err) => return Err(RecorderError::from(err).into()),
            };
            let read = statistics::read_hours(answer.result(), entities, start, stop)?;
            self.cursor.totals.unreadable += read.unreadable;
            for (entity, hours) in read.entities {
                let Some(present) = self.present.get(&entity).cloned() else { continue };
                let before = self.cursor.statistics_until(entity.as_str());
                let mut points = Points::default();
                for hour in hours.iter().filter(|hour| hour.start.as_micros() + HOUR_MICROS <= before.as_micros()) {
                    self.cursor.totals.hours += 1;
                    match hours::point(shaper, &present, hour, self.plan.wish.value) {
                        Some(point) => points.keep(&point),
                        None => points.filtered += 1,
                    }
                }
                self.push(points).await?;
            }
            from = end;
            spans.answered();
            sleep(rest(asked.elapsed())).await;
        }
        Ok(())
    }

    /// Takes points, and sends what has become a batch.
    async fn push(&mut self, points: Points) -> Result<(), ImportError> {
        self.cursor.totals.filtered += points.filtered;
        for (reason, count) in points.refused {
            *self.cursor.totals.refused.entry(reason.to_owned()).or_default() += count;
        }
        for (time, line) in points.lines {
            self.line.clear();
            self.line.extend_from_slice(&line);
            let limits = self.plan.delivery;
            let is_full = self.batch.len() >= limits.batch_points.get()
                || self.batch.bytes().len() + self.line.len() > limits.batch_bytes.get();
            if is_full && !self.batch.is_empty() {
                self.flush().await?;
            }
            self.batch.push(self.next_id, Record { time, context: None, bytes: &self.line });
            self.next_id += 1;
        }
        Ok(())
    }

    /// Brings what there is to every target.
    async fn flush(&mut self) -> Result<(), ImportError> {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        for mut side in std::mem::take(&mut self.sides) {
            let Carried { refused, gave_up, .. } = side.carrier.carry(batch.clone(), &mut |_| ()).await;
            if let Some(words) = gave_up {
                self.leave_behind(side.target, &words);
                continue;
            }
            let totals = &mut self.cursor.totals;
            for refused in refused {
                match refused.reason {
                    Rejection::Expired => totals.expired += 1,
                    Rejection::NoNumber => totals.not_representable += 1,
                    Rejection::SetAside(_) => *totals.refused.entry(refused.words).or_default() += 1,
                }
            }
            self.sides.push(side);
        }
        if self.sides.is_empty() && !self.plan.dry_run {
            store(&self.imports, self.plan.data_dir).await?;
            return Err(ImportError::Targets);
        }
        self.cursor.totals.points += batch.len() as u64;
        Ok(())
    }

    /// The others go on. The same import, ordered once more, goes on for this one where the first was that gave up.
    fn leave_behind(&mut self, target: &NamedTarget, words: &str) {
        let (name, identity) = (&target.name, target.place.identity());
        self.failed.push((name.clone(), in_options_of(name, words)));
        self.imports.remove(&self.cursor);
        self.cursor.wish.targets.retain(|other| *other != identity);
        let nobody = || Wish { targets: Vec::new(), ..self.noted.wish.clone() };
        let behind = self.behind.get_or_insert_with(|| Cursor { wish: nobody(), ..self.noted.clone() });
        self.imports.remove(behind);
        behind.wish.targets.push(identity);
        self.imports.put(behind.clone());
    }

    async fn note(&mut self) -> Result<(), ImportError> {
        self.noted = self.cursor.clone();
        if self.plan.dry_run {
            return Ok(());
        }
        self.imports.put(self.cursor.clone());
        store(&self.imports, self.plan.data_dir).await
    }

    /// Until it is done for all targets that are left.
    pub(super) async fn all(&mut self) -> Result<(), ImportError> {
        if !self.cursor.raw_done {
            self.raw().await?;
        }
        if self.plan.wish.statistics {
            self.statistics().await?;
        }
        if !self.plan.dry_run {
            self.imports.remove(&self.cursor);
            store(&self.imports, self.plan.data_dir).await?;
        }
        Ok(())
    }

    fn tell(&mut self, phase: &str, from: Timestamp, reached: Timestamp, until: Timestamp) {
        #[expect(clippy::cast_precision_loss, reason = "a share for people")]
        let share = |to: Timestamp| (to.as_micros() - from.as_micros()) as f64;
        let (phase, totals) = (phase.to_owned(), self.cursor.totals.clone());
        (self.progress)(Progress { phase, done: share(reached) / share(until).max(1.0), totals });
    }
}
