//! The program: settles the allocator, hands over to [`ha_ingestor::app`], returns its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    give_memory_back();
    ha_ingestor::app::run(std::env::args_os())
}

/// After an outage glibc keeps what the backlog needed: 147 MB stay 147 MB. With both thresholds fixed, chunks of the
/// spool are mapped and unmapped one by one, and what is free at the top of the heap is returned.
#[cfg(target_env = "gnu")]
fn give_memory_back() {
    #[expect(unsafe_code, reason = "the only way to say it to glibc")]
    // SAFETY: no other thread runs yet, and both calls have arguments that mallopt(3) documents.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 * 1024);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024);
    }
}

#[cfg(not(target_env = "gnu"))]
fn give_memory_back() {}
