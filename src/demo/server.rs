//! The simulated home on a socket: Home Assistant's WebSocket API on loopback.
//!
//! Connections are tasks of this one future; each reads, writes and obeys the hub. It has no opinion about messages.

use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, interval_at, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::handle::{Handle, Shared};
use super::home::Home;
use super::hub::{Hub, Next, Seat};
use super::knobs::{FloodKnobs, Knobs};
use crate::model::time::Timestamp;

/// Home Assistant's own path, and that of the Supervisor's proxy to it.
const PATHS: [&str; 2] = ["/api/websocket", "/core/websocket"];

/// Home Assistant gives a client this long to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a client may take to read the last frame and to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// How often Home Assistant pings a connection.
const HEARTBEAT: Duration = Duration::from_secs(55);

type Socket = WebSocketStream<TcpStream>;

/// The server. It does nothing until [`Simulator::run`].
pub struct Simulator {
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl Simulator {
    #[must_use]
    pub fn new(listener: TcpListener, home: Home, knobs: Knobs) -> (Self, Handle) {
        let shared = Arc::new(Shared { hub: Mutex::new(Hub::new(home)), knobs: watch::Sender::new(knobs) });
        (Self { listener, shared: Arc::clone(&shared) }, Handle::new(shared))
    }

    /// Serves until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = accept(&self.listener, &self.shared, &stop) => {}
            () = make_changes(&self.shared) => {}
            () = now_and_then(&self.shared, |knobs| knobs.disconnect_every, |hub, _, _| hub.cut_all()) => {}
            () = now_and_then(&self.shared, |knobs| knobs.act_every, Hub::act) => {}
        }
    }
}

async fn accept(listener: &TcpListener, shared: &Arc<Shared>, stop: &CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    debug!(%peer, "a client connects to the simulated home");
                    connections.spawn(serve(stream, Arc::clone(shared), stop.clone()));
                }
                // Out of file descriptors, most likely: connections must end first.
                Err(err) => {
                    debug!(%err, "the simulated home cannot accept a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn make_changes(shared: &Shared) {
    let mut turned = shared.knobs.subscribe();
    loop {
        let rate = turned.borrow_and_update().events_per_second;
        if rate.is_nan() || rate <= 0.0 {
            // The sender is in `shared`, so it cannot be gone.
            let _ = turned.changed().await;
            continue;
        }
        // One change a tick, or as many as a millisecond's worth: timers are no finer.
        let pause = Duration::from_secs_f64((1.0 / rate).clamp(0.001, 3600.0));
        let mut ticks = interval(pause);
        let mut owed = 0.0;
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    owed += pause.as_secs_f64() * rate;
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
                    let due = owed as u64;
                    #[expect(clippy::cast_precision_loss, reason = "small and positive")]
                    let paid = due as f64;
                    owed -= paid;
                    let knobs = shared.knobs.borrow().clone();
                    let now = shared.now();
                    shared.hub().change(due, &knobs, now);
                }
                _ = turned.changed() => break,
            }
        }
    }
}

/// Does something to the home each time that what a knob says has passed.
async fn now_and_then(
    shared: &Shared,
    every: impl Fn(&Knobs) -> Option<Duration>,
    work: impl Fn(&mut Hub, &Knobs, Timestamp),
) {
    let mut turned = shared.knobs.subscribe();
    loop {
        let pause = every(&turned.borrow_and_update());
        let due = async {
            match pause {
                Some(pause) => sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {
                let knobs = shared.knobs.borrow().clone();
                let now = shared.now();
                work(&mut shared.hub(), &knobs, now);
            }
            _ = turned.changed() => {}
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, stop: CancellationToken) {
    let starting = shared.knobs.borrow().answer_502;
    let now = shared.now();
    // Small frames must not wait for each other.
    let _ = stream.set_nodelay(true);
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(4 << 20);
    #[expect(clippy::result_large_err, reason = "the signature is the handshake's")]
    let check = move |request: &Request, response: Response| check_request(request, response, starting, now);
    let shaken = tokio_tungstenite::accept_hdr_async_with_config(stream, check, Some(config));
    let shaken = tokio::select! {
        () = stop.cancelled() => return,
        shaken = timeout(HANDSHAKE, shaken) => shaken,
    };
    let Ok(Ok(socket)) = shaken else { return };
    let seat = {
        let knobs = shared.knobs.borrow().clone();
        shared.hub().enter(&knobs)
    };
    let (mut sink, mut source) = socket.split();
    // Who is cut off gets nothing more, so that is looked at first.
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = seat.cut.cancelled() => {}
        () = read(&mut source, &seat, &shared) => {}
        () = write(&mut sink, &seat, &shared) => {}
    }
    let is_torn = shared.hub().leave(seat.number);
    if is_torn || shared.knobs.borrow().silent {
        return;
    }
    let goodbye = Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() }));
    // A client that was cut off because it does not read may never take it.
    let _ = timeout(GOODBYE, async {
        if sink.send(goodbye).await.is_ok() {
            while let Some(Ok(_)) = source.next().await {}
        }
    })
    .await;
}

