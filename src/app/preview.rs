//! `preview`: what would be written for a state, without writing it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};

use anyhow::Context;

use super::{Exit, rules};
use crate::cli::{Preview, StateSource};
use crate::config::settings::Settings;
use crate::ingest::hass::protocol::parse_state;
use crate::line::encode::encode;
use crate::model::event::Event;
use crate::model::fate::Reason;
use crate::pipeline::{Fate, Pipeline};
use crate::runtime::clock;

/// One state in JSON a line in, one line out: a point, or a comment that says why there is none.
pub(super) fn run(settings: &Settings, wishes: &Preview) -> anyhow::Result<Exit> {
    let states: Box<dyn BufRead> = match &wishes.state {
        StateSource::StandardInput => Box::new(io::stdin().lock()),
        StateSource::File(path) => {
            let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            Box::new(BufReader::new(file))
        }
    };
    let rules = rules::load(settings)?.rules;
    let mut out = BufWriter::new(io::stdout().lock());
    for state in states.split(b'\n') {
        let state = state.context("cannot read the states")?;
        if !state.trim_ascii().is_empty() {
            // A pipeline of its own for each: a state that stands there twice is asked about twice.
            let mut pipeline = Pipeline::new(&rules);
            writeln!(out, "{}", answer(&mut pipeline, &state, wishes.explain)).context("cannot write the answer")?;
        }
    }
    out.flush().context("cannot write the answer")?;
    Ok(Exit::Done)
}

fn answer(pipeline: &mut Pipeline, state: &[u8], explain: bool) -> String {
    let Ok(state) = str::from_utf8(state) else {
        return "# refused: not a state as Home Assistant gives it: not UTF-8".to_owned();
    };
    let change = match parse_state(state, clock::now()) {
        Ok(change) => change,
        Err(err) => return format!("# refused: {err}"),
    };
    let reasons = pipeline.explain(&change);
    let event = Event::Changed(change);
    let answer = match pipeline.handle(&event, clock::now()) {
        Fate::Filtered(reason) => format!("# filtered: {}", reason.label()),
        Fate::Duplicate | Fate::Waiting => unreachable!("a fresh pipeline has seen nothing before"),
        Fate::Refused { reason, .. } => format!("# refused: {}", reason.label()),
        Fate::Point { point, .. } => {
            let mut bytes = Vec::new();
            match encode(point, &mut bytes) {
                Ok(_) => String::from_utf8(bytes).expect("a line is made of text"),
                Err(reason) => format!("# refused: {}", reason.label()),
            }
        }
    };
    if explain {
        format!("{answer}\n# filter: {}; measurement: {}", reasons.filter.because, reasons.measurement_from)
    } else {
        answer
    }
}
