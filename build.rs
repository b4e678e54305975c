//! Tells the binary which revision it's built of, for `--version`; of the package that crates.io has, which one that was
//! made of. Without git, or outside of this repository, there's none to tell, and that is no error.
//!
//! Cargo compiles all of the package again whenever this has run, so it runs only when something is compiled again
//! anyway; for a release after each commit, too. So a debug build may name the commit before, marked as modified.

use std::path::Path;
use std::process::Command;

/// What the binary is made of.
const SOURCES: [&str; 4] = ["src", "build.rs", "Cargo.toml", "Cargo.lock"];

/// For who builds it where git has nothing to say, as in a container.
const GIVEN: &str = "DATA_PUBLISHER_BUILD_REVISION";

fn main() {
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
    }
    println!("cargo:rerun-if-env-changed={GIVEN}");
    let given = std::env::var(GIVEN).ok().filter(|revision| !revision.is_empty());
    let revision = given.or_else(packaged).or_else(checked_out);
    let revision = revision.map_or(String::new(), |revision| format!(" ({revision})"));
    println!("cargo:rustc-env=DATA_PUBLISHER_REVISION={revision}");
}

/// What cargo wrote down when it made the package: `{"git": {"sha1": "...", "dirty": true}, ...}`.
fn packaged() -> Option<String> {
    let info = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, rest) = info.split_once("\"sha1\"")?;
    let sha1 = rest.split('"').nth(1)?;
    let dirty = if info.contains("\"dirty\": true") { "-modified" } else { "" };
    Some(format!("{}{dirty}", sha1.get(..12)?))
}

/// The commit that is checked out here, if "here" is a repository and not just a folder of somebody else's.
fn checked_out() -> Option<String> {
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let here = std::env::current_dir().ok()?;
    if Path::new(&top).canonicalize().ok()? != here.canonicalize().ok()? {
        return None;
    }
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        // Written by each commit and checkout.
        let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
        println!("cargo:rerun-if-changed={log}");
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changes = git(&[&["status", "--porcelain", "--"], &SOURCES[..]].concat())?;
    let dirty = if changes.is_empty() { "" } else { "-modified" };
    Some(format!("{commit}{dirty}"))
}

fn git(arguments: &[&str]) -> Option<String> {
    // Without this a status may write the index, which others may be at.
    let output =
        Command::new("git").env("GIT_OPTIONAL_LOCKS", "0").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
