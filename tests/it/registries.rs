//! What a real Home Assistant says about its entities, and what happens in it besides changes of states.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use ha_ingestor::config::secret::Secret;
use ha_ingestor::config::settings::{self, Tls};
use ha_ingestor::ingest::hass;
use ha_ingestor::model::event::{Arrival, Event, Fired};
use ha_ingestor::model::registries::{Named, Registered, Registries};
use ha_ingestor::model::time::Timestamp;
use ha_ingestor::model::value::Value as Held;
use ha_ingestor::rules::Rules;
use ha_ingestor::status::board::Board;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;

use crate::peers::home_assistant::{HomeAssistant, Setup};

/// Also on a machine that builds something else at the same time.
const SOON: Duration = Duration::from_mins(1);

/// The owner, who sets the home up.
pub struct Owner {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    last_id: u64,
}

impl Owner {
    pub async fn connect(home: &HomeAssistant) -> Self {
        let (socket, _) = connect_async(websocket(home)).await.unwrap();
        let mut owner = Self { socket, last_id: 0 };
        owner.hear().await;
        owner.say(&json!({"type": "auth", "access_token": home.token()})).await;
        assert_eq!(owner.hear().await["type"], "auth_ok");
        owner
    }

    /// The result of a command.
    pub async fn ask(&mut self, kind: &str, mut command: Value) -> Value {
        self.last_id += 1;
        command["id"] = self.last_id.into();
        command["type"] = kind.into();
        self.say(&command).await;
        let answer = self.hear().await;
        assert_eq!(answer["success"], true, "{kind}: {answer}");
        answer["result"].clone()
    }

    async fn say(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message.
    pub async fn hear(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.socket.next().await.unwrap().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }
}

/// The part of the service that listens, and what it heard.
struct Listener {
    arrivals: mpsc::Receiver<Arrival>,
    registries: Arc<Registries>,
    fired: Vec<Fired>,
    changed: Vec<String>,
    board: Arc<Board>,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Listener {
    async fn start(home: &HomeAssistant, events: &[&str]) -> Self {
        let (sender, mut arrivals) = mpsc::channel(64);
        let board = Arc::new(Board::new(Instant::now(), Timestamp::from_micros(0)));
        let stop = CancellationToken::new();
        let events = events.iter().map(|name| (*name).to_owned()).collect();
        let (_, rules) = watch::channel(Arc::new(Rules { events, ..Rules::default() }));
        let settings = settings::HomeAssistant {
            url: websocket(home).parse().unwrap(),
            token: Secret::new(home.token()),
            tls: Tls { verify: true, ca_certificate: None },
        };
        let mut task = JoinSet::new();
        let (news, _) = mpsc::unbounded_channel();
        task.spawn(hass::run(settings, rules, sender, news, Arc::clone(&board), stop.clone()));
        let first = timeout(SOON, arrivals.recv()).await.expect("Home Assistant answers").unwrap();
        let Arrival::Registries(registries) = first else { panic!("the registries come before any state") };
        Self { arrivals, registries, fired: Vec::new(), changed: Vec::new(), board, stop, task }
    }

    /// Listens until it is so.
    async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let listen = async {
            while !is_so(self) {
                match self.arrivals.recv().await.expect("the session goes on") {
                    Arrival::Registries(registries) => self.registries = registries,
                    Arrival::Live { .. } => {}
                    Arrival::Events(events) => {
                        for event in events {
                            match event {
                                Event::Fired(fired) => self.fired.push(fired),
                                Event::Changed(change) => self.changed.push(change.entity.as_str().to_owned()),
                                _ => {}
                            }
                        }
                    }
                }
            }
        };
        let is_in_time = timeout(SOON, listen).await.is_ok();
        assert!(is_in_time, "{what}: still not so; {:?}, {:?}", self.registries.entities.keys(), self.fired);
    }

    fn has(&self, entity: &str, area: &str, floor: &str, labels: &[&str]) -> bool {
        let name = |named: &Option<Arc<Named>>| named.as_ref().map_or_else(String::new, |named| named.name.to_string());
        self.registries.entities.get(entity).is_some_and(|known: &Registered| {
            let found: Vec<_> = known.labels.iter().map(|label| &*label.name).collect();
            name(&known.area) == area && name(&known.floor) == floor && found == labels
        })
    }

