//! What builds arguments and reads replies, and the contract that this is made from, take bytes and answer bytes. They know no
//! runtime, no client of Redis and no clock.

use std::path::Path;

const FORBIDDEN: [&str; 5] = ["tokio", "redis::", "async", "Instant", "SystemTime"];

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("can be listed").path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            let text = std::fs::read_to_string(&path).expect("can be read");
            found.push((path.display().to_string(), text));
        }
    }
}

#[test]
fn the_core_and_the_contract_know_no_runtime_no_client_and_no_clock() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["src/core", "contract/src"] {
        let mut found = Vec::new();
        sources(&root.join(folder), &mut found);
        assert!(found.len() > 5, "{folder} has only {} sources", found.len());
        for (path, text) in found {
            for word in FORBIDDEN {
                assert!(!text.contains(word), "{path} names {word}");
            }
        }
    }
}
