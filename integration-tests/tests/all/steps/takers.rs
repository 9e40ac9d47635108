//! Who gets an event: each step that takes it, the step that is named, and a resting run, from outside.

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::Both;
use stepfleet_shared::history::Kind;
use stepfleet_shared::run::Status;

use super::{Answered, Asked, LIMIT, answer, count, history_until};

#[derive(Event, Serialize, Deserialize)]
struct Part(u64);

#[derive(Event, Serialize, Deserialize)]
struct Number(u64);

/// Each part has two takers.
struct TwoTakers;

#[workflow(start = Asked, stop = Answered)]
impl TwoTakers {
    #[step]
    async fn parts(&self, ev: Asked) -> Outcome<Vec<Part>> {
        Ok((0..ev.n).map(Part).collect())
    }

    #[step]
    async fn once(&self, ev: Part) -> Outcome<Number> {
        Ok(Number(ev.0))
    }

    #[step]
    async fn twice(&self, ev: Part) -> Outcome<Number> {
        Ok(Number(ev.0 * 100))
    }

    #[step]
    async fn sum(&self, all: Joined<Number>) -> Outcome<Answered> {
        Ok(Answered { answer: json!(all.iter().map(|n| n.0).sum::<u64>()) })
    }
}

/// Sends parts to all takers, and more to one of them; returns who got what once nothing is left.
struct Sender;

#[derive(Event, Serialize, Deserialize)]
struct Note(String);

#[workflow(start = Asked, stop = Answered)]
impl Sender {
    #[step(sends = [Part])]
    async fn plan(&self, ctx: &Context, ev: Asked) -> Outcome<Vec<Note>> {
        match ev.n {
            0 => ctx.send_to("nobody", &Part(1))?,
            1 => ctx.send_to("gather", &Part(1))?,
            2 => ctx.send(&Note(String::new()))?,
            3 => ctx.send(&Answered { answer: Value::Null })?,
            4 => ctx.send(&ev)?,
            _ => {
                ctx.send(&Part(1))?;
                ctx.send_to("right", &Part(2))?;
            }
        }
        Ok(vec![Note("returned".into())])
    }

    #[step]
    async fn left(&self, ev: Part) -> Outcome<Note> {
        Ok(Note(format!("left {}", ev.0)))
    }

    #[step]
    async fn right(&self, ev: Part) -> Outcome<Note> {
        Ok(Note(format!("right {}", ev.0)))
    }

    #[step]
    async fn gather(&self, notes: Joined<Note>) -> Outcome<Answered> {
        let mut notes: Vec<_> = notes.iter().map(|note| note.0.clone()).collect();
        notes.sort();
        Ok(Answered { answer: json!(notes) })
    }
}

/// Waits for events from outside, as often as it takes.
struct Desk;

#[derive(Event, Serialize, Deserialize)]
struct Visitor {
    name: String,
}
#[derive(Event, Serialize, Deserialize)]
struct Close;

#[workflow(start = Asked, stop = Answered, external = [Visitor, Close])]
impl Desk {
    #[step]
    async fn open(&self, ctx: &Context, ev: Asked) -> Outcome<()> {
        ctx.state().set("open", &ev.n).await
    }

    #[step(concurrency = 1)]
    async fn greet(&self, ctx: &Context, ev: Visitor) -> Outcome<()> {
        let mut names: Vec<String> = ctx.state().get("names").await?.unwrap_or_default();
        names.push(ev.name);
        ctx.state().set("names", &names).await
    }

    #[step]
    async fn watch(&self, ctx: &Context, ev: Visitor) -> Outcome<()> {
        ctx.state().set(&format!("seen-{}", ev.name), &true).await
    }

    #[step]
    async fn close(&self, ctx: &Context, _: Close) -> Outcome<Answered> {
        let names: Option<Vec<String>> = ctx.state().get("names").await?;
        Ok(Answered { answer: json!(names) })
    }
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(TwoTakers)?.serve(Sender)?.serve(Desk)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_that_takes_an_event_gets_it() {
    Both::new(serve)
        .play(async |stage| {
            assert_eq!(answer(stage, "two_takers", 5).await, 10 + 1000);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_goes_to_all_who_take_it_or_to_the_one_that_is_named() {
    Both::new(serve)
        .play(async |stage| {
            assert_eq!(answer(stage, "sender", 9).await, json!(["left 1", "returned", "right 1", "right 2"]));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_sent_fails_the_step_at_once_and_says_why() {
    Both::new(serve)
        .play(async |stage| {
            for (n, why) in [
                (0, "step plan sends Part to step nobody, which does not exist; steps that take Part: left, right"),
                (1, "step plan sends Part to step gather, which does not take it; steps that take Part: left, right"),
                (2, "step plan sends Note and does not say so"),
                (3, "step plan sends Answered, which ends the run: return it instead"),
                (4, "step plan sends Asked without declaring it; write #[step(sends = [Asked])]"),
            ] {
                let run = stage.client.start("sender", &json!({ "n": n })).enqueue().await.unwrap();
                let end = run.wait(LIMIT).await.unwrap();
                if n == 2 {
                    // It returns notes: an event that is returned may be sent too.
                    assert_eq!(end.status, Status::Completed);
                    continue;
                }
                assert_eq!(end.status, Status::Failed);
                assert!(end.error.as_deref().unwrap().starts_with(why), "{:?}", end.error);
                assert_eq!(end.error_attempt, Some(1));
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_from_outside_while_a_run_rests() {
    Both::new(serve)
        .play(async |stage| {
            let run = stage.client.start("desk", &json!({ "n": 1 })).enqueue().await.unwrap();
            history_until(stage, run.id(), |records| count(records, Kind::Done, "open") == 1).await;
            assert_eq!(run.status().await.unwrap().unwrap().status, Status::Running);
            for name in ["ann", "bob"] {
                run.send("Visitor", &json!({ "name": name })).await.unwrap();
            }
            run.send_to(Some("watch"), "Visitor", &json!({ "name": "eve" })).await.unwrap();
            let records = history_until(stage, run.id(), |records| {
                count(records, Kind::Done, "greet") == 2 && count(records, Kind::Done, "watch") == 3
            })
            .await;
            assert!(records.iter().all(|record| record.kind != Kind::Failed));
            run.send("Nonsense", &json!({})).await.unwrap();
            run.send("Asked", &json!({ "n": 1 })).await.unwrap();
            run.send("Close", &Value::Null).await.unwrap();
            let end: Value = run.result(LIMIT).await.unwrap();
            assert_eq!(end["answer"], json!(["ann", "bob"]));
            run.send("Close", &Value::Null).await.unwrap();
            let reasons = stage.reasons(3).await;
            assert!(reasons[0].contains("no step of desk version 1 takes Nonsense by itself"), "{reasons:?}");
            assert!(reasons[1].contains("Asked is not an external event of desk version 1"), "{reasons:?}");
            assert!(reasons[2].contains("has ended: it takes no more events"), "{reasons:?}");
        })
        .await;
}
