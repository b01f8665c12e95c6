//! The home and everybody who listens to it, under one lock: what one event loop is to Home Assistant.
//!
//! It knows no sockets. Every client has an outbox, which its connection empties. A storm that fills an outbox before
//! the connection gets its turn cuts the client off, exactly as it happens in Home Assistant.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::flood::Flood;
use super::home::Home;
use super::knobs::Knobs;
use super::protocol::{self, Broadcast};
use super::session::{Action, Session};
use super::state::{Entry, Happening};
use crate::model::time::Timestamp;

/// Home Assistant's `MAX_PENDING_MSG`.
const MAX_PENDING_MESSAGES: usize = 4096;

pub(super) struct Hub {
    pub(super) home: Home,
    clients: Vec<Client>,
    ledger: VecDeque<Entry>,
    /// Changes made, floods included.
    made: u64,
    /// Clients served, so the number of the next.
    served: u64,
    /// With the client it runs for.
    flood: Option<(u64, Flood)>,
}

struct Client {
    number: u64,
    session: Session,
    outbox: VecDeque<String>,
    leaving: bool,
    /// How a message begins in which the connection ends.
    torn: Option<String>,
    bell: Arc<Notify>,
    cut: CancellationToken,
}

/// What a connection holds of its client.
pub(super) struct Seat {
    pub(super) number: u64,
    /// Rings when there may be something to send.
    pub(super) bell: Arc<Notify>,
    /// The client is to be closed at once, whatever is still in its outbox.
    pub(super) cut: CancellationToken,
}

/// What a connection does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Send(String),
    /// So a message begins; before its end the connection is gone.
    Break(String),
    /// Nothing for now.
    Wait,
    /// Everything is said.
    Leave,
}

impl Hub {
    pub(super) fn new(home: Home) -> Self {
        Self { home, clients: Vec::new(), ledger: VecDeque::new(), made: 0, served: 0, flood: None }
    }

    pub(super) fn enter(&mut self, knobs: &Knobs) -> Seat {
        self.served += 1;
        let client = Client {
            number: self.served,
            session: Session::new((!knobs.refuse_auth).then(|| knobs.token.clone())),
            outbox: VecDeque::from([protocol::auth_required()]),
            leaving: false,
            torn: None,
            bell: Arc::new(Notify::new()),
            cut: CancellationToken::new(),
        };
        let seat = Seat { number: client.number, bell: Arc::clone(&client.bell), cut: client.cut.clone() };
        self.clients.push(client);
        seat
    }

    /// Returns whether its connection ended in the middle of a message.
    pub(super) fn leave(&mut self, number: u64) -> bool {
        let is_torn = |client: &Client| client.number == number && client.torn.is_some();
        let is_torn = self.clients.iter().any(is_torn);
        self.clients.retain(|client| client.number != number);
        self.end_flood(number);
        is_torn
    }

    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    pub(super) fn made(&self) -> u64 {
        self.made
    }

    pub(super) fn ledger(&self) -> Vec<Entry> {
        self.ledger.iter().cloned().collect()
    }

    /// A client said something.
    pub(super) fn hear(&mut self, number: u64, text: &str, knobs: &Knobs, now: Timestamp) {
        let Some(place) = self.clients.iter().position(|client| client.number == number) else { return };
        for action in self.clients[place].session.handle(text, &mut self.home, now) {
            match action {
                Action::Send(message) => self.clients[place].push(message, knobs),
                Action::Happened(happening) => self.tell(&happening, knobs),
                Action::Break(part) => {
                    self.clients[place].torn = Some(part);
                    self.clients[place].leave();
                }
                Action::HangUp => self.clients[place].leave(),
            }
        }
        self.continue_streams(knobs, now);
    }

    /// Tells those who wait for the recorder to commit that it has, if it has.
    pub(super) fn continue_streams(&mut self, knobs: &Knobs, now: Timestamp) {
        for client in &mut self.clients {
            for event in client.session.continue_streams(&mut self.home, now) {
                client.push(event, knobs);
            }
        }
    }

