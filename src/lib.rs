//! HA Ingestor.

pub mod app;
pub mod cli;
pub mod config;
pub mod deliver;
pub mod demo;
pub mod influx;
pub mod ingest;
pub mod line;
pub mod model;
pub mod pipeline;
pub mod runtime;
pub mod spool;
pub mod status;
pub mod web;
