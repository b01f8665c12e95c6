//! What the disk is asked to do, how it fails, and what was done with it.

use std::io;

/// What the disk is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Open,
    Write,
    Sync,
    Read,
    Remove,
}

impl Operation {
    /// The value of the label `op`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Read => "read",
            Self::Remove => "remove",
        }
    }
}

/// The disk did not do it. Nothing is lost by that: the records are where they were.
#[derive(Debug, thiserror::Error)]
#[error("cannot {} the spool: {error}", operation.label())]
pub struct IoError {
    pub operation: Operation,
    #[source]
    pub error: io::Error,
}

impl IoError {
    pub(super) fn new(operation: Operation, error: io::Error) -> Self {
        Self { operation, error }
    }
}

/// What the spool did with its disk since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUse {
    pub bytes: u64,
    pub written_bytes: u64,
    pub syncs: u64,
    /// Records and torn ends that could not be read back, and records that were not there any more when it was opened.
    pub corrupt_records: u64,
    /// The disk did not take what it was last given; records are in memory alone.
    pub degraded: bool,
    pub(super) errors: [u64; 5],
}

impl DiskUse {
    pub const OPERATIONS: [Operation; 5] =
        [Operation::Open, Operation::Write, Operation::Sync, Operation::Read, Operation::Remove];

    #[must_use]
    pub fn errors(&self, operation: Operation) -> u64 {
        self.errors[operation as usize]
    }
}
