//! Published events, as followers and any Redis client read them.

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::redis::{TestRedis, redis_cli};
use stepfleet_integration_tests::until;
use stepfleet_shared::client::RunHandle;
use stepfleet_shared::published::What;
use stepfleet_shared::run::Status;
use tokio::sync::Notify;

use super::{Answered, Asked, LIMIT, Progress, all, counted, next_event, rest, start};

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

/// Publishes each time that a signal comes.
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

async fn start_told(stage: &Stage, test: usize, n: u64) -> RunHandle {
    stage.client.start("told", &json!({ "n": n, "test": test })).id("r").enqueue().await.unwrap()
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Counting)?.serve(Told)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_step_publishes_is_kept_in_order_and_ends_with_the_run() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("counting", &json!({ "n": 20 })).id("r").enqueue().await.unwrap();
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
async fn several_followers_see_everything_whenever_they_come() {
    Both::new(serve)
        .play(async |stage| {
            // Before the run exists.
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
            until(async || counted(&all(&*stage.store, "r").await).len() >= 5).await;
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
async fn a_follower_that_is_cut_off_continues_at_its_position() {
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
    until(async || {
        let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut connection).await.unwrap();
        let waiting = |line: &&str| line.contains("name=stepfleet-follower") && line.contains("cmd=xread");
        let ids: Vec<_> =
            list.lines().filter(waiting).filter_map(|line| line.strip_prefix("id=")?.split(' ').next()).collect();
        for id in &ids {
            let _: u64 = redis::cmd("CLIENT").arg("KILL").arg("ID").arg(id).query_async(&mut connection).await.unwrap();
        }
        !ids.is_empty()
    })
    .await;
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
