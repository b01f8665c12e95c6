//! What became of the file `rules.yaml`: whether it counts, and since when.

use std::sync::{Mutex, PoisonError};

use crate::model::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Where the file is, or would be.
    pub file: String,
    /// Whether the file as it is now counts. One that is not there is valid.
    pub valid: bool,
    /// Since when it is so.
    pub since: Timestamp,
    /// Why the file does not count, a fault a line, free of secrets.
    pub error: Option<String>,
    /// Of those that count.
    pub rules: usize,
    pub topics: usize,
    pub warnings: Vec<String>,
    /// How often another file was taken while the service ran, and how often one was refused.
    pub reloads: Reloads,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reloads {
    pub applied: u64,
    pub refused: u64,
}

pub struct RulesBoard(Mutex<Rules>);

impl RulesBoard {
    pub(super) fn new(now: Timestamp) -> Self {
        Self(Mutex::new(Rules {
            file: String::new(),
            valid: true,
            since: now,
            error: None,
            rules: 0,
            topics: 0,
            warnings: Vec::new(),
            reloads: Reloads::default(),
        }))
    }

    /// What counts from the start on.
    pub fn started(&self, file: &str, rules: usize, topics: usize, warnings: Vec<String>, now: Timestamp) {
        self.update(|status| {
            file.clone_into(&mut status.file);
            status.since = now;
            (status.rules, status.topics, status.warnings) = (rules, topics, warnings);
        });
    }

    /// Another file counts.
    pub fn applied(&self, rules: usize, topics: usize, warnings: Vec<String>, now: Timestamp) {
        self.update(|status| {
            (status.valid, status.since, status.error) = (true, now, None);
            (status.rules, status.topics, status.warnings) = (rules, topics, warnings);
            status.reloads.applied += 1;
        });
    }

    /// The file is wrong, and what counted before still counts.
    pub fn refused(&self, error: String, now: Timestamp) {
        self.update(|status| {
            (status.valid, status.since, status.error) = (false, now, Some(error));
            status.reloads.refused += 1;
        });
    }

    pub(super) fn snapshot(&self) -> Rules {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
