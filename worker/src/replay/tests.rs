use std::collections::BTreeMap;

use serde_bytes::ByteBuf;
use stepfleet_shared::codec;
use stepfleet_shared::journal::Entry;
use stepfleet_shared::step::{LetGo, Wait};

use super::*;
use crate::error::Error;

fn machine(entries: &[(u64, Entry<'_>)]) -> Machine {
    let entries: BTreeMap<_, _> = entries.iter().map(|(number, entry)| (*number, entry.write())).collect();
    Machine::with(entries, "step s".into())
}

fn wait(number: u64, name: &str) -> Wait {
    Wait { number, name: name.into(), ..Wait::default() }
}

#[test]
fn calls_are_told_what_they_came_to_before() {
    let payload = codec::encode("x", &7).unwrap();
    let mut machine = machine(&[
        (1, Entry::Value { name: "charge", order: "", payload: &payload }),
        (2, Entry::Failed { name: "ship", error: &Error::terminal("no such street").write() }),
        (3, Entry::Signal { name: "paid", attributes: "order=7", due_ms: None, payload: &payload }),
        (4, Entry::Overdue { name: "paid" }),
        (5, Entry::LetGo { name: "paid", given: 0 }),
        (6, Entry::LetGo { name: "charge", given: 0 }),
    ]);
    assert_eq!(machine.recorded(1, "charge").unwrap(), Recorded::Value(payload.clone()));
    let error = machine.recorded(2, "ship").unwrap_err();
    assert!(error.is_terminal() && error.to_string() == "no such street");
    assert_eq!(machine.waited(3, "paid").unwrap(), Waited::Signal(payload));
    assert_eq!(machine.waited(4, "paid").unwrap(), Waited::Overdue);
    assert_eq!(machine.waited(5, "paid").unwrap(), Waited::Never);
    assert_eq!(machine.recorded(6, "charge").unwrap(), Recorded::Never);
    assert_eq!((machine.recorded(7, "x").unwrap(), machine.waited(7, "x").unwrap()), (Recorded::New, Waited::New));
}

#[test]
fn a_body_that_makes_other_calls_is_told_both_and_what_to_do() {
    let mut machine = machine(&[
        (1, Entry::Value { name: "charge", order: "", payload: b"\x01\x07" }),
        (2, Entry::Overdue { name: "paid" }),
        (3, Entry::LetGo { name: "paid", given: 0 }),
    ]);
    let errors = [
        (machine.recorded(1, "refund").unwrap_err(), ["was `charge`", "now asks for `refund`"]),
        (machine.waited(1, "charge").unwrap_err(), ["was `charge`", "now asks for the wait for `charge`"]),
        (machine.recorded(2, "paid").unwrap_err(), ["was the wait for `paid`", "now asks for `paid`"]),
        (machine.waited(3, "sent").unwrap_err(), ["was `paid`, which the body had let go of", "the wait for `sent`"]),
    ];
    for (error, names) in errors {
        let text = error.to_string();
        assert!(error.is_terminal() && names.iter().all(|name| text.contains(name)), "{text}");
        assert!(text.contains("under a new version"), "{text}");
    }
}

#[test]
fn a_checkpoint_after_calls_is_a_call_and_the_state_before_it_is_known() {
    let mut machine = machine(&[]);
    assert_eq!(machine.next_mark(), None, "a body that begins again goes on after it");
    assert_eq!(machine.next(), 1);
    assert_eq!((machine.next_mark(), machine.marked(2, "checkpoint").unwrap()), (Some(2), Marked::New));
    let old = |value: u8| Some(ByteBuf::from(vec![value]));
    for (call, is_own, before) in [
        (2, true, vec![("stage".to_owned(), old(1)), ("n".to_owned(), None)]),
        (3, false, vec![("stage".to_owned(), old(2)), ("m".to_owned(), old(7))]),
    ] {
        let (number, entry, along) = machine.mark(call, is_own, "checkpoint", &before);
        machine.keep(number, entry);
        machine.was_recorded(&along);
    }
    machine.begin_again();
    assert_eq!((machine.next(), machine.next_mark()), (1, Some(2)));
    assert_eq!(machine.marked(2, "checkpoint").unwrap(), Marked::Made);
    assert!(machine.is_marked(3) && !machine.is_marked(2) && !machine.is_marked(4));
    let before = [("m".into(), Some(vec![7])), ("n".into(), None), ("stage".into(), Some(vec![1]))];
    assert_eq!(machine.began_with(), BTreeMap::from(before));
    assert!(machine.recorded(2, "charge").unwrap_err().to_string().contains("call #2 was a checkpoint"));
}

#[test]
fn a_change_is_for_who_comes_there_first() {
    let value = |name| Entry::Value { name, order: "", payload: b"\x01\x07" };
    let mut before = machine(&[(1, value("a")), (2, value("b"))]);
    assert_eq!((before.next(), before.patched("c").unwrap(), before.next()), (1, false, 2), "it takes no number");
    let mut here = machine(&[(1, value("a"))]);
    assert_eq!((here.next(), here.patched("c").unwrap(), here.next()), (1, true, 3));
    let along = here.along();
    assert_eq!(along.entries, [(2, Entry::Patch { name: "c" }.write())], "to be recorded with what is recorded next");
    here.was_recorded(&along);
    here.begin_again();
    assert_eq!((here.next(), here.patched("c").unwrap(), here.next()), (1, true, 3));
    assert!(here.along().entries.is_empty(), "it is recorded");
    let mut after = machine(&[(1, value("a")), (2, Entry::Patch { name: "c" }), (3, value("b"))]);
    assert_eq!((after.next(), after.patched("c").unwrap(), after.next()), (1, true, 3));
    let removed = machine(&[(1, Entry::Patch { name: "c" })]).recorded(1, "b").unwrap_err();
    assert!(removed.to_string().contains("call #1 was the change `c`, and the code now asks for `b`"), "{removed}");
}

#[test]
fn what_cannot_be_read_is_no_reason_to_do_it_again() {
    let mut machine = machine(&[]);
    machine.entries.insert(1, b"?".to_vec());
    assert!(machine.recorded(1, "charge").unwrap_err().is_terminal());
}

#[test]
fn a_body_is_idle_when_it_waits_and_nothing_else_is_under_way() {
    let mut machine = machine(&[]);
    assert_eq!(machine.idle(false), Idle::No, "it awaits something of its own");
    machine.wait(wait(1, "paid"));
    assert_eq!((machine.idle(true), machine.idle(false)), (Idle::Open, Idle::Ask));
    assert_eq!(machine.ask().len(), 1);
    assert_eq!((machine.idle(true), machine.idle(false)), (Idle::Look, Idle::Suspend));
    machine.has_gone_on();
    assert_eq!((machine.idle(true), machine.idle(false)), (Idle::Look, Idle::Ask));
    machine.wait(wait(2, "sent"));
    assert_eq!(machine.ask(), [wait(1, "paid"), wait(2, "sent")]);
    assert_eq!(machine.idle(false), Idle::Suspend);
    machine.let_go(1, "paid");
    assert_eq!((machine.idle(false), machine.waits()), (Idle::Suspend, vec![wait(2, "sent")]));
    machine.let_go(2, "sent");
    assert_eq!(machine.idle(false), Idle::No);
}

#[test]
fn an_answer_is_for_who_waits_and_for_nobody_else() {
    let mut machine = machine(&[]);
    for number in 1..=3 {
        machine.wait(wait(number, "paid"));
    }
    machine.let_go(2, "paid");
    let signal = Entry::Signal { name: "paid", attributes: "", due_ms: None, payload: b"\x01\x07" }.write();
    assert_eq!(machine.answer(vec![(1, signal.clone()), (2, signal)]).len(), 1);
    assert_eq!(machine.waits(), [wait(3, "paid")]);
    assert_eq!(machine.waited(1, "paid").unwrap(), Waited::Signal(b"\x01\x07".to_vec()));
    assert_eq!(machine.waited(2, "paid").unwrap(), Waited::New, "it is there for others");
}

fn let_go(number: u64, name: &str, given: u64) -> LetGo {
    LetGo { number, name: name.into(), given }
}

#[test]
fn errors_and_what_was_let_go_of_are_recorded_with_what_comes_after() {
    let mut machine = machine(&[(3, Entry::LetGo { name: "old", given: 0 })]);
    machine.fail(1, "charge", &Error::msg("no money"));
    assert!(!machine.pass(1) && machine.along().is_empty(), "the body was not given it yet");
    machine.rest();
    assert!(machine.pass(1));
    machine.let_go(2, "paid");
    machine.let_go(3, "old");
    let along = machine.along();
    let failed = Entry::Failed { name: "charge", error: &Error::msg("no money").write() }.write();
    assert_eq!(along, Along { entries: vec![(1, failed)], let_go: vec![let_go(2, "paid", 1)], order: 0, given: 1 });
    assert_eq!(machine.along(), along, "until it was recorded");
    machine.let_go(4, "sent");
    machine.was_recorded(&along);
    assert_eq!(machine.along(), Along { entries: vec![], let_go: vec![let_go(4, "sent", 1)], order: 0, given: 1 });
}

#[test]
fn a_commit_is_told_of_a_journal_only_where_there_is_one() {
    let mut fresh = machine(&[]);
    fresh.let_go(1, "never recorded");
    assert_eq!(fresh.close(), None);
    let mut replayed = machine(&[(1, Entry::Overdue { name: "paid" })]);
    replayed.let_go(2, "sent");
    assert_eq!(replayed.close(), Some(vec![let_go(2, "sent", 0)]));
}
