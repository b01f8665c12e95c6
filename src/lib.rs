//! HA Ingestor writes everything a Home Assistant home does into InfluxDB, and keeps the books on it.
//!
//! # The flow
//!
//! ```text
//! options.json, environment -> config -> app; rules.yaml -> rules -> app
//! MQTT broker ----> ingest::mqtt --\
//! Home Assistant -> ingest::hass --[events]--> pipeline -> line --[records]--> spool ==> deliver -> influx -> InfluxDB
//! its recorder --> history::gaps --[rows]-----/                one reader for each target \-> dead_letters
//! its recorder --> history::import: the years before -> deliver -> influx
//!                  history::verify: the recorder against what influx reads back
//! every part -> status (one snapshot) -> web (health, readiness, metrics)
//! ```
//!
//! Read it in that order:
//!
//! 1. [`config`]: what the user typed becomes settings, or every fault at once.
//!    [`rules`]: what the options and `rules.yaml` say together, or every fault of the file with its line.
//! 2. [`model`]: the values that all parts share - entities, events, points, times, and the fates of an event.
//! 3. [`ingest::hass`]: one WebSocket session after the other; frames become events, and what the registries say of the
//!    entities. [`ingest::mqtt`]: messages of a broker, which hears of each when it is safe. [`supervisor`] knows the broker.
//!    [`history::gaps`]: what happened while nobody listened, fetched from Home Assistant's own history.
//! 4. [`pipeline`]: which events, under what names, by the rules; an event becomes a point, waits for its turn, or is
//!    filtered with a reason. [`places_file`]: where entities were, on disk, so that points of the past keep the tags they had.
//! 5. [`mod@line`]: a point becomes one line that every database reads the same way, or is refused with a reason.
//! 6. [`spool`]: lines wait here, as bytes, until each target has them: in memory, and behind that on disk.
//! 7. [`deliver`]: batches, verdicts, retries, the breaker; one task for each target, and the only one who decides what
//!    becomes of a record there.
//!    [`dead_letters`]: lines that a database refused for good, on disk until somebody sends them again; and events of
//!    which no line could be made.
//! 8. [`influx`]: one request to one target: InfluxDB 1, 2, 3, VictoriaMetrics, or files.
//! 9. [`history`]: everything that is asked of Home Assistant's recorder. [`history::recorder`] asks, in one walk with one
//!    policy; [`history::gaps`] hands rows to the pipeline; [`history::import`] brings in the past, with a cursor on disk, past
//!    the spool; [`history::verify`] compares with what [`influx::query`] reads back, entity by entity and hour by hour.
//! 10. [`status`]: what every part says about itself; [`web`] shows it.
//! 11. [`app`]: wires all this, visits the target while nothing is written, and holds the commands of [`cli`].
//!     [`runtime`] is below everything and knows no domain; [`net`] is below everything that connects.
//!
//! [`demo`] is a simulated home that speaks Home Assistant's protocol; the demo command, the tests and the benchmarks
//! stand on it.
//!
//! # The rules
//!
//! - **Who decides does not act.** Deciders (`rules`, `session`, `reload`, `protocol`, `states`, `registry`, `subscriptions`,
//!   `receipts`, `filter`, `treatment`, `mqtt`, `twice`, `places`, `fired`, `schema`, `pace`, `frontier`, `encode`, `ledger`, `breaker`,
//!   `verdict`, `isolate`, `allowance`) are plain values: no socket, no file, no clock; the time is an argument. The tasks
//!   around them obey.
//! - **Every event has one fate at each target** ([`model::fate`]): stored, held, filtered, a duplicate, refused, set
//!   aside, expired, not representable there or dropped, with the reason; or it still waits in the pipeline.
//!   [`status::snapshot::Snapshot::unaccounted`] adds them up.
//! - **A message is acknowledged when it is safe**: [`spool`] tells up to which receipt that is.
//! - **Every task is in a [`runtime::group::Group`]**; groups stop in the order in which data flows. The first task that
//!   ends by itself ends the service, in that order.
//! - **What the outside may know is one [`status::snapshot::Snapshot`].**
//!
//! | If you are in | you do not know |
//! | --- | --- |
//! | a decider | tokio, files, sockets, the time |
//! | `ingest`, `history::{gaps, recorder}` | what becomes of an event: points, the spool (`ingest` hands the filter on, so that Home Assistant sends less) |
//! | `rules` | who works by them, and where the file is |
//! | `pipeline` | files, HTTP, how an event travelled (of its source only what tells one change from two) |
//! | `line` | rules, batches, versions of InfluxDB |
//! | `spool` | what the bytes mean, that a network exists |
//! | `dead_letters` | targets, tasks, that a network exists |
//! | `deliver` | points and the syntax of lines |
//! | `influx` | retries |
//! | `net` | protocols, and who connects |
//! | `web` | anything but the snapshot, the dead letters, which are on disk, the rules in force, and whom to ask for a preview |
//!
//! `tests/architecture.rs` checks these rules; change both together.

pub mod app;
pub mod cli;
pub mod config;
pub mod dead_letters;
pub mod deliver;
pub mod demo;
pub mod history;
pub mod influx;
pub mod ingest;
pub mod line;
pub mod model;
pub mod net;
pub mod pipeline;
pub mod places_file;
pub mod rules;
pub mod runtime;
pub mod spool;
pub mod status;
pub mod supervisor;
pub mod web;
