//! Holds one connection: hears what the broker sends, hands messages to the pipeline, asks and acknowledges.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Filter, Packet, Publish, RetainForwardRule, SubAck, SubscribeProperties, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event as Heard, EventLoop};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::model::event::{Arrival, Event, Message, Source};
use crate::model::topic::TopicFilter;
use crate::rules::Rules;
use crate::runtime::{BEAT, clock};
use crate::status::board::Board;

use super::connection::{ACKNOWLEDGEMENTS_AT_ONCE, ConnectError, Lost, explain, explain_end, words};
use super::identity::Identity;
use super::receipts::{Delivery, Receipts, Taken};
use super::subscriptions::{Request, Retained, Wanted, identifier};
use super::{FAREWELL, GOODBYE, TASK, beating};

/// Messages of one arrival, and about how many bytes of them. It is for the pipeline to be woken less often.
const BATCH_MESSAGES: usize = 256;
const BATCH_BYTES: usize = 1 << 20;

/// What of a larger payload is handed over: enough to see that it is too large, and no burden for memory.
const PAYLOAD_BYTES: usize = Message::MOST_PAYLOAD_BYTES + 1;

/// Bytes of messages that may wait for the pipeline, about: then nothing is read until it has taken some.
const WAITING_BYTES: usize = 16 << 20;

const ONLINE: &str = "online";
pub(super) const OFFLINE: &str = "offline";

/// Why a conversation ended.
#[derive(Debug)]
pub(super) enum End {
    Stopped,
    /// Nobody takes the events any more.
    NoPipeline,
    /// No topic is left to listen to.
    NothingWanted,
    /// There was no connection.
    NotConnected(ConnectError),
    Lost(Lost),
}

/// What outlives a connection.
pub(super) struct Memory {
    pub(super) identity: Identity,
    pub(super) receipts: Receipts,
    /// Filters that the broker does not give us, of which the user was told.
    pub(super) refused: BTreeMap<TopicFilter, String>,
}

/// Those who give and take. The events: this sends, the pipeline receives; while it is full nothing is read.
pub(super) struct Ends<'a> {
    pub(super) rules: &'a mut watch::Receiver<Arc<Rules>>,
    pub(super) safe: &'a mut watch::Receiver<u64>,
    pub(super) events: &'a mpsc::Sender<Arrival>,
    pub(super) board: &'a Arc<Board>,
    pub(super) stop: &'a CancellationToken,
}

/// What the broker is asked, one after the other: packet numbers of requests that it has not answered could collide.
#[derive(Debug)]
enum Asked {
    Announce(&'static str),
    Request(Request),
}

pub(super) struct Conversation<'a> {
    ends: Ends<'a>,
    memory: &'a mut Memory,
    place: &'a str,
    client: AsyncClient,
    /// Each step of the library's loop runs to its end, whoever waits for it meanwhile: to give one up half-way could lose
    /// a packet.
    heard: Pin<Box<dyn Stream<Item = Result<Heard, ConnectionError>> + Send + 'a>>,
    wanted: Wanted,
    to_ask: VecDeque<Asked>,
    asked: Option<Asked>,
    connected_since: Option<Instant>,
    pinged: Option<Instant>,
    batch: Vec<Event>,
    batch_bytes: usize,
    /// The sizes of the last arrivals that were handed over, of which some may still wait.
    handed_over: VecDeque<usize>,
    /// What the broker may send messages for has changed.
    must_note: bool,
    leaving: bool,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(
        ends: Ends<'a>,
        memory: &'a mut Memory,
        place: &'a str,
        (client, packets): (AsyncClient, EventLoop),
    ) -> Self {
        let heard = stream::unfold(packets, |mut packets| async {
            let heard = packets.poll().await;
            Some((heard, packets))
        });
        let wanted = Wanted::of(&ends.rules.borrow_and_update().topics);
        Self {
            ends,
            memory,
            place,
            client,
            heard: Box::pin(heard),
            wanted,
            to_ask: VecDeque::new(),
            asked: None,
            connected_since: None,
            pinged: None,
            batch: Vec::new(),
            batch_bytes: 0,
            handed_over: VecDeque::new(),
            must_note: false,
            leaving: false,
        }
    }