    /// Tells everybody who wants to know, and the ledger.
    pub(super) fn tell(&mut self, happening: &Happening, knobs: &Knobs) {
        if let Happening::State(change) = happening {
            self.made += 1;
            enter_in_ledger(&mut self.ledger, knobs.ledger, || change.entry());
        }
        let broadcast = Broadcast::new(happening);
        for client in &mut self.clients {
            let Client { session, outbox, bell, cut, .. } = client;
            session.announce(&broadcast, |message| push(outbox, bell, cut, message, knobs));
        }
    }

    /// So many changes in one turn.
    pub(super) fn change(&mut self, count: u64, knobs: &Knobs, now: Timestamp) {
        for _ in 0..count {
            let Some(change) = self.home.next_change(now) else { return };
            self.tell(&Happening::State(change), knobs);
        }
    }

    /// Something that is no change of a state.
    pub(super) fn act(&mut self, knobs: &Knobs, now: Timestamp) {
        let happening = self.home.next_event(now);
        self.tell(&happening, knobs);
    }

    /// Any text, to everybody.
    pub(super) fn inject(&mut self, text: &str, knobs: &Knobs) {
        for client in &mut self.clients {
            client.push(text.to_owned(), knobs);
        }
    }

    /// Closes every connection.
    pub(super) fn cut_all(&self) {
        for client in &self.clients {
            client.cut.cancel();
        }
    }

    /// The next frame for a client.
    pub(super) fn next(&mut self, number: u64, knobs: &Knobs) -> Next {
        let Some(client) = self.clients.iter_mut().find(|client| client.number == number) else { return Next::Leave };
        if knobs.silent {
            return Next::Wait;
        }
        if client.outbox.len() > 1 && knobs.coalesce && client.session.coalesces() {
            let messages = std::mem::take(&mut client.outbox);
            let mut frame = String::with_capacity(messages.iter().map(|message| message.len() + 1).sum::<usize>() + 1);
            for (at, message) in messages.iter().enumerate() {
                frame.push(if at == 0 { '[' } else { ',' });
                frame.push_str(message);
            }
            frame.push(']');
            return Next::Send(frame);
        }
        match client.outbox.pop_front() {
            Some(message) => Next::Send(message),
            None if client.leaving => client.torn.clone().map_or(Next::Leave, Next::Break),
            None => Next::Wait,
        }
    }

    /// Begins a flood for this client, if it has subscribed to entities and none is running.
    pub(super) fn begin_flood(&mut self, number: u64) -> bool {
        let Some(client) = self.clients.iter().find(|client| client.number == number) else { return false };
        let Some((id, scope)) = client.session.entities() else { return false };
        if self.flood.is_none() {
            self.flood = Flood::new(&self.home, id, |entity_id| scope.covers(entity_id)).map(|flood| (number, flood));
        }
        self.flood.as_ref().is_some_and(|(of, _)| *of == number)
    }

    /// So many events of the flood. One frame if the client reads several messages in one, else a frame each.
    pub(super) fn flood(&mut self, number: u64, events: usize, knobs: &Knobs, now: Timestamp) -> Vec<Vec<u8>> {
        let Some(client) = self.clients.iter().find(|client| client.number == number) else { return Vec::new() };
        let Some((_, flood)) = self.flood.as_mut().filter(|(of, _)| *of == number) else { return Vec::new() };
        let together = knobs.coalesce && client.session.coalesces();
        let (frames, per_frame) = if together { (1, events) } else { (events, 1) };
        let ledger = &mut self.ledger;
        self.made += events as u64;
        let mut frame = || flood.frame(per_frame, now, |entry| enter_in_ledger(ledger, knobs.ledger, entry));
        (0..frames).map(|_| frame()).collect()
    }

    pub(super) fn end_flood(&mut self, number: u64) {
        if let Some((_, flood)) = self.flood.take_if(|(of, _)| *of == number) {
            flood.settle(&mut self.home);
        }
    }
}

impl Client {
    fn push(&mut self, message: String, knobs: &Knobs) {
        push(&mut self.outbox, &self.bell, &self.cut, message, knobs);
    }

    fn leave(&mut self) {
        self.leaving = true;
        self.bell.notify_one();
    }
}

fn push(outbox: &mut VecDeque<String>, bell: &Notify, cut: &CancellationToken, message: String, knobs: &Knobs) {
    if knobs.silent {
        return;
    }
    outbox.push_back(message);
    if knobs.cut_slow_clients && outbox.len() >= MAX_PENDING_MESSAGES {
        cut.cancel();
    }
    bell.notify_one();
}

