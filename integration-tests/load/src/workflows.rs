//! The workflows that are measured.

use std::time::Duration;

use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;

use crate::meter;

/// How long [`Late`] waits between its attempts.
pub(crate) const LATE: Duration = Duration::from_secs(1);

/// Serves the workflows of these names.
pub(crate) fn serve(worker: Worker, names: &[String]) -> Result<Worker, WorkerError> {
    names.iter().try_fold(worker, |worker, name| match name.as_str() {
        "chain" => worker.serve(Chain),
        "relay" => worker.serve(Relay),
        "keeper" => worker.serve(Keeper),
        "recorder" => worker.serve(Recorder),
        "talker" => worker.serve(Talker),
        "fan" => worker.serve(Fan),
        "hold" => worker.serve(Hold),
        "late" => worker.serve(Late),
        "edits" => worker.serve(Edits),
        "unused" => unused::serve(worker),
        other => Err(WorkerError::Setting(format!("there is no workflow {other:?} to measure"))),
    })
}

/// How many more turns, with a payload.
#[derive(Event, Serialize, Deserialize)]
pub(crate) struct Turn {
    left: u64,
    #[serde(default)]
    pad: String,
}

/// The end of most runs.
#[derive(Event, Serialize, Deserialize)]
pub(crate) struct Finished {
    total: u64,
}

#[derive(Emit)]
enum Next {
    Again(Turn),
    Enough(Finished),
}

impl Turn {
    fn next(self) -> Next {
        match self.left {
            0 => Next::Enough(Finished { total: 0 }),
            left => Next::Again(Self { left: left - 1, pad: self.pad }),
        }
    }
}

/// Event steps, one after another. With no turn left it is a job of one step.
struct Chain;

#[workflow(start = Turn, stop = Finished)]
impl Chain {
    #[step]
    async fn turn(&self, ev: Turn) -> Outcome<Next> {
        meter::body();
        Ok(ev.next())
    }
}

/// The same for a single run, which measures the time between its bodies.
struct Relay;

#[workflow(start = Turn, stop = Finished)]
impl Relay {
    #[step]
    async fn turn(&self, ev: Turn) -> Outcome<Next> {
        meter::relay_begins();
        meter::body();
        let next = ev.next();
        meter::relay_ends();
        Ok(next)
    }
}

/// The same with a context in which a small field changes.
struct Keeper;

#[workflow(start = Turn, stop = Finished)]
impl Keeper {
    #[step]
    async fn turn(&self, ctx: &Context, ev: Turn) -> Outcome<Next> {
        meter::body();
        let turns: u64 = ctx.state().get("turns").await?.unwrap_or(0);
        ctx.state().set("turns", &(turns + 1)).await?;
        Ok(ev.next())
    }
}

/// One body that records as many steps as it is told to.
struct Recorder;

#[workflow(start = Turn, stop = Finished)]
impl Recorder {
    #[step]
    async fn record(&self, ctx: &Context, ev: Turn) -> Outcome<Finished> {
        for _ in 0..ev.left {
            let pad = ev.pad.clone();
            let work = || {
                meter::body();
                std::future::ready(Ok(pad.clone()))
            };
            let _: String = ctx.step("work", work).await?;
        }
        Ok(Finished { total: ev.left })
    }
}

/// The same, with a stream beside it that gets a token after each step.
struct Talker;

#[workflow(start = Turn, stop = Finished)]
impl Talker {
    #[step]
    async fn record(&self, ctx: &Context, ev: Turn) -> Outcome<Finished> {
        let mut out = ctx.stream("answer");
        for _ in 0..ev.left {
            let pad = ev.pad.clone();
            let work = || {
                meter::body();
                std::future::ready(Ok(pad.clone()))
            };
            let _: String = ctx.step("work", work).await?;
            out.push("token ").await?;
        }
        Ok(Finished { total: ev.left })
    }
}

/// Fans out and joins.
struct Fan;

#[derive(Event, Serialize, Deserialize)]
struct Wide {
    branches: u64,
}
#[derive(Event, Serialize, Deserialize)]
struct Branch {
    n: u64,
}
#[derive(Event, Serialize, Deserialize)]
struct Ended {
    n: u64,
}

fn branches(wide: &Wide) -> Vec<Branch> {
    (0..wide.branches).map(|n| Branch { n }).collect()
}

#[workflow(start = Wide, stop = Finished)]
impl Fan {
    #[step]
    async fn split(&self, ev: Wide) -> Outcome<Vec<Branch>> {
        meter::body();
        Ok(branches(&ev))
    }

    #[step]
    async fn branch(&self, ev: Branch) -> Outcome<Ended> {
        meter::body();
        Ok(Ended { n: ev.n })
    }

    #[step]
    async fn join(&self, all: Joined<Ended>) -> Outcome<Finished> {
        meter::body();
        Ok(Finished { total: all.len() as u64 })
    }
}

/// Branches that all edit the same field.
struct Edits;

#[workflow(start = Wide, stop = Finished)]
impl Edits {
    #[step]
    async fn split(&self, ev: Wide) -> Outcome<Vec<Branch>> {
        Ok(branches(&ev))
    }

    #[step]
    async fn edit(&self, ctx: &Context, ev: Branch) -> Outcome<Ended> {
        meter::body();
        ctx.state().edit_field("total", |total: &mut u64| *total += 1).await?;
        Ok(Ended { n: ev.n })
    }

    #[step]
    async fn join(&self, ctx: &Context, _: Joined<Ended>) -> Outcome<Finished> {
        Ok(Finished { total: ctx.state().get("total").await?.unwrap_or(0) })
    }
}

/// Holds its worker until the worker is told to release it.
struct Hold;

#[workflow(start = Turn, stop = Finished)]
impl Hold {
    #[step]
    async fn hold(&self, ctx: &Context, _: Turn) -> Outcome<Finished> {
        meter::hold(ctx.run_id()).await;
        Ok(Finished { total: 1 })
    }
}

/// Fails, and is tried again after a second.
struct Late;

#[workflow(start = Turn, stop = Finished)]
impl Late {
    #[step(retry = RetryPolicy::fixed(LATE).jitter(0.0))]
    async fn attempt(&self, ctx: &Context, _: Turn) -> Outcome<Finished> {
        if ctx.failures() == 0 {
            meter::fails(ctx.run_id());
            return Err(Error::msg("once more, later"));
        }
        meter::tried_again(ctx.run_id(), LATE);
        meter::body();
        Ok(Finished { total: 1 })
    }
}

/// 49 workflows that nobody starts.
mod unused {
    use stepfleet::{step, workflow};

    use super::{Finished, Next, Outcome, Turn, Worker, WorkerError};

    macro_rules! workflows {
        ($($name:ident)*) => {
            $(struct $name;

            #[workflow(start = Turn, stop = Finished)]
            impl $name {
                #[step]
                async fn turn(&self, ev: Turn) -> Outcome<Next> {
                    Ok(ev.next())
                }
            })*

            pub(super) fn serve(worker: Worker) -> Result<Worker, WorkerError> {
                let worker = worker$(.serve($name)?)*;
                Ok(worker)
            }
        };
    }

    workflows! {
        A1 A2 A3 A4 A5 A6 A7 B1 B2 B3 B4 B5 B6 B7 C1 C2 C3 C4 C5 C6 C7 D1 D2 D3 D4 D5 D6 D7
        E1 E2 E3 E4 E5 E6 E7 F1 F2 F3 F4 F5 F6 F7 G1 G2 G3 G4 G5 G6 G7
    }
}
