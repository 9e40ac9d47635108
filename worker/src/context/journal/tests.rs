use stepfleet::codec;

use super::*;

fn journal(entries: &[(u64, Entry<'_>)]) -> Journal {
    let entries: BTreeMap<_, _> = entries.iter().map(|(number, entry)| (*number, entry.write())).collect();
    let mut journal = Journal { is_used: !entries.is_empty(), entries, about: "step s".into(), ..Journal::default() };
    journal.read_order();
    journal
}

fn wait(number: u64, name: &str) -> Wait {
    Wait { number, name: name.into(), ..Wait::default() }
}

#[test]
fn calls_are_told_what_they_came_to_before() {
    let payload = codec::encode("x", &7).unwrap();
    let mut journal = journal(&[
        (1, Entry::Value { name: "charge", order: "", payload: &payload }),
        (2, Entry::Failed { name: "ship", error: &Error::terminal("no such street").write() }),
        (3, Entry::Signal { name: "paid", attributes: "order=7", due_ms: None, payload: &payload }),
        (4, Entry::Overdue { name: "paid" }),
        (5, Entry::LetGo { name: "paid", given: 0 }),
        (6, Entry::LetGo { name: "charge", given: 0 }),
    ]);
    assert_eq!(journal.recorded(1, "charge").unwrap(), Recorded::Value(payload.clone()));
    let error = journal.recorded(2, "ship").unwrap_err();
    assert!(error.is_terminal() && error.to_string() == "no such street");
    assert_eq!(journal.waited(3, "paid").unwrap(), Waited::Signal(payload));
    assert_eq!(journal.waited(4, "paid").unwrap(), Waited::Overdue);
    assert_eq!(journal.waited(5, "paid").unwrap(), Waited::Never);
    assert_eq!(journal.recorded(6, "charge").unwrap(), Recorded::Never);
    assert_eq!((journal.recorded(7, "x").unwrap(), journal.waited(7, "x").unwrap()), (Recorded::New, Waited::New));
}

#[test]
fn a_body_that_makes_other_calls_is_told_both_and_what_to_do() {
    let mut journal = journal(&[
        (1, Entry::Value { name: "charge", order: "", payload: b"\x01\x07" }),
        (2, Entry::Overdue { name: "paid" }),
        (3, Entry::LetGo { name: "paid", given: 0 }),
    ]);
    let errors = [
        (journal.recorded(1, "refund").unwrap_err(), ["the call \"refund\" now", "the call \"charge\" there"]),
        (journal.waited(1, "charge").unwrap_err(), ["the wait for \"charge\" now", "the call \"charge\" there"]),
        (journal.recorded(2, "paid").unwrap_err(), ["the call \"paid\" now", "the wait for \"paid\" there"]),
        (journal.waited(3, "sent").unwrap_err(), ["the wait for \"sent\" now", "\"paid\" there"]),
    ];
    for (error, names) in errors {
        let text = error.to_string();
        assert!(error.is_terminal() && names.iter().all(|name| text.contains(name)), "{text}");
        assert!(text.contains("under a new version"), "{text}");
    }
}

#[test]
fn calls_on_both_sides_of_a_checkpoint_are_refused() {
    let mut journal = journal(&[]);
    journal.seal();
    assert_eq!(journal.next(), 1, "before it there was none");
    assert_eq!(journal.recorded(1, "list").unwrap(), Recorded::New);
    journal.seal();
    assert_eq!(journal.recorded(1, "list").unwrap(), Recorded::New, "it was made before");
    assert_eq!(journal.next(), 2);
    let error = journal.recorded(2, "read").unwrap_err();
    assert!(
        error.is_terminal() && error.to_string().contains("call 2 of its body comes after a checkpoint"),
        "{error}"
    );
    assert!(journal.waited(2, "paid").is_err() && journal.collected(2, "votes").is_err());
    journal.begin_again();
    assert_eq!((journal.next(), journal.recorded(1, "list").unwrap()), (1, Recorded::New));
}

#[test]
fn what_cannot_be_read_is_no_reason_to_do_it_again() {
    let mut journal = journal(&[]);
    journal.entries.insert(1, b"?".to_vec());
    assert!(journal.recorded(1, "charge").unwrap_err().is_terminal());
}

#[test]
fn a_body_is_idle_when_it_waits_and_nothing_else_is_under_way() {
    let mut journal = journal(&[]);
    assert_eq!(journal.idle(false), Idle::No, "it awaits something of its own");
    journal.wait(wait(1, "paid"), Waker::noop());
    assert_eq!((journal.idle(true), journal.idle(false)), (Idle::Open, Idle::Ask));
    assert_eq!(journal.ask().len(), 1);
    assert_eq!((journal.idle(true), journal.idle(false)), (Idle::No, Idle::Suspend));
    journal.has_gone_on();
    assert_eq!((journal.idle(true), journal.idle(false)), (Idle::No, Idle::Ask));
    journal.wait(wait(2, "sent"), Waker::noop());
    assert_eq!(journal.ask(), [wait(1, "paid"), wait(2, "sent")]);
    assert_eq!(journal.idle(false), Idle::Suspend);
    journal.let_go(1, "paid");
    assert_eq!((journal.idle(false), journal.waits()), (Idle::Suspend, vec![wait(2, "sent")]));
    journal.let_go(2, "sent");
    assert_eq!(journal.idle(false), Idle::No);
}

#[test]
fn an_answer_is_for_who_waits_and_for_nobody_else() {
    let mut journal = journal(&[]);
    for number in 1..=3 {
        journal.wait(wait(number, "paid"), Waker::noop());
    }
    journal.let_go(2, "paid");
    let signal = Entry::Signal { name: "paid", attributes: "", due_ms: None, payload: b"\x01\x07" }.write();
    assert_eq!(journal.answer(vec![(1, signal.clone()), (2, signal)]).len(), 1);
    assert_eq!(journal.waits(), [wait(3, "paid")]);
    assert_eq!(journal.waited(1, "paid").unwrap(), Waited::Signal(b"\x01\x07".to_vec()));
    assert_eq!(journal.waited(2, "paid").unwrap(), Waited::New, "it is there for others");
}

fn let_go(number: u64, name: &str, given: u64) -> LetGo {
    LetGo { number, name: name.into(), given }
}

#[test]
fn errors_and_what_was_let_go_of_are_recorded_with_what_comes_after() {
    let mut journal = journal(&[(3, Entry::LetGo { name: "old", given: 0 })]);
    journal.fail(1, "charge", &Error::msg("no money"));
    assert!(!journal.pass(1, Waker::noop()) && journal.along().is_empty(), "the body was not given it yet");
    journal.rest();
    assert!(journal.pass(1, Waker::noop()));
    journal.let_go(2, "paid");
    journal.let_go(3, "old");
    let along = journal.along();
    let failed = Entry::Failed { name: "charge", error: &Error::msg("no money").write() }.write();
    assert_eq!(along, Along { entries: vec![(1, failed)], let_go: vec![let_go(2, "paid", 1)], order: 0 });
    assert_eq!(journal.along(), along, "until it was recorded");
    journal.let_go(4, "sent");
    journal.was_recorded(&along);
    assert_eq!(journal.along(), Along { entries: vec![], let_go: vec![let_go(4, "sent", 1)], order: 0 });
}

#[test]
fn a_commit_is_told_of_a_journal_only_where_there_is_one() {
    let mut fresh = journal(&[]);
    fresh.let_go(1, "never recorded");
    assert_eq!(fresh.close(), None);
    let mut replayed = journal(&[(1, Entry::Overdue { name: "paid" })]);
    replayed.let_go(2, "sent");
    assert_eq!(replayed.close(), Some(vec![let_go(2, "sent", 0)]));
}
