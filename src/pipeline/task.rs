//! The task around the [`Pipeline`]: takes events, keeps the books on their fates, puts lines into the spool.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::frontier::Frontier;
use super::past::Shaper;
use super::{Due, END_OF_TIME, Fate, Pipeline};
use crate::line::encode::encode;
use crate::model::event::{Arrival, ContextId, Event, Past, Source, StateChange};
use crate::model::fate::{Reason, Refused};
use crate::model::record::Record;
use crate::model::refused::RefusedEvent;
use crate::model::registries::Registries;
use crate::model::time::Timestamp;
use crate::pipeline::places::Places;
use crate::rules::Rules;
use crate::runtime::alive::beating;
use crate::runtime::clock;
use crate::spool::shared::Shared;
use crate::status::board::Board;
use crate::status::snapshot::LinkState;

/// The wall clock may be set while the pipeline sleeps: it looks at it again after this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// How often it is looked for what rules say in vain.
const UNMATCHED_EVERY: Duration = Duration::from_mins(1);

/// So many lines are handed to the spool at once when many things are due at the same time.
const LINES_AT_ONCE: usize = 1_000;

/// Runs until everybody who sends events is gone. `places` are those of an earlier run; `places_changed` is for whoever
/// writes them down. `refused` is for whoever keeps what cannot be written; what it has no room
/// for is counted like the others, and not kept. `past` is what the recorder tells of a gap; it waits while anything else comes.
#[expect(clippy::too_many_arguments, reason = "each is the end of another channel")]
pub async fn run(
    mut rules: watch::Receiver<Arc<Rules>>,
    places: Places,
    places_changed: watch::Sender<String>,
    mut arriving: Receiver<Arrival>,
    mut past: Receiver<Past>,
    spool: Shared,
    refused: Sender<RefusedEvent>,
    board: Arc<Board>,
) {
    let pipeline = Pipeline::new(&rules.borrow_and_update()).with_places(places);
    let mut clerk = Clerk {
        pipeline,
        past: None,
        is_mending: false,
        registries: Arc::default(),
        frontier: Frontier::default(),
        lines: Lines::default(),
        spool,
        refused,
        places_changed,
        board: Arc::clone(&board),
        looked: None,
    };
    let work = async {
        loop {
            tokio::select! {
                biased;
                arrival = arriving.recv() => match arrival {
                    Some(arrival) => clerk.take(arrival),
                    None => break,
                },
                () = sleep_until(clerk.pipeline.due_at()) => {}
                Ok(()) = rules.changed() => {
                    let moved = clerk.pipeline.follow(&rules.borrow_and_update(), clock::now());
                    clerk.end_past();
                    clerk.tell_places(moved);
                    clerk.looked = None;
                }
                Some(past) = past.recv() => clerk.take_past(past),
            }
            clerk.take_due(clock::now(), clerk.home_is_live());
            clerk.hand_over();
            // A disk that is busy slows the flow down; one that does not answer does not stop it. At the stop there is no
            // time for either.
            if !clerk.board.is_stopping() {
                clerk.spool.room().await;
            }
        }
        clerk.end_past();
        clerk.take_due(END_OF_TIME, false);
        clerk.hand_over();
    };
    beating(|| board.beat("pipeline", Instant::now()), work).await;
}

async fn sleep_until(due: Option<Timestamp>) {
    let Some(due) = due else { return std::future::pending().await };
    let left = due.as_micros().saturating_sub(clock::now().as_micros());
    tokio::time::sleep(Duration::from_micros(u64::try_from(left).unwrap_or(0)).min(LONGEST_SLEEP)).await;
}

/// Writes down what the pipeline decides.
struct Clerk {
    pipeline: Pipeline,
    /// While a gap is being closed.
    past: Option<Shaper>,
    is_mending: bool,
    registries: Arc<Registries>,
    frontier: Frontier,
    lines: Lines,
    spool: Shared,
    refused: Sender<RefusedEvent>,
    places_changed: watch::Sender<String>,
    board: Arc<Board>,
    /// When it was last looked for what rules say in vain. `None`: not since these rules apply.
    looked: Option<Instant>,
}

/// The lines of one frame of events; its memory is used again for the next.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

