//! What a run's history proves: each document committed exactly once, and how fast a dead worker's steps began
//! elsewhere. Pure.

use std::collections::BTreeMap;
use std::fmt;

use stepfleet::history::{Kind, Record};

/// The counts that the history gives.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Proof {
    /// Step executions of `digest` that were committed.
    documents: usize,
    /// Commits beyond the first of any step execution.
    twice: usize,
    /// The worker that was killed.
    killed: Option<String>,
    /// For each step that it held: how long after the kill it began elsewhere, in ms.
    elsewhere_ms: Vec<u64>,
    /// Steps that it held and that were never committed.
    never: usize,
}

impl Proof {
    pub(crate) fn from_history(history: &[Record], kill: Option<(&str, u64)>) -> Self {
        let mut commits: BTreeMap<u64, Vec<&Record>> = BTreeMap::new();
        for record in history.iter().filter(|r| r.kind == Kind::Done) {
            commits.entry(record.seq).or_default().push(record);
        }
        let mut proof = Self {
            documents: commits.values().filter(|records| records[0].step == "digest").count(),
            twice: commits.values().map(|records| records.len() - 1).sum(),
            killed: kill.map(|(worker, _)| worker.to_owned()),
            ..Self::default()
        };
        let Some((worker, at_ms)) = kill else { return proof };
        for lost in history.iter().filter(|r| r.kind == Kind::Lost && r.worker == worker) {
            match commits.get(&lost.seq).and_then(|records| records[0].began_ms()) {
                Some(began) => proof.elsewhere_ms.push(began.saturating_sub(at_ms)),
                None => proof.never += 1,
            }
        }
        proof.elsewhere_ms.sort_unstable();
        proof
    }

    /// An error where the history does not prove what it should.
    pub(crate) fn check(&self, documents: usize) -> Result<(), String> {
        if self.documents != documents {
            return Err(format!("{documents} documents were listed but {} were committed", self.documents));
        }
        if self.twice > 0 {
            return Err(format!("{} steps were committed more than once", self.twice));
        }
        if self.never > 0 {
            return Err(format!("{} steps of the killed worker were never committed", self.never));
        }
        Ok(())
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(worker) = &self.killed {
            write!(f, "killed {worker} with SIGKILL while it held {} steps", self.elsewhere_ms.len() + self.never)?;
            if let (Some(first), Some(last)) = (self.elsewhere_ms.first(), self.elsewhere_ms.last()) {
                write!(f, "; they began elsewhere after {first} to {last} ms")?;
            }
            writeln!(f)?;
        }
        write!(
            f,
            "proof from the history: {} documents committed, {} of them more than once",
            self.documents, self.twice
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(line: &str) -> Record {
        Record::parse(line.as_bytes())
    }

    #[test]
    fn a_lost_step_counts_from_the_kill_to_its_next_attempt() {
        let history = [
            record("100 done 1 1 list w-1 90"),
            record("200 done 2 1 digest w-1 150"),
            record("400 lost 3 1 digest w-2"),
            record("500 done 3 2 digest w-1 410"),
        ];
        let proof = Proof::from_history(&history, Some(("w-2", 250)));
        assert_eq!((proof.documents, proof.twice, proof.elsewhere_ms.as_slice()), (2, 0, &[160][..]));
        proof.check(2).unwrap();
        assert!(proof.check(3).is_err());
    }

    #[test]
    fn a_second_commit_and_a_lost_step_are_found() {
        let twice = [record("1 done 2 1 digest w-1 0"), record("2 done 2 2 digest w-2 0")];
        assert!(Proof::from_history(&twice, None).check(1).unwrap_err().contains("more than once"));
        let never = [record("1 done 1 1 digest w-1 0"), record("2 lost 2 1 digest w-2")];
        assert!(Proof::from_history(&never, Some(("w-2", 0))).check(1).unwrap_err().contains("never committed"));
    }
}
