//! Random schedules on the memory store and on a real Redis, side by side. Answers and state are the same, no run is
//! stranded, and every run can be brought to its end.
//!
//! The short form runs with all tests; `make test-model` runs `STEPFLEET_MODEL_SCHEDULES` of them (100,000 by default).
//! A failure prints its seed and a shrunk schedule; `STEPFLEET_MODEL_SEED` repeats it.

mod asking;
mod context;
mod ending;
mod following;
mod forking;
mod joining;
mod kin;
mod ops;
mod order;
mod pausing;
mod retrying;
mod rollback;
mod starting;
mod waiting;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use stepfleet_integration_tests::double::{join_fleet, route};
use stepfleet_integration_tests::redis::TestRedis;
use stepfleet_shared::names::Namespace;
use stepfleet_shared::step::{CallId, Claim, Claimed, Commit, CommitStatus, Failure, Next, Refill, Route};
use stepfleet_shared::store::memory::SavedStore;
use stepfleet_shared::store::{Fire, MemoryStore, Reap, RedisStore, Store};

use self::ops::{Leaves, Op, WORKERS, op};
use self::order::{as_at_first, ordered, ordered_outcome};
use self::rollback::Snapshot;
use self::starting::request;

const HOUR: Duration = Duration::from_secs(3600);
const MAX_LOSSES: u32 = 2;

/// Both stores, and what the test knows about its holds.
struct Pair {
    redis: RedisStore,
    memory: MemoryStore,
    calls: u64,
    held: Vec<(usize, Claimed)>,
    old: Vec<(usize, Claimed)>,
    lives: [u32; WORKERS],
    /// Numbers of journal entries and waits.
    numbers: u64,
    /// Waits that were opened: number and name.
    opened: Vec<(u64, String)>,
    /// Step executions that have published or made a checkpoint with a mark: run and number.
    traced: BTreeSet<(String, u64)>,
    /// Step executions that have recorded something: their commits say so.
    journalled: BTreeSet<(String, u64)>,
    saved: Option<(SavedStore, Snapshot)>,
    covered: BTreeMap<&'static str, u64>,
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: stepfleet_shared::Error) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

/// Makes the same call on both stores, and compares the answers.
macro_rules! both {
    ($pair:expr, $store:ident => $call:expr) => {{
        let ours = {
            let $store: &dyn Store = &$pair.memory;
            $call.await
        };
        let theirs = {
            let $store: &dyn Store = &$pair.redis;
            $call.await
        };
        let told = |e: stepfleet_shared::Error| e.to_string();
        let (ours, theirs) = (ours.map_err(told), theirs.map_err(told));
        let (left, right) = (plain(&ours), plain(&theirs));
        if left != right {
            return Err(TestCaseError::fail(format!(
                "the stores differ at {}\n memory: {left}\n redis:  {right}",
                stringify!($call)
            )));
        }
        // Those of Redis: their fences have lines, which the memory store does not need.
        theirs.map_err(TestCaseError::fail)?
    }};
}

pub(crate) use both;