/// Where a line is, and what it tells of.
struct Place {
    time: Timestamp,
    context: Option<ContextId>,
    bytes: Range<usize>,
}

impl Clerk {
    fn take(&mut self, arrival: Arrival) {
        let events = match arrival {
            Arrival::Events(events) => events,
            Arrival::Registries(registries) => {
                self.end_past();
                self.registries = Arc::clone(&registries);
                let moved = self.pipeline.learn(registries, clock::now());
                return self.tell_places(moved);
            }
            Arrival::Live { session } => {
                self.end_past();
                self.is_mending = false;
                return self.frontier.begin(session);
            }
        };
        if let Some(newest) = events.iter().filter_map(told_at).max() {
            self.frontier.tell(newest);
        }
        let now = clock::now();
        for event in &events {
            let fate = self.pipeline.handle(event, now);
            if let Some((reason, rule)) = self.lines.write_down(fate, &self.board) {
                refuse(RefusedEvent::new(event, reason, rule), &self.board, &self.refused);
            }
        }
        if !events.is_empty() && self.looked.is_none_or(|looked| looked.elapsed() >= UNMATCHED_EVERY) {
            self.looked = Some(Instant::now());
            self.board.set_unmatched(self.pipeline.unmatched());
        }
    }

    fn take_past(&mut self, past: Past) {
        match past {
            Past::Rows(rows) => {
                self.begin_mending();
                let shaper = self.past.get_or_insert_with(|| {
                    let (rules, places) = (self.pipeline.rules(), self.pipeline.places().clone());
                    Shaper::new(rules, places, Arc::clone(&self.registries), clock::now())
                });
                self.board.arrivals.received.add(Source::History, rows.len() as u64);
                let mut desk = self.lines.desk(&self.board, &self.refused);
                for row in rows {
                    shaper.take(row, &mut |fate, change| desk.take(fate, change));
                }
            }
            Past::Reached(until) => {
                self.release_past(until);
                self.hand_over();
                self.spool.told(until);
            }
            Past::Closed { session, from, until, done } => {
                self.begin_mending();
                self.is_mending = false;
                self.end_past();
                self.hand_over();
                self.spool.mended(from);
                self.spool.told(self.frontier.close(session, until));
                done.give();
            }
        }
    }

    /// What is lost from now on is not part of what is being told once more.
    fn begin_mending(&mut self) {
        if !std::mem::replace(&mut self.is_mending, true) {
            self.spool.begin_mending();
        }
    }

    fn release_past(&mut self, until: Timestamp) {
        if let Some(shaper) = &mut self.past {
            let mut desk = self.lines.desk(&self.board, &self.refused);
            shaper.release(until, &mut |fate, change| desk.take(fate, change));
        }
    }

    /// What waits for its turn gets it now.
    fn end_past(&mut self) {
        self.release_past(END_OF_TIME);
        self.past = None;
    }

    fn take_due(&mut self, now: Timestamp, home_is_live: bool) {
        while let Some(Due { made_by, fate, change }) = self.pipeline.next_due(now, home_is_live) {
            if let Some(source) = made_by {
                self.board.arrivals.received.add(source, 1);
            }
            self.lines.desk(&self.board, &self.refused).take(fate, change);
            if self.lines.places.len() >= LINES_AT_ONCE {
                self.lines.hand_over(&self.spool);
            }
        }
    }

    fn hand_over(&mut self) {
        let waiting = self.pipeline.waiting() + self.past.as_ref().map_or(0, Shaper::waiting);
        self.board.arrivals.waiting.set(waiting);
        self.lines.hand_over(&self.spool);
        if let Some(until) = self.frontier.reached(self.pipeline.longest_wait()) {
            self.spool.told(until);
        }
        self.spool.mark(self.pipeline.settled_receipt());
    }

    fn tell_places(&self, are_others: bool) {
        if are_others {
            self.places_changed.send_replace(self.pipeline.places().to_json());
        }
    }

    fn home_is_live(&self) -> bool {
        self.board.home_assistant.state() == LinkState::Connected
    }
}

/// When Home Assistant's own connection says that something happened.
fn told_at(event: &Event) -> Option<Timestamp> {
    match event {
        Event::Changed(change) | Event::Restored(change) => Some(change.last_updated),
        _ => None,
    }
}

