//! The task that listens to a broker, with a pipeline that the test plays.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ha_ingestor::config::secret::Secret;
use ha_ingestor::config::settings::{Broker, Mqtt};
use ha_ingestor::ingest::mqtt;
use ha_ingestor::model::event::{Arrival, Event, Message};
use ha_ingestor::model::time::Timestamp;
use ha_ingestor::model::topic::TopicFilter;
use ha_ingestor::rules::{Meaning, Rules, Topic};
use ha_ingestor::runtime::group::{Group, shut_down};
use ha_ingestor::status::board::Board;
use ha_ingestor::status::snapshot::{LinkState, Snapshot};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::support::mosquitto::Mosquitto;

/// Arrivals that may wait.
pub(super) const WAITING: usize = 8;

const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Listener {
    pub(super) board: Arc<Board>,
    /// Up to which receipt everything is safe.
    pub(super) safe: watch::Sender<u64>,
    rules: watch::Sender<Arc<Rules>>,
    arriving: mpsc::Receiver<Arrival>,
    group: Group,
}

/// Filters, each with whether its retained messages are wanted.
pub(super) fn rules(topics: &[(&str, bool)]) -> Arc<Rules> {
    let topic = |&(filter, retained): &(&str, bool)| Topic {
        name: filter.into(),
        filter: TopicFilter::parse(filter).unwrap(),
        retained,
        meaning: Meaning::StateStream,
    };
    Arc::new(Rules { topics: topics.iter().map(topic).collect(), ..Rules::default() })
}

pub(super) fn broker(mosquitto: &Mosquitto) -> Broker {
    let (host, port) = (mosquitto.address.ip().to_string(), mosquitto.address.port());
    Broker { host, port, username: None, password: Secret::default(), tls: None }
}

impl Listener {
    pub(super) fn start(broker: Broker, data_dir: &TempDir, topics: &[(&str, bool)]) -> Self {
        let board = Arc::new(Board::new(Instant::now(), Timestamp::from_micros(0)));
        let (rules, watched) = watch::channel(rules(topics));
        let (safe, told) = watch::channel(0);
        let (events, arriving) = mpsc::channel(WAITING);
        let mut group = Group::new("inputs");
        let (ours, folder) = (Arc::clone(&board), data_dir.path().to_owned());
        group.spawn("mqtt", |stop| mqtt::run(Mqtt::Broker(broker), folder, watched, told, events, ours, stop));
        Self { board, safe, rules, arriving, group }
    }

    /// Started, and the broker sends what was asked for.
    pub(super) async fn ready(broker: Broker, data_dir: &TempDir, topics: &[(&str, bool)]) -> Self {
        let listener = Self::start(broker, data_dir, topics);
        listener.until_subscribed().await;
        listener
    }

    /// The last request was answered: there is nothing to see between that and a message.
    pub(super) async fn until_subscribed(&self) {
        self.until("the broker is connected", |seen| seen.mqtt.link.state == LinkState::Connected).await;
        sleep(Duration::from_millis(300)).await;
    }

    pub(super) fn change_rules(&self, topics: &[(&str, bool)]) {
        self.rules.send_replace(rules(topics));
    }

    pub(super) fn seen(&self) -> Snapshot {
        self.board.snapshot(Instant::now(), Timestamp::from_micros(0))
    }

    pub(super) async fn until(&self, what: &str, is_so: impl Fn(&Snapshot) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(&self.seen()) {
            assert!(Instant::now() < deadline, "not in time: {what}: {:?}", self.seen().mqtt);
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Those of one arrival, which must come.
    pub(super) async fn some(&mut self) -> Vec<Message> {
        let arrival = timeout(PATIENCE, self.arriving.recv()).await.expect("a message comes");
        let Some(Arrival::Events(events)) = arrival else { panic!("the task ended") };
        let messages = events.into_iter().map(|event| match event {
            Event::Message(message) => message,
            other => panic!("{other:?}"),
        });
        messages.collect()
    }

    /// So many messages, which must come, and no more.
    pub(super) async fn messages(&mut self, count: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        while messages.len() < count {
            messages.extend(self.some().await);
        }
        assert_eq!(messages.len(), count, "{messages:?}");
        messages
    }

    pub(super) async fn payloads(&mut self, count: usize) -> Vec<String> {
        let messages = self.messages(count).await;
        messages.iter().map(|message| String::from_utf8_lossy(&message.payload).into_owned()).collect()
    }

    pub(super) fn nothing_more(&mut self) {
        assert!(self.arriving.try_recv().is_err(), "a message came");
    }

    pub(super) async fn stop(self) {
        assert_eq!(shut_down(vec![self.group], Duration::from_secs(10)).await, [] as [&str; 0]);
    }

    /// As a crash: without a word to the broker.
    pub(super) async fn crash(self) {
        shut_down(vec![self.group], Duration::ZERO).await;
    }
}
