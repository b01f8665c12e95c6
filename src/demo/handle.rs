//! The hand on a running simulated home, for tests and commands in the same process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::home::Home;
use super::hub::Hub;
use super::knobs::Knobs;
use super::state::{Change, Entry, Happening};
use crate::model::time::Timestamp;
use crate::model::value::Attributes;
use crate::runtime::clock;

/// What the connections, the tasks and the handles have in common.
pub(super) struct Shared {
    pub(super) hub: Mutex<Hub>,
    pub(super) knobs: watch::Sender<Knobs>,
}

/// Turns the knobs of the home, makes things happen in it, reads its books. Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    pub fn turn(&self, turn: impl FnOnce(&mut Knobs)) {
        self.0.knobs.send_modify(turn);
    }

    /// Something read from the home as it is now.
    pub fn home<T>(&self, read: impl FnOnce(&Home) -> T) -> T {
        read(&self.0.hub().home)
    }

    /// Changes the home itself, such as its recorder. Nobody is told, but for those who wait for the recorder.
    pub fn home_mut<T>(&self, change: impl FnOnce(&mut Home) -> T) -> T {
        let knobs = self.0.knobs.borrow().clone();
        let mut hub = self.0.hub();
        let changed = change(&mut hub.home);
        hub.continue_streams(&knobs, self.0.now());
        changed
    }

    /// So many changes in one turn, before any client gets a word.
    pub fn storm(&self, count: u64) {
        let knobs = self.0.knobs.borrow().clone();
        self.0.hub().change(count, &knobs, self.0.now());
    }

    /// Sets a state as an integration would. `None`: that is what it was.
    #[must_use = "a state that was already there makes no event"]
    pub fn set(&self, entity_id: &str, state: &str, attributes: Attributes) -> Option<Change> {
        self.happen(|home| home.set(entity_id, state, attributes, self.0.now()).map(Happening::State)).and_then(change)
    }

    /// Removes an entity. `None`: there was none.
    #[must_use = "an unknown entity makes no event"]
    pub fn remove(&self, entity_id: &str) -> Option<Change> {
        self.happen(|home| home.remove(entity_id, self.0.now()).map(Happening::State)).and_then(change)
    }

    /// Moves an entity to the room of this name; the registry says so.
    pub fn move_to_area(&self, entity_id: &str, area: &str) {
        self.happen(|home| home.move_to_area(entity_id, area, self.0.now()));
    }

    /// Gives an entity another name; the registry and the states say so.
    pub fn rename(&self, entity_id: &str, new_id: &str) {
        let knobs = self.0.knobs.borrow().clone();
        let mut hub = self.0.hub();
        for happening in hub.home.rename(entity_id, new_id, self.0.now()) {
            hub.tell(&happening, &knobs);
        }
    }

    /// Fires any event; `data` is a JSON object.
    pub fn fire(&self, event_type: &str, data: &str) {
        self.happen(|home| Some(home.fire(event_type, data.to_owned(), None, self.0.now())));
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

    /// Home Assistant ends and starts anew: it answers long before its entities are there.
    pub fn fall_asleep(&self) {
        self.home_mut(Home::fall_asleep);
        self.restart();
    }

    /// Its entities are there: all are as they were, with a new time.
    pub fn wake_up(&self) {
        let knobs = self.0.knobs.borrow().clone();
        let mut hub = self.0.hub();
        for change in hub.home.wake_up(self.0.now()) {
            hub.tell(&Happening::State(change), &knobs);
        }
    }

    /// What a start of Home Assistant does to states that are restored: all are as they were, with a new time.
    pub fn begin_anew(&self) {
        self.home_mut(|home| home.restore_all(self.0.now()));
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
    /// By the home's own clock.
    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_micros(clock::now().as_micros() + self.knobs.borrow().clock_ahead_micros)
    }

    /// The hub stays usable after a panic elsewhere: every method leaves it whole.
    pub(super) fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