#[expect(clippy::result_large_err, reason = "the signature is the handshake's")]
fn check_request(
    request: &Request,
    mut response: Response,
    starting: bool,
    now: Timestamp,
) -> Result<Response, ErrorResponse> {
    let refuse = |status| {
        let mut refusal = ErrorResponse::new(None);
        *refusal.status_mut() = status;
        Err(refusal)
    };
    match request.uri().path() {
        _ if starting => refuse(StatusCode::BAD_GATEWAY),
        path if PATHS.contains(&path) => {
            // Home Assistant's answers have its own time.
            let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_micros(now.as_micros().unsigned_abs()));
            response.headers_mut().insert("date", date.parse().expect("a date is text"));
            Ok(response)
        }
        _ => refuse(StatusCode::NOT_FOUND),
    }
}

/// Ends when the client does.
async fn read(source: &mut SplitStream<Socket>, seat: &Seat, shared: &Shared) {
    let mut turned = shared.knobs.subscribe();
    loop {
        if turned.wait_for(|knobs| !knobs.silent).await.is_err() {
            return;
        }
        let message = tokio::select! {
            message = source.next() => message,
            // Perhaps it is silent from now on.
            _ = turned.changed() => continue,
        };
        match message {
            Some(Ok(Message::Text(text))) => {
                let knobs = shared.knobs.borrow().clone();
                let now = shared.now();
                shared.hub().hear(seat.number, &text, &knobs, now);
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Binary(_) | Message::Close(_) | Message::Frame(_)) | Err(_)) | None => return,
        }
    }
}

/// Ends when everything is said, or when the client no longer takes it.
async fn write(sink: &mut SplitSink<Socket, Message>, seat: &Seat, shared: &Shared) {
    let mut heartbeat = interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turned = shared.knobs.subscribe();
    loop {
        if send_outbox(sink, seat, shared).await.is_break() {
            return;
        }
        let flood = turned.borrow_and_update().flood.clone();
        if let Some(flood) = flood
            && shared.hub().begin_flood(seat.number)
        {
            shared.knobs.send_modify(|knobs| knobs.flood = None);
            if send_flood(sink, seat, shared, flood).await.is_break() {
                return;
            }
            shared.hub().end_flood(seat.number);
            continue;
        }
        let silent = turned.borrow().silent;
        tokio::select! {
            () = seat.bell.notified() => {}
            _ = turned.changed() => {}
            _ = heartbeat.tick() => {
                if !silent && sink.send(Message::Ping(Bytes::new())).await.is_err() {
                    return;
                }
            }
        }
    }
}

type Flow = std::ops::ControlFlow<()>;

/// Sends what the outbox holds, and flushes once it is empty.
async fn send_outbox(sink: &mut SplitSink<Socket, Message>, seat: &Seat, shared: &Shared) -> Flow {
    let mut unflushed = false;
    loop {
        let next = {
            let knobs = shared.knobs.borrow();
            shared.hub().next(seat.number, &knobs)
        };
        match next {
            Next::Send(frame) => {
                unflushed = true;
                if sink.feed(Message::text(frame)).await.is_err() {
                    return Flow::Break(());
                }
            }
            Next::Break(part) => {
                // Never to be continued.
                let beginning = Frame::message(part.into_bytes(), OpCode::Data(Data::Text), false);
                let _ = sink.send(Message::Frame(beginning)).await;
                return Flow::Break(());
            }
            Next::Wait | Next::Leave => {
                if unflushed && sink.flush().await.is_err() || next == Next::Leave {
                    return Flow::Break(());
                }
                return Flow::Continue(());
            }
        }
    }
}

