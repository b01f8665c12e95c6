//! Messages of an MQTT broker as a source of events.
//!
//! The topics of the rules say what to listen to ([`subscriptions`]); without any there is no connection. Each message is
//! numbered ([`receipts`]) and handed to the pipeline, which knows what it means. The broker is told that it has arrived
//! when what became of it is safe, so that neither a crash nor a power cut loses it: the broker sends it again. This module
//! keeps the connection: it connects, and connects again.
//!
//! Every message handed over is counted as received, exactly once.

pub mod connection;
mod conversation;
mod identity;
pub mod receipts;
pub mod subscriptions;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::Event as Heard;
use rumqttc::v5::mqttbytes::v5::Packet;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::settings::{self, Broker};
use crate::ingest::retry::{Pauses, Retry};
use crate::model::event::Arrival;
use crate::rules::Rules;
use crate::runtime::backoff::Policy;
use crate::runtime::repeats::{Ended, Repeats, Worth};
use crate::runtime::{alive, clock};
use crate::status::board::Board;
use crate::supervisor::{self, AskError};

use connection::{Caller, ConnectError, Lost, explain, open, place};
use conversation::{Conversation, End, Ends, Memory, OFFLINE};
use identity::Identity;
use receipts::Receipts;

/// The name under which the task says that it is alive.
const TASK: &str = "mqtt";

/// From looking up the name to the broker's yes.
const CONNECT: Duration = Duration::from_secs(10);

/// How long the last messages may take to become safe at the stop: a batch waits a second for company.
const FAREWELL: Duration = Duration::from_millis(1_500);

/// For the last words.
const GOODBYE: Duration = Duration::from_millis(500);

/// How soon it is looked again whether the pipeline has taken what waits.
const CROWDED: Duration = Duration::from_millis(10);

const NO_TOPIC: &str = "no topic in rules.yaml says what to listen to";
/// What to do where the Supervisor knows no broker.
pub const NO_BROKER: &str = "install the Mosquitto broker add-on, or set `mqtt.host`";

const PAUSES: Pauses = Pauses {
    failures: Policy { first: Duration::from_millis(500), longest: Duration::from_secs(30) },
    // The Supervisor may give another password soon; a person needs longer.
    wrong_token: Duration::from_secs(10),
    longest_wrong_token: Duration::from_mins(5),
    good_session: Duration::from_mins(1),
};

/// Receives messages until `stop`, or until nobody takes them any more.
///
/// `safe`: up to which receipt everything is safe. `events`: this task sends, the pipeline receives; while it is full
/// nothing is read, and the broker keeps what comes.
pub async fn run(
    settings: settings::Mqtt,
    data_dir: PathBuf,
    mut rules: watch::Receiver<Arc<Rules>>,
    mut safe: watch::Receiver<u64>,
    events: mpsc::Sender<Arrival>,
    board: Arc<Board>,
    stop: CancellationToken,
) {
    let mut memory =
        Memory { identity: Identity::load(&data_dir).await, receipts: Receipts::default(), refused: BTreeMap::new() };
    let mut retry = Retry::new(PAUSES);
    let mut repeats = Repeats::default();
    loop {
        let work = async {
            if !until_there_are_topics(&mut rules, &board).await {
                return None;
            }
            let found = find(&settings).await;
            Some(found)
        };
        let found = tokio::select! {
            () = stop.cancelled() => return,
            found = beating(&board, work) => match found {
                Some(found) => found,
                // Nobody can bring a topic any more.
                None => return stop.cancelled().await,
            },
        };
        let mut live = None;
        let failure = match found {
            Err(failure) => failure,
            Ok(broker) => {
                let place = place(&broker);
                board.mqtt.link.connecting(&format!("connecting to {place}"), clock::now());
                let will = Some((memory.identity.availability_topic(), OFFLINE));
                let client_id = memory.identity.client_id().to_owned();
                let opened = tokio::select! {
                    () = stop.cancelled() => return,
                    opened = beating(&board, open(&broker, Caller { client_id: &client_id, will }, CONNECT)) => opened,
                };
                match opened {
                    Err(err) => Failure::Connect(err),
                    Ok(opened) => {
                        let ends =
                            Ends { rules: &mut rules, safe: &mut safe, events: &events, board: &board, stop: &stop };
                        let mut conversation = Conversation::new(ends, &mut memory, &place, opened);
                        let end = conversation.hold().await;
                        live = conversation.connected_since().map(|since| since.elapsed());
                        match end {
                            End::Stopped | End::NoPipeline => return,
                            End::NothingWanted => continue,
                            End::NotConnected(err) => Failure::Connect(err),
                            End::Lost(lost) => Failure::Lost(lost),
                        }
                    }
                }
            }
        };
        let now = Instant::now().into_std();
        if live.is_some()
            && let Some(Ended { failures, .. }) = repeats.recovered(now)
        {
            info!("the MQTT broker was there again, after {failures} attempts that failed");
        }
        report(&failure, &board, repeats.failed(failure.to_string(), now));
        let pause = match failure {
            Failure::Connect(ConnectError::WrongLogin { .. }) => retry.after_wrong_token(),
            Failure::NoBroker => PAUSES.failures.longest,
            _ => retry.after_session(live),
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = beating(&board, sleep(pause)) => {}
        }
    }
}

