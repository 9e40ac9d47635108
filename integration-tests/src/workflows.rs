//! The workflows under test.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;

use crate::documents::Documents;
use crate::durable::{confide, count, family, member, steady, talk, telling};
use crate::letters::Letters;
use crate::redis::connect;
use crate::signals;
use crate::unruly::{Endless, Unruly};

/// Serves all of them.
pub fn serve(worker: Worker, url: &str) -> Result<Worker, WorkerError> {
    let redis = Levers { url: url.to_owned() };
    worker
        .serve(Chain { greeting: "hello".into() })?
        .serve(Squares)?
        .serve(Nested)?
        .serve(Loop)?
        .serve(Flaky)?
        .serve(Patient)?
        .serve(Broken)?
        .serve(Blocking)?
        .serve(Brief)?
        .serve(Asking)?
        .serve(Unruly)?
        .serve(Endless)?
        .serve(Gated { redis: redis.clone() })?
        .serve(GatedChain { redis: redis.clone() })?
        .serve(GatedBranches { redis: redis.clone() })?
        .serve(GatedWait { redis: redis.clone() })?
        .serve(GatedRecord { redis: redis.clone() })?
        .serve(family::workflow())?
        .serve(member::workflow())?
        .serve(steady::with(redis.clone()))?
        .serve(talk::workflow())?
        .serve(confide::workflow())?
        .serve(count::workflow())?
        .serve(telling::with(redis.clone()))?
        .serve(Letters)?
        .serve(Documents { redis })
}

/// The connection to the test, as a resource.
#[derive(Clone)]
pub struct Levers {
    url: String,
}

impl Levers {
    pub(crate) async fn connection(&self) -> Outcome<MultiplexedConnection> {
        Ok(connect(&redis::Client::open(self.url.as_str())?).await?)
    }
}

/// What most of the workflows begin with.
#[derive(Event, Serialize, Deserialize)]
pub struct Begin {
    /// A number to work on.
    #[serde(default)]
    pub n: u64,
}

/// What most of the workflows end with.
#[derive(Event, Serialize, Deserialize, Debug)]
pub struct End {
    /// The answer.
    pub answer: String,
}

/// Three steps in a row, with typed state and a resource.
pub struct Chain {
    /// A resource.
    pub greeting: String,
}

/// Between the steps of a chain.
#[derive(Event, Serialize, Deserialize)]
pub struct Greeted(u64);
/// Between the steps of a chain.
#[derive(Event, Serialize, Deserialize)]
pub struct Counted;

/// The state of a chain.
#[derive(Serialize, Deserialize, Default)]
pub struct Notes {
    words: Vec<String>,
    total: u64,
}

#[workflow(start = Begin, stop = End)]
impl Chain {
    #[step]
    async fn greet(&self, ctx: &Context<Notes>, ev: Begin) -> Outcome<Greeted> {
        let greeting = self.greeting.clone();
        ctx.state().edit(move |notes| notes.words.push(greeting.clone())).await?;
        Ok(Greeted(ev.n))
    }

    #[step]
    async fn count(&self, ctx: &Context<Notes>, ev: Greeted) -> Outcome<Counted> {
        ctx.state().edit(move |notes| notes.total += ev.0).await?;
        ctx.state().set("untyped", &ctx.run_id()).await?;
        Ok(Counted)
    }

    #[step]
    async fn answer(&self, ctx: &Context<Notes>, _: Counted) -> Outcome<End> {
        let notes = ctx.state().load().await?;
        let run: Option<String> = ctx.state().get("untyped").await?;
        Ok(End { answer: format!("{} {} {}", notes.words.join(","), notes.total, run.unwrap_or_default()) })
    }
}

/// A fan-out and its join; branches of odd numbers return nothing if `odd` is left out.
pub struct Squares;

