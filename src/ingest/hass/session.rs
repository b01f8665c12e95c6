//! One conversation with Home Assistant: what to say next, and when to give up.
//!
//! Pure: no socket, no clock. `now` is the time since some start, the same for all calls.

use std::time::Duration;

use crate::config::secret::Secret;
use crate::config::settings::Filter;
use crate::model::fate::Unreadable;

use super::protocol::{Command, Entities, Failure, Message};

/// How long Home Assistant may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the greeting, and again for the answer to the token. Home Assistant itself gives up after 10 s.
    pub auth: Duration,
    /// For the states of all entities, after the subscription.
    pub snapshot: Duration,
    /// From one sign of life that we ask for to the next.
    pub ping_every: Duration,
    pub pong_within: Duration,
    /// From one time that we ask for all states again to the next.
    pub ask_again_every: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            auth: Duration::from_secs(10),
            snapshot: Duration::from_mins(1),
            ping_every: Duration::from_secs(30),
            pong_within: Duration::from_secs(10),
            ask_again_every: Duration::from_mins(1),
        }
    }
}

pub struct Session {
    token: Secret,
    filter: Filter,
    patience: Patience,
    phase: Phase,
    /// When the phase began.
    since: Duration,
    version: String,
    last_id: u64,
    last_ping: Duration,
    /// The ping that was not answered yet.
    unanswered: Option<u64>,
    last_heard: Duration,
    /// What was lost since all states were asked for.
    damage: Option<Unreadable>,
    /// When all states were asked for again.
    asked_again: Option<Duration>,
    /// The subscription that was ended last; what still comes of it is too old.
    left: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Greeting,
    Authenticating,
    Subscribing { id: u64 },
    Live { id: u64 },
}

#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    Message(&'a Message<'a>),
    /// Something that Home Assistant sent was lost, so what is held of its states may be wrong.
    Damaged(Unreadable),
    /// Time passed. `idle`: every frame that arrived was looked at.
    Tick {
        idle: bool,
    },
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Send(Vec<Command>),
    /// Home Assistant does not take the filter. Everything is subscribed to instead; the pipeline filters as well.
    Widen(Command),
    /// The states can be relied on no more: ask for all of them.
    AskAgain {
        commands: Vec<Command>,
        lost: Unreadable,
    },
    /// The message holds the states of all entities, unless something was lost before it: then it is not `whole`.
    TakeSnapshot {
        whole: bool,
    },
    /// The message holds changes.
    Apply,
    /// The ping came back after this time.
    Answered(Duration),
    Count(Unreadable),
    /// Nobody asked for this message.
    CountUnknown,
    End(Ended),
}

/// Why the session ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    #[error("Home Assistant does not accept the token ({0}): create a new long-lived access token and enter it")]
    WrongToken(String),
    #[error("the server does not greet as Home Assistant does: check the address")]
    NoGreeting,
    #[error("Home Assistant did not answer to the token in time")]
    AuthTimeout,
    #[error("Home Assistant refuses the subscription: {message} ({code})")]
    Refused { code: String, message: String },
    #[error("Home Assistant did not send the states of its entities in time")]
    NoSnapshot,
    #[error("Home Assistant does not answer any more")]
    Silent,
}

impl Session {
    #[must_use]
    pub fn new(token: Secret, filter: Filter, patience: Patience, now: Duration) -> Self {
        Self {
            token,
            filter,
            patience,
            phase: Phase::Greeting,
            since: now,
            version: String::new(),
            last_id: 0,
            last_ping: now,
            unanswered: None,
            last_heard: now,
            damage: None,
            asked_again: None,
            left: None,
        }
    }

    /// Home Assistant's version, once it said it.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    #[must_use]
    pub fn handle(&mut self, input: Input<'_>, now: Duration) -> Option<Action> {
        match input {
            Input::Tick { idle } => self.tick(idle, now),
            // The attribute is known to be missing, and the rest of the entity is as it should be.
            Input::Damaged(Unreadable::Attribute) => None,
            Input::Damaged(lost) => {
                self.damage.get_or_insert(lost);
                self.ask_again(now)
            }
            Input::Message(message) => {
                self.last_heard = now;
                self.message(message, now)
            }
        }
    }

