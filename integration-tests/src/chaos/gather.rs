//! Collects the evidence once all is over: what Redis has, and what the log of effects says.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use redis::{Cmd, FromRedisValue, cmd};
use stepfleet_shared::codec::{self, Content};
use stepfleet_shared::store::{RedisStore, RejectedRequest, Store};

use super::checker::{Evidence, Left, Promise, Seen, check_left, children_of};
use super::effects::Effect;
use super::load::{Ask, Shape};
use super::workflows::Ended;

/// More records than any run of the load has.
const ALL: u64 = 100_000;
/// How long the removal of keys may take afterwards.
const CLEARED: Duration = Duration::from_secs(30);

/// Collects everything. Waits a while, since some keys are removed only after the end of the last run.
pub(super) async fn gather(
    (store, raw): (&dyn Store, &RedisStore),
    promise: Promise,
    asked: Vec<Ask>,
    log: &Path,
) -> Evidence {
    let mut seen = BTreeMap::new();
    for ask in &asked {
        let Some(run) = see(store, &ask.id).await else { continue };
        if ask.shape == Shape::Parent {
            for child in children_of(&run.history).map(str::to_owned).collect::<Vec<_>>() {
                if let Some(found) = see(store, &child).await {
                    seen.insert(child, found);
                }
            }
        }
        seen.insert(ask.id.clone(), run);
    }
    let effects = std::fs::read_to_string(log).unwrap_or_default();
    let effects = effects.lines().map(|line| Effect::parse(line).unwrap_or_else(|| panic!("an effect: {line}")));
    let mut evidence = Evidence { promise, asked, seen, effects: effects.collect(), left: Left::default() };
    let until = Instant::now() + CLEARED;
    loop {
        evidence.left = left(store, raw).await;
        if check_left(&evidence).is_empty() || Instant::now() > until {
            return evidence;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn see(store: &dyn Store, id: &str) -> Option<Seen> {
    let run = store.run(id).await.expect("Redis is there")?;
    let history = store.history(id, 0, ALL).await.expect("Redis is there");
    // A child's result is encoded for its parent, but the checker reads JSON.
    let result = run.result.map(|result| match run.content {
        Content::Json => result,
        Content::MessagePack => {
            let ended: Ended =
                codec::decode_messagepack("a child's result", &result).expect("what the workflow returned");
            serde_json::to_vec(&ended).expect("JSON")
        }
    });
    Some(Seen { status: run.status, result, error: run.error, history })
}

async fn left(store: &dyn Store, raw: &RedisStore) -> Left {
    let prefix = "sf:{0}:";
    let keys: Vec<String> = ask(raw, cmd("KEYS").arg(format!("{prefix}*"))).await;
    let counters: Option<u64> = ask(raw, cmd("HGET").arg(format!("{prefix}counters")).arg("repaired")).await;
    let queues = store.queues().await.expect("Redis is there");
    let workers = store.workers().await.expect("Redis is there");
    let rejected = store.rejected(0, u64::MAX, 1000).await.expect("Redis is there");
    Left {
        keys: keys.iter().filter_map(|key| key.strip_prefix(prefix)).map(str::to_owned).collect(),
        timers: ask(raw, cmd("ZRANGE").arg(format!("{prefix}timers")).arg(0).arg(-1)).await,
        queued: queues.into_iter().map(|queue| (queue.workflow, queue.waiting)).collect(),
        inbox: store.waiting_requests().await.expect("Redis is there"),
        workers: workers.into_iter().map(|worker| (worker.id, worker.held)).collect(),
        repaired: counters.unwrap_or_default(),
        rejected: rejected.iter().filter(|rejected| matters(rejected)).map(|found| format!("{found:?}")).collect(),
    }
}

/// Whether a rejection is a fault. A run may have ended before its cancel, pause or resume.
fn matters(rejected: &RejectedRequest) -> bool {
    let operation = rejected.fields.iter().find(|(name, _)| name == "op").map(|(_, value)| value.as_str());
    !matches!(operation, Some("cancel" | "pause" | "resume"))
}

async fn ask<T: FromRedisValue>(raw: &RedisStore, command: &Cmd) -> T {
    let answer = raw.command(command).await.expect("Redis is there");
    T::from_redis_value(answer).expect("the answer of this command")
}
