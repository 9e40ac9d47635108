//! Sessions: their runs execute one after another, and share a context.

use stepfleet_integration_tests::double::{claim, complete, emit, refill, stop};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_shared::history::Kind;
use stepfleet_shared::run::Status;
use stepfleet_shared::step::{Cancelled, Claimed, Commit, Failure, Paused, Resumed, Retried, Signalled};
use stepfleet_shared::store::{Audit, SessionInfo, Start, Started, Store};

use super::*;

/// A start of this run in the session `s`.
fn in_session(run: &str) -> Start {
    let mut asked = start(run);
    asked.request.session = Some("s".into());
    asked
}

/// A desk with one worker, which numbers its calls.
struct Line<'a> {
    scene: &'a Scene,
    calls: u64,
}

impl<'a> Line<'a> {
    async fn new(scene: &'a Scene) -> Self {
        join_fleet(scene.store(), "a", Duration::MAX).await;
        Self { scene, calls: 0 }
    }

    /// Accepts these runs in this order.
    async fn of(scene: &'a Scene, runs: &[&str]) -> Self {
        let line = Self::new(scene).await;
        for run in runs {
            line.accept(&in_session(run)).await;
        }
        line
    }

    fn store(&self) -> &dyn Store {
        self.scene.store()
    }

    async fn accept(&self, start: &Start) {
        assert_eq!(self.store().start(start).await.unwrap(), Started::New(start.run.clone()));
    }

    /// Everything that can begin now.
    async fn claim(&mut self) -> Vec<Claimed> {
        self.calls += 1;
        claim(self.store(), "a", self.calls, 9).await
    }

    /// The only step execution that can begin now, which is the first or next one of the run.
    async fn turn_of(&mut self, run: &str) -> Claimed {
        let claimed = self.claim().await;
        assert_eq!(claimed.iter().map(|step| &*step.fence.run).collect::<Vec<_>>(), [run]);
        claimed.into_iter().next().unwrap()
    }

    async fn complete(&mut self, step: &Claimed, commit: &Commit) {
        self.calls += 1;
        complete(self.store(), &call("a", self.calls, false), step, commit, 0).await;
    }

    async fn fail(&mut self, step: &Claimed) {
        self.calls += 1;
        let failure = Failure::Fail { error: "wrong".into(), retention: HOUR, forget: Vec::new(), upon: None };
        self.store().fail(&call("a", self.calls, false), step, &failure, &refill(0)).await.unwrap();
    }

    /// The run takes its turn, writes these fields and ends.
    async fn pass_through(&mut self, run: &str, set: &[(&str, &[u8])]) {
        let step = self.turn_of(run).await;
        let set = set.iter().map(|(field, value)| ((*field).to_owned(), value.to_vec())).collect();
        self.complete(&step, &Commit { set, ..stop() }).await;
        assert_eq!(self.status(run).await, Status::Completed);
    }

    async fn status(&self, run: &str) -> Status {
        self.store().run(run).await.unwrap().unwrap().status
    }

    async fn session(&self) -> SessionInfo {
        let mut session = self.store().session("s").await.unwrap().unwrap();
        session.context.sort();
        session
    }

    /// The run that has the turn, and those that wait for it.
    async fn line(&self) -> (Option<String>, Vec<String>) {
        let session = self.session().await;
        (session.running, session.waiting)
    }

    async fn kinds(&self, run: &str) -> Vec<(Kind, String)> {
        let history = self.store().history(run, 0, 100).await.unwrap();
        history.into_iter().map(|record| (record.kind, record.detail)).collect()
    }
}

fn context(fields: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
    fields.iter().map(|(field, value)| ((*field).to_owned(), value.to_vec())).collect()
}

fn line(runs: &[&str]) -> (Option<String>, Vec<String>) {
    let mut runs = runs.iter().map(|run| (*run).to_owned());
    (runs.next(), runs.collect())
}

#[tokio::test]
async fn runs_go_one_after_another_in_the_order_in_which_they_were_accepted() {
    on_both(async |scene| {
        let mut desk = Line::of(scene, &["x", "y", "z"]).await;
        assert_eq!(desk.line().await, line(&["x", "y", "z"]));
        assert_eq!(desk.status("y").await, Status::Queued);
        assert_eq!(desk.store().run("y").await.unwrap().unwrap().session.as_deref(), Some("s"));
        let step = desk.turn_of("x").await;
        desk.complete(&step, &emit(&["next"])).await;
        scene.assert_sound().await;
        desk.pass_through("x", &[]).await;
        assert_eq!(desk.line().await, line(&["y", "z"]));
        desk.pass_through("y", &[]).await;
        desk.accept(&in_session("w")).await;
        desk.pass_through("z", &[]).await;
        desk.pass_through("w", &[]).await;
        assert_eq!(desk.line().await, line(&[]));
        assert_eq!(desk.session().await.completed, 4);
        let told = [(Kind::Start, "w 1".into()), (Kind::InLine, "s x".into()), (Kind::Turn, "s".into())];
        assert_eq!(desk.kinds("y").await[..3], told);
        assert_eq!(desk.kinds("z").await[1], (Kind::InLine, "s y".into()), "it is behind the last one before it");
        assert_eq!(desk.store().run("w").await.unwrap().unwrap().error, None);
    })
    .await;
}

