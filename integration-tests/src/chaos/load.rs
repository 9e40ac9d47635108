//! The requests of callers: an endless sequence of jobs, determined by a seed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use stepfleet_shared::run::Status;

use super::workflows::Work;

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// Steps one after another.
    Turns,
    /// A fan-out and its join.
    Fan,
    /// Fan-outs within a fan-out.
    Nest,
    /// A step that fails, waits and is tried again.
    Tries,
    /// Recorded calls, a join, a sleep and a deadline.
    Records,
    /// Waits for signals.
    Asks,
    /// One of several runs of a session.
    Says,
    /// Has child runs.
    Parent,
    /// A fan-out of which the first two are enough.
    Podium,
    /// Fails, and its caller retries it with another event.
    Mends,
    /// Increases an entity that runs share.
    Counts,
    /// A long step with checkpoints.
    Notes,
    /// Branches that fill a buffer.
    Gathers,
}

impl Shape {
    /// The name of the workflow.
    pub fn workflow(self) -> &'static str {
        match self {
            Self::Turns => "turns",
            Self::Fan => "fan",
            Self::Nest => "nest",
            Self::Tries => "tries",
            Self::Records => "records",
            Self::Asks => "asks",
            Self::Says => "says",
            Self::Parent => "parent",
            Self::Podium => "podium",
            Self::Mends => "mends",
            Self::Counts => "counts",
            Self::Notes => "notes",
            Self::Gathers => "gathers",
        }
    }

    /// Whether what an attempt has saved is there for later ones, its effects with it.
    pub fn saves(self) -> bool {
        self.is_function() || self == Self::Notes
    }

    /// Whether it is one durable function, whose attempts need not have effects of their own.
    pub fn is_function(self) -> bool {
        matches!(self, Self::Records | Self::Asks | Self::Says | Self::Parent | Self::Counts)
    }
}

/// What the caller does with the run after its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steering {
    /// Nothing.
    None,
    /// Cancels it after this many ms.
    Cancel(u64),
    /// Pauses it after the first number of ms, and resumes it after the second.
    Pause(u64, u64),
}

/// A run that a caller requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Its id.
    pub id: String,
    /// Its shape.
    pub shape: Shape,
    /// Its size.
    pub work: Work,
    /// Its delay, in ms.
    pub delay_ms: u64,
    /// The session that it is in.
    pub session: Option<String>,
    /// The delays of its signals, in ms.
    pub words: Vec<(u64, String)>,
    /// What the caller does after the start.
    pub steering: Steering,
    /// The caller writes to the inbox directly, without the client.
    pub is_raw: bool,
}

impl Ask {
    /// A plain run of this shape.
    pub fn new(id: impl Into<String>, shape: Shape, work: Work) -> Self {
        let (words, steering) = (Vec::new(), Steering::None);
        Self { id: id.into(), shape, work, delay_ms: 0, session: None, words, steering, is_raw: false }
    }

    /// How many step executions it has when it completes. None if that depends on which is faster.
    pub fn executions(&self) -> Option<u64> {
        let n = self.work.n;
        Some(match self.shape {
            Shape::Turns => n + 1,
            Shape::Fan | Shape::Gathers => n + 2,
            Shape::Nest => 2 + 2 * n + n * n.saturating_sub(1) / 2,
            Shape::Tries | Shape::Notes => 2,
            Shape::Mends | Shape::Records | Shape::Asks | Shape::Says | Shape::Parent | Shape::Counts => 1,
            Shape::Podium => return None,
        })
    }

    /// Whether it is over. A run of `Mends` that failed is not: its caller retries it.
    pub fn is_over(&self, status: Status) -> bool {
        status.is_over() && !(self.shape == Shape::Mends && status == Status::Failed)
    }
}

/// The jobs, each one run or the runs of a session in their order. The same seed gives the same jobs.
pub struct Load {
    rng: StdRng,
    next: u64,
}

