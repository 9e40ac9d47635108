//! What the tool and its worker processes say to each other: a line of JSON each, over standard input and output.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Told to a worker process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    /// Count from 0, and say when this many bodies have begun.
    Expect { bodies: u64 },
    /// Release what is held.
    Release,
    /// Say what was counted.
    Take,
}

/// Said by a worker process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// It counts anew.
    Expecting,
    /// The expected number of bodies has begun; how long after the first.
    Reached { took: Duration },
    /// It has begun a run and holds it.
    Began { run: String },
    /// What was counted.
    Took(Taken),
}

/// What a worker process counted.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// Bodies that began.
    pub(crate) bodies: u64,
    /// CPU time of the process meanwhile.
    pub(crate) cpu: Duration,
    /// The samples of the workflows that take times.
    pub(crate) gaps: Vec<Duration>,
}

impl Said {
    pub(crate) fn say(&self) {
        println!("{}", serde_json::to_string(self).expect("plain data"));
    }
}