#[tokio::test]
async fn other_sessions_and_other_runs_do_not_wait() {
    on_both(async |scene| {
        let mut desk = Line::of(scene, &["x", "y"]).await;
        let mut other = in_session("o");
        other.request.session = Some("t".into());
        desk.accept(&other).await;
        desk.accept(&start("r")).await;
        let mut begun: Vec<_> = desk.claim().await.into_iter().map(|step| step.fence.run).collect();
        begun.sort();
        assert_eq!(begun, ["o", "r", "x"]);
    })
    .await;
}

#[tokio::test]
async fn each_run_begins_with_the_state_that_the_previous_one_left() {
    on_both(async |scene| {
        let mut desk = Line::new(scene).await;
        let given = Start { context: context(&[("a", b"\x011"), ("b", b"\x012")]), ..in_session("x") };
        desk.accept(&given).await;
        let given = Start { context: context(&[("c", b"\x017")]), ..in_session("y") };
        desk.accept(&given).await;
        let step = desk.turn_of("x").await;
        assert_eq!(desk.session().await.context, [], "it is what runs that have completed leave");
        let commit = Commit { set: context(&[("a", b"\x013")]), unset: vec!["b".into()], ..stop() };
        desk.complete(&step, &commit).await;
        assert_eq!(desk.session().await.context, context(&[("a", b"\x013")]));
        let mut step = desk.turn_of("y").await;
        step.context.sort();
        let found: Vec<_> = step.context.iter().map(|(field, value)| (field.clone(), value.to_vec())).collect();
        assert_eq!(found, context(&[("a", b"\x013"), ("c", b"\x017")]));
        desk.complete(&step, &stop()).await;
        assert_eq!(desk.session().await.context, context(&[("a", b"\x013"), ("c", b"\x017")]));
    })
    .await;
}

#[tokio::test]
async fn a_failed_or_cancelled_run_does_not_change_its_session() {
    on_both(async |scene| {
        let mut desk = Line::of(scene, &["x", "fails", "stops", "z"]).await;
        desk.pass_through("x", &[("a", b"\x011")]).await;
        for run in ["fails", "stops"] {
            let step = desk.turn_of(run).await;
            desk.complete(&step, &Commit { set: context(&[("a", b"\x019")]), ..emit(&["next"]) }).await;
            let step = desk.turn_of(run).await;
            if run == "fails" {
                desk.fail(&step).await;
            } else {
                assert_eq!(desk.store().cancel(run, None, HOUR).await.unwrap(), Cancelled::Stopped);
            }
        }
        let step = desk.turn_of("z").await;
        assert_eq!(step.context.iter().map(|(_, value)| value.to_vec()).collect::<Vec<_>>(), [b"\x011"]);
        assert_eq!(desk.session().await.completed, 1);
    })
    .await;
}

#[tokio::test]
async fn a_run_that_is_retried_waits_again_and_leaves_what_it_has_changed() {
    on_both(async |scene| {
        let mut desk = Line::of(scene, &["x", "y", "z"]).await;
        let step = desk.turn_of("x").await;
        let set = context(&[("a", b"\x011"), ("b", b"\x011")]);
        desk.complete(&step, &Commit { set, ..emit(&["next"]) }).await;
        let step = desk.turn_of("x").await;
        desk.fail(&step).await;
        assert_eq!(desk.store().retry("x", None, None).await.unwrap(), Retried::GoesOn);
        assert_eq!(desk.line().await, line(&["y", "z", "x"]));
        assert_eq!(desk.status("x").await, Status::Running);
        desk.pass_through("y", &[("b", b"\x012"), ("c", b"\x012")]).await;
        scene.assert_sound().await;
        desk.pass_through("z", &[]).await;
        let again = desk.turn_of("x").await;
        assert_eq!((again.fence.seq, again.fence.attempt), (2, 2));
        assert_eq!(again.context.len(), 2, "it goes on with its own");
        desk.complete(&again, &stop()).await;
        let all = context(&[("a", b"\x011"), ("b", b"\x011"), ("c", b"\x012")]);
        assert_eq!(desk.session().await.context, all);
        // If no other run waits, it goes on at once.
        desk.accept(&in_session("w")).await;
        let step = desk.turn_of("w").await;
        desk.fail(&step).await;
        assert_eq!(desk.store().retry("w", None, None).await.unwrap(), Retried::GoesOn);
        desk.pass_through("w", &[("a", b"\x015")]).await;
        assert_eq!(desk.session().await.context[0], context(&[("a", b"\x015")])[0]);
    })
    .await;
}

