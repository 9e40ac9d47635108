//! What a worker decides is decided without waiting, without a clock and without Redis.

use std::fs;
use std::path::{Path, PathBuf};

const FORBIDDEN: [&str; 7] = ["tokio", "redis::", "async ", ".await", "Instant", "SystemTime", "rand::"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    found.filter(|path| path.extension().is_some_and(|ending| ending == "rs")).collect()
}

#[test]
fn decisions_are_pure() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = [sources(&folder.join("src/decisions")), sources(&folder.join("src/replay"))].concat();
    assert!(files.len() > 12, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        // Examples in documentation show whole workflows.
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            let found = FORBIDDEN.iter().find(|word| line.contains(**word));
            assert!(found.is_none(), "{}: {line}", file.display());
        }
    }
}