impl Load {
    /// The jobs of this seed.
    pub fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), next: 0 }
    }

    fn ask(&mut self, shape: Shape) -> Ask {
        let rng = &mut self.rng;
        let ms = if rng.random_range(0..8) == 0 { rng.random_range(50..300) } else { rng.random_range(0..6) };
        let n = match shape {
            Shape::Turns => rng.random_range(0..25),
            // Larger fan-outs are written a slice at a time.
            Shape::Fan if rng.random_range(0..10) == 0 => 300,
            Shape::Fan => rng.random_range(0..40),
            Shape::Nest => rng.random_range(0..6),
            Shape::Tries | Shape::Counts => rng.random_range(0..4),
            Shape::Records | Shape::Asks | Shape::Mends => rng.random_range(1..4),
            Shape::Podium | Shape::Notes | Shape::Gathers => rng.random_range(1..9),
            Shape::Parent => rng.random_range(1..3),
            Shape::Says => 1,
        };
        // Many branches that take long would hold all slots.
        let ms = if n > 20 { ms.min(5) } else { ms };
        let delay_ms = if rng.random_range(0..5) == 0 { rng.random_range(1..800) } else { 0 };
        let is_raw = rng.random_range(0..2) == 0;
        let mut ask = Ask::new(format!("{}-{}", shape.workflow(), self.next), shape, Work { n, ms });
        if shape == Shape::Asks {
            let word = |n| (rng.random_range(0..400), format!("word {n}"));
            ask.words = (0..n).map(word).collect();
        }
        self.next += 1;
        Ask { delay_ms, is_raw, ..ask }
    }

    /// Cancelled while it executes, waits or sleeps.
    fn cancelled(&mut self) -> Ask {
        let kinds = [(Shape::Turns, 5_000, 10), (Shape::Asks, 2, 0), (Shape::Records, 2, 3_000), (Shape::Fan, 300, 20)];
        let (shape, n, ms) = kinds[self.rng.random_range(0..kinds.len())];
        let after = self.rng.random_range(0..600);
        Ask { work: Work { n, ms }, words: Vec::new(), steering: Steering::Cancel(after), ..self.ask(shape) }
    }

    fn paused(&mut self) -> Ask {
        let steering = Steering::Pause(self.rng.random_range(0..150), self.rng.random_range(50..600));
        let n = self.rng.random_range(10..40);
        Ask { work: Work { n, ms: 5 }, steering, ..self.ask(Shape::Turns) }
    }

    fn session(&mut self) -> Vec<Ask> {
        let name = format!("session-{}", self.next);
        let runs = self.rng.random_range(2..5);
        (0..runs).map(|_| Ask { session: Some(name.clone()), delay_ms: 0, ..self.ask(Shape::Says) }).collect()
    }
}

impl Iterator for Load {
    type Item = Vec<Ask>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.rng.random_range(0..19) {
            0 => vec![self.cancelled()],
            1 => vec![self.paused()],
            2 => self.session(),
            3 => vec![self.ask(Shape::Parent)],
            4 | 5 => vec![self.ask(Shape::Fan)],
            6 => vec![self.ask(Shape::Nest)],
            7 => vec![self.ask(Shape::Tries)],
            8 => vec![self.ask(Shape::Records)],
            9 => vec![self.ask(Shape::Asks)],
            10 => vec![self.ask(Shape::Podium)],
            11 => vec![self.ask(Shape::Mends)],
            12 => vec![self.ask(Shape::Counts)],
            13 | 14 => vec![self.ask(Shape::Notes)],
            15 => vec![self.ask(Shape::Gathers)],
            _ => vec![self.ask(Shape::Turns)],
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_gives_the_same_jobs_again_and_they_are_of_all_kinds() {
        let jobs = |seed| Load::new(seed).take(300).flatten().collect::<Vec<_>>();
        assert_eq!(jobs(7), jobs(7));
        assert_ne!(jobs(7), jobs(8));
        let shapes: BTreeSet<_> = jobs(7).iter().map(|ask| ask.shape).collect();
        assert_eq!(shapes.len(), 13);
        let ids: BTreeSet<_> = jobs(7).into_iter().map(|ask| ask.id).collect();
        assert_eq!(ids.len(), jobs(7).len());
        for steered in [|s| matches!(s, Steering::Cancel(_)), |s| matches!(s, Steering::Pause(..))] {
            assert!(jobs(7).iter().any(|ask| steered(ask.steering)));
        }
    }
}
