//! Whole sessions, at the wire, with a Home Assistant that says what the story wants.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};
use tokio_util::sync::CancellationToken;

use super::session::Patience;
use super::{Limits, ProbeError, probe, run_within, session_id};
use crate::config::secret::Secret;
use crate::config::settings::{EntitySet, Filter, HomeAssistant, Tls};
use crate::demo::handle::Handle;
use crate::demo::home::Home;
use crate::demo::knobs::Knobs;
use crate::demo::server::Simulator;
use crate::ingest::retry::Pauses;
use crate::model::event::{Arrival, Event};
use crate::model::registries::Named;
use crate::model::time::Timestamp;
use crate::rules::Rules;
use crate::runtime::backoff::Policy;
use crate::runtime::clock;
use crate::runtime::group::{Group, shut_down};
use crate::status::board::Board;
use crate::status::snapshot::{LinkState, Snapshot};

const TOKEN: &str = "a-long-lived-token";
const REQUIRED: &str = include_str!("../../../tests/fixtures/hass/auth_required.json");
const OK: &str = include_str!("../../../tests/fixtures/hass/auth_ok.json");
const INVALID: &str = include_str!("../../../tests/fixtures/hass/auth_invalid.json");
const SNAPSHOT: &str = include_str!("../../../tests/fixtures/hass/snapshot.json");
const ARRAY: &str = include_str!("../../../tests/fixtures/hass/array.json");
const EMPTY: &str = include_str!("../../../tests/fixtures/hass/snapshot_empty.json");
const ADDED: &str = include_str!("../../../tests/fixtures/hass/added.json");
const CHANGED: &str = include_str!("../../../tests/fixtures/hass/changed_state.json");

/// The ids of the commands that ask for the registries, and that of the one that asks for the states after them.
const LISTS: RangeInclusive<u64> = 7..=11;
const ENTITIES: u64 = 12;

/// Nothing here takes long; a story that hangs must not.
const SOON: Duration = Duration::from_secs(20);

/// Patience of a test, not of a home.
fn limits() -> Limits {
    Limits {
        pauses: Pauses {
            failures: Policy { first: Duration::from_millis(1), longest: Duration::from_millis(5) },
            ..Pauses::default()
        },
        tick: Duration::from_millis(5),
        ..Limits::default()
    }
}

/// The service's side, with the pipeline's end of the channel, and the port on which Home Assistant is expected.
struct Bench {
    listener: TcpListener,
    events: mpsc::Receiver<Arrival>,
    rules: watch::Sender<Arc<Rules>>,
    board: Arc<Board>,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Bench {
    async fn start(limits: Limits) -> Self {
        Self::start_with(limits, Rules::default()).await
    }

    async fn start_with(limits: Limits, rules: Rules) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (sender, events) = mpsc::channel(4);
        let board = Arc::new(Board::new(Instant::now(), Timestamp::from_micros(0)));
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        let settings = settings(&listener, "ws");
        let rules = watch::Sender::new(Arc::new(rules));
        let (news, _) = mpsc::unbounded_channel();
        task.spawn(run_within(limits, settings, rules.subscribe(), (sender, news), Arc::clone(&board), stop.clone()));
        Self { listener, events, rules, board, stop, task }
    }

    async fn welcome(&self, snapshot: &str) -> Peer {
        Peer::welcome(&self.listener, snapshot).await
    }

    /// The next events, whatever becomes known before them.
    async fn events(&mut self) -> Vec<Event> {
        loop {
            if let Arrival::Events(events) = self.arrival().await {
                return events;
            }
        }
    }

    async fn arrival(&mut self) -> Arrival {
        timeout(SOON, self.events.recv()).await.expect("something comes soon").expect("the session goes on")
    }

    fn status(&self) -> Snapshot {
        self.board.snapshot(Instant::now(), Timestamp::from_micros(0))
    }

