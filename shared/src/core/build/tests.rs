//! The built arguments are those of the contract, one by one.

use std::time::Duration;

use super::*;
use crate::core::args::{Args, Transition, Way};
use crate::core::short;
use crate::names::QueueName;
use crate::step::{Body, Checkpoint, Claim, Fan, Join, LetGo, Line, Part, Unreadable};
use stepfleet_contract::{Form, SHORT_WAYS, TRANSITIONS};

fn texts(args: &Args) -> Vec<String> {
    args.to_vecs().iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
}

/// Reads the arguments as the transition does; those of a list are there as often as its form says.
fn follow<T: Transition>(given: &T) {
    let (name, args) = (T::NAME, texts(&Args::of(given)));
    let transition = TRANSITIONS.iter().find(|transition| transition.name == name).unwrap();
    let mut given = args.iter();
    let mut next = |of: &str| given.next().unwrap_or_else(|| panic!("{name}: {of} is missing in {args:?}"));
    for arg in transition.arguments() {
        let value = next(arg.name);
        let is_fine = match arg.form {
            Form::Text | Form::Line | Form::Optional | Form::Bytes | Form::Record => true,
            Form::Digits | Form::Number => value.parse::<u64>().is_ok(),
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

fn call() -> CallId {
    CallId { worker: "worker".into(), number: 9, again: true }
}

fn step() -> Claimed {
    let line = Line::new("H 1 0 0 worker 1795312511771 8");
    let fence = Fence { run: "run".into(), seq: 3, attempt: 1, claim: 8, slot: 4, line };
    Claimed { fence, group: 2, step: "look".into(), context_version: 7, ..Claimed::default() }
}

fn refill() -> Refill {
    Refill { next: Next::Others, after: Some(QueueName::new("rag", 1)) }
}

fn route() -> Route {
    Route { step: "next".into(), event: "E".into(), context: true, ..Route::default() }
}

fn waits() -> Vec<Wait> {
    let deadline = Some(Duration::from_secs(1));
    vec![Wait {
        number: 5,
        name: "approval".into(),
        deadline,
        filter: vec![("by".into(), "\"ann\"".into())],
        question: b"{}".to_vec(),
    }]
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
        let_go: vec![LetGo { number: 4, name: "wait".into(), given: 2 }],
        result: Some(vec![1]),
        caught: Some("error".into()),
        upon: Some(Upon::Entry(1)),
        ..Commit::default()
    }
}

#[test]
fn what_is_built_is_what_the_contract_says() {
    let (call, step, commit, refill, waits) = (call(), step(), commit(), refill(), waits());
    follow(&complete(&call, &step, &commit, &refill));
    follow(&suspend(&call, &step, (&waits, Body::Kept, Some(Upon::Entry(5))), &refill));
    follow(&claim(&call, &Claim { slots: vec![0, 4], alone: false, after: None }));
    let Commit { set, unset, merges, expects, let_go, .. } = commit.clone();
    let entries = vec![(1, vec![1])];
    let unreadable =
        vec![Unreadable { number: 1, name: "word".into(), digest: "d".into(), why: "no word at all".into() }];
    let upon = Some(Upon::Mark(2));
    let made = Checkpoint { mark: Some(1), upon, set, unset, merges, expects, entries, let_go, unreadable, waits };
    follow(&checkpoint(&step.fence, &made));
    follow(&stage(&step.fence, 0, &commit.emits));
    follow(&release("worker", std::slice::from_ref(&step.fence)));
}

/// What it does not say costs nothing.
#[test]
fn an_attempt_that_is_built_upon_nothing_has_an_argument_less() {
    let (call, step, refill, waits) = (call(), step(), refill(), waits());
    let bytes = |upon: Option<Upon>| {
        let commit = Commit { upon, ..commit() };
        let made = Checkpoint { upon, ..Checkpoint::default() };
        let put = step::Collect {
            number: 1,
            step: "s".into(),
            group: 0,
            buffer: "b".into(),
            count: 2,
            payload: vec![1],
            upon,
        };
        let failure = Failure::Fail { error: "e".into(), retention: Duration::ZERO, forget: vec![1], upon };
        [
            texts(&Args::of(&complete(&call, &step, &commit, &refill))),
            texts(&Args::of(&suspend(&call, &step, (&waits, Body::Kept, upon), &refill))),
            texts(&Args::of(&fail(&call, &step, &failure, &refill))),
            texts(&Args::of(&collect(&step.fence, &put))),
            texts(&Args::of(&checkpoint(&step.fence, &made))),
        ]
    };
    for (without, with) in bytes(None).into_iter().zip(bytes(Some(Upon::Mark(7)))) {
        assert_eq!([without, vec!["m7".to_owned()]].concat(), with);
    }
}

#[test]
fn merges_are_written_as_their_form_and_what_is_merged() {
    let append = Merge::Append { form: 5, bytes: vec![0xff, 0] };
    let (_, form, operand) = merged("f", &append);
    assert_eq!((form.as_bytes(), operand.to_vec()), (&[5][..], vec![0xff, 0]));
    let add = Merge::Add(-3);
    let (_, form, operand) = merged("f", &add);
    assert_eq!((&*form, operand.to_vec()), ("+", b"-3".to_vec()));
}

/// The letter, and the arguments.
fn way<W: Way>(given: &W) -> (&'static str, Vec<String>) {
    (W::LETTER, texts(&Args::of(given)))
}

#[test]
fn short_ways_are_built_as_the_contract_says() {
    let (step, commit, call, refill) = (step(), commit(), call(), refill());
    let handed_over = way(&short::hand_over(&call, &step, &commit, &commit.emits[0]));
    let ended = way(&short::end_branch(&call, &step, &commit, &refill));
    for (name, (letter, args)) in [("hand_over", handed_over), ("end_branch", ended)] {
        let way = SHORT_WAYS.iter().find(|way| way.name == name).unwrap();
        assert_eq!(letter, way.letter.to_string());
        assert_eq!(args.len(), way.arguments().count() + 2 * commit.set.len(), "{name}: {args:?}");
        let at = |of: &str| &args[way.arguments().position(|arg| arg.name == of).unwrap()];
        assert_eq!([at("worker"), at("call"), at("slot"), at("run"), at("number")], ["worker", "9", "4", "run", "3"]);
        assert_eq!(at("line"), step.fence.line.as_str());
        assert_eq!(at("history"), " done 3 1 look worker 1795312511771");
        match name {
            "hand_over" => assert_eq!([at("record"), at("version")], ["2 next c E\n\u{1}", "7"]),
            _ => assert_eq!([at("after"), at("group"), at("join"), at("event")], ["rag:1", "2", "close", "\u{1}"]),
        }
    }
}
