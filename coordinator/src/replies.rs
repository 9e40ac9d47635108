//! The lists that requests name for their receipts: which of them may be used, and which one gets a rejection.

use stepfleet_shared::Result;
use stepfleet_shared::partition::partition_of;
use stepfleet_shared::reply::ReplyList;
use stepfleet_shared::request::{self, Fields, StartRequest};
use stepfleet_shared::store::Rejection;

use crate::intake::Intake;

impl Intake {
    /// The name of the list that a request about this run names, by its key; or why it cannot be used. It must be where the run is, so
    /// that a receipt is written with what it tells of.
    pub(crate) fn list_for(&self, key: Option<&str>, run: &str) -> Result<Option<String>, String> {
        let Some(key) = key else { return Ok(None) };
        let (namespace, count) = (self.partitions.first().namespace(), self.partitions.count());
        let list = ReplyList::parse(key, namespace, count).map_err(|error| error.to_string())?;
        let partition = partition_of(run, count);
        if list.partition == partition {
            return Ok(Some(list.name));
        }
        let name = format!("{}:{{{partition}}}:reply:{}", namespace.name(), list.name);
        Err(format!(
            "the list for receipts must be in the partition of run {run}: name {name}, or give the run another id"
        ))
    }

    /// The same for a start.
    pub(crate) fn list_of_start(&self, request: &StartRequest, run: &str) -> Result<(), String> {
        let Some(key) = &request.reply else { return Ok(()) };
        if self.are_several() && request.key.is_some() {
            return Err(
                "in a namespace of several partitions a request has reply or key, not both: the run of the key may be \
                 in another partition; give an id instead of the key, which also makes the request safe to repeat"
                    .to_owned(),
            );
        }
        self.list_for(Some(key), run).map(drop)
    }

    /// A list that can be used, wherever it is: for what is rejected before it is known which run it is about.
    pub(crate) fn list_in(&self, key: Option<&str>) -> Option<ReplyList> {
        ReplyList::parse(key?, self.partitions.first().namespace(), self.partitions.count()).ok()
    }

    /// Writes the receipt of a rejection in another partition than that of the inbox. It may be written twice after a
    /// crash.
    pub(crate) async fn tell_elsewhere(&self, list: ReplyList, fields: &Fields, reason: &str) -> Result<()> {
        let rejection = Rejection {
            request: request::subject_of(fields),
            run: request::id_of(fields).filter(|run| partition_of(run, self.partitions.count()) == list.partition),
            reply: Some(list.name),
            reason: reason.to_owned(),
            only_shown: true,
            ..Rejection::default()
        };
        self.partitions.get(list.partition).reject(&rejection).await
    }
}
