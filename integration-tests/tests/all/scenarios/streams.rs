//! Streams of text: what followers see when several attempts write them.

use stepfleet_integration_tests::double::{claim, emit};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_shared::published::{MAX_STREAM, Piece, Position, Streams, What};
use stepfleet_shared::step::CommitStatus;

use super::*;

fn piece(at: u64, text: &str) -> Piece {
    Piece { number: 1, step: "first".into(), stream: "answer".into(), at, text: text.into(), ..Piece::default() }
}

fn last(at: u64, text: &str) -> Piece {
    Piece { last: true, ..piece(at, text) }
}

/// By the worker of the attempt: workers are named by the alphabet.
async fn write(store: &dyn Store, step: &Claimed, piece: &Piece) {
    let worker = ["a", "b", "c", "d"][step.fence.attempt as usize - 1];
    assert_eq!(store.stream(worker, &step.fence, piece).await.unwrap(), CommitStatus::Committed);
}

/// The entries, and the text that a follower gets from them.
async fn told(store: &dyn Store) -> (Vec<String>, Streams) {
    let (mut lines, mut streams) = (Vec::new(), Streams::default());
    for entry in store.published("r", Position::BEGINNING, 1000).await.unwrap() {
        streams.add(&entry);
        lines.push(match entry.what {
            What::Piece { id, take, at, text, last, by, .. } => {
                format!("{id} {take} {at} {text}{} by {}", if last { "." } else { "" }, by.attempt)
            }
            What::Superseded { id, take, by, .. } => format!("{id} {take} superseded by {}", by.attempt),
            other => format!("{other:?}"),
        });
    }
    (lines, streams)
}

/// The worker gives the step back, and another takes over.
async fn next_attempt(store: &dyn Store, from: &str, step: &Claimed, to: &str) -> Claimed {
    assert_eq!(store.release(from, std::slice::from_ref(&step.fence)).await.unwrap(), 1);
    join_fleet(store, to, LEASE).await;
    claim(store, to, 1, 1).await.remove(0)
}

#[tokio::test]
async fn an_attempt_that_writes_the_same_adds_what_is_new() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        for part in [piece(0, "Hel"), piece(3, "lo"), piece(3, "lo")] {
            write(store, &step, &part).await;
        }
        let heir = next_attempt(store, "a", &step, "b").await;
        for part in [piece(0, "Hello wo"), last(8, "rld"), last(8, "rld")] {
            write(store, &heir, &part).await;
        }
        let (lines, streams) = told(store).await;
        assert_eq!(
            lines,
            ["1.0.1 1 0 Hel by 1", "1.0.1 1 3 lo by 1", "1.0.1 1 5  wo by 2", "1.0.1 1 8 rld. by 2"],
            "each once"
        );
        let answer = streams.named("answer").unwrap();
        assert_eq!((&*answer.text, answer.is_whole), ("Hello world", true));
    })
    .await;
}

#[tokio::test]
async fn an_attempt_that_writes_something_else_supersedes_the_earlier_text() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        write(store, &step, &piece(0, "Hello world")).await;
        let heir = next_attempt(store, "a", &step, "b").await;
        for part in [piece(0, "Hello "), piece(6, "moon"), piece(6, "moon")] {
            write(store, &heir, &part).await;
        }
        let third = next_attempt(store, "b", &heir, "c").await;
        // Less than before, and nothing follows.
        for part in [piece(0, "Hello "), last(6, "")] {
            write(store, &third, &part).await;
        }
        let fourth = next_attempt(store, "c", &third, "d").await;
        // More than the whole.
        write(store, &fourth, &last(0, "Hello you")).await;
        let expected = [
            "1.0.1 1 0 Hello world by 1",
            "1.0.1 2 superseded by 2",
            "1.0.1 2 0 Hello moon by 2",
            "1.0.1 3 superseded by 3",
            "1.0.1 3 0 Hello . by 3",
            "1.0.1 4 superseded by 4",
            "1.0.1 4 0 Hello you. by 4",
        ];
        let (lines, streams) = told(store).await;
        assert_eq!(
            (lines, &*streams.named("answer").unwrap().text),
            (expected.map(str::to_owned).to_vec(), "Hello you")
        );
    })
    .await;
}

