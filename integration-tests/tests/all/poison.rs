//! Steps that kill their workers: only they are blamed, and steps that executed beside them go on.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet_integration_tests::both::Both;
use stepfleet_integration_tests::double::{self, call, fire, join_fleet, reap, slots, start};
use stepfleet_integration_tests::fleet::{Fleet, Process};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_integration_tests::until;
use stepfleet_shared::client::RunHandle;
use stepfleet_shared::history::Kind;
use stepfleet_shared::run::Status;
use stepfleet_shared::step::{Claim, Claimed, CommitStatus as Stands, Failure};
use stepfleet_shared::store::{Heartbeat, Introduction, Store};
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const LIMIT: Duration = Duration::from_secs(90);
const HOUR: Duration = Duration::from_secs(3600);

/// The worker `a`, which dies and comes back.
struct Mortal<'a> {
    store: &'a dyn Store,
    calls: u64,
}

impl<'a> Mortal<'a> {
    async fn new(store: &'a dyn Store) -> Self {
        join_fleet(store, "a", HOUR).await;
        Self { store, calls: 0 }
    }

    async fn claim(&mut self, most: usize, alone: bool) -> Vec<Claimed> {
        self.calls += 1;
        let (call, again) = (call("a", self.calls, false), call("a", self.calls, true));
        let claim = Claim { alone, ..slots(&call, most) };
        let claimed = self.store.claim(&call, &claim).await.unwrap().unwrap().steps;
        if !claimed.is_empty() {
            let same = self.store.claim(&again, &claim).await.unwrap().unwrap().steps;
            let told = |claims: &[Claimed]| claims.iter().map(|c| (c.fence.clone(), c.alone)).collect::<Vec<_>>();
            assert_eq!(told(&same), told(&claimed), "a repetition says something else");
        }
        claimed
    }

    async fn die(&self) {
        let reaped = self.store.reap(&reap(&["a"])).await.unwrap().reaped;
        assert_eq!(reaped, ["a"]);
        join_fleet(self.store, "a", HOUR).await;
    }

    /// Dies with all of these, until they are suspects.
    async fn die_with(&mut self, runs: &[&str]) {
        for _ in 0..3 {
            let claimed = self.claim(8, false).await;
            assert_eq!(claimed.len(), runs.len(), "{claimed:?}");
            assert!(claimed.iter().all(|step| !step.alone), "{claimed:?}");
            self.die().await;
        }
    }

    async fn complete(&mut self, step: &Claimed) {
        self.calls += 1;
        let call = call("a", self.calls, false);
        assert_eq!(double::complete(self.store, &call, step, &double::stop(), 0).await.0, Stands::Committed);
    }

    async fn status(&self, run: &str) -> Status {
        self.store.run(run).await.unwrap().unwrap().status
    }
}

#[tokio::test]
async fn what_was_lost_beside_others_is_tried_alone_before_it_is_blamed() {
    on_both(async |scene| {
        let store = scene.store();
        let mut mortal = Mortal::new(store).await;
        let runs = ["innocent", "poison", "other"];
        for run in runs {
            store.start(&start(run)).await.unwrap();
        }
        mortal.die_with(&runs).await;
        // A worker that executes something, or does not say that it executes nothing, does not get them.
        assert_eq!(mortal.claim(8, false).await.len(), 0);
        let mut ended = Vec::new();
        while ended.len() < 2 {
            let mut claimed = mortal.claim(8, true).await;
            assert!(claimed.len() == 1 && claimed[0].alone, "{claimed:?}");
            let step = claimed.remove(0);
            if step.fence.run == "poison" {
                mortal.die().await;
            } else {
                mortal.complete(&step).await;
                ended.push(step.fence.run);
            }
        }
        while mortal.status("poison").await == Status::Running {
            assert_eq!(mortal.claim(8, true).await.len(), 1);
            mortal.die().await;
        }
        let run = store.run("poison").await.unwrap().unwrap();
        let error = "step \"first\" killed its worker 4 times while it was executed alone \
                     (out of memory, or a crash in native code)";
        assert_eq!((run.status, run.error.as_deref()), (Status::Failed, Some(error)));
        let lost = store.history("poison", 0, 100).await.unwrap().into_iter().filter(|r| r.kind == Kind::Lost).count();
        assert_eq!(lost, 7, "three times beside others, and four times alone");
    })
    .await;
}

