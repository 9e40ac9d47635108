//! Tests of `report.rs`.

use std::fs;

use super::super::similar::Member;
use super::*;

fn sample() -> Report {
    let digest = |path: &str, keyword: &str| Digest {
        path: path.into(),
        title: "A | <b>title</b>".into(),
        bytes: 10,
        words: 2,
        chunks: 1,
        keywords: vec![keyword.into(), "shared".into()],
        summary: "It says a lot.".into(),
        fingerprint: vec![7; 64],
        checksum: "00".into(),
    };
    let member = |path: &str| Member { path: path.into(), similarity: 0.999, exact: false };
    Report {
        folder: "docs".into(),
        digests: vec![digest("docs/b.md", "bee"), digest("docs/a.md", "ant")],
        groups: vec![Group {
            exact: false,
            similarity: 0.999,
            members: vec![member("docs/a.md"), member("docs/b.md")],
        }],
        failures: vec![Failure { path: "docs/c.md".into(), reason: "docs/c.md may not be read".into() }],
    }
}

#[test]
fn the_report_is_readable_and_complete() {
    let folder = tempfile::tempdir().unwrap();
    let written = write(&folder.path().join("new/out"), &sample()).unwrap();
    let text = fs::read_to_string(written.report).unwrap();
    assert!(text.contains("| 2 | 4 | 2 | 20 | 1 | 1 |"), "{text}");
    assert!(text.contains("shared (2), ant (1), bee (1)"), "{text}");
    assert!(text.contains("1. 2 documents, at least 99 % like the first:\n    - a.md (99 %)"), "{text}");
    assert!(text.contains("| c.md | may not be read |"), "{text}");
    assert!(text.contains("| a.md | A \\| \\<b>title\\</b> | 2 | ant, shared | It says a lot. |"), "{text}");
    assert!(text.find("| a.md |") < text.find("| b.md |"), "sorted: {text}");
}

#[test]
fn the_index_holds_everything() {
    let folder = tempfile::tempdir().unwrap();
    let written = write(folder.path(), &sample()).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&fs::read(written.index).unwrap()).unwrap();
    assert_eq!(json["totals"]["words"], 4);
    assert_eq!(json["documents"][0]["path"], "docs/a.md");
    assert_eq!(json["documents"][1]["fingerprint"].as_array().unwrap().len(), 64);
    assert_eq!(json["groups"][0]["members"][1]["path"], "docs/b.md");
    assert_eq!(json["failures"][0]["path"], "docs/c.md");
}

#[test]
fn writing_again_replaces_both_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let written = write(folder.path(), &sample()).unwrap();
    let first = fs::read(&written.report).unwrap();
    let mut reversed = sample();
    reversed.digests.reverse();
    write(folder.path(), &reversed).unwrap();
    assert_eq!(first, fs::read(&written.report).unwrap(), "the order of the digests does not matter");
    write(folder.path(), &Report::default()).unwrap();
    assert!(!fs::read_to_string(&written.report).unwrap().contains("a.md"));
    let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["index.json", "report.md"]);
}

#[test]
fn says_why_it_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    assert!(matches!(write(&file, &sample()), Err(WriteError::NotAFolder(_))));
    let denied = explain(&file, io::ErrorKind::PermissionDenied.into()).to_string();
    assert!(denied.contains("permission to write there"), "{denied}");
}

#[cfg(unix)]
#[test]
fn the_report_is_not_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let written = write(folder.path(), &sample()).unwrap();
    let plain = folder.path().join("plain");
    fs::write(&plain, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&written.report), mode(&plain));
}
