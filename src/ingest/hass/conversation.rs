//! Holds one session: hears frames, does what the session decides, hands events to the pipeline.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::model::entity::EntityId;
use crate::model::event::{Arrival, Event, Source};
use crate::model::fate::{Reason, Unreadable};
use crate::model::time::Timestamp;
use crate::rules::Rules;
use crate::runtime::clock;
use crate::runtime::repeats::{Repeats, Worth};
use crate::status::board::Board;

use super::protocol::{Command, Message, Registry, decode, encode, read_fired};
use super::registry::Gathered;
use super::session::{Action, Ended, Input, Registered, Session, Wanted};
use super::socket::{ReadEnd, Socket, Waiting, read_frames};
use super::states::{Applied, States};
use super::{Limits, News, Presence, TASK, beating};

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("stopped")]
    Stopped,
    #[error("nobody takes the events any more")]
    NoPipeline,
    #[error(transparent)]
    Ended(Ended),
    #[error(transparent)]
    Read(ReadEnd),
}

pub(super) struct Conversation<'a> {
    /// The id of the session, for the log.
    pub(super) id: &'a str,
    /// The same, from 1 in this run.
    pub(super) number: u64,
    /// When it was connected, by Home Assistant's clock, to the second.
    pub(super) began: Timestamp,
    /// So long after the end of the session before.
    pub(super) away: Option<Duration>,
    /// The states of all entities have come, and nobody was told yet that the session tells everything from here on.
    pub(super) begins: bool,
    /// Cancelled when it ends.
    pub(super) over: CancellationToken,
    pub(super) session: Session,
    pub(super) states: &'a mut States,
    /// What came of the registries, until all of them are there.
    pub(super) gathered: Gathered,
    pub(super) rules: &'a mut watch::Receiver<Arc<Rules>>,
    /// This sends, the pipeline receives, one arrival for each frame; when it is full, frames wait here.
    pub(super) events: &'a mpsc::Sender<Arrival>,
    /// For whoever closes gaps.
    pub(super) news: &'a mpsc::UnboundedSender<News>,
    pub(super) board: &'a Arc<Board>,
    pub(super) limits: Limits,
    /// What the session's times count from.
    pub(super) epoch: Instant,
    pub(super) stop: &'a CancellationToken,
    /// When the states of all entities had come.
    pub(super) live_since: Option<Instant>,
    /// The session is over: what was read is handed over, and nothing is said any more.
    pub(super) leaving: bool,
    /// For the log: a loss may come back every minute.
    pub(super) losses: &'a mut Repeats<()>,
    /// For the log: what this Home Assistant does not have, which it says at every session.
    pub(super) lacks: &'a mut HashSet<String>,
}

type Writer = SplitSink<Socket, tungstenite::Message>;