    fn message(&mut self, message: &Message<'_>, now: Duration) -> Option<Action> {
        match (message, self.phase) {
            (Message::Event { id, .. }, Phase::Live { id: ours }) if *id == ours => Some(Action::Apply),
            (Message::Event { id, entities }, Phase::Subscribing { id: ours }) if *id == ours => {
                Some(self.first_event(ours, entities, now))
            }
            (Message::Event { id, .. }, _) if self.left == Some(*id) => None,
            (Message::AuthRequired { .. }, Phase::Greeting) => {
                self.enter(Phase::Authenticating, now);
                Some(Action::Send(vec![Command::Auth { token: self.token.clone() }]))
            }
            (Message::AuthOk { ha_version }, Phase::Authenticating) => {
                self.version = ha_version.clone().into_owned();
                let coalesce = Command::CoalesceMessages { id: self.next_id() };
                Some(Action::Send(vec![coalesce, self.subscribe(now)]))
            }
            (Message::AuthInvalid { message }, _) => Some(Action::End(Ended::WrongToken(message.clone().into_owned()))),
            (Message::Pong { id }, _) if self.unanswered == Some(*id) => {
                self.unanswered = None;
                Some(Action::Answered(now.saturating_sub(self.last_ping)))
            }
            (Message::Result { id, outcome }, _) if *id <= self.last_id => self.result(*id, outcome, now),
            _ => Some(Action::CountUnknown),
        }
    }

    fn first_event(&mut self, id: u64, entities: &Entities<'_>, now: Duration) -> Action {
        // The snapshot comes first. If it was lost, the differences mean nothing.
        if entities.added.is_none() {
            return Action::Count(Unreadable::UnknownEntity);
        }
        self.enter(Phase::Live { id }, now);
        Action::TakeSnapshot { whole: self.damage.is_none() }
    }

    /// Not by ending the session: an entity that is never readable would keep it from ever being live.
    fn ask_again(&mut self, now: Duration) -> Option<Action> {
        let (Phase::Subscribing { id } | Phase::Live { id }) = self.phase else {
            return None;
        };
        let lost = self.damage?;
        if self.asked_again.is_some_and(|asked| now.saturating_sub(asked) < self.patience.ask_again_every) {
            return None;
        }
        self.damage = None;
        self.asked_again = Some(now);
        self.left = Some(id);
        let unsubscribe = Command::Unsubscribe { id: self.next_id(), subscription: id };
        Some(Action::AskAgain { commands: vec![unsubscribe, self.subscribe(now)], lost })
    }

    fn result(&mut self, id: u64, outcome: &Result<(), Failure<'_>>, now: Duration) -> Option<Action> {
        let Err(failure) = outcome else {
            return None;
        };
        match self.phase {
            // Home Assistant puts this in the place of an event that it could not write as JSON; the subscription stays.
            Phase::Subscribing { id: ours } | Phase::Live { id: ours }
                if id == ours && failure.message == "Invalid JSON in response" =>
            {
                Some(Action::Count(Unreadable::NotSerialised))
            }
            // Home Assistant lets no name pass that cannot be an entity's, so one slip in the filter would stop all.
            Phase::Subscribing { id: ours }
                if id == ours && failure.code == "invalid_format" && self.filter != Filter::default() =>
            {
                self.filter = Filter::default();
                Some(Action::Widen(self.subscribe(now)))
            }
            Phase::Subscribing { id: ours } if id == ours => Some(Action::End(Ended::Refused {
                code: failure.code.clone().into_owned(),
                message: failure.message.clone().into_owned(),
            })),
            // `supported_features` fails on a Home Assistant that knows no features, a ping never.
            _ => None,
        }
    }