/// Whether there are some now. If not, there never will be.
async fn until_there_are_topics(rules: &mut watch::Receiver<Arc<Rules>>, board: &Board) -> bool {
    while rules.borrow_and_update().topics.is_empty() {
        board.mqtt.link.not_configured(NO_TOPIC, clock::now());
        if rules.changed().await.is_err() {
            return false;
        }
    }
    true
}

/// Why there is no connection, or not any more.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the Supervisor knows no MQTT broker: {NO_BROKER}")]
    NoBroker,
    #[error(transparent)]
    Ask(AskError),
    #[error(transparent)]
    Connect(ConnectError),
    #[error(transparent)]
    Lost(Lost),
}

async fn find(settings: &settings::Mqtt) -> Result<Broker, Failure> {
    match settings {
        settings::Mqtt::Broker(broker) => Ok(broker.clone()),
        settings::Mqtt::Supervisor { token } => {
            let asked = supervisor::mqtt_broker(supervisor::ADDRESS, token, CONNECT).await;
            asked.map_err(Failure::Ask)?.ok_or(Failure::NoBroker)
        }
    }
}

fn report(failure: &Failure, board: &Board, worth: Worth) {
    match failure {
        Failure::NoBroker => board.mqtt.link.not_configured(NO_BROKER, clock::now()),
        _ => board.mqtt.link.failed(&failure.to_string(), clock::now()),
    }
    match worth {
        Worth::Nothing => {}
        Worth::First => warn!("MQTT: {failure}; trying again"),
        Worth::Again { failures, lasts } => {
            warn!("MQTT: still failing, {failures} times in {} min: {failure}", lasts.as_secs() / 60);
        }
    }
}

/// Does `work`, which waits for somebody else.
async fn beating<F: Future>(board: &Board, work: F) -> F::Output {
    alive::beating(|| board.beat(TASK, std::time::Instant::now()), work).await
}

/// What a short visit found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// The broker at this place takes us in.
    Welcome { place: String },
    /// The Supervisor knows no broker.
    NoBroker,
}

/// Why a visit failed, in words that say what to do.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Connects under a name of its own, so that a service that runs keeps its session, and leaves.
pub async fn probe(settings: &settings::Mqtt, within: Duration) -> Result<Probe, ProbeError> {
    let broker = match find(settings).await {
        Ok(broker) => broker,
        Err(Failure::Ask(err)) => return Err(err.into()),
        Err(_) => return Ok(Probe::NoBroker),
    };
    let place = place(&broker);
    let client_id = format!("ha-ingestor-check-{:08x}", fastrand::u32(..));
    let visit = async {
        let (client, mut packets) = open(&broker, Caller { client_id: &client_id, will: None }, within).await?;
        loop {
            match packets.poll().await {
                Ok(Heard::Incoming(Packet::ConnAck(_))) => break,
                Ok(_) => {}
                Err(err) => return Err(explain(&err, &place)),
            }
        }
        // A courtesy.
        if client.try_disconnect().is_ok() {
            let _said = packets.poll().await;
        }
        Ok(Probe::Welcome { place: place.clone() })
    };
    let visited = timeout(within, visit).await;
    Ok(visited.unwrap_or_else(|_| Err(ConnectError::Timeout { place: place.clone() }))?)
}
