//! Forks: runs that continue from a point of others, which stay as they are.

use stepfleet_integration_tests::double::{claim, emit, fan, joins, refill, route, stop};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_shared::history::Kind;
use stepfleet_shared::journal::fork::{Kept, kept_before};
use stepfleet_shared::journal::{Entry, FIRST_ORDER};
use stepfleet_shared::run::Status;
use stepfleet_shared::step::{Checkpoint, Failure, Forked, LetGo, Part};
use stepfleet_shared::store::{Fork, ForkPoint, ForkSource, Origin, Rejection, Start};

use super::*;

async fn point(store: &dyn Store, seq: Option<u64>) -> ForkSource {
    match store.forkable("r", seq).await.unwrap() {
        ForkPoint::At(source) => source,
        other => panic!("{other:?}"),
    }
}

/// Why it cannot be forked there.
async fn refusal(store: &dyn Store, seq: Option<u64>) -> String {
    match store.forkable("r", seq).await.unwrap() {
        ForkPoint::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

/// A fork of the run `r`, as a coordinator asks for it.
async fn prepared(store: &dyn Store, id: &str, seq: Option<u64>, call: Option<u64>) -> Fork {
    let ForkSource { is_start, seq, heads, .. } = point(store, seq).await;
    let routes = if is_start { vec![route("first")] } else { vec![] };
    let entries = kept_before(&heads, call, false).unwrap();
    Fork { asked: "r".into(), id: id.into(), is_start, seq, call, routes, entries, ..Fork::default() }
}

async fn fork(scene: &Scene, id: &str, seq: Option<u64>, call: Option<u64>) {
    let store = scene.store();
    let prepared = prepared(store, id, seq, call).await;
    assert_eq!(store.fork(&prepared, None).await.unwrap(), Forked::Made);
    scene.assert_sound().await;
}

/// All that can be claimed of a run.
async fn of(store: &dyn Store, run: &str, number: u64) -> Vec<Claimed> {
    claim(store, "a", number, 20).await.into_iter().filter(|step| step.fence.run == run).collect()
}

async fn status(store: &dyn Store, run: &str) -> Status {
    store.run(run).await.unwrap().unwrap().status
}

async fn told(store: &dyn Store, run: &str) -> Vec<(u64, String)> {
    let history = store.history(run, 0, 100).await.unwrap();
    let forked = history.into_iter().filter(|record| record.kind == Kind::Forked);
    forked.map(|record| (record.seq, record.detail)).collect()
}

fn value(name: &str) -> Vec<u8> {
    Entry::Value { name, order: "", payload: name.as_bytes() }.write()
}

fn records(names: &[&str]) -> Checkpoint {
    Checkpoint { entries: (1..).zip(names.iter().map(|name| value(name))).collect(), ..Checkpoint::default() }
}

fn journal(step: &Claimed) -> Vec<(u64, Vec<u8>)> {
    let mut journal = step.journal.clone();
    journal.sort();
    journal
}

/// The run `r`, whose only step has recorded `a`, `b` and `c`.
async fn recorded(scene: &Scene, start: &Start) -> Claimed {
    let store = scene.store();
    join_fleet(store, "a", Duration::MAX).await;
    store.start(start).await.unwrap();
    let step = claim(store, "a", 1, 1).await.remove(0);
    store.checkpoint("a", &step.fence, &records(&["a", "b", "c"])).await.unwrap();
    step
}

fn failure() -> Failure {
    Failure::Fail { error: "wrong".into(), retention: HOUR, forget: Vec::new(), upon: None }
}

async fn keys(scene: &Scene, pattern: &str) -> Vec<String> {
    let Some(redis) = scene.redis() else { return vec![] };
    let mut connection = redis.connection().await;
    redis::cmd("KEYS").arg(pattern).query_async(&mut connection).await.unwrap()
}

#[tokio::test]
async fn a_fork_has_the_records_before_the_call_in_any_state_of_the_run() {
    on_both(async |scene| {
        for ends in ["no", "completes", "fails", "is cancelled"] {
            let store = scene.store();
            let step = recorded(scene, &start("r")).await;
            let commit = Commit { journalled: true, ..stop() };
            match ends {
                "completes" => drop(complete(store, 2, &step, &commit, 0).await),
                "fails" => drop(store.fail(&call("a", 2, false), &step, &failure(), &refill(0)).await.unwrap()),
                "is cancelled" => drop(store.cancel("r", None, HOUR).await.unwrap()),
                _ => {}
            }
            let before = (status(store, "r").await, store.history("r", 0, 100).await.unwrap());
            fork(scene, "at-3", None, Some(3)).await;
            fork(scene, "whole", None, None).await;
            fork(scene, "at-1", Some(1), Some(1)).await;
            assert_eq!(status(store, "at-3").await, Status::Queued);
            for (n, (id, names)) in
                [("at-3", &["a", "b"][..]), ("whole", &["a", "b", "c"]), ("at-1", &[])].into_iter().enumerate()
            {
                let number = 3 + n as u64;
                let begun = claim(store, "a", number, 1).await.remove(0);
                assert_eq!((&*begun.fence.run, begun.fence.seq, &*begun.step), (id, 1, "first"), "{ends}");
                assert_eq!(journal(&begun), records(names).entries, "{ends}");
                assert_eq!((&*begun.payload, begun.failures), (&b"\x02{}"[..], 0));
                assert_eq!(status(store, id).await, Status::Running);
                complete(store, 10 + number, &begun, &commit, 0).await;
                assert_eq!(status(store, id).await, Status::Completed);
            }
            assert_eq!(told(store, "at-3").await, [(1, "from r at call 3".to_owned())]);
            let expected = ["to at-3 at call 3", "to whole", "to at-1 at call 1"].map(|told| (1, told.to_owned()));
            assert_eq!(told(store, "r").await, expected);
            let mut after = store.history("r", 0, 100).await.unwrap();
            after.retain(|record| record.kind != Kind::Forked);
            assert_eq!((status(store, "r").await, after), before);
            // A fork can be forked.
            let source = store.forkable("at-3", None).await.unwrap();
            assert!(matches!(source, ForkPoint::At(source) if source.heads.len() == 2));
            if ends == "no" {
                complete(store, 40, &step, &commit, 0).await;
            }
            scene.pass(2 * HOUR).await;
            scene.pass(7 * 24 * HOUR).await;
            store.fire(&fire()).await.unwrap();
            assert_eq!(keys(scene, "sf:{0}:*r*:r*").await, [""; 0], "nothing is left of it");
            assert_eq!(keys(scene, "sf:{0}:journal:*").await, [""; 0]);
            assert!(store.run("r").await.unwrap().is_none());
        }
    })
    .await;
}

#[tokio::test]
async fn a_fork_from_the_start_has_what_the_context_began_with() {
    on_both(async |scene| {
        let store = scene.store();
        let begins = Start { context: vec![("a".into(), b"1".to_vec())], ..start("r") };
        let step = recorded(scene, &begins).await;
        let commit = Commit { journalled: true, set: vec![("a".into(), b"2".to_vec())], ..stop() };
        complete(store, 2, &step, &commit, 0).await;
        assert_eq!(store.context("r").await.unwrap(), [("a".to_owned(), b"2".to_vec())]);
        fork(scene, "f", None, Some(2)).await;
        assert_eq!(store.context("f").await.unwrap(), [("a".to_owned(), b"1".to_vec())]);
        let begun = claim(store, "a", 3, 1).await.remove(0);
        assert_eq!(begun.context.len(), 1);
        complete(store, 4, &begun, &commit, 0).await;
        assert_eq!(store.context("f").await.unwrap(), [("a".to_owned(), b"2".to_vec())]);
        scene.pass(HOUR).await;
        store.fire(&fire()).await.unwrap();
        assert_eq!(keys(scene, "sf:{0}:begun:*").await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn an_entry_says_nothing_of_later_calls_in_a_fork() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", Duration::MAX).await;
        store.start(&start("r")).await.unwrap();
        let step = claim(store, "a", 1, 1).await.remove(0);
        // The body got the result of the second call before that of the first.
        let value = |order| Entry::Value { name: "v", order, payload: b"\n1\n" }.write();
        let entries = vec![(2, value("0")), (1, value("0+2")), (3, value("0:2,1"))];
        store.checkpoint("a", &step.fence, &Checkpoint { entries, ..Checkpoint::default() }).await.unwrap();
        fork(scene, "at-2", None, Some(2)).await;
        fork(scene, "at-3", None, Some(3)).await;
        let begun = claim(store, "a", 2, 2).await;
        let found: Vec<_> = begun.iter().map(journal).collect();
        let order = (FIRST_ORDER + 1, Entry::Order { order: "0:2,1" }.write());
        let both = vec![(1, value("0+2")), (2, value("0")), order];
        assert_eq!(found, [vec![(1, value("0"))], both]);
    })
    .await;
}

#[tokio::test]
async fn what_was_let_go_of_at_the_end_is_known_to_a_fork() {
    on_both(async |scene| {
        let store = scene.store();
        let step = recorded(scene, &start("r")).await;
        let let_go = vec![LetGo { number: 4, name: "d".into(), given: 3 }];
        complete(store, 2, &step, &Commit { journalled: true, let_go, ..stop() }, 0).await;
        let heads = point(store, None).await.heads;
        assert_eq!(heads[&4], b"xd 3");
        assert_eq!(heads[&1], b"sa");
    })
    .await;
}

#[tokio::test]
async fn a_step_that_failed_begins_a_fork_with_the_context_as_it_stands() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", Duration::MAX).await;
        store.start(&start("r")).await.unwrap();
        let first = claim(store, "a", 1, 1).await.remove(0);
        let mut commit = emit(&["next"]);
        commit.set.push(("done".into(), b"7".to_vec()));
        let next = complete(store, 2, &first, &commit, 1).await.remove(0);
        store.checkpoint("a", &next.fence, &records(&["a", "b"])).await.unwrap();
        store.fail(&call("a", 3, false), &next, &failure(), &refill(0)).await.unwrap();
        let found = point(store, None).await;
        assert_eq!((found.is_start, found.seq, &*found.step, found.heads.len()), (false, 2, "next", 2));
        fork(scene, "f", None, Some(2)).await;
        let other = Fork { event: Some(b"\x027".to_vec()), ..prepared(store, "g", Some(2), None).await };
        assert_eq!(store.fork(&other, None).await.unwrap(), Forked::Made);
        let forks = [("f", &[1, 0xc0][..], &["a"][..]), ("g", b"\x027", &["a", "b"])];
        let mut begun = claim(store, "a", 4, 9).await;
        for (n, (id, payload, names)) in forks.into_iter().enumerate() {
            let run = store.run(id).await.unwrap().unwrap();
            assert!(run.status == Status::Running && run.started_ms.is_some());
            let begun = begun.remove(0);
            assert_eq!((&*begun.fence.run, begun.fence.seq, &*begun.step), (id, 2, "next"));
            assert_eq!((&*begun.payload, journal(&begun)), (payload, records(names).entries));
            assert_eq!(&*begun.context[0].1, b"7");
            // Later calls have new numbers.
            complete(store, 10 + n as u64, &begun, &emit(&["last"]), 0).await;
            let after = of(store, id, 15 + n as u64).await.remove(0);
            assert_eq!(after.fence.seq, 3);
            complete(store, 20 + n as u64, &after, &stop(), 0).await;
            assert_eq!(status(store, id).await, Status::Completed);
        }
        assert_eq!(status(store, "r").await, Status::Failed);
        // From the start: the fork keeps nothing that the first step had recorded.
        fork(scene, "anew", Some(1), None).await;
        let begun = of(store, "anew", 30).await.remove(0);
        assert_eq!((begun.fence.seq, begun.fence.attempt, begun.context.len()), (1, 1, 0));
        let why = refusal(store, Some(3)).await;
        assert!(why.contains("has committed or never existed"), "{why}");
    })
    .await;
}

