//! Tells the program which commit it is built from and by which compiler, for `wsgw_build_info`
//! and `wsgw --version`.
//!
//! `WSGW_COMMIT` names the commit where the sources are no git checkout, as in a package; without either it is empty.
//! Debug builds do not ask git, or each commit would have them built again.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=WSGW_COMMIT");
    let given = std::env::var("WSGW_COMMIT").ok();
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = given.or_else(|| release.then(checked_out).flatten());
    let commit = commit.unwrap_or_default();
    println!("cargo::rustc-env=WSGW_COMMIT={commit}");
    let mut version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    if !commit.is_empty() {
        version = format!("{version} ({commit})");
    }
    println!("cargo::rustc-env=WSGW_VERSION={version}");
    let rustc = std::env::var("RUSTC").ok();
    let version = rustc.and_then(|rustc| output(Command::new(rustc).arg("--version")));
    println!(
        "cargo::rustc-env=WSGW_RUSTC={}",
        version.unwrap_or_default()
    );
}

/// The commit that is checked out, looked at again whenever another one is.
fn checked_out() -> Option<String> {
    let path = |name: &str| output(Command::new("git").args(["rev-parse", "--git-path", name]));
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = path(name).filter(|path| std::path::Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    output(Command::new("git").args(["rev-parse", "--short=12", "HEAD"]))
}

/// What a command prints, if it succeeds.
fn output(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
