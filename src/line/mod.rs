//! (to be written)

pub mod number;
