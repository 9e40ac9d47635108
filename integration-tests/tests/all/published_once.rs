//! A body that runs again publishes nothing twice, and readers can tell events apart: each on the memory store
//! and on a real Redis.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::double::{self, call, emit, join_fleet, refill, start};
use stepfleet_shared::codec::Content;
use stepfleet_shared::published::{Position, Publication, Published, What};
use stepfleet_shared::step::CommitStatus;
use stepfleet_shared::store::Store;
use tokio::sync::Barrier;

const LIMIT: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Event, Serialize, Deserialize)]
struct Asked {}

#[derive(Event, Serialize, Deserialize)]
struct Answered {
    answer: Value,
}

#[derive(Event, Serialize, Deserialize, Debug, PartialEq)]
struct Chunk {
    text: String,
}

fn chunk(text: impl Into<String>) -> Chunk {
    Chunk { text: text.into() }
}

/// Id, attempt and text of what was published.
fn told(entries: &[Published]) -> Vec<(&str, u32, String)> {
    let events = entries.iter().filter_map(|entry| {
        let What::Event { id, by, .. } = &entry.what else { return None };
        Some((id.as_str(), by.attempt, entry.read::<Chunk>().unwrap().unwrap().text))
    });
    events.collect()
}

async fn play<W: Workflow>(stage: &mut Stage, _: W) -> (Value, Vec<Published>) {
    let name = W::definition().name;
    let id = format!("{name}-{}", if stage.redis.is_some() { "redis" } else { "memory" });
    let run = stage.client.start(name, &json!({})).id(&id).enqueue().await.unwrap();
    let end: Value = run.result(LIMIT).await.unwrap();
    nothing_is_remembered(stage, &id).await;
    (end["answer"].clone(), stage.store.published(&id, Position::BEGINNING, 1000).await.unwrap())
}

async fn nothing_is_remembered(stage: &Stage, run: &str) {
    let Some(redis) = &stage.redis else { return };
    let pattern = format!("sf:{{0}}:published:{run}:*");
    let mut connection = redis.connection().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut connection).await.unwrap();
    let extra: Vec<String> =
        redis::cmd("SMEMBERS").arg(format!("sf:{{0}}:extra:{run}")).query_async(&mut connection).await.unwrap();
    // The journal of a run of one step is kept for forks.
    let is_journal = |key: &String| key.contains(":journal:");
    assert!(keys.is_empty() && extra.iter().all(is_journal), "{keys:?} {extra:?}");
}

/// Four branches that have read the same value when each has published its three parts: three bodies run again, then
/// two, then one.
struct Choir;

#[derive(Event, Serialize, Deserialize)]
struct Voice(u64);

#[derive(Event, Serialize, Deserialize)]
struct Sung;

/// How often bodies ran, and where the first four meet.
type Meeting = (u64, Arc<Barrier>);

/// By run.
static BODIES: LazyLock<Mutex<HashMap<String, Meeting>>> = LazyLock::new(Mutex::default);

#[workflow(start = Asked, stop = Answered)]
impl Choir {
    #[step]
    async fn part(&self, _: Asked) -> Outcome<Vec<Voice>> {
        Ok((1..=4).map(Voice).collect())
    }

    #[step]
    async fn sing(&self, ctx: &Context, ev: Voice) -> Outcome<Sung> {
        let (body, barrier) = {
            let mut bodies = BODIES.lock().unwrap();
            let (count, barrier) =
                bodies.entry(ctx.run_id().to_owned()).or_insert_with(|| (0, Arc::new(Barrier::new(4))));
            *count += 1;
            (*count, barrier.clone())
        };
        let state = ctx.state();
        // The body has read the field, so it runs again when others change it.
        let before: u64 = state.get("sung").await?.unwrap_or(0);
        for part in 1..=3 {
            ctx.publish(&chunk(format!("{} {part}", ev.0))).await?;
        }
        state.edit_field("sung", move |sung: &mut u64| *sung = before + 1).await?;
        if body <= 4 {
            barrier.wait().await;
        }
        Ok(Sung)
    }

