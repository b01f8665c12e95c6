//! The simulated home on a socket: Home Assistant's WebSocket API on loopback.
//!
//! Connections are tasks of this one future; each reads, writes and obeys the hub. It has no opinion about messages.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, interval_at, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::home::Home;
use super::hub::{Hub, Next, Seat};
use super::knobs::{FloodKnobs, Knobs};
use super::state::{Change, Entry, Happening};
use crate::model::value::Attributes;
use crate::runtime::clock;

/// Home Assistant's own path, and that of the Supervisor's proxy to it.
const PATHS: [&str; 2] = ["/api/websocket", "/core/websocket"];

/// Home Assistant gives a client this long to shake hands.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a client may take to read the last frame and to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// How often Home Assistant pings a connection.
const HEARTBEAT: Duration = Duration::from_secs(55);

type Socket = WebSocketStream<TcpStream>;

struct Shared {
    hub: Mutex<Hub>,
    knobs: watch::Sender<Knobs>,
}

/// The server. It does nothing until [`Simulator::run`].
pub struct Simulator {
    listener: TcpListener,
    shared: Arc<Shared>,
}

/// The hand on the simulated home: turns its knobs, makes things happen in it, reads its books. Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Simulator {
    #[must_use]
    pub fn new(listener: TcpListener, home: Home, knobs: Knobs) -> (Self, Handle) {
        let shared = Arc::new(Shared { hub: Mutex::new(Hub::new(home)), knobs: watch::Sender::new(knobs) });
        (Self { listener, shared: Arc::clone(&shared) }, Handle(shared))
    }

    /// Serves until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = accept(&self.listener, &self.shared, &stop) => {}
            () = make_changes(&self.shared) => {}
            () = disconnect_now_and_then(&self.shared) => {}
        }
    }
}

impl Handle {
    pub fn turn(&self, turn: impl FnOnce(&mut Knobs)) {
        self.0.knobs.send_modify(turn);
    }

    /// Something read from the home as it is now.
    pub fn home<T>(&self, read: impl FnOnce(&Home) -> T) -> T {
        read(&self.0.hub().home)
    }

    /// Changes the home itself, such as its recorder. Nobody is told.
    pub fn home_mut<T>(&self, change: impl FnOnce(&mut Home) -> T) -> T {
        change(&mut self.0.hub().home)
    }

    /// So many changes in one turn, before any client gets a word.
    pub fn storm(&self, count: u64) {
        let knobs = self.0.knobs.borrow().clone();
        self.0.hub().change(count, &knobs, clock::now());
    }

    /// Sets a state as an integration would. `None`: that is what it was.
    #[must_use = "a state that was already there makes no event"]
    pub fn set(&self, entity_id: &str, state: &str, attributes: Attributes) -> Option<Change> {
        self.happen(|home| home.set(entity_id, state, attributes, clock::now()).map(Happening::State)).and_then(change)
    }

    /// Removes an entity. `None`: there was none.
    #[must_use = "an unknown entity makes no event"]
    pub fn remove(&self, entity_id: &str) -> Option<Change> {
        self.happen(|home| home.remove(entity_id, clock::now()).map(Happening::State)).and_then(change)
    }

    /// Moves an entity to the room of this name; the registry says so.
    pub fn move_to_area(&self, entity_id: &str, area: &str) {
        self.happen(|home| home.move_to_area(entity_id, area, clock::now()));
    }

    /// Fires any event; `data` is a JSON object.
    pub fn fire(&self, event_type: &str, data: &str) {
        self.happen(|home| Some(home.fire(event_type, data.to_owned(), None, clock::now())));
    }

    /// Sends any text as a frame to everybody.
    pub fn garbage(&self, text: &str) {
        let knobs = self.0.knobs.borrow().clone();
        self.0.hub().inject(text, &knobs);
    }

    /// Closes all connections, as a restart does.
    pub fn restart(&self) {
        self.0.hub().cut_all();
    }

    #[must_use]
    pub fn clients(&self) -> usize {
        self.0.hub().clients()
    }

    /// The changes made so far, floods included.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.0.hub().made()
    }

    /// The last changes, as many as the knob says, oldest first.
    #[must_use]
    pub fn ledger(&self) -> Vec<Entry> {
        self.0.hub().ledger()
    }

    fn happen(&self, make: impl FnOnce(&mut Home) -> Option<Happening>) -> Option<Happening> {
        let knobs = self.0.knobs.borrow().clone();
        let mut hub = self.0.hub();
        let happening = make(&mut hub.home)?;
        hub.tell(&happening, &knobs);
        Some(happening)
    }
}

fn change(happening: Happening) -> Option<Change> {
    match happening {
        Happening::State(change) => Some(change),
        Happening::Other { .. } => None,
    }
}

impl Shared {
    /// The hub stays usable after a panic elsewhere: every method leaves it whole.
    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
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
                    shared.hub().change(due, &knobs, clock::now());
                }
                _ = turned.changed() => break,
            }
        }
    }
}

async fn disconnect_now_and_then(shared: &Shared) {
    let mut turned = shared.knobs.subscribe();
    loop {
        let every = turned.borrow_and_update().disconnect_every;
        let due = async {
            match every {
                Some(every) => sleep(every).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => shared.hub().cut_all(),
            _ = turned.changed() => {}
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>, stop: CancellationToken) {
    let starting = shared.knobs.borrow().answer_502;
    // Small frames must not wait for each other.
    let _ = stream.set_nodelay(true);
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(4 << 20);
    #[expect(clippy::result_large_err, reason = "the signature is the handshake's")]
    let check = move |request: &Request, response: Response| check_request(request, response, starting);
    let shaken = tokio_tungstenite::accept_hdr_async_with_config(stream, check, Some(config));
    let Ok(Ok(socket)) = timeout(HANDSHAKE, shaken).await else { return };
    let seat = {
        let knobs = shared.knobs.borrow().clone();
        shared.hub().enter(&knobs)
    };
    let (mut sink, mut source) = socket.split();
    tokio::select! {
        () = stop.cancelled() => {}
        () = seat.cut.cancelled() => {}
        () = read(&mut source, &seat, &shared) => {}
        () = write(&mut sink, &seat, &shared) => {}
    }
    shared.hub().leave(seat.number);
    if shared.knobs.borrow().silent {
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
fn check_request(request: &Request, response: Response, starting: bool) -> Result<Response, ErrorResponse> {
    let refuse = |status| {
        let mut refusal = ErrorResponse::new(None);
        *refusal.status_mut() = status;
        Err(refusal)
    };
    match request.uri().path() {
        _ if starting => refuse(StatusCode::BAD_GATEWAY),
        path if PATHS.contains(&path) => Ok(response),
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
                shared.hub().hear(seat.number, &text, &knobs, clock::now());
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
            let knobs = shared.knobs.borrow();
            shared.hub().flood(seat.number, events, &knobs, clock::now())
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