    fn tick(&mut self, idle: bool, now: Duration) -> Option<Action> {
        if !idle {
            // Frames that wait are a sign of life, and one of them may be the answer.
            self.last_heard = now;
        }
        let waited = now.saturating_sub(self.since);
        match self.phase {
            Phase::Greeting if waited > self.patience.auth => return Some(Action::End(Ended::NoGreeting)),
            Phase::Authenticating if waited > self.patience.auth => return Some(Action::End(Ended::AuthTimeout)),
            Phase::Subscribing { .. } if idle && waited > self.patience.snapshot => {
                return Some(Action::End(Ended::NoSnapshot));
            }
            Phase::Greeting | Phase::Authenticating => return None,
            // Once a minute; while a snapshot is on its way, that it comes is waited for.
            Phase::Live { .. } => {
                if let Some(asked) = self.ask_again(now) {
                    return Some(asked);
                }
            }
            Phase::Subscribing { .. } => {}
        }
        if self.unanswered.is_some() {
            let silent = now.saturating_sub(self.last_heard.max(self.last_ping));
            return (silent > self.patience.pong_within).then_some(Action::End(Ended::Silent));
        }
        if now.saturating_sub(self.last_ping) < self.patience.ping_every {
            return None;
        }
        let id = self.next_id();
        self.last_ping = now;
        self.unanswered = Some(id);
        Some(Action::Send(vec![Command::Ping { id }]))
    }

    fn subscribe(&mut self, now: Duration) -> Command {
        let id = self.next_id();
        self.enter(Phase::Subscribing { id }, now);
        Command::SubscribeEntities { id, filter: self.filter.clone() }
    }

    fn enter(&mut self, phase: Phase, now: Duration) {
        self.phase = phase;
        self.since = now;
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Action, Ended, Input, Patience, Session};
    use crate::config::secret::Secret;
    use crate::config::settings::{EntitySet, Filter};
    use crate::ingest::hass::protocol::{Command, decode};
    use crate::model::fate::Unreadable;

    const REQUIRED: &str = r#"{"type":"auth_required","ha_version":"2025.4.4"}"#;
    const OK: &str = r#"{"type":"auth_ok","ha_version":"2025.4.4"}"#;
    const SNAPSHOT: &str = r#"{"id":2,"type":"event","event":{"a":{}}}"#;
    const CHANGE: &str = r#"{"type":"event","event":{"c":{}},"id":2}"#;
    const NOT_SERIALISED: &str = r#"{"type":"result","success":false,"error":{"code":"unknown_error","message":"Invalid JSON in response"},"id":2}"#;

    fn filter() -> Filter {
        Filter {
            include: EntitySet { entities: vec!["not an id".into()], ..EntitySet::default() },
            ..Filter::default()
        }
    }

    fn session() -> Session {
        Session::new(Secret::new("t"), filter(), Patience::default(), Duration::ZERO)
    }

    fn hear(session: &mut Session, text: &str, second: u64) -> Option<Action> {
        let frame = decode(text);
        assert_eq!(frame.messages.len(), 1, "{text}");
        session.handle(Input::Message(&frame.messages[0]), Duration::from_secs(second))
    }

    fn tick(session: &mut Session, second: u64) -> Option<Action> {
        session.handle(Input::Tick { idle: true }, Duration::from_secs(second))
    }

    /// A session that was answered all it wanted, at second 0.
    fn live() -> Session {
        let mut session = session();
        for text in [REQUIRED, OK, SNAPSHOT] {
            assert!(hear(&mut session, text, 0).is_some());
        }
        session
    }

