//! Tests of `mod.rs`.

use super::*;

fn digest_of(name: &str, content: &[u8]) -> Result<Digest, DigestError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    digest(&path, &Limits::default())
}

const README: &str = "# Otter\n\n[![Build](https://ci.example/badge.svg)](https://ci.example)\n\n\
    Otter is a small cache server for embedded devices. The cache server keeps hot entries in \
    memory and spills cold entries to flash storage.\n\n```rust\nlet otter = unrelated_code();\n```\n\n\
    ## Eviction\n\nCold entries leave the cache server when flash storage runs low. See \
    https://example.org for more.\n";

#[test]
fn describes_a_readme() {
    let digest = digest_of("README.md", README.as_bytes()).unwrap();
    assert_eq!(digest.title, "Otter");
    assert_eq!(digest.bytes, README.len() as u64);
    assert_eq!(digest.chunks, 2);
    assert_eq!(digest.fingerprint.len(), SIGNATURE_SIZE);
    assert!(digest.keywords.contains(&"cache server".to_owned()), "{:?}", digest.keywords);
    assert!(digest.summary.starts_with("Otter is a small cache server"), "{}", digest.summary);
    for junk in ["unrelated_code", "badge", "http"] {
        assert!(!digest.summary.contains(junk), "{}", digest.summary);
        assert!(!digest.keywords.iter().any(|word| word.contains(junk)), "{:?}", digest.keywords);
    }
}

#[test]
fn is_the_same_every_time_and_survives_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("README.md");
    std::fs::write(&path, README).unwrap();
    let first = digest(&path, &Limits::default()).unwrap();
    assert_eq!(first, digest(&path, &Limits::default()).unwrap());
    let json = serde_json::to_string(&first).unwrap();
    assert_eq!(first, serde_json::from_str(&json).unwrap());
}

#[test]
fn replaces_what_is_no_utf8() {
    let digest = digest_of("old.txt", b"Caf\xe9 opening hours\n\nWe open at nine every morning.").unwrap();
    assert_eq!(digest.title, "Caf\u{fffd} opening hours");
    assert!(digest.summary.contains("We open at nine"));
}

#[test]
fn a_document_without_words_has_a_name_and_nothing_else() {
    let digest = digest_of("empty.md", b"---\n\n![](x.png)\n").unwrap();
    assert_eq!((digest.title.as_str(), digest.words, digest.chunks), ("empty.md", 0, 0));
    assert!(digest.fingerprint.is_empty() && digest.summary.is_empty());
}

#[test]
fn refuses_what_it_cannot_read() {
    assert!(matches!(digest_of("a.txt", b"text\0binary"), Err(DigestError::NotText(_))));
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { bytes: 4, ..Limits::default() };
    let path = folder.path().join("a.md");
    assert!(matches!(digest(&path, &limits), Err(DigestError::NotFound(_))));
    assert!(matches!(digest(folder.path(), &limits), Err(DigestError::NotAFile(_))));
    std::fs::write(&path, "12345").unwrap();
    assert!(matches!(digest(&path, &limits), Err(DigestError::TooLarge { bytes: 5, limit: 4, .. })));
    std::fs::write(&path, "1234").unwrap();
    assert!(digest(&path, &limits).is_ok());
}
