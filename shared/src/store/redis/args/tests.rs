//! What is built is what the contract says, argument by argument.

use std::time::Duration;

use redis::{Arg, Cmd};

use super::*;
use crate::contract::{Form, SHORT_WAYS, TRANSITIONS};
use crate::names::{Namespace, QueueName};
use crate::step::{Fan, Join, Line, Part};
use crate::store::RedisStore;

fn texts(command: &Cmd) -> Vec<String> {
    let text = |arg| match arg {
        Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    };
    command.args_iter().map(text).collect()
}

/// Reads the arguments as the transition does; those of a list are there as often as its form says.
fn follow(name: &str, args: &[String]) {
    let transition = TRANSITIONS.iter().find(|transition| transition.name == name).unwrap();
    let mut given = args.iter();
    let mut next = |of: &str| given.next().unwrap_or_else(|| panic!("{name}: {of} is missing in {args:?}"));
    for arg in transition.args.iter().flat_map(|group| group.iter()) {
        let value = next(arg.name);
        let is_fine = match arg.form {
            Form::Text | Form::Bytes => true,
            Form::Number => value.parse::<u64>().is_ok(),
            Form::Ms => value.parse::<i64>().is_ok(),
            Form::Flag => value == "0" || value == "1",
            Form::List(of) => {
                let count: usize =
                    value.parse().unwrap_or_else(|_| panic!("{name}: {} has no length: {value}", arg.name));
                // An empty one would prove nothing about what follows.
                assert!(count > 0, "{name}: {} is empty", arg.name);
                for _ in 0..count {
                    next(arg.name);
                }
                count.is_multiple_of(of.len())
            }
        };
        assert!(is_fine, "{name}: {} is {value:?}", arg.name);
    }
    let rest: Vec<_> = given.collect();
    assert!(rest.is_empty(), "{name}: {rest:?} is too much");
}

fn call() -> Call {
    Call { worker: "worker".into(), number: 9, again: true }
}

fn step() -> Claimed {
    let line = Line::new("H 1 0 0 worker 1795312511771 8");
    let fence = Fence { run: "run".into(), seq: 3, attempt: 1, claim: 8, slot: 4, line };
    Claimed { fence, scope: 2, step: "look".into(), context_version: 7, ..Claimed::default() }
}

fn refill() -> Refill {
    Refill { next: Next::Others, after: Some(QueueName::new("rag", 1)) }
}

fn route() -> Route {
    Route { step: "next".into(), event: "E".into(), context: true, ..Route::default() }
}

fn waits() -> Vec<Wait> {
    let deadline = Some(Duration::from_secs(1));
    vec![Wait { number: 5, name: "approval".into(), deadline, filter: vec![("by".into(), "\"ann\"".into())] }]
}

fn field(name: &str) -> (String, Vec<u8>) {
    (name.to_owned(), vec![1])
}

fn commit() -> Commit {
    Commit {
        set: vec![field("a"), field("b")],
        unset: vec!["c".into()],
        merges: vec![("n".into(), Merge::Append { form: 4, bytes: vec![1] })],
        expects: vec![("a".into(), None)],
        joins: vec![field("close")],
        parts: vec![Part { route: route(), slot: 1, slots: 2, payload: vec![1] }],
        emits: vec![(route(), vec![1]), (route(), vec![2])],
        fan: Some(Fan { joins: vec![Join::all(route())], staged: 3 }),
        journalled: true,
        let_go: vec![(4, "wait".into())],
        result: Some(vec![1]),
        caught: Some("error".into()),
        ..Commit::default()
    }
}

#[test]
fn what_is_built_is_what_the_contract_says() {
    let store = RedisStore::new("redis://localhost:1", Namespace::new("sf", 0).unwrap()).unwrap();
    // FCALL, the function, the number of keys, and the key.
    let under_fence = |name, rest: &dyn Fn(&mut Cmd)| {
        let mut command = store.under_fence(name, &call(), &step(), &refill());
        rest(&mut command);
        follow(name, &texts(&command)[4..]);
    };
    under_fence("complete", &|command| commit_args(command, &step(), &commit()));
    under_fence("suspend", &|command| waits_args(command, &waits()));

    let mut claim = Cmd::new();
    call_args(&mut claim, &call());
    claim_args(&mut claim, &Claim { slots: vec![0, 4], alone: false, after: None });
    follow("claim", &texts(&claim));

    let Commit { set, unset, merges, expects, let_go, .. } = commit();
    let entries = vec![(1, vec![1])];
    let checkpoint = Checkpoint { mark: Some(1), set, unset, merges, expects, entries, let_go, waits: waits() };
    let mut command = Cmd::new();
    fence_args(&mut command, &step().fence);
    command.arg("1");
    checkpoint_args(&mut command, &checkpoint);
    follow("checkpoint", &texts(&command));

    let mut stage = Cmd::new();
    fence_args(&mut stage, &step().fence);
    stage.arg(0);
    emit_args(&mut stage, 3, &commit().emits);
    follow("stage", &texts(&stage));
}

#[test]
fn short_ways_are_built_as_the_contract_says() {
    let (step, commit, call) = (step(), commit(), call());
    let handed_over = texts(&hand_over_args(&call, &step, &commit, &commit.emits[0]));
    let ended = texts(&end_branch_args(&call, &step, &commit, &refill()));
    for (name, args) in [("hand_over", handed_over), ("end_branch", ended)] {
        let way = SHORT_WAYS.iter().find(|way| way.name == name).unwrap();
        assert_eq!(args.len(), way.args.len() + 2 * commit.set.len(), "{name}: {args:?}");
        let at = |of: &str| &args[way.args.iter().position(|arg| *arg == of).unwrap()];
        assert_eq!([at("worker"), at("call"), at("slot"), at("run"), at("number")], ["worker", "9", "4", "run", "3"]);
        assert_eq!(at("line"), step.fence.line.as_str());
        assert_eq!(at("history"), " done 3 1 look worker 1795312511771");
        match name {
            "hand_over" => assert_eq!([at("record"), at("version")], ["2 next c E\n\u{1}", "7"]),
            _ => assert_eq!([at("after"), at("scope"), at("join"), at("event")], ["rag:1", "2", "close", "\u{1}"]),
        }
    }
}
