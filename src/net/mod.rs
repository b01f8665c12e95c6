//! Connections to others: names and both families of addresses ([`connect`]), and certificates ([`tls`]).
//!
//! WebSocket, MQTT and HTTP are made on top of it. It knows no protocol.

pub mod connect;
pub mod tls;
