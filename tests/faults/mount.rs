//! A disk of a certain size, in memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::skip::skip;

/// Unmounted when it goes.
pub struct Mount {
    at: PathBuf,
}

impl Mount {
    /// `None`, after [`skip`], where nothing may be mounted.
    pub fn new(at: &Path, bytes: u64) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={bytes},mode=0700");
        if mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], at) {
            return Some(Self { at: at.to_owned() });
        }
        skip("only root can mount a small disk");
        None
    }

    pub fn grows_to(&self, bytes: u64) {
        assert!(mount(&["-o", &format!("remount,size={bytes}")], &self.at));
    }

    pub fn may_be_written(&self, writable: bool) {
        assert!(mount(&["-o", if writable { "remount,rw" } else { "remount,ro" }], &self.at));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    Command::new("mount").args(arguments).arg(at).output().is_ok_and(|output| output.status.success())
}
