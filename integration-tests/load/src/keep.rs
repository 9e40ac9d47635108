//! The kept figures: a JSON file, and the table in the page beside it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Fallible;
use crate::row::Row;
use crate::table::{HEADS, cells};

const BEGIN: &str = "<!-- kept: begin -->\n";
const END: &str = "<!-- kept: end -->";

/// Everything that was measured in one go.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The machine's cores.
    cores: usize,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    pub(crate) fn of(rows: Vec<Row>) -> Self {
        Self { cores: std::thread::available_parallelism().map_or(1, usize::from), rows }
    }
}

/// The rows that were kept beside a page.
pub(crate) fn read(page: &Path) -> Fallible<Vec<Row>> {
    let file = page.with_extension("json");
    let text = std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let report: Report = serde_json::from_slice(&text).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(report.rows)
}

/// Writes the measured rows. Rows that were kept before and not measured now stay.
pub(crate) fn write(page: &Path, mut report: Report) -> Fallible<()> {
    let file = page.with_extension("json");
    if file.exists() {
        report.rows = merged(read(page)?, report.rows);
    }
    let text = std::fs::read_to_string(page).map_err(|e| format!("{}: {e}", page.display()))?;
    std::fs::write(page, with_table(&text, &report.rows)?)?;
    std::fs::write(file, serde_json::to_string_pretty(&report)? + "\n")?;
    Ok(())
}

fn merged(mut kept: Vec<Row>, measured: Vec<Row>) -> Vec<Row> {
    for row in measured {
        match kept.iter_mut().find(|k| k.name == row.name) {
            Some(old) => *old = row,
            None => kept.push(row),
        }
    }
    kept
}

fn with_table(page: &str, rows: &[Row]) -> Fallible<String> {
    let (before, rest) = page.split_once(BEGIN).ok_or("the page has no place for the table")?;
    let (_, after) = rest.split_once(END).ok_or("the place for the table has no end")?;
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut table = line(&HEADS.map(str::to_owned));
    table.extend(["|", &"---|".repeat(HEADS.len()), "\n"]);
    for row in rows {
        table.push_str(&line(&cells(row)));
    }
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Goal;

    fn row(name: &str, ratio: f64) -> Row {
        Row::named(name, Goal::AtMost(1.0)).absolute("s", &[ratio])
    }

    #[test]
    fn what_was_not_measured_stays() {
        let rows = merged(vec![row("a", 1.0), row("b", 2.0)], vec![row("c", 5.0), row("b", 3.0)]);
        let medians: Vec<_> = rows.iter().map(|r| (r.name.as_str(), r.ratio.median)).collect();
        assert_eq!(medians, [("a", 1.0), ("b", 3.0), ("c", 5.0)]);
    }

    #[test]
    fn the_table_replaces_the_one_before() {
        let page = format!("above\n{BEGIN}old\n{END}\nbelow\n");
        let page = with_table(&page, &[row("frozen", 0.5)]).unwrap();
        assert!(page.starts_with("above\n") && page.ends_with("\nbelow\n") && !page.contains("old"), "{page}");
        assert!(page.contains("| frozen | 0.500 / 0.500 / 0.500 |"), "{page}");
        assert!(with_table("no place", &[]).is_err());
    }
}
