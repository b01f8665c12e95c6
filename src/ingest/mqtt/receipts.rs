//! Which messages were handed over and not yet acknowledged.
//!
//! The broker sends a message again, in a later connection, until it is acknowledged. What is handed over already is then
//! not handed over a second time, and acknowledged when it is safe. That is so as well for what was acknowledged just before
//! the connection broke: a broker that is stopped reads no more while it saves what it has. Acknowledgements go out in the order in which the
//! messages came in the present connection (MQTT 5, section 4.6). In doubt a message is handed over: twice is better than
//! never.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Of the acknowledgements of a connection the last so many may not have been read by the broker: those of a few seconds.
const MOST_UNREAD: usize = 4_096;

/// A message as the broker delivers it.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    pub topic: &'a [u8],
    pub payload: &'a [u8],
    /// `None`: the broker wants no acknowledgement.
    pub packet: Option<u16>,
    /// The broker says that it sent it before.
    pub again: bool,
    /// For which subscriptions it comes. Empty, if the broker does not say so.
    pub subscriptions: &'a [usize],
}

/// What is done with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is handed over under this receipt.
    New(u64),
    /// It was handed over in an earlier connection.
    Redelivered,
    /// The message before it, for another subscription.
    Copy,
}

#[derive(Debug, Default)]
pub struct Receipts {
    last_receipt: u64,
    /// In the order in which they came in this connection.
    open: VecDeque<Open>,
    /// So many of them, from the first, have an acknowledgement that is on its way to the connection.
    on_their_way: usize,
    /// The last that were acknowledged in this connection, the oldest first.
    acknowledged: VecDeque<Open>,
    /// Of earlier connections, and not yet sent again.
    earlier: VecDeque<Open>,
    /// Acknowledged in the connection before. What the broker did not read of that it sends again before anything else.
    maybe_unread: VecDeque<Open>,
    last: Option<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    receipt: u64,
    packet: u16,
    print: u64,
}

/// The last message, and for which subscriptions it came.
#[derive(Debug)]
struct Last {
    print: u64,
    receipt: u64,
    subscriptions: Vec<usize>,
}

impl Receipts {
    /// A connection has begun. Without a session the broker has forgotten what it sent, and its packet numbers.
    pub fn connected(&mut self, session_is_present: bool) {
        self.on_their_way = 0;
        self.maybe_unread = std::mem::take(&mut self.acknowledged);
        if session_is_present {
            self.earlier.append(&mut self.open);
        } else {
            self.open.clear();
            self.earlier.clear();
            self.maybe_unread.clear();
        }
        self.last = None;
    }

    /// From now on the subscriptions are others: what comes is no copy of what came.
    pub fn subscriptions_changed(&mut self) {
        self.last = None;
    }

    pub fn take(&mut self, delivery: &Delivery<'_>) -> Taken {
        let print = fingerprint(delivery);
        if !delivery.again {
            self.maybe_unread.clear();
        }
        if let Some(packet) = delivery.packet
            && let Some(open) = self.of_earlier(packet)
            && delivery.again
            && open.print == print
        {
            self.open.push_back(open);
            return Taken::Redelivered;
        }
        let copied = self.copied(print, delivery.subscriptions);
        let receipt = copied.unwrap_or_else(|| {
            self.last_receipt += 1;
            let subscriptions = delivery.subscriptions.to_vec();
            self.last = Some(Last { print, receipt: self.last_receipt, subscriptions });
            self.last_receipt
        });
        self.open.extend(delivery.packet.map(|packet| Open { receipt, packet, print }));
        if copied.is_some() { Taken::Copy } else { Taken::New(receipt) }
    }

    /// A number stands for what was sent last under it.
    fn of_earlier(&mut self, packet: u16) -> Option<Open> {
        let known = self.earlier.iter().position(|open| open.packet == packet);
        if let Some(at) = known {
            return self.earlier.remove(at);
        }
        let known = self.maybe_unread.iter().rposition(|open| open.packet == packet)?;
        self.maybe_unread.remove(known)
    }

    /// MQTT 5 sends a message once for each subscription that matches it, one copy after the other. Another message that is
    /// the same comes for a subscription for which one came before.
    fn copied(&mut self, print: u64, subscriptions: &[usize]) -> Option<u64> {
        let last = self.last.as_mut().filter(|last| last.print == print)?;
        let is_copy = !subscriptions.is_empty()
            && !last.subscriptions.is_empty()
            && subscriptions.iter().all(|id| !last.subscriptions.contains(id));
        is_copy.then(|| {
            last.subscriptions.extend(subscriptions);
            last.receipt
        })
    }

