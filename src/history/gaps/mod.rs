//! Closes gaps: what happened while nobody listened is fetched from Home Assistant's history.
//!
//! [`gap_closer`] is the task; `attempt` is one try; [`gap`] says from when until when, [`restored`] what is no change,
//! [`entity_list`] whom to ask about. What becomes of the rows is the pipeline's business.

mod attempt;
pub mod entity_list;
pub mod gap;
pub mod gap_closer;
pub mod restored;