/// Starts [`Squares`].
#[derive(Event, Serialize, Deserialize)]
pub struct Numbers {
    /// How many branches.
    pub count: u64,
    /// Leave odd numbers out.
    #[serde(default)]
    pub even_only: bool,
}
/// One branch.
#[derive(Event, Serialize, Deserialize)]
pub struct Number {
    n: u64,
    even_only: bool,
}
/// The result of a branch.
#[derive(Event, Serialize, Deserialize)]
pub struct Square(u64);
/// The end of [`Squares`].
#[derive(Event, Serialize, Deserialize, Debug)]
pub struct Sum {
    /// How many branches were joined.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
}

#[workflow(start = Numbers, stop = Sum)]
impl Squares {
    #[step]
    async fn split(&self, ev: Numbers) -> Outcome<Vec<Number>> {
        Ok((1..=ev.count).map(|n| Number { n, even_only: ev.even_only }).collect())
    }

    #[step]
    async fn square(&self, ev: Number) -> Outcome<Option<Square>> {
        Ok((!ev.even_only || ev.n.is_multiple_of(2)).then_some(Square(ev.n * ev.n)))
    }

    #[step]
    async fn sum(&self, squares: Joined<Square>) -> Outcome<Sum> {
        Ok(Sum { count: squares.len() as u64, sum: squares.iter().map(|s| s.0).sum() })
    }
}

/// Fan-outs within a fan-out.
pub struct Nested;

/// One row.
#[derive(Event, Serialize, Deserialize)]
pub struct Row(u64);
/// One cell.
#[derive(Event, Serialize, Deserialize)]
pub struct Cell(u64);
/// The result of a cell.
#[derive(Event, Serialize, Deserialize)]
pub struct CellValue(u64);
/// The result of a row.
#[derive(Event, Serialize, Deserialize)]
pub struct RowSum(u64);

#[workflow(start = Begin, stop = End)]
impl Nested {
    #[step]
    async fn rows(&self, ev: Begin) -> Outcome<Vec<Row>> {
        Ok((0..ev.n).map(Row).collect())
    }

    #[step]
    async fn cells(&self, ev: Row) -> Outcome<Vec<Cell>> {
        // The first row has no cells: an empty fan-out joins too.
        Ok((0..ev.0).map(Cell).collect())
    }

    #[step]
    async fn cell(&self, ev: Cell) -> Outcome<CellValue> {
        Ok(CellValue(ev.0 + 1))
    }

    #[step]
    async fn row(&self, values: Joined<CellValue>) -> Outcome<RowSum> {
        Ok(RowSum(values.iter().map(|v| v.0).sum()))
    }

    #[step]
    async fn table(&self, rows: Joined<RowSum>) -> Outcome<End> {
        let mut sums: Vec<_> = rows.iter().map(|r| r.0).collect();
        sums.sort_unstable();
        Ok(End { answer: format!("{sums:?}") })
    }
}

/// Loops until its number is 0.
pub struct Loop;

/// Go on or end.
#[derive(Emit)]
pub enum Verdict {
    /// Once more.
    Again(Begin),
    /// Enough.
    Enough(End),
}

#[workflow(start = Begin, stop = End, version = 3)]
impl Loop {
    #[step]
    async fn turn(&self, ctx: &Context, ev: Begin) -> Outcome<Verdict> {
        let turns: u64 = ctx.state().get("turns").await?.unwrap_or(0);
        ctx.state().set("turns", &(turns + 1)).await?;
        Ok(if ev.n == 0 {
            Verdict::Enough(End { answer: (turns + 1).to_string() })
        } else {
            Verdict::Again(Begin { n: ev.n - 1 })
        })
    }
}

/// Fails as often as it is told to, then succeeds. What a failed attempt wrote must not be seen.
pub struct Flaky;

