//! Keys and requests that concern two partitions, processed by coordinators that are driven by hand.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use stepfleet_coordinator::{Config, Coordinator};
use stepfleet_integration_tests::redis::TestRedis;
use stepfleet_shared::Partitions;
use stepfleet_shared::names::Namespace;
use stepfleet_shared::partition::partition_of;
use stepfleet_shared::run::Status;
use stepfleet_shared::step::Route;
use stepfleet_shared::store::{
    Introduction, MemoryStore, Registration, RequestFate, Reservation, Store, Topology, Voided,
};

use super::TTL;

/// Coordinators that are driven by hand, on partitions in memory and on Redis.
pub(super) struct Desk {
    pub(super) partitions: Partitions,
    _redis: Option<TestRedis>,
}

impl Desk {
    pub(super) async fn both(scenario: impl AsyncFn(&Self)) {
        let store = |partition| Arc::new(MemoryStore::new(Namespace::new("sf", partition).unwrap())) as Arc<dyn Store>;
        let memory = Self { partitions: Partitions::of_stores((0..4).map(store).collect()), _redis: None };
        let redis = TestRedis::start().await;
        let partitions = Partitions::open(&Topology::new(&redis.url).unwrap(), "sf", Some(4)).await.unwrap();
        for (name, desk) in [("memory", memory), ("Redis", Self { partitions, _redis: Some(redis) })] {
            eprintln!("--- on {name}");
            desk.serve("w").await;
            scenario(&desk).await;
        }
    }

    async fn serve(&self, workflow: &str) {
        let start = vec![Route { step: "first".into(), event: "Begin".into(), ..Route::default() }];
        let served = Registration { workflow: workflow.into(), version: 1, start, ..Registration::default() };
        let worker = Introduction { id: format!("of-{workflow}"), serves: vec![served], ..Introduction::default() };
        for store in self.partitions.all() {
            store.register(&worker, TTL).await.unwrap();
        }
    }

    pub(super) fn coordinator(&self, id: &str) -> Coordinator {
        let (fleet_age, reclaim_idle) = (Duration::ZERO, Duration::ZERO);
        Coordinator::new(
            self.partitions.clone(),
            Config { id: id.into(), fleet_age, reclaim_idle, ..Config::default() },
        )
    }

    /// Processes everything in the inboxes, pending or not, until they are empty.
    pub(super) async fn take_in(&self, coordinator: &Coordinator) {
        loop {
            let mut read = 0;
            for store in self.partitions.all() {
                let mut reader = store.inbox_reader("reader").await.unwrap();
                let waiting = tokio::time::timeout(Duration::from_millis(50), reader.next()).await;
                read += waiting.map_or(0, |entries| entries.unwrap().len());
            }
            if read == 0 && coordinator.reclaim_pass().await.unwrap() == 0 {
                return;
            }
        }
    }

