//! One client's conversation: what it said so far decides what a message means, and which messages it gets.
//!
//! Knows no socket and no clock. The home is given with every message, because a service changes it.

use serde_json::{Map, Value};

use super::commands::{
    Events, Features, Fire, History, Nothing, Refusal, StatisticIds, Statistics, Unsubscribe, read, unknown_command,
};
use super::home::{Home, USER_ID};
use super::json::{push_joined, push_text};
use super::protocol::{self, Broadcast};
use super::recorder::{self, Query};
use super::registry;
use super::scope::Scope;
use super::services::{self, Called};
use super::state::Happening;
use super::statistics;
use super::time::{parse, seconds};
use super::trouble::Fault;
use crate::config::secret::Secret;
use crate::model::time::Timestamp;

/// What to do after a message, in this order.
#[derive(Debug)]
pub enum Action {
    Send(String),
    /// Something happened in the home: everybody who subscribed to it is told.
    Happened(Happening),
    /// So a message begins; the connection ends before its end.
    Break(String),
    /// Close the connection, once everything before it is sent.
    HangUp,
}

pub struct Session {
    /// `None`: nothing is good enough.
    token: Option<Secret>,
    authenticated: bool,
    last_id: u64,
    coalesces: bool,
    subscriptions: Vec<(u64, Subscription)>,
}

enum Subscription {
    Entities(Scope),
    /// `None`: all types.
    Events(Option<String>),
    /// Of `history/stream`, which goes on only until its second event here: what it tells after that nobody asks for.
    History(Option<Query>),
}

type Answer = Result<String, Refusal>;

impl Session {
    #[must_use]
    pub fn new(token: Option<Secret>) -> Self {
        Self { token, authenticated: false, last_id: 0, coalesces: false, subscriptions: Vec::new() }
    }

    /// Whether the client reads several messages in one frame.
    #[must_use]
    pub fn coalesces(&self) -> bool {
        self.coalesces
    }

    /// The first subscription of entities, with its id.
    #[must_use]
    pub fn entities(&self) -> Option<(u64, &Scope)> {
        self.subscriptions.iter().find_map(|(id, subscription)| match subscription {
            Subscription::Entities(scope) => Some((*id, scope)),
            Subscription::Events(_) | Subscription::History(_) => None,
        })
    }

    /// The second event of each stream of history whose turn has come: once everything before it is committed.
    pub fn continue_streams(&mut self, home: &mut Home, now: Timestamp) -> Vec<String> {
        let mut events = Vec::new();
        for (id, subscription) in &mut self.subscriptions {
            if let Subscription::History(query) = subscription
                && query.is_some()
                && home.commit(now)
            {
                let query = query.take().expect("it is there");
                events.push(protocol::stream(*id, &recorder::history(home, &query), query.from, query.to));
            }
        }
        events
    }

    pub fn handle(&mut self, text: &str, home: &mut Home, now: Timestamp) -> Vec<Action> {
        let Ok(message) = serde_json::from_str::<Value>(text) else { return vec![Action::HangUp] };
        if !self.authenticated {
            return self.authenticate(&message);
        }
        let mut actions = Vec::new();
        match message {
            Value::Array(commands) => {
                for command in commands {
                    self.command(command, home, now, &mut actions);
                }
            }
            command => self.command(command, home, now, &mut actions),
        }
        actions
    }

    /// The messages that this client gets about it.
    pub fn announce(&self, broadcast: &Broadcast<'_>, mut send: impl FnMut(String)) {
        for (id, subscription) in &self.subscriptions {
            match (subscription, broadcast.happening()) {
                (Subscription::Entities(scope), Happening::State(change)) if scope.covers(&change.entity_id) => {
                    send(broadcast.compressed(*id).expect("it is a change of a state"));
                }
                (Subscription::Events(None), _) => send(broadcast.full(*id)),
                (Subscription::Events(Some(wanted)), happening) if *wanted == happening.event_type() => {
                    send(broadcast.full(*id));
                }
                _ => {}
            }
        }
    }

    fn authenticate(&mut self, message: &Value) -> Vec<Action> {
        let refuse = |why: &str| vec![Action::Send(protocol::auth_invalid(why)), Action::HangUp];
        let wanted = self.token.as_ref().map(Secret::expose);
        match message.get("type").and_then(Value::as_str) {
            Some("auth") if wanted.is_some() && message.get("access_token").and_then(Value::as_str) == wanted => {
                self.authenticated = true;
                vec![Action::Send(protocol::auth_ok())]
            }
            Some("auth") => refuse("Invalid access token or password"),
            _ => refuse("Auth message incorrectly formatted: not a valid value for dictionary value @ data['type']"),
        }
    }

