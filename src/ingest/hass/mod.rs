//! Home Assistant's WebSocket API as a source of events.
//!
//! A frame's way: [`socket`] reads it, [`protocol`] makes messages of it, [`session`] decides what a message is for,
//! [`states`] makes whole states of differences, and the conversation hands the events to the pipeline. This module
//! keeps the conversation going: it connects, and connects again.
//!
//! What is known about the entities comes first in a session, and again when it changed: [`reload`] decides when,
//! [`registry`] makes one of the five lists.
//!
//! Every event handed over is counted as received, exactly once. What arrives between two sessions is not seen here.

mod conversation;
pub mod protocol;
pub mod registry;
pub mod reload;
pub mod session;
pub mod socket;
pub mod states;
#[cfg(test)]
mod story;
pub mod visit;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::settings::HomeAssistant;
use crate::ingest::retry::{Pauses, Retry};
use crate::model::entity::EntityId;
use crate::model::event::Arrival;
use crate::model::time::Timestamp;
use crate::rules::Rules;
use crate::runtime::repeats::{Repeats, Worth};
use crate::runtime::{alive, clock};
use crate::status::board::Board;

use conversation::{Conversation, End};
use protocol::{Command, decode, encode};
use registry::Gathered;
use session::{Action, Ended, Input, Patience, Session, Wanted};
use socket::{ConnectError, ReadEnd, Socket};
use states::States;

/// The name under which the task says that it is alive.
const TASK: &str = "home_assistant";

/// Every time and size that the task keeps to.
#[derive(Debug, Clone, Copy)]
struct Limits {
    connect: Duration,
    patience: Patience,
    pauses: Pauses,
    tick: Duration,
    /// For the close frame and what was read before a stop.
    farewell: Duration,
    /// Frames that may wait to be looked at.
    waiting_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            patience: Patience::default(),
            pauses: Pauses::default(),
            tick: Duration::from_secs(1),
            farewell: Duration::from_secs(1),
            waiting_bytes: 64 << 20,
        }
    }
}

/// What a session tells besides events.
#[derive(Debug)]
pub enum News {
    /// It has told the states of all entities. They were handed over before.
    Live(Presence),
    /// Entities that were not there before, with the times of their first states.
    Appeared(Vec<(EntityId, Timestamp)>),
}

/// A session that tells what happens.
#[derive(Debug, Clone)]
pub struct Presence {
    /// From 1 in this run of the program.
    pub number: u64,
    /// For the log.
    pub id: String,
    /// When it began, by Home Assistant's clock, or a little before: what happened until then and was not told before is
    /// not told at all. A home where nothing happens, or that begins without entities, has a time all the same.
    pub began: Timestamp,
    /// Since the end of the session before, if there was one in this run of the program.
    pub away: Option<Duration>,
    /// When it had told the states of all entities.
    pub since: Instant,
    /// Home Assistant itself began anew since the last session, at about this time.
    pub home_began: Option<Timestamp>,
    /// States with which it began that are restored ones.
    pub restored: Arc<HashMap<EntityId, Timestamp>>,
    /// Cancelled when the session ends.
    pub over: CancellationToken,
}

/// Receives the events of a home until `stop`, or until nobody takes them any more.
///
/// `events`: this task sends, the pipeline receives, one arrival for each frame. When it is full, frames wait in memory
/// up to a limit; beyond it the connection is dropped on purpose. `news` is for whoever closes gaps.
pub async fn run(
    settings: HomeAssistant,
    rules: watch::Receiver<Arc<Rules>>,
    events: mpsc::Sender<Arrival>,
    news: mpsc::UnboundedSender<News>,
    board: Arc<Board>,
    stop: CancellationToken,
) {
    run_within(Limits::default(), settings, rules, (events, news), board, stop).await;
}

