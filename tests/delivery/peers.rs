//! Against real databases, if they are there.
