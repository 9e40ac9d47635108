//! Compares measured figures with kept ones.

use crate::row::Row;

/// How much worse a median may be.
const TOLERATED: f64 = 1.2;

/// A row that has become worse.
#[derive(Debug, PartialEq)]
pub(crate) struct Worse {
    pub(crate) name: String,
    pub(crate) was: f64,
    pub(crate) is: f64,
    /// 0.25 is a quarter worse.
    pub(crate) by: f64,
}

/// The rows whose median ratio is more than 20 % worse than the kept one. Rows that only one side has are left out.
pub(crate) fn worse(kept: &[Row], measured: &[Row]) -> Vec<Worse> {
    measured.iter().filter_map(|row| compare(kept.iter().find(|k| k.name == row.name)?, row)).collect()
}

fn compare(kept: &Row, row: &Row) -> Option<Worse> {
    let (was, is) = (kept.ratio.median, row.ratio.median);
    let loss = row.goal.loss(was, is);
    // A figure that cannot be compared is not as good as the kept one.
    let fine = loss <= TOLERATED || was.total_cmp(&is).is_eq();
    (!fine).then(|| Worse { name: row.name.clone(), was, is, by: loss - 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Goal;

    fn row(goal: Goal, ratio: f64) -> Row {
        Row::named("chain", goal).absolute("x", &[ratio])
    }

    fn is_worse(goal: Goal, was: f64, is: f64) -> bool {
        !worse(&[row(goal, was)], &[row(goal, is)]).is_empty()
    }

    #[test]
    fn a_fifth_is_tolerated_in_either_direction_of_better() {
        assert!(!is_worse(Goal::AtLeast(0.6), 0.60, 0.51));
        assert!(is_worse(Goal::AtLeast(0.6), 0.60, 0.49));
        assert!(!is_worse(Goal::AtMost(3.0), 2.0, 2.4));
        assert!(is_worse(Goal::AtMost(3.0), 2.0, 2.5));
        assert!(is_worse(Goal::Less, 2.0, 2.5));
    }

    #[test]
    fn better_is_never_worse() {
        assert!(!is_worse(Goal::AtLeast(0.6), 0.1, 0.9));
        assert!(!is_worse(Goal::AtMost(3.0), 5.0, 0.0));
    }

    #[test]
    fn nothing_and_no_number_are_compared_too() {
        assert!(!is_worse(Goal::AtMost(3.0), 0.0, 0.0));
        assert!(is_worse(Goal::AtMost(3.0), 0.0, 1.0));
        assert!(is_worse(Goal::AtLeast(1.0), 1.0, f64::NAN));
    }

    #[test]
    fn a_row_that_was_not_kept_is_not_compared() {
        let new = Row::named("new", Goal::Less).absolute("x", &[1.0]);
        assert_eq!(worse(&[row(Goal::Less, 0.1)], &[new]), []);
    }
}