#[tokio::test]
async fn a_fork_of_a_join_reads_what_was_joined_and_so_does_its_source() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", Duration::MAX).await;
        store.start(&start("r")).await.unwrap();
        let first = claim(store, "a", 1, 1).await.remove(0);
        let branches = complete(store, 2, &first, &fan(&["branch"; 2], &["join"], 0), 2).await;
        let why = refusal(store, Some(branches[0].fence.seq)).await;
        assert!(why.contains("is a branch of a fan-out"), "{why}");
        let found = store.forkable("r", None).await.unwrap();
        assert_eq!(found, ForkPoint::Several(vec![(2, "branch".to_owned()), (3, "branch".to_owned())]));
        complete(store, 3, &branches[0], &joins("join", 1), 0).await;
        let join = complete(store, 4, &branches[1], &joins("join", 2), 1).await.remove(0);
        fork(scene, "f", None, None).await;
        let forked = of(store, "f", 5).await.remove(0);
        for (number, step) in [(6, forked), (7, join)] {
            let events = store.joined(&step, &step.joined.clone().unwrap(), 0, 9).await.unwrap();
            assert_eq!(events, [vec![1, 1], vec![1, 2]], "{:?}", step.fence);
            complete(store, number, &step, &stop(), 0).await;
            assert_eq!(status(store, &step.fence.run).await, Status::Completed);
        }
    })
    .await;
}

