//! Runs of a session: all of them are in the partition of its name.

use stepfleet::partition::{id_in, partition_of, run_of_entry};
use stepfleet::request::StartRequest;
use stepfleet::store::InboxEntry;

use crate::intake::Intake;

impl Intake {
    /// The id of the run that a request asks for: the one it gives, or one that follows from the entry. Why not, where its session is
    /// in another partition.
    pub(crate) fn run_id(&self, request: &StartRequest, entry: &InboxEntry) -> Result<String, String> {
        let count = self.partitions.count();
        let made = || run_of_entry(&entry.id, entry.inbox);
        let Some(session) = &request.session else { return Ok(request.id.clone().unwrap_or_else(made)) };
        let partition = partition_of(session, count);
        match &request.id {
            None => id_in(partition, count, &made()).ok_or_else(|| "no id was found for it".to_owned()),
            Some(id) if partition_of(id, count) == partition => Ok(id.clone()),
            Some(id) => Err(format!(
                "the runs of a session are in the partition of its name: {id} would be in partition {}, and session {session} is in \
                 {partition}; leave out id (give a key where the request may be sent twice), or take an id of that partition",
                partition_of(id, count)
            )),
        }
    }
}

pub(crate) fn line_full(session: &str) -> String {
    format!("as many runs of session {session} wait for their turn as may; send the request again when some have ended")
}