    fn command(&mut self, command: Value, home: &mut Home, now: Timestamp, actions: &mut Vec<Action>) {
        let id = command.get("id").and_then(Value::as_u64).filter(|id| *id > 0);
        let kind = command.get("type").and_then(Value::as_str).map(str::to_owned);
        let (Some(id), Some(kind), Value::Object(mut arguments)) = (id, kind, command) else {
            actions.push(Action::Send(protocol::error(id, "invalid_format", "Message incorrectly formatted.")));
            return;
        };
        if id <= self.last_id {
            actions.push(Action::Send(protocol::error(Some(id), "id_reuse", "Identifier values have to increase.")));
            return;
        }
        arguments.remove("id");
        arguments.remove("type");
        home.pass(now);
        let is_past = ["history/history_during_period", "recorder/statistics_during_period"].contains(&&*kind);
        let fault = if is_past { home.trouble.next_fault() } else { Fault::No };
        let is_about_refused = home.trouble.refuses(&arguments);
        let answer = match fault {
            _ if is_past && is_about_refused => Err(Refusal("unknown_error", "Unknown error".to_owned())),
            Fault::Refused => Err(Refusal("unknown_error", "Unknown error".to_owned())),
            Fault::No | Fault::Torn => self.answer(id, &kind, arguments, home, now, actions),
        };
        if is_past
            && let Ok(message) = &answer
            && let Some(through) = home.trouble.through(fault, message)
        {
            let whole = (0..=through).rev().find(|end| message.is_char_boundary(*end));
            actions.push(Action::Break(message[..whole.unwrap_or_default()].to_owned()));
            return;
        }
        let unknown = matches!(&answer, Err(Refusal("unknown_command", _)));
        actions.push(Action::Send(match answer {
            Ok(message) => message,
            Err(Refusal(code, message)) => protocol::error(Some(id), code, &message),
        }));
        // Home Assistant does not count the id of a command that it does not know.
        if !unknown {
            self.last_id = id;
        }
        if let Some((_, Subscription::History(Some(query)))) = self.subscriptions.iter().find(|(known, _)| *known == id)
        {
            // What is committed already comes first.
            let event = protocol::stream(id, &recorder::history(home, query), query.from, query.to);
            actions.push(Action::Send(event));
        }
        if kind == "subscribe_entities"
            && let Some((_, Subscription::Entities(scope))) = self.subscriptions.iter().find(|(known, _)| *known == id)
        {
            let states = home.states().filter(|(entity_id, _)| scope.covers(entity_id));
            actions.push(Action::Send(protocol::snapshot(id, states.map(|(id, state)| (&**id, &**state)))));
        }
    }

    /// The answer, without what follows it.
    fn answer(
        &mut self,
        id: u64,
        kind: &str,
        arguments: Map<String, Value>,
        home: &mut Home,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) -> Answer {
        if let Some(name) = kind.strip_prefix("config/").and_then(|rest| rest.strip_suffix("_registry/list")) {
            let Nothing {} = read(arguments)?;
            let list = registry::list(home, name).ok_or_else(unknown_command)?;
            let spaced = matches!(name, "entity" | "device");
            return Ok(if spaced { protocol::spaced_result(id, &list) } else { protocol::result(id, &list) });
        }
        let result = match kind {
            "ping" => {
                let Nothing {} = read(arguments)?;
                return Ok(protocol::pong(id));
            }
            "supported_features" => {
                let Features { features } = read(arguments)?;
                self.coalesces = features.contains_key("coalesce_messages");
                "null".to_owned()
            }
            "subscribe_entities" => {
                self.subscriptions.push((id, Subscription::Entities(read(arguments)?)));
                "null".to_owned()
            }
            "subscribe_events" => {
                let Events { event_type } = read(arguments)?;
                if event_type.as_deref() == Some("state_reported") {
                    let why = "Event filter is required for event state_reported";
                    return Err(Refusal("home_assistant_error", why.to_owned()));
                }
                self.subscriptions.push((id, Subscription::Events(event_type)));
                "null".to_owned()
            }
            "unsubscribe_events" => {
                let Unsubscribe { subscription } = read(arguments)?;
                let before = self.subscriptions.len();
                self.subscriptions.retain(|(known, _)| *known != subscription);
                if self.subscriptions.len() == before {
                    return Err(Refusal("not_found", "Subscription not found.".to_owned()));
                }
                "null".to_owned()
            }
            "get_states" => {
                let Nothing {} = read(arguments)?;
                protocol::states(home.states().map(|(id, state)| (&**id, &**state)))
            }
            command if home.has_no_recorder && ["recorder/", "history/"].iter().any(|all| command.starts_with(all)) => {
                return Err(Refusal("unknown_command", "Unknown command.".to_owned()));
            }
            "config/auth/list" => {
                let Nothing {} = read(arguments)?;
                USERS.to_owned()
            }
            "get_config" => {
                let Nothing {} = read(arguments)?;
                registry::core_config(if home.is_starting() { "STARTING" } else { "RUNNING" })
            }
            "auth/current_user" => {
                let Nothing {} = read(arguments)?;
                format!(
                    "{{\"id\":\"{USER_ID}\",\"name\":\"Demo\",\"is_owner\":true,\"is_admin\":true,\"credentials\":[],\
                     \"mfa_modules\":[]}}"
                )
            }
            "call_service" => {
                let Called { result, call, changes } = services::call(read(arguments)?, home, now)
                    .map_err(|refused| Refusal(refused.code(), refused.to_string()))?;
                actions.push(Action::Happened(call));
                actions.extend(changes.into_iter().map(|change| Action::Happened(Happening::State(change))));
                result
            }
            "fire_event" => {
                let Fire { event_type, event_data } = read(arguments)?;
                let data = Value::Object(event_data).to_string();
                let happening = home.fire(&event_type, data, Some(USER_ID), now);
                let mut result = String::from("{\"context\":");
                protocol::push_context(&mut result, happening.context());
                result.push('}');
                actions.push(Action::Happened(happening));
                result
            }
            "persistent_notification/get" => {
                let Nothing {} = read(arguments)?;
                notifications(home)
            }
            "history/history_during_period" => history(read(arguments)?, home, now)?,
            "history/stream" => {
                self.subscriptions.push((id, stream(read(arguments)?, now)?));
                "null".to_owned()
            }
            "recorder/info" => {
                let Nothing {} = read(arguments)?;
                recorder::info(home.backlog(), home.trouble.migrating)
            }
            "recorder/list_statistic_ids" => {
                let StatisticIds { statistic_type } = read(arguments)?;
                home.trouble.damage(statistics::statistic_ids(home, statistic_type.as_deref()))
            }
            "recorder/statistics_during_period" => hours(&read(arguments)?, home, now)?,
            _ => return Err(unknown_command()),
        };
        Ok(protocol::result(id, &result))
    }
}

