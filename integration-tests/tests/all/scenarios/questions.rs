//! Questions for people: which are open, and what happens to answers.

use stepfleet_integration_tests::double::{call, claim, refill};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_shared::names;
use stepfleet_shared::question::{Question, Takes};
use stepfleet_shared::step::{Answered, Body, Checkpoint, Failure, LetGo, Retried, Wait};
use stepfleet_shared::store::{AnswerTo, Origin};

use super::waits::in_order;
use super::*;

/// A wait for the answer to a yes-or-no question.
pub(super) fn asks(number: u64, name: &str, deadline: Option<Duration>) -> Wait {
    let (name, text) = (name.to_owned(), "Is it?".to_owned());
    let question = Question::new(name, text, Takes::Approval);
    let written = serde_json::to_vec(&question).unwrap();
    Wait { number, name: names::question(&question.name), deadline, question: written, ..Wait::default() }
}

const MINUTE: Duration = Duration::from_secs(60);

/// The names of open questions, of one run or of all.
async fn open(store: &dyn Store, run: Option<&str>) -> Vec<String> {
    let open = store.questions(run, 0, 100).await.unwrap();
    open.into_iter().map(|open| format!("{} {} {}", open.run, open.id, open.question.name)).collect()
}

async fn answer(store: &dyn Store, question: &str, name: &str) -> Answered {
    let answer = AnswerTo { question, name, payload: b"\x02{}", by: "ann" };
    store.answer("r", &answer, None).await.unwrap()
}

async fn suspend(scene: &Scene, number: u64, step: &Claimed, waits: &[Wait]) {
    scene.store().suspend(&call("a", number, false), step, waits, Body::Dropped, None, &refill(0)).await.unwrap();
    scene.assert_sound().await;
}

#[tokio::test]
async fn a_question_is_open_until_it_is_answered_and_takes_one_answer() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let waits = [asks(1, "ship it", None), asks(2, "size", Some(HOUR))];
        store
            .checkpoint("a", &step.fence, &Checkpoint { waits: waits.to_vec(), ..Checkpoint::default() })
            .await
            .unwrap();
        assert_eq!(open(store, None).await, ["r 1.1 ship it", "r 1.2 size"]);
        assert_eq!(open(store, Some("r")).await.len(), 2);
        assert!(open(store, Some("other")).await.is_empty());
        let shown = store.questions(None, 1, 1).await.unwrap().remove(0);
        assert_eq!((shown.id.as_str(), shown.due_ms), ("1.2", Some(shown.asked_ms + 3_600_000)));
        suspend(scene, 2, &step, &waits).await;
        assert_eq!(answer(store, "1.1", "size").await, Answered::Closed, "it has another name");
        assert_eq!(answer(store, "1.1", "ship it").await, Answered::Answered);
        assert_eq!(answer(store, "1.1", "ship it").await, Answered::Closed);
        assert_eq!(open(store, None).await, ["r 1.2 size"]);
        let again = claim(store, "a", 3, 1).await.remove(0);
        assert_eq!(in_order(&again), [(1, b"w%ask.ship%20it \n\x02{}".to_vec())]);
        let history = store.history("r", 0, 100).await.unwrap();
        let told: Vec<_> = history.iter().map(|record| format!("{} {}", record.kind.as_str(), record.told())).collect();
        for line in ["asked ship it", "asked size", "answered ship it by ann"] {
            assert!(told.iter().any(|told| told == line), "{told:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_question_that_nobody_can_answer_any_more_is_not_listed() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let waits = [asks(1, "late", Some(MINUTE)), asks(2, "dropped", None), asks(3, "kept", None)];
        suspend(scene, 2, &step, &waits).await;
        scene.pass(MINUTE).await;
        store.fire(&fire()).await.unwrap();
        assert_eq!(open(store, None).await, ["r 1.2 dropped", "r 1.3 kept"]);
        let step = claim(store, "a", 3, 1).await.remove(0);
        let let_go = vec![LetGo { number: 2, name: names::question("dropped"), given: 0 }];
        store.checkpoint("a", &step.fence, &Checkpoint { let_go, ..Checkpoint::default() }).await.unwrap();
        assert_eq!(open(store, None).await, ["r 1.3 kept"]);
        let failure = Failure::Fail { error: "e".into(), retention: HOUR, forget: Vec::new(), upon: None };
        store.fail(&call("a", 4, false), &step, &failure, &refill(0)).await.unwrap();
        assert!(open(store, None).await.is_empty());
        assert_eq!(answer(store, "1.3", "kept").await, Answered::Over);
        assert_eq!(store.retry("r", None, None).await.unwrap(), Retried::GoesOn);
        assert_eq!(open(store, None).await, ["r 1.3 kept"], "who is asked again is asked the same");
        store.cancel("r", None, HOUR).await.unwrap();
        assert!(open(store, None).await.is_empty());
        scene.pass(HOUR).await;
        store.fire(&fire()).await.unwrap();
        assert_eq!(answer(store, "1.3", "kept").await, Answered::Unknown);
    })
    .await;
}

#[tokio::test]
async fn an_answer_with_an_id_is_taken_once() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        suspend(scene, 2, &step, &[asks(1, "stage", None), asks(2, "stage", None)]).await;
        let origin = Origin::request("q");
        let to = |question| AnswerTo { question, name: "stage", payload: b"\x02{}", by: "" };
        assert_eq!(store.answer("r", &to("1.1"), Some(&origin)).await.unwrap(), Answered::Answered);
        assert_eq!(store.answer("r", &to("1.2"), Some(&origin)).await.unwrap(), Answered::Repeated);
        assert_eq!(open(store, None).await, ["r 1.2 stage"]);
    })
    .await;
}
