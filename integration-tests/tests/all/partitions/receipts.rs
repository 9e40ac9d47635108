//! Lists of receipts, with several partitions.

use serde_json::Value;
use stepfleet_shared::partition::partition_of;
use stepfleet_shared::run::Status;

use super::across::Desk;

impl Desk {
    /// The receipts in a list of a partition: the event and the reason, if there is one.
    async fn told(&self, partition: u16, list: &str) -> Vec<(String, String)> {
        let receipts = self.partitions.get(partition).receipts(list).await.unwrap();
        let read = |receipt: &String| {
            let receipt: Value = serde_json::from_str(receipt).unwrap();
            let text = |name: &str| receipt[name].as_str().unwrap_or_default().to_owned();
            (text("event"), text("reason"))
        };
        receipts.iter().map(read).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_in_the_partition_of_its_run_whatever_inbox_the_request_is_in() {
    Desk::both(async |desk: &Desk| {
        let coordinator = desk.coordinator("c");
        let home = partition_of("r", 4);
        let (mine, other) = (format!("sf:{{{home}}}:reply:me"), (home + 1) % 4);
        for inbox in 0..4 {
            let start = [("op", "start"), ("workflow", "w"), ("id", "r"), ("reply", &*mine)];
            desk.ask(inbox, &start).await;
            desk.take_in(&coordinator).await;
            let signal = [("op", "signal"), ("run", "r"), ("name", "word"), ("reply", &*mine)];
            desk.ask(inbox, &signal).await;
            // The request cannot be read, and still gets a receipt.
            let wrong = [("op", "start"), ("workflow", "w"), ("id", "x"), ("colour", "red"), ("reply", &*mine)];
            desk.ask(inbox, &wrong).await;
            desk.take_in(&coordinator).await;
        }
        let told = desk.told(home, "me").await;
        let count = |event: &str| told.iter().filter(|(of, _)| of == event).count();
        assert_eq!([count("started"), count("kept"), count("rejected")], [4, 4, 4], "{told:?}");
        assert!(told.iter().filter(|(of, _)| of == "rejected").all(|(_, why)| why.contains("colour")), "{told:?}");

        let elsewhere = format!("sf:{{{other}}}:reply:me");
        let start = [("op", "start"), ("workflow", "w"), ("id", "r2"), ("reply", &*elsewhere)];
        let fits = partition_of("r2", 4) == other;
        desk.ask(home, &start).await;
        let keyed = [("op", "start"), ("workflow", "w"), ("id", "k"), ("key", "key"), ("reply", &*elsewhere)];
        desk.ask(home, &keyed).await;
        let steal = [("op", "cancel"), ("run", "r"), ("reply", "sf:{0}:run:r")];
        desk.ask(home, &steal).await;
        desk.take_in(&coordinator).await;
        let told = desk.told(other, "me").await;
        let reasons = told.iter().map(|(_, reason)| &**reason).collect::<Vec<_>>().join(" ");
        assert!(fits || reasons.contains("must be in the partition of run r2"), "{told:?}");
        assert!(reasons.contains("reply or key, not both"), "{told:?}");
        let run = desk.partitions.of("r").run("r").await.unwrap().unwrap();
        assert_eq!(run.status, Status::Queued, "whoever names a key that is no such list is refused");
    })
    .await;
}
