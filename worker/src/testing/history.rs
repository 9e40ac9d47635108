//! The history of a test's run.

use std::fmt;

use stepfleet_shared::history::{Kind, Record};

/// All that happened in a run, in order. Its `Display` is a line for each record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    began_ms: u64,
    records: Vec<Record>,
}

impl History {
    pub(super) fn new(began_ms: u64, records: Vec<Record>) -> Self {
        Self { began_ms, records }
    }

    /// The records, oldest first.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The records of one kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |record| record.kind == kind)
    }

    /// The steps that were committed, in order: one name for each step execution.
    pub fn steps(&self) -> Vec<&str> {
        self.of(Kind::Done).map(|record| record.step.as_str()).collect()
    }

    /// Checks that these steps were committed, in this order.
    ///
    /// # Panics
    /// If they differ, with both lists and the first difference.
    #[track_caller]
    pub fn assert_steps<S: AsRef<str>>(&self, expected: impl IntoIterator<Item = S>) {
        let expected: Vec<S> = expected.into_iter().collect();
        let expected: Vec<&str> = expected.iter().map(AsRef::as_ref).collect();
        let came = self.steps();
        assert!(
            expected == came,
            "the committed steps (+) are not those expected (-):\n{}\n{self}",
            difference(&expected, &came)
        );
    }
}

/// A diff: the common beginning and end, and in between what only one of them has.
fn difference(expected: &[&str], came: &[&str]) -> String {
    let same = expected.iter().zip(came).take_while(|(a, b)| a == b).count();
    let (rest, came_rest) = (&expected[same..], &came[same..]);
    let tail = rest.iter().rev().zip(came_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let parts = [
        (' ', &expected[..same]),
        ('-', &rest[..rest.len() - tail]),
        ('+', &came_rest[..came_rest.len() - tail]),
        (' ', &rest[rest.len() - tail..]),
    ];
    let lines = parts.iter().flat_map(|(mark, names)| names.iter().map(move |name| format!("  {mark} {name}\n")));
    lines.collect()
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("history:")?;
        for record in &self.records {
            let at = record.at_ms.saturating_sub(self.began_ms);
            write!(f, "\n  {at:>8} ms  {:<10}", record.kind.as_str())?;
            if record.seq > 0 {
                write!(f, " #{} {}", record.seq, record.step)?;
            }
            if record.attempt > 0 {
                write!(f, " attempt {} on {}", record.attempt, record.worker)?;
            }
            match record.kind {
                Kind::Done => {}
                Kind::Retry => {
                    let (delay, error) = record.detail.split_once(' ').unwrap_or(("?", &record.detail));
                    write!(f, ", again in {delay} ms: {error}")?;
                }
                _ if record.detail.is_empty() => {}
                _ if record.seq == 0 => write!(f, " {}", record.told())?,
                _ => write!(f, ": {}", record.told())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_only_what_differs() {
        let text = difference(&["a", "b", "b", "z"], &["a", "b", "c", "c", "z"]);
        assert_eq!(text, "    a\n    b\n  - b\n  + c\n  + c\n    z\n");
        assert_eq!(difference(&["a", "a"], &["a"]), "    a\n  - a\n");
    }

    #[test]
    fn a_record_is_a_line_that_can_be_read() {
        let record = |line: &str| Record::parse(line.as_bytes());
        let history =
            History::new(1000, vec![record("1000 start 0 0 - - w 1"), record("1500 retry 2 1 look w-1 80 no")]);
        let text = history.to_string();
        assert!(text.contains("0 ms  start      w 1\n"), "{text}");
        assert!(text.contains("500 ms  retry      #2 look attempt 1 on w-1, again in 80 ms: no"), "{text}");
    }
}
