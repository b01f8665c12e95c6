//! One spool between the task that fills it, the tasks that empty it, and the one that keeps it on disk.
//!
//! Whoever appends or takes what is in memory waits for nobody. What needs the disk is done on threads that may block.
//! The board shows what is held and dropped; it is told under the same lock, so that the books balance at every moment at
//! which nothing is being shaped.

use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::model::fate::Dropped;
use crate::model::record::{Batch, Record};
use crate::runtime::alive::beating;
use crate::runtime::clock;
use crate::runtime::repeats::{Ended, Repeats, Worth};
use crate::status::board::{Board, TargetBoard};

use super::storage::Disk;
use super::{Bounds, Held, Limits, OpenError, Spool};

/// How often it is looked whether something has to go to the disk.
const LOOK: Duration = Duration::from_millis(250);

/// After the disk refused, it is not asked again for so long.
const DISK_PAUSE: Duration = Duration::from_secs(5);

/// How long whoever appends waits for a disk that is busy, before the oldest records make room.
const PATIENCE: Duration = Duration::from_secs(5);

/// Cheap to clone; all clones are the same spool.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    spool: Spool<Disk>,
    /// Wakes the reader of each target.
    arrived: Vec<Notify>,
    /// Memory fills up: the disk has to help.
    pressed: Notify,
    /// The disk has helped.
    relieved: Notify,
    board: Arc<Board>,
    trouble: Mutex<Repeats<String>>,
}
