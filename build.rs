//! Which commit is this built from? `STEPGATE_COMMIT` says it where there is no checkout (a source
//! tarball, a container build); a release build in a checkout asks git.
//!
//! A debug build asks nobody: it would be compiled anew after every commit, and whoever builds one
//! knows what they build.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=STEPGATE_COMMIT");
    let told = std::env::var("STEPGATE_COMMIT").ok();
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = told.or_else(|| if release { checked_out() } else { None }).unwrap_or_default();
    // It stands in a line of a terminal and in a label of a metric.
    let commit: String = commit.trim().chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    println!("cargo::rustc-env=STEPGATE_COMMIT={commit}");
}

/// The commit of this very directory: a tarball that was unpacked inside another repository is not of it.
fn checked_out() -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    // Each commit, checkout and reset writes one of them; the last is the branch, where it has a file.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]).unwrap_or_default();
    for name in ["HEAD", "logs/HEAD", &branch] {
        // A file that is not there would make every build a new one.
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).is_file()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "HEAD"])
}

/// What git answers; nothing where it is not installed or the checkout is somebody else's.
fn git(arguments: &[&str]) -> Option<String> {
    let out = Command::new("git").args(arguments).output().ok().filter(|out| out.status.success())?;
    Some(String::from_utf8(out.stdout).ok()?.trim().to_owned())
}