#[tokio::test]
async fn one_that_a_worker_held_as_its_only_one_is_blamed_from_the_first_loss_on() {
    on_both(async |scene| {
        let store = scene.store();
        let mut mortal = Mortal::new(store).await;
        store.start(&start("poison")).await.unwrap();
        for lives in 0..4 {
            // From the third loss on it is executed alone.
            assert_eq!(mortal.claim(8, false).await.len(), usize::from(lives < 3));
            if lives == 3 {
                assert_eq!(mortal.claim(8, true).await.len(), 1);
            }
            mortal.die().await;
        }
        assert_eq!(mortal.status("poison").await, Status::Failed);
    })
    .await;
}

#[tokio::test]
async fn an_attempt_that_ends_well_clears_a_step_of_all_suspicion() {
    on_both(async |scene| {
        let store = scene.store();
        let mut mortal = Mortal::new(store).await;
        for run in ["r", "s"] {
            store.start(&start(run)).await.unwrap();
        }
        for _ in 0..2 {
            mortal.die_with(&["r", "s"]).await;
            // One is tried again after an error, the other is handed back by a worker that stops.
            let first = mortal.claim(8, true).await.remove(0);
            mortal.calls += 1;
            let retry = Failure::Retry { delay: Duration::ZERO, error: "e".into() };
            store.fail(&call("a", mortal.calls, false), &first, &retry, &double::refill(0)).await.unwrap();
            assert_eq!(store.fire(&fire()).await.unwrap().fired, 1);
            let second = mortal.claim(8, true).await.remove(0);
            assert!(second.alone && second.fence.run != first.fence.run);
            assert!(store.deregister("a").await.unwrap());
            join_fleet(store, "a", HOUR).await;
        }
        let claimed = mortal.claim(8, false).await;
        assert_eq!(claimed.len(), 2, "they are executed side by side again");
        for step in &claimed {
            mortal.complete(step).await;
        }
    })
    .await;
}

#[tokio::test]
async fn one_worker_at_a_time_makes_room_until_nothing_waits_to_be_alone() {
    on_both(async |scene| {
        let store = scene.store();
        let mut mortal = Mortal::new(store).await;
        for worker in ["b", "c"] {
            join_fleet(store, worker, HOUR).await;
        }
        let mut leases = [store.lease("b", HOUR).await.unwrap(), store.lease("c", HOUR).await.unwrap()];
        let mut told = async || {
            let mut drain = Vec::new();
            for lease in &mut leases {
                let Heartbeat::Renewed { drain: told, .. } = lease.heartbeat().await.unwrap() else { panic!("lost") };
                drain.push(told);
            }
            drain
        };
        for run in ["r", "s"] {
            store.start(&start(run)).await.unwrap();
        }
        assert_eq!(told().await, [false, false]);
        mortal.die_with(&["r", "s"]).await;
        assert_eq!(told().await, [true, false]);
        assert_eq!(told().await, [true, false], "it is still the same one");
        assert_eq!(store.reap(&reap(&["b"])).await.unwrap().reaped.len(), 0, "it has a lease connection");
        assert!(store.deregister("b").await.unwrap());
        join_fleet(store, "b", HOUR).await;
        let _ = leases[1].heartbeat().await.unwrap();
        for left in [true, false] {
            let step = mortal.claim(8, true).await.remove(0);
            let Heartbeat::Renewed { drain, .. } = leases[1].heartbeat().await.unwrap() else { panic!("lost") };
            assert_eq!(drain, left, "another one takes over, and stops when nothing waits");
            mortal.complete(&step).await;
        }
    })
    .await;
}

/// Opened when both of the busy runs may go on.
static GATE: Semaphore = Semaphore::const_new(0);
static IS_ENOUGH: AtomicBool = AtomicBool::new(false);

#[derive(Event, Serialize, Deserialize)]
struct Begin {}

#[derive(Event, Serialize, Deserialize)]
struct Turn {}

#[derive(Event, Serialize, Deserialize)]
struct Over {}

#[derive(Emit)]
enum Then {
    Turn(Turn),
    Over(Over),
}

/// Executes one step after the other without a pause.
struct Busy;

#[workflow(start = Begin, stop = Over)]
impl Busy {
    #[step]
    async fn hold(&self, _ev: Begin) -> Outcome<Turn> {
        GATE.acquire().await.map_err(Error::msg)?.forget();
        Ok(Turn {})
    }

    #[step]
    async fn turn(&self, _ev: Turn) -> Outcome<Then> {
        tokio::task::yield_now().await;
        Ok(if IS_ENOUGH.load(Ordering::Relaxed) { Then::Over(Over {}) } else { Then::Turn(Turn {}) })
    }
}

/// Takes no time.
struct Quick;

