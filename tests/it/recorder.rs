//! What the recorder of a real Home Assistant answers.
