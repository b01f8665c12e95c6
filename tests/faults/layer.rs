//! The disk and the clock of one service, failing as they are told: see `layer/fault.c` for the rules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::support::skip::skip;

pub struct Layer {
    library: &'static Path,
    below: PathBuf,
    folder: TempDir,
}

impl Layer {
    /// For what is below this folder, which is made if it is not there. `None`, after [`skip`], without a C compiler.
    pub fn over(below: &Path) -> Option<Self> {
        let library = library()?;
        fs::create_dir_all(below).unwrap();
        let layer = Self { library, below: below.canonicalize().unwrap(), folder: TempDir::new().unwrap() };
        layer.heals();
        Some(layer)
    }

    /// The program will run on this disk.
    pub fn put_under(&self, command: &mut Command) {
        command.env("LD_PRELOAD", self.library);
        command.env("FAULTS_BELOW", &self.below).env("FAULTS_PLAN", self.plan());
    }

    /// From now on these rules hold, one a line. What earlier ones did is forgotten.
    pub fn obeys(&self, rules: &str) {
        let _ = fs::remove_file(self.log());
        let draft = self.folder.path().join("draft");
        fs::write(&draft, rules).unwrap();
        fs::rename(draft, self.plan()).unwrap();
    }

    pub fn heals(&self) {
        self.obeys("");
    }

    /// What it did since it was last told something.
    pub fn did(&self) -> Vec<String> {
        fs::read_to_string(self.log()).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    fn plan(&self) -> PathBuf {
        self.folder.path().join("plan")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("plan.log")
    }
}

fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match LIBRARY.get_or_init(compile) {
        Ok(library) => Some(library),
        Err(why) => {
            skip(why);
            None
        }
    }
}

fn compile() -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/layer/fault.c");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (draft, library) = (folder.join(format!("fault.{}.so", std::process::id())), folder.join("fault.so"));
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]).arg(&draft).arg(source);
    let output = compiler.output().map_err(|error| format!("there is no C compiler: {error}"))?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::rename(draft, &library).unwrap();
    Ok(library)
}

/// What a small program of the shell sees on such a disk: how it ended and what it said.
fn sees(layer: &Layer, script: &str) -> (Option<i32>, String) {
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(&layer.below);
    layer.put_under(&mut command);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said)
}

fn on_a_disk(test: impl FnOnce(&Layer, &Path)) {
    let folder = TempDir::new().unwrap();
    let Some(layer) = Layer::over(folder.path()) else { return };
    test(&layer, folder.path());
}

#[test]
fn the_layer_leaves_alone_what_no_rule_is_about() {
    on_a_disk(|layer, folder| {
        layer.obeys("write *.other 1+ EIO\nany * 99 die-before");
        let script = "echo one > a && echo two >> a && mkdir b && mv a b/c && cat b/c && dd if=b/c of=d conv=fsync \
                      2>/dev/null && rm d && truncate -s 2 b/c";
        assert_eq!(sees(layer, script), (Some(0), "one\ntwo\n".to_owned()));
        assert_eq!(fs::read_to_string(folder.join("b/c")).unwrap(), "on");
        assert!(layer.did().is_empty() && !folder.join("d").exists());
        let elsewhere = TempDir::new().unwrap();
        layer.obeys("any * 1+ EIO");
        assert_eq!(
            sees(layer, &format!("echo one > {}", elsewhere.path().join("a").display())),
            (Some(0), String::new())
        );
        assert!(layer.did().is_empty());
    });
}

#[test]
fn the_layer_fails_an_operation_by_its_number() {
    on_a_disk(|layer, folder| {
        for (rule, script, left) in [
            ("write * 2 EIO", "echo a > f; echo b >> f; echo c >> f", Some("a\nc\n")),
            ("write f 2+ ENOSPC", "echo a > f; echo b >> f; echo c >> f", Some("a\n")),
            ("open * 1+ EROFS", "echo a > f; echo b >> f", None),
            ("write * 1+ room 3", "printf ab > f; printf cdef >> f", Some("abc")),
            ("rename * 1 EACCES", "echo a > g; mv g f; echo b > f", Some("b\n")),
            ("unlink f 1 EIO", "echo a > f; rm f; echo b >> f", Some("a\nb\n")),
            ("any * 3 EIO", "echo a > f; echo b >> f", Some("a\n")),
        ] {
            let _ = fs::remove_file(folder.join("f"));
            layer.obeys(rule);
            let (_, said) = sees(layer, script);
            assert_eq!(fs::read_to_string(folder.join("f")).ok().as_deref(), left, "{rule}: {said}");
            assert!(!layer.did().is_empty(), "{rule}");
        }
    });
}

#[test]
fn the_layer_loses_what_was_not_synced() {
    on_a_disk(|layer, folder| {
        fs::write(folder.join("old"), "old").unwrap();
        layer.obeys("sync * 1 lose");
        let (code, said) = sees(layer, "dd if=/dev/zero bs=1 count=0 2>/dev/null; printf new | dd of=f conv=fsync");
        assert!(code == Some(1) && said.contains("Input/output error"), "{said}");
        assert_eq!(fs::read(folder.join("f")).unwrap(), [0; 3]);

        // A file that is new is in no folder yet, and what was added to an old one is not on the disk.
        layer.obeys("write old 2 dark-after 0");
        let (code, _) = sees(layer, "printf x > new; printf more >> old; printf more >> old");
        assert_eq!(code, None);
        assert_eq!(fs::read_to_string(folder.join("old")).unwrap(), "old");
        assert!(!folder.join("new").exists());
        assert_eq!(layer.did(), ["write old dark-after"]);
    });
}

#[test]
fn the_layer_kills_at_a_moment_and_moves_the_clock() {
    on_a_disk(|layer, folder| {
        layer.obeys("write f 2 die-before");
        assert_eq!(sees(layer, "printf a > f; printf b >> f; printf c >> f").0, None);
        assert_eq!(fs::read_to_string(folder.join("f")).unwrap(), "a");
        layer.obeys("unlink f 1 die-after");
        assert_eq!(sees(layer, "exec rm f").0, None);
        assert!(!folder.join("f").exists());

        let now = |layer: &Layer| sees(layer, "exec date +%s").1.trim().parse::<i64>().unwrap();
        let before = now(layer);
        layer.obeys("clock -86400");
        assert!((before - 86_400 - now(layer)).abs() < 60);
    });
}