    #[step]
    async fn end(&self, ctx: &Context, _: Joined<Sung>) -> Outcome<Answered> {
        Ok(Answered { answer: json!(ctx.state().get::<u64>("sung").await?) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_run_again_after_a_conflict_publish_nothing_twice() {
    Both::new(|worker| worker.serve(Choir))
        .play(async |stage| {
            let (sung, entries) = play(stage, Choir).await;
            assert_eq!(sung, 4);
            let told = told(&entries);
            let ids: BTreeSet<_> = told.iter().map(|(id, ..)| *id).collect();
            let texts: BTreeSet<_> = told.iter().map(|(.., text)| text.clone()).collect();
            assert_eq!((told.len(), ids.len(), texts.len()), (12, 12, 12), "{told:?}");
            let run = if stage.redis.is_some() { "choir-redis" } else { "choir-memory" };
            let bodies = BODIES.lock().unwrap()[run].0;
            assert!((7..=10).contains(&bodies), "{bodies} bodies ran: at least three of four ran again");
        })
        .await;
}

/// Publishes within recorded calls and outside of them, and fails in between.
struct Stumbling;

#[workflow(start = Asked, stop = Answered)]
impl Stumbling {
    #[step(retries = 3, backoff = "1ms")]
    async fn go(&self, ctx: &Context, _: Asked) -> Outcome<Answered> {
        let attempt = ctx.attempt();
        ctx.publish(&chunk("begin")).await?;
        ctx.step("draft", || async {
            ctx.publish(&chunk("draft, 1")).await?;
            ctx.publish(&chunk("draft, 2")).await?;
            if attempt == 1 { Err(Error::msg("before it is recorded")) } else { Ok(()) }
        })
        .await?;
        // The future is made here and polled within the call.
        let mut made = Some(ctx.publish(&chunk("made before")));
        ctx.step("send", || made.take().expect("it is tried once")).await?;
        if attempt == 2 {
            Err(Error::msg("after it is recorded"))?;
        }
        ctx.publish(&chunk("after the calls")).await?;
        // Like a clock or a model's answer: another value each time.
        ctx.publish(&chunk(format!("attempt {}", attempt.max(3)))).await?;
        if attempt == 3 {
            Err(Error::msg("at the end"))?;
        }
        Ok(Answered { answer: json!(attempt) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_add_what_is_new_and_each_recorded_call_counts_separately() {
    Both::new(|worker| worker.serve(Stumbling))
        .play(async |stage| {
            let (attempts, entries) = play(stage, Stumbling).await;
            assert_eq!(attempts, 4);
            let expected = [
                ("1.0.1", 1, "begin"),
                ("1.1.1", 1, "draft, 1"),
                ("1.1.2", 1, "draft, 2"),
                ("1.0.2", 2, "made before"),
                ("1.0.3", 3, "after the calls"),
                ("1.0.4", 3, "attempt 3"),
                // It replaces the one before.
                ("1.0.4", 4, "attempt 4"),
            ];
            assert_eq!(told(&entries), expected.map(|(id, attempt, text)| (id, attempt, text.to_owned())));
        })
        .await;
}

/// As many as are remembered, and some more.
const MANY: u64 = 10_020;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_has_a_bound_and_lost_replies_are_harmless_beyond_it() {
    Both::new(|worker| worker.serve(Choir))
        .workers(0)
        .play(async |stage| {
            let store = &*stage.store;
            join_fleet(store, "a", HOUR).await;
            store.start(&start("r")).await.unwrap();
            let step = double::claim(store, "a", 1, 1).await.remove(0);
            let publish = async |number: u64| {
                let (step_name, event, content) = ("first".to_owned(), "Chunk".to_owned(), Content::Json);
                let data = number.to_string().into_bytes();
                let publication = Publication { call: 0, number, step: step_name, event, content, data };
                assert_eq!(store.publish("a", &step.fence, &publication).await.unwrap(), CommitStatus::Committed);
            };
            for number in 1..=MANY {
                publish(number).await;
            }
            assert_eq!(last_number(store).await, MANY);
            for number in [1, 5000, 10_000, MANY, MANY] {
                publish(number).await;
            }
            assert_eq!(last_number(store).await, MANY, "they are there already");
            if let Some(redis) = &stage.redis {
                let mut connection = redis.connection().await;
                let kept: u64 =
                    redis::cmd("HLEN").arg("sf:{0}:published:r:1").query_async(&mut connection).await.unwrap();
                assert_eq!(kept, 10_001);
            }
            publish(MANY - 1).await;
            assert_eq!(last_number(store).await, MANY + 1, "beyond the bound only the last one is known");
            // The run goes on: the end of the step removes what was remembered of it.
            let call = call("a", 2, false);
            store.complete(&call, &step, &emit(&["second"]), &refill(0)).await.unwrap();
            nothing_is_remembered(stage, "r").await;
        })
        .await;
}

/// The number of the last event; entries are numbered without gaps.
async fn last_number(store: &dyn Store) -> u64 {
    let (mut after, mut last) = (Position::BEGINNING, 0);
    loop {
        let entries = store.published("r", after, 1000).await.unwrap();
        let Some(entry) = entries.last() else { return last };
        (after, last) = (entry.position, entry.number);
    }
}