    pub(super) async fn ask(&self, inbox: u16, fields: &[(&str, &str)]) -> String {
        let owned: Vec<_> = fields.iter().map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec())).collect();
        self.partitions.get(inbox).enqueue(&owned).await.unwrap()
    }

    async fn start(&self, id: &str, key: &str) -> String {
        self.ask(partition_of(id, 4), &[("op", "start"), ("workflow", "w"), ("id", id), ("key", key)]).await
    }

    async fn reserve_for(&self, run: &str, entry: Option<String>) -> Reservation {
        let place = entry.map(|entry| (partition_of(run, 4), entry));
        let wanted = Reservation {
            workflow: "w".into(),
            key: "k".into(),
            run: run.into(),
            ticket: format!("ticket-of-{run}"),
            place,
        };
        let held = self.partitions.of_key("w", "k").reserve(&wanted, TTL).await.unwrap();
        assert_eq!(held, wanted);
        held
    }

    async fn status(&self, id: &str) -> Option<Status> {
        self.partitions.of(id).run(id).await.unwrap().map(|run| run.status)
    }

    async fn leads(&self, id: &str) -> Option<String> {
        self.partitions.run(id).await.unwrap().map(|run| run.id)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_dies_after_it_reserved_a_key_is_finished_by_the_next() {
    Desk::both(async |desk: &Desk| {
        // The first request is delivered to a coordinator that reserves its key and dies.
        let entry = desk.start("first", "k").await;
        desk.reserve_for("first", Some(entry)).await;
        // The second one comes before the first is reclaimed.
        desk.start("second", "k").await;
        desk.take_in(&desk.coordinator("b")).await;
        assert_eq!(desk.status("first").await, Some(Status::Queued));
        assert_eq!(desk.status("second").await, None);
        assert_eq!(desk.leads("second").await.as_deref(), Some("first"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_not_blocked_by_a_request_that_is_gone_nor_does_that_come_back() {
    Desk::both(async |desk: &Desk| {
        let held = desk.reserve_for("lost", Some("1-0".into())).await;
        desk.start("second", "k").await;
        desk.take_in(&desk.coordinator("b")).await;
        assert_eq!(desk.status("second").await, Some(Status::Queued));
        // The coordinator of the first comes back late, with its ticket.
        let request = stepfleet_shared::request::StartRequest {
            key: Some("k".into()),
            ..stepfleet_shared::request::StartRequest::new("w", "{}")
        };
        let route = Route { step: "first".into(), event: "Begin".into(), ..Route::default() };
        let late = stepfleet_shared::store::Start {
            request,
            run: "lost".into(),
            version: 1,
            routes: vec![route],
            ticket: Some(held.ticket.clone()),
            key_ttl: TTL,
            ..stepfleet_shared::store::Start::default()
        };
        let answer = desk.partitions.of("lost").start(&late).await.unwrap();
        assert_eq!(answer, stepfleet_shared::store::Started::Void);
        assert_eq!(desk.status("lost").await, None);
        // An existing run is never voided, and keeps its key.
        let now = desk.partitions.of_key("w", "k").reserved("w", "k").await.unwrap().unwrap();
        assert_eq!(now.run, "second");
        assert_eq!(desk.partitions.of("second").void("second", &now.ticket).await.unwrap(), Voided::Exists);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_request_was_rejected_is_free() {
    Desk::both(async |desk: &Desk| {
        let fields = [("op", "start"), ("workflow", "w"), ("id", "bad"), ("key", "k"), ("context_from", "nobody")];
        desk.ask(partition_of("bad", 4), &fields).await;
        let coordinator = desk.coordinator("a");
        desk.take_in(&coordinator).await;
        assert_eq!(desk.status("bad").await, Some(Status::Rejected));
        desk.start("good", "k").await;
        desk.take_in(&coordinator).await;
        assert_eq!(desk.status("good").await, Some(Status::Queued));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_key_that_wait_for_a_worker_are_one_run() {
    Desk::both(async |desk: &Desk| {
        for id in ["early-1", "early-2", "early-3"] {
            let fields = [("op", "start"), ("workflow", "later"), ("id", id), ("key", "k")];
            desk.ask(0, &fields).await;
        }
        let coordinator = desk.coordinator("a");
        desk.take_in(&coordinator).await;
        assert_eq!(desk.partitions.deferred().await.unwrap().len(), 3);
        for id in ["early-1", "early-2", "early-3"] {
            desk.ask(1, &[("op", "signal"), ("run", id), ("name", "word"), ("input", "1")]).await;
        }
        desk.take_in(&coordinator).await;
        desk.serve("later").await;
        coordinator.deferred_pass().await.unwrap();
        coordinator.deferred_pass().await.unwrap();
        assert!(desk.partitions.deferred().await.unwrap().is_empty());
        desk.take_in(&coordinator).await;
        let runs: Vec<_> = join_all(["early-1", "early-2", "early-3"].map(|id| desk.leads(id))).await;
        assert!(runs[0].is_some() && runs.iter().all(|run| *run == runs[0]), "{runs:?}");
        // The one run gets the signals of all three.
        let signals = desk.kept_signals(runs[0].as_deref().unwrap()).await;
        assert_eq!(signals, 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_in_the_wrong_inbox_reaches_its_run_once_however_often_it_is_dealt_with() {
    Desk::both(async |desk: &Desk| {
        desk.start("r", "k").await;
        let coordinator = desk.coordinator("a");
        desk.take_in(&coordinator).await;
        let inbox = (partition_of("r", 4) + 1) % 4;
        let entry = desk.ask(inbox, &[("op", "signal"), ("run", "r"), ("name", "word"), ("input", "1")]).await;
        // A coordinator delivers the signal and dies before it takes the entry off its inbox.
        let name = stepfleet_shared::store::Origin::entry(stepfleet_shared::partition::foreign_entry(&entry, inbox));
        desk.partitions.of("r").signal("r", "word", b"\x021", Some(&name)).await.unwrap();
        desk.take_in(&coordinator).await;
        assert_eq!(desk.kept_signals("r").await, 1);
        assert!(desk.partitions.get(inbox).inbox_entry(&entry).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_an_id_is_taken_once_in_whatever_inboxes_it_comes() {
    Desk::both(async |desk: &Desk| {
        desk.start("r", "k").await;
        let coordinator = desk.coordinator("a");
        desk.take_in(&coordinator).await;
        // Its request leads to the run, which is in another partition.
        let other =
            (0..100).map(|n| format!("again-{n}")).find(|id| partition_of(id, 4) != partition_of("r", 4)).unwrap();
        desk.start(&other, "k").await;
        desk.take_in(&coordinator).await;
        for run in ["r", &other] {
            for inbox in 0..4 {
                let ask = [("op", "signal"), ("run", run), ("name", "word"), ("input", "1"), ("request", run)];
                desk.ask(inbox, &ask).await;
                desk.take_in(&coordinator).await;
            }
            // Refused; the receipt is in the partition of the run that it names.
            let refused = [("op", "send"), ("run", run), ("event", "Nonsense"), ("request", "no")];
            desk.ask((partition_of(run, 4) + 1) % 4, &refused).await;
            desk.take_in(&coordinator).await;
            let fate = desk.partitions.of(run).request_fate(run, "no").await.unwrap();
            assert!(matches!(fate, Some(RequestFate::Rejected(_))), "{fate:?}");
        }
        assert_eq!(desk.kept_signals("r").await, 2);
    })
    .await;
}

impl Desk {
    /// How many signals are kept for a run: it takes no more than 1,000 of a name.
    async fn kept_signals(&self, run: &str) -> usize {
        let store = self.partitions.of(run);
        let mut kept = 1000;
        while store.signal(run, "word", b"\x02null", None).await.unwrap() == stepfleet_shared::step::Signalled::Kept {
            kept -= 1;
        }
        kept
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_is_in_the_partition_of_its_run_whatever_inbox_asks_for_it() {
    Desk::both(async |desk: &Desk| {
        let coordinator = desk.coordinator("c");
        let home = partition_of("source", 4);
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            (0..100).map(|n| format!("fork-{n}")).partition(|id| partition_of(id, 4) == home);
        desk.ask(home, &[("op", "start"), ("workflow", "w"), ("id", "source")]).await;
        desk.take_in(&coordinator).await;
        let (good, bad) = (&*here[0], &*elsewhere[0]);
        for inbox in 0..4 {
            let request = format!("q-{inbox}");
            let fork = [("op", "fork"), ("run", "source"), ("as", &*here[usize::from(inbox)]), ("request", &*request)];
            // Sent twice, as after a lost reply.
            desk.ask(inbox, &fork).await;
            desk.ask((inbox + 1) % 4, &fork).await;
            let entry = desk.ask(inbox, &[("op", "fork"), ("run", "source")]).await;
            desk.take_in(&coordinator).await;
            assert_eq!(desk.status(&here[usize::from(inbox)]).await, Some(Status::Queued));
            // A generated id follows from the entry.
            let base = format!("source-fork-{}", stepfleet_shared::partition::run_of_entry(&entry, inbox));
            let ids = std::iter::once(base.clone()).chain((1..).map(|n| format!("{base}-{n}")));
            let made = ids.into_iter().find(|id| partition_of(id, 4) == home).unwrap();
            assert_eq!(desk.status(&made).await, Some(Status::Queued), "{made}");
        }
        desk.ask(0, &[("op", "fork"), ("run", "source"), ("as", bad), ("request", "bad")]).await;
        desk.take_in(&coordinator).await;
        let fate = desk.partitions.of("source").request_fate("source", "bad").await.unwrap();
        let is_refused =
            |fate| matches!(fate, Some(RequestFate::Rejected(why)) if why.contains("in the partition of its run"));
        assert!(is_refused(fate) && desk.status(bad).await.is_none() && desk.status(good).await.is_some());
        let history = desk.partitions.of("source").history("source", 0, 100).await.unwrap();
        assert_eq!(history.len(), 1 + 8, "each once: {history:?}");
    })
    .await;
}