#[tokio::test]
async fn a_run_is_cancelled_in_the_line_and_leaves_it() {
    on_both(async |scene| {
        let mut desk = Line::of(scene, &["x", "y", "z"]).await;
        let step = desk.turn_of("x").await;
        assert_eq!(desk.store().cancel("y", None, HOUR).await.unwrap(), Cancelled::Stopped);
        assert_eq!(desk.line().await, line(&["x", "z"]));
        assert!(desk.claim().await.is_empty(), "the turn of x goes on");
        desk.complete(&step, &stop()).await;
        desk.pass_through("z", &[]).await;
    })
    .await;
}

#[tokio::test]
async fn a_run_whose_time_is_over_makes_room_and_time_begins_with_the_turn() {
    on_both(async |scene| {
        let mut desk = Line::new(scene).await;
        for run in ["x", "y"] {
            desk.accept(&Start { timeout: Some(HOUR), ..in_session(run) }).await;
        }
        desk.turn_of("x").await;
        scene.pass(HOUR).await;
        desk.store().fire(&fire()).await.unwrap();
        assert_eq!((desk.status("x").await, desk.status("y").await), (Status::Failed, Status::Queued));
        desk.turn_of("y").await;
        scene.pass_almost(HOUR).await;
        desk.store().fire(&fire()).await.unwrap();
        assert_eq!(desk.status("y").await, Status::Running);
        scene.pass(scene.moment()).await;
        desk.store().fire(&fire()).await.unwrap();
        assert_eq!(desk.status("y").await, Status::Failed);
        assert_eq!(desk.line().await, line(&[]));
    })
    .await;
}

#[tokio::test]
async fn a_delayed_run_takes_its_place_when_it_is_due() {
    on_both(async |scene| {
        let mut desk = Line::new(scene).await;
        for run in ["late", "later"] {
            let mut delayed = in_session(run);
            delayed.request.delay_ms = 3_600_000;
            desk.accept(&delayed).await;
        }
        desk.accept(&in_session("x")).await;
        let step = desk.turn_of("x").await;
        assert_eq!(desk.line().await, line(&["x"]));
        scene.pass(HOUR).await;
        while desk.store().fire(&fire()).await.unwrap().fired > 0 {}
        assert_eq!(desk.line().await, line(&["x", "late", "later"]));
        assert!(desk.claim().await.is_empty());
        scene.assert_sound().await;
        desk.complete(&step, &stop()).await;
        desk.pass_through("late", &[]).await;
        desk.pass_through("later", &[]).await;
        // A run that gets its turn as soon as it is due.
        let mut delayed = in_session("last");
        delayed.request.delay_ms = 3_600_000;
        desk.accept(&delayed).await;
        assert!(desk.claim().await.is_empty());
        scene.assert_sound().await;
        scene.pass(HOUR).await;
        while desk.store().fire(&fire()).await.unwrap().fired > 0 {}
        desk.pass_through("last", &[]).await;
        while desk.store().fire(&fire()).await.unwrap().fired > 0 {}
    })
    .await;
}

#[tokio::test]
async fn a_pause_of_the_first_one_holds_the_line_and_one_in_the_line_is_paused_in_its_turn() {
    on_both(async |scene| {
        let mut desk = Line::of(scene, &["x", "y", "z"]).await;
        assert_eq!(desk.store().pause("x", None).await.unwrap(), Paused::Paused);
        assert!(desk.claim().await.is_empty());
        assert_eq!(desk.store().pause("y", None).await.unwrap(), Paused::Paused);
        assert_eq!(desk.store().pause("y", None).await.unwrap(), Paused::Already);
        assert_eq!(desk.status("y").await, Status::Paused);
        assert_eq!(desk.store().pause("z", None).await.unwrap(), Paused::Paused);
        assert_eq!(desk.store().resume("z", None).await.unwrap(), Resumed::GoesOn);
        assert_eq!(desk.store().resume("z", None).await.unwrap(), Resumed::Already);
        assert_eq!(desk.status("z").await, Status::Queued);
        assert_eq!(desk.store().resume("x", None).await.unwrap(), Resumed::GoesOn);
        desk.pass_through("x", &[]).await;
        assert!(desk.claim().await.is_empty());
        assert_eq!(desk.line().await, line(&["y", "z"]));
        scene.assert_sound().await;
        assert_eq!(desk.store().resume("y", None).await.unwrap(), Resumed::GoesOn);
        desk.pass_through("y", &[]).await;
        desk.pass_through("z", &[]).await;
    })
    .await;
}