#[tokio::test]
async fn a_text_of_many_blocks_is_compared_to_its_last_byte() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let text = (0..2000u32).map(|n| n.to_string()).collect::<Vec<_>>().join(" ä ");
        let mut at = 0;
        for part in text.as_bytes().chunks(1501) {
            // Cut in the middle of a letter or not: stores count bytes.
            let part = String::from_utf8_lossy(part).into_owned();
            write(store, &step, &piece(at, &part)).await;
            at += part.len() as u64;
        }
        let (_, streams) = told(store).await;
        let whole = streams.named("answer").unwrap().text.clone();
        let heir = next_attempt(store, "a", &step, "b").await;
        let before = told(store).await.0.len();
        write(store, &heir, &piece(0, &whole)).await;
        assert_eq!(told(store).await.0.len(), before, "it is there already");
        let other = format!("{}!", &whole[..whole.len() - 1]);
        write(store, &heir, &piece(0, &other)).await;
        let (lines, streams) = told(store).await;
        assert_eq!((lines.len(), &streams.named("answer").unwrap().text), (before + 2, &other));
        let rest = "x".repeat(MAX_STREAM - other.len());
        write(store, &heir, &last(other.len() as u64, &rest)).await;
        assert_eq!(told(store).await.1.named("answer").unwrap().text.len(), MAX_STREAM);
    })
    .await;
}

#[tokio::test]
async fn an_attempt_that_is_over_writes_nothing() {
    on_both(async |scene| {
        let store = scene.store();
        let zombie = held(scene).await;
        write(store, &zombie, &piece(0, "one")).await;
        let heir = next_attempt(store, "a", &zombie, "b").await;
        for fence in [&zombie.fence, &heir.fence] {
            assert_eq!(store.stream("a", fence, &piece(3, " two")).await.unwrap(), CommitStatus::Fenced);
        }
        write(store, &heir, &piece(0, "one")).await;
        double::complete(store, &call("b", 2, false), &heir, &emit(&["second"]), 0).await;
        assert_eq!(store.stream("b", &heir.fence, &piece(3, " two")).await.unwrap(), CommitStatus::Fenced);
        assert_eq!(told(store).await.0[0], "1.0.1 1 0 one by 1");
        assert_eq!(told(store).await.1.named("answer").unwrap().text, "one");
    })
    .await;
}

#[tokio::test]
async fn what_is_remembered_of_streams_has_a_bound_and_recorded_calls_make_room() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let of = |number: u64, text: &str| Piece { call: 3, number, ..piece(0, text) };
        // Each takes one field for its state, and one for its text.
        for number in 1..=5000 {
            write(store, &step, &of(number, "x")).await;
        }
        let refused = store.stream("a", &step.fence, &of(5001, "x")).await.unwrap_err();
        assert!(refused.is_too_large() && refused.to_string().contains("ctx.step"), "{refused}");
        write(store, &step, &of(5000, "xy")).await;
        let done = (1..=10).map(|number| format!("3.{number}")).collect();
        write(store, &step, &Piece { done, ..of(5001, "x") }).await;
        scene.assert_sound().await;
        if let Some(redis) = scene.redis() {
            let mut connection = redis.connection().await;
            let fields: u64 =
                redis::cmd("HLEN").arg("sf:{0}:published:r:1").query_async(&mut connection).await.unwrap();
            assert_eq!(fields, 10_000 - 20 + 2);
        }
        let mut commit = emit(&["second"]);
        commit.has_traces = true;
        complete(store, 2, &step, &commit, 0).await;
        if let Some(redis) = scene.redis() {
            let mut connection = redis.connection().await;
            let left: u64 =
                redis::cmd("EXISTS").arg("sf:{0}:published:r:1").query_async(&mut connection).await.unwrap();
            assert_eq!(left, 0, "it is forgotten with the step");
        }
        scene.assert_sound().await;
    })
    .await;
}