    /// Looks until the status is as it should be.
    async fn until(&self, what: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let look = async {
            loop {
                let status = self.status();
                if what(&status) {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, look).await.unwrap_or_else(|_| panic!("the status stays {:?}", self.status()))
    }

    /// Stops the service, which must say goodbye to `peer`, end soon, and have counted what it handed over.
    async fn finish(mut self, peer: Option<Peer>, handed_over: usize) {
        self.stop.cancel();
        timeout(SOON, self.task.join_next()).await.expect("it ends soon").expect("one task").expect("no panic");
        if let Some(mut peer) = peer {
            assert!(matches!(peer.next().await, Some(Message::Close(_))));
        }
        let mut left = 0;
        while let Ok(arrival) = self.events.try_recv() {
            if let Arrival::Events(events) = arrival {
                left += events.len();
            }
        }
        assert_eq!(self.status().arrivals.received(), (handed_over + left) as u64);
    }
}

fn settings(listener: &TcpListener, scheme: &str) -> HomeAssistant {
    let place = listener.local_addr().unwrap();
    HomeAssistant {
        url: format!("{scheme}://{place}/api/websocket").parse().unwrap(),
        token: Secret::new(TOKEN),
        tls: Tls { verify: true, ca_certificate: None },
    }
}

/// Home Assistant's side of one connection.
struct Peer(WebSocketStream<TcpStream>);

impl Peer {
    async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = timeout(SOON, listener.accept()).await.expect("a connection comes soon").unwrap();
        let config = WebSocketConfig::default().max_frame_size(None).max_message_size(None);
        Self(accept_async_with_config(stream, Some(config)).await.unwrap())
    }

    /// Plays Home Assistant up to and including the first event. It is one that has no registries.
    async fn welcome(listener: &TcpListener, snapshot: &str) -> Self {
        let mut peer = Self::greet(listener).await;
        for id in LISTS {
            peer.say(&refusal(id, "unknown_command")).await;
        }
        let subscription = peer.hear().await;
        assert_eq!((&subscription["type"], &subscription["id"]), (&"subscribe_entities".into(), &ENTITIES.into()));
        peer.say(&of(ENTITIES, snapshot)).await;
        peer
    }

    /// Plays Home Assistant until the registries are asked for.
    async fn greet(listener: &TcpListener) -> Self {
        let mut peer = Self::accept(listener).await;
        peer.say(REQUIRED).await;
        assert_eq!(peer.hear().await["access_token"], TOKEN);
        peer.say(OK).await;
        assert_eq!(peer.hear().await["features"]["coalesce_messages"], 1);
        for _ in 0..5 {
            assert_eq!(peer.hear().await["type"], "subscribe_events");
        }
        for (id, registry) in LISTS.zip(["entity", "device", "area", "floor", "label"]) {
            let list = peer.hear().await;
            assert_eq!((&list["id"], &list["type"]), (&id.into(), &format!("config/{registry}_registry/list").into()));
        }
        peer
    }

    /// Hears that the subscription `left` ends and `next` begins.
    async fn asked_again(&mut self, left: u64, next: u64) {
        let unsubscribe = self.hear().await;
        assert_eq!((&unsubscribe["type"], &unsubscribe["subscription"]), (&"unsubscribe_events".into(), &left.into()));
        let subscribe = self.hear().await;
        assert_eq!((&subscribe["type"], &subscribe["id"]), (&"subscribe_entities".into(), &next.into()));
    }

    async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    async fn next(&mut self) -> Option<Message> {
        timeout(SOON, self.0.next()).await.expect("a frame comes soon").and_then(Result::ok)
    }

    async fn hear(&mut self) -> serde_json::Value {
        let Some(Message::Text(text)) = self.next().await else { panic!("a command") };
        serde_json::from_str(&text).unwrap()
    }
}

/// The same message for another subscription.
fn of(id: u64, message: &str) -> String {
    let message: serde_json::Value = serde_json::from_str(message).unwrap();
    let with_id = |mut message: serde_json::Value| {
        message["id"] = id.into();
        message
    };
    match message {
        serde_json::Value::Array(messages) => messages.into_iter().map(with_id).collect::<serde_json::Value>(),
        message => with_id(message),
    }
    .to_string()
}

fn refusal(id: u64, code: &str) -> String {
    format!(r#"{{"id":{id},"type":"result","success":false,"error":{{"code":"{code}","message":"Unknown command."}}}}"#)
}

fn list(id: u64, rows: &str) -> String {
    format!(r#"{{"id":{id},"type": "result","success":true,"result": {rows}}}"#)
}

/// Takes one connection and answers its request with a status.
async fn answer(listener: &TcpListener, status: &str) {
    let (mut stream, _) = timeout(SOON, listener.accept()).await.expect("a connection comes soon").unwrap();
    let mut request = [0; 4_096];
    let _read = stream.read(&mut request).await.unwrap();
    stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
}

fn removed(events: &[Event]) -> Vec<&str> {
    events.iter().filter_map(|event| if let Event::Removed(id) = event { Some(id.as_str()) } else { None }).collect()
}

#[tokio::test]
async fn a_day_with_home_assistant() {
    let mut bench = Bench::start(limits()).await;
    let mut peer = bench.welcome(SNAPSHOT).await;
    let snapshot = bench.events().await;
    peer.say(&of(ENTITIES, ARRAY)).await;
    let array = bench.events().await;
    assert_eq!(array.len(), ARRAY.matches(r#""type":"event""#).count());
    peer.say(&of(ENTITIES, ADDED)).await;
    peer.say(&of(ENTITIES, CHANGED)).await;
    let (added, changed) = (bench.events().await, bench.events().await);
    assert_eq!((added.len(), changed.len()), (1, 1));

    let status = bench.status();
    assert_eq!((status.home_assistant.state, &*status.home_assistant.detail), (LinkState::Connected, "2025.4.4"));
    assert_eq!((status.hass.sessions, status.hass.frames), (1, 11));
    assert_eq!(status.hass.entities, snapshot.len() as u64 + 1);
    assert!(status.hass.last_event.is_some() && status.tasks.iter().any(|(name, _)| *name == "home_assistant"));
    assert!(status.hass.unreadable.iter().all(|(_, count)| *count == 0), "{:?}", status.hass.unreadable);
    bench.until(|status| status.hass.waiting_bytes == 0).await;
    bench.finish(Some(peer), snapshot.len() + array.len() + 2).await;
}

#[tokio::test]
async fn a_home_assistant_that_starts_is_waited_for() {
    let mut bench = Bench::start(limits()).await;
    answer(&bench.listener, "502 Bad Gateway").await;
    let status = bench.until(|status| !status.home_assistant.detail.is_empty()).await.home_assistant;
    assert_eq!((status.state, &*status.detail), (LinkState::Connecting, "Home Assistant is starting"));
    assert_eq!((status.failures, status.last_error), (0, None));
    let peer = bench.welcome(ADDED).await;
    assert_eq!(bench.events().await.len(), 1);
    bench.finish(Some(peer), 1).await;
}

#[tokio::test]
async fn a_wrong_token_is_not_tried_again_soon() {
    let bench = Bench::start(limits()).await;
    let mut peer = Peer::accept(&bench.listener).await;
    peer.say(REQUIRED).await;
    peer.hear().await;
    peer.say(INVALID).await;
    let status = bench.until(|status| status.home_assistant.failures == 1).await;
    let (_, error) = status.home_assistant.last_error.unwrap();
    assert!(error.contains("create a new long-lived access token") && !error.contains(TOKEN), "{error}");
    assert!(matches!(peer.next().await, Some(Message::Close(_))));
    let again = timeout(Duration::from_millis(50), bench.listener.accept()).await;
    assert!(again.is_err(), "ten times the longest pause passed without another try");
    bench.finish(None, 0).await;
}

#[tokio::test]
async fn garbage_is_counted_and_what_follows_is_read() {
    let mut bench = Bench::start(limits()).await;
    let mut peer = bench.welcome(EMPTY).await;
    peer.0.send(Message::binary(vec![0xff; 10])).await.unwrap();
    peer.say(r#"{"type":"news","id":2}"#).await;
    peer.say(&of(ENTITIES, CHANGED)).await;
    peer.asked_again(12, 14).await;
    peer.say("{\"type\":\"event\",").await;
    peer.say(&of(14, ADDED)).await;
    assert_eq!(bench.events().await.len(), 1);
    let hass = bench.status().hass;
    let counted: Vec<_> = hass.unreadable.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, [("frame", 2), ("unknown_entity", 1)]);
    assert_eq!((hass.unknown_messages, hass.sessions), (1, 1));
    bench.finish(Some(peer), 1).await;
}

#[tokio::test]
async fn a_frame_that_was_lost_is_made_good_in_the_same_session() {
    let mut bench = Bench::start(limits()).await;
    let mut peer = bench.welcome(ADDED).await;
    assert_eq!(bench.events().await.len(), 1);
    peer.say("{\"type\":\"event\",").await;
    peer.asked_again(12, 14).await;
    // What was on its way: neither a snapshot nor a change.
    peer.say(&of(ENTITIES, EMPTY)).await;
    peer.say(&of(ENTITIES, CHANGED)).await;
    peer.say(&of(14, ADDED)).await;
    peer.say(&of(14, CHANGED)).await;
    let (all, changed) = (bench.events().await, bench.events().await);
    assert_eq!((all.len(), removed(&all).len(), changed.len()), (1, 0, 1));
    let status = bench.status();
    assert_eq!((status.hass.sessions, status.home_assistant.connects, status.hass.unknown_messages), (1, 1, 0));
    bench.finish(Some(peer), 3).await;
}

const AREAS: &str = r#"[{"area_id":"kitchen","name":"Kitchen","floor_id":null,"labels":[]}]"#;
const LAMP: &str =
    r#"[{"entity_id":"light.lamp","area_id":"kitchen","labels":[]},{"entity_id":7},{"entity_id":"light.b"}]"#;

/// Where the lamp is, out of what the pipeline is told next.
async fn place_of_the_lamp(bench: &mut Bench) -> Option<String> {
    let Arrival::Registries(registries) = bench.arrival().await else { panic!("the registries come first") };
    let lamp = registries.entities.get("light.lamp");
    lamp.and_then(|lamp| lamp.area.as_ref()).map(|area| area.name.to_string())
}

#[tokio::test]
async fn what_is_known_of_the_entities_comes_before_their_states_and_again_when_it_changed() {
    let rules = Rules { events: vec!["call_service".into(), "secret_event".into()], ..Rules::default() };
    let mut bench = Bench::start_with(limits(), rules).await;
    let mut peer = Peer::greet(&bench.listener).await;
    for (id, rows) in LISTS.zip([LAMP, "[]", AREAS]) {
        peer.say(&list(id, rows)).await;
    }
    peer.say(&refusal(10, "unknown_command")).await;
    peer.say(&list(11, "[]")).await;
    for (id, event_type) in [(12, "call_service"), (13, "secret_event")] {
        let subscription = peer.hear().await;
        assert_eq!((&subscription["id"], &subscription["event_type"]), (&id.into(), &event_type.into()));
    }
    assert_eq!(peer.hear().await["type"], "subscribe_entities");
    peer.say(&refusal(13, "unauthorized")).await;
    peer.say(&of(14, ADDED)).await;
    assert_eq!(place_of_the_lamp(&mut bench).await.as_deref(), Some("Kitchen"));
    assert_eq!(bench.events().await.len(), 1);

    let fired = |event_type: &str, id: u64| {
        let data = r#"{"a":1e400,"b":2},"time_fired":"2026-11-23T13:16:49+00:00"}"#;
        format!(r#"{{"type":"event","event":{{"event_type":"{event_type}","data":{data},"id":{id}}}"#)
    };
    peer.say(&fired("call_service", 12)).await;
    let events = bench.events().await;
    assert!(matches!(&events[..], [Event::Fired(fired)] if fired.data.len() == 1), "{events:?}");

    // A burst of changes, and the floors are gone for good.
    let changed = fired("entity_registry_updated", 2);
    for _ in 0..500 {
        peer.say(&changed).await;
    }
    for (id, rows) in (15..).zip([LAMP.replace("kitchen", "bath"), "[]".into(), AREAS.into(), "[]".into(), "[]".into()])
    {
        assert_eq!(peer.hear().await["id"], id);
        peer.say(&list(id, &rows)).await;
    }
    assert_eq!(place_of_the_lamp(&mut bench).await.as_deref(), Some("bath"));
    let status = bench.status();
    let counted: Vec<_> = status.hass.unreadable.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(counted, [("entity", 2), ("attribute", 1)]);
    assert_eq!((status.hass.sessions, status.hass.unknown_messages), (1, 0));
    bench.finish(Some(peer), 2).await;
}

#[tokio::test]
async fn states_come_without_registries_if_those_do_not_come_in_time() {
    let patience = Patience { registries: Duration::from_millis(20), ..Patience::default() };
    let mut bench = Bench::start_with(Limits { patience, ..limits() }, Rules::default()).await;
    let mut peer = Peer::greet(&bench.listener).await;
    assert_eq!(peer.hear().await["type"], "subscribe_entities");
    peer.say(&of(ENTITIES, ADDED)).await;
    assert!(matches!(bench.arrival().await, Arrival::Live { session: 1 }), "what follows is told from its beginning");
    assert!(matches!(bench.arrival().await, Arrival::Events(events) if events.len() == 1));
    for (id, rows) in LISTS.zip([LAMP, "[]", AREAS, "[]", "[]"]) {
        peer.say(&list(id, rows)).await;
    }
    assert_eq!(place_of_the_lamp(&mut bench).await.as_deref(), Some("Kitchen"));
    bench.finish(Some(peer), 1).await;
}

#[tokio::test]
async fn other_rules_are_other_subscriptions_in_the_same_session() {
    let mut bench = Bench::start(limits()).await;
    let mut peer = bench.welcome(ADDED).await;
    assert_eq!(bench.events().await.len(), 1);
    let include = EntitySet { domains: vec!["fix".into()], ..EntitySet::default() };
    let filter = Filter { include, ..Filter::default() };
    bench.rules.send(Arc::new(Rules { filter, events: vec!["call_service".into()], ..Rules::default() })).unwrap();
    assert_eq!(peer.hear().await["event_type"], "call_service");
    assert_eq!(peer.hear().await["subscription"], ENTITIES);
    assert_eq!(peer.hear().await["include"]["domains"][0], "fix");
    peer.say(&of(15, EMPTY)).await;
    assert_eq!(removed(&bench.events().await), ["fix.kitchen"]);
    assert_eq!(bench.status().home_assistant.connects, 1);
    bench.finish(Some(peer), 2).await;
}

/// A simulated home in the place of the one that a story plays.
async fn simulated(entities: usize, limits: Limits, rules: Rules) -> (Bench, Handle, Group) {
    let mut bench = Bench::start_with(limits, rules).await;
    let knobs = Knobs { token: Secret::new(TOKEN), ..Knobs::default() };
    let listener = std::mem::replace(&mut bench.listener, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (simulator, handle) = Simulator::new(listener, Home::new(1, entities, clock::now()), knobs);
    let mut group = Group::new("demo");
    group.spawn("simulator", |stop| simulator.run(stop));
    (bench, handle, group)
}

#[tokio::test]
async fn a_move_in_the_home_is_known_soon_and_a_service_that_is_called_is_told() {
    let rules = Rules { events: vec!["call_service".into()], ..Rules::default() };
    let (mut bench, handle, group) = simulated(120, limits(), rules).await;
    let Arrival::Registries(before) = bench.arrival().await else { panic!("the registries come first") };
    let here = &before.entities["sensor.living_room_temperature"];
    let name = |named: &Option<Arc<Named>>| named.as_ref().unwrap().name.to_string();
    assert_eq!((name(&here.area), name(&here.floor)), ("Living room".into(), "Ground floor".into()));
    assert_eq!((name(&here.device), here.platform.as_deref()), ("Living room Climate sensor".into(), Some("demo")));
    assert_eq!((&*here.labels[0].name, here.category.as_deref()), ("Battery", None));
    let snapshot = bench.events().await.len();
    assert_eq!((snapshot, before.entities.len()), (120, 120));

    handle.move_to_area("sensor.living_room_temperature", "Cellar");
    let Arrival::Registries(after) = bench.arrival().await else { panic!("the registries come again") };
    let here = &after.entities["sensor.living_room_temperature"];
    assert_eq!((name(&here.area), name(&here.floor)), ("Cellar".into(), "Basement".into()));
    handle.fire("call_service", r#"{"domain":"light","service":"turn_on"}"#);
    let events = bench.events().await;
    assert!(matches!(&events[..], [Event::Fired(fired)] if fired.context.is_some()), "{events:?}");
    bench.finish(None, snapshot + 1).await;
    shut_down(vec![group], SOON).await;
}

#[tokio::test]
async fn ten_thousand_entities_are_known_before_their_states() {
    let (mut bench, _handle, group) = simulated(10_000, Limits::default(), Rules::default()).await;
    let Arrival::Registries(registries) = bench.arrival().await else { panic!("the registries come first") };
    let snapshot = bench.events().await.len();
    assert_eq!((registries.entities.len(), snapshot), (10_000, 10_000));
    assert!(bench.status().hass.unreadable.iter().all(|(_, count)| *count == 0));
    bench.finish(None, snapshot).await;
    shut_down(vec![group], SOON).await;
}

#[tokio::test]
async fn text_that_is_not_utf_8_costs_the_session_and_not_the_service() {
    let mut bench = Bench::start(limits()).await;
    let mut peer = bench.welcome(EMPTY).await;
    peer.0.get_mut().write_all(&[0x81, 0x02, 0xc3, 0x28]).await.unwrap();
    let peer = bench.welcome(ADDED).await;
    assert_eq!(bench.events().await.len(), 1);
    let hass = bench.status().hass;
    assert!(hass.unreadable.contains(&("frame", 1)), "{:?}", hass.unreadable);
    bench.finish(Some(peer), 1).await;
}

#[tokio::test]
async fn after_a_close_the_next_session_tells_who_went_away_meanwhile() {
    let mut bench = Bench::start(limits()).await;
    let mut peer = bench.welcome(ADDED).await;
    assert_eq!(bench.events().await.len(), 1);
    peer.0.close(None).await.unwrap();
    let peer = bench.welcome(EMPTY).await;
    assert_eq!(removed(&bench.events().await), ["fix.kitchen"]);
    let status = bench.status();
    assert_eq!((status.hass.sessions, status.home_assistant.connects, status.hass.entities), (2, 2, 0));
    assert_eq!(status.home_assistant.last_error.unwrap().1, "Home Assistant closed the connection");
    bench.finish(Some(peer), 2).await;
}

#[tokio::test]
async fn a_silent_server_is_left() {
    let patience = Patience {
        ping_every: Duration::from_millis(20),
        pong_within: Duration::from_millis(300),
        ..Patience::default()
    };
    let mut bench = Bench::start(Limits { patience, ..limits() }).await;
    let mut peer = bench.welcome(EMPTY).await;
    assert_eq!(peer.hear().await["type"], "ping");
    let mut peer = bench.welcome(ADDED).await;
    let error = bench.status().home_assistant.last_error.unwrap().1;
    assert_eq!(error, "Home Assistant does not answer any more");
    assert_eq!(bench.events().await.len(), 1);
    let ping = peer.hear().await;
    peer.say(&format!(r#"{{"id":{},"type":"pong"}}"#, ping["id"])).await;
    bench.until(|status| status.home_assistant.latency.is_some()).await;
    drop(peer);
    bench.finish(None, 1).await;
}

#[tokio::test]
async fn a_frame_of_sixty_mebibytes_is_read() {
    let mut bench = Bench::start(limits()).await;
    let mut peer = bench.welcome(EMPTY).await;
    let text = "x".repeat(60 << 20);
    let frame =
        format!(r#"{{"type":"event","event":{{"a":{{"a.b":{{"s":"1","a":{{"t":"{text}"}},"lc":1.0}}}}}},"id":12}}"#);
    peer.say(&frame).await;
    peer.say(&of(ENTITIES, ADDED)).await;
    assert_eq!((bench.events().await.len(), bench.events().await.len()), (1, 1));
    bench.finish(Some(peer), 2).await;
}

#[tokio::test]
async fn a_pipeline_that_stalls_costs_the_session_before_it_costs_the_memory() {
    let mut bench = Bench::start(Limits { waiting_bytes: 10_000, ..limits() }).await;
    let mut peer = bench.welcome(ADDED).await;
    for _ in 0..200 {
        peer.say(&of(ENTITIES, CHANGED)).await;
    }
    // Nobody takes events: the channel fills, then the queue, and the rest is left on the wire.
    let waiting = bench.until(|status| status.hass.waiting_bytes > 9_000).await.hass.waiting_bytes;
    assert!(waiting <= 10_000 + 300, "{waiting}");
    // Now the pipeline takes all that was read, and then there is a new session.
    let mut handed_over = 0;
    let peer = {
        let mut welcome = pin!(Peer::welcome(&bench.listener, EMPTY));
        loop {
            tokio::select! {
                Some(arrival) = bench.events.recv() => {
                    if let Arrival::Events(events) = arrival {
                        handed_over += events.len();
                    }
                }
                peer = &mut welcome => break peer,
            }
        }
    };
    assert!((20..200).contains(&handed_over), "{handed_over}");
    assert!(bench.status().home_assistant.last_error.unwrap().1.contains("faster than events are taken"));
    bench.finish(Some(peer), handed_over).await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_pipeline_that_stalls() {
    let farewell = Duration::from_millis(20);
    let bench = Bench::start(Limits { farewell, ..limits() }).await;
    let mut peer = bench.welcome(ADDED).await;
    for _ in 0..20 {
        peer.say(&of(ENTITIES, CHANGED)).await;
    }
    bench.until(|status| status.hass.frames == 28).await;
    bench.finish(None, 0).await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_server_that_does_not_read() {
    // More than the buffers between the two hold.
    let include = EntitySet { entities: vec!["a".repeat(32 << 20)], ..EntitySet::default() };
    let rules = Rules { filter: Filter { include, ..Filter::default() }, ..Rules::default() };
    let bench = Bench::start_with(limits(), rules).await;
    let mut peer = Peer::greet(&bench.listener).await;
    for id in LISTS {
        peer.say(&refusal(id, "unknown_command")).await;
    }
    let asked = Instant::now();
    bench.finish(None, 0).await;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn what_was_read_before_a_connection_broke_is_handed_over() {
    let mut bench = Bench::start(limits()).await;
    let mut peer = bench.welcome(ADDED).await;
    // Nobody takes events: one frame waits for the full channel, the others behind it.
    for _ in 0..10 {
        peer.say(&of(ENTITIES, CHANGED)).await;
    }
    // This one wants an answer, which will not be possible.
    peer.say("{").await;
    peer.say(&of(14, ADDED)).await;
    for _ in 0..10 {
        peer.say(&of(14, CHANGED)).await;
    }
    bench.until(|status| status.hass.frames == 30).await;
    peer.0.get_ref().set_zero_linger().unwrap();
    drop(peer);
    let mut handed_over = 0;
    while handed_over < 22 {
        handed_over += bench.events().await.len();
    }
    assert!(bench.until(|status| status.home_assistant.failures == 1).await.home_assistant.last_error.is_some());
    bench.finish(None, 22).await;
}

#[tokio::test]
async fn the_end_of_the_pipeline_is_the_end_of_the_source() {
    let mut bench = Bench::start(limits()).await;
    bench.events.close();
    let mut peer = Peer::greet(&bench.listener).await;
    for id in LISTS {
        peer.say(&refusal(id, "unknown_command")).await;
    }
    timeout(SOON, bench.task.join_next()).await.expect("it ends").expect("one task").expect("no panic");
    assert_eq!(bench.status().arrivals.received(), 0);
}

#[tokio::test]
async fn a_probe_finds_the_version_or_says_what_to_do() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = settings(&listener, "ws");
    for (answered, expected) in [(OK, "2025.4.4"), (INVALID, "does not accept the token")] {
        let play = async {
            let mut peer = Peer::accept(&listener).await;
            peer.say(REQUIRED).await;
            peer.hear().await;
            peer.say(answered).await;
            assert!(matches!(peer.next().await, Some(Message::Close(_))));
        };
        let (found, ()) = tokio::join!(probe(&here, SOON), play);
        let said = found.map_or_else(|err| err.to_string(), |probe| probe.version);
        assert!(said.contains(expected), "{said}");
    }
    let (found, ()) = tokio::join!(probe(&here, SOON), answer(&listener, "200 OK"));
    assert!(found.unwrap_err().to_string().contains("not as Home Assistant does (HTTP 200)"));
    let secure = settings(&listener, "wss");
    let (found, ()) = tokio::join!(probe(&secure, SOON), answer(&listener, "400 Bad Request"));
    assert!(found.unwrap_err().to_string().starts_with("no secure connection to 127.0.0.1:"));
    let silent = probe(&here, Duration::from_millis(20)).await;
    assert!(matches!(silent, Err(ProbeError::Connect(_) | ProbeError::Timeout)));
    drop(listener);
    assert!(probe(&here, SOON).await.unwrap_err().to_string().starts_with("nothing listens at 127.0.0.1:"));
}

#[tokio::test]
async fn a_certificate_file_that_is_none_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for file in [PathBuf::from("/nowhere/ca.pem"), empty] {
        let mut here = settings(&listener, "wss");
        here.tls.ca_certificate = Some(file.clone());
        let said = probe(&here, SOON).await.unwrap_err().to_string();
        assert!(said.starts_with(&format!("cannot use the CA certificate {}", file.display())), "{said}");
    }
}

#[test]
fn a_session_has_a_short_id_of_its_own() {
    assert_eq!(session_id(1_795_449_107_806_628, 3), "toypeb-3");
    assert_eq!(session_id(-1, 1), "-1");
}
