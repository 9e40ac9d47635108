//! The files, tests and headings that the documents name are there.

use std::path::Path;

use super::sources::{read, root};

/// Stand for files of whoever reads.
const EXAMPLES: [&str; 2] = ["a.rs", "a/b.rs"];
const TESTS: &str = "integration-tests/tests/all";

/// Path and text of each.
fn documents() -> Vec<(String, String)> {
    let docs = super::sources::files("docs", ".md").into_iter();
    let mut all: Vec<_> = docs.map(|(name, text)| (format!("docs/{name}"), text)).collect();
    all.push(("README.md".to_owned(), read("README.md")));
    all
}

/// All files below a folder, from the root of the repository.
fn below(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(root().join(folder)).expect("can be listed") {
        let path = folder.join(entry.expect("can be listed").file_name());
        match path.file_name().and_then(|name| name.to_str()) {
            Some("target") => {}
            _ if root().join(&path).is_dir() => {
                found.push(format!("{}/", path.display()));
                below(&path, found);
            }
            _ => found.push(path.display().to_string()),
        }
    }
}

fn code_in(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn the_files_that_documents_name_are_there() {
    let mut known = Vec::new();
    for folder in ["coordinator", "worker", "shared", "deploy", "integration-tests", "docs"] {
        known.push(format!("{folder}/"));
        below(Path::new(folder), &mut known);
    }
    let is_path = |word: &str| {
        let is_source = [".rs", ".lua", ".py", ".sh", ".txt"].iter().any(|ending| word.ends_with(ending));
        let is_folder = word.ends_with('/')
            && known.iter().any(|file| file.starts_with(word.split('/').next().unwrap_or_default()));
        (is_source || is_folder) && !word.contains([' ', '*', '<', '$']) && !EXAMPLES.contains(&word)
    };
    let (mut missing, mut count) = (Vec::new(), 0);
    for (document, text) in documents() {
        for word in code_in(&text).filter(|word| is_path(word)) {
            count += 1;
            if !known.iter().any(|file| file == word || file.ends_with(&format!("/{word}"))) {
                missing.push(format!("{document}: {word}"));
            }
        }
    }
    assert!(count > 100, "only {count} names were found");
    assert!(missing.is_empty(), "documents name what is not there: {missing:#?}");
}

/// `module::test`, `folder::module::test` or `module::*`: where `docs/guarantees.md` says what shows something.
#[test]
fn the_tests_that_guarantees_name_are_there() {
    let text = read("docs/guarantees.md");
    let is_name =
        |word: &str| word.contains("::") && word.chars().all(|c| c.is_ascii_lowercase() || "_:*0123456789".contains(c));
    let (mut missing, mut count) = (Vec::new(), 0);
    // `a::b` says how tests are named.
    for word in code_in(&text).filter(|word| is_name(word) && !word.starts_with("a::")) {
        count += 1;
        let (module, test) = word.rsplit_once("::").expect("it has one");
        let path = format!("{TESTS}/{}", module.replace("::", "/"));
        let file = [format!("{path}.rs"), format!("{path}/mod.rs")].into_iter().find(|file| root().join(file).exists());
        let has_test = |file: String| test == "*" || read(&file).contains(&format!("fn {test}("));
        if !file.is_some_and(has_test) {
            missing.push(word);
        }
    }
    assert!(count > 80, "only {count} names were found");
    assert!(missing.is_empty(), "no test has these names: {missing:#?}");
}

/// As GitHub makes it of a heading: lower case, no punctuation, dashes for spaces.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || "-_ ".contains(*c);
    heading.trim().to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The lines of a document that are not in a block of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

fn anchors(text: &str) -> Vec<String> {
    prose(text).filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn the_links_between_documents_lead_somewhere() {
    let (mut broken, mut count) = (Vec::new(), 0);
    for (document, text) in documents() {
        let folder = Path::new(&document).parent().expect("it is in a folder");
        let links = prose(&text).flat_map(|line| line.split("](").skip(1)).filter_map(|link| link.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            count += 1;
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { Path::new(&document).to_owned() } else { folder.join(path) };
            let has_heading = || anchors(&read(&target.display().to_string())).iter().any(|anchor| anchor == heading);
            if !root().join(&target).exists() || !(heading.is_empty() || has_heading()) {
                broken.push(format!("{document}: {link}"));
            }
        }
    }
    assert!(count > 150, "only {count} links were found");
    assert!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
}
