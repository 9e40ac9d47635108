//! Every kind of request about a run, in each of its states: each cell of the table in `docs/protocol.md`, which has the same
//! source.

use stepfleet_contract::answers::{Answer, Operation, Standing, answer};
use stepfleet_coordinator::{Config, Coordinator};
use stepfleet_integration_tests::double::{introduction, refill, route, start, stop};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_shared::graph::{Accepts, Graph, StepNode};
use stepfleet_shared::history::Kind;
use stepfleet_shared::run::Status;
use stepfleet_shared::step::{Body, Claimed, Failure, Paused, Wait};
use stepfleet_shared::store::{Introduction, Registration, Rejection, Start, Started, Store};

use super::*;

const AGES: Duration = Duration::from_secs(1000 * 3600);

/// One store, with a coordinator and a worker that are driven by hand.
struct Desk<'a> {
    scene: &'a Scene,
    coordinator: Coordinator,
    calls: u64,
}

type Fields<'a> = Vec<(&'a str, &'a str)>;

/// A worker of the workflow `w`, whose step `first` takes `E`, also from outside.
fn worker(workflow: &str) -> Introduction {
    let accepts = Accepts { events: vec!["E".into()], ..Accepts::default() };
    let steps = vec![StepNode { name: "first".into(), accepts, ..StepNode::default() }];
    let external = vec!["E".into()];
    let graph = Graph { start: "E".into(), stop: "S".into(), steps, external, ..Graph::default() };
    let served = Registration {
        workflow: workflow.into(),
        version: 1,
        start: vec![route("first")],
        graph,
        ..Registration::default()
    };
    Introduction { id: format!("of-{workflow}"), serves: vec![served], ..introduction("a") }
}

impl<'a> Desk<'a> {
    async fn new(scene: &'a Scene) -> Self {
        let config = Config { fleet_age: Duration::ZERO, reclaim_idle: Duration::ZERO, ..Config::default() };
        scene.store().register(&worker("w"), AGES).await.unwrap();
        Self { scene, coordinator: Coordinator::new(scene.shared(), config), calls: 0 }
    }

    fn store(&self) -> &dyn Store {
        self.scene.store()
    }