    /// Since when the broker had taken us in, if it did.
    pub(super) fn connected_since(&self) -> Option<Instant> {
        self.connected_since
    }

    pub(super) async fn hold(&mut self) -> End {
        let end = self.listen().await;
        self.ends.board.mqtt.unacknowledged.set(0);
        if self.connected_since.is_some() && matches!(end, End::Stopped | End::NothingWanted | End::NoPipeline) {
            self.leaving = true;
            self.take_leave(&end).await;
        }
        end
    }

    async fn listen(&mut self) -> End {
        let mut beats = interval(BEAT);
        loop {
            let stop = self.ends.stop;
            let room = self.ends.events.reserve();
            let permit = tokio::select! {
                () = stop.cancelled() => return End::Stopped,
                room = beating(self.ends.board, room) => match room {
                    Ok(permit) => permit,
                    Err(_) => return End::NoPipeline,
                },
            };
            let crowded = self.waiting_bytes() > WAITING_BYTES;
            tokio::select! {
                () = stop.cancelled() => return End::Stopped,
                heard = self.heard.next(), if !crowded => {
                    let mut heard = heard;
                    while let Some(event) = heard {
                        if let Some(end) = self.hear(event) {
                            self.hand_over(permit);
                            return end;
                        }
                        if self.batch.len() >= BATCH_MESSAGES || self.batch_bytes >= BATCH_BYTES {
                            break;
                        }
                        // What is there already, without waiting.
                        heard = self.heard.next().now_or_never().flatten();
                    }
                }
                () = tokio::time::sleep(super::CROWDED), if crowded => {}
                Ok(()) = self.ends.rules.changed() => self.rules_changed(),
                Ok(()) = self.ends.safe.changed() => {}
                _ = beats.tick() => self.ends.board.beat(TASK, std::time::Instant::now()),
            }
            self.hand_over(permit);
            self.acknowledge();
            self.note().await;
            self.ask();
            if self.wanted.is_empty() && self.asked.is_none() && self.to_ask.is_empty() {
                return End::NothingWanted;
            }
        }
    }

    /// They count as received from now on.
    fn hand_over(&mut self, permit: mpsc::Permit<'_, Arrival>) {
        if self.batch.is_empty() {
            return;
        }
        let board = self.ends.board;
        board.arrivals.received.add(Source::Mqtt, self.batch.len() as u64);
        board.mqtt.last_message.set(clock::now());
        self.handed_over.push_back(std::mem::take(&mut self.batch_bytes));
        permit.send(Arrival::Events(std::mem::take(&mut self.batch)));
    }

    /// At most: what others handed over counts as if it were ours.
    fn waiting_bytes(&mut self) -> usize {
        let waiting = self.ends.events.max_capacity() - self.ends.events.capacity();
        let taken = self.handed_over.len().saturating_sub(waiting);
        self.handed_over.drain(..taken);
        self.handed_over.iter().sum()
    }

    fn hear(&mut self, heard: Result<Heard, ConnectionError>) -> Option<End> {
        let packet = match heard {
            Ok(Heard::Incoming(packet)) => packet,
            Ok(Heard::Outgoing(Outgoing::PubAck(_))) => {
                self.memory.receipts.acknowledged();
                return None;
            }
            Ok(Heard::Outgoing(Outgoing::PingReq)) => {
                self.pinged = Some(Instant::now());
                return None;
            }
            Ok(Heard::Outgoing(_)) => return None,
            Err(err) if self.connected_since.is_some() => return Some(End::Lost(explain_end(&err))),
            Err(err) => return Some(End::NotConnected(explain(&err, self.place))),
        };
        match packet {
            Packet::ConnAck(said) => self.connected(said.session_present),
            Packet::Publish(publish) if !self.leaving => self.receive(&publish),
            Packet::SubAck(said) => self.subscribed(&said),
            Packet::UnsubAck(_) | Packet::PubAck(_) => {
                self.asked = None;
                self.show();
            }
            Packet::PingResp(_) => {
                if let Some(pinged) = self.pinged.take() {
                    self.ends.board.mqtt.link.latency(pinged.elapsed());
                }
            }
            _ => {}
        }
        None
    }

