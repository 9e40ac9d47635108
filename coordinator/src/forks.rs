//! Forks: runs that continue from a point of another.

use stepfleet_shared::journal::fork::{is_committed_after, kept_before};
use stepfleet_shared::journal::{FIRST_ORDER, FIRST_TRY};
use stepfleet_shared::partition::{id_in, partition_of, run_of_entry};
use stepfleet_shared::request::ForkRequest;
use stepfleet_shared::step::Forked;
use stepfleet_shared::store::{CoordinatorStore, Fork, ForkPoint, ForkSource, InboxEntry, Origin};
use stepfleet_shared::{Result, names};

use crate::intake::{Intake, Steering};

/// How often the source is read, if it changes in between.
const LOOKS: usize = 5;

impl Intake {
    /// In the partition of this run.
    pub(crate) async fn fork(
        &self,
        store: &dyn CoordinatorStore,
        run: &str,
        asked: &ForkRequest,
        entry: &InboxEntry,
        origin: &Origin,
    ) -> Result<Steering> {
        for _ in 0..LOOKS {
            let source = match store.forkable(run, asked.seq).await? {
                ForkPoint::At(source) => source,
                ForkPoint::Unknown => return Ok(Steering::Unknown),
                ForkPoint::Held => return Ok(refused(run, "it waits for a worker to start it")),
                ForkPoint::Refused(why) => return Ok(refused(run, &why)),
                ForkPoint::Several(found) => return Ok(refused(run, &several(&found))),
            };
            // Only now: the run may be another one that the id leads to, in another partition.
            let id = match self.fork_id(run, asked, entry) {
                Ok(id) => id,
                Err(why) => return Ok(Steering::Refused(why)),
            };
            let workflow = source.workflow.clone();
            let fork = match self.prepared(run, &id, asked, source).await? {
                Ok(fork) => fork,
                Err(why) => return Ok(refused(run, &why)),
            };
            return Ok(match store.fork(&fork, Some(origin)).await? {
                Forked::Made => {
                    self.metrics.started(&workflow);
                    Steering::Done
                }
                Forked::Known | Forked::Gone | Forked::Repeated => Steering::Done,
                Forked::Unknown => Steering::Unknown,
                Forked::Held => refused(run, "it waits for a worker to start it"),
                Forked::Taken => refused(run, &format!("a run {id} already exists; give the fork another id")),
                Forked::Refused(why) => refused(run, &why),
                Forked::Changed => continue,
            });
        }
        Ok(refused(run, "it changes too fast to be read; pause it, and fork it again"))
    }

    /// The id that was asked for, or one that follows from the entry.
    fn fork_id(&self, run: &str, asked: &ForkRequest, entry: &InboxEntry) -> std::result::Result<String, String> {
        let count = self.partitions.count();
        let partition = partition_of(run, count);
        if let Some(id) = &asked.id {
            let other = partition_of(id, count);
            return if other == partition {
                Ok(id.clone())
            } else {
                Err(format!(
                    "a fork must be in the partition of its run: {id} would be in partition {other}, and run {run} is \
                     in {partition}; give it another id, or none"
                ))
            };
        }
        let entry = run_of_entry(&entry.id, entry.inbox);
        let named = format!("{run}-fork-{entry}");
        let is_short = names::check_id("run id", &format!("{named}-9999999")).is_ok();
        let first = if is_short { named } else { format!("fork-{entry}") };
        id_in(partition, count, &first).ok_or_else(|| "no free id was found for it".to_owned())
    }

    async fn prepared(
        &self,
        run: &str,
        id: &str,
        asked: &ForkRequest,
        source: ForkSource,
    ) -> Result<std::result::Result<Fork, String>> {
        let ForkSource { is_start, seq, workflow, version, heads, .. } = source;
        let Some(to) = self.fleet.version(&workflow, version).await? else {
            return Ok(Err(format!(
                "no worker has registered {workflow} version {version}; start one, and fork again"
            )));
        };
        let made = heads.keys().filter_map(|number| call_of(*number)).max().unwrap_or(0);
        if let Some(call) = asked.call.filter(|call| *call > made + 1) {
            let recorded = match made {
                0 => "has recorded none".to_owned(),
                made => format!("has recorded calls up to {made}"),
            };
            return Ok(Err(format!(
                "step execution {seq} has not recorded call {call}, or no longer keeps it: it {recorded}"
            )));
        }
        if is_start && to.routes.len() > 1 && !heads.is_empty() {
            return Ok(Err("its workflow begins with several steps now, and the run began with one".to_owned()));
        }
        if !is_start && asked.call.is_some_and(|call| is_committed_after(&heads, call)) {
            return Ok(Err(format!(
                "the body of step execution {seq} has committed the state since that call, and the state of that time \
                 is not kept"
            )));
        }
        let Some(entries) = kept_before(&heads, asked.call, is_start) else {
            return Ok(Err(format!(
                "the journal of step execution {seq} contradicts itself about the order of its calls"
            )));
        };
        let routes = if is_start { to.routes } else { Vec::new() };
        let (call, timeout, event) = (asked.call, to.timeout, asked.payload());
        Ok(Ok(Fork { asked: run.into(), id: id.into(), is_start, seq, call, routes, timeout, event, entries }))
    }
}

/// The call that an entry of a journal is of.
fn call_of(number: u64) -> Option<u64> {
    match number {
        FIRST_TRY.. => stepfleet_shared::journal::tried_by(number),
        FIRST_ORDER.. => None,
        call => Some(call),
    }
}

fn refused(run: &str, why: &str) -> Steering {
    Steering::Refused(format!("run {run} cannot be forked: {why}"))
}

fn several(found: &[(u64, String)]) -> String {
    let named: Vec<_> = found.iter().map(|(seq, step)| format!("{seq} ({step})")).collect();
    format!("name the step execution to begin with (seq); these have not ended: {}", named.join(", "))
}