fn history(asked: History, home: &mut Home, now: Timestamp) -> Answer {
    let (from, to) = period(&asked.start_time, asked.end_time.as_deref())?;
    if !asked.include_start_time_state {
        home.trouble.asked.push((from, to));
    }
    if from > seconds(now) {
        return Ok("{}".to_owned());
    }
    let valid = |id: &String| {
        let letters =
            |half: &str| !half.is_empty() && half.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        id.split_once('.').is_some_and(|(domain, object_id)| letters(domain) && letters(object_id))
    };
    if !asked.entity_ids.iter().all(valid) {
        return Err(Refusal("invalid_entity_ids", "Invalid entity_ids".to_owned()));
    }
    if asked.entity_ids.is_empty() {
        return Err(Refusal("unknown_error", "Unknown error".to_owned()));
    }
    Ok(home.trouble.damage(recorder::history(home, &query(asked, from, to))))
}

fn stream(asked: History, now: Timestamp) -> Result<Subscription, Refusal> {
    let (from, _) = period(&asked.start_time, None)?;
    if from > seconds(now) {
        return Err(Refusal("invalid_start_time", "Invalid start_time".to_owned()));
    }
    Ok(Subscription::History(Some(query(asked, from, seconds(now)))))
}

fn query(asked: History, from: f64, to: f64) -> Query {
    Query {
        from,
        to,
        entity_ids: asked.entity_ids,
        include_start_time_state: asked.include_start_time_state,
        significant_changes_only: asked.significant_changes_only,
        minimal_response: asked.minimal_response,
        no_attributes: asked.no_attributes,
    }
}

/// Who lives there.
const USERS: &str = r#"[
    {"id":"anna","name":"Anna","is_owner":true,"is_active":true,"group_ids":["system-admin"]},
    {"id":"ben","name":"Ben","is_owner":false,"is_active":true,"group_ids":["system-users"]}
]"#;

fn hours(asked: &Statistics, home: &Home, now: Timestamp) -> Answer {
    let (from, to) = period(&asked.start_time, asked.end_time.as_deref())?;
    if asked.period != "hour" {
        // Nothing that the real one says: the simulated recorder keeps hours only, and a wrong answer would be worse.
        return Err(Refusal("not_supported", format!("no statistics by {} in the simulated home", asked.period)));
    }
    let hours = statistics::statistics(home, &asked.statistic_ids, from, to, asked.types.as_deref(), seconds(now));
    Ok(home.trouble.damage(hours))
}

fn period(start: &str, end: Option<&str>) -> Result<(f64, f64), Refusal> {
    let from = parse(start).ok_or_else(|| Refusal("invalid_start_time", "Invalid start_time".to_owned()))?;
    let to = match end {
        Some(end) => parse(end).ok_or_else(|| Refusal("invalid_end_time", "Invalid end_time".to_owned()))?,
        None => f64::MAX,
    };
    Ok((from, to))
}

fn notifications(home: &Home) -> String {
    let mut out = String::new();
    push_joined(&mut out, ('[', ']'), home.notifications.iter(), |out, (id, message)| {
        out.push_str("{\"message\":");
        push_text(out, message);
        out.push_str(",\"notification_id\":");
        push_text(out, id);
        out.push_str(",\"title\":null,\"created_at\":\"");
        out.push_str(&super::time::iso(home.began()));
        out.push_str("\"}");
    });
    out
}
