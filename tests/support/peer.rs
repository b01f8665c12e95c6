//! Where the real peers are.

use std::env;
use std::path::{Path, PathBuf};

use super::skip::skip;

/// The program of a peer: what `variable` names, or what `make peers` put under `target/peers`. `None` if there is
/// none, after [`skip`].
pub(crate) fn find(variable: &str, default: &str) -> Option<PathBuf> {
    let in_checkout = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers").join(default);
    let program = env::var_os(variable).map_or_else(in_checkout, PathBuf::from);
    if program.is_file() {
        return Some(program);
    }
    skip(&format!("there is no {} (make peers, or {variable}=PATH)", program.display()));
    None
}
