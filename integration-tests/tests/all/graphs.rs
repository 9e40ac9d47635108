//! What callers see of the workflows that a fleet serves, on the memory store and on a real Redis, with three workers.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::graph;
use stepfleet::prelude::*;
use stepfleet::runtime::WorkerError;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::redis::connect;

const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Event, Serialize, Deserialize, JsonSchema)]
struct Asked {
    /// What to look for.
    question: String,
    most: Option<u32>,
}
#[derive(Event, Serialize, Deserialize)]
struct Lookup {
    term: String,
}
#[derive(Event, Serialize, Deserialize)]
struct Passage {
    text: String,
}
#[derive(Event, Serialize, Deserialize)]
struct Approval {
    by: String,
}
#[derive(Event, Serialize, Deserialize)]
struct Answered {
    text: String,
}
#[derive(Emit)]
enum Verdict {
    Again(Asked),
    Done(Answered),
}

struct Research;

#[workflow(start = Asked, stop = Answered, external = [Approval], version = 3)]
impl Research {
    #[step]
    async fn plan(&self, ev: Asked) -> Outcome<Vec<Lookup>> {
        let words = ev.question.split(' ').take(ev.most.unwrap_or(10) as usize);
        Ok(words.map(|term| Lookup { term: term.into() }).collect())
    }

    #[step(timeout = "30s")]
    async fn look(&self, ev: Lookup) -> Outcome<Passage> {
        Ok(Passage { text: ev.term.to_uppercase() })
    }

    #[step(retries = 0)]
    async fn judge(&self, ctx: &Context, found: Joined<Passage>) -> Outcome<Verdict> {
        let tries: u32 = ctx.state().get("tries").await?.unwrap_or(0);
        ctx.state().set("tries", &(tries + 1)).await?;
        let mut words: Vec<_> = found.into_iter().map(|passage| passage.text).collect();
        words.sort();
        let text = words.join(" ");
        Ok(if tries == 0 {
            Verdict::Again(Asked { question: text, most: None })
        } else {
            Verdict::Done(Answered { text })
        })
    }

    #[step]
    async fn approve(&self, ev: Approval) -> Outcome<Answered> {
        Ok(Answered { text: format!("as {} said", ev.by) })
    }

    #[step(catches = ["look"])]
    async fn excuse(&self, _: StepFailed) -> Outcome<Answered> {
        Ok(Answered { text: "nothing was found".into() })
    }
}

/// An earlier version of it.
struct Draft;

#[workflow(start = Asked, stop = Answered, name = "research", version = 2)]
impl Draft {
    #[step]
    async fn answer(&self, ev: Asked) -> Outcome<Answered> {
        Ok(Answered { text: ev.question })
    }
}

fn serve(worker: Worker) -> Result<Worker, WorkerError> {
    worker.serve(Research)?.serve(Draft)
}

fn stepfleet(stage: &Stage, args: &[&str]) -> Option<Output> {
    let url = &stage.redis.as_ref()?.url;
    Some(Command::new(STEPFLEET).args(args).env("STEPFLEET_REDIS", url).output().expect("it starts"))
}

