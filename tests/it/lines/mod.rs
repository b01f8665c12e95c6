//! Points that hurt, written to real databases: each stores exactly what the encoder promises.

mod influxd;
mod victoria_metrics;
