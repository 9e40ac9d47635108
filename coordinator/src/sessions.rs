//! Runs of a session: all of them are in the partition of its name.

use std::collections::HashMap;

use stepfleet_shared::partition::{id_in, partition_of, run_of_entry};
use stepfleet_shared::request::StartRequest;
use stepfleet_shared::store::InboxEntry;

use crate::intake::Intake;

impl Intake {
    /// The id of the run that a request asks for: the one it gives, or one that follows from the entry. An error if its session is
    /// in another partition.
    pub(crate) fn run_id(&self, request: &StartRequest, entry: &InboxEntry) -> Result<String, String> {
        let count = self.partitions.count();
        let made = || run_of_entry(&entry.id, entry.inbox);
        let Some(session) = &request.session else { return Ok(request.id.clone().unwrap_or_else(made)) };
        let partition = partition_of(session, count);
        match &request.id {
            None => id_in(partition, count, &made()).ok_or_else(|| "no free id was found for it".to_owned()),
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
    format!("too many runs of session {session} wait for their turn; send the request again when some have ended")
}

/// Groups of requests to process in order: those of one session form a group, and each other request is a group by itself.
pub(crate) fn in_lines<T>(requests: Vec<T>, session: impl Fn(&T) -> Option<String>) -> Vec<Vec<T>> {
    let (mut lines, mut of_session): (Vec<Vec<T>>, HashMap<String, usize>) = (Vec::new(), HashMap::new());
    for request in requests {
        let next = lines.len();
        let at = session(&request).map_or(next, |session| *of_session.entry(session).or_insert(next));
        if at == next {
            lines.push(Vec::new());
        }
        lines[at].push(request);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_a_session_keep_their_order_and_others_wait_for_nobody() {
        let requests = vec![(None, 1), (Some("a"), 2), (Some("b"), 3), (Some("a"), 4), (None, 5)];
        let lines = in_lines(requests, |(session, _)| session.map(str::to_owned));
        let numbers: Vec<Vec<_>> = lines.into_iter().map(|line| line.into_iter().map(|(_, n)| n).collect()).collect();
        assert_eq!(numbers, [vec![1], vec![2, 4], vec![3], vec![5]]);
    }
}
