//! The workflows of the load. All their effects are in the log of effects, and their results list the effects that they saw.

use std::path::Path;
use std::time::Duration;

use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;

use super::effects::{Effects, Mark};

/// Serves all of them.
pub fn serve(worker: Worker, log: &Path) -> Result<Worker, WorkerError> {
    let effects = Effects::open(log).unwrap_or_else(|e| panic!("{}: {e}", log.display()));
    worker
        .serve(Turns(effects.clone()))?
        .serve(Fan(effects.clone()))?
        .serve(Nest(effects.clone()))?
        .serve(Tries(effects.clone()))?
        .serve(Podium(effects.clone()))?
        .serve(Mends(effects.clone()))?
        .serve(Notes(effects.clone()))?
        .serve(Gathers(effects.clone()))?
        .serve(records::with(effects.clone()))?
        .serve(asks::with(effects.clone()))?
        .serve(says::with(effects.clone()))?
        .serve(counts::with(effects.clone()))?
        .serve(parent::with(effects))
}

/// What every workflow begins with.
#[derive(Event, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The number of turns, branches or calls.
    pub n: u64,
    /// How long each of them takes, in ms.
    pub ms: u64,
}

/// What every workflow ends with.
#[derive(Event, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The effects that the run has seen.
    pub marks: Vec<Mark>,
    /// The result of its work.
    pub values: Vec<String>,
}

