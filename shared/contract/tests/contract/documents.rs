//! What the documents say is what is rendered.

use stepfleet_contract::{KEYS, TABLES};

use super::sources::{between, files, read, root};

pub(crate) const HINT: &str = "render it anew: STEPFLEET_WRITE_DOCS=1 cargo test -p stepfleet-contract";
const END: &str = "<!-- end -->";

/// The document with all that is rendered in its place, and the names of that.
fn rendered(text: &str) -> (String, Vec<&str>) {
    let (mut out, mut names, mut rest) = (String::new(), vec![], text);
    while let Some((before, after)) = rest.split_once("<!-- contract: ") {
        let (name, after) = after.split_once(" -->").expect("the marker is closed");
        let table = TABLES.iter().find(|table| table.name == name).unwrap_or_else(|| panic!("no table {name}"));
        let (_, after) = after.split_once(END).unwrap_or_else(|| panic!("no end of {name}"));
        out.extend([before, "<!-- contract: ", name, " -->\n", &(table.render)(), END]);
        names.push(name);
        rest = after;
    }
    (out + rest, names)
}

#[test]
fn the_tables_of_the_documents_are_what_is_rendered() {
    let is_to_write = std::env::var_os("STEPFLEET_WRITE_DOCS").is_some();
    let (mut all, mut stale) = (vec![], vec![]);
    for (file, text) in files("docs", ".md") {
        let (fresh, names) = rendered(&text);
        all.extend(names.into_iter().map(str::to_owned));
        if fresh == text {
            continue;
        }
        if is_to_write {
            std::fs::write(root().join("docs").join(&file), fresh).expect("can be written");
        } else {
            stale.push(file);
        }
    }
    assert!(stale.is_empty(), "{stale:?} have stale tables; {HINT}");
    for table in TABLES {
        assert!(all.iter().any(|name| name == table.name), "no document has the table {}", table.name);
    }
}

/// Of the section on topology, the first column of each table is in its sources.
#[test]
fn architecture_has_no_table_that_nothing_holds() {
    let text = read("docs/architecture.md");
    let topology: String = files("shared/src/store/redis/topology", ".rs").into_iter().map(|(_, text)| text).collect();
    let (mut is_rendered, mut section) = (false, "");
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            section = name;
        }
        is_rendered = (is_rendered || line.starts_with("<!-- contract: ")) && line != END;
        let is_row = line.starts_with('|') && !line.starts_with("|---") && !is_rendered;
        if is_row && section == "Topology" {
            let first = line.split('|').nth(1).unwrap_or_default();
            for name in first.split('`').skip(1).step_by(2) {
                let word = name.split("://").next().unwrap_or_default();
                assert!(topology.contains(word), "{name} is in the document and not in the topology's sources");
            }
        } else {
            assert!(!is_row, "nothing holds this row against the code: {line}");
        }
    }
}

/// The keys that callers may rely on.
#[test]
fn the_keys_of_the_protocol_are_public() {
    let text = read("docs/protocol.md");
    let section =
        text.split("## Keys that are the contract").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let mut named: Vec<&str> = between(section, "| `sf:{0}:", '`').filter_map(|key| key.split(':').next()).collect();
    let mut known: Vec<&str> = KEYS.iter().filter(|key| key.is_public).map(|key| key.kind).collect();
    named.sort_unstable();
    known.sort_unstable();
    assert_eq!(named, known, "left: in docs/protocol.md, right: public in the contract");
}