    /// The packet that is to be acknowledged next, if all up to the receipt `safe` is. Then [`Self::acknowledge`].
    #[must_use]
    pub fn due(&self, safe: u64) -> Option<u16> {
        self.open.get(self.on_their_way).filter(|open| open.receipt <= safe).map(|open| open.packet)
    }

    /// The one that is due is on its way to the connection. Then [`Self::acknowledged`], or the connection ends first.
    pub fn acknowledge(&mut self) {
        self.on_their_way += 1;
    }

    /// The oldest one that was on its way was sent.
    pub fn acknowledged(&mut self) {
        if self.on_their_way > 0 {
            self.on_their_way -= 1;
            self.acknowledged.extend(self.open.pop_front());
            if self.acknowledged.len() > MOST_UNREAD {
                self.acknowledged.pop_front();
            }
        }
    }

    #[must_use]
    pub fn on_their_way(&self) -> usize {
        self.on_their_way
    }

    /// Messages of this connection that the broker waits to hear of.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.open.len()
    }
}

fn fingerprint(delivery: &Delivery<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (delivery.topic, delivery.payload).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::{Delivery, MOST_UNREAD, Receipts, Taken};

    /// The packet, whether it came before, the payload.
    fn take(receipts: &mut Receipts, packet: u16, again: bool, payload: &str) -> Taken {
        receipts.take(&Delivery {
            topic: b"a/b",
            payload: payload.as_bytes(),
            packet: Some(packet),
            again,
            subscriptions: &[],
        })
    }

    fn acknowledge(receipts: &mut Receipts, safe: u64) -> Vec<u16> {
        std::iter::from_fn(|| {
            let packet = receipts.due(safe)?;
            receipts.acknowledge();
            receipts.acknowledged();
            Some(packet)
        })
        .collect()
    }

    #[test]
    fn what_is_safe_is_acknowledged_in_the_order_in_which_it_came() {
        let mut receipts = Receipts::default();
        for (packet, receipt) in [(7, 1), (3, 2), (9, 3)] {
            assert_eq!(take(&mut receipts, packet, false, "on"), Taken::New(receipt));
        }
        assert_eq!(acknowledge(&mut receipts, 0), [] as [u16; 0]);
        assert_eq!(acknowledge(&mut receipts, 2), [7, 3]);
        assert_eq!(receipts.unacknowledged(), 1);
        assert_eq!(acknowledge(&mut receipts, 10), [9]);
    }

    #[test]
    fn a_message_that_wants_no_acknowledgement_has_a_receipt_all_the_same() {
        let mut receipts = Receipts::default();
        let delivery = Delivery { topic: b"a", payload: b"1", packet: None, again: false, subscriptions: &[] };
        assert_eq!(receipts.take(&delivery), Taken::New(1));
        assert_eq!(receipts.take(&delivery), Taken::New(2));
        assert_eq!((receipts.unacknowledged(), receipts.due(2)), (0, None));
    }

    #[test]
    fn a_redelivered_message_is_handed_over_once_and_acknowledged_when_it_came_again() {
        let mut receipts = Receipts::default();
        take(&mut receipts, 1, false, "on");
        take(&mut receipts, 2, false, "off");
        receipts.connected(true);
        assert_eq!(receipts.due(2), None, "the broker has not sent it in this connection");
        assert_eq!(take(&mut receipts, 1, true, "on"), Taken::Redelivered);
        assert_eq!(take(&mut receipts, 2, true, "off"), Taken::Redelivered);
        assert_eq!(take(&mut receipts, 3, false, "on"), Taken::New(3));
        assert_eq!(acknowledge(&mut receipts, 2), [1, 2]);
        assert_eq!(acknowledge(&mut receipts, 3), [3]);
    }

    #[test]
    fn an_acknowledgement_that_did_not_leave_is_owed_again() {
        let mut receipts = Receipts::default();
        for packet in [1, 2, 3] {
            take(&mut receipts, packet, false, "on");
        }
        assert_eq!(receipts.due(3), Some(1));
        receipts.acknowledge();
        assert_eq!((receipts.due(3), receipts.on_their_way(), receipts.unacknowledged()), (Some(2), 1, 3));
        receipts.acknowledge();
        receipts.acknowledged();
        assert_eq!((receipts.on_their_way(), receipts.unacknowledged()), (1, 2));
        receipts.connected(true);
        assert_eq!(take(&mut receipts, 2, true, "on"), Taken::Redelivered);
        assert_eq!(take(&mut receipts, 3, true, "on"), Taken::Redelivered);
        assert_eq!(acknowledge(&mut receipts, 3), [2, 3]);
    }

    #[test]
    fn an_acknowledgement_that_the_broker_did_not_read_is_owed_again() {
        let mut receipts = Receipts::default();
        for (packet, payload) in [(1, "on"), (2, "off"), (3, "on")] {
            take(&mut receipts, packet, false, payload);
        }
        assert_eq!(acknowledge(&mut receipts, 3), [1, 2, 3]);
        // The number of what is acknowledged may be that of another message: the broker has read it then.
        take(&mut receipts, 1, false, "dim");
        assert_eq!(acknowledge(&mut receipts, 4), [1]);
        receipts.connected(true);
        assert_eq!(take(&mut receipts, 2, true, "off"), Taken::Redelivered);
        assert_eq!(take(&mut receipts, 3, true, "off"), Taken::New(5), "it only looks like one");
        assert_eq!(take(&mut receipts, 1, true, "dim"), Taken::Redelivered);
        assert_eq!(acknowledge(&mut receipts, 5), [2, 3, 1]);

        receipts.connected(true);
        assert_eq!(take(&mut receipts, 4, false, "on"), Taken::New(6));
        assert_eq!(take(&mut receipts, 2, true, "off"), Taken::New(7), "what comes again comes before all that is new");
        assert_eq!(acknowledge(&mut receipts, 7), [4, 2]);
        receipts.connected(true);
        receipts.connected(true);
        assert_eq!(take(&mut receipts, 2, true, "off"), Taken::New(8), "it was not sent in the connection before");
        acknowledge(&mut receipts, 8);
        receipts.connected(false);
        assert_eq!(take(&mut receipts, 2, true, "off"), Taken::New(9), "the session is another one");
    }

    #[test]
    fn only_the_last_acknowledgements_are_doubted() {
        let mut receipts = Receipts::default();
        let most = u16::try_from(MOST_UNREAD).unwrap();
        for packet in 1..=most + 1 {
            take(&mut receipts, packet, false, "on");
        }
        assert_eq!(acknowledge(&mut receipts, u64::MAX).len(), MOST_UNREAD + 1);
        receipts.connected(true);
        assert_eq!(take(&mut receipts, 2, true, "on"), Taken::Redelivered);
        assert_eq!(take(&mut receipts, 1, true, "on"), Taken::New(u64::from(most) + 2));
    }

    #[test]
    fn what_only_looks_like_a_redelivery_is_handed_over() {
        for (packet, again, payload, why) in [
            (1, false, "on", "the broker says that it is new"),
            (1, true, "off", "another payload"),
            (2, true, "on", "another packet"),
        ] {
            let mut receipts = Receipts::default();
            take(&mut receipts, 1, false, "on");
            receipts.connected(true);
            assert_eq!(take(&mut receipts, packet, again, payload), Taken::New(2), "{why}");
        }
        let mut receipts = Receipts::default();
        take(&mut receipts, 1, false, "on");
        assert_eq!(take(&mut receipts, 1, true, "on"), Taken::New(2), "in the same connection");
        receipts.connected(false);
        assert_eq!(take(&mut receipts, 1, true, "on"), Taken::New(3), "the session is another one");
        assert_eq!(acknowledge(&mut receipts, 3), [1], "what came in the other session is forgotten");
    }

    #[test]
    fn what_waits_through_two_connections_is_still_known() {
        let mut receipts = Receipts::default();
        take(&mut receipts, 1, false, "on");
        take(&mut receipts, 2, false, "off");
        receipts.connected(true);
        assert_eq!(take(&mut receipts, 1, true, "on"), Taken::Redelivered);
        receipts.connected(true);
        assert_eq!(take(&mut receipts, 1, true, "on"), Taken::Redelivered);
        assert_eq!(take(&mut receipts, 2, true, "off"), Taken::Redelivered);
    }

    #[test]
    fn copies_for_further_subscriptions_are_one_message_and_repeated_messages_are_not() {
        let mut receipts = Receipts::default();
        let mut packet = 0;
        let mut came_for = |subscriptions: &[usize]| {
            packet += 1;
            receipts.take(&Delivery { topic: b"a", payload: b"on", packet: Some(packet), again: false, subscriptions })
        };
        assert_eq!(came_for(&[1]), Taken::New(1));
        assert_eq!(came_for(&[2]), Taken::Copy);
        assert_eq!(came_for(&[1]), Taken::New(2), "the same once more");
        assert_eq!(came_for(&[2]), Taken::Copy);
        assert_eq!(came_for(&[2]), Taken::New(3), "for this subscription one came");
        assert_eq!(came_for(&[]), Taken::New(4), "the broker does not say for which");
        assert_eq!(came_for(&[2]), Taken::New(5));
        assert_eq!(acknowledge(&mut receipts, 1), [1, 2], "a copy is as safe as what it is a copy of");
        receipts.subscriptions_changed();
        assert_eq!(
            receipts.take(&Delivery {
                topic: b"a",
                payload: b"on",
                packet: Some(9),
                again: false,
                subscriptions: &[3]
            }),
            Taken::New(6)
        );
    }
}