#[workflow(start = Begin, stop = Over)]
impl Quick {
    #[step]
    async fn answer(&self, _ev: Begin) -> Outcome<Over> {
        Ok(Over {})
    }
}

async fn send(stage_client: &stepfleet_shared::Client, workflow: &str, count: usize) -> Vec<RunHandle> {
    let mut runs = Vec::new();
    for n in 0..count {
        let id = format!("{workflow}-{n}");
        runs.push(stage_client.start(workflow, &json!({})).id(&id).enqueue().await.unwrap());
    }
    runs
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_never_idle_makes_room_and_then_goes_on() {
    Both::new(|worker| worker.serve(Busy)?.serve(Quick))
        .workers(1)
        .concurrency(2)
        .play(async |stage| {
            IS_ENOUGH.store(false, Ordering::Relaxed);
            let store = &*stage.store;
            let busy = send(&stage.client, "busy", 2).await;
            let held = async || store.workers().await.unwrap().iter().map(|worker| worker.held).sum::<u64>();
            until(async || held().await >= 2).await;
            // Both slots are taken: the others go to the worker that dies.
            let serves = store.registrations().await.unwrap().into_iter().filter(|served| served.workflow == "quick");
            let dying = Introduction { id: "dying".into(), serves: serves.collect(), ..Introduction::default() };
            store.register(&dying, HOUR).await.unwrap();
            let quick = send(&stage.client, "quick", 2).await;
            let mut number = 0;
            for _ in 0..3 {
                let mut held = 0;
                while held < 2 {
                    number += 1;
                    held += double::claim(store, "dying", number, 2 - held).await.len();
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                assert_eq!(store.reap(&reap(&["dying"])).await.unwrap().reaped, ["dying"]);
                store.register(&dying, HOUR).await.unwrap();
            }
            assert_eq!(double::claim(store, "dying", number + 1, 2).await.len(), 0);
            assert!(store.deregister("dying").await.unwrap());
            GATE.add_permits(2);
            for run in quick {
                assert_eq!(run.wait(LIMIT).await.unwrap().status, Status::Completed);
            }
            for run in &busy {
                assert_eq!(run.status().await.unwrap().unwrap().status, Status::Running, "it was idle by itself");
            }
            IS_ENOUGH.store(true, Ordering::Relaxed);
            for run in busy {
                assert_eq!(run.wait(LIMIT).await.unwrap().status, Status::Completed);
            }
        })
        .await;
}

/// A worker process that is started again whenever it dies.
fn supervised(fleet: &Fleet) -> AbortOnDropHandle<()> {
    let url = fleet.redis.url.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let settings = [("STEPFLEET_REDIS", url.as_str()), ("STEPFLEET_CONCURRENCY", "8"), ("RUST_LOG", "info")];
            let status = Process::start(Path::new(WORKER), &[], &settings).ended().await;
            assert!(std::os::unix::process::ExitStatusExt::signal(&status).is_some(), "{status}");
        }
    }))
}

/// One run kills its workers; `innocents` other runs take longer than these live.
async fn only_the_poison_fails(poison: Value, innocents: usize, workers: usize) {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let mut others = Vec::new();
    for _ in 0..innocents {
        others.push(fleet.client.start("unruly", &json!({ "how": "doze", "ms": 2000 })).enqueue().await.unwrap());
    }
    let poison = fleet.client.start("unruly", &poison).enqueue().await.unwrap();
    let _workers: Vec<_> = (0..workers).map(|_| supervised(&fleet)).collect();
    let ended = poison.wait(LIMIT).await.unwrap();
    let error = ended.error.unwrap_or_default();
    assert_eq!(ended.status, Status::Failed, "{error}");
    assert!(error.contains("\"misbehave\" killed its worker 4 times while it was executed alone"), "{error}");
    for run in others {
        let ended = run.wait(LIMIT).await.unwrap();
        let history = fleet.store.history(run.id(), 0, 100).await.unwrap();
        assert_eq!(ended.status, Status::Completed, "{:?}: {history:?}", ended.error);
    }
}

#[tokio::test]
async fn a_step_that_aborts_its_process_fails_alone_and_what_ran_beside_it_completes() {
    only_the_poison_fails(json!({ "how": "abort", "ms": 300 }), 5, 1).await;
}

#[tokio::test]
async fn so_it_is_with_two_workers() {
    only_the_poison_fails(json!({ "how": "abort", "ms": 300 }), 7, 2).await;
}

#[tokio::test]
async fn a_step_that_is_killed_for_its_memory_fails_alone_and_what_ran_beside_it_completes() {
    only_the_poison_fails(json!({ "how": "be killed", "ms": 300 }), 3, 1).await;
}
