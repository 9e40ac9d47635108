//! The ratios as a picture: how near each is to its goal.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Fallible;
use crate::row::{Goal, Row};

const WIDTH: u32 = 900;
const LINE: u32 = 24;
const LEFT: i32 = 190;
const RIGHT: i32 = 690;

/// How well a row does: 1 if its goal is met exactly, more if it is better. None if it has no goal.
fn score(row: &Row) -> Option<f64> {
    match row.goal {
        Goal::AtLeast(least) => Some(row.ratio.median / least),
        Goal::AtMost(most) => Some(most / row.ratio.median),
        Goal::Less | Goal::More => None,
    }
}

/// The position of a score between a tenth of its goal and ten times its goal.
fn place(score: f64) -> i32 {
    let share = f64::midpoint(score.clamp(0.1, 10.0).log10(), 1.0);
    #[expect(clippy::cast_possible_truncation, reason = "a place in the picture")]
    let place = (f64::from(RIGHT - LEFT) * share).round() as i32;
    LEFT + place
}

/// Draws the rows that have a goal.
pub(crate) fn draw(rows: &[Row], file: &Path) -> Fallible<()> {
    let scored: Vec<_> = rows.iter().filter_map(|row| Some((row, score(row)?))).collect();
    let height = LINE * (u32::try_from(scored.len())? + 2);
    let area = SVGBackend::new(file, (WIDTH, height)).into_drawing_area();
    let failed = |e: DrawingAreaErrorKind<std::io::Error>| format!("{}: {e}", file.display());
    area.fill(&WHITE).map_err(failed)?;
    let text = ("sans-serif", 13).into_font().color(&BLACK);
    let right = text.pos(Pos::new(HPos::Right, VPos::Center));
    let left = text.pos(Pos::new(HPos::Left, VPos::Center));
    let middle = text.pos(Pos::new(HPos::Center, VPos::Center));
    let mut y = i32::try_from(LINE)?;
    for (score, label) in [(0.1, "a tenth"), (1.0, "goal"), (10.0, "ten times as good")] {
        area.draw(&Text::new(label, (place(score), y / 2), &middle)).map_err(failed)?;
    }
    for (row, score) in &scored {
        let (top, bottom) = (y + 4, y + 20);
        let colour = if *score >= 1.0 { RGBColor(46, 125, 50) } else { RGBColor(198, 40, 40) };
        area.draw(&Rectangle::new([(LEFT, top), (place(*score), bottom)], colour.filled())).map_err(failed)?;
        area.draw(&Text::new(row.name.as_str(), (LEFT - 8, y + 12), &right)).map_err(failed)?;
        let label = format!("{:.3} {}", row.ratio.median, row.of);
        area.draw(&Text::new(label, (RIGHT + 8, y + 12), &left)).map_err(failed)?;
        y += i32::try_from(LINE)?;
    }
    area.draw(&PathElement::new([(place(1.0), i32::try_from(LINE)?), (place(1.0), y)], BLACK)).map_err(failed)?;
    area.present().map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_is_further_to_the_right_whichever_way_better_is() {
        let row = |goal, ratio| Row::named("row", goal).absolute("x", &[ratio]);
        assert_eq!(score(&row(Goal::AtLeast(0.6), 0.3)), Some(0.5));
        assert_eq!(score(&row(Goal::AtMost(3.0), 1.5)), Some(2.0));
        assert_eq!(score(&row(Goal::Less, 1.5)), None);
        assert!(place(0.5) < place(1.0) && place(1.0) < place(2.0));
        assert_eq!((place(0.0), place(f64::INFINITY)), (LEFT, RIGHT));
    }
}
