//! The rule that determines the partition of a run, as the documents have it.

use std::process::Command;

use stepfleet_shared::partition::partition_of;

/// The three lines of Python in `docs/protocol.md` find the keys of a run.
#[test]
fn the_published_rule_is_three_lines_of_python() {
    let page = include_str!("../../../../docs/protocol.md");
    let rule =
        page.split("```python\n").find(|part| part.starts_with("def prefix(id")).expect("the rule is on the page");
    let rule = rule.split("```").next().unwrap_or_default();
    assert_eq!(rule.trim_end().lines().count(), 3);
    let ids = ["order-1", "1719922000000-0", "orders/2026:7@shop", "a"];
    let program = format!("import zlib\n{rule}\nfor id in {ids:?}: print(prefix(id, 16))");
    let output = Command::new("python3").args(["-c", &program]).output().expect("python3 is installed");
    let expected: Vec<String> = ids.iter().map(|id| format!("sf:{{{}}}:", partition_of(id, 16))).collect();
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().collect::<Vec<_>>(), expected, "{output:?}");
}
