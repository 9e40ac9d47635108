//! What runs publish, and who follows them: each on the store in memory and on a real Redis, with three workers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::client::RunHandle;
use stepfleet::follow::Follower;
use stepfleet::published::{Position, Published, StepState, What};
use stepfleet::run::Status;
use stepfleet::store::Store;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::redis::{TestRedis, redis_cli};
use stepfleet_worker::prelude::*;
use stepfleet_worker::runtime::WorkerError;
use tokio::sync::Notify;

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Event, Serialize, Deserialize)]
struct Asked {
    n: u64,
    /// Which of the tests that run at once has the say.
    #[serde(default)]
    test: usize,
}

#[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
struct Progress {
    at: u64,
}

#[derive(Event, Serialize, Deserialize)]
struct Answered {
    answer: Value,
}

/// One step that counts aloud.
struct Counting;

#[workflow(start = Asked, stop = Answered)]
impl Counting {
    #[step(retries = 0)]
    async fn count(&self, ctx: &Context, ev: Asked) -> Outcome<Answered> {
        for at in 1..=ev.n {
            ctx.publish(&Progress { at }).await?;
        }
        Ok(Answered { answer: json!(ev.n) })
    }
}

/// Publishes each time that it is told to.
struct Told;

static GO: [Notify; 3] = [const { Notify::const_new() }; 3];

#[workflow(start = Asked, stop = Answered)]
impl Told {
    #[step]
    async fn tell(&self, ctx: &Context, ev: Asked) -> Outcome<Answered> {
        for at in 1..=ev.n {
            GO[ev.test].notified().await;
            ctx.publish(&Progress { at }).await?;
        }
        Ok(Answered { answer: json!(null) })
    }
}

/// One of two steps ends the run; the other goes on then, and publishes.
struct Overtaken;

static SLOW_HAS_BEGUN: Notify = Notify::const_new();
static ENDED: Notify = Notify::const_new();
static DROPPED: Notify = Notify::const_new();
static RETURNED: AtomicBool = AtomicBool::new(false);

struct TellsOfItsDrop;

impl Drop for TellsOfItsDrop {
    fn drop(&mut self) {
        DROPPED.notify_one();
    }
}

#[workflow(start = Asked, stop = Answered)]
impl Overtaken {
    #[step]
    async fn slow(&self, ctx: &Context, ev: Asked) -> Outcome<()> {
        let _told = TellsOfItsDrop;
        ctx.publish(&Progress { at: ev.n }).await?;
        ENDED.notified().await;
        ctx.publish(&Progress { at: 99 }).await?;
        RETURNED.store(true, Ordering::SeqCst);
        Ok(())
    }

    #[step]
    async fn fast(&self, ev: Asked) -> Outcome<Answered> {
        SLOW_HAS_BEGUN.notified().await;
        Ok(Answered { answer: json!(ev.n) })
    }
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Counting)?.serve(Told)?.serve(Overtaken)
}

async fn all(store: &dyn Store, run: &str) -> Vec<Published> {
    store.published(run, Position::BEGINNING, 1000).await.unwrap()
}

fn counted(entries: &[Published]) -> Vec<u64> {
    entries.iter().filter_map(|entry| entry.read::<Progress>().unwrap()).map(|progress| progress.at).collect()
}

async fn next(follower: &mut Follower) -> Option<Published> {
    tokio::time::timeout(LIMIT, follower.next()).await.expect("an entry or the end").unwrap()
}

/// All that is left to follow.
async fn rest(mut follower: Follower) -> Vec<Published> {
    let mut entries = Vec::new();
    while let Some(entry) = next(&mut follower).await {
        entries.push(entry);
    }
    entries
}

async fn next_event(follower: &mut Follower) -> u64 {
    next(follower).await.unwrap().event::<Progress>().unwrap().unwrap().at
}

async fn start(stage: &Stage, workflow: &str, n: u64) -> RunHandle {
    stage.client.start(workflow, &json!({ "n": n })).id("r").send().await.unwrap()
}