/// Where the fates of changes are written down.
struct FateDesk<'a> {
    lines: &'a mut Lines,
    board: &'a Board,
    refused: &'a Sender<RefusedEvent>,
}

impl FateDesk<'_> {
    fn take(&mut self, fate: Fate<'_>, change: &StateChange) {
        if let Some((reason, rule)) = self.lines.write_down(fate, self.board) {
            refuse(RefusedEvent::of_change(change, reason, rule), self.board, self.refused);
        }
    }
}

impl Lines {
    fn desk<'a>(&'a mut self, board: &'a Board, refused: &'a Sender<RefusedEvent>) -> FateDesk<'a> {
        FateDesk { lines: self, board, refused }
    }

    /// Counts a fate and keeps the line of a point. Returns why there is none, and the rule that would have had it otherwise.
    fn write_down(&mut self, fate: Fate<'_>, board: &Board) -> Option<(Refused, Option<Arc<str>>)> {
        match fate {
            Fate::Filtered(reason) => board.arrivals.filtered.add(reason, 1),
            Fate::Duplicate => board.arrivals.duplicates.add(1),
            Fate::Waiting => {}
            Fate::Refused { reason, rule } => return Some((reason, rule)),
            Fate::Point { point, omitted, context, rule } => {
                board.arrivals.omitted_fields.add(u64::from(omitted));
                let start = self.bytes.len();
                match encode(point, &mut self.bytes) {
                    Ok(encoded) => {
                        board.arrivals.adjusted_texts.add(u64::from(encoded.adjusted_texts));
                        board.arrivals.omitted_fields.add(u64::from(encoded.omitted_fields));
                        self.bytes.push(b'\n');
                        self.places.push(Place { time: point.time(), context, bytes: start..self.bytes.len() });
                    }
                    Err(reason) => return Some((reason, rule)),
                }
            }
        }
        None
    }

    fn hand_over(&mut self, spool: &Shared) {
        spool.append(self.places.iter().map(|place| Record {
            time: place.time,
            context: place.context,
            bytes: &self.bytes[place.bytes.clone()],
        }));
        self.bytes.clear();
        self.places.clear();
    }
}

/// Counts, and says it aloud the first time: what cannot be written repeats itself at every change.
fn refuse(event: RefusedEvent, board: &Board, keeper: &Sender<RefusedEvent>) {
    let (name, why) = (event.name(), event.reason.label());
    let (rule, context) = (event.rule.as_deref(), event.context.as_ref().map(tracing::field::display));
    let by = rule.map(|rule| format!(" (rule {rule})")).unwrap_or_default();
    if board.arrivals.refused.of(event.reason) == 0 {
        warn!(name, rule, context, "cannot write {name}: {why}{by}; further ones are counted and shown at level debug");
    } else {
        debug!(name, rule, context, "cannot write {name}: {why}{by}");
    }
    board.arrivals.refused.add(event.reason, 1);
    // It is counted either way.
    let _ = keeper.try_send(event);
}

#[cfg(test)]
mod tests {
    use std::num::{NonZeroU64, NonZeroUsize};
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::task::{Context, Waker};
    use std::time::{Duration, Instant};

    use tempfile::TempDir;
    use tokio::sync::{mpsc, watch};

    use super::run;
    use crate::model::entity::EntityId;
    use crate::model::event::{Acknowledgement, Arrival, Event, Past, Source, StateChange};
    use crate::model::fate::{Filtered, Refused};
    use crate::model::refused::RefusedEvent;
    use crate::model::time::Timestamp;
    use crate::model::value::{Attributes, Value};
    use crate::pipeline::places::Places;
    use crate::rules::{Actions, FieldActions, FieldType, Rule, Rules, Selection};
    use crate::runtime::clock;
    use crate::spool::shared::Shared;
    use crate::spool::{Bounds, Durability, Limits};
    use crate::status::board::Board;
    use crate::status::snapshot::Snapshot;

    /// A pipeline with one rule, and all around it.
    struct Bench {
        _folder: TempDir,
        board: Arc<Board>,
        spool: Shared,
        rules: watch::Sender<Arc<Rules>>,
        attributes: Arc<Attributes>,
    }