    fn fired(&self, event_type: &str, name: &str, text: &str) -> bool {
        self.fired
            .iter()
            .any(|fired| &*fired.event_type == event_type && fired.data.get(name) == Some(&Held::Text(text.into())))
    }

    async fn end(mut self) {
        let status = self.board.snapshot(Instant::now(), Timestamp::from_micros(0));
        assert!(status.hass.unreadable.iter().all(|(_, count)| *count == 0), "{:?}", status.hass.unreadable);
        assert_eq!((status.hass.sessions, status.hass.unknown_messages), (1, 0));
        self.stop.cancel();
        self.arrivals.close();
        timeout(SOON, self.task.join_next()).await.expect("it ends").unwrap().unwrap();
    }
}

pub fn websocket(home: &HomeAssistant) -> String {
    format!("{}/api/websocket", home.url().replace("http://", "ws://"))
}

#[test]
fn areas_and_labels_follow_what_a_person_does_and_events_come_as_they_are_fired() {
    let Some(home) = HomeAssistant::start(Setup::default()) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut owner = Owner::connect(&home).await;
        let floor = owner.ask("config/floor_registry/create", json!({"name": "Ground floor", "level": 0})).await;
        let kitchen = json!({"name": "Küche", "floor_id": floor["floor_id"]});
        let kitchen = owner.ask("config/area_registry/create", kitchen).await["area_id"].clone();
        let hall = owner.ask("config/area_registry/create", json!({"name": "Hall"})).await["area_id"].clone();
        let label = owner.ask("config/label_registry/create", json!({"name": "Important, really"})).await;
        let (twice, note) = ("sensor.twice_the_level", "sensor.the_note");
        let update = json!({"entity_id": twice, "area_id": kitchen, "labels": [label["label_id"]]});
        owner.ask("config/entity_registry/update", update).await;

        let events = ["automation_triggered", "call_service", "my_event"];
        let mut listener = Listener::start(&home, &events).await;
        assert!(listener.has(twice, "Küche", "Ground floor", &["Important, really"]), "{:?}", listener.registries);
        assert!(listener.has(note, "", "", &[]));
        assert_eq!(listener.registries.entities[twice].platform.as_deref(), Some("template"));
        listener.until("states come", |heard| heard.changed.iter().any(|entity| entity == note)).await;

        // Two get other names and other rooms while somebody listens.
        for (old, new, area) in [(twice, "sensor.double", &hall), (note, "sensor.remark", &kitchen)] {
            let update = json!({"entity_id": old, "new_entity_id": new, "area_id": area});
            owner.ask("config/entity_registry/update", update).await;
        }
        listener
            .until("both moved", |heard| {
                heard.has("sensor.double", "Hall", "", &["Important, really"])
                    && heard.has("sensor.remark", "Küche", "Ground floor", &[])
                    && !heard.registries.entities.contains_key(twice)
            })
            .await;
        let update = json!({"area_id": kitchen, "name": "Galley"});
        owner.ask("config/area_registry/update", update).await;
        listener.until("the room has another name", |heard| heard.has("sensor.remark", "Galley", "Ground floor", &[])).await;

        let call = json!({"domain": "input_boolean", "service": "turn_on", "service_data": {"entity_id": "input_boolean.flag"}});
        owner.ask("call_service", call).await;
        listener.until("the call is heard", |heard| heard.fired("call_service", "domain", "input_boolean")).await;
        for (event_type, data) in [
            ("automation_triggered", json!({"name": "Night", "entity_id": "automation.night", "source": "time"})),
            ("my_event", json!({"text": "t", "deep": {"list": [1, 2.5, null]}})),
        ] {
            owner.ask("fire_event", json!({"event_type": event_type, "event_data": data})).await;
        }
        listener.until("an automation", |heard| heard.fired("automation_triggered", "name", "Night")).await;
        listener.until("our event", |heard| heard.fired("my_event", "text", "t")).await;
        let known = |fired: &Fired| fired.context.is_some() && fired.time_fired > Timestamp::from_micros(0);
        assert!(listener.fired.iter().all(known), "{:?}", listener.fired);
        assert!(listener.fired.iter().any(|fired| fired.user.is_some()), "the owner did it");
        listener.end().await;
    });
}
