//! What the spool promises, against a plain model of it.
