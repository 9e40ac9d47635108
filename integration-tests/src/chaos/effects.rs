//! The effects of steps on the outside world: lines in a file that no fault of Redis reaches.
//!
//! All worker processes append to one file, each line with one write, so the order of the lines is the order in which things happened.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use stepfleet::prelude::*;

/// The variable that names the file. A worker process with this variable serves the workflows of this folder.
pub const VARIABLE: &str = "TEST_EFFECTS";

/// One effect: its attempt, its step or call, and a unique token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The number of the step execution.
    pub seq: u64,
    /// The attempt that had the effect.
    pub attempt: u32,
    /// The step or the recorded call.
    pub what: String,
    /// Unique to the effect.
    pub token: String,
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// The effect happened.
    Did,
    /// The body got this effect as the recorded result of its call.
    Knows,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// What it says.
    pub verb: Verb,
    /// The run.
    pub run: String,
    /// The attempt that wrote the line. An effect that it knows may be of an earlier attempt.
    pub attempt: u32,
    /// The effect.
    pub mark: Mark,
}

impl Effect {
    /// Reads a line: `<did|knows> <run> <attempt> <seq> <attempt of the effect> <what> <token>`.
    pub fn parse(line: &str) -> Option<Self> {
        let parts: Vec<_> = line.split(' ').collect();
        let [verb, run, attempt, seq, by, what, token] = parts[..] else { return None };
        let verb = match verb {
            "did" => Verb::Did,
            "knows" => Verb::Knows,
            _ => return None,
        };
        let (what, token) = (what.to_owned(), token.to_owned());
        let mark = Mark { seq: seq.parse().ok()?, attempt: by.parse().ok()?, what, token };
        Some(Self { verb, run: run.to_owned(), attempt: attempt.parse().ok()?, mark })
    }
}

/// The log, as a resource of workflows.
#[derive(Clone)]
pub struct Effects {
    file: Arc<File>,
    /// The beginning of the tokens of this process.
    process: u32,
    count: Arc<AtomicU64>,
}

impl Effects {
    /// Opens or creates the log.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::options().append(true).create(true).open(path)?;
        Ok(Self { file: Arc::new(file), process: rand::random(), count: Arc::default() })
    }

    /// Performs the effect of this attempt now.
    pub(super) fn did<S>(&self, ctx: &Context<S>, what: &str) -> Outcome<Mark> {
        let token = format!("{:08x}.{}", self.process, self.count.fetch_add(1, Ordering::Relaxed));
        let mark = Mark { seq: ctx.seq(), attempt: ctx.attempt(), what: what.to_owned(), token };
        self.write("did", ctx, &mark)?;
        Ok(mark)
    }

    /// Notes that the body got this from its journal, or recorded it just now.
    pub(super) fn knows<S>(&self, ctx: &Context<S>, mark: &Mark) -> Outcome<()> {
        self.write("knows", ctx, mark)
    }

    fn write<S>(&self, verb: &str, ctx: &Context<S>, mark: &Mark) -> Outcome<()> {
        let Mark { seq, attempt, what, token } = mark;
        let line = format!("{verb} {} {} {seq} {attempt} {what} {token}\n", ctx.run_id(), ctx.attempt());
        // One write, so that no two lines mix.
        Ok((&*self.file).write_all(line.as_bytes())?)
    }
}