#[workflow(start = Begin, stop = End)]
impl Flaky {
    #[step(retries = 4, backoff = "20ms", max_backoff = "50ms")]
    async fn attempt(&self, ctx: &Context, ev: Begin) -> Outcome<End> {
        let seen: u64 = ctx.state().get("seen").await?.unwrap_or(0);
        ctx.state().set("seen", &(seen + 1)).await?;
        tracing::info_span!("own", asked = ev.n).in_scope(|| tracing::info!(seen, "the author's own line"));
        if u64::from(ctx.failures()) < ev.n {
            return Err(Error::msg(format!("failure {}", ctx.failures() + 1)));
        }
        Ok(End { answer: format!("attempt {} saw {seen}", ctx.attempt()) })
    }
}

/// Fails once, and is tried again after 4 seconds.
pub struct Patient;

#[workflow(start = Begin, stop = End)]
impl Patient {
    #[step(retry = RetryPolicy::fixed(Duration::from_secs(4)).jitter(0.0))]
    async fn attempt(&self, ctx: &Context, _: Begin) -> Outcome<End> {
        let last = ctx.last_error().ok_or_else(|| Error::msg("not yet"))?;
        let later = ctx.elapsed() >= Duration::from_secs(4);
        Ok(End { answer: format!("attempt {} after {last:?}, 4s later: {later}", ctx.attempt()) })
    }
}

/// Fails in the way that its number says.
pub struct Broken;

#[workflow(start = Begin, stop = End)]
impl Broken {
    #[step(retries = 1, backoff = "10ms", timeout = "500ms")]
    async fn fail(&self, ev: Begin) -> Outcome<Option<End>> {
        match ev.n {
            0 => Err(Terminal("no such customer"))?,
            1 => panic!("a bug in the step"),
            2 => std::future::pending().await,
            3 => Err(Error::msg("x".repeat(10_000_000))),
            4 => Ok(Some(End { answer: "x".repeat(2_000_000) })),
            5 => Ok(None),
            _ => Err(std::io::Error::other("the disk is gone"))?,
        }
    }
}

/// Forgotten soon after its end.
pub struct Brief;

#[workflow(start = Begin, stop = End, retention = "1s")]
impl Brief {
    #[step]
    async fn note(&self, ctx: &Context, ev: Begin) -> Outcome<Greeted> {
        ctx.state().set("n", &ev.n).await?;
        Ok(Greeted(ev.n))
    }

    #[step]
    async fn answer(&self, ev: Greeted) -> Outcome<End> {
        Ok(End { answer: ev.0.to_string() })
    }
}

/// Waits for a signal, and returns its context and the signal's value.
pub struct Asking;

#[workflow(start = Begin, stop = End)]
impl Asking {
    #[step]
    async fn ask(&self, ctx: &Context, ev: Begin) -> Outcome<End> {
        let before: Option<u64> = ctx.state().get("n").await?;
        ctx.state().set("n", &(before.unwrap_or(0) + ev.n)).await?;
        let first: String = ctx.wait_for("word").await?;
        let second: String = ctx.wait_for("word").await?;
        Ok(End { answer: format!("{first} {second} {}", before.unwrap_or(0) + ev.n) })
    }
}

/// A step that blocks its thread for this many seconds, which it should not do.
pub struct Blocking;

#[workflow(start = Begin, stop = End)]
impl Blocking {
    #[step]
    async fn block(&self, ctx: &Context, ev: Begin) -> Outcome<End> {
        std::thread::sleep(Duration::from_secs(ev.n));
        Ok(End { answer: format!("attempt {}", ctx.attempt()) })
    }
}

/// One step that waits for the test.
pub struct Gated {
    redis: Levers,
}

#[workflow(start = Begin, stop = End)]
impl Gated {
    #[step]
    async fn hold(&self, ctx: &Context, _: Begin) -> Outcome<End> {
        let attempt = ctx.attempt();
        let written: Option<u32> = ctx.state().get("attempt").await?;
        ctx.state().set("attempt", &attempt).await?;
        let mut redis = self.redis.connection().await?;
        signals::arrive_and_wait(&mut redis, ctx.run_id()).await?;
        Ok(End { answer: format!("attempt {attempt} after {written:?}") })
    }
}

