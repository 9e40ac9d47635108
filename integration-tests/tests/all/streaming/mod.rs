//! Text that steps show while they write it, on whole fleets.

mod killed;

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::redis::redis_cli;
use stepfleet_shared::published::{Position, Published, Streams, What};
use tokio::sync::Notify;

const LIMIT: Duration = Duration::from_secs(60);

/// How often something was done, by run and what.
static DONE: LazyLock<Mutex<BTreeMap<String, u32>>> = LazyLock::new(Mutex::default);

fn does(run: &str, what: &str) -> u32 {
    let mut done = DONE.lock().unwrap();
    let times = done.entry(format!("{run} {what}")).or_default();
    *times += 1;
    *times
}

/// A run with this id on this stage, which counts separately.
fn id(stage: &Stage, name: &str) -> String {
    format!("{name}-{}", if stage.redis.is_some() { "redis" } else { "memory" })
}

async fn entries(stage: &Stage, run: &str) -> Vec<Published> {
    let mut all: Vec<Published> = Vec::new();
    loop {
        let after = all.last().map_or(Position::BEGINNING, |last| last.position);
        let more = stage.store.published(run, after, 1000).await.unwrap();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

fn streams(entries: &[Published]) -> Streams {
    let mut streams = Streams::default();
    for entry in entries {
        streams.add(entry);
    }
    streams
}

/// All text of a stream, superseded or not.
fn shown(entries: &[Published], of: &str) -> Vec<String> {
    let piece = |entry: &Published| match &entry.what {
        What::Piece { stream, text, .. } if stream == of => Some(text.clone()),
        What::Superseded { stream, .. } if stream == of => Some("|".to_owned()),
        _ => None,
    };
    entries.iter().filter_map(piece).collect()
}

/// A call that fails after it has streamed, a body that begins again after the call was recorded, and one that sleeps.
#[durable(retries = 2)]
async fn stubborn(ctx: &Context, (): ()) -> Outcome<String> {
    let run = ctx.run_id();
    let mut thoughts = ctx.stream("thoughts");
    thoughts.push("I will ask. ").await?;
    let answer = ctx.step("answer", || async {
        let times = does(run, "answer");
        let mut out = ctx.stream("answer");
        out.push("It is ").await?;
        // A model says something else each time.
        out.push(if times < 3 { "blue" } else { "green" }).await?;
        if times < 3 { Err(Error::msg("the model hung up")) } else { Ok("It is green".to_owned()) }
    });
    let answer: String = answer.retry(RetryPolicy::fixed(Duration::from_millis(1)).attempts(5)).await?;
    if does(run, "body") == 1 {
        return Err(Error::msg("it stumbles after it"));
    }
    ctx.sleep(Duration::from_millis(30)).await?;
    thoughts.push("That was it.").await?;
    thoughts.finish().await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_piece_is_shown_once_and_another_text_supersedes_it() {
    Both::new(|worker| worker.serve(stubborn::workflow()))
        .play(async |stage| {
            let id = id(stage, "stubborn");
            let run = stage.client.start("stubborn", &()).id(&id).enqueue().await.unwrap();
            assert_eq!(run.result::<String>(LIMIT).await.unwrap(), "It is green");
            let entries = entries(stage, &id).await;
            assert_eq!(shown(&entries, "thoughts"), ["I will ask. ", "That was it."], "the body ran three times");
            let answer = shown(&entries, "answer").concat();
            assert_eq!(answer, "It is blue|It is green", "the first two tries wrote the same");
            let streams = streams(&entries);
            let (thoughts, answer) = (streams.named("thoughts").unwrap(), streams.named("answer").unwrap());
            assert_eq!((thoughts.id.as_str(), thoughts.is_whole, thoughts.take), ("1.0.1", true, 1));
            assert_eq!((answer.id.as_str(), answer.is_whole, answer.take), ("1.1.1", true, 2));
            assert_eq!(done_of(&id, "answer"), 3);
            let ends = entries.iter().filter(|entry| matches!(entry.what, What::Piece { last: true, .. })).count();
            assert_eq!(ends, 2, "each ends once: {entries:?}");
        })
        .await;
}

fn done_of(run: &str, what: &str) -> u32 {
    DONE.lock().unwrap().get(&format!("{run} {what}")).copied().unwrap_or(0)
}

/// Streams until it is told to end.
struct Telling;

#[derive(Event, Serialize, Deserialize)]
struct Asked {}

#[derive(Event, Serialize, Deserialize)]
struct Told {
    answer: Value,
}

static GO: Notify = Notify::const_new();

#[workflow(start = Asked, stop = Told)]
impl Telling {
    #[step]
    async fn tell(&self, ctx: &Context, _: Asked) -> Outcome<Told> {
        let mut out = ctx.stream("answer");
        out.push("tok").await?;
        GO.notified().await;
        out.push("en").await?;
        Ok(Told { answer: json!(null) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_is_there_before_the_step_ends_for_any_redis_client() {
    Both::new(|worker| worker.serve(Telling))
        .play(async |stage| {
            let run = stage.client.start("telling", &json!({})).id("r").enqueue().await.unwrap();
            let mut follower = run.follow();
            let first = follower.next().await.unwrap().unwrap();
            assert!(matches!(&first.what, What::Piece { text, last: false, .. } if text == "tok"), "{first:?}");
            if let Some(redis) = &stage.redis {
                let read = redis_cli(&redis.url, &["XREAD", "STREAMS", "sf:{0}:events:r", "0"]);
                let fields: Vec<_> = read.lines().skip(2).collect();
                assert_eq!(fields[..10], ["n", "1", "kind", "piece", "stream", "answer", "id", "1.0.1", "take", "1"]);
                assert_eq!(fields[10..16], ["step", "tell", "seq", "1", "attempt", "1"]);
                assert_eq!(fields[18..], ["at", "0", "text", "tok"]);
            }
            GO.notify_one();
            run.result::<Value>(LIMIT).await.unwrap();
            let mut streams = Streams::default();
            streams.add(&first);
            while let Some(entry) = follower.next().await.unwrap() {
                streams.add(&entry);
            }
            let answer = streams.named("answer").unwrap();
            assert_eq!((&*answer.text, answer.is_whole), ("token", true));
        })
        .await;
}

/// This many tokens, as fast as it can.
#[durable]
async fn chatty(ctx: &Context, tokens: u32) -> Outcome<u32> {
    ctx.step("talk", || async {
        let mut out = ctx.stream("answer");
        for token in 0..tokens {
            out.push(&format!("{token} ")).await?;
        }
        out.finish().await?;
        Ok(tokens)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tokens_go_out_in_few_pieces() {
    Both::new(|worker| worker.serve(chatty::workflow()))
        .play(async |stage| {
            let run = stage.client.start("chatty", &20_000u32).id("r").enqueue().await.unwrap();
            assert_eq!(run.result::<u32>(LIMIT).await.unwrap(), 20_000);
            let entries = entries(stage, "r").await;
            let mut expected = (0..20_000).map(|token| token.to_string()).collect::<Vec<_>>().join(" ");
            expected.push(' ');
            let streams = streams(&entries);
            assert!(streams.named("answer").unwrap().text == expected && streams.all()[0].is_whole);
            // Each piece has 4 KiB or more, or they are 50 ms apart.
            assert!(entries.len() < 1000, "{} entries", entries.len());
        })
        .await;
}

/// A stream that is too long, one without a name, and one that is used after its call.
#[durable(retries = 0)]
async fn careless(ctx: &Context, (): ()) -> Outcome<Vec<String>> {
    let mut errors = Vec::new();
    let mut long = ctx.stream("long");
    long.push(&"x".repeat(1_048_576)).await?;
    errors.push(long.push("y").await.unwrap_err());
    errors.push(ctx.stream("").push("z").await.unwrap_err());
    let mut kept = None;
    ctx.step("call", || {
        let mut out = ctx.stream("inner");
        kept = Some(ctx.stream("kept"));
        async move {
            out.push("in time").await?;
            Ok(())
        }
    })
    .await?;
    // It was begun within the closure, before the work itself.
    errors.push(kept.expect("it was made").push("late").await.map_or_else(|error| error, |()| Error::terminal("none")));
    assert!(errors.iter().all(Error::is_terminal), "{errors:?}");
    Ok(errors.iter().map(ToString::to_string).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_streamed_is_told_so() {
    Both::new(|worker| worker.serve(careless::workflow()))
        .play(async |stage| {
            let run = stage.client.start("careless", &()).id("r").enqueue().await.unwrap();
            let errors: Vec<String> = run.result(LIMIT).await.unwrap();
            assert!(errors[0].contains("the stream long would exceed 1048576 bytes"), "{errors:?}");
            assert!(errors[1].contains("stream"), "{errors:?}");
            assert_eq!(streams(&entries(stage, "r").await).named("long").unwrap().text.len(), 1_048_576);
        })
        .await;
}