#[tokio::test]
async fn a_run_whose_request_is_held_starts_paused_in_the_line() {
    on_both(async |scene| {
        let mut desk = Line::of(scene, &["x"]).await;
        let held = in_session("y");
        desk.store().defer(&held).await.unwrap();
        assert_eq!(desk.store().pause("y", None).await.unwrap(), Paused::Paused);
        assert_eq!(desk.store().signal("y", "word", &[1, 9], None).await.unwrap(), Signalled::Kept);
        desk.accept(&held).await;
        desk.pass_through("x", &[]).await;
        assert!(desk.claim().await.is_empty());
        assert_eq!(desk.status("y").await, Status::Paused);
        assert_eq!(desk.store().resume("y", None).await.unwrap(), Resumed::GoesOn);
        desk.pass_through("y", &[]).await;
    })
    .await;
}

#[tokio::test]
async fn a_session_is_forgotten_some_time_after_its_last_run() {
    on_both(async |scene| {
        let mut desk = Line::of(scene, &["x"]).await;
        desk.pass_through("x", &[("a", b"\x011")]).await;
        scene.pass_almost(HOUR).await;
        desk.store().fire(&fire()).await.unwrap();
        desk.accept(&in_session("y")).await;
        scene.pass(HOUR).await;
        desk.store().fire(&fire()).await.unwrap();
        let step = desk.turn_of("y").await;
        assert_eq!(step.context.len(), 1, "it is there as long as a run of it is under way");
        assert_eq!(desk.session().await.expires_ms, None);
        desk.complete(&step, &stop()).await;
        assert!(desk.session().await.expires_ms.is_some());
        scene.pass(HOUR).await;
        desk.store().fire(&fire()).await.unwrap();
        assert_eq!(desk.store().session("s").await.unwrap(), None);
        desk.accept(&in_session("z")).await;
        assert!(desk.turn_of("z").await.context.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_request_that_is_repeated_takes_no_second_place() {
    on_both(async |scene| {
        let desk = Line::of(scene, &["x", "y"]).await;
        assert_eq!(desk.store().start(&in_session("y")).await.unwrap(), Started::Known("y".into()));
        assert_eq!(desk.line().await, line(&["x", "y"]));
    })
    .await;
}

#[tokio::test]
async fn as_many_runs_wait_as_may_and_no_more() {
    on_both(async |scene| {
        let mut desk = Line::new(scene).await;
        desk.accept(&in_session("first")).await;
        let step = desk.turn_of("first").await;
        desk.fail(&step).await;
        let mut delayed = in_session("late");
        delayed.request.delay_ms = 3_600_000;
        desk.accept(&delayed).await;
        for n in 0..1000 {
            desk.accept(&in_session(&format!("r{n}"))).await;
        }
        assert_eq!(desk.store().start(&in_session("more")).await.unwrap(), Started::LineFull("s".into()));
        assert_eq!(desk.store().run("more").await.unwrap().map(|run| run.id), None);
        let refused = Retried::Refused("too many runs of session s wait for their turn".into());
        assert_eq!(desk.store().retry("first", None, None).await.unwrap(), refused);
        scene.pass(HOUR).await;
        while desk.store().fire(&fire()).await.unwrap().fired > 0 {}
        assert_eq!(desk.session().await.waiting.len(), 999, "it asks again");
        assert_eq!(desk.store().cancel("r7", None, HOUR).await.unwrap(), Cancelled::Stopped);
        scene.pass(HOUR).await;
        desk.store().fire(&fire()).await.unwrap();
        assert_eq!(desk.session().await.waiting.last().map(String::as_str), Some("late"));
    })
    .await;
}

#[tokio::test]
async fn a_lost_worker_does_not_end_the_turn() {
    on_both(async |scene| {
        let mut desk = Line::of(scene, &["x", "y"]).await;
        desk.turn_of("x").await;
        desk.store().reap(&reap(&["a"])).await.unwrap();
        join_fleet(desk.store(), "a", Duration::MAX).await;
        desk.pass_through("x", &[]).await;
        let mend = Audit { repair: true, from: 0, max_losses: 3, retention: HOUR };
        assert_eq!(desk.store().audit(&mend).await.unwrap().breaches, []);
        desk.pass_through("y", &[]).await;
    })
    .await;
}
