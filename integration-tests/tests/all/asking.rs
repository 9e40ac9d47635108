//! Questions that runs ask people, on whole fleets.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet::prelude::*;
use stepfleet_integration_tests::both::{Both, Stage};
use stepfleet_integration_tests::fleet::Process;
use stepfleet_integration_tests::redis::redis_cli;
use stepfleet_integration_tests::{found, until};
use stepfleet_shared::client::RunHandle;
use stepfleet_shared::history::Kind;

const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(30);

/// Asks one question after the other.
#[durable(retries = 0)]
async fn interview(ctx: &Context, (): ()) -> Outcome<Vec<String>> {
    let ship = ctx.wait_for_user(Approval::ask("Ship it?").named("ship it")).await?;
    let size = ctx.wait_for_user(Choice::ask("Which size?").option("s", "Small").option("l", "Large")).await?;
    let extras = Choices::ask("What else?").named("extras").option("box", "A box").option("card", "A card");
    let extras = ctx.wait_for_user(extras.at_least(1)).await?;
    let note = ctx.wait_for_user(Text::ask("Anything to say?").named("note").skippable()).await?;
    let by = ship.by.unwrap_or_default();
    assert!(ship.at.is_some() && note.at.is_some());
    Ok(vec![format!("{} by {by}", ship.answer), size.answer, extras.answer.join("+"), format!("{:?}", note.answer)])
}

/// The question that the run asks now.
async fn asked(run: &RunHandle, name: &str) -> String {
    found(async || run.questions().await.unwrap().into_iter().find(|open| open.question.name == name)).await.id
}

/// Why the answer was rejected.
async fn refusal(run: &RunHandle, name: &str, answer: &Value) -> String {
    let asked = run.answer(name, answer, None).await.unwrap();
    asked.taken(LIMIT).await.unwrap_err().to_string()
}