async fn takes(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

/// One step in a loop.
pub struct Turns(Effects);

/// Once more, or enough.
#[derive(Emit)]
pub enum Turned {
    /// Once more.
    Again(Work),
    /// Enough.
    Enough(Ended),
}

#[workflow(start = Work, stop = Ended)]
impl Turns {
    #[step]
    async fn turn(&self, ctx: &Context, ev: Work) -> Outcome<Turned> {
        let mark = self.0.did(ctx, "turn")?;
        let mut marks: Vec<Mark> = ctx.state().get("marks").await?.unwrap_or_default();
        marks.push(mark);
        ctx.state().set("marks", &marks).await?;
        takes(ev.ms).await;
        Ok(if ev.n == 0 {
            Turned::Enough(Ended { values: vec![marks.len().to_string()], marks })
        } else {
            Turned::Again(Work { n: ev.n - 1, ..ev })
        })
    }
}

/// A fan-out and its join.
pub struct Fan(Effects);

/// One branch.
#[derive(Event, Serialize, Deserialize)]
pub struct Branch(u64, u64);
/// The result of a branch.
#[derive(Event, Serialize, Deserialize)]
pub struct Branched(u64, Mark);

#[workflow(start = Work, stop = Ended)]
impl Fan {
    #[step]
    async fn open(&self, ctx: &Context, ev: Work) -> Outcome<Vec<Branch>> {
        let mark = self.0.did(ctx, "open")?;
        ctx.state().set("open", &mark).await?;
        Ok((1..=ev.n).map(|n| Branch(n, ev.ms)).collect())
    }

    #[step]
    async fn branch(&self, ctx: &Context, ev: Branch) -> Outcome<Branched> {
        let mark = self.0.did(ctx, "branch")?;
        takes(ev.1).await;
        Ok(Branched(ev.0, mark))
    }

    #[step]
    async fn close(&self, ctx: &Context, all: Joined<Branched>) -> Outcome<Ended> {
        let mut marks = vec![self.0.did(ctx, "close")?];
        marks.extend(ctx.state().get::<Mark>("open").await?);
        marks.extend(all.iter().map(|branch| branch.1.clone()));
        Ok(Ended { marks, values: all.iter().map(|branch| branch.0.to_string()).collect() })
    }
}

/// Fan-outs within a fan-out. The first row is empty.
pub struct Nest(Effects);

/// One row: its number, and how long a cell takes.
#[derive(Event, Serialize, Deserialize)]
pub struct Row(u64, u64);
/// One cell.
#[derive(Event, Serialize, Deserialize)]
pub struct Cell(u64, u64, u64);
/// The result of a cell.
#[derive(Event, Serialize, Deserialize)]
pub struct Filled(String, Mark);
/// The result of a row.
#[derive(Event, Serialize, Deserialize)]
pub struct Rowed(Ended);

#[workflow(start = Work, stop = Ended)]
impl Nest {
    #[step]
    async fn rows(&self, ctx: &Context, ev: Work) -> Outcome<Vec<Row>> {
        self.0.did(ctx, "rows")?;
        Ok((0..ev.n).map(|row| Row(row, ev.ms)).collect())
    }

    #[step]
    async fn cells(&self, ctx: &Context, ev: Row) -> Outcome<Vec<Cell>> {
        self.0.did(ctx, "cells")?;
        Ok((0..ev.0).map(|cell| Cell(ev.0, cell, ev.1)).collect())
    }

    #[step(concurrency = 4)]
    async fn cell(&self, ctx: &Context, ev: Cell) -> Outcome<Filled> {
        let mark = self.0.did(ctx, "cell")?;
        takes(ev.2).await;
        Ok(Filled(format!("{}.{}", ev.0, ev.1), mark))
    }

    #[step]
    async fn row(&self, ctx: &Context, all: Joined<Filled>) -> Outcome<Rowed> {
        let mut marks = vec![self.0.did(ctx, "row")?];
        marks.extend(all.iter().map(|cell| cell.1.clone()));
        Ok(Rowed(Ended { marks, values: all.iter().map(|cell| cell.0.clone()).collect() }))
    }

    #[step]
    async fn table(&self, ctx: &Context, all: Joined<Rowed>) -> Outcome<Ended> {
        let mut marks = vec![self.0.did(ctx, "table")?];
        marks.extend(all.iter().flat_map(|row| row.0.marks.clone()));
        Ok(Ended { marks, values: all.iter().flat_map(|row| row.0.values.clone()).collect() })
    }
}

/// Fails `n` times after it has written to the state, and then succeeds.
pub struct Tries(Effects);

/// Between its steps.
#[derive(Event, Serialize, Deserialize)]
pub struct Tried;

#[workflow(start = Work, stop = Ended)]
impl Tries {
    #[step(retries = 5, backoff = "20ms", max_backoff = "80ms")]
    async fn try_it(&self, ctx: &Context, ev: Work) -> Outcome<Tried> {
        let mark = self.0.did(ctx, "try_it")?;
        ctx.state().push("marks", &mark).await?;
        takes(ev.ms).await;
        if u64::from(ctx.failures()) < ev.n { Err(Error::msg("not yet")) } else { Ok(Tried) }
    }

    #[step]
    async fn told(&self, ctx: &Context, _: Tried) -> Outcome<Ended> {
        let mark = self.0.did(ctx, "told")?;
        let mut marks: Vec<Mark> = ctx.state().get("marks").await?.unwrap_or_default();
        let values = vec![marks.len().to_string()];
        marks.push(mark);
        Ok(Ended { marks, values })
    }
}

/// A fan-out of which two branches are enough.
pub struct Podium(Effects);

/// A branch: its number, and how long it takes.
#[derive(Event, Serialize, Deserialize)]
pub struct Runner(u64, u64);
/// Its result.
#[derive(Event, Serialize, Deserialize)]
pub struct Arrived(u64, Mark);

#[workflow(start = Work, stop = Ended)]
impl Podium {
    #[step]
    async fn set_off(&self, ctx: &Context, ev: Work) -> Outcome<Vec<Runner>> {
        self.0.did(ctx, "set_off")?;
        Ok((1..=ev.n).map(|n| Runner(n, n * ev.ms)).collect())
    }

    #[step]
    async fn run(&self, ctx: &Context, ev: Runner) -> Outcome<Arrived> {
        let mark = self.0.did(ctx, "run")?;
        takes(ev.1).await;
        Ok(Arrived(ev.0, mark))
    }

    #[step]
    async fn podium(&self, ctx: &Context, first: Joined<Arrived, First<2>>) -> Outcome<Ended> {
        let mut marks = vec![self.0.did(ctx, "podium")?];
        marks.extend(first.iter().map(|arrived| arrived.1.clone()));
        Ok(Ended { marks, values: first.iter().map(|arrived| arrived.0.to_string()).collect() })
    }
}

/// Fails for good unless `n` is 0, after it has written to the state.
pub struct Mends(Effects);

#[workflow(start = Work, stop = Ended)]
impl Mends {
    #[step]
    async fn mend(&self, ctx: &Context, ev: Work) -> Outcome<Ended> {
        let mark = self.0.did(ctx, "mend")?;
        ctx.state().push("marks", &mark).await?;
        takes(ev.ms).await;
        if ev.n > 0 {
            return Err(Error::terminal("it is still broken"));
        }
        let marks: Vec<Mark> = ctx.state().get("marks").await?.unwrap_or_default();
        Ok(Ended { values: vec![marks.len().to_string()], marks })
    }
}

/// One long step that saves its progress after each piece.
pub struct Notes(Effects);

/// All is noted.
#[derive(Event, Serialize, Deserialize)]
pub struct Noted;

#[workflow(start = Work, stop = Ended)]
impl Notes {
    #[step]
    async fn note(&self, ctx: &Context, ev: Work) -> Outcome<Noted> {
        self.0.did(ctx, "begin")?;
        let noted: Vec<Mark> = ctx.state().get("notes").await?.unwrap_or_default();
        for n in noted.len() as u64..ev.n {
            let mark = self.0.did(ctx, &format!("note-{n}"))?;
            takes(ev.ms).await;
            ctx.state().push("notes", &mark).await?;
            ctx.checkpoint().await?;
        }
        Ok(Noted)
    }

    #[step]
    async fn read_out(&self, ctx: &Context, _: Noted) -> Outcome<Ended> {
        let last = self.0.did(ctx, "read_out")?;
        let mut marks: Vec<Mark> = ctx.state().get("notes").await?.unwrap_or_default();
        let values = marks.iter().map(|mark| mark.what.clone()).collect();
        marks.push(last);
        Ok(Ended { marks, values })
    }
}

/// A fan-out whose branches put what they have into one buffer. The one that fills it gets all.
pub struct Gathers(Effects);

/// What a branch puts in.
#[derive(Event, Clone, Serialize, Deserialize)]
pub struct Piece(u64, u64);
/// What a branch has got out.
#[derive(Event, Serialize, Deserialize)]
pub struct Gathered(Option<Vec<u64>>, Mark);

#[workflow(start = Work, stop = Ended)]
impl Gathers {
    #[step]
    async fn deal(&self, ctx: &Context, ev: Work) -> Outcome<Vec<Piece>> {
        self.0.did(ctx, "deal")?;
        // The last argument of each says how many there are.
        Ok((1..=ev.n).map(|n| Piece(n, ev.n)).collect())
    }

    #[step]
    async fn gather(&self, ctx: &Context, ev: Piece) -> Outcome<Gathered> {
        let mark = self.0.did(ctx, "gather")?;
        let all = ctx.collect("pieces", u32::try_from(ev.1)?, &ev).await?;
        takes(3).await;
        Ok(Gathered(all.map(|all| all.iter().map(|piece| piece.0).collect()), mark))
    }

    #[step]
    async fn gathered(&self, ctx: &Context, all: Joined<Gathered>) -> Outcome<Ended> {
        let mut marks = vec![self.0.did(ctx, "gathered")?];
        marks.extend(all.iter().map(|one| one.1.clone()));
        let values = all.iter().filter_map(|one| one.0.as_ref()).flatten().map(u64::to_string).collect();
        Ok(Ended { marks, values })
    }
}

/// A recorded call with an effect.
async fn recorded<S>(ctx: &Context<S>, effects: &Effects, what: &str, ms: u64) -> Outcome<Mark> {
    let call = ctx.step(what, || async {
        let mark = effects.did(ctx, what);
        takes(ms).await;
        mark
    });
    let mark = call.retries(3).await?;
    effects.knows(ctx, &mark)?;
    Ok(mark)
}

/// Recorded calls, one after another and three at once, a sleep, and a wait that nobody ends.
#[durable]
pub async fn records(ctx: &Context, effects: &Effects, work: Work) -> Outcome<Ended> {
    let mut marks = Vec::new();
    for n in 0..work.n {
        marks.push(recorded(ctx, effects, &format!("call-{n}"), work.ms).await?);
    }
    let (a, b, c) = ctx
        .join((
            recorded(ctx, effects, "part-a", 0),
            recorded(ctx, effects, "part-b", work.ms),
            recorded(ctx, effects, "part-c", 2 * work.ms),
        ))
        .await?;
    marks.extend([a, b, c]);
    ctx.sleep(Duration::from_millis(5 * work.ms + 1)).await?;
    let never: Outcome<String> = ctx.wait_for("never").timeout(Duration::from_millis(work.ms + 1)).await;
    marks.push(recorded(ctx, effects, "last", 0).await?);
    let end = match never {
        Err(error) if error.is_overdue() => "overdue".to_owned(),
        never => never?,
    };
    Ok(Ended { marks, values: vec![end] })
}

/// Waits for `n` signals, and has an effect after each.
#[durable]
pub async fn asks(ctx: &Context, effects: &Effects, work: Work) -> Outcome<Ended> {
    let mut ended = Ended::default();
    for n in 0..work.n {
        ended.values.push(ctx.wait_for::<String>("word").await?);
        ended.marks.push(recorded(ctx, effects, &format!("heard-{n}"), work.ms).await?);
    }
    Ok(ended)
}

/// What the runs of a session share.
#[derive(Default, Serialize, Deserialize)]
pub struct Talk {
    /// The runs that have said something, in order.
    pub said: Vec<String>,
}

/// Says something in a session, and returns what was said in it so far.
#[durable]
pub async fn says(ctx: &Context<Talk>, effects: &Effects, work: Work) -> Outcome<Ended> {
    let marks = vec![recorded(ctx, effects, "says", work.ms).await?];
    ctx.sleep(Duration::from_millis(2)).await?;
    ctx.state().push("said", ctx.run_id()).await?;
    Ok(Ended { marks, values: ctx.state().load().await?.said })
}

/// A counter that many runs increase.
#[derive(Default, Serialize, Deserialize)]
pub struct Counter {
    count: u64,
}

impl Entity for Counter {
    const NAME: &'static str = "Counter";
}

/// Increases one of four entities: once, and three times at once. Returns the numbers that it got.
#[durable]
pub async fn counts(ctx: &Context, effects: &Effects, work: Work) -> Outcome<Ended> {
    let key = format!("counter-{}", work.n % 4);
    let counter = ctx.entity::<Counter>(&key);
    let next = |counter: &mut Counter| {
        counter.count += 1;
        counter.count
    };
    let first = counter.call("count", next).await?;
    let marks = vec![recorded(ctx, effects, "counts", work.ms).await?];
    let branches = (counter.call("count", next), counter.call("count", next), counter.call("count", next));
    let (a, b, c) = ctx.join(branches).await?;
    Ok(Ended { marks, values: [first, a, b, c].map(|n| format!("{key} {n}")).to_vec() })
}

/// Has children that make records, and returns their results.
#[durable]
pub async fn parent(ctx: &Context, effects: &Effects, work: Work) -> Outcome<Ended> {
    let mark = recorded(ctx, effects, "parent", 0).await?;
    let child = |n: u64| {
        let work = Work { n: 1, ms: work.ms };
        async move { Ok((n, ctx.run_workflow::<Ended, _>("records", &work).await?)) }
    };
    let children = ctx.map(1..=work.n, usize::MAX, child).await?;
    let values = children.iter().map(|(n, ended)| format!("{n} {}", ended.values.concat())).collect();
    Ok(Ended { marks: vec![mark], values })
}