fn printed(stage: &Stage, args: &[&str]) -> Option<String> {
    let output = stepfleet(stage, args)?;
    assert!(output.status.success(), "{args:?}: {output:?}");
    Some(String::from_utf8(output.stdout).expect("text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_see_what_the_fleet_serves() {
    Both::new(serve)
        .play(async |stage| {
            let workflows = stage.client.workflows().await.unwrap();
            let known: Vec<_> = workflows.iter().map(|w| (w.workflow.as_str(), w.version)).collect();
            assert_eq!(known, [("research", 2), ("research", 3)]);
            assert_eq!(workflows[1].graph, graph::of::<Research>());
            assert_eq!(workflows[1].start[0].step, "plan");
            let schemas = &workflows[1].graph.schemas;
            assert_eq!(schemas["Asked"]["properties"]["question"]["description"], "What to look for.");
            assert_eq!(schemas["Asked"]["required"], json!(["question"]));
            assert_eq!(schemas["Approval"]["properties"], json!({"by": {}}));
            assert_eq!(schemas["Answered"]["properties"], json!({"text": {}}));
            assert!(!schemas.contains_key("Lookup"), "it is the workflow's own affair");

            let input = json!({"question": "b c a", "most": 2});
            let run = stage.client.start("research", &input).enqueue().await.unwrap();
            assert_eq!(run.result::<Value>(LIMIT).await.unwrap()["text"], "B C");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_lists_and_draws_workflows() {
    Both::new(serve)
        .play(async |stage| {
            let graph = graph::of::<Research>();
            let Some(mermaid) = printed(stage, &["graph", "research"]) else { return };
            assert_eq!(mermaid, graph.mermaid("research version 3"));
            let dot = printed(stage, &["graph", "research", "--format", "dot"]).unwrap();
            assert_eq!(dot, graph.dot("research version 3"));
            let draft = printed(stage, &["graph", "research", "--version", "2"]).unwrap();
            assert_eq!(draft, graph::of::<Draft>().mermaid("research version 2"));
            let json: Value = serde_json::from_str(&printed(stage, &["graph", "research", "--json"]).unwrap()).unwrap();
            assert_eq!(json["graph"], serde_json::to_value(&graph).unwrap());

            let url = &stage.redis.as_ref().unwrap().url;
            let mut redis = connect(&redis::Client::open(url.as_str()).unwrap()).await.unwrap();
            let mut get = redis::cmd("HGET");
            let plain: String = get.arg("sf:{0}:workflows").arg("research:3").query_async(&mut redis).await.unwrap();
            assert_eq!(serde_json::from_str::<Value>(&plain).unwrap(), json, "any client reads the same");

            let list: Value = serde_json::from_str(&printed(stage, &["workflows", "--json"]).unwrap()).unwrap();
            let expected = json!({"workflow": "research", "version": 3, "workers": 3, "waiting": 0,
                "unserved_since_ms": null, "start": "Asked", "stop": "Answered", "external": ["Approval"]});
            assert_eq!(list[1], expected);

            for (args, says) in [
                (vec!["graph", "reserch"], "did you mean \"research\"? Known workflows: research"),
                (vec!["graph", "research", "--version", "7"], "no version 7; known versions: 2, 3"),
            ] {
                let refused = stepfleet(stage, &args).unwrap();
                assert!(!refused.status.success());
                assert!(String::from_utf8_lossy(&refused.stderr).contains(says), "{refused:?}");
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_that_cannot_be_read_break_nothing() {
    Both::new(serve)
        .play(async |stage| {
            if let Some(redis) = &stage.redis {
                let mut redis = redis.connection().await;
                for (name, value) in [
                    ("research:1", "{"),
                    ("a b", "{}"),
                    ("old:1", r#"{"workflow":"old","version":1,"start":[],"steps":["a"]}"#),
                    ("evil:1", r#"{"workflow":"e\"vil","version":1,"start":[]}"#),
                ] {
                    let mut set = redis::cmd("HSET");
                    let () = set.arg("sf:{0}:workflows").arg(name).arg(value).query_async(&mut redis).await.unwrap();
                }
                let () = redis::cmd("HSET")
                    .arg("sf:{0}:departed")
                    .arg("research:3")
                    .arg("x")
                    .query_async(&mut redis)
                    .await
                    .unwrap();
            }
            let known = stage.client.workflows().await.unwrap();
            assert!(known.iter().any(|w| w.version == 3) && known.iter().all(|w| w.workflow != "e\"vil"));
            let run = stage.client.start("research", &json!({"question": "a"})).enqueue().await.unwrap();
            assert_eq!(run.result::<Value>(LIMIT).await.unwrap()["text"], "A");
            if let Some(listed) = printed(stage, &["workflows"]) {
                assert!(listed.contains("research"), "{listed}");
                printed(stage, &["graph", "old"]).unwrap();
                printed(stage, &["show", run.id()]).unwrap();
            }
        })
        .await;
}

/// Its schemas are larger than a registration may be.
mod large {
    use super::{Answered, Asked, Event, Outcome, Serialize, Value, json, step, workflow};
    use serde::Deserialize;

    #[derive(Serialize, Deserialize)]
    pub(super) struct Told {}

    impl Event for Told {
        const NAME: &'static str = "Told";

        fn schema() -> Value {
            json!({"description": "x".repeat(300_000)})
        }
    }

    pub(super) struct Large;

    #[workflow(start = Asked, stop = Answered, external = [Told])]
    impl Large {
        #[step]
        async fn answer(&self, ev: Asked) -> Outcome<Answered> {
            Ok(Answered { text: ev.question })
        }
        #[step]
        async fn hear(&self, _: Told) -> Outcome<()> {
            Ok(())
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_that_are_too_large_are_left_out() {
    Both::new(|worker| worker.serve(large::Large))
        .play(async |stage| {
            let known = stage.client.workflows().await.unwrap();
            assert_eq!((known.len(), known[0].graph.steps.len()), (1, 2));
            assert!(known[0].graph.schemas.is_empty());
            let run = stage.client.start("large", &json!({"question": "a"})).enqueue().await.unwrap();
            assert_eq!(run.result::<Value>(LIMIT).await.unwrap()["text"], "a");
        })
        .await;
}

/// Its second step waits for an event that no step returns, and its join for one that never comes out of a fan-out.
struct Wrong;

#[workflow(start = Asked, stop = Answered)]
impl Wrong {
    #[step]
    async fn plan(&self, ev: Asked) -> Outcome<Passage> {
        Ok(Passage { text: ev.question })
    }

    #[step]
    async fn look(&self, ev: Lookup) -> Outcome<Passage> {
        Ok(Passage { text: ev.term })
    }

    #[step]
    async fn judge(&self, found: Joined<Passage>) -> Outcome<Answered> {
        Ok(Answered { text: found.iter().map(|passage| passage.text.as_str()).collect() })
    }
}

#[test]
fn a_worker_does_not_start_with_a_graph_that_cannot_work() {
    let worker = || Worker::connect("redis://127.0.0.1:1").unwrap();
    let Err(WorkerError::Graph(refused)) = worker().serve(Wrong) else { panic!("it is served") };
    let [look, judge] = refused.mistakes() else { panic!("{refused}") };
    assert!(look.contains("step look is never reached") && look.contains("Lookup"), "{look}");
    assert!(judge.contains("step judge takes Joined<Passage>") && judge.contains("return a Vec"), "{judge}");
    assert_eq!(graph::check::<Wrong>(), Err(refused));
    graph::check::<Research>().unwrap();
}