impl Conversation<'_> {
    pub(super) async fn hold(&mut self, socket: Socket) -> End {
        let (mut writer, stream) = socket.split();
        let (sender, mut frames) = mpsc::unbounded_channel();
        let waiting = Arc::new(Waiting::new(self.limits.waiting_bytes));
        // A task of its own: it reads while frames are being decoded, and it cannot be held up by them.
        let mut reader = JoinSet::new();
        reader.spawn(read_frames(stream, sender, Arc::clone(&waiting), Arc::clone(self.board)));
        let mut ticks = interval(self.limits.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);

        let end = loop {
            let ended = tokio::select! {
                () = self.stop.cancelled() => Some(End::Stopped),
                frame = frames.recv() => match frame {
                    Some(frame) => self.hear(&frame, &waiting, &mut writer).await,
                    None => Some(End::Read(read_end(&mut reader).await)),
                },
                // There is no end to it: when nobody can change the rules any more, they stay.
                Ok(()) = self.rules.changed() => {
                    let wanted = Wanted::by(&self.rules.borrow_and_update());
                    let decided = self.session.handle(Input::Wanted(&wanted), self.now());
                    self.obey(decided, &mut writer).await
                }
                _ = ticks.tick() => {
                    self.board.beat(TASK, std::time::Instant::now());
                    self.board.hass.waiting_bytes.set(waiting.bytes());
                    let decided = self.session.handle(Input::Tick { idle: frames.is_empty() }, self.now());
                    self.obey(decided, &mut writer).await
                }
            };
            if let Some(end) = ended {
                break end;
            }
        };
        reader.abort_all();
        self.leaving = true;
        let limit = self.limits.farewell;
        let stop = self.stop;
        let farewell = async {
            if !matches!(end, End::NoPipeline) {
                // What was read before the end is still handed over.
                while let Ok(frame) = frames.try_recv() {
                    let heard = self.hear(&frame, &waiting, &mut writer).await;
                    if matches!(heard, Some(End::Stopped | End::NoPipeline)) {
                        break;
                    }
                }
            }
            // Home Assistant may be gone; the close frame is a courtesy.
            let _said = timeout(limit, writer.send(tungstenite::Message::Close(None))).await;
        };
        let too_late = async {
            stop.cancelled().await;
            sleep(limit).await;
        };
        tokio::select! {
            () = farewell => {}
            () = too_late => {}
        }
        self.board.hass.waiting_bytes.set(0);
        end
    }

    /// Takes one frame to its end: decided, applied, counted, handed over.
    async fn hear(&mut self, text: &Utf8Bytes, waiting: &Waiting, writer: &mut Writer) -> Option<End> {
        let frame = decode(text);
        let whole = frame.unreadable.iter().all(|reason| *reason == Unreadable::Attribute);
        let mut applied = Applied { unreadable: frame.unreadable, ..Applied::default() };
        let mut end = None;
        for message in frame.messages {
            let decided = self.session.handle(Input::Message(&message), self.now());
            match (decided, message) {
                (Some(Action::Apply), Message::Event { entities, .. }) => self.states.apply(entities, &mut applied),
                (Some(Action::TakeSnapshot { whole: nothing_lost }), Message::Event { entities, .. }) => {
                    self.states.take_snapshot(entities, whole && nothing_lost, &mut applied);
                    self.went_live();
                }
                (Some(Action::TakeFired), Message::Fired { fired, .. }) => {
                    match read_fired(&fired, &mut applied.unreadable) {
                        Some(fired) => applied.events.push(Event::Fired(fired)),
                        None => self.board.hass.unreadable.add(Unreadable::Message, 1),
                    }
                }
                (Some(Action::TakeRegistry { registry, then }), Message::Result { outcome, .. }) => {
                    match outcome {
                        Ok(list) => self.gather(registry, list.unwrap_or("[]")),
                        Err(failure) => {
                            self.lack(&format!("no list of its {} registry", registry.name()), &failure.message);
                        }
                    }
                    end = self.register(then, writer).await.err();
                }
                (Some(Action::Count(reason)), _) => applied.unreadable.push(reason),
                (decided, _) => end = self.obey(decided, writer).await,
            }
            if end.is_some() {
                break;
            }
        }
        let handed_over = self.hand_over(applied.events).await;
        waiting.leave(text.len());
        end = end.or(handed_over.err());
        for reason in applied.unreadable {
            self.board.hass.unreadable.add(reason, 1);
            if end.is_none() {
                let decided = self.session.handle(Input::Damaged(reason), self.now());
                end = self.obey(decided, writer).await;
            }
        }
        end
    }

    async fn obey(&mut self, decided: Option<Action>, writer: &mut Writer) -> Option<End> {
        match decided? {
            Action::Send(commands) => self.say(&commands, writer).await.err(),
            Action::Widen(command) => {
                warn!(
                    session = self.id,
                    "Home Assistant does not take the filter: every entity is received, and filtered here; \
                     check the entity ids in the filter"
                );
                self.say(&[command], writer).await.err()
            }
            Action::AskAgain { commands, lost } => {
                if self.losses.failed((), Instant::now().into_std()) == Worth::Nothing {
                    debug!(session = self.id, lost = lost.label(), "asking for all states again");
                } else {
                    warn!(
                        session = self.id,
                        lost = lost.label(),
                        "part of what Home Assistant sent could not be read ({}): asking for all states again",
                        lost.label()
                    );
                }
                self.say(&commands, writer).await.err()
            }
            Action::GoOn { without, commands } => {
                let names: Vec<_> = without.into_iter().map(Registry::name).collect();
                warn!(
                    session = self.id,
                    "Home Assistant does not send its registries in time ({}): going on, and using them when they come",
                    names.join(", ")
                );
                self.say(&commands, writer).await.err()
            }
            Action::LackEvents { event_type, because } => {
                self.lack(&format!("no events of the type {event_type}"), &because);
                None
            }
            Action::Answered(round_trip) => {
                self.board.home_assistant.latency(round_trip);
                None
            }
            Action::Count(reason) => {
                self.board.hass.unreadable.add(reason, 1);
                None
            }
            Action::LoseEvent => {
                self.board.hass.unreadable.add(Unreadable::NotSerialised, 1);
                None
            }
            Action::CountUnknown
            | Action::Apply
            | Action::TakeSnapshot { .. }
            | Action::TakeFired
            | Action::TakeRegistry { .. } => {
                self.board.hass.unknown_messages.add(1);
                None
            }
            Action::End(ended) => Some(End::Ended(ended)),
        }
    }

    async fn say(&self, commands: &[Command], writer: &mut Writer) -> Result<(), End> {
        if self.leaving {
            return Ok(());
        }
        for command in commands {
            let saying = timeout(self.limits.connect, writer.send(tungstenite::Message::text(encode(command))));
            let sent = tokio::select! {
                sent = saying => sent,
                () = self.stop.cancelled() => return Err(End::Stopped),
            };
            match sent {
                Ok(Ok(())) => {}
                Ok(Err(err)) => return Err(End::Read(ReadEnd::Broken(err.to_string()))),
                Err(_) => return Err(End::Ended(Ended::Silent)),
            }
        }
        Ok(())
    }

    fn went_live(&mut self) {
        let entities = self.states.len();
        if self.live_since.is_some() {
            debug!(session = self.id, entities, "all states came again: {entities} entities");
            return;
        }
        self.live_since = Some(Instant::now());
        self.begins = true;
        // Before anybody hears that it is connected. Whoever closes gaps decides once the states were handed over.
        self.board.history.check(self.number);
        let version = self.session.version();
        self.board.home_assistant.connected(version, clock::now());
        info!(session = self.id, entities, "connected to Home Assistant {version}: {entities} entities");
    }

    /// A row that cannot be read says nothing about any state, so the states are not asked for again.
    fn gather(&mut self, registry: Registry, list: &str) {
        let unreadable = self.gathered.take(registry, list);
        self.board.hass.unreadable.add(Unreadable::Entity, unreadable);
    }

    /// Hands the registries over once all of them are there, and goes on.
    async fn register(&mut self, then: Registered, writer: &mut Writer) -> Result<(), End> {
        if then.complete {
            let registries = std::mem::take(&mut self.gathered).assemble();
            debug!(session = self.id, "the registries name {} entities", registries.entities.len());
            let registries = Arc::new(registries);
            self.reserve().await?.send(Arrival::Registries(Arc::clone(&registries)));
            self.board.set_registries(registries);
        }
        self.say(&then.commands, writer).await
    }

    fn lack(&mut self, what: &str, because: &str) {
        if self.lacks.insert(what.to_owned()) {
            warn!(session = self.id, "Home Assistant gives {what}: {because}; going on without");
        }
    }

    /// Hands events over, and says what they begin.
    async fn hand_over(&mut self, events: Vec<Event>) -> Result<(), End> {
        let begins = std::mem::take(&mut self.begins);
        let restored = if begins { restored(&events) } else { Arc::default() };
        if begins {
            self.reserve().await?.send(Arrival::Live { session: self.number });
        }
        self.hand_over_events(events).await?;
        // Whoever closes gaps may have ended, at the stop.
        let appeared = self.states.take_appeared();
        if !appeared.is_empty() {
            let _ = self.news.send(News::Appeared(appeared));
        }
        if let Some(since) = self.live_since.filter(|_| begins) {
            let (number, id, over) = (self.number, self.id.to_owned(), self.over.clone());
            // No state is newer than the session's beginning, whoever's clock said when that was.
            let began = self.states.newest().map_or(self.began, |newest| newest.min(self.began));
            // One that had no entities yet began later than anything that is told of before.
            let home_began = self.states.home_began().or(self.states.is_restarting().then_some(self.began));
            let away = self.away;
            let _ = self.news.send(News::Live(Presence { number, id, began, away, since, home_began, restored, over }));
        }
        Ok(())
    }

    /// Waits until the pipeline takes the events. They are received from the moment it does.
    async fn hand_over_events(&self, events: Vec<Event>) -> Result<(), End> {
        if events.is_empty() {
            return Ok(());
        }
        let permit = self.reserve().await?;
        self.board.hass.entities.set(self.states.len() as u64);
        self.board.hass.last_event.set(clock::now());
        self.board.arrivals.received.add(Source::HomeAssistant, events.len() as u64);
        permit.send(Arrival::Events(events));
        Ok(())
    }

    /// Waits for room in the channel.
    async fn reserve(&self) -> Result<mpsc::Permit<'_, Arrival>, End> {
        let too_late = async {
            self.stop.cancelled().await;
            sleep(self.limits.farewell).await;
        };
        tokio::select! {
            permit = beating(self.board, self.events.reserve()) => permit.map_err(|_| End::NoPipeline),
            () = too_late => Err(End::Stopped),
        }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }
}

/// Which states of a snapshot are restored ones.
fn restored(snapshot: &[Event]) -> Arc<HashMap<EntityId, Timestamp>> {
    let restored = snapshot.iter().filter_map(|event| match event {
        Event::Restored(state) => Some((state.entity.clone(), state.last_updated)),
        _ => None,
    });
    Arc::new(restored.collect())
}

/// Why the reader ended, which it did: its end of the queue is gone.
async fn read_end(reader: &mut JoinSet<ReadEnd>) -> ReadEnd {
    match reader.join_next().await {
        Some(Ok(end)) => end,
        Some(Err(err)) => ReadEnd::Broken(format!("the reader failed: {err}")),
        None => ReadEnd::Closed(String::new()),
    }
}