/// An answer without clock times, the only parts that may differ.
fn plain<T: std::fmt::Debug>(answer: &T) -> String {
    // The last part of an item says how long the step execution was queued.
    let text = format!("{answer:?}");
    let mut parts = text.split(", queued: ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once(' ').map_or("", |(_, rest)| rest))
}

impl Pair {
    fn worker(&self, worker: usize) -> String {
        format!("w{worker}-{}", self.lives[worker])
    }

    fn call(&mut self, worker: usize) -> CallId {
        self.calls += 1;
        CallId { worker: self.worker(worker), number: self.calls, again: false }
    }

    async fn join(&mut self, worker: usize) -> Result<(), TestCaseError> {
        self.lives[worker] += 1;
        let id = self.worker(worker);
        both!(self, store => async {
            join_fleet(store, &id, HOUR).await;
            stepfleet_shared::Result::Ok(())
        });
        Ok(())
    }

    async fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
        if self.held.is_empty() && op.needs_hold() {
            self.claim(0, 3, false).await?;
        }
        let name = match op {
            Op::Start { run, routes, key, delayed, timeout, from, session } => {
                let mut start = request(*run, *routes, *key, *delayed);
                start.context = from.map(|from| ("f0".to_owned(), from.to_string().into_bytes())).into_iter().collect();
                start.request.context_from = from.map(|from| format!("r{from}"));
                // A run that times out at once would end at different times in the two stores.
                let session = session.filter(|_| *timeout != Some(false));
                start.request.session = session.map(|session| format!("s{session}"));
                // Some are children of a run, awaited or not.
                start.request.parent = from.filter(|from| from % 2 == 1).map(|from| kin::parent(from, 1));
                self.start(start, *timeout).await?
            }
            Op::Defer { run } => self.defer(*run).await?,
            Op::Reject { run } => self.reject(*run).await?,
            Op::Claim { worker, most, repeat } => self.claim(*worker, *most, *repeat).await?,
            Op::Complete { held, leaves, set, next, repeat } => {
                self.complete(*held, leaves, *set, *next, *repeat).await?
            }
            Op::Fail { held, again, later, next, repeat } => self.fail(*held, *again, *later, *next, *repeat).await?,
            Op::Zombie { old, fails, next } => self.zombie(*old, *fails, *next).await?,
            Op::Crash { worker, again } => self.crash_again(*worker, *again).await?,
            Op::Expire { worker } => self.expire(*worker).await?,
            Op::Deregister { worker } => self.deregister(*worker).await?,
            Op::Checkpoint { held, entries, waits, set, repeat } => {
                self.checkpoint(*held, *entries, *waits, *set, *repeat).await?
            }
            Op::Publish { held, old, places, repeat } => self.publish(*held, *old, *places, *repeat).await?,
            Op::Stream { held, old, what, repeat } => self.stream(*held, *old, *what, *repeat).await?,
            Op::Suspend { held, waits, set, next, repeat } => self.suspend(*held, *waits, *set, *next, *repeat).await?,
            Op::Signal { run, name, order, by_inbox } => self.signal(*run, *name, *order, *by_inbox).await?,
            Op::Merge { held, how, expects, ends, repeat } => self.merge(*held, *how, *expects, *ends, *repeat).await?,
            Op::Cancel { run, repeat } => self.cancel(*run, *repeat).await?,
            Op::Retry { run, event, by_inbox, repeat } => self.retry(*run, *event, *by_inbox, *repeat).await?,
            Op::Fork { run, id, at, by_inbox, repeat } => self.fork(*run, *id, *at, *by_inbox, *repeat).await?,
            Op::Answer { run, which, by_inbox, repeat } => self.answer(*run, *which, *by_inbox, *repeat).await?,
            Op::ChildEnded { run, which, by_inbox, repeat } => {
                self.child_ended(*run, *which, *by_inbox, *repeat).await?
            }
            Op::Pause { run, by_inbox, repeat } => self.pause(*run, *by_inbox, *repeat).await?,
            Op::Resume { run, by_inbox, repeat } => self.resume(*run, *by_inbox, *repeat).await?,
            Op::Collect { held, number, count, repeat } => self.collect(*held, *number, *count, *repeat).await?,
            Op::Send { run, count, by_inbox } => self.send(*run, *count, *by_inbox).await?,
            Op::Audit => self.audit().await?,
            Op::Save => self.save().await?,
            Op::Forget => self.forget().await?,
            Op::Reconcile { worker } => self.reconcile(*worker).await?,
            Op::Reap => self.reap(vec![]).await.map(|()| "reap")?,
            Op::Fire => self.fire().await.map(|()| "fire")?,
        };
        *self.covered.entry(name).or_default() += 1;
        let breaches = self.memory.breaches();
        if !breaches.is_empty() {
            return Err(TestCaseError::fail(format!("after {op:?}: {breaches:?}")));
        }
        Ok(())
    }

    pub(crate) async fn claim(&mut self, worker: usize, most: usize, repeat: bool) -> Case {
        let mut call = self.call(worker);
        let alone = most > 0 && !self.held.iter().any(|(by, _)| *by == worker);
        let claim = Claim { slots: self.free_slots(worker, most), alone, after: None };
        let first = both!(self, store => ordered(store.claim(&call, &claim))).map(|(steps, _)| steps);
        if repeat && first.as_ref().is_some_and(|claims| !claims.is_empty()) {
            call.again = true;
            let again = both!(self, store => ordered(store.claim(&call, &claim)));
            let again = again.map(|(again, _)| as_at_first(first.as_deref().unwrap_or_default(), again));
            same("claim", &first, &again)?;
        }
        let claimed = first.unwrap_or_default();
        let (has_suspect, has_kept) = (claimed.iter().any(|step| step.alone), claimed.iter().any(|step| step.kept));
        if has_suspect && claimed.len() > 1 {
            return Err(TestCaseError::fail(format!("given beside one that is to be alone: {claimed:?}")));
        }
        self.keep(worker, claimed)?;
        Ok(match () {
            () if has_suspect => "claim: alone",
            () if has_kept => KEPT,
            () => "claim",
        })
    }

    /// The slots that the worker knows to be free.
    fn free_slots(&self, worker: usize, most: usize) -> Vec<u32> {
        let is_free = |slot: &u32| !self.held.iter().any(|(by, step)| *by == worker && step.fence.slot == *slot);
        (0..).filter(is_free).take(most).collect()
    }

    async fn complete(&mut self, held: usize, leaves: &Leaves, set: Option<u8>, next: Next, repeat: bool) -> Case {
        let Some((worker, step)) = self.choose(held) else { return Ok("complete nothing") };
        let mut call = self.call(worker);
        let refill = Refill { next, after: None };
        let emitted = if step.follow_steps { vec!["Next".to_owned(), "Other".to_owned()] } else { vec![] };
        let mut commit = Commit { retention: HOUR, emitted, ..Commit::default() };
        match set {
            Some(value) if value % 4 == 0 => commit.unset.push(format!("f{}", value % 3)),
            Some(value) => commit.set.push((format!("f{}", value % 3), vec![1, value])),
            None => {}
        }
        let name = self.leave_behind(worker, &step, leaves, &mut commit).await?;
        commit.rests = set.is_some_and(|value| value % 5 == 0);
        commit.has_traces = self.traced.contains(&(step.fence.run.clone(), step.fence.seq));
        let has_journal = self.journalled.contains(&(step.fence.run.clone(), step.fence.seq));
        if has_journal || step.fence.attempt > 1 || set.is_some_and(|value| value % 3 != 0) {
            commit.journalled = true;
            commit.let_go = self.let_go(&step, set.unwrap_or_default());
        }
        commit.upon = self.upon(set.map_or(1, usize::from));
        let first = both!(self, store => ordered_outcome(store.complete(&call, &step, &commit, &refill)));
        if repeat {
            call.again = true;
            let again = both!(self, store => ordered_outcome(store.complete(&call, &step, &commit, &refill)));
            let again = (again.0, as_at_first(&first.1, again.1));
            same("complete", &first, &again)?;
        }
        if first.0 == CommitStatus::Forgotten {
            return self.give_back(worker, step).await;
        }
        let is_next = |next: &Claimed| next.fence.run == step.fence.run && next.fence.attempt == 1;
        let handed_over = next == Next::Following && first.1.first().is_some_and(is_next);
        self.old.push((worker, step));
        self.keep(worker, first.1)?;
        Ok(if handed_over && name == "done: events" { "done: handed over" } else { name })
    }

    async fn fail(&mut self, held: usize, again: bool, later: bool, next: Next, repeat: bool) -> Case {
        let Some((worker, step)) = self.choose(held) else { return Ok("fail nothing") };
        let mut call = self.call(worker);
        let refill = Refill { next, after: None };
        let failure = if again {
            let delay = if later { HOUR } else { Duration::ZERO };
            Failure::Retry { delay, error: "e".into() }
        } else {
            Failure::Fail { error: "e".into(), retention: HOUR, forget: Vec::new(), upon: self.upon(held) }
        };
        let first = both!(self, store => ordered_outcome(store.fail(&call, &step, &failure, &refill)));
        if repeat {
            call.again = true;
            let repeated = both!(self, store => ordered_outcome(store.fail(&call, &step, &failure, &refill)));
            let repeated = (repeated.0, as_at_first(&first.1, repeated.1));
            same("fail", &first, &repeated)?;
        }
        if first.0 == CommitStatus::Forgotten {
            return self.give_back(worker, step).await;
        }
        self.old.push((worker, step));
        self.keep(worker, first.1)?;
        if again && !later {
            // Fired at once: it would be chance which of two timers in the same millisecond is first.
            self.fire().await?;
        }
        Ok(if again { "fail: retry" } else { "fail: for good" })
    }

    async fn crash_again(&mut self, worker: usize, again: usize) -> Case {
        self.crash(worker).await?;
        for turn in 0..again {
            let name = self.claim(worker, 3, turn % 2 == 1).await?;
            *self.covered.entry(name).or_default() += 1;
            self.crash(worker).await?;
        }
        Ok("crash")
    }

    async fn crash(&mut self, worker: usize) -> Case {
        self.drop_holds(worker);
        // There is no lease connection: its id is 0, and it counts as closed.
        self.reap(vec![(self.worker(worker), 0)]).await?;
        self.join(worker).await?;
        Ok("crash")
    }

    async fn deregister(&mut self, worker: usize) -> Case {
        self.drop_holds(worker);
        let id = self.worker(worker);
        for _ in 0..100 {
            if both!(self, store => store.deregister(&id)) {
                break;
            }
        }
        self.join(worker).await?;
        Ok("deregister")
    }

    async fn reap(&mut self, suspects: Vec<(String, u64)>) -> Result<(), TestCaseError> {
        let reap = Reap { limit: 1000, max_losses: MAX_LOSSES, retention: HOUR, suspects };
        both!(self, store => async {
            store.reap(&reap).await.map(|did| (did.requeued, did.more, did.reaped, did.workers))
        });
        Ok(())
    }

    async fn fire(&mut self) -> Result<(), TestCaseError> {
        let fire = Fire { limit: 1000, retention: HOUR };
        both!(self, store => async { store.fire(&fire).await.map(|did| (did.fired, did.more)) });
        Ok(())
    }

    fn drop_holds(&mut self, worker: usize) {
        let (lost, kept) = std::mem::take(&mut self.held).into_iter().partition(|(w, _)| *w == worker);
        self.held = kept;
        self.old.extend::<Vec<_>>(lost);
    }

    /// Keeps one step execution in each slot, whatever the store returned.
    fn keep(&mut self, worker: usize, claims: Vec<Claimed>) -> Result<(), TestCaseError> {
        for step in claims {
            let has_slot = |(by, held): &&(usize, Claimed)| *by == worker && held.fence.slot == step.fence.slot;
            if let Some((_, held)) = self.held.iter().find(has_slot) {
                return Err(TestCaseError::fail(format!("a slot has {:?} and was given {:?}", held.fence, step.fence)));
            }
            self.held.push((worker, step));
        }
        Ok(())
    }

    fn choose(&mut self, held: usize) -> Option<(usize, Claimed)> {
        (!self.held.is_empty()).then(|| self.held.remove(held % self.held.len()))
    }
}