fn enter_in_ledger(ledger: &mut VecDeque<Entry>, limit: usize, entry: impl FnOnce() -> Entry) {
    if limit == 0 {
        return;
    }
    while ledger.len() >= limit {
        ledger.pop_front();
    }
    ledger.push_back(entry());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::{Hub, Next, Seat};
    use crate::demo::home::Home;
    use crate::demo::knobs::Knobs;
    use crate::demo::protocol;
    use crate::model::time::Timestamp;

    const NOW: Timestamp = Timestamp::from_micros(1_795_448_984_123_456);

    /// A client that merges what it is told, in the simplest way that is right.
    #[derive(Default)]
    struct Merger(BTreeMap<String, Map<String, Value>>);

    impl Merger {
        fn take(&mut self, frame: &str) {
            let frame: Value = serde_json::from_str(frame).unwrap();
            for message in frame.as_array().unwrap_or(&vec![frame.clone()]) {
                self.apply(&message["event"]);
            }
        }

        fn apply(&mut self, event: &Value) {
            for (id, state) in event["a"].as_object().into_iter().flatten() {
                self.0.insert(id.clone(), state.as_object().unwrap().clone());
            }
            for id in event["r"].as_array().into_iter().flatten() {
                self.0.remove(id.as_str().unwrap()).expect("only what is there is removed");
            }
            for (id, change) in event["c"].as_object().into_iter().flatten() {
                let state = self.0.get_mut(id).expect("only what is there changes");
                for name in change["-"]["a"].as_array().into_iter().flatten() {
                    state["a"].as_object_mut().unwrap().remove(name.as_str().unwrap()).expect("it was there");
                }
                for (key, value) in change["+"].as_object().into_iter().flatten() {
                    match (key.as_str(), value) {
                        ("a", new) => {
                            let known = state["a"].as_object_mut().unwrap();
                            known.extend(new.as_object().unwrap().clone());
                        }
                        ("c", Value::Object(new)) => {
                            let mut context = match &state["c"] {
                                Value::Object(known) => known.clone(),
                                id => {
                                    json!({"id": id, "parent_id": null, "user_id": null}).as_object().unwrap().clone()
                                }
                            };
                            context.extend(new.clone());
                            state.insert("c".into(), Value::Object(context));
                        }
                        ("c", id) if state["c"].is_object() => state["c"]["id"] = id.clone(),
                        ("lc", time) => {
                            state.insert("lc".into(), time.clone());
                            state.remove("lu");
                        }
                        (key, value) => {
                            state.insert(key.to_owned(), value.clone());
                        }
                    }
                }
            }
        }

        /// A context with no user is the same as its id alone.
        fn plain(&self) -> BTreeMap<String, Map<String, Value>> {
            let mut plain = self.0.clone();
            for state in plain.values_mut() {
                if state["c"]["user_id"].is_null() && state["c"].is_object() {
                    let id = state["c"]["id"].clone();
                    state.insert("c".into(), id);
                }
            }
            plain
        }
    }

    fn whole(home: &Home) -> Merger {
        let mut merger = Merger::default();
        merger.take(&protocol::snapshot(1, home.states().map(|(id, state)| (&**id, &**state))));
        merger
    }

    fn subscribed(hub: &mut Hub, knobs: &Knobs) -> Seat {
        let seat = hub.enter(knobs);
        for text in [
            r#"{"type":"auth","access_token":"demo"}"#,
            r#"{"id":1,"type":"supported_features","features":{"coalesce_messages":1}}"#,
            r#"{"id":2,"type":"subscribe_entities"}"#,
        ] {
            hub.hear(seat.number, text, knobs, NOW);
        }
        seat
    }

    fn drain(hub: &mut Hub, seat: &Seat, knobs: &Knobs, merger: &mut Merger) {
        while let Next::Send(frame) = hub.next(seat.number, knobs) {
            merger.take(&frame);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn merged_differences_are_the_home_itself(seed: u64, entities in 1..150_usize, removed in 0..20_usize) {
            let knobs = Knobs::default();
            let mut hub = Hub::new(Home::new(seed, entities, NOW));
            let seat = subscribed(&mut hub, &knobs);
            let mut merger = Merger::default();
            let ids: Vec<_> = hub.home.states().map(|(id, _)| id.clone()).collect();
            for round in 0..20 {
                hub.change(500, &knobs, NOW);
                drain(&mut hub, &seat, &knobs, &mut merger);
                let id = &ids[(round * 7) % ids.len()];
                let call = json!({"id": 10 + round, "type": "call_service", "domain": "homeassistant",
                    "service": "toggle", "target": {"entity_id": &**id}});
                hub.hear(seat.number, &call.to_string(), &knobs, NOW);
                if round < removed
                    && let Some(change) = hub.home.remove(id, NOW)
                {
                    hub.tell(&crate::demo::state::Happening::State(change), &knobs);
                    // It comes back as something that the home does not change by itself.
                    let back = hub.home.set(id, "back", crate::model::value::Attributes::default(), NOW).unwrap();
                    hub.tell(&crate::demo::state::Happening::State(back), &knobs);
                }
            }
            drain(&mut hub, &seat, &knobs, &mut merger);
            prop_assert_eq!(merger.plain(), whole(&hub.home).plain());
        }

        #[test]
        fn a_flood_ends_with_what_the_home_takes_over(seed: u64, entities in 1..150_usize, per_frame in 1..700_usize) {
            let knobs = Knobs { ledger: 100_000, ..Knobs::default() };
            let mut hub = Hub::new(Home::new(seed, entities, NOW));
            let seat = subscribed(&mut hub, &knobs);
            let mut merger = Merger::default();
            drain(&mut hub, &seat, &knobs, &mut merger);
            prop_assume!(hub.begin_flood(seat.number));
            for _ in 0..5 {
                for frame in hub.flood(seat.number, per_frame, &knobs, NOW) {
                    merger.take(std::str::from_utf8(&frame).unwrap());
                }
            }
            hub.end_flood(seat.number);
            prop_assert_eq!(hub.ledger().len(), 5 * per_frame);
            prop_assert!(hub.ledger().windows(2).all(|pair| pair[0].last_updated < pair[1].last_updated));
            prop_assert_eq!(merger.plain(), whole(&hub.home).plain());
            // And the home goes on from there.
            hub.change(50, &knobs, NOW);
            drain(&mut hub, &seat, &knobs, &mut merger);
            prop_assert_eq!(merger.plain(), whole(&hub.home).plain());
        }
    }

    #[test]
    fn the_ledger_holds_the_last_changes_as_a_correct_reader_sees_them() {
        let knobs = Knobs { ledger: 100, ..Knobs::default() };
        let mut hub = Hub::new(Home::new(1, 30, NOW));
        let seat = subscribed(&mut hub, &knobs);
        while let Next::Send(_) = hub.next(seat.number, &knobs) {}
        hub.change(250, &knobs, NOW);
        let (ledger, made) = (hub.ledger(), hub.made());
        assert_eq!((ledger.len(), made), (100, 250));
        let Next::Send(frame) = hub.next(seat.number, &knobs) else { panic!("250 changes are waiting") };
        let frame: Value = serde_json::from_str(&frame).unwrap();
        let told: Vec<_> = frame.as_array().unwrap()[150..]
            .iter()
            .map(|message| {
                let (id, change) = message["event"]["c"].as_object().unwrap().iter().next().unwrap();
                let plus = &change["+"];
                let time = plus.get("lu").or(plus.get("lc")).unwrap().as_f64().unwrap();
                (id.clone(), Timestamp::from_unix_seconds(time).unwrap())
            })
            .collect();
        let booked: Vec<_> = ledger.iter().map(|entry| (entry.entity_id.to_string(), entry.last_updated)).collect();
        assert_eq!(told, booked);
    }

    #[test]
    fn the_4096th_message_that_waits_cuts_the_client_off() {
        for (count, cut) in [(4000, false), (4096, true)] {
            let knobs = Knobs::default();
            let mut hub = Hub::new(Home::new(1, 30, NOW));
            let seat = subscribed(&mut hub, &knobs);
            while let Next::Send(_) = hub.next(seat.number, &knobs) {}
            hub.change(count, &knobs, NOW);
            assert_eq!(seat.cut.is_cancelled(), cut, "{count}");
        }
    }
}