async fn answer(run: &RunHandle, name: &str, answer: &Value, by: Option<&str>) {
    run.answer(name, answer, by).await.unwrap().taken(LIMIT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn people_answer_any_question_and_learn_what_does_not_fit() {
    Both::new(|worker| worker.serve(interview::workflow()))
        .play(async |stage| {
            let run = stage.client.start("interview", &()).id("r").enqueue().await.unwrap();
            let id = asked(&run, "ship it").await;
            let listed = stage.client.questions(10).await.unwrap();
            assert_eq!((listed.len(), listed[0].run.as_str(), listed[0].question.text.as_str()), (1, "r", "Ship it?"));
            assert!(refusal(&run, "ship it", &json!("yes")).await.contains("it takes true or false"));
            assert!(
                refusal(&run, "ship", &json!(true)).await.contains("no open question ship; open questions: ship it")
            );
            assert!(refusal(&run, "ship it", &json!(null)).await.contains("it cannot be skipped"));
            assert_eq!(asked(&run, "ship it").await, id, "it stays open");
            answer(&run, "ship it", &json!(true), Some("Ann B.")).await;
            assert!(refusal(&run, &id, &json!(false)).await.contains("no open question"));

            asked(&run, "choice").await;
            assert!(refusal(&run, "choice", &json!("m")).await.contains(r#"it takes one of "s", "l""#));
            answer(&run, "choice", &json!("l"), None).await;
            asked(&run, "extras").await;
            assert!(refusal(&run, "extras", &json!([])).await.contains("a list of 1 to 2 of"));
            answer(&run, "extras", &json!(["card", "box"]), None).await;
            asked(&run, "note").await;
            answer(&run, "note", &json!(null), None).await;
            let result: Vec<String> = run.result(LIMIT).await.unwrap();
            assert_eq!(result, ["true by Ann B.", "l", "card+box", "None"]);
            assert!(stage.client.questions(10).await.unwrap().is_empty());
            assert!(refusal(&run, "ship it", &json!(true)).await.contains("has ended"));
            assert!(
                refusal(&stage.client.run("nobody"), "ship it", &json!(true)).await.contains("there is no run nobody")
            );
            let told = stage.store.history("r", 0, 100).await.unwrap();
            let answered: Vec<_> =
                told.iter().filter(|record| record.kind == Kind::Answered).map(|r| r.told().into_owned()).collect();
            assert_eq!(answered, ["ship it by Ann B.", "choice", "extras", "note"]);
        })
        .await;
}

/// What happens when nobody answers is up to the body.
#[durable(retries = 0)]
async fn hurried(ctx: &Context, (): ()) -> Outcome<Vec<String>> {
    let soon = Duration::from_millis(50);
    let fallback = ctx.wait_for_user(Approval::ask("Go?")).timeout(soon).default(false).await?;
    let other = match ctx.wait_for_user(Text::ask("What?")).timeout(soon).await {
        Err(error) if error.is_overdue() => ctx.wait_for_user(Text::ask("What, then?").named("again")).await?,
        told => told?,
    };
    let first = ctx
        .race((async { Ok(ctx.wait_for_user(Approval::ask("A?").named("a")).await?.answer.to_string()) }, async {
            Ok(ctx.wait_for_user(Text::ask("B?").named("b")).await?.answer)
        }))
        .await?;
    let nobody = ctx.wait_for_user(Choice::ask("None of these")).await.unwrap_err().to_string();
    Ok(vec![format!("{} {:?}", fallback.answer, fallback.by), other.answer, first, nobody])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_limit_has_a_default_another_question_or_an_error() {
    Both::new(|worker| worker.serve(hurried::workflow()))
        .play(async |stage| {
            let run = stage.client.start("hurried", &()).id("r").enqueue().await.unwrap();
            asked(&run, "again").await;
            answer(&run, "again", &json!("later"), None).await;
            asked(&run, "a").await;
            asked(&run, "b").await;
            answer(&run, "b", &json!("bee"), None).await;
            let result: Vec<String> = run.result(LIMIT).await.unwrap();
            assert_eq!(result[..3], ["false None", "later", "bee"]);
            assert!(result[3].contains("the question has 0 options"), "{result:?}");
            assert!(refusal(&run, "a", &json!(true)).await.contains("has ended"));
        })
        .await;
}

fn stepfleet(stage: &Stage, args: &[&str]) -> (bool, String) {
    let url = &stage.redis.as_ref().expect("there is a Redis").url;
    let output = Command::new(STEPFLEET).args(args).env("STEPFLEET_REDIS", url).output().expect("it starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn any_client_answers_while_no_worker_is_there() {
    Both::new(|worker| worker.serve(interview::workflow()))
        .play(async |stage| {
            let Some(url) = stage.redis.as_ref().map(|redis| redis.url.clone()) else { return };
            let run = stage.client.start("interview", &()).id("r").enqueue().await.unwrap();
            let id = asked(&run, "ship it").await;
            stage.stop_workers().await;
            // With plain Redis commands.
            let cli = |args: &[&str]| redis_cli(&url, args);
            assert_eq!(cli(&["ZRANGE", "sf:{0}:questions", "0", "-1"]).trim(), format!("r {id}"));
            let question: Value = serde_json::from_str(&cli(&["HGET", "sf:{0}:asked:r", &id])).unwrap();
            assert_eq!(question, json!({"name": "ship it", "text": "Ship it?", "kind": "approval"}));
            cli(&[
                "XADD",
                "sf:{0}:inbox",
                "*",
                "op",
                "answer",
                "run",
                "r",
                "question",
                "ship it",
                "input",
                "false",
                "by",
                "bob",
            ]);
            found(async || stage.client.questions(1).await.unwrap().is_empty().then_some(())).await;
            stage.add_worker();
            asked(&run, "choice").await;
            // And with the command line.
            let (is_fine, said) = stepfleet(stage, &["questions"]);
            assert!(is_fine && said.contains("run r asks choice") && said.contains("l            Large"), "{said}");
            let (is_fine, said) = stepfleet(stage, &["answer", "r", "choice", "\"xl\""]);
            assert!(!is_fine && said.contains("does not take this answer: it takes one of"), "{said}");
            let (is_fine, said) = stepfleet(stage, &["answer", "r", "choice", "large"]);
            assert!(!is_fine && said.contains("is not valid JSON") && said.contains("put text in quotes"), "{said}");
            let (is_fine, said) = stepfleet(stage, &["answer", "r", "choice", "\"s\"", "--by", "ann"]);
            assert!(is_fine && said.contains("run r has received the answer to choice"), "{said}");
            asked(&run, "extras").await;
            let (is_fine, said) = stepfleet(stage, &["questions", "--run", "r", "--json"]);
            let shown: Value = serde_json::from_str(&said).unwrap();
            assert!(is_fine && shown[0]["name"] == "extras" && shown[0]["kind"] == "choices", "{said}");
            run.cancel().await.unwrap().taken(LIMIT).await.unwrap();
            assert_eq!(stepfleet(stage, &["questions"]).1.trim(), "no question is open");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_run_is_told_what_it_asks() {
    Both::new(|worker| worker.serve(interview::workflow()))
        .play_on_redis(async |stage| {
            let run = stage.client.start("interview", &()).id("r").enqueue().await.unwrap();
            asked(&run, "ship it").await;
            let url = stage.redis.as_ref().unwrap().url.clone();
            let settings = [("STEPFLEET_REDIS", url.as_str())];
            // However late they come, and wherever they begin to read.
            let readers = [&["follow", "r"][..], &["follow", "r", "--events"], &["follow", "r", "--stream", "answer"]]
                .map(|args| Process::start(Path::new(STEPFLEET), args, &settings));
            for reader in &readers {
                until(async || reader.log().contains("r asks ship it (1.1): Ship it?; answer it with")).await;
            }
            answer(&run, "ship it", &json!(true), None).await;
            for reader in &readers {
                until(async || reader.log().contains("r asks choice")).await;
                assert_eq!(reader.log().matches("asks ship it").count(), 1, "{}", reader.log());
            }
        })
        .await;
}