    fn connected(&mut self, session_is_present: bool) {
        self.connected_since = Some(Instant::now());
        self.memory.receipts.connected(session_is_present);
        self.ends.board.mqtt.sessions.add(1);
        self.to_ask.push_back(Asked::Announce(ONLINE));
        let requests = self.wanted.from_the_start(&self.memory.identity.subscribed());
        self.to_ask.extend(requests.into_iter().map(Asked::Request));
        self.must_note = true;
        let kept = if session_is_present { ", which kept what came meanwhile" } else { "" };
        let topics = self.wanted.len();
        info!(topics, "connected to the MQTT broker {}{kept}: {topics} topic filters", self.place);
        self.show();
    }

    fn rules_changed(&mut self) {
        let wanted = Wanted::of(&self.ends.rules.borrow_and_update().topics);
        if self.connected_since.is_some() {
            let requests = self.wanted.change_to(&wanted);
            if !requests.is_empty() {
                info!("other topics are listened to: {} topic filters", wanted.len());
            }
            self.to_ask.extend(requests.into_iter().map(Asked::Request));
            self.must_note = true;
        }
        self.wanted = wanted;
        self.memory.receipts.subscriptions_changed();
        self.memory.refused.retain(|filter, _| self.wanted.filters().any(|wanted| wanted == filter));
    }

    fn receive(&mut self, publish: &Publish) {
        let subscriptions = publish.properties.as_ref().map_or(&[][..], |known| &known.subscription_identifiers);
        let delivery = Delivery {
            topic: &publish.topic,
            payload: &publish.payload,
            packet: (publish.qos != QoS::AtMostOnce).then_some(publish.pkid),
            again: publish.dup,
            subscriptions,
        };
        let board = &self.ends.board.mqtt;
        board.messages.add(1);
        board.message_bytes.add((publish.topic.len() + publish.payload.len()) as u64);
        let receipt = match self.memory.receipts.take(&delivery) {
            Taken::New(receipt) => receipt,
            Taken::Redelivered => return board.redelivered.add(1),
            Taken::Copy => return board.copies.add(1),
        };
        // A copy of its own: a slice would keep the whole buffer that it was read into.
        let payload = Bytes::copy_from_slice(&publish.payload[..publish.payload.len().min(PAYLOAD_BYTES)]);
        self.batch_bytes += publish.topic.len() + payload.len();
        self.batch.push(Event::Message(Message {
            // A broker sees to it that a topic is text.
            topic: String::from_utf8_lossy(&publish.topic).into(),
            payload,
            retained: publish.retain,
            arrived: clock::now(),
            receipt,
        }));
    }

    /// Hands the library the acknowledgements that are due, as many as it takes without a wait.
    fn acknowledge(&mut self) {
        let safe = *self.ends.safe.borrow_and_update();
        let mut publish = Publish::new("", QoS::AtLeastOnce, Bytes::new(), None);
        while self.memory.receipts.on_their_way() < ACKNOWLEDGEMENTS_AT_ONCE
            && let Some(packet) = self.memory.receipts.due(safe)
        {
            publish.pkid = packet;
            if self.client.try_ack(&publish).is_err() {
                break;
            }
            self.memory.receipts.acknowledge();
        }
        self.ends.board.mqtt.unacknowledged.set(self.memory.receipts.unacknowledged() as u64);
    }

    /// Notes what the broker may send messages for before it is asked, so that what is not wanted any more is given up even
    /// if we do not come to it now.
    async fn note(&mut self) {
        let given_up = self.to_ask.iter().filter_map(|asked| match asked {
            Asked::Request(Request::Unsubscribe(filter)) => Some(filter),
            _ => None,
        });
        if !std::mem::take(&mut self.must_note) {
            return;
        }
        let filters: BTreeSet<&TopicFilter> = self.wanted.filters().chain(given_up).collect();
        if let Err(err) = self.memory.identity.subscribe_to(filters).await {
            warn!("the disk does not take who we are to the MQTT broker ({err}): after a restart it is asked anew");
        }
    }