#[tokio::test]
async fn parts_of_sets_that_wait_for_others_wait_in_the_fork_too() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", Duration::MAX).await;
        store.start(&start("r")).await.unwrap();
        let first = claim(store, "a", 1, 1).await.remove(0);
        let part = |slot, payload| Part { route: route("both"), slot, slots: 2, payload };
        let commit = Commit { parts: vec![part(1, vec![1, 1])], ..emit(&["next"]) };
        let next = complete(store, 2, &first, &commit, 1).await.remove(0);
        fork(scene, "f", Some(2), None).await;
        let forked = of(store, "f", 3).await.remove(0);
        for (number, step) in [(4, forked), (5, next)] {
            let commit = Commit { parts: vec![part(2, vec![1, 2])], ..emit(&[]) };
            let both = complete(store, number, &step, &commit, 1).await.remove(0);
            assert_eq!(both.parts, Some(vec![vec![1, 1], vec![1, 2]]), "{:?}", both.fence);
            complete(store, 10 + number, &both, &stop(), 0).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_forked_is_refused_with_the_reason() {
    on_both(async |scene| {
        let store = scene.store();
        let step = recorded(scene, &start("r")).await;
        let wanted = prepared(store, "f", None, Some(2)).await;
        let ask = async |fork: &Fork| store.fork(fork, None).await.unwrap();
        let packed = Fork { event: Some(b"\x01\x80".to_vec()), ..wanted.clone() };
        assert!(matches!(ask(&packed).await, Forked::Refused(why) if why.ends_with("encoded as json")));
        let stale = Kept { number: 1, head: b"wother".to_vec(), becomes: b"wother".to_vec() };
        assert_eq!(ask(&Fork { entries: vec![stale], ..wanted.clone() }).await, Forked::Changed);
        assert_eq!(ask(&Fork { is_start: false, ..wanted.clone() }).await, Forked::Changed);
        store.start(&start("other")).await.unwrap();
        assert_eq!(ask(&Fork { id: "other".into(), ..wanted.clone() }).await, Forked::Taken);
        store.defer(&start("held")).await.unwrap();
        assert_eq!(ask(&Fork { id: "held".into(), ..wanted.clone() }).await, Forked::Taken);
        assert_eq!(ask(&Fork { asked: "held".into(), ..wanted.clone() }).await, Forked::Held);
        assert_eq!(ask(&Fork { asked: "nobody".into(), ..wanted.clone() }).await, Forked::Unknown);
        assert_eq!(store.forkable("held", None).await.unwrap(), ForkPoint::Held);
        assert_eq!(store.forkable("nobody", None).await.unwrap(), ForkPoint::Unknown);
        let rejection = Rejection { run: Some("bad".into()), reason: "bad".into(), ..Rejection::default() };
        store.reject(&rejection).await.unwrap();
        assert!(matches!(ask(&Fork { asked: "bad".into(), ..wanted.clone() }).await, Forked::Refused(_)));
        // The id of a rejected request is free.
        assert_eq!(ask(&Fork { id: "bad".into(), ..wanted.clone() }).await, Forked::Made);
        assert_eq!(status(store, "bad").await, Status::Queued);
        complete(store, 2, &step, &Commit { journalled: true, ..emit(&["next"]) }, 0).await;
        assert_eq!(ask(&wanted).await, Forked::Changed, "its journal is gone");
        assert_eq!(store.run("f").await.unwrap().map(|run| run.id), None);
    })
    .await;
}

#[tokio::test]
async fn a_repeated_request_has_no_second_effect() {
    on_both(async |scene| {
        let store = scene.store();
        recorded(scene, &start("r")).await;
        let wanted = prepared(store, "f", None, Some(2)).await;
        let with_id = Origin::request("q");
        assert_eq!(store.fork(&wanted, Some(&with_id)).await.unwrap(), Forked::Made);
        assert_eq!(store.fork(&wanted, Some(&with_id)).await.unwrap(), Forked::Repeated);
        assert_eq!(store.fork(&wanted, None).await.unwrap(), Forked::Known);
        let entry = Origin::entry(store.enqueue(&[(b"op".to_vec(), b"fork".to_vec())]).await.unwrap());
        let another = Fork { id: "g".into(), ..wanted };
        assert_eq!(store.fork(&another, Some(&entry)).await.unwrap(), Forked::Made);
        assert_eq!(store.fork(&another, Some(&entry)).await.unwrap(), Forked::Gone);
        assert_eq!(told(store, "r").await.len(), 2);
        assert_eq!(claim(store, "a", 2, 9).await.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_fork_has_its_own_timeout_and_outlives_its_source() {
    on_both(async |scene| {
        let store = scene.store();
        let step = recorded(scene, &start("r")).await;
        complete(store, 2, &step, &Commit { journalled: true, ..stop() }, 0).await;
        let wanted = prepared(store, "f", None, Some(2)).await;
        store.fork(&Fork { timeout: Some(3 * HOUR), ..wanted }, None).await.unwrap();
        scene.pass(2 * HOUR).await;
        store.fire(&fire()).await.unwrap();
        assert!(store.run("r").await.unwrap().is_none());
        let begun = claim(store, "a", 3, 1).await.remove(0);
        assert_eq!(journal(&begun), records(&["a"]).entries);
        scene.assert_sound().await;
        scene.pass(HOUR).await;
        store.fire(&fire()).await.unwrap();
        assert_eq!(status(store, "f").await, Status::Failed);
    })
    .await;
}

#[tokio::test]
async fn a_fork_that_began_with_a_later_step_is_forked_there_while_that_is_kept() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", Duration::MAX).await;
        store.start(&start("source")).await.unwrap();
        let first = claim(store, "a", 1, 1).await.remove(0);
        let next = complete(store, 2, &first, &emit(&["next"]), 1).await.remove(0);
        store.fail(&call("a", 3, false), &next, &failure(), &refill(0)).await.unwrap();
        let wanted = Fork { asked: "source".into(), id: "r".into(), is_start: false, seq: 2, ..Fork::default() };
        assert_eq!(store.fork(&wanted, None).await.unwrap(), Forked::Made);
        assert_eq!(point(store, None).await.seq, 2);
        let begun = of(store, "r", 4).await.remove(0);
        complete(store, 5, &begun, &stop(), 0).await;
        let why = refusal(store, None).await;
        assert!(why.contains("it began as a fork from step execution 2"), "{why}");
    })
    .await;
}