/// Two steps: the second waits for the test.
pub struct GatedChain {
    redis: Levers,
}

#[workflow(start = Begin, stop = End)]
impl GatedChain {
    #[step]
    async fn first(&self, ctx: &Context<Notes>, ev: Begin) -> Outcome<Greeted> {
        ctx.state().edit(|notes| notes.total += 1).await?;
        Ok(Greeted(ev.n))
    }

    #[step]
    async fn second(&self, ctx: &Context<Notes>, ev: Greeted) -> Outcome<End> {
        let mut redis = self.redis.connection().await?;
        signals::arrive_and_wait(&mut redis, ctx.run_id()).await?;
        let notes = ctx.state().load().await?;
        Ok(End { answer: format!("first ran {} times before, n was {}", notes.total, ev.0) })
    }
}

/// Many branches; each also counts itself outside of Stepfleet, and every tenth waits for the test.
pub struct GatedBranches {
    redis: Levers,
}

/// Starts [`GatedBranches`].
#[derive(Event, Serialize, Deserialize)]
pub struct Branches {
    /// How many.
    pub count: u64,
}
/// One of them.
#[derive(Event, Serialize, Deserialize)]
pub struct Branch(u64);
/// The result of a branch.
#[derive(Event, Serialize, Deserialize)]
pub struct BranchDone(u64);

#[workflow(start = Branches, stop = Sum)]
impl GatedBranches {
    #[step]
    async fn open(&self, ev: Branches) -> Outcome<Vec<Branch>> {
        Ok((1..=ev.count).map(Branch).collect())
    }

    #[step(timeout = "2m")]
    async fn branch(&self, ctx: &Context, ev: Branch) -> Outcome<BranchDone> {
        if ev.0.is_multiple_of(10) {
            let mut redis = self.redis.connection().await?;
            signals::arrive_and_wait(&mut redis, ctx.run_id()).await?;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(BranchDone(ev.0))
    }

    #[step]
    async fn close(&self, done: Joined<BranchDone>) -> Outcome<Sum> {
        Ok(Sum { count: done.len() as u64, sum: done.iter().map(|d| d.0).sum() })
    }
}

/// Records something, waits for the test, and then for a signal, at most `n` ms.
pub struct GatedWait {
    redis: Levers,
}

#[workflow(start = Begin, stop = End)]
impl GatedWait {
    #[step]
    async fn order(&self, ctx: &Context, ev: Begin) -> Outcome<End> {
        let mut redis = self.redis.connection().await?;
        let key = &format!("reserved:{}", ctx.run_id());
        let other = &redis.clone();
        let reserved: u64 = ctx
            .step("reserve", || async { Ok(redis::cmd("INCR").arg(key).query_async(&mut other.clone()).await?) })
            .await?;
        signals::arrive_and_wait(&mut redis, ctx.run_id()).await?;
        let approval: Outcome<String> = ctx.wait_for("approval").timeout(Duration::from_millis(ev.n)).await;
        let approval = match approval {
            Err(error) if error.is_overdue() => "overdue".to_owned(),
            approval => approval?,
        };
        Ok(End { answer: format!("reserved {reserved} times, {approval}") })
    }
}

/// Waits for the test, does something outside that it counts, and records that.
pub struct GatedRecord {
    redis: Levers,
}

#[workflow(start = Begin, stop = End)]
impl GatedRecord {
    #[step]
    async fn order(&self, ctx: &Context, _: Begin) -> Outcome<End> {
        let mut redis = self.redis.connection().await?;
        signals::arrive_and_wait(&mut redis, ctx.run_id()).await?;
        let key = &format!("reserved:{}", ctx.run_id());
        let attempts = ctx.attempt();
        let reserved: u64 = ctx
            .step("reserve", || async { Ok(redis::cmd("INCR").arg(key).query_async(&mut redis.clone()).await?) })
            .await?;
        Ok(End { answer: format!("reserved {reserved} times in attempt {attempts}") })
    }
}