async fn run_within(
    limits: Limits,
    settings: HomeAssistant,
    mut rules: watch::Receiver<Arc<Rules>>,
    (events, news): (mpsc::Sender<Arrival>, mpsc::UnboundedSender<News>),
    board: Arc<Board>,
    stop: CancellationToken,
) {
    let epoch = Instant::now();
    let mut states = States::default();
    let mut retry = Retry::new(limits.pauses);
    let mut repeats = Repeats::default();
    let mut losses = Repeats::default();
    let mut lacks = HashSet::new();
    // When the last session ended that had told the states.
    let mut ended: Option<Instant> = None;
    for number in 1_u64.. {
        let connected = tokio::select! {
            () = stop.cancelled() => return,
            connected = beating(&board, socket::connect(&settings, limits.connect)) => connected,
        };
        let id = session_id(clock::now().as_micros(), number);
        let mut live = None;
        let failure = match connected {
            Err(err) => Failure::Connect(err),
            Ok((socket, moment)) => {
                board.hass.sessions.add(1);
                let wanted = Wanted::by(&rules.borrow_and_update());
                let session = Session::new(settings.token.clone(), wanted, limits.patience, epoch.elapsed());
                let over = CancellationToken::new();
                let _at_its_end = over.clone().drop_guard();
                let mut conversation = Conversation {
                    id: &id,
                    number,
                    began: moment.unwrap_or_else(clock::now),
                    away: ended.map(|ended| ended.elapsed()),
                    begins: false,
                    over,
                    session,
                    states: &mut states,
                    gathered: Gathered::default(),
                    rules: &mut rules,
                    events: &events,
                    news: &news,
                    board: &board,
                    limits,
                    epoch,
                    stop: &stop,
                    live_since: None,
                    leaving: false,
                    losses: &mut losses,
                    lacks: &mut lacks,
                };
                let end = conversation.hold(socket).await;
                live = conversation.live_since.map(|since| since.elapsed());
                if live.is_some() {
                    ended = Some(Instant::now());
                }
                match end {
                    End::Stopped | End::NoPipeline => return,
                    End::Ended(ended) => Failure::Ended(ended),
                    End::Read(end) => Failure::Read(end),
                }
            }
        };
        if live.is_some() {
            repeats.recovered(Instant::now().into_std());
        }
        report(&failure, &id, &board, repeats.failed(failure.to_string(), Instant::now().into_std()));
        let pause = match failure {
            Failure::Ended(Ended::WrongToken(_)) => retry.after_wrong_token(),
            _ => retry.after_session(live),
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = beating(&board, sleep(pause)) => {}
        }
    }
}

/// Why there is no session, or not any more.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Connect(ConnectError),
    #[error(transparent)]
    Ended(Ended),
    #[error(transparent)]
    Read(ReadEnd),
}

fn report(failure: &Failure, session: &str, board: &Board, worth: Worth) {
    let starting = matches!(failure, Failure::Connect(ConnectError::Starting));
    if starting {
        board.home_assistant.connecting(&failure.to_string(), clock::now());
    } else {
        board.home_assistant.failed(&failure.to_string(), clock::now());
    }
    match worth {
        Worth::Nothing => {}
        Worth::First if starting => info!(session, "{failure}: waiting for it"),
        Worth::First if matches!(failure, Failure::Ended(Ended::WrongToken(_))) => error!(session, "{failure}"),
        Worth::First => warn!(session, "{failure}; trying again"),
        Worth::Again { failures, lasts } => {
            warn!(session, "still failing, {failures} times in {} min: {failure}", lasts.as_secs() / 60);
        }
    }
}

/// Does `work`, which waits for somebody else.
async fn beating<F: Future>(board: &Board, work: F) -> F::Output {
    alive::beating(|| board.beat(TASK, std::time::Instant::now()), work).await
}

/// Short, and different for every session of every run: the second it began at, in base 36, and a number.
fn session_id(micros: i64, number: u64) -> String {
    let mut left = micros.max(0).unsigned_abs() / 1_000_000;
    let mut digits = Vec::new();
    while left > 0 {
        digits.push(b"0123456789abcdefghijklmnopqrstuvwxyz"[(left % 36) as usize]);
        left /= 36;
    }
    digits.iter().rev().map(|digit| char::from(*digit)).chain(format!("-{number}").chars()).collect()
}

/// What a short visit found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Home Assistant's version.
    pub version: String,
}

/// Why a visit failed, in words that say what to do.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Session(#[from] Ended),
    #[error("the server closed the connection before it said what it is")]
    Closed,
    #[error("Home Assistant did not answer in time")]
    Timeout,
}

impl ProbeError {
    /// Whether another token is needed.
    #[must_use]
    pub fn is_wrong_token(&self) -> bool {
        matches!(self, Self::Session(Ended::WrongToken(_)))
    }
}

/// Connects, says who we are, and leaves.
pub async fn probe(settings: &HomeAssistant, within: Duration) -> Result<Probe, ProbeError> {
    let visit = async {
        let (mut socket, _) = socket::connect(settings, within).await?;
        let visited = greet(&mut socket, settings).await;
        // A courtesy, whatever was found.
        let _said = socket.close(None).await;
        visited
    };
    timeout(within, visit).await.unwrap_or(Err(ProbeError::Timeout))
}

async fn greet(socket: &mut Socket, settings: &HomeAssistant) -> Result<Probe, ProbeError> {
    let epoch = Instant::now();
    let mut session = Session::new(settings.token.clone(), Wanted::default(), Patience::default(), epoch.elapsed());
    while let Some(Ok(frame)) = socket.next().await {
        let tungstenite::Message::Text(text) = frame else { continue };
        for message in decode(&text).messages {
            match session.handle(Input::Message(&message), epoch.elapsed()) {
                Some(Action::Send(commands)) => {
                    let [command @ Command::Auth { .. }] = &commands[..] else {
                        // The first commands: the token was accepted.
                        return Ok(Probe { version: session.version().to_owned() });
                    };
                    let said = socket.send(tungstenite::Message::text(encode(command))).await;
                    said.map_err(|_| ProbeError::Closed)?;
                }
                Some(Action::End(ended)) => return Err(ended.into()),
                _ => {}
            }
        }
    }
    Err(ProbeError::Closed)
}
