//! What a person hears of a long command. Whoever listened may have gone: the work goes on.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two looks at the progress.
const BLINK: Duration = Duration::from_millis(200);

/// Between two lines of progress that stay.
const PLAIN: Duration = Duration::from_secs(10);

pub(in crate::app) struct Voice {
    on_terminal: bool,
    /// When the line that is overwritten was shown last.
    shown: Option<Instant>,
}

impl Voice {
    pub(in crate::app) fn new() -> Self {
        Self { on_terminal: io::stderr().is_terminal(), shown: None }
    }

    /// A line that stays.
    pub(in crate::app) fn say(&mut self, line: &str) {
        if self.shown.take().is_some() && self.on_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        let _ = writeln!(io::stdout(), "{line}");
    }

    /// A line that the next one overwrites; in a file or a pipe one that stays, each ten seconds.
    pub(in crate::app) fn progress_of(&mut self, began: Instant, line: &str) {
        if self.on_terminal {
            return self.progress(|| line.to_owned());
        }
        if self.shown.unwrap_or(began).elapsed() >= PLAIN {
            let _ = writeln!(io::stdout(), "{line}");
            self.shown = Some(Instant::now());
        }
    }

    /// A line that the next one overwrites; nothing in a file or a pipe.
    pub(in crate::app) fn progress(&mut self, line: impl FnOnce() -> String) {
        if self.on_terminal && self.shown.is_none_or(|shown| shown.elapsed() >= BLINK) {
            let _ = write!(io::stderr(), "\r{}\x1b[K", line());
            self.shown = Some(Instant::now());
        }
    }

    /// Something did not work, and is tried again.
    pub(in crate::app) fn retrying(&mut self, words: &str) {
        self.progress(|| format!("trying again: {words}"));
    }
}
