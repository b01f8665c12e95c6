//! The habits of Python that are visible in the database.
//!
//! Home Assistant's own `influxdb` integration decides with `float()` and `str()` what is a number and what a text is.
//! The same values must come out here, or a dashboard built on its data breaks. Pure functions; the reference is
//! `CPython` 3.13, and `tests/python_semantics.rs` compares them with a real one.

pub mod number;
pub mod text;
