//! One conversation with Home Assistant: what to say next, and when to give up.
//!
//! Pure: no socket, no clock. `now` is the time since some start, the same for all calls.

use std::time::Duration;

use crate::config::secret::Secret;
use crate::config::settings::Filter;
use crate::model::fate::Unreadable;
use crate::rules::Rules;

use super::protocol::{Command, Entities, Failure, Message, Registry};
use super::reload::Reload;

/// How long Home Assistant may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the greeting, and again for the answer to the token. Home Assistant itself gives up after 10 s.
    pub auth: Duration,
    /// For the registries, before the states are asked for without them.
    pub registries: Duration,
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
            registries: Duration::from_secs(5),
            snapshot: Duration::from_mins(1),
            ping_every: Duration::from_secs(30),
            pong_within: Duration::from_secs(10),
            ask_again_every: Duration::from_mins(1),
        }
    }
}

/// What of a home is received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The entities whose states are.
    pub filter: Filter,
    /// The types of events that are, besides changes of states.
    pub events: Vec<String>,
}

pub struct Session {
    token: Secret,
    wanted: Wanted,
    /// Home Assistant refused the filter that is wanted: everything is received.
    widened: bool,
    /// The types of events that are subscribed to.
    events: Vec<(u64, String)>,
    reload: Reload,
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
    /// Subscriptions that were ended, each after the command that ends it: until that is answered, something may still
    /// come of them.
    left: Vec<(u64, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Greeting,
    Authenticating,
    /// What is known about the entities is on its way. States wait for it, so that they are shaped with it.
    Registering,
    Subscribing {
        id: u64,
    },
    Live {
        id: u64,
    },
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
    /// Other things are wanted than before.
    Wanted(&'a Wanted),
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
    /// The message is an event that was asked for.
    TakeFired,
    /// The message is an answer about a registry: its list, or that there is none.
    TakeRegistry {
        registry: Registry,
        then: Registered,
    },
    /// These registries did not answer in time. They are done without until they do.
    GoOn {
        without: Vec<Registry>,
        commands: Vec<Command>,
    },
    /// Home Assistant does not tell of events of this type.
    LackEvents {
        event_type: String,
        because: String,
    },
    /// The ping came back after this time.
    Answered(Duration),
    Count(Unreadable),
    /// An event that was asked for, and is no change of a state, could not be written by Home Assistant.
    LoseEvent,
    /// Nobody asked for this message.
    CountUnknown,
    End(Ended),
}

/// What follows the answer about one registry.
#[derive(Debug, PartialEq)]
pub struct Registered {
    /// It was the last of those that were asked for together.
    pub complete: bool,
    pub commands: Vec<Command>,
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

impl Wanted {
    /// Home Assistant knows of no areas and labels in its filter: if one is in the rules, all states are received, and
    /// the pipeline filters.
    #[must_use]
    pub fn by(rules: &Rules) -> Self {
        let named = !rules.filter.include.registry.is_empty() || !rules.filter.exclude.registry.is_empty();
        let filter = if named { Filter::default() } else { rules.filter.clone() };
        let mut events = rules.events.clone();
        events.sort_unstable();
        events.dedup();
        Self { filter, events }
    }
}

impl Session {
    #[must_use]
    pub fn new(token: Secret, wanted: Wanted, patience: Patience, now: Duration) -> Self {
        Self {
            token,
            wanted,
            widened: false,
            events: Vec::new(),
            reload: Reload::default(),
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
            left: Vec::new(),
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
            Input::Wanted(wanted) => self.want(wanted, now),
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
            (Message::Fired { id, .. }, _) if self.events.iter().any(|(ours, _)| ours == id) => Some(Action::TakeFired),
            (Message::Fired { id, .. }, _) if self.reload.subscribed(*id).is_some() => {
                self.reload.changed(now);
                None
            }
            (Message::Event { id, .. } | Message::Fired { id, .. }, _)
                if self.left.iter().any(|(_, left)| left == id) =>
            {
                None
            }
            (Message::AuthRequired { .. }, Phase::Greeting) => {
                self.enter(Phase::Authenticating, now);
                Some(Action::Send(vec![Command::Auth { token: self.token.clone() }]))
            }
            (Message::AuthOk { ha_version }, Phase::Authenticating) => {
                self.version = ha_version.clone().into_owned();
                self.enter(Phase::Registering, now);
                let mut commands = vec![Command::CoalesceMessages { id: self.next_id() }];
                commands.extend(self.reload.begin(counter(&mut self.last_id), now));
                Some(Action::Send(commands))
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
        self.asked_again = Some(now);
        Some(Action::AskAgain { commands: vec![self.leave(id), self.subscribe(now)], lost })
    }

    fn want(&mut self, wanted: &Wanted, now: Duration) -> Option<Action> {
        let before = std::mem::replace(&mut self.wanted, wanted.clone());
        let mut commands = Vec::new();
        if matches!(self.phase, Phase::Subscribing { .. } | Phase::Live { .. }) && before.events != wanted.events {
            commands = self.subscribe_events();
        }
        if before.filter != wanted.filter {
            self.widened = false;
            if let Phase::Subscribing { id } | Phase::Live { id } = self.phase {
                commands.push(self.leave(id));
                commands.push(self.subscribe(now));
            }
        }
        (!commands.is_empty()).then_some(Action::Send(commands))
    }

    /// An answer about a registry. After the last of them the states are asked for.
    fn register(&mut self, registry: Registry, now: Duration) -> Action {
        let complete = self.reload.is_complete();
        let commands = if complete && self.phase == Phase::Registering { self.listen(now) } else { Vec::new() };
        Action::TakeRegistry { registry, then: Registered { complete, commands } }
    }

    /// What is said to hear of events and states.
    fn listen(&mut self, now: Duration) -> Vec<Command> {
        let mut commands = self.subscribe_events();
        commands.push(self.subscribe(now));
        commands
    }

    /// Begins and ends subscriptions so that they are those that are wanted.
    fn subscribe_events(&mut self) -> Vec<Command> {
        let (kept, unwanted): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.events).into_iter().partition(|(_, known)| self.wanted.events.contains(known));
        self.events = kept;
        let mut commands: Vec<_> = unwanted.into_iter().map(|(id, _)| self.leave(id)).collect();
        for event_type in self.wanted.events.clone() {
            if !self.events.iter().any(|(_, known)| *known == event_type) {
                let id = self.next_id();
                self.events.push((id, event_type.clone()));
                commands.push(Command::SubscribeEvents { id, event_type });
            }
        }
        commands
    }

    fn leave(&mut self, subscription: u64) -> Command {
        let id = self.next_id();
        self.left.push((id, subscription));
        Command::Unsubscribe { id, subscription }
    }

    fn result(&mut self, id: u64, outcome: &Result<Option<&str>, Failure<'_>>, now: Duration) -> Option<Action> {
        self.left.retain(|(command, _)| *command != id);
        if let Some(registry) = self.reload.answered(id) {
            return Some(self.register(registry, now));
        }
        let Err(failure) = outcome else {
            return None;
        };
        if let Some(at) = self.events.iter().position(|(known, _)| *known == id) {
            if failure.message == NOT_JSON {
                return Some(Action::LoseEvent);
            }
            let (_, event_type) = self.events.remove(at);
            return Some(Action::LackEvents { event_type, because: said(failure) });
        }
        if let Some(registry) = self.reload.subscribed(id)
            && failure.message != NOT_JSON
        {
            let event_type = format!("{}_registry_updated", registry.name());
            return Some(Action::LackEvents { event_type, because: said(failure) });
        }
        match self.phase {
            // The subscription stays.
            Phase::Subscribing { id: ours } | Phase::Live { id: ours } if id == ours && failure.message == NOT_JSON => {
                Some(Action::Count(Unreadable::NotSerialised))
            }
            // Home Assistant lets no name pass that cannot be an entity's, so one slip in the filter would stop all.
            Phase::Subscribing { id: ours }
                if id == ours
                    && failure.code == "invalid_format"
                    && !self.widened
                    && self.wanted.filter != Filter::default() =>
            {
                self.widened = true;
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
            Phase::Registering if idle && waited > self.patience.registries => {
                let without = self.reload.unanswered().collect();
                return Some(Action::GoOn { without, commands: self.listen(now) });
            }
            Phase::Greeting | Phase::Authenticating | Phase::Registering => return None,
            // Once a minute; while a snapshot is on its way, that it comes is waited for.
            Phase::Live { .. } => {
                if let Some(asked) = self.ask_again(now) {
                    return Some(asked);
                }
            }
            Phase::Subscribing { .. } => {}
        }
        let silent = now.saturating_sub(self.last_heard.max(self.last_ping));
        if self.unanswered.is_some() && silent > self.patience.pong_within {
            return Some(Action::End(Ended::Silent));
        }
        let mut commands = self.reload.due(counter(&mut self.last_id), now);
        if self.unanswered.is_none() && now.saturating_sub(self.last_ping) >= self.patience.ping_every {
            let id = self.next_id();
            self.last_ping = now;
            self.unanswered = Some(id);
            commands.push(Command::Ping { id });
        }
        (!commands.is_empty()).then_some(Action::Send(commands))
    }

    fn subscribe(&mut self, now: Duration) -> Command {
        let id = self.next_id();
        // What was lost before is among what comes now.
        self.damage = None;
        self.enter(Phase::Subscribing { id }, now);
        let filter = if self.widened { Filter::default() } else { self.wanted.filter.clone() };
        Command::SubscribeEntities { id, filter }
    }

    fn enter(&mut self, phase: Phase, now: Duration) {
        self.phase = phase;
        self.since = now;
    }

    fn next_id(&mut self) -> u64 {
        counter(&mut self.last_id)()
    }
}

/// What Home Assistant puts in the place of an event that it could not write.
const NOT_JSON: &str = "Invalid JSON in response";

fn said(failure: &Failure<'_>) -> String {
    format!("{} ({})", failure.message, failure.code)
}

fn counter(last: &mut u64) -> impl FnMut() -> u64 {
    || {
        *last += 1;
        *last
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Action, Ended, Input, Patience, Registered, Session, Wanted};
    use crate::config::secret::Secret;
    use crate::config::settings::{EntitySet, Filter};
    use crate::ingest::hass::protocol::{Command, Registry, decode};
    use crate::model::fate::Unreadable;
    use crate::rules::Rules;

    const REQUIRED: &str = r#"{"type":"auth_required","ha_version":"2025.4.4"}"#;
    const OK: &str = r#"{"type":"auth_ok","ha_version":"2025.4.4"}"#;
    const SNAPSHOT: &str = r#"{"id":12,"type":"event","event":{"a":{}}}"#;
    const CHANGE: &str = r#"{"type":"event","event":{"c":{}},"id":12}"#;
    const NOT_SERIALISED: &str = r#"{"type":"result","success":false,"error":{"code":"unknown_error","message":"Invalid JSON in response"},"id":12}"#;

    fn filter() -> Filter {
        Filter {
            include: EntitySet { entities: vec!["not an id".into()], ..EntitySet::default() },
            ..Filter::default()
        }
    }

    fn session() -> Session {
        session_that_wants(Wanted { filter: filter(), events: Vec::new() })
    }

    fn session_that_wants(wanted: Wanted) -> Session {
        Session::new(Secret::new("t"), wanted, Patience::default(), Duration::ZERO)
    }

    fn hear(session: &mut Session, text: &str, second: u64) -> Option<Action> {
        let frame = decode(text);
        assert_eq!(frame.messages.len(), 1, "{text}");
        session.handle(Input::Message(&frame.messages[0]), Duration::from_secs(second))
    }

    fn tick(session: &mut Session, second: u64) -> Option<Action> {
        session.handle(Input::Tick { idle: true }, Duration::from_secs(second))
    }

    fn event_type(name: &str, id: u64) -> Command {
        Command::SubscribeEvents { id, event_type: name.to_owned() }
    }

    /// What is said after `auth_ok`: the ids 1 to 11.
    fn first_commands() -> Vec<Command> {
        let mut commands = vec![Command::CoalesceMessages { id: 1 }];
        let updated = |registry: Registry| format!("{}_registry_updated", registry.name());
        commands.extend((2..).zip(Registry::ALL).map(|(id, registry)| event_type(&updated(registry), id)));
        commands.extend((7..).zip(Registry::ALL).map(|(id, registry)| Command::ListRegistry { id, registry }));
        commands
    }

    /// Plays until the states are asked for, at second 0. Gives what is said then.
    fn registered(session: &mut Session) -> Vec<Command> {
        let auth = hear(session, REQUIRED, 0);
        assert_eq!(auth, Some(Action::Send(vec![Command::Auth { token: Secret::new("t") }])));
        assert_eq!(hear(session, OK, 0), Some(Action::Send(first_commands())));
        listed(session, 7, 0)
    }

    /// Answers the five lists, the first of which is that of the command `first`. Gives what is said then.
    fn listed(session: &mut Session, first: u64, second: u64) -> Vec<Command> {
        for (id, registry) in (first..).zip(Registry::ALL) {
            let heard = hear(session, &format!(r#"{{"id":{id},"type":"result","success":true,"result":[]}}"#), second);
            let complete = registry == Registry::Labels;
            let Some(Action::TakeRegistry { registry: taken, then }) = heard else { panic!("a list: {heard:?}") };
            assert_eq!((taken, then.complete), (registry, complete));
            if complete {
                return then.commands;
            }
            assert_eq!(then.commands, []);
        }
        unreachable!("the list of labels comes last")
    }

    fn subscribing() -> Session {
        let mut session = session();
        assert_eq!(registered(&mut session), [Command::SubscribeEntities { id: 12, filter: filter() }]);
        session
    }

    /// A session that was answered all it wanted, at second 0.
    fn live() -> Session {
        let mut session = subscribing();
        assert!(hear(&mut session, SNAPSHOT, 0).is_some());
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
        let mut session = subscribing();
        assert_eq!(session.version(), "2025.4.4");
        for id in [1, 2, 12] {
            let done = format!(r#"{{"id":{id},"type":"result","success":true,"result":null}}"#);
            assert_eq!(hear(&mut session, &done, 0), None);
        }
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
        assert_eq!(tick(&mut session, 30), Some(Action::Send(vec![Command::Ping { id: 13 }])));
        assert_eq!(tick(&mut session, 40), None);
        assert_eq!(tick(&mut session, 41), Some(Action::End(Ended::Silent)));
    }

    #[test]
    fn a_pong_tells_the_latency_and_the_next_ping_comes_in_time() {
        let mut session = live();
        let _ping = tick(&mut session, 30);
        assert_eq!(hear(&mut session, r#"{"id":12,"type":"pong"}"#, 31), Some(Action::CountUnknown));
        assert_eq!(
            hear(&mut session, r#"{"id":13,"type":"pong"}"#, 32),
            Some(Action::Answered(Duration::from_secs(2)))
        );
        assert_eq!(hear(&mut session, r#"{"id":13,"type":"pong"}"#, 32), Some(Action::CountUnknown));
        assert_eq!(tick(&mut session, 59), None);
        assert_eq!(tick(&mut session, 60), Some(Action::Send(vec![Command::Ping { id: 14 }])));
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
        let greeted = || {
            let mut session = session();
            assert!(hear(&mut session, REQUIRED, 0).is_some());
            session
        };
        let table = [
            (session(), 10, Ended::NoGreeting),
            (greeted(), 10, Ended::AuthTimeout),
            (subscribing(), 60, Ended::NoSnapshot),
        ];
        for (mut session, seconds, ended) in table {
            if seconds > 30 {
                assert!(matches!(tick(&mut session, 30), Some(Action::Send(_))));
                assert!(hear(&mut session, r#"{"id":13,"type":"pong"}"#, 30).is_some());
            }
            assert!(!matches!(tick(&mut session, seconds), Some(Action::End(_))), "{ended}");
            assert_eq!(tick(&mut session, seconds + 1), Some(Action::End(ended)));
        }
    }

    #[test]
    fn a_refused_subscription_is_named() {
        for code in ["unknown_command", "unauthorized", "unknown_error"] {
            let mut session = subscribing();
            assert_eq!(refused(&mut session, 1, code), None, "without coalescing it works as well");
            let ended = Ended::Refused { code: code.into(), message: "m".into() };
            assert_eq!(refused(&mut session, 12, code), Some(Action::End(ended)));
        }
    }

    #[test]
    fn a_filter_that_is_not_taken_is_left_out_once() {
        let mut session = subscribing();
        let everything = Command::SubscribeEntities { id: 13, filter: Filter::default() };
        assert_eq!(refused(&mut session, 12, "invalid_format"), Some(Action::Widen(everything)));
        assert!(matches!(refused(&mut session, 13, "invalid_format"), Some(Action::End(Ended::Refused { .. }))));
    }

    #[test]
    fn an_event_that_home_assistant_cannot_write_is_counted_and_the_session_goes_on() {
        let mut session = live();
        assert_eq!(hear(&mut session, NOT_SERIALISED, 1), Some(Action::Count(Unreadable::NotSerialised)));
        assert_eq!(hear(&mut session, CHANGE, 1), Some(Action::Apply));
    }

    #[test]
    fn differences_without_a_snapshot_mean_nothing() {
        let mut session = subscribing();
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
            assert_eq!(damage(&mut session, lost, 1), Some(asks_again(12, 12, lost)));
            assert_eq!(hear(&mut session, CHANGE, 1), None);
            assert_eq!(hear(&mut session, SNAPSHOT, 1), None, "an entity that was added before");
            let again = SNAPSHOT.replace("\"id\":12", "\"id\":14");
            assert_eq!(hear(&mut session, &again, 1), Some(Action::TakeSnapshot { whole: true }));
            assert_eq!(hear(&mut session, CHANGE, 1), None);
            assert_eq!(hear(&mut session, &CHANGE.replace("\"id\":12", "\"id\":14"), 1), Some(Action::Apply));
        }
        assert_eq!(damage(&mut live(), Unreadable::Attribute, 1), None);
        assert_eq!(damage(&mut session(), Unreadable::Frame, 1), None, "there are no states yet");
    }

    #[test]
    fn all_states_are_asked_for_once_a_minute() {
        let mut session = live();
        assert!(damage(&mut session, Unreadable::Entity, 1).is_some());
        assert_eq!(damage(&mut session, Unreadable::NotSerialised, 2), None);
        let again = SNAPSHOT.replace("\"id\":12", "\"id\":14");
        assert_eq!(hear(&mut session, &again, 3), Some(Action::TakeSnapshot { whole: false }), "of what was lost");
        assert_eq!(tick(&mut session, 20), None);
        let _ping = tick(&mut session, 40);
        let _pong = hear(&mut session, r#"{"id":15,"type":"pong"}"#, 41);
        assert_eq!(tick(&mut session, 60), None);
        assert_eq!(tick(&mut session, 61), Some(asks_again(14, 15, Unreadable::NotSerialised)));
    }

    #[test]
    fn a_snapshot_that_was_lost_is_asked_for_and_not_taken_from_what_comes_next() {
        let mut session = subscribing();
        assert_eq!(damage(&mut session, Unreadable::Frame, 1), Some(asks_again(12, 12, Unreadable::Frame)));
        assert_eq!(hear(&mut session, SNAPSHOT, 2), None);
    }

    #[test]
    fn what_nobody_asked_for_is_counted() {
        for text in [
            r#"{"type":"news","id":12}"#,
            r#"{"type":"event","event":{"c":{}},"id":1}"#,
            r#"{"id":19,"type":"result","success":true,"result":null}"#,
            REQUIRED,
            OK,
        ] {
            assert_eq!(hear(&mut live(), text, 1), Some(Action::CountUnknown), "{text}");
        }
    }

    #[test]
    fn states_do_not_wait_for_a_registry_that_is_not_there_or_does_not_answer() {
        let mut session = session();
        let _auth = hear(&mut session, REQUIRED, 0);
        let _lists = hear(&mut session, OK, 0);
        let then = Registered { complete: false, commands: Vec::new() };
        let no_floors = Action::TakeRegistry { registry: Registry::Floors, then };
        assert_eq!(refused(&mut session, 10, "unknown_command"), Some(no_floors));
        assert_eq!(tick(&mut session, 5), None);
        let without = vec![Registry::Entities, Registry::Devices, Registry::Areas, Registry::Labels];
        let commands = vec![Command::SubscribeEntities { id: 12, filter: filter() }];
        assert_eq!(tick(&mut session, 6), Some(Action::GoOn { without, commands }));
        assert_eq!(hear(&mut session, SNAPSHOT, 6), Some(Action::TakeSnapshot { whole: true }));
        for id in [7, 8, 9] {
            let heard = refused(&mut session, id, "m");
            assert!(matches!(heard, Some(Action::TakeRegistry { then: Registered { complete: false, .. }, .. })));
        }
        // The last one is late, and asks for the states no second time.
        let then = Registered { complete: true, commands: Vec::new() };
        let labels = Action::TakeRegistry { registry: Registry::Labels, then };
        assert_eq!(refused(&mut session, 11, "m"), Some(labels));
    }

    #[test]
    fn a_frame_that_was_lost_before_the_states_were_asked_for_is_none_of_theirs() {
        let mut session = session();
        let _auth = hear(&mut session, REQUIRED, 0);
        let _lists = hear(&mut session, OK, 0);
        assert_eq!(damage(&mut session, Unreadable::Frame, 0), None);
        let _states = listed(&mut session, 7, 0);
        assert_eq!(hear(&mut session, SNAPSHOT, 0), Some(Action::TakeSnapshot { whole: true }));
        assert_eq!(tick(&mut session, 1), None);
    }

    #[test]
    fn a_change_of_a_registry_is_followed_by_all_lists() {
        let mut session = live();
        for id in [2, 4, 6, 2] {
            assert_eq!(hear(&mut session, &fired("x_registry_updated", id), 10), None);
        }
        assert_eq!(tick(&mut session, 10), None);
        let lists: Vec<_> =
            (13..).zip(Registry::ALL).map(|(id, registry)| Command::ListRegistry { id, registry }).collect();
        assert_eq!(tick(&mut session, 11), Some(Action::Send(lists)));
        assert_eq!(listed(&mut session, 13, 12), []);
        assert_eq!(tick(&mut session, 20), None);
        let _changed = hear(&mut session, &fired("x_registry_updated", 3), 29);
        let Some(Action::Send(both)) = tick(&mut session, 30) else { panic!("the lists, and a ping") };
        assert_eq!((both.len(), &both[5]), (6, &Command::Ping { id: 23 }));
    }

    fn fired(event_type: &str, id: u64) -> String {
        format!(r#"{{"type":"event","event":{{"event_type":"{event_type}","data":{{}}}},"id":{id}}}"#)
    }

    fn wants(events: &[&str]) -> Wanted {
        Wanted { filter: filter(), events: events.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn events_are_heard_of_before_the_states_are() {
        let mut session = session_that_wants(wants(&["one", "two"]));
        let said = registered(&mut session);
        let states = Command::SubscribeEntities { id: 14, filter: filter() };
        assert_eq!(said, [event_type("one", 12), event_type("two", 13), states]);
        assert_eq!(hear(&mut session, &fired("one", 12), 0), Some(Action::TakeFired));
        assert_eq!(hear(&mut session, &fired("three", 15), 0), Some(Action::CountUnknown));
        let lack = Action::LackEvents { event_type: "two".into(), because: "m (unauthorized)".into() };
        assert_eq!(refused(&mut session, 13, "unauthorized"), Some(lack));
        let lack =
            Action::LackEvents { event_type: "floor_registry_updated".into(), because: "m (unauthorized)".into() };
        assert_eq!(refused(&mut session, 5, "unauthorized"), Some(lack));
        let lost = NOT_SERIALISED.replace("\"id\":12", "\"id\":12 ");
        assert_eq!(hear(&mut session, &lost, 0), Some(Action::LoseEvent));
        assert_eq!(hear(&mut session, &fired("one", 12), 0), Some(Action::TakeFired), "it goes on");
    }

    fn want(session: &mut Session, wanted: &Wanted) -> Option<Action> {
        session.handle(Input::Wanted(wanted), Duration::from_secs(1))
    }

    #[test]
    fn what_is_wanted_from_now_on_is_asked_for_and_what_is_the_same_is_not() {
        let mut session = session_that_wants(wants(&["one", "two"]));
        let _said = registered(&mut session);
        let snapshot = SNAPSHOT.replace("\"id\":12", "\"id\":14");
        assert!(hear(&mut session, &snapshot, 0).is_some());
        assert_eq!(want(&mut session, &wants(&["one", "two"])), None);
        let said = vec![Command::Unsubscribe { id: 15, subscription: 12 }, event_type("three", 16)];
        assert_eq!(want(&mut session, &wants(&["three", "two"])), Some(Action::Send(said)));
        assert_eq!(hear(&mut session, &fired("one", 12), 1), None, "it was on its way");
        let _ended = hear(&mut session, r#"{"id":15,"type":"result","success":true,"result":null}"#, 1);
        assert_eq!(hear(&mut session, &fired("one", 12), 1), Some(Action::CountUnknown));
        assert_eq!(hear(&mut session, &fired("two", 13), 1), Some(Action::TakeFired));

        let everything = Wanted { filter: Filter::default(), ..wants(&["three", "two"]) };
        let said = vec![
            Command::Unsubscribe { id: 17, subscription: 14 },
            Command::SubscribeEntities { id: 18, filter: Filter::default() },
        ];
        assert_eq!(want(&mut session, &everything), Some(Action::Send(said)));
        assert_eq!(hear(&mut session, &snapshot, 1), None);
        let snapshot = SNAPSHOT.replace("\"id\":12", "\"id\":18");
        assert_eq!(hear(&mut session, &snapshot, 1), Some(Action::TakeSnapshot { whole: true }));
    }

    #[test]
    fn what_is_wanted_before_anything_was_asked_for_is_asked_for_in_its_turn() {
        let mut session = session();
        assert_eq!(want(&mut session, &wants(&["one"])), None);
        let states = Command::SubscribeEntities { id: 13, filter: filter() };
        assert_eq!(registered(&mut session), [event_type("one", 12), states]);
    }

    #[test]
    fn a_filter_by_area_is_ours_to_apply() {
        let mut rules =
            Rules { filter: filter(), events: vec!["b".into(), "a".into(), "b".into()], ..Rules::default() };
        assert_eq!(Wanted::by(&rules), wants(&["a", "b"]));
        rules.filter.exclude.registry.areas.push("Kitchen".into());
        assert_eq!(Wanted::by(&rules).filter, Filter::default());
    }
}