    fn number(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    /// Claims everything; returns what belongs to the run.
    async fn claim(&mut self, run: &str) -> Vec<Claimed> {
        let number = self.number();
        let claimed = double::claim(self.store(), "of-w", number, 100).await;
        claimed.into_iter().filter(|step| step.fence.run == run).collect()
    }

    async fn begun(&mut self, run: &str, start: &Start) -> Claimed {
        assert_eq!(self.store().start(start).await.unwrap(), Started::New(run.into()));
        self.claim(run).await.remove(0)
    }

    async fn set(&mut self, run: &str, standing: Standing) {
        let mut asked = start(run);
        match standing {
            Standing::Unknown => {}
            Standing::Held => {
                asked.request.workflow = "unserved".into();
                self.store().defer(&asked).await.unwrap();
            }
            Standing::Delayed => {
                asked.request.delay_ms = 3_600_000;
                self.store().start(&asked).await.unwrap();
            }
            Standing::Queued => {
                self.store().start(&asked).await.unwrap();
            }
            Standing::Running => {
                self.begun(run, &asked).await;
            }
            Standing::InLine => {
                asked.request.session = Some(format!("of-{run}"));
                let first = Start { run: format!("before-{run}"), ..asked.clone() };
                self.begun(&first.run, &first).await;
                assert_eq!(self.store().start(&asked).await.unwrap(), Started::New(run.into()));
                assert!(self.claim(run).await.is_empty());
            }
            Standing::Resting => {
                let step = self.begun(run, &asked).await;
                let failure = Failure::Retry { delay: 10 * HOUR, error: "e".into() };
                let call = call("of-w", self.number(), false);
                self.store().fail(&call, &step, &failure, &refill(0)).await.unwrap();
            }
            Standing::Suspended => {
                let step = self.begun(run, &asked).await;
                let waits = [Wait { number: 1, name: "word".into(), ..Wait::default() }];
                let call = call("of-w", self.number(), false);
                self.store().suspend(&call, &step, &waits, Body::Dropped, None, &refill(0)).await.unwrap();
            }
            Standing::Asking => {
                let step = self.begun(run, &asked).await;
                let waits = [super::questions::asks(1, "word", None)];
                let call = call("of-w", self.number(), false);
                self.store().suspend(&call, &step, &waits, Body::Dropped, None, &refill(0)).await.unwrap();
            }
            Standing::Paused => {
                self.store().start(&asked).await.unwrap();
                assert_eq!(self.store().pause(run, None).await.unwrap(), Paused::Paused);
            }
            Standing::Ended => {
                let step = self.begun(run, &asked).await;
                let call = call("of-w", self.number(), false);
                double::complete(self.store(), &call, &step, &stop(), 0).await;
            }
            Standing::Failed => {
                let step = self.begun(run, &asked).await;
                let failure = Failure::Fail { error: "e".into(), retention: HOUR, forget: Vec::new(), upon: None };
                let call = call("of-w", self.number(), false);
                self.store().fail(&call, &step, &failure, &refill(0)).await.unwrap();
            }
            Standing::Rejected => {
                let rejection = Rejection { run: Some(run.into()), reason: "bad".into(), ..Rejection::default() };
                self.store().reject(&rejection).await.unwrap();
            }
            Standing::Alias => {
                asked.request.key = Some(format!("key-of-{run}"));
                let first = Start { run: format!("first-of-{run}"), ..asked.clone() };
                self.begun(&first.run, &first).await;
                assert_eq!(self.store().start(&asked).await.unwrap(), Started::Known(first.run));
            }
        }
    }

    async fn ask(&self, fields: &Fields<'_>) {
        let owned: Vec<_> = fields.iter().map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec())).collect();
        self.store().enqueue(&owned).await.unwrap();
    }

    /// The details of the history's records of this kind.
    async fn told(&self, run: &str, kind: Kind) -> Vec<String> {
        let id = self.store().run(run).await.unwrap().map_or(run.to_owned(), |run| run.id);
        let history = self.store().history(&id, 0, 100).await.unwrap();
        history.into_iter().filter(|record| record.kind == kind).map(|record| record.detail).collect()
    }

    async fn is_held(&self, run: &str) -> bool {
        self.store().is_deferred(run).await.unwrap()
    }

    /// Makes the request, and checks the outcome.
    async fn answer(&mut self, operation: Operation, run: &str, standing: Standing) -> Answer {
        let workflow = if standing == Standing::Held { "unserved" } else { "w" };
        let fork = format!("fork-of-{run}");
        let more: Fields = match operation {
            Operation::Start => vec![("id", run), ("workflow", workflow)],
            Operation::Signal => vec![("run", run), ("name", "word"), ("input", "7")],
            Operation::Send => vec![("run", run), ("event", "E")],
            Operation::Answer => vec![("run", run), ("question", "word"), ("input", "true")],
            Operation::Fork => vec![("run", run), ("as", &*fork)],
            Operation::Cancel | Operation::Retry | Operation::Pause | Operation::Resume => vec![("run", run)],
        };
        let rejected = self.scene.rejected().await.len();
        self.ask(&[vec![("op", operation.word())], more].concat()).await;
        let taken = self.coordinator.intake_pass().await.unwrap();
        assert_eq!(taken.total(), 1, "{taken:?}");
        let was_early = taken.early == 1;
        if was_early {
            self.coordinator.reclaim_pass().await.unwrap();
        }
        match self.scene.rejected().await.len() - rejected {
            0 => assert!(!was_early),
            1 if was_early => return Answer::LookedAtTwice,
            _ => return Answer::Rejected,
        }
        match operation {
            Operation::Start if taken.started == 1 => Answer::Starts,
            Operation::Start => Answer::Repeats,
            Operation::Signal => self.of_signal(run).await,
            Operation::Send => self.of_event(run).await,
            Operation::Answer => {
                assert_eq!(self.told(run, Kind::Answered).await, ["%ask.word "]);
                Answer::Answered
            }
            Operation::Cancel => match self.store().run(run).await.unwrap().unwrap().status {
                Status::Cancelled => Answer::Cancels,
                _ => Answer::Nothing,
            },
            Operation::Retry => match self.store().run(run).await.unwrap().unwrap().status {
                Status::Running => Answer::Retries,
                _ => Answer::Nothing,
            },
            Operation::Fork => {
                let told = self.told(&fork, Kind::Forked).await;
                let source = self.store().run(run).await.unwrap().unwrap().id;
                assert_eq!(told, [format!("from {source}")]);
                assert_eq!(self.told(&source, Kind::Forked).await, [format!("to {fork}")]);
                assert!(!self.claim(&fork).await.is_empty());
                Answer::Forks
            }
            Operation::Pause => self.of_pause(run, standing).await,
            Operation::Resume => match self.told(run, Kind::Resumed).await.len() {
                1 => Answer::Resumes,
                _ => Answer::Nothing,
            },
        }
    }

    async fn of_signal(&mut self, run: &str) -> Answer {
        if self.told(run, Kind::Signal).await == ["word"] {
            return Answer::Delivered;
        }
        // The history lists kept signals at the end.
        self.store().cancel(run, None, HOUR).await.unwrap();
        assert_eq!(self.told(run, Kind::UnusedSignals).await, ["word 1"]);
        Answer::Kept
    }

    async fn of_pause(&mut self, run: &str, standing: Standing) -> Answer {
        if self.is_held(run).await {
            // A worker serves it by now.
            let begins = Start { entry: None, ..start(run) };
            assert_eq!(self.store().start(&begins).await.unwrap(), Started::New(run.into()));
            assert!(self.claim(run).await.is_empty());
            assert_eq!(self.told(run, Kind::Paused).await.len(), 1);
            return Answer::StartsPaused;
        }
        let found = self.store().run(run).await.unwrap().unwrap();
        assert_eq!(found.status, Status::Paused);
        assert_eq!(self.told(run, Kind::Paused).await.len(), 1);
        if standing == Standing::Paused { Answer::Nothing } else { Answer::Pauses }
    }

    async fn of_event(&mut self, run: &str) -> Answer {
        if self.is_held(run).await {
            return Answer::Waits;
        }
        let id = self.store().run(run).await.unwrap().unwrap().id;
        let last = self.claim(&id).await.pop();
        if last.is_some_and(|step| step.fence.seq == 2) {
            return Answer::Begins;
        }
        if self.told(&id, Kind::Paused).await.len() == 1 {
            self.store().resume(&id, None).await.unwrap();
            let seqs: Vec<_> = self.claim(&id).await.iter().map(|step| step.fence.seq).collect();
            assert_eq!(seqs, [1, 2]);
            return Answer::BeginsResumed;
        }
        if self.told(&id, Kind::InLine).await.len() == 1 {
            self.store().cancel(&format!("before-{run}"), None, HOUR).await.unwrap();
            let seqs: Vec<_> = self.claim(&id).await.iter().map(|step| step.fence.seq).collect();
            assert_eq!(seqs, [1, 2], "first what the run begins with");
            return Answer::BeginsInTurn;
        }
        self.scene.pass(HOUR).await;
        self.store().fire(&fire()).await.unwrap();
        let seqs: Vec<_> = self.claim(&id).await.iter().map(|step| step.fence.seq).collect();
        assert_eq!(seqs, [1, 2], "first what the run begins with");
        Answer::BeginsLater
    }
}