async fn send_flood(sink: &mut SplitSink<Socket, Message>, seat: &Seat, shared: &Shared, flood: FloodKnobs) -> Flow {
    let begin = flood.window.as_ref().map_or(0, super::knobs::Window::confirmed);
    let mut made = 0;
    while made < flood.events {
        if let Some(window) = &flood.window
            && made.saturating_sub(window.confirmed().saturating_sub(begin)) >= window.events
        {
            sleep(Duration::from_millis(1)).await;
            continue;
        }
        let left = usize::try_from(flood.events - made).unwrap_or(usize::MAX);
        let events = left.min(flood.per_frame.max(1));
        let frames = {
            let (knobs, now) = (shared.knobs.borrow().clone(), shared.now());
            shared.hub().flood(seat.number, events, &knobs, now)
        };
        for frame in frames {
            let text = Utf8Bytes::try_from(Bytes::from(frame)).expect("copies of text with other digits are text");
            if sink.feed(Message::Text(text)).await.is_err() {
                return Flow::Break(());
            }
        }
        // Answers to commands do not wait for the end of the flood.
        if sink.flush().await.is_err() || send_outbox(sink, seat, shared).await.is_break() {
            return Flow::Break(());
        }
        made += events as u64;
    }
    Flow::Continue(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use futures_util::{SinkExt, StreamExt};
    use serde_json::{Value, json};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;
    use tokio_tungstenite::tungstenite::{Error, Message};
    use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

    use super::{Handle, Simulator};
    use crate::demo::home::Home;
    use crate::demo::knobs::{FloodKnobs, Knobs, Window};
    use crate::model::value::{Attributes, Value as Held};
    use crate::runtime::clock;
    use crate::runtime::group::{Group, shut_down};

    /// A running home, and the group it runs in.
    struct Bench {
        handle: Handle,
        url: String,
        group: Group,
    }

    impl Bench {
        async fn start(entities: usize, knobs: Knobs) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("ws://{}/api/websocket", listener.local_addr().unwrap());
            let (simulator, handle) = Simulator::new(listener, Home::new(1, entities, clock::now()), knobs);
            let mut group = Group::new("demo");
            group.spawn("simulator", |stop| simulator.run(stop));
            Self { handle, url, group }
        }

        /// A client that has shown the token.
        async fn client(&self) -> Client {
            let mut client = self.stranger().await;
            client.say(&json!({"type": "auth", "access_token": "demo"})).await;
            assert_eq!(client.hear().await["type"], "auth_ok");
            client
        }

        /// A client that was asked for the token.
        async fn stranger(&self) -> Client {
            let (socket, _) = connect_async(&self.url).await.unwrap();
            let mut client = Client { socket, id: 0 };
            assert_eq!(client.hear().await["type"], "auth_required");
            client
        }

        /// The clients go, and everything ends in time.
        async fn end<T>(self, clients: T) {
            drop(clients);
            assert!(shut_down(vec![self.group], Duration::from_secs(5)).await.is_empty());
        }
    }

    struct Client {
        socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
        id: u64,
    }

    impl Client {
        async fn say(&mut self, message: &Value) {
            self.socket.send(Message::text(message.to_string())).await.unwrap();
        }

        /// The next frame; a close is `{"closed": code}`.
        async fn hear(&mut self) -> Value {
            loop {
                // Only a broken home needs that long.
                let next = timeout(Duration::from_secs(10), self.socket.next()).await.expect("the home says something");
                match next {
                    Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                    Some(Ok(Message::Close(frame))) => {
                        return json!({"closed": frame.map(|frame| u16::from(frame.code))});
                    }
                    Some(Ok(_)) => {}
                    end => panic!("the connection ended with {end:?}"),
                }
            }
        }

        /// The answer to a command. Nothing may come before it.
        async fn ask(&mut self, mut command: Value) -> Value {
            self.id += 1;
            command["id"] = self.id.into();
            self.say(&command).await;
            let answer = self.hear().await;
            assert_eq!(answer["id"], self.id, "{answer}");
            answer
        }

        async fn result(&mut self, kind: &str) -> Value {
            let answer = self.ask(json!({"type": kind})).await;
            assert_eq!(answer["success"], true, "{answer}");
            answer["result"].clone()
        }

        async fn refusal(&mut self, command: Value) -> String {
            let answer = self.ask(command).await;
            assert_eq!(answer["success"], false, "{answer}");
            answer["error"]["code"].as_str().unwrap().to_owned()
        }
    }

    #[tokio::test]
    async fn every_command_is_answered() {
        let bench = Bench::start(120, Knobs::default()).await;
        let mut client = bench.client().await;
        assert_eq!(client.result("get_states").await.as_array().unwrap().len(), 120);
        assert_eq!(client.result("config/entity_registry/list").await.as_array().unwrap().len(), 120);
        assert_eq!(client.result("config/area_registry/list").await[0]["floor_id"], "ground_floor");
        assert_eq!(client.result("config/floor_registry/list").await[0]["level"], -1);
        assert_eq!(client.result("config/label_registry/list").await[1]["label_id"], "energy");
        let devices = client.result("config/device_registry/list").await;
        assert!(devices.as_array().unwrap().iter().any(|device| device["labels"][0] == "battery"));
        assert_eq!(client.result("get_config").await["state"], "RUNNING");
        assert_eq!(client.result("recorder/info").await["backlog"], 0);
        assert!(client.result("recorder/list_statistic_ids").await.as_array().unwrap().len() > 50);
        assert_eq!(client.result("auth/current_user").await["is_admin"], true);
        let pong = client.ask(json!({"type": "ping"})).await;
        assert_eq!(pong, json!({"id": pong["id"], "type": "pong"}));
        let id = "sensor.living_room_temperature";
        let history = json!({"type": "history/history_during_period", "start_time": "2020-01-01T00:00:00+00:00",
            "entity_ids": [id], "significant_changes_only": false, "include_start_time_state": false});
        // A day of values, each five minutes, some of them equal to the one before.
        let rows = client.ask(history).await["result"][id].as_array().unwrap().len();
        assert!((200..=289).contains(&rows), "{rows}");
        let statistics = json!({"type": "recorder/statistics_during_period", "period": "hour",
            "start_time": "2020-01-01T00:00:00+00:00", "statistic_ids": [id]});
        let hours = client.ask(statistics).await["result"][id].as_array().unwrap().len();
        assert!((2_100..=2_160).contains(&hours), "{hours}");
        bench.end(client).await;
    }

    #[tokio::test]
    async fn what_happens_besides_changes_is_told_to_those_who_ask() {
        let knobs = Knobs { act_every: Some(Duration::from_millis(1)), ..Knobs::default() };
        let bench = Bench::start(20, knobs).await;
        let mut client = bench.client().await;
        for event_type in ["automation_triggered", "script_started", "call_service"] {
            // Those of the others are on their way as well.
            client.id += 1;
            client.say(&json!({"id": client.id, "type": "subscribe_events", "event_type": event_type})).await;
            let id = client.id;
            let event = loop {
                let heard = client.hear().await;
                let messages = heard.as_array().cloned().unwrap_or_else(|| vec![heard]);
                if let Some(event) =
                    messages.into_iter().find(|message| message["id"] == id && message["type"] == "event")
                {
                    break event;
                }
            };
            assert_eq!(event["event"]["event_type"], event_type);
            assert!(event["event"]["data"].is_object() && event["event"]["time_fired"].is_string());
        }
        bench.handle.turn(|knobs| knobs.act_every = None);
        bench.end(client).await;
    }

    #[tokio::test]
    async fn a_service_that_is_called_is_an_event_before_its_changes_are() {
        let bench = Bench::start(120, Knobs::default()).await;
        let mut client = bench.client().await;
        client.ask(json!({"type": "subscribe_events"})).await;
        let find = |home: &Home| home.states().find(|(id, _)| id.starts_with("light.")).unwrap().0.to_string();
        let light = bench.handle.home(find);
        client
            .say(&json!({"id": 2, "type": "call_service", "domain": "light", "service": "toggle",
                "target": {"entity_id": light}, "service_data": {"transition": 1}}))
            .await;
        let call = &client.hear().await["event"];
        assert_eq!(call["data"]["service_data"], json!({"entity_id": light, "transition": 1}));
        let change = &client.hear().await["event"];
        assert_eq!(
            (&change["event_type"], &change["context"]["id"]),
            (&"state_changed".into(), &call["context"]["id"])
        );
        assert!(change["time_fired"].as_str() > call["time_fired"].as_str());
        bench.end(client).await;
    }

    #[tokio::test]
    async fn what_is_wrong_is_refused_with_home_assistants_codes() {
        let bench = Bench::start(10, Knobs::default()).await;
        let mut client = bench.client().await;
        for (command, code) in [
            (json!({"type": "nonsense"}), "unknown_command"),
            (json!({"type": "ping", "extra": 1}), "invalid_format"),
            (json!({"type": "subscribe_events", "event_type": 5}), "invalid_format"),
            (json!({"type": "subscribe_events", "event_type": "state_reported"}), "home_assistant_error"),
            (json!({"type": "unsubscribe_events", "subscription": 77}), "not_found"),
            (json!({"type": "call_service", "domain": "light", "service": "nope"}), "not_found"),
            (json!({"type": "call_service", "domain": "light", "service": "turn_on"}), "invalid_format"),
        ] {
            assert_eq!(client.refusal(command.clone()).await, code, "{command}");
        }
        for (start, ids, code) in [
            ("x", json!(["sun.sun"]), "invalid_start_time"),
            ("2025-01-01T00:00:00+00:00", json!(["SUN"]), "invalid_entity_ids"),
            ("2025-01-01T00:00:00+00:00", json!([]), "unknown_error"),
            ("2025-01-01T00:00:00+00:00", json!(null), "invalid_format"),
        ] {
            let command = json!({"type": "history/history_during_period", "start_time": start, "entity_ids": ids});
            assert_eq!(client.refusal(command).await, code);
        }
        client.say(&json!({"id": 1, "type": "ping"})).await;
        assert_eq!(client.hear().await["error"]["code"], "id_reuse");
        client.say(&json!({"type": "ping"})).await;
        assert_eq!(client.hear().await["id"], Value::Null);
        client.say(&json!([{"id": 100, "type": "ping"}, {"id": 101, "type": "ping"}])).await;
        assert_eq!((client.hear().await["id"].clone(), client.hear().await["id"].clone()), (100.into(), 101.into()));
        client.socket.send(Message::text("{nope")).await.unwrap();
        assert_eq!(client.hear().await, json!({"closed": 1000}));
        bench.end(client).await;
    }

    #[tokio::test]
    async fn a_wrong_token_is_told_so_and_closed() {
        let bench = Bench::start(1, Knobs::default()).await;
        for token in ["wrong", ""] {
            let mut client = bench.stranger().await;
            client.say(&json!({"type": "auth", "access_token": token})).await;
            assert_eq!(client.hear().await["message"], "Invalid access token or password");
            assert_eq!(client.hear().await, json!({"closed": 1000}));
        }
        bench.handle.turn(|knobs| knobs.refuse_auth = true);
        let mut client = bench.stranger().await;
        client.say(&json!({"type": "auth", "access_token": "demo"})).await;
        assert_eq!(client.hear().await["type"], "auth_invalid");
        bench.end(client).await;
    }

    #[tokio::test]
    async fn while_home_assistant_starts_the_proxy_answers_502() {
        let bench = Bench::start(1, Knobs { answer_502: true, ..Knobs::default() }).await;
        match connect_async(&bench.url).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), 502),
            other => panic!("{other:?}"),
        }
        bench.handle.turn(|knobs| knobs.answer_502 = false);
        let client = bench.client().await;
        bench.end(client).await;
    }

    #[tokio::test]
    async fn a_subscription_gets_what_its_filter_lets_through_and_no_more() {
        let bench = Bench::start(120, Knobs::default()).await;
        let mut client = bench.client().await;
        let filter = json!({"type": "subscribe_entities", "include": {"domains": ["light"]}, "exclude": {"entity_globs": ["*garage*"]}});
        assert_eq!(client.ask(filter).await["result"], Value::Null);
        let snapshot = client.hear().await;
        let known: Vec<&String> = snapshot["event"]["a"].as_object().unwrap().keys().collect();
        assert!(known.len() > 3 && known.iter().all(|id| id.starts_with("light.") && !id.contains("garage")));
        let on = || [("brightness".into(), Held::Int(7))].into_iter().collect::<Attributes>();
        for id in ["sensor.x", "light.garage_9", "light.mine"] {
            assert!(bench.handle.set(id, "on", on()).is_some());
        }
        assert_eq!(client.hear().await["event"]["a"]["light.mine"]["a"]["brightness"], 7);
        assert!(bench.handle.set("light.mine", "on", on()).is_none());
        assert!(bench.handle.remove("light.mine").is_some());
        assert_eq!(client.hear().await["event"], json!({"r": ["light.mine"]}));
        bench.end(client).await;
    }

    #[tokio::test]
    async fn waiting_messages_come_as_one_array_to_who_asked_for_it() {
        let bench = Bench::start(60, Knobs::default()).await;
        for coalesces in [false, true] {
            let mut client = bench.client().await;
            if coalesces {
                client.ask(json!({"type": "supported_features", "features": {"coalesce_messages": 1}})).await;
            }
            client.ask(json!({"type": "subscribe_events", "event_type": "state_changed"})).await;
            bench.handle.storm(50);
            let frame = client.hear().await;
            match frame.as_array() {
                Some(messages) => assert!(coalesces && messages.len() == 50),
                None => assert!(!coalesces && frame["event"]["data"]["new_state"].is_object(), "{frame}"),
            }
        }
        bench.end(()).await;
    }

    #[tokio::test]
    async fn a_service_changes_the_home_and_everybody_hears_it_before_the_result() {
        let bench = Bench::start(120, Knobs::default()).await;
        let (mut caller, mut listener) = (bench.client().await, bench.client().await);
        for client in [&mut caller, &mut listener] {
            client.ask(json!({"type": "subscribe_events", "event_type": "state_changed"})).await;
        }
        let id = "input_number.home_hub_target";
        caller
            .say(&json!({"id": 9, "type": "call_service", "domain": "input_number", "service": "set_value",
                "service_data": {"entity_id": id, "value": 29}}))
            .await;
        let (event, result) = (caller.hear().await, caller.hear().await);
        assert_eq!(event["event"]["data"]["new_state"]["state"], "29.0");
        assert_eq!(event["event"]["context"], result["result"]["context"]);
        assert_eq!(listener.hear().await["event"], event["event"]);
        assert_eq!(bench.handle.home(|home| home.state(id).unwrap().state.to_string()), "29.0");
        bench.end((caller, listener)).await;
    }

    #[tokio::test]
    async fn a_move_to_another_room_is_announced_and_listed() {
        let bench = Bench::start(20, Knobs::default()).await;
        let mut client = bench.client().await;
        client.ask(json!({"type": "subscribe_events", "event_type": "entity_registry_updated"})).await;
        let id = "sensor.living_room_temperature";
        bench.handle.move_to_area(id, "Gäste-WC");
        let event = client.hear().await;
        assert_eq!(event["event"]["data"], json!({"action": "update", "entity_id": id, "changes": {"area_id": null}}));
        let listed = client.result("config/entity_registry/list").await;
        assert_eq!(listed[0]["area_id"], "gaste_wc");
        bench.end(client).await;
    }

    #[tokio::test]
    async fn more_than_4095_changes_in_one_turn_close_the_connection_and_none_arrives() {
        let bench = Bench::start(60, Knobs::default()).await;
        let mut client = bench.client().await;
        client.ask(json!({"type": "subscribe_events", "event_type": "state_changed"})).await;
        bench.handle.storm(5000);
        assert_eq!(client.hear().await, json!({"closed": 1000}));
        bench.handle.turn(|knobs| knobs.cut_slow_clients = false);
        let mut client = bench.client().await;
        client.ask(json!({"type": "subscribe_events", "event_type": "state_changed"})).await;
        bench.handle.storm(5000);
        for _ in 0..5000 {
            assert_eq!(client.hear().await["type"], "event");
        }
        bench.end(client).await;
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_cut_off_while_another_goes_on() {
        let bench = Bench::start(60, Knobs::default()).await;
        let mut reader = bench.client().await;
        let mut sleeper = bench.client().await;
        sleeper.ask(json!({"type": "subscribe_events"})).await;
        // Far more than the sockets between them hold.
        while bench.handle.clients() == 2 {
            bench.handle.storm(1000);
            assert_eq!(reader.ask(json!({"type": "ping"})).await["type"], "pong");
        }
        assert_eq!(bench.handle.clients(), 1);
        bench.end((reader, sleeper)).await;
    }

    #[tokio::test]
    async fn a_silent_home_answers_again_when_it_is_no_longer_silent_and_history_has_the_rest() {
        let bench = Bench::start(20, Knobs::default()).await;
        let mut client = bench.client().await;
        client.ask(json!({"type": "subscribe_events", "event_type": "state_changed"})).await;
        bench.handle.turn(|knobs| knobs.silent = true);
        assert!(bench.handle.set("sensor.mine", "5", Attributes::default()).is_some());
        client.say(&json!({"id": 50, "type": "ping"})).await;
        bench.handle.turn(|knobs| knobs.silent = false);
        // The change was never told: the pong is the next thing that comes.
        assert_eq!(client.hear().await, json!({"id": 50, "type": "pong"}));
        let history = json!({"id": 51, "type": "history/history_during_period", "entity_ids": ["sensor.mine"],
            "start_time": "2020-01-01T00:00:00+00:00"});
        client.say(&history).await;
        assert_eq!(client.hear().await["result"]["sensor.mine"][0]["s"], "5");
        bench.end(client).await;
    }

    #[tokio::test]
    async fn a_restart_closes_everybody_and_garbage_reaches_everybody() {
        let bench = Bench::start(20, Knobs::default()).await;
        let mut clients = [bench.client().await, bench.client().await];
        bench.handle.garbage("[1,{}]");
        for client in &mut clients {
            assert_eq!(client.hear().await, json!([1, {}]));
        }
        bench.handle.restart();
        for client in &mut clients {
            assert_eq!(client.hear().await, json!({"closed": 1000}));
        }
        bench.handle.turn(|knobs| knobs.disconnect_every = Some(Duration::from_millis(1)));
        let (mut socket, _) = connect_async(&bench.url).await.unwrap();
        while let Some(Ok(_)) = socket.next().await {}
        bench.end(clients).await;
    }

    #[tokio::test]
    async fn the_rate_is_kept() {
        let bench = Bench::start(200, Knobs { events_per_second: 2000.0, ..Knobs::default() }).await;
        let mut client = bench.client().await;
        client.ask(json!({"type": "subscribe_entities"})).await;
        client.hear().await;
        let begin = std::time::Instant::now();
        for _ in 0..400 {
            assert!(client.hear().await["event"]["c"].is_object());
        }
        // Never faster than asked; slower only by what this machine is busy with.
        assert!(begin.elapsed() > Duration::from_millis(150), "{:?}", begin.elapsed());
        bench.end(client).await;
    }

    #[tokio::test]
    async fn a_flood_stays_within_its_window_and_ends_at_its_number() {
        let bench = Bench::start(200, Knobs { ledger: 100_000, ..Knobs::default() }).await;
        let mut client = bench.client().await;
        client.ask(json!({"type": "supported_features", "features": {"coalesce_messages": 1}})).await;
        client.say(&json!({"id": 2, "type": "subscribe_entities"})).await;
        // The result and the snapshot, in one frame.
        assert_eq!(client.hear().await.as_array().unwrap().len(), 2);
        client.id = 2;
        let confirmed = Arc::new(AtomicU64::new(77));
        let window = Some(Window { events: 1_000, confirmed: Arc::clone(&confirmed) });
        bench.handle.turn(|knobs| knobs.flood = Some(FloodKnobs { events: 10_050, per_frame: 100, window }));
        let mut received = 0;
        while received < 10_050 {
            let frame = client.hear().await;
            received += frame.as_array().unwrap().len() as u64;
            assert!(bench.handle.made() <= confirmed.load(Ordering::Acquire) - 77 + 1_000);
            confirmed.store(77 + received, Ordering::Release);
        }
        // What comes after it is an answer, and the books hold each event.
        assert_eq!(client.ask(json!({"type": "ping"})).await["type"], "pong");
        assert_eq!((bench.handle.made(), bench.handle.ledger().len()), (10_050, 10_050));
        bench.end(client).await;
    }
}