    fn ask(&mut self) {
        if self.asked.is_some() || self.connected_since.is_none() {
            return;
        }
        let Some(next) = self.to_ask.pop_front() else { return };
        let asked = match &next {
            Asked::Announce(state) => self.announce(state),
            Asked::Request(Request::Subscribe { filter, retained }) => self.subscribe(filter, *retained),
            Asked::Request(Request::Unsubscribe(filter)) => self.client.try_unsubscribe(filter.as_str()).is_ok(),
        };
        if asked {
            // The last thing to give up was given up.
            self.must_note |= self.to_ask.is_empty() && matches!(next, Asked::Request(Request::Unsubscribe(_)));
            self.asked = Some(next);
        } else {
            self.to_ask.push_front(next);
        }
    }

    fn announce(&self, state: &'static str) -> bool {
        let topic = self.memory.identity.availability_topic();
        self.client.try_publish(topic, QoS::AtLeastOnce, true, state).is_ok()
    }

    fn subscribe(&self, filter: &TopicFilter, retained: Retained) -> bool {
        let rule = match retained {
            Retained::None => RetainForwardRule::Never,
            Retained::IfNew => RetainForwardRule::OnNewSubscribe,
            Retained::All => RetainForwardRule::OnEverySubscribe,
        };
        let mut wish = Filter::new(filter.as_str(), QoS::AtLeastOnce);
        wish.retain_forward_rule = rule;
        // What we say ourselves is no news.
        wish.nolocal = true;
        let id = usize::try_from(identifier(filter)).ok();
        let properties = SubscribeProperties { id, user_properties: Vec::new() };
        self.client.try_subscribe_many_with_properties([wish], properties).is_ok()
    }

    fn subscribed(&mut self, said: &SubAck) {
        let Some(Asked::Request(Request::Subscribe { filter, .. })) = self.asked.take() else { return };
        for code in &said.return_codes {
            if let SubscribeReasonCode::Success(_) = code {
                debug!("the broker sends messages of {filter}");
                self.memory.refused.remove(&filter);
                continue;
            }
            let reason = match said.properties.as_ref().and_then(|known| known.reason_string.clone()) {
                Some(reason) => reason,
                None => words(&format!("{code:?}")),
            };
            if self.memory.refused.insert(filter.clone(), reason.clone()).is_none() {
                warn!(
                    topic = %filter,
                    "the MQTT broker refuses the topic filter {filter}: {reason}; check what its access list allows us"
                );
            }
        }
        self.show();
    }

    /// What the outside may know of the connection.
    fn show(&self) {
        let board = &self.ends.board.mqtt;
        let refused = self.memory.refused.len();
        board.topics.set((self.wanted.len().saturating_sub(refused)) as u64);
        let mut detail = format!("MQTT 5 at {}, {} topic filters", self.place, self.wanted.len());
        if let Some((filter, reason)) = self.memory.refused.first_key_value() {
            write!(detail, "; the broker refuses {refused} of them, such as {filter}: {reason}")
                .expect("writing to a string cannot fail");
        }
        board.link.connected(&detail, clock::now());
    }

    /// Acknowledges what becomes safe within a moment, so that it does not come again, and goes in good order.
    async fn take_leave(&mut self, end: &End) {
        if !matches!(end, End::NoPipeline) {
            let settled = async {
                loop {
                    self.acknowledge();
                    if self.memory.receipts.unacknowledged() == 0 {
                        return;
                    }
                    tokio::select! {
                        heard = self.heard.next() => {
                            if heard.is_none_or(|heard| self.hear(heard).is_some()) {
                                return;
                            }
                        }
                        Ok(()) = self.ends.safe.changed() => {}
                    }
                }
            };
            let _in_time = timeout(FAREWELL, settled).await;
        }
        let gone = async {
            if !self.announce(OFFLINE) || self.client.try_disconnect().is_err() {
                return;
            }
            while let Some(Ok(heard)) = self.heard.next().await {
                if matches!(heard, Heard::Outgoing(Outgoing::Disconnect)) {
                    return;
                }
            }
        };
        let _in_time = timeout(GOODBYE, gone).await;
    }
}