#[tokio::test]
async fn each_request_is_answered_as_the_table_says_in_each_state_of_its_run() {
    on_both(async |scene| {
        let mut desk = Desk::new(scene).await;
        for (n, standing) in Standing::ALL.into_iter().enumerate() {
            for operation in Operation::ALL {
                let run = format!("{}-{n}", operation.word());
                desk.set(&run, standing).await;
                let found = desk.answer(operation, &run, standing).await;
                assert_eq!(found, answer(operation, standing), "{operation:?} of a run that {}", standing.text());
            }
        }
    })
    .await;
}

#[tokio::test]
async fn events_for_a_run_that_is_held_come_when_it_starts_in_the_order_sent() {
    on_both(async |scene| {
        let mut desk = Desk::new(scene).await;
        let mut held = start("r");
        held.request.workflow = "late".into();
        desk.store().defer(&held).await.unwrap();
        for input in ["1", "2"] {
            desk.ask(&vec![("op", "send"), ("run", "r"), ("event", "E"), ("step", "first"), ("input", input)]).await;
        }
        desk.ask(&vec![("op", "send"), ("run", "r"), ("event", "Nonsense")]).await;
        assert_eq!(desk.coordinator.intake_pass().await.unwrap().steered, 3);
        desk.store().register(&worker("late"), AGES).await.unwrap();
        assert_eq!(desk.coordinator.deferred_pass().await.unwrap().started, 1);
        // They become requests again, for a run whose version is now known.
        let taken = desk.coordinator.intake_pass().await.unwrap();
        assert_eq!((taken.steered, taken.rejected), (2, 1));
        let number = desk.number();
        let claimed = double::claim(desk.store(), "of-late", number, 10).await;
        let payloads: Vec<_> = claimed.iter().map(|step| step.payload.clone()).collect();
        assert_eq!(payloads, [b"\x02{}".to_vec(), b"\x021".to_vec(), b"\x022".to_vec()]);
        assert!(reason(scene, 0).await.contains("no step of late version 1 takes Nonsense"));
    })
    .await;
}