    impl Bench {
        fn new(actions: Actions) -> Self {
            let folder = TempDir::new().unwrap();
            let board = Arc::new(Board::new(Instant::now(), Timestamp::from_micros(0)));
            let bounds = Bounds {
                memory_bytes: NonZeroUsize::new(1 << 20).unwrap(),
                disk_bytes: NonZeroU64::new(16 << 20).unwrap(),
                durability: Durability::Balanced,
                age: Duration::from_secs(5),
            };
            let spool = Shared::open(folder.path(), bounds, &["influxdb"], Arc::clone(&board)).unwrap();
            Self { _folder: folder, board, spool, rules: watch::channel(one(actions)).0, attributes: Arc::default() }
        }

        fn seen(&self) -> Snapshot {
            self.board.snapshot(Instant::now(), clock::now())
        }

        /// Hands these in and waits until the pipeline has ended. Returns what it refused.
        async fn run(&self, states: &[&str]) -> Vec<RefusedEvent> {
            let (events, arriving) = mpsc::channel(8);
            let (keeper, mut refused) = mpsc::channel(8);
            let start = clock::now().as_micros();
            let change = |(at, state): (usize, &&str)| {
                Event::Changed(StateChange {
                    entity: EntityId::parse("sensor.a").unwrap(),
                    state: Arc::from(*state),
                    attributes: Arc::clone(&self.attributes),
                    last_updated: Timestamp::from_micros(start + i64::try_from(at).unwrap()),
                    context: None,
                })
            };
            let changes: Vec<_> = states.iter().enumerate().map(change).collect();
            self.board.arrivals.received.add(Source::HomeAssistant, changes.len() as u64);
            events.send(Arrival::Events(changes)).await.unwrap();
            drop(events);
            self.work(arriving, keeper).await;
            let mut all = Vec::new();
            while let Some(event) = refused.recv().await {
                all.push(event);
            }
            all
        }

        async fn work(&self, arriving: mpsc::Receiver<Arrival>, keeper: mpsc::Sender<RefusedEvent>) {
            self.work_with_past(arriving, mpsc::channel(1).1, keeper).await;
        }

        async fn work_with_past(
            &self,
            arriving: mpsc::Receiver<Arrival>,
            past: mpsc::Receiver<Past>,
            keeper: mpsc::Sender<RefusedEvent>,
        ) {
            let (rules, places) = (self.rules.subscribe(), watch::Sender::default());
            let (spool, board) = (self.spool.clone(), Arc::clone(&self.board));
            run(rules, Places::default(), places, arriving, past, spool, keeper, board).await;
        }
    }

    fn one(actions: Actions) -> Arc<Rules> {
        let selection = Selection { entity_globs: vec!["sensor.*".into(), "none.*".into()], ..Selection::default() };
        Arc::new(Rules { rules: vec![Rule { name: "r".into(), selection, actions }], ..Rules::default() })
    }

    fn change(micros: i64, state: &str) -> StateChange {
        StateChange {
            entity: EntityId::parse("sensor.a").unwrap(),
            state: state.into(),
            attributes: Arc::default(),
            last_updated: Timestamp::from_micros(micros),
            context: None,
        }
    }

