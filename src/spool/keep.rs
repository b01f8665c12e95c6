//! The work with the disk: what is written, what goes to make room, what is noted. The ledger decides, this obeys.

use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::time::Instant;

use super::fault::{IoError, Operation};
use super::ledger::Loss;
use super::opening::{Finding, Recovered};
use super::state;
use super::storage::Storage;
use super::{Limits, Spool, Synced, Writer};

impl<S: Storage> Spool<S> {
    /// Returns the number of records that are on the disk now and were not before.
    pub(super) fn write_out(&self, writer: &mut Writer<S>) -> Result<u64, IoError> {
        let mut records = 0;
        let mut ids = self.desk().ledger.unsafe_ids();
        let bytes = writer.log.write_bytes();
        let limits = Limits {
            // Many small records cost more than their bytes.
            records: NonZeroUsize::new(bytes / 64).unwrap_or(NonZeroUsize::MIN),
            bytes: NonZeroUsize::new(bytes).unwrap_or(NonZeroUsize::MIN),
        };
        loop {
            let Some(batch) = self.desk().ledger.piece(ids.clone(), limits) else { break };
            let here = batch.id(0)..batch.id(batch.len() - 1) + 1;
            ids.start = here.end;
            if writer.log.is_too_much(&batch) {
                self.desk().ledger.lose(here, Loss::SpoolFull);
                continue;
            }
            while writer.log.is_over(&batch) {
                self.expire_oldest(writer)?;
            }
            writer.log.append(&batch)?;
            records += batch.len() as u64;
        }
        writer.log.sync()?;
        Ok(records)
    }

    fn expire_oldest(&self, writer: &mut Writer<S>) -> Result<(), IoError> {
        let Some(ids) = writer.log.segments().next().map(|segment| segment.ids.clone()) else { return Ok(()) };
        self.desk().ledger.expire(ids);
        // On a full disk the note may fail. The room is needed all the same.
        if let Err(error) = self.note(writer) {
            self.desk().count(&error);
        }
        writer.log.remove_oldest()
    }

    /// Takes note of what was reached, after a success and after an error.
    pub(super) fn finish(
        &self,
        writer: &mut Writer<S>,
        outcome: Result<u64, IoError>,
        now: Instant,
    ) -> Result<Synced, IoError> {
        // What was written before the error can still be saved.
        let rescued = if outcome.is_err() { writer.log.sync() } else { Ok(()) };
        let done = std::mem::take(&mut writer.log.done);
        {
            let mut desk = self.desk();
            desk.ledger.is_safe_below(writer.log.safe_id());
            desk.ledger.disk_is(writer.log.segments().cloned().collect(), writer.log.is_open());
            desk.disk.written_bytes += done.written_bytes;
            desk.disk.syncs += done.syncs.len() as u64;
            if let Err(error) = rescued {
                desk.count(&error);
            }
        }
        let is_taken = outcome.is_ok();
        let outcome = match outcome {
            Ok(records) => self.after_success(writer, now).map(|()| records),
            Err(error) => {
                // What nobody needs may be what keeps the disk from taking more.
                if let Err(error) = self.remove_unneeded(writer, true) {
                    self.desk().count(&error);
                }
                Err(error)
            }
        };
        let mut desk = self.desk();
        desk.disk.bytes = writer.log.bytes();
        desk.ledger.disk_is(writer.log.segments().cloned().collect(), writer.log.is_open());
        match outcome {
            Ok(records) => {
                desk.ledger.disk_works();
                Ok(Synced { records, bytes: done.written_bytes, syncs: done.syncs })
            }
            Err(error) => {
                desk.count(&error);
                desk.ledger.disk_failed(now, is_taken);
                Err(error)
            }
        }
    }

    fn after_success(&self, writer: &mut Writer<S>, now: Instant) -> Result<(), IoError> {
        let (is_degraded, note_is_due) = {
            let desk = self.desk();
            (desk.ledger.is_degraded(), desk.ledger.note_is_due(now))
        };
        if is_degraded {
            // The note is what is left to tell whether the disk works when there is nothing else to write.
            writer.noted = None;
        }
        let noted = if is_degraded || note_is_due { self.note(writer) } else { Ok(()) };
        if noted.is_ok() {
            // Whatever else fails, it takes what it is given.
            self.desk().ledger.disk_works();
            if is_degraded || note_is_due {
                self.desk().ledger.noted(now);
            }
        }
        // Also where a note finds no room: there may be some afterwards.
        let removed = self.remove_unneeded(writer, false);
        noted.and(removed)
    }

    /// What nobody needs is noted before it goes: a crash in between leaves a file too many, and nothing that seems to
    /// be missing. On a disk that is too full for the note it goes all the same, or the disk would be full for ever.
    /// `is_stuck`: the disk takes nothing, so a file that would be gone on with goes as well.
    fn remove_unneeded(&self, writer: &mut Writer<S>, is_stuck: bool) -> Result<(), IoError> {
        let (is_needed, keep_the_open_one) = {
            let desk = self.desk();
            if !is_stuck && !desk.ledger.has_unneeded_segments() {
                return Ok(());
            }
            let needed: Vec<u64> = writer
                .log
                .segments()
                .filter(|segment| desk.ledger.needs(&segment.ids))
                .map(|segment| segment.ids.start)
                .collect();
            (needed, !is_stuck && desk.ledger.keeps_the_open_segment())
        };
        if is_needed.len() == writer.log.segments().len() {
            return Ok(());
        }
        if let Err(error) = self.note(writer) {
            if !matches!(error.error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
                return Err(error);
            }
            self.desk().count(&error);
        }
        writer.log.remove_unneeded(!keep_the_open_one, |segment| is_needed.contains(&segment.ids.start))
    }

    pub(super) fn note(&self, writer: &mut Writer<S>) -> Result<(), IoError> {
        let state = self.desk().ledger.state();
        if writer.noted.as_ref() != Some(&state) {
            let outcome = state::save(writer.log.storage(), &state);
            outcome.map_err(|error| IoError::new(Operation::Write, error))?;
            writer.noted = Some(state);
        }
        Ok(())
    }

    /// After opening. A disk that takes nothing is no reason not to start.
    pub(super) fn tidy_up(&self, useless: &[String], recovered: &mut Recovered) {
        let mut writer = self.writer();
        match self.note(&mut writer) {
            Ok(()) => {
                let mut desk = self.desk();
                let removed = writer.log.remove_unneeded(true, |segment| desk.ledger.needs(&segment.ids));
                if let Err(error) = removed {
                    desk.count(&error);
                }
            }
            Err(error) => {
                let mut desk = self.desk();
                desk.count(&error);
                desk.ledger.start_degraded();
                recovered.findings.push(Finding::ReadOnly { why: error.to_string() });
            }
        }
        for name in useless {
            if let Err(error) = writer.log.storage().remove(name) {
                self.desk().count(&IoError::new(Operation::Remove, error));
            }
        }
        let mut desk = self.desk();
        desk.disk.bytes = writer.log.bytes();
        desk.ledger.disk_is(writer.log.segments().cloned().collect(), writer.log.is_open());
    }
}
