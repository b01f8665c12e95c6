//! Stories of the delivery: against a server that answers as it is told, and against real databases.

mod bench;
mod fake;
mod peers;
mod stories;