async fn start_told(stage: &Stage, test: usize, n: u64) -> RunHandle {
    stage.client.start("told", &json!({ "n": n, "test": test })).id("r").send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_step_publishes_is_kept_in_order_and_ends_with_the_run() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("counting", &json!({ "n": 20 })).id("r").send().await.unwrap();
            run.result::<Value>(LIMIT).await.unwrap();
            let entries = all(&*stage.store, "r").await;
            assert_eq!(counted(&entries), (1..=20).collect::<Vec<_>>());
            assert_eq!(entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), (1..=21).collect::<Vec<_>>());
            let What::Event { event, by, .. } = &entries[0].what else { panic!("{:?}", entries[0]) };
            assert_eq!((event.as_str(), by.step.as_str(), by.seq, by.attempt), ("Progress", "count", 1, 1));
            assert!(by.worker.starts_with("worker-"));
            assert_eq!(entries[20].what, What::End { status: Status::Completed });
            assert_eq!(counted(&stage.store.published("r", entries[4].position, 3).await.unwrap()), [6, 7, 8]);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_run_has_ended_publishes_nothing_and_is_dropped() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("overtaken", &json!({ "n": 1 })).id("r").send().await.unwrap();
            while all(&*stage.store, "r").await.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            SLOW_HAS_BEGUN.notify_one();
            run.result::<Value>(LIMIT).await.unwrap();
            ENDED.notify_one();
            tokio::time::timeout(LIMIT, DROPPED.notified()).await.expect("the step is dropped");
            assert!(!RETURNED.load(Ordering::SeqCst), "its code went on");
            let entries = all(&*stage.store, "r").await;
            assert_eq!(counted(&entries), [1]);
            assert_eq!(entries.last().unwrap().what, What::End { status: Status::Completed });
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_followers_see_everything_whenever_they_come() {
    Both::new(serve)
        .play(async |stage| {
            // Before the run is there.
            let mut early = stage.client.run("r").follow();
            let waiting = tokio::spawn(async move { (next_event(&mut early).await, early) });
            let run = start_told(stage, 0, 6).await;
            GO[0].notify_one();
            let (first, early) = waiting.await.unwrap();
            assert_eq!(first, 1);
            let mut second = run.follow();
            for at in 2..=4 {
                GO[0].notify_one();
                while next_event(&mut second).await != at {}
            }
            let from = second.position();
            drop(second);
            let others = [run.follow(), run.follow_from(from), early].map(|follower| tokio::spawn(rest(follower)));
            GO[0].notify_one();
            while counted(&all(&*stage.store, "r").await).len() < 5 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            GO[0].notify_one();
            let mut seen = Vec::new();
            for other in others {
                let entries = other.await.unwrap();
                assert_eq!(entries.last().unwrap().what, What::End { status: Status::Completed });
                seen.push(counted(&entries));
            }
            assert_eq!(seen, [vec![1, 2, 3, 4, 5, 6], vec![5, 6], vec![2, 3, 4, 5, 6]]);
            // Long after the end.
            assert_eq!(counted(&rest(run.follow()).await), [1, 2, 3, 4, 5, 6]);
            assert_eq!(counted(&rest(run.follow_from(from)).await), [5, 6]);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_publishes_nothing_ends_for_its_followers_too_and_has_no_stream() {
    Both::new(serve)
        .play(async |stage| {
            let follower = stage.client.run("r").follow();
            let following = tokio::spawn(rest(follower));
            let run = start(stage, "counting", 0).await;
            assert_eq!(following.await.unwrap(), []);
            run.result::<Value>(LIMIT).await.unwrap();
            assert_eq!(rest(run.follow()).await, []);
            if let Some(redis) = &stage.redis {
                assert_eq!(redis_cli(&redis.url, &["EXISTS", "sf:{0}:events:r"]), "0");
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_trimmed_before_it_was_read_is_told() {
    const MANY: u64 = 10_600;
    Both::new(serve)
        .play(async |stage| {
            let run = start(stage, "counting", MANY).await;
            let mut early = run.follow();
            assert_eq!(next_event(&mut early).await, 1);
            let from = early.position();
            drop(early);
            run.result::<Value>(LIMIT).await.unwrap();
            for follower in [run.follow(), run.follow_from(from)] {
                let entries = rest(follower).await;
                let What::Missed { count } = entries[0].what else { panic!("{:?}", entries[0]) };
                let kept = counted(&entries);
                assert!((10_000 - 1..MANY).contains(&(kept.len() as u64)), "{} are kept", kept.len());
                assert_eq!(kept, (count + 1..=MANY).collect::<Vec<_>>());
                assert_eq!(entries.len(), kept.len() + 2, "the rest is there without a gap");
            }
            let kept = all(&*stage.store, "r").await[0].position;
            let later = rest(run.follow_from(kept)).await;
            assert!(!later.iter().any(|entry| matches!(entry.what, What::Missed { .. })), "nothing is missing there");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_cut_off_goes_on_where_it_was() {
    Both::new(serve)
        .play(async |stage| {
            let run = start_told(stage, 1, 5).await;
            let mut follower = run.follow();
            for at in 1..=5 {
                let waiting = tokio::spawn(async move { (next_event(&mut follower).await, follower) });
                if let Some(redis) = &stage.redis {
                    kill_followers(redis).await;
                }
                GO[1].notify_one();
                let (seen, back) = waiting.await.unwrap();
                assert_eq!(seen, at);
                follower = back;
            }
            assert!(counted(&rest(follower).await).is_empty());
        })
        .await;
}

/// Closes the connections of all followers, as soon as there is one that waits.
async fn kill_followers(redis: &TestRedis) {
    let mut connection = redis.connection().await;
    loop {
        let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut connection).await.unwrap();
        let waiting = |line: &&str| line.contains("name=stepfleet-follower") && line.contains("cmd=xread");
        let ids: Vec<_> =
            list.lines().filter(waiting).filter_map(|line| line.strip_prefix("id=")?.split(' ').next()).collect();
        for id in &ids {
            let _: u64 = redis::cmd("CLIENT").arg("KILL").arg("ID").arg(id).query_async(&mut connection).await.unwrap();
        }
        if !ids.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_redis_client_can_follow() {
    let stage = Both::new(serve);
    stage
        .play(async |stage| {
            let Some(redis) = &stage.redis else { return };
            let key = "sf:{0}:events:r";
            let url = redis.url.clone();
            let reading =
                tokio::task::spawn_blocking(move || redis_cli(&url, &["XREAD", "BLOCK", "20000", "STREAMS", key, "0"]));
            let run = start_told(stage, 2, 2).await;
            GO[2].notify_one();
            let read = reading.await.unwrap();
            let lines: Vec<_> = read.lines().collect();
            let (id, fields) = (lines[1], &lines[2..]);
            assert_eq!(fields[..8], ["n", "1", "kind", "event", "event", "Progress", "id", "1.0.1"]);
            assert_eq!(fields[8..15], ["step", "tell", "seq", "1", "attempt", "1", "worker"]);
            assert_eq!(fields[16..], ["data", "{\"at\":1}"]);
            GO[2].notify_one();
            run.result::<Value>(LIMIT).await.unwrap();
            let rest = redis_cli(&redis.url, &["XREAD", "STREAMS", key, id]);
            assert!(rest.contains("{\"at\":2}") && rest.ends_with("kind\nend\nstatus\ncompleted"), "{rest}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_written_as_the_caller_reads_them() {
    Both::new(serve)
        .play(async |stage| {
            let fields = [
                ("op", &b"start"[..]),
                ("workflow", b"counting"),
                ("id", b"r"),
                ("content", b"msgpack"),
                ("input", b"\x81\xa1n\x02"),
            ];
            let fields = fields.map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()));
            stage.store.enqueue(&fields).await.unwrap();
            let entries = rest(stage.client.run("r").follow()).await;
            assert_eq!(counted(&entries), [1, 2]);
            let What::Event { data, .. } = &entries[0].what else { panic!("{:?}", entries[0]) };
            assert_eq!(data, b"\x81\xa2at\x01");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_is_told_and_the_stream_goes_with_the_run() {
    Both::new(|worker| worker.serve(Ending))
        .play(async |stage| {
            for (how, status) in [(0, Status::Completed), (1, Status::Failed), (2, Status::Cancelled)] {
                let id = format!("r{how}");
                let run = stage.client.start("ending", &json!({ "n": how })).id(&id).send().await.unwrap();
                let mut follower = run.follow();
                assert_eq!(next_event(&mut follower).await, how);
                if status == Status::Cancelled {
                    run.cancel().await.unwrap();
                }
                let entries = rest(follower).await;
                assert_eq!(entries.iter().map(|entry| &entry.what).collect::<Vec<_>>(), [&What::End { status }]);
            }
            // The retention of what was cancelled is the coordinator's: a week.
            for id in ["r0", "r1"] {
                while stage.store.run(id).await.unwrap().is_some() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                assert_eq!(all(&*stage.store, id).await, []);
            }
            assert_eq!(all(&*stage.store, "r2").await.len(), 2);
        })
        .await;
}

struct Ending;

#[workflow(start = Asked, stop = Answered, retention = "1s")]
impl Ending {
    #[step(retries = 0)]
    async fn end(&self, ctx: &Context, ev: Asked) -> Outcome<Answered> {
        ctx.publish(&Progress { at: ev.n }).await?;
        match ev.n {
            0 => Ok(Answered { answer: json!(null) }),
            1 => Err(Error::terminal("for good")),
            _ => std::future::pending().await,
        }
    }
}

#[derive(Event, Serialize, Deserialize)]
struct Part(u64);

#[derive(Event, Serialize, Deserialize)]
struct Twice(u64);

/// A fan-out, one branch of which fails at first, and a join.
struct Spread;

#[workflow(start = Asked, stop = Answered)]
impl Spread {
    #[step]
    async fn split(&self, ev: Asked) -> Outcome<Vec<Part>> {
        Ok((0..ev.n).map(Part).collect())
    }

    #[step(retries = 1)]
    async fn double(&self, ctx: &Context, ev: Part) -> Outcome<Twice> {
        if ev.0 == 0 && ctx.attempt() == 1 {
            return Err(Error::msg("stumbled"));
        }
        Ok(Twice(ev.0 * 2))
    }

    #[step]
    async fn sum(&self, all: Joined<Twice>) -> Outcome<Answered> {
        Ok(Answered { answer: json!(all.iter().map(|n| n.0).sum::<u64>()) })
    }
}

/// `<state> <attempt> <event>` of each entry about one step execution, with what it emitted and its error.
fn states(entries: &[Published], of: u64) -> Vec<String> {
    let told = entries.iter().filter_map(|entry| match &entry.what {
        What::State { state, event, by, emitted, error } if by.seq == of => {
            assert_eq!(by.worker == "-", *state == StepState::Waiting, "{entry:?}");
            let about = error.clone().unwrap_or_else(|| emitted.join(","));
            Some(format!("{state:?} {} {} {event} {about}", by.attempt, by.step).trim_end().to_owned())
        }
        _ => None,
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_are_told_where_steps_stand_when_that_is_asked_for() {
    Both::new(|worker| worker.serve(Spread))
        .play(async |stage| {
            let spread = stage.client.start("spread", &json!({ "n": 3 })).id("r").follow_steps().send().await.unwrap();
            let entries = rest(spread.follow()).await;
            let first = ["Waiting 0 split Asked", "Running 1 split Asked", "Done 1 split Asked Part"];
            assert_eq!(states(&entries, 1), first);
            let stumbled = [
                "Waiting 0 double Part",
                "Running 1 double Part",
                "Retry 1 double Part stumbled",
                "Waiting 1 double Part",
                "Running 2 double Part",
                "Done 2 double Part Twice",
            ];
            assert_eq!(states(&entries, 2), stumbled);
            for other in [3, 4] {
                let plain = ["Waiting 0 double Part", "Running 1 double Part", "Done 1 double Part Twice"];
                assert_eq!(states(&entries, other), plain);
            }
            let last = ["Waiting 0 sum Twice", "Running 1 sum Twice", "Done 1 sum Twice Answered"];
            assert_eq!(states(&entries, 5), last);
            assert_eq!(entries.len(), 3 + 6 + 3 + 3 + 3 + 1);
            assert_eq!(entries.last().unwrap().what, What::End { status: Status::Completed });

            let quiet = stage.client.start("spread", &json!({ "n": 3 })).id("q").send().await.unwrap();
            quiet.result::<Value>(LIMIT).await.unwrap();
            assert_eq!(all(&*stage.store, "q").await, []);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_step_and_a_lost_worker_are_told_too() {
    Both::new(|worker| worker.serve(Ending))
        .play(async |stage| {
            let failing = stage.client.start("ending", &json!({ "n": 1 })).id("r").follow_steps().send().await.unwrap();
            let entries = rest(failing.follow()).await;
            let told = ["Waiting 0 end Asked", "Running 1 end Asked", "Failed 1 end Asked for good"];
            assert_eq!(states(&entries, 1), told);
            assert_eq!(counted(&entries), [1]);

            let left = stage.client.start("ending", &json!({ "n": 2 })).id("s").delay(Duration::from_millis(1));
            let mut follower = left.follow_steps().send().await.unwrap().follow();
            let mut seen = Vec::new();
            while counted(&seen).is_empty() {
                seen.extend(next(&mut follower).await);
            }
            // The worker that has it is told to stop, and hands it back.
            let What::Event { by, .. } = &seen.last().unwrap().what else { panic!("{seen:?}") };
            assert!(stage.store.deregister(&by.worker).await.unwrap());
            while states(&seen, 1).len() < 5 {
                seen.extend(next(&mut follower).await);
            }
            let told = [
                "Waiting 0 end Asked",
                "Waiting 0 end Asked",
                "Running 1 end Asked",
                "Waiting 1 end Asked",
                "Running 2 end Asked",
            ];
            assert_eq!(states(&seen, 1), told);
            stage.client.run("s").cancel().await.unwrap();
            assert_eq!(rest(follower).await.last().unwrap().what, What::End { status: Status::Cancelled });
        })
        .await;
}

/// What fails for good is taken care of by another step.
struct Mending;

#[workflow(start = Asked, stop = Answered)]
impl Mending {
    #[step(retries = 0)]
    async fn work(&self, ev: Asked) -> Outcome<Answered> {
        Err(Error::terminal(format!("no {}", ev.n)))
    }

    #[step(catches = "all")]
    async fn mend(&self, failed: StepFailed) -> Outcome<Answered> {
        Ok(Answered { answer: json!(failed.step) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_is_caught_is_told_with_what_comes_of_it() {
    Both::new(|worker| worker.serve(Mending))
        .play(async |stage| {
            let run = stage.client.start("mending", &json!({ "n": 1 })).id("r").follow_steps().send().await.unwrap();
            let entries = rest(run.follow()).await;
            assert_eq!(states(&entries, 1)[2..], ["Failed 1 work Asked no 1"]);
            let What::State { emitted, .. } = &entries[2].what else { panic!("{:?}", entries[2]) };
            assert_eq!(*emitted, ["stepfleet.StepFailed"]);
            let mended = [
                "Waiting 0 mend stepfleet.StepFailed",
                "Running 1 mend stepfleet.StepFailed",
                "Done 1 mend stepfleet.StepFailed Answered",
            ];
            assert_eq!(states(&entries, 2), mended);
        })
        .await;
}
