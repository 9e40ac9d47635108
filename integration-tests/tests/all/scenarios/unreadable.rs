//! Signals and events from outside that their takers cannot read.

use stepfleet_integration_tests::double::{claim, refill, route};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_shared::history::Kind;
use stepfleet_shared::journal::Entry;
use stepfleet_shared::run::Status;
use stepfleet_shared::step::{Body, Checkpoint, Checkpointed, Sent, Signalled, Unreadable, Wait};
use stepfleet_shared::store::Store;
use stepfleet_shared::values;

use super::*;

fn wait() -> Wait {
    Wait { number: 1, name: "word".into(), deadline: Some(HOUR), ..Wait::default() }
}

/// The body got this entry, and cannot read it. A newly opened wait would have a later deadline.
fn set_aside(entry: &[u8]) -> Checkpoint {
    let unreadable =
        vec![Unreadable { number: 1, name: "word".into(), digest: values::digest(entry), why: "no word".into() }];
    let longer = Wait { deadline: Some(2 * HOUR), ..wait() };
    Checkpoint { unreadable, waits: vec![longer], ..Checkpoint::default() }
}

async fn told(store: &dyn Store) -> Vec<String> {
    let history = store.history("r", 0, 100).await.unwrap();
    history.into_iter().filter(|record| record.kind == Kind::Unreadable).map(|record| record.detail).collect()
}

fn value(answered: &Checkpointed) -> Option<u8> {
    let (_, entry) = answered.answers.first()?;
    let Ok(Entry::Signal { payload, .. }) = Entry::read(entry) else { panic!("{entry:?}") };
    payload.get(1).copied()
}

#[tokio::test]
async fn a_signal_that_is_set_aside_leaves_its_wait_open_until_its_deadline() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        store.suspend(&call("a", 2, false), &step, &[wait()], Body::Dropped, None, &refill(0)).await.unwrap();
        let due = store.waits("r").await.unwrap()[0].due_ms;
        assert_eq!(store.signal("r", "word", &[1, 1], None).await.unwrap(), Signalled::Delivered);
        let step = claim(store, "a", 3, 1).await.remove(0);
        scene.pass(LEASE / 2).await;
        let set_aside = set_aside(&step.journal[0].1);
        for _ in 0..2 {
            let answered = store.checkpoint("a", &step.fence, &set_aside).await.unwrap();
            assert_eq!(value(&answered), None);
        }
        assert_eq!(told(store).await, ["word no word"], "told twice, or not at all");
        // The journal is empty, and an audit misses nothing.
        scene.assert_sound().await;
        let open = store.waits("r").await.unwrap();
        assert_eq!(open.len(), 1);
        assert_eq!(open[0].due_ms, due, "it waits anew");
        store.suspend(&call("a", 4, false), &step, &[wait()], Body::Dropped, None, &refill(0)).await.unwrap();
        scene.pass(HOUR).await;
        store.fire(&fire()).await.unwrap();
        let history = store.history("r", 0, 100).await.unwrap();
        assert!(history.iter().any(|record| record.kind == Kind::Overdue));
    })
    .await;
}

#[tokio::test]
async fn a_reopened_wait_gets_a_kept_signal_and_a_repetition_takes_none() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        for value in [1, 2, 3] {
            store.signal("r", "word", &[1, value], None).await.unwrap();
        }
        let open = Checkpoint { waits: vec![wait()], ..Checkpoint::default() };
        let first = store.checkpoint("a", &step.fence, &open).await.unwrap();
        assert_eq!(value(&first), Some(1));
        let set_aside = set_aside(&first.answers[0].1);
        for _ in 0..2 {
            let answered = store.checkpoint("a", &step.fence, &set_aside).await.unwrap();
            assert_eq!(value(&answered), Some(2));
        }
        assert_eq!(told(store).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_event_that_is_set_aside_ends_its_step_and_not_the_run() {
    on_both(async |scene| {
        let store = scene.store();
        let first = held(scene).await;
        let events = [(route("sent"), vec![2, b'7'])];
        assert_eq!(store.send("r", &events, None).await.unwrap(), Sent::Delivered);
        let sent = claim(store, "a", 2, 1).await.remove(0);
        assert!(sent.is_outside && !first.is_outside);
        let commit = Commit { unreadable: Some("no word".into()), retention: HOUR, ..Commit::default() };
        complete(store, 3, &sent, &commit, 0).await;
        assert_eq!(told(store).await, ["no word"]);
        assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Running);
        // With nothing else to do it rests, if it may.
        store.send("r", &events, None).await.unwrap();
        let sent = claim(store, "a", 4, 1).await.remove(0);
        complete(store, 5, &first, &Commit { rests: true, retention: HOUR, ..Commit::default() }, 0).await;
        complete(store, 6, &sent, &Commit { rests: true, ..commit }, 0).await;
        assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Running);
    })
    .await;
}
