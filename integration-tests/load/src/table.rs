//! The table for people.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use crate::row::{Goal, Row};
use crate::stats::Spread;

/// The heads of the columns.
pub(crate) const HEADS: [&str; 10] = [
    "row",
    "min / median / max",
    "unit",
    "ratio: min / median / max",
    "to",
    "goal",
    "FCALLs",
    "commands",
    "Redis us",
    "floor us",
];

/// The table, its last four columns per step.
pub(crate) fn draw(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(HEADS);
    for row in rows {
        table.add_row(cells(row));
    }
    for column in [1, 3, 6, 7, 8, 9] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A row as text.
pub(crate) fn cells(row: &Row) -> [String; 10] {
    let cost = |value: fn(&crate::usage::Cost) -> f64| row.cost.as_ref().map_or_else(String::new, |c| short(value(c)));
    [
        row.name.clone(),
        spread(row.figure),
        row.unit.clone(),
        spread(row.ratio),
        row.of.clone(),
        goal(row),
        cost(|c| c.fcalls),
        cost(|c| c.commands),
        cost(|c| c.redis_us),
        row.cost.and_then(|c| c.floor_us).map_or_else(String::new, short),
    ]
}

fn goal(row: &Row) -> String {
    let met = match row.goal.is_met(row.ratio.median) {
        Some(true) => ", met",
        Some(false) => ", missed",
        None => "",
    };
    match row.goal {
        Goal::AtLeast(least) => format!(">= {least}{met}"),
        Goal::AtMost(most) => format!("<= {most}{met}"),
        Goal::Less => "less".to_owned(),
        Goal::More => "more".to_owned(),
    }
}

fn spread(Spread { min, median, max }: Spread) -> String {
    format!("{} / {} / {}", short(min), short(median), short(max))
}

/// Three significant digits.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_its_goal_is_met() {
        let row = Row::named("chain", Goal::AtLeast(0.6)).measured("steps/s", "of the floor", &[(16_123.4, 0.1712)]);
        let cells = cells(&row);
        assert_eq!(cells[1], "16123 / 16123 / 16123");
        assert_eq!(cells[3], "0.171 / 0.171 / 0.171");
        assert_eq!(cells[5], ">= 0.6, missed");
        assert!(draw(&[row]).to_string().contains("chain"));
    }
}
