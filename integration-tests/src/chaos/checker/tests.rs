//! The checker, on histories with planted faults: it must find each fault, and nothing in correct histories.

use serde_json::to_vec;

use super::*;
use crate::chaos::load::Steering;
use crate::chaos::workflows::Ended;

fn history(lines: &[&str]) -> Vec<Record> {
    lines.iter().map(|line| Record::parse(line.as_bytes())).collect()
}

fn effects(lines: &[&str]) -> Vec<Effect> {
    lines.iter().map(|line| Effect::parse(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

fn mark(seq: u64, attempt: u32, what: &str, token: &str) -> Mark {
    Mark { seq, attempt, what: what.to_owned(), token: token.to_owned() }
}

fn completed(lines: &[&str], marks: Vec<Mark>, values: &[&str]) -> Seen {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    let result = to_vec(&Ended { marks, values }).unwrap();
    Seen { status: Status::Completed, result: Some(result), error: None, history: history(lines) }
}

/// A fan-out of two whose second branch was lost once: its first worker comes back later.
fn fan() -> (Ask, Seen, Vec<Effect>) {
    let seen = completed(
        &[
            "100 start 0 0 - - fan 1",
            "110 done 1 1 open w0 105",
            "120 done 2 1 branch w0 115",
            "121 lost 3 1 branch w1 ",
            "130 done 3 2 branch w0 125",
            "140 done 4 1 close w0 135",
            "140 completed 0 0 - - ",
        ],
        vec![
            mark(4, 1, "close", "t5"),
            mark(1, 1, "open", "t1"),
            mark(2, 1, "branch", "t2"),
            mark(3, 2, "branch", "t4"),
        ],
        &["1", "2"],
    );
    let effects = effects(&[
        "did fan-1 1 1 1 open t1",
        "did fan-1 1 2 1 branch t2",
        "did fan-1 1 3 1 branch t3",
        "did fan-1 2 3 2 branch t4",
        "did fan-1 1 4 1 close t5",
    ]);
    (Ask::new("fan-1", Shape::Fan, Work { n: 2, ms: 0 }), seen, effects)
}

/// Two signals, of which each is followed by a recorded call. The attempt before the last one was given up on, and comes back too late.
fn asks() -> (Ask, Seen, Vec<Effect>) {
    let seen = completed(
        &[
            "200 start 0 0 - - asks 1",
            "210 suspended 1 1 asks w0 word",
            "220 signal 1 1 asks - word",
            "230 lost 1 2 asks w1 ",
            "240 done 1 3 asks w0 235",
            "240 completed 0 0 - - ",
        ],
        vec![mark(1, 3, "heard-0", "a2"), mark(1, 3, "heard-1", "a4")],
        &["b", "a"],
    );
    let effects = effects(&[
        "did asks-1 2 1 2 heard-0 a1",
        "did asks-1 3 1 3 heard-0 a2",
        "knows asks-1 3 1 3 heard-0 a2",
        "did asks-1 2 1 2 heard-0 a3",
        "did asks-1 3 1 3 heard-1 a4",
        "knows asks-1 3 1 3 heard-1 a4",
    ]);
    let words = vec![(0, "a".to_owned()), (5, "b".to_owned())];
    (Ask { words, ..Ask::new("asks-1", Shape::Asks, Work { n: 2, ms: 0 }) }, seen, effects)
}

fn says(n: u64, began: u64, heard: &[&str]) -> (Ask, Seen, Vec<Effect>) {
    let id = format!("says-{n}");
    let (token, end) = (format!("s{n}"), began + 10);
    let seen = completed(
        &["300 start 0 0 - - says 1", &format!("{end} done 1 1 says w0 {began}"), &format!("{end} completed 0 0 - - ")],
        vec![mark(1, 1, "says", &token)],
        heard,
    );
    let log = effects(&[&format!("did {id} 1 1 1 says {token}"), &format!("knows {id} 1 1 1 says {token}")]);
    (Ask { session: Some("s".to_owned()), ..Ask::new(id, Shape::Says, Work { n: 1, ms: 0 }) }, seen, log)
}

fn cancelled(lines: &[&str]) -> (Ask, Seen, Vec<Effect>) {
    let seen = Seen { status: Status::Cancelled, result: None, error: None, history: history(lines) };
    let ask = Ask { steering: Steering::Cancel(10), ..Ask::new("turns-9", Shape::Turns, Work { n: 1000, ms: 10 }) };
    (ask, seen, effects(&["did turns-9 1 1 1 turn c1", "did turns-9 1 2 1 turn c2"]))
}

fn evidence(runs: impl IntoIterator<Item = (Ask, Seen, Vec<Effect>)>) -> Evidence {
    let mut evidence = Evidence {
        promise: Promise::NoLoss,
        asked: Vec::new(),
        seen: BTreeMap::new(),
        effects: Vec::new(),
        left: Left::default(),
    };
    for (ask, seen, effects) in runs {
        evidence.seen.insert(ask.id.clone(), seen);
        evidence.asked.push(ask);
        evidence.effects.extend(effects);
    }
    evidence
}

fn all() -> Evidence {
    let stopped = ["400 start 0 0 - - turns 1", "410 done 1 1 turn w0 405", "411 cancelled 0 0 - - "];
    let talk = [says(1, 310, &["says-1"]), says(2, 320, &["says-1", "says-2"])];
    let mut all = evidence([fan(), asks(), cancelled(&stopped)].into_iter().chain(talk));
    all.left.workers.push(("w0".to_owned(), 0));
    all.left.keys =
        ["run:fan-1", "held:w0", "inbox", "stopped:turns-9", "joined:turns-9:1:x"].map(str::to_owned).to_vec();
    all.left.timers.push("expire fan-1".to_owned());
    all
}

fn found(evidence: &Evidence) -> Vec<(What, String)> {
    check(evidence).into_iter().map(|violation| (violation.what, violation.run)).collect()
}

#[track_caller]
fn plant(run: &str, what: What, plant: impl FnOnce(&mut Evidence)) {
    let mut evidence = all();
    plant(&mut evidence);
    let found = check(&evidence);
    assert!(found.iter().any(|v| v.what == what && v.run == run), "{what:?} of {run} was not found: {found:?}");
    assert!(found.iter().all(|v| v.run == run || v.run == "-"), "others were found too: {found:?}");
}

fn seen<'a>(evidence: &'a mut Evidence, run: &str) -> &'a mut Seen {
    evidence.seen.get_mut(run).expect("a run of the test")
}

fn result(evidence: &mut Evidence, run: &str, change: impl FnOnce(&mut Ended)) {
    let seen = seen(evidence, run);
    let mut ended: Ended = serde_json::from_slice(seen.result.as_deref().unwrap()).unwrap();
    change(&mut ended);
    seen.result = Some(to_vec(&ended).unwrap());
}

#[test]
fn nothing_is_found_where_all_is_right() {
    assert_eq!(check(&all()), []);
}

#[test]
fn a_run_that_is_lost() {
    plant("fan-1", What::Lost, |e| drop(e.seen.remove("fan-1")));
    let mut forgotten = all();
    forgotten.seen.remove("fan-1");
    forgotten.promise = Promise::Prefix;
    assert_eq!(check(&forgotten), [], "where Redis may forget");
}

#[test]
fn a_run_that_is_stranded() {
    plant("fan-1", What::Stranded, |e| {
        let seen = seen(e, "fan-1");
        seen.status = Status::Running;
        seen.history.truncate(3);
    });
}

#[test]
fn a_run_that_fails_or_is_cancelled_though_nobody_asked() {
    plant("fan-1", What::WrongEnd, |e| {
        let seen = seen(e, "fan-1");
        seen.status = Status::Failed;
        seen.history.pop();
        seen.history.extend(history(&["140 failed 0 0 - - why"]));
    });
}

#[test]
fn a_step_that_is_committed_twice() {
    let again = || history(&["131 done 3 1 branch w1 118"]);
    plant("fan-1", What::Twice, |e| seen(e, "fan-1").history.insert(5, again().remove(0)));
}

#[test]
fn a_run_that_begins_or_ends_twice() {
    plant("fan-1", What::Twice, |e| seen(e, "fan-1").history.extend(history(&["141 completed 0 0 - - "])));
    plant("fan-1", What::Twice, |e| {
        let again = history(&["101 start 0 0 - - fan 1"]).remove(0);
        seen(e, "fan-1").history.insert(1, again);
    });
}

#[test]
fn a_step_that_is_never_committed() {
    plant("fan-1", What::NeverCommitted, |e| drop(seen(e, "fan-1").history.remove(2)));
}

#[test]
fn a_write_of_a_rejected_attempt_that_is_visible() {
    plant("fan-1", What::RejectedVisible, |e| {
        result(e, "fan-1", |ended| ended.marks[3] = mark(3, 1, "branch", "t3"));
    });
}

#[test]
fn an_event_that_a_join_has_lost_or_has_twice() {
    plant("fan-1", What::Join, |e| result(e, "fan-1", |ended| drop(ended.values.pop())));
    plant("fan-1", What::Join, |e| result(e, "fan-1", |ended| ended.values[1] = "1".to_owned()));
}

#[test]
fn a_wrong_result() {
    plant("asks-1", What::WrongResult, |e| seen(e, "asks-1").result = Some(b"{}".to_vec()));
    plant("fan-1", What::WrongResult, |e| {
        result(e, "fan-1", |ended| {
            let first = ended.marks[0].clone();
            ended.marks.push(first);
        });
    });
}

#[test]
fn a_recorded_call_that_is_made_again() {
    plant("asks-1", What::DoneAgain, |e| e.effects.extend(effects(&["did asks-1 3 1 3 heard-0 a9"])));
    plant("asks-1", What::DoneAgain, |e| e.effects.extend(effects(&["did asks-1 4 1 4 heard-1 a9"])));
    plant("asks-1", What::DoneAgain, |e| e.effects.extend(effects(&["knows asks-1 4 1 2 heard-0 a1"])));
}

#[test]
fn a_committed_step_without_an_effect() {
    plant("fan-1", What::NoEffect, |e| e.effects.retain(|effect| effect.mark.token != "t2"));
}

#[test]
fn a_signal_that_is_lost_or_taken_twice() {
    plant("asks-1", What::Signal, |e| result(e, "asks-1", |ended| drop(ended.values.pop())));
    plant("asks-1", What::Signal, |e| result(e, "asks-1", |ended| ended.values[1] = "b".to_owned()));
}

#[test]
fn a_session_out_of_order() {
    let out_of_order = [says(1, 320, &["says-2", "says-1"]), says(2, 310, &["says-2"])];
    assert!(found(&evidence(out_of_order)).iter().all(|(what, _)| *what == What::Session));
    let at_once = [says(1, 310, &["says-1"]), says(2, 315, &["says-1", "says-2"])];
    assert_eq!(found(&evidence(at_once)), [(What::Session, "says-2".to_owned())]);
    let mut forgotten = evidence([says(1, 320, &["says-2", "says-1"]), says(2, 310, &["says-2"])]);
    forgotten.promise = Promise::Prefix;
    assert_eq!(check(&forgotten), [], "a request that was forgotten is sent again, and comes later");
}

#[test]
fn a_run_that_commits_after_its_cancel() {
    let late =
        ["400 start 0 0 - - turns 1", "410 done 1 1 turn w0 405", "411 cancelled 0 0 - - ", "412 done 2 1 turn w0 410"];
    assert_eq!(found(&evidence([cancelled(&late)])), [(What::AfterTheEnd, "turns-9".to_owned())]);
}

#[test]
fn a_step_that_begins_while_its_run_is_paused_or_before_it_is_due() {
    plant("fan-1", What::WhilePaused, |e| {
        let paused = history(&["112 paused 0 0 - - ", "122 resumed 0 0 - - "]);
        let records = &mut seen(e, "fan-1").history;
        records.insert(2, paused[0].clone());
        records.insert(5, paused[1].clone());
    });
    plant("fan-1", What::TooEarly, |e| e.asked[0].delay_ms = 6);
}

#[test]
fn a_step_that_is_blamed_for_a_trouble_of_the_server() {
    plant("fan-1", What::Blamed, |e| {
        seen(e, "fan-1").history.insert(2, history(&["111 retry 2 1 branch w0 20 broken pipe"]).remove(0));
    });
}

#[test]
fn what_an_audit_had_to_mend() {
    plant("fan-1", What::Repaired, |e| {
        seen(e, "fan-1").history.insert(2, history(&["111 repaired 2 1 branch - queued again"]).remove(0));
    });
    plant("-", What::Repaired, |e| e.left.repaired = 1);
}

#[test]
fn what_is_left_over() {
    plant("-", What::Left, |e| e.left.keys.push("steps:fan-1".to_owned()));
    plant("-", What::Left, |e| e.left.keys.push("stopped:fan-1".to_owned()));
    plant("-", What::Left, |e| e.left.keys.push("held:w1".to_owned()));
    plant("-", What::Left, |e| e.left.timers.push("start fan-1".to_owned()));
    plant("-", What::Left, |e| e.left.queued.push(("fan:1".to_owned(), 1)));
    plant("-", What::Left, |e| e.left.workers.push(("w1".to_owned(), 1)));
    plant("-", What::Left, |e| e.left.inbox = 1);
}

#[test]
fn a_change_of_an_entity_that_is_lost_or_made_twice() {
    let counts = |id: &str, values: &[&str]| {
        let lines = ["100 start 0 0 - - counts 1", "110 done 1 1 counts w0 105", "110 completed 0 0 - - "];
        let seen = completed(&lines, vec![mark(1, 1, "counts", id)], values);
        let log = effects(&[&format!("did {id} 1 1 1 counts {id}")]);
        (Ask::new(id, Shape::Counts, Work { n: 0, ms: 0 }), seen, log)
    };
    let first = || counts("a", &["k 1", "k 4", "k 3", "k 6"]);
    assert_eq!(found(&evidence([first(), counts("b", &["k 2", "k 5", "k 8", "k 7"])])), []);
    let lost = evidence([first(), counts("b", &["k 2", "k 5", "k 8", "k 9"])]);
    assert_eq!(found(&lost), [(What::Entity, "b".to_owned())]);
    let forgotten = Evidence { promise: Promise::Prefix, ..lost };
    assert_eq!(found(&forgotten), [], "a run that was forgotten has counted on");
    let twice = evidence([first(), counts("b", &["k 2", "k 5", "k 7", "k 6"])]);
    assert_eq!(found(&twice), [(What::Entity, "b".to_owned())]);
    let forgotten = Evidence { promise: Promise::Prefix, ..twice };
    assert_eq!(found(&forgotten), [], "the change was forgotten before its call was recorded");
}

#[test]
fn a_run_that_is_mended_has_one_end_after_that() {
    let mends = |lines: &[&str]| {
        let log = effects(&["did mends-1 1 1 1 mend m1", "did mends-1 2 1 2 mend m2"]);
        let seen = completed(lines, vec![mark(1, 2, "mend", "m2")], &["1"]);
        (Ask::new("mends-1", Shape::Mends, Work { n: 1, ms: 0 }), seen, log)
    };
    let mut lines = vec![
        "100 start 0 0 - - mends 1",
        "110 failed 1 1 mend w0 it is still broken",
        "120 retried 0 0 - - ",
        "130 done 1 2 mend w0 125",
        "130 completed 0 0 - - ",
    ];
    assert_eq!(found(&evidence([mends(&lines)])), []);
    let mut broken = evidence([mends(&lines[..2])]);
    broken.seen.get_mut("mends-1").unwrap().status = Status::Failed;
    assert_eq!(found(&broken), [(What::Stranded, "mends-1".to_owned())], "nobody has mended it");
    lines.insert(3, "121 retried 0 0 - - ");
    assert_eq!(found(&evidence([mends(&lines)])), [(What::Twice, "mends-1".to_owned())]);
}

#[test]
fn what_was_saved_or_put_into_a_buffer_and_is_not_there() {
    let notes = |notes: &[&str]| {
        let lines = ["100 start 0 0 - - notes 1", "110 done 1 2 note w0 105", "111 done 2 1 read_out w0 110"];
        let lines = [&lines[..], &["111 completed 0 0 - - "]].concat();
        let log =
            effects(&["did notes-1 1 1 1 note-0 n0", "did notes-1 2 1 2 note-1 n1", "did notes-1 1 2 1 read_out r"]);
        // The first note is of an attempt that was not committed.
        let marks = vec![mark(1, 1, "note-0", "n0"), mark(1, 2, "note-1", "n1"), mark(2, 1, "read_out", "r")];
        (Ask::new("notes-1", Shape::Notes, Work { n: 2, ms: 0 }), completed(&lines, marks, notes), log)
    };
    assert_eq!(found(&evidence([notes(&["note-0", "note-1"])])), []);
    assert_eq!(found(&evidence([notes(&["note-1"])])), [(What::WrongResult, "notes-1".to_owned())]);
    let gathers = |pieces: &[&str]| {
        let lines = ["100 start 0 0 - - gathers 1", "101 done 1 1 deal w0 100", "110 done 2 1 gather w0 105"];
        let lines = [&lines[..], &["111 done 3 1 gathered w0 110", "111 completed 0 0 - - "]].concat();
        let log =
            effects(&["did gathers-1 1 1 1 deal d", "did gathers-1 1 2 1 gather g", "did gathers-1 1 3 1 gathered e"]);
        let marks = vec![mark(3, 1, "gathered", "e"), mark(2, 1, "gather", "g")];
        (Ask::new("gathers-1", Shape::Gathers, Work { n: 1, ms: 0 }), completed(&lines, marks, pieces), log)
    };
    assert_eq!(found(&evidence([gathers(&["1"])])), []);
    assert_eq!(found(&evidence([gathers(&[])])), [(What::Join, "gathers-1".to_owned())]);
}

#[test]
fn a_child_is_checked_as_its_parent_is() {
    let parent = || {
        let seen = completed(
            &[
                "100 start 0 0 - - parent 1",
                "101 child 1 1 parent - kid %child.1",
                "110 done 1 2 parent w0 105",
                "110 completed 0 0 - - ",
            ],
            vec![mark(1, 1, "parent", "p1")],
            &["1 overdue"],
        );
        (Ask::new("parent-1", Shape::Parent, Work { n: 1, ms: 0 }), seen, effects(&["did parent-1 1 1 1 parent p1"]))
    };
    assert_eq!(found(&evidence([parent()])), [(What::Lost, "kid".to_owned())]);
}
