//! Runs the scripts.

use std::path::Path;

use crate::script::in_both;
use crate::support::server::tests_redis;

/// Runs every script of a folder; a failure names its files.
fn run(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/compat")
        .join(folder);
    let files =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = files
        .map(|file| file.expect("a folder that can be listed").path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "txt"));
    paths.sort();
    assert!(!paths.is_empty(), "no scripts in {}", folder.display());
    let fails = |path: &std::path::PathBuf| {
        println!("script {}", path.display());
        let script = std::fs::read_to_string(path).expect("a text file");
        std::panic::catch_unwind(|| in_both(&script)).is_err()
    };
    let failed: Vec<_> = paths.iter().filter(|path| fails(path)).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// What Redis has always answered.
#[test]
fn as_redis_answers() {
    run("scripts");
}

/// What later versions than the oracle added.
#[test]
fn as_later_versions_answer() {
    if !tests_redis() {
        run("scripts/later");
    }
}
