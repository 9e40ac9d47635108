//! Child runs that exist already when their parent asks for them.

use stepfleet_shared::Result;
use stepfleet_shared::child::{ChildEnd, Parent};
use stepfleet_shared::request::ChildEndedRequest;
use stepfleet_shared::run::{Run, Status};
use stepfleet_shared::step::Retried;
use stepfleet_shared::store::{CoordinatorStore, InboxEntry, Origin};

use crate::intake::Intake;
use crate::taken::Became;

impl Intake {
    /// Handles the request for a child run that has ended before: a failed one goes on from where it failed, like the
    /// parent that asks for it again. None for one that is to be started, or is active.
    pub(crate) async fn take_known_child(
        &self,
        run: &str,
        parent: &Parent,
        entry: &InboxEntry,
    ) -> Result<Option<Became>> {
        let store = self.partitions.of(run);
        let known = store.run(run).await?.filter(|known| known.status.is_over() && known.status != Status::Rejected);
        let Some(known) = known else { return Ok(None) };
        let origin = Origin::entry(self.name_of(entry, run));
        if known.status == Status::Failed && goes_on(&**store, run, &origin).await? {
            self.dismiss(entry, run).await?;
            return Ok(Some(Became::Steered));
        }
        let told = ChildEndedRequest { parent: parent.clone(), end: end_of(known) };
        let of_parent = self.partitions.of(&parent.run);
        of_parent.child_ended(&told, &self.name_of(entry, &parent.run)).await?;
        self.dismiss(entry, &parent.run).await?;
        Ok(Some(Became::Steered))
    }
}

async fn goes_on(store: &dyn CoordinatorStore, run: &str, origin: &Origin) -> Result<bool> {
    Ok(match store.retry(run, None, Some(origin)).await? {
        Retried::GoesOn | Retried::Gone | Retried::Repeated | Retried::Live | Retried::Paused => true,
        Retried::Held | Retried::Over | Retried::Unknown | Retried::Refused(_) => false,
    })
}

fn end_of(run: Run) -> ChildEnd {
    let output = run.result.unwrap_or_else(|| run.error.unwrap_or_default().into_bytes());
    ChildEnd { run: run.id, status: run.status, content: run.content.as_str().to_owned(), output }
}
