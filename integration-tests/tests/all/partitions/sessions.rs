//! Runs of a session, in a namespace of several partitions: all are in the partition of the session's name.

use stepfleet_shared::Client;
use stepfleet_shared::partition::partition_of;
use stepfleet_shared::run::Status;

use super::across::Desk;

/// A session for each partition.
fn sessions() -> [String; 4] {
    let of = |partition| (0..1000).map(|n| format!("s{n}")).find(|name| partition_of(name, 4) == partition).unwrap();
    [0, 1, 2, 3].map(of)
}

#[tokio::test]
async fn runs_without_an_id_are_made_in_the_partition_of_their_session() {
    Desk::both(async |desk| {
        let coordinator = desk.coordinator("c");
        for session in sessions() {
            for inbox in [0, 3] {
                desk.ask(inbox, &[("op", "start"), ("workflow", "w"), ("session", &session)]).await;
            }
            desk.take_in(&coordinator).await;
            let store = desk.partitions.of(&session);
            let found = store.session(&session).await.unwrap().unwrap();
            assert_eq!(found.waiting.len(), 1, "{session}");
            let run = found.running.unwrap();
            assert_eq!(partition_of(&run, 4), partition_of(&session, 4));
            assert_eq!(store.run(&run).await.unwrap().unwrap().session, Some(session));
        }
        for store in desk.partitions.all() {
            assert_eq!(store.waiting_requests().await.unwrap(), 0);
        }
    })
    .await;
}

#[tokio::test]
async fn an_id_of_another_partition_is_refused_and_one_of_the_same_taken() {
    Desk::both(async |desk| {
        let coordinator = desk.coordinator("c");
        let session = &sessions()[2];
        let ids =
            |fits: bool| (0..1000).map(|n| format!("r{n}")).find(|id| (partition_of(id, 4) == 2) == fits).unwrap();
        for (id, status) in [(ids(true), Status::Queued), (ids(false), Status::Rejected)] {
            desk.ask(1, &[("op", "start"), ("workflow", "w"), ("session", session), ("id", &id)]).await;
            desk.take_in(&coordinator).await;
            let run = desk.partitions.run(&id).await.unwrap().unwrap();
            assert_eq!(run.status, status);
            if status == Status::Rejected {
                let reason = run.error.unwrap();
                assert!(reason.contains("leave out id (give a key"), "{reason}");
            }
        }
        // With a key, as the reason of the rejection says.
        for _ in 0..2 {
            let fields = [("op", "start"), ("workflow", "w"), ("session", session), ("key", "k")];
            desk.ask(3, &fields).await;
            desk.take_in(&coordinator).await;
        }
        let found = desk.partitions.of(session).session(session).await.unwrap().unwrap();
        assert_eq!((found.running, found.waiting.len()), (Some(ids(true)), 1));
    })
    .await;
}

#[tokio::test]
async fn a_client_makes_ids_that_fit() {
    Desk::both(async |desk| {
        let client = Client::with_store(desk.partitions.clone());
        for session in sessions() {
            let run = client.start_json("w", "{}").session(&session).enqueue().await.unwrap();
            assert_eq!(partition_of(run.id(), 4), partition_of(&session, 4));
            desk.take_in(&desk.coordinator("c")).await;
            let status = client.session(&session).status().await.unwrap().unwrap();
            assert_eq!(status.running.as_deref(), Some(run.id()));
        }
        assert_eq!(client.session("nobody").status().await.unwrap(), None);
    })
    .await;
}
