//! What is known of the MQTT broker and of what it sends.

use super::board::{Counter, Gauge, LinkBoard, Moment};
use super::snapshot::Mqtt;
use crate::model::time::Timestamp;

/// Written by the task that listens to the broker.
pub struct MqttBoard {
    pub link: LinkBoard,
    pub sessions: Counter,
    /// As they came, with those that came again.
    pub messages: Counter,
    /// Of topics and payloads.
    pub message_bytes: Counter,
    /// Messages that were handed over already when they came again.
    pub redelivered: Counter,
    /// Further copies of a message, for further subscriptions that match it.
    pub copies: Counter,
    /// Messages that the broker waits to hear of.
    pub unacknowledged: Gauge,
    /// Topic filters that the broker sends messages for.
    pub topics: Gauge,
    pub last_message: Moment,
}

impl MqttBoard {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            link: LinkBoard::new("mqtt", now),
            sessions: Counter::default(),
            messages: Counter::default(),
            message_bytes: Counter::default(),
            redelivered: Counter::default(),
            copies: Counter::default(),
            unacknowledged: Gauge::default(),
            topics: Gauge::default(),
            last_message: Moment::default(),
        }
    }

    pub(super) fn snapshot(&self) -> Mqtt {
        Mqtt {
            link: self.link.snapshot(),
            sessions: self.sessions.get(),
            messages: self.messages.get(),
            message_bytes: self.message_bytes.get(),
            redelivered: self.redelivered.get(),
            copies: self.copies.get(),
            unacknowledged: self.unacknowledged.get(),
            topics: self.topics.get(),
            last_message: self.last_message.get(),
        }
    }
}