async fn reason(scene: &Scene, at: usize) -> String {
    String::from_utf8_lossy(&scene.rejected().await[at][0].1).into_owned()
}

#[tokio::test]
async fn what_a_held_run_was_sent_is_told_when_nothing_comes_of_it() {
    on_both(async |scene| {
        let desk = Desk::new(scene).await;
        for (run, cancelled) in [("cancelled", true), ("rejected", false)] {
            let mut held = start(run);
            held.request.workflow = "nobody".into();
            desk.store().defer(&held).await.unwrap();
            desk.ask(&vec![("op", "send"), ("run", run), ("event", "E")]).await;
            desk.ask(&vec![("op", "signal"), ("run", run), ("name", "word")]).await;
            assert_eq!(desk.coordinator.intake_pass().await.unwrap().steered, 2);
            let before = scene.rejected().await.len();
            if cancelled {
                desk.store().cancel(run, None, HOUR).await.unwrap();
            } else {
                let late = Rejection { deferred: Some(run.into()), run: Some(run.into()), ..Rejection::default() };
                desk.store().reject(&late).await.unwrap();
            }
            assert_eq!(desk.told(run, Kind::UnusedSignals).await, ["word 1"], "{run}");
            assert_eq!(desk.coordinator.intake_pass().await.unwrap().rejected, 1);
            let last = scene.rejected().await.len() - 1;
            assert_eq!(last, before + usize::from(!cancelled));
            assert!(reason(scene, last).await.contains("has ended: it takes no more events"));
        }
        // The id of a rejected run is free, and its successor only gets what was sent to itself.
        let mut again = start("rejected");
        again.request.workflow = "late".into();
        desk.store().defer(&again).await.unwrap();
        desk.ask(&vec![("op", "signal"), ("run", "rejected"), ("name", "word")]).await;
        assert_eq!(desk.coordinator.intake_pass().await.unwrap().steered, 1);
        desk.store().register(&worker("late"), AGES).await.unwrap();
        assert_eq!(desk.coordinator.deferred_pass().await.unwrap().started, 1);
        desk.store().cancel("rejected", None, HOUR).await.unwrap();
        assert_eq!(desk.told("rejected", Kind::UnusedSignals).await, ["word 1"]);
    })
    .await;
}