/// One of these, or sometimes none.
fn chosen<T>(among: &[T], which: u8) -> Option<&T> {
    let which = usize::from(which);
    among.get(which / 4 % among.len().max(1)).filter(|_| which % 4 > 0)
}

/// A worker continues a body that it has kept.
const KEPT: &str = "claim: its body is kept";

type Case = Result<&'static str, TestCaseError>;

fn events(count: usize) -> Vec<(Route, Vec<u8>)> {
    (0..count).map(|n| (route("next"), vec![1, u8::try_from(n).unwrap_or(0)])).collect()
}

fn same<T: std::fmt::Debug>(what: &str, first: &T, second: &T) -> Result<(), TestCaseError> {
    // The order in which a repetition lists its items does not matter.
    let letters = |answer: &T| {
        let mut parts: Vec<String> = plain(answer).split("Claimed").map(str::to_owned).collect();
        for part in &mut parts {
            *part = part.trim_end_matches([',', ' ', ']', ')']).to_owned();
        }
        parts.sort();
        parts
    };
    if letters(first) == letters(second) {
        return Ok(());
    }
    Err(TestCaseError::fail(format!("{what}: the answers differ\n {first:?}\n {second:?}")))
}

fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn schedules(count: u32, in_cluster: bool) {
    static CASES: AtomicU64 = AtomicU64::new(0);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let redis = runtime
        .block_on(async { if in_cluster { TestRedis::cluster_of_one().await } else { TestRedis::start().await } });
    let covered = RefCell::new(BTreeMap::new());
    let seed =
        std::env::var("STEPFLEET_MODEL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    let config = Config {
        cases: count,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: setting("STEPFLEET_MODEL_SHRINKS", 2000),
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let strategy = proptest::collection::vec(op(), 1..60);
    let outcome = runner.run(&strategy, |ops| {
        // A new namespace for each schedule, so that the previous one leaves nothing behind.
        let number = CASES.fetch_add(1, Ordering::Relaxed);
        let name = format!("m{number}");
        let namespace = Namespace::new(&name, if number.is_multiple_of(2) { 0 } else { 3 }).expect("a name");
        runtime.block_on(async {
            let redis = RedisStore::new(&redis.url, namespace.clone()).expect("the test's own URL");
            let memory = MemoryStore::new(namespace);
            let mut pair = Pair {
                redis,
                memory,
                calls: 0,
                held: vec![],
                old: vec![],
                lives: [0; WORKERS],
                numbers: 10,
                opened: vec![],
                traced: BTreeSet::new(),
                journalled: BTreeSet::new(),
                saved: None,
                covered: BTreeMap::new(),
            };
            for worker in 0..WORKERS {
                pair.join(worker).await?;
            }
            for (at, op) in ops.iter().enumerate() {
                pair.apply(op).await?;
                if at % 16 == 15 {
                    pair.compare().await?;
                    pair.compare_waits().await?;
                    pair.compare_questions(None).await?;
                }
            }
            pair.audit().await?;
            pair.compare_questions(None).await?;
            pair.finish().await?;
            assert_eq!(pair.compare_questions(None).await?, [], "all runs have ended");
            for (name, count) in pair.covered {
                *covered.borrow_mut().entry(name).or_insert(0) += count;
            }
            Ok(())
        })
    });
    // A container is removed by the runtime.
    runtime.block_on(async { drop(redis) });
    // Not captured: it is for readers of the CI log.
    let summary = format!("{count} schedules of seed {seed}; operations covered: {:?}", covered.borrow());
    writeln!(std::io::stdout(), "{summary}").expect("stdout is there");
    if let Err(error) = outcome {
        panic!("{error}\nto repeat it: STEPFLEET_MODEL_SEED={seed} STEPFLEET_MODEL_SCHEDULES={count}");
    }
    let wanted = "start,start: timed out,start: in a line,claim,claim: alone,claim: its body is kept,done: handed over,done: staged fan-out,done: caught,fail: retry,zombie,crash,\
                  expire,deregister,\
                  reap,fire,checkpoint,checkpoint: a wait is answered,publish,publish: there already,stream,stream: there already,stream: superseded,suspend,forgotten: given back,signal,cancel,answer,retry: goes on,retry: refused,pause,resume,fork: with a journal,fork: from the start,fork: from a step,audit,save,forget,reconcile,collect,send,\
                  done: a part of a set,done: events for a limited step,\
                  done: fan-out; join with the first,\
                  child ended,child ended: nobody waits,undone,merge: checkpoint,merge: done,merge: conflict,merge: refused";
    for name in wanted.split(',') {
        assert!(covered.borrow().contains_key(name), "{name} was never tried");
    }
}

#[test]
fn both_stores_agree_on_a_few_thousand_schedules() {
    // Each on its own Redis; the one in cluster mode refuses keys of another slot.
    std::thread::scope(|scope| {
        let halves = [false, true]
            .map(|in_cluster| scope.spawn(move || schedules(setting("STEPFLEET_MODEL_FEW", 1000), in_cluster)));
        for half in halves {
            half.join().expect("its schedules agree");
        }
    });
}

#[test]
#[ignore = "long: make test-model"]
fn many_schedules_on_both_stores() {
    schedules(setting("STEPFLEET_MODEL_SCHEDULES", 100_000), true);
}
