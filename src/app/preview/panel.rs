//! The same for the web: under the rules that are in force, beside the pipeline that works by them.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::told::Told;
use super::{PATIENCE, find};
use crate::config::settings::{HomeAssistant, Settings};
use crate::history::recorder::present;
use crate::model::entity::EntityId;
use crate::rules::Rules;
use crate::runtime::clock;
use crate::status::board::Board;
use crate::web::preview::{Preview, Unanswered};

pub(in crate::app) struct Panel {
    home: Option<HomeAssistant>,
    targets: Vec<String>,
    rules: watch::Receiver<Arc<Rules>>,
    /// Knows the registries.
    board: Arc<Board>,
    /// Home Assistant is asked by one at a time.
    turn: Semaphore,
}

impl Panel {
    pub(in crate::app) fn new(settings: &Settings, rules: watch::Receiver<Arc<Rules>>, board: Arc<Board>) -> Self {
        let targets = settings.targets.iter().map(|target| target.name.clone()).collect();
        Self { home: settings.home_assistant.clone(), targets, rules, board, turn: Semaphore::new(1) }
    }

    fn of_json(&self, state: &str) -> Result<Value, Unanswered> {
        let rules = Arc::clone(&self.rules.borrow());
        let told = Told::of_state(&rules, &self.board.registries(), state, clock::now());
        let told = told.map_err(|err| Unanswered::NoState(err.to_string()))?;
        let mut told = json!(told);
        told["targets"] = json!(self.targets);
        Ok(told)
    }

    async fn ask_for(&self, entity_id: &str) -> Result<Value, Unanswered> {
        let entity = EntityId::parse(entity_id).map_err(|err| Unanswered::NoState(format!("`entity_id`: {err}")))?;
        let Some(home) = &self.home else {
            let words = "set `home_assistant.url` and `home_assistant.token`";
            return Err(Unanswered::HomeAway(words.to_owned()));
        };
        let visit = async {
            let _turn = self.turn.acquire().await.expect("nobody closes it");
            present::look(home, PATIENCE).await.map_err(|err| err.to_string())
        };
        let present = timeout(PATIENCE, visit).await.unwrap_or(Err("Home Assistant did not answer in time".to_owned()));
        let present = present.map_err(Unanswered::HomeAway)?;
        self.of_json(find(&present.states, &entity).map_err(Unanswered::NoEntity)?)
    }
}

impl Preview for Panel {
    fn of_state(&self, json: &str) -> Result<Value, Unanswered> {
        self.of_json(json)
    }

    fn of_entity(self: Arc<Self>, entity_id: String) -> BoxFuture<'static, Result<Value, Unanswered>> {
        async move { self.ask_for(&entity_id).await }.boxed()
    }
}