    /// What a failure of the subscription leads to.
    fn refused(session: &mut Session, id: u64, code: &str) -> Option<Action> {
        let text =
            format!(r#"{{"id":{id},"type":"result","success":false,"error":{{"code":"{code}","message":"m"}}}}"#);
        hear(session, &text, 0)
    }

    #[test]
    fn a_session_authenticates_subscribes_and_listens() {
        let mut session = session();
        assert_eq!(
            hear(&mut session, REQUIRED, 0),
            Some(Action::Send(vec![Command::Auth { token: Secret::new("t") }]))
        );
        assert_eq!(
            hear(&mut session, OK, 0),
            Some(Action::Send(vec![
                Command::CoalesceMessages { id: 1 },
                Command::SubscribeEntities { id: 2, filter: filter() }
            ]))
        );
        assert_eq!(session.version(), "2025.4.4");
        assert_eq!(hear(&mut session, r#"{"id":1,"type":"result","success":true,"result":null}"#, 0), None);
        assert_eq!(hear(&mut session, r#"{"id":2,"type":"result","success":true,"result":null}"#, 0), None);
        assert_eq!(hear(&mut session, SNAPSHOT, 0), Some(Action::TakeSnapshot { whole: true }));
        assert_eq!(hear(&mut session, CHANGE, 0), Some(Action::Apply));
        assert_eq!(hear(&mut session, SNAPSHOT, 0), Some(Action::Apply), "an entity that was added");
    }

    #[test]
    fn a_wrong_token_ends_the_session() {
        let mut session = session();
        let _auth = hear(&mut session, REQUIRED, 0);
        let ended = hear(&mut session, r#"{"type":"auth_invalid","message":"Invalid access token or password"}"#, 0);
        assert_eq!(ended, Some(Action::End(Ended::WrongToken("Invalid access token or password".into()))));
    }

    #[test]
    fn silence_is_answered_by_a_ping_and_then_by_a_reconnect() {
        let mut session = live();
        assert_eq!(tick(&mut session, 29), None);
        assert_eq!(tick(&mut session, 30), Some(Action::Send(vec![Command::Ping { id: 3 }])));
        assert_eq!(tick(&mut session, 40), None);
        assert_eq!(tick(&mut session, 41), Some(Action::End(Ended::Silent)));
    }

    #[test]
    fn a_pong_tells_the_latency_and_the_next_ping_comes_in_time() {
        let mut session = live();
        let _ping = tick(&mut session, 30);
        assert_eq!(hear(&mut session, r#"{"id":2,"type":"pong"}"#, 31), Some(Action::CountUnknown));
        assert_eq!(hear(&mut session, r#"{"id":3,"type":"pong"}"#, 32), Some(Action::Answered(Duration::from_secs(2))));
        assert_eq!(hear(&mut session, r#"{"id":3,"type":"pong"}"#, 32), Some(Action::CountUnknown));
        assert_eq!(tick(&mut session, 59), None);
        assert_eq!(tick(&mut session, 60), Some(Action::Send(vec![Command::Ping { id: 4 }])));
    }

    #[test]
    fn a_stream_that_still_arrives_is_not_cut() {
        let mut session = live();
        let _ping = tick(&mut session, 30);
        assert_eq!(hear(&mut session, CHANGE, 39), Some(Action::Apply));
        assert_eq!(tick(&mut session, 49), None);
        assert_eq!(session.handle(Input::Tick { idle: false }, Duration::from_secs(55)), None);
        assert_eq!(tick(&mut session, 65), None);
        assert_eq!(tick(&mut session, 66), Some(Action::End(Ended::Silent)));
    }

    #[test]
    fn each_phase_has_its_patience() {
        let table: [(&[&str], u64, Ended); 3] = [
            (&[], 10, Ended::NoGreeting),
            (&[REQUIRED], 10, Ended::AuthTimeout),
            (&[REQUIRED, OK], 60, Ended::NoSnapshot),
        ];
        for (heard, seconds, ended) in table {
            let mut session = session();
            for text in heard {
                assert!(hear(&mut session, text, 0).is_some());
            }
            if seconds > 30 {
                assert!(matches!(tick(&mut session, 30), Some(Action::Send(_))));
                assert!(hear(&mut session, r#"{"id":3,"type":"pong"}"#, 30).is_some());
            }
            assert!(!matches!(tick(&mut session, seconds), Some(Action::End(_))), "{ended}");
            assert_eq!(tick(&mut session, seconds + 1), Some(Action::End(ended)));
        }
    }

    #[test]
    fn a_refused_subscription_is_named() {
        for code in ["unknown_command", "unauthorized", "unknown_error"] {
            let mut session = session();
            let _auth = hear(&mut session, REQUIRED, 0);
            let _subscribe = hear(&mut session, OK, 0);
            assert_eq!(refused(&mut session, 1, code), None, "without coalescing it works as well");
            let ended = Ended::Refused { code: code.into(), message: "m".into() };
            assert_eq!(refused(&mut session, 2, code), Some(Action::End(ended)));
        }
    }

    #[test]
    fn a_filter_that_is_not_taken_is_left_out_once() {
        let mut session = session();
        let _auth = hear(&mut session, REQUIRED, 0);
        let _subscribe = hear(&mut session, OK, 0);
        let everything = Command::SubscribeEntities { id: 3, filter: Filter::default() };
        assert_eq!(refused(&mut session, 2, "invalid_format"), Some(Action::Widen(everything)));
        assert!(matches!(refused(&mut session, 3, "invalid_format"), Some(Action::End(Ended::Refused { .. }))));
    }

    #[test]
    fn an_event_that_home_assistant_cannot_write_is_counted_and_the_session_goes_on() {
        let mut session = live();
        assert_eq!(hear(&mut session, NOT_SERIALISED, 1), Some(Action::Count(Unreadable::NotSerialised)));
        assert_eq!(hear(&mut session, CHANGE, 1), Some(Action::Apply));
    }

    #[test]
    fn differences_without_a_snapshot_mean_nothing() {
        let mut session = session();
        let _auth = hear(&mut session, REQUIRED, 0);
        let _subscribe = hear(&mut session, OK, 0);
        assert_eq!(hear(&mut session, CHANGE, 0), Some(Action::Count(Unreadable::UnknownEntity)));
        assert_eq!(hear(&mut session, SNAPSHOT, 0), Some(Action::TakeSnapshot { whole: true }));
    }

    fn damage(session: &mut Session, lost: Unreadable, second: u64) -> Option<Action> {
        session.handle(Input::Damaged(lost), Duration::from_secs(second))
    }

    /// The answer to a loss: `left` is ended, and two commands follow those that were `used`.
    fn asks_again(left: u64, used: u64, lost: Unreadable) -> Action {
        let unsubscribe = Command::Unsubscribe { id: used + 1, subscription: left };
        let subscribe = Command::SubscribeEntities { id: used + 2, filter: filter() };
        Action::AskAgain { commands: vec![unsubscribe, subscribe], lost }
    }

    #[test]
    fn a_loss_is_made_good_by_all_states_and_what_still_comes_of_before_is_ignored() {
        use Unreadable::{Entity, Frame, Message, NotSerialised, UnknownEntity};
        for lost in [Frame, Message, Entity, UnknownEntity, NotSerialised] {
            let mut session = live();
            assert_eq!(damage(&mut session, lost, 1), Some(asks_again(2, 2, lost)));
            assert_eq!(hear(&mut session, CHANGE, 1), None);
            assert_eq!(hear(&mut session, SNAPSHOT, 1), None, "an entity that was added before");
            let again = SNAPSHOT.replace("\"id\":2", "\"id\":4");
            assert_eq!(hear(&mut session, &again, 1), Some(Action::TakeSnapshot { whole: true }));
            assert_eq!(hear(&mut session, CHANGE, 1), None);
            assert_eq!(hear(&mut session, &CHANGE.replace("\"id\":2", "\"id\":4"), 1), Some(Action::Apply));
        }
        assert_eq!(damage(&mut live(), Unreadable::Attribute, 1), None);
        assert_eq!(damage(&mut session(), Unreadable::Frame, 1), None, "there are no states yet");
    }

    #[test]
    fn all_states_are_asked_for_once_a_minute() {
        let mut session = live();
        assert!(damage(&mut session, Unreadable::Entity, 1).is_some());
        assert_eq!(damage(&mut session, Unreadable::NotSerialised, 2), None);
        let again = SNAPSHOT.replace("\"id\":2", "\"id\":4");
        assert_eq!(hear(&mut session, &again, 3), Some(Action::TakeSnapshot { whole: false }), "of what was lost");
        assert_eq!(tick(&mut session, 20), None);
        let _ping = tick(&mut session, 40);
        let _pong = hear(&mut session, r#"{"id":5,"type":"pong"}"#, 41);
        assert_eq!(tick(&mut session, 60), None);
        assert_eq!(tick(&mut session, 61), Some(asks_again(4, 5, Unreadable::NotSerialised)));
    }

    #[test]
    fn a_snapshot_that_was_lost_is_asked_for_and_not_taken_from_what_comes_next() {
        let mut session = session();
        let _auth = hear(&mut session, REQUIRED, 0);
        let _subscribe = hear(&mut session, OK, 0);
        assert_eq!(damage(&mut session, Unreadable::Frame, 1), Some(asks_again(2, 2, Unreadable::Frame)));
        assert_eq!(hear(&mut session, SNAPSHOT, 2), None);
    }

    #[test]
    fn what_nobody_asked_for_is_counted() {
        for text in [
            r#"{"type":"news","id":2}"#,
            r#"{"type":"event","event":{"c":{}},"id":1}"#,
            r#"{"id":9,"type":"result","success":true,"result":null}"#,
            REQUIRED,
            OK,
        ] {
            assert_eq!(hear(&mut live(), text, 1), Some(Action::CountUnknown), "{text}");
        }
    }
}