    /// The lines that wait for the target, without measurement and tags.
    fn lines(bench: &Bench) -> Vec<String> {
        let limits = Limits { records: NonZeroUsize::new(100).unwrap(), bytes: NonZeroUsize::new(1 << 20).unwrap() };
        let batch = bench.spool.reader(0).peek_live(limits).unwrap();
        let text = String::from_utf8(batch.bytes().to_vec()).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    #[tokio::test]
    async fn the_watermark_waits_for_the_gap_and_then_follows_what_is_told() {
        let bench = Bench::new(Actions::default());
        let (events, arriving) = mpsc::channel(8);
        let (history, past) = mpsc::channel(8);
        let (keeper, _refused) = mpsc::channel(8);
        let work = bench.work_with_past(arriving, past, keeper);
        let watermark = || bench.seen().targets[0].backlog.watermark.map(Timestamp::as_micros);
        let story = async {
            bench.board.arrivals.received.add(Source::HomeAssistant, 2);
            events.send(Arrival::Live { session: 1 }).await.unwrap();
            events.send(Arrival::Events(vec![Event::Changed(change(90, "9"))])).await.unwrap();
            history.send(Past::Rows(vec![change(40, "4"), change(50, "5")])).await.unwrap();
            while bench.seen().targets[0].books.held < 3 {
                tokio::task::yield_now().await;
            }
            bench.spool.reader(0).release(0..=0, drop);
            assert_eq!(watermark(), None, "there is a gap before what was told");
            let (from, until) = (Timestamp::from_micros(0), Timestamp::from_micros(90));
            history.send(Past::Closed { session: 1, from, until, done: Acknowledgement::new(|| {}) }).await.unwrap();
            while history.capacity() < history.max_capacity() {
                tokio::task::yield_now().await;
            }
            events.send(Arrival::Events(vec![Event::Changed(change(95, "10"))])).await.unwrap();
            while bench.seen().targets[0].books.held < 3 {
                tokio::task::yield_now().await;
            }
            assert_eq!(watermark(), None, "nothing of it is safe");
            assert_eq!(lines(&bench), ["value=4 40000", "value=5 50000", "value=10 95000"]);
            bench.spool.reader(0).release(1..=2, drop);
            drop(events);
        };
        tokio::join!(work, story);
        bench.spool.told(Timestamp::from_micros(96));
        assert_eq!(watermark(), Some(90), "10 is in memory alone");
        bench.spool.reader(0).release(3..=3, drop);
        bench.spool.told(Timestamp::from_micros(96));
        assert_eq!(watermark(), Some(96));
        let seen = bench.seen();
        assert_eq!(bench.board.arrivals.received.of(Source::History), 2);
        assert_eq!(seen.unaccounted(&seen.targets[0]), 4, "what was taken here is counted nowhere");
    }

    /// Seen before: a gap was called closed while its last rows were in the channel to the pipeline, and in nobody's books.
    #[tokio::test]
    async fn a_gap_is_closed_when_its_rows_are_in_the_books() {
        let bench = Bench::new(Actions { throttle: Some(Duration::from_micros(10)), ..Actions::default() });
        let (events, arriving) = mpsc::channel(8);
        let (history, past) = mpsc::channel(8);
        let (keeper, _refused) = mpsc::channel(8);
        let mut work = pin!(bench.work_with_past(arriving, past, keeper));
        let mut context = Context::from_waker(Waker::noop());
        let at = Timestamp::from_micros;
        let number = bench.board.history.open(1, (at(0), at(90)), Duration::ZERO, "fetching");
        // All that happens between two steps, for whoever reads the board then.
        let is_open = || {
            let seen = bench.seen();
            let in_no_book = seen.unaccounted(&seen.targets[0]);
            assert!(seen.history.is_open() || in_no_book == 0, "closed, and {in_no_book} rows are in no book");
            seen.history.is_open()
        };
        // The last rows are held back by the rule, until the gap ends.
        for rows in [0..25, 25..28] {
            history.try_send(Past::Rows(rows.map(|micros| change(micros, &micros.to_string())).collect())).unwrap();
            assert!(work.as_mut().poll(&mut context).is_pending() && is_open());
        }
        // It comes together with an event, which goes first, and with rows that nobody has looked at.
        history.try_send(Past::Rows((40..45).map(|micros| change(micros, "7")).collect())).unwrap();
        let (board, held) = (Arc::clone(&bench.board), Arc::new(AtomicU64::new(0)));
        let held_then = Arc::clone(&held);
        let done = Acknowledgement::new(move || {
            let seen = board.snapshot(Instant::now(), clock::now());
            assert_eq!(seen.unaccounted(&seen.targets[0]), 0, "before it is closed");
            held_then.store(seen.targets[0].books.held, Relaxed);
            assert!(board.history.closed(number).is_some());
        });
        let (session, from, until) = (1, at(0), at(90));
        history.try_send(Past::Closed { session, from, until, done }).unwrap();
        bench.board.arrivals.received.add(Source::HomeAssistant, 1);
        events.try_send(Arrival::Events(vec![Event::Changed(change(95, "10"))])).unwrap();
        assert!(is_open(), "it is in the channel");
        assert!(work.as_mut().poll(&mut context).is_pending() && !is_open());
        assert_eq!(held.load(Relaxed), 7, "{:?}", lines(&bench));
        drop(events);
        work.await;
    }

    #[tokio::test]
    async fn the_past_has_a_pace_of_its_own() {
        let bench = Bench::new(Actions { throttle: Some(Duration::from_micros(10)), ..Actions::default() });
        let (events, arriving) = mpsc::channel(8);
        let (history, past) = mpsc::channel(8);
        let (keeper, _refused) = mpsc::channel(8);
        let rows = (0..25).map(|micros| change(micros, &micros.to_string())).collect();
        history.send(Past::Rows(rows)).await.unwrap();
        let story = async {
            while bench.seen().targets[0].books.held == 0 {
                tokio::task::yield_now().await;
            }
            drop(events);
        };
        tokio::join!(bench.work_with_past(arriving, past, keeper), story);
        assert_eq!(lines(&bench), ["value=0 0", "value=9 9000", "value=19 19000", "value=24 24000"]);
        let seen = bench.seen();
        assert_eq!(seen.unaccounted(&seen.targets[0]), 0);
    }

    #[tokio::test]
    async fn what_waits_is_written_at_the_stop_and_the_books_balance() {
        let bench = Bench::new(Actions { throttle: Some(Duration::from_hours(1)), ..Actions::default() });
        assert!(bench.run(&["1", "2", "3"]).await.is_empty());
        let seen = bench.seen();
        assert_eq!((seen.targets[0].books.held, seen.arrivals.waiting), (2, 0));
        assert_eq!(bench.board.arrivals.filtered.of(Filtered::Throttled), 1);
        assert_eq!(seen.unaccounted(&seen.targets[0]), 0);
        assert_eq!(seen.unmatched, ["r: `none.*` in `entity_globs` matches no entity"]);
    }

    #[tokio::test]
    async fn what_is_refused_is_counted_and_handed_on() {
        let whole = FieldActions { cast: Some(FieldType::Integer), ..FieldActions::default() };
        let bench = Bench::new(Actions { fields: Some(vec![("state".into(), whole)]), ..Actions::default() });
        let refused = bench.run(&["1", "heat"]).await;
        let told: Vec<_> = refused.iter().map(|event| (event.name(), event.reason, event.rule.as_deref())).collect();
        assert_eq!(told, [("sensor.a", Refused::WrongType, Some("r"))]);
        let seen = bench.seen();
        assert_eq!((seen.targets[0].books.held, seen.unaccounted(&seen.targets[0])), (1, 0));
    }

    /// Time really passes: the pipeline looks at the wall clock.
    #[tokio::test]
    async fn fields_that_no_database_could_hold_are_counted() {
        let mut bench = Bench::new(Actions::default());
        bench.attributes = Arc::new([("".into(), Value::Int(1)), ("kept".into(), Value::Int(2))].into_iter().collect());
        bench.run(&["1", "2"]).await;
        assert_eq!(bench.seen().arrivals.omitted_fields, 2);
    }

    #[tokio::test]
    async fn what_is_due_is_written_without_anything_coming_in() {
        let bench = Bench::new(Actions { heartbeat: Some(Duration::from_millis(50)), ..Actions::default() });
        bench.board.home_assistant.connected("", clock::now());
        let (events, arriving) = mpsc::channel(8);
        let (keeper, _refused) = mpsc::channel(8);
        let work = bench.work(arriving, keeper);
        let story = async {
            let change = StateChange {
                entity: EntityId::parse("sensor.a").unwrap(),
                state: "1".into(),
                attributes: Arc::default(),
                last_updated: clock::now(),
                context: None,
            };
            bench.board.arrivals.received.add(Source::HomeAssistant, 1);
            events.send(Arrival::Events(vec![Event::Changed(change)])).await.unwrap();
            while bench.seen().targets[0].books.held < 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            bench.rules.send_replace(one(Actions { drop: Some(true), ..Actions::default() }));
            drop(events);
        };
        tokio::join!(work, story);
        let seen = bench.seen();
        assert!(bench.board.arrivals.received.of(Source::Heartbeat) >= 2);
        assert_eq!(seen.unaccounted(&seen.targets[0]), 0);
    }
}
