//! Points into lines of line protocol: **one encoding that every database reads the same way**.
//!
//! InfluxDB 1, 2 and 3 and VictoriaMetrics disagree about the corners of the format: what a backslash means, which keys
//! are reserved, whether a line may hold a line feed. A line that is written here avoids every such corner, so it can go
//! to any of them, now or years later from an archive. What had to be changed for that is changed predictably and
//! counted; what cannot be written is refused by name. Nobody else in the program knows the syntax.
//!
//! `encode` writes the line, `escape` one name or text of it, `clean` makes a point writable that is not, `number` prints
//! floats as Python does, `read` is the way back, `numbers` leaves out the texts.

mod clean;
pub mod encode;
mod escape;
pub mod number;
pub mod numbers;
pub mod read;
