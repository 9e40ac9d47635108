//! What concerns two partitions: a sequence of transitions, each of which may be repeated. `docs/architecture.md`,
//! "Partitions", says why no sequence does anything twice, wherever it is broken off.

use stepfleet_shared::Result;
use stepfleet_shared::partition::{foreign_entry, partition_of};
use stepfleet_shared::request::{self, StartRequest};
use stepfleet_shared::run::Status;
use stepfleet_shared::store::{InboxEntry, Reservation, Start, Started, Voided};

use crate::intake::Intake;
use crate::taken::Became;

/// The outcome of a request with an idempotency key.
pub(crate) enum Keyed {
    /// Its own run was to be created.
    Started(Started),
    /// It turned out to repeat another, or has to wait for it.
    Became(Became),
}

/// The outcome if another run has the reservation.
enum Held {
    /// This run, which is there.
    By(String),
    /// Its request waits for a worker.
    Deferred,
    /// Something has changed: look again.
    Changed,
}

impl Intake {
    pub(crate) fn are_several(&self) -> bool {
        self.partitions.count() > 1
    }

    /// Whether the entry is in another inbox than that of the run's partition.
    pub(crate) fn is_foreign(&self, entry: &InboxEntry, run: &str) -> bool {
        self.are_several() && partition_of(run, self.partitions.count()) != entry.inbox
    }

    /// The name of the entry in the partition of the run.
    pub(crate) fn name_of(&self, entry: &InboxEntry, run: &str) -> String {
        if self.is_foreign(entry, run) { foreign_entry(&entry.id, entry.inbox) } else { entry.id.clone() }
    }

    /// Takes an entry off its inbox that was processed in the partition of this run. If that is the inbox's own, it is
    /// off already.
    pub(crate) async fn dismiss(&self, entry: &InboxEntry, run: &str) -> Result<()> {
        if self.is_foreign(entry, run) { self.partitions.get(entry.inbox).dismiss(&entry.id).await } else { Ok(()) }
    }

    /// Reads the context of a run in another partition with which the new run's begins. Err with the run if it does not
    /// exist.
    pub(crate) async fn fetch_context(&self, start: &mut Start) -> Result<std::result::Result<(), String>> {
        let Some(from) = start.request.context_from.clone().filter(|_| self.are_several()) else { return Ok(Ok(())) };
        let source = self.partitions.run(&from).await?.filter(|run| run.status != Status::Rejected);
        let Some(source) = source else {
            // A request that repeats a run needs no source.
            start.request.context_from = None;
            let own = self.partitions.run(&start.run).await?.filter(|run| run.status != Status::Rejected);
            let known = own.is_some() || self.run_of_key(&start.run, &start.request).await?.is_some();
            return Ok(if known { Ok(()) } else { Err(from) });
        };
        let count = self.partitions.count();
        if partition_of(&source.id, count) == partition_of(&start.run, count) {
            start.request.context_from = Some(source.id);
            return Ok(Ok(()));
        }
        start.request.context_from = None;
        let mut context = self.partitions.of(&source.id).context(&source.id).await?;
        // The fields of the request itself go on top.
        context.append(&mut start.context);
        start.context = context;
        Ok(Ok(()))
    }

    /// The run of another request that has the key of this one.
    pub(crate) async fn run_of_key(&self, run: &str, request: &StartRequest) -> Result<Option<String>> {
        let Some(key) = request.key.as_ref().filter(|_| self.are_several()) else { return Ok(None) };
        match self.partitions.of_key(&request.workflow, key).reserved(&request.workflow, key).await? {
            Some(held) if held.run != run => self.good_run(&held.run).await,
            _ => Ok(None),
        }
    }

    /// Whether the request is the same as that of an existing run, whatever its input is.
    pub(crate) async fn repeats(&self, run: &str, request: &StartRequest) -> Result<bool> {
        if self.good_run(run).await?.is_some() || self.run_of_key(run, request).await?.is_some() {
            return Ok(true);
        }
        let Some(key) = &request.key else { return Ok(false) };
        match self.partitions.of_key(&request.workflow, key).key(&request.workflow, key).await? {
            Some(known) => Ok(self.good_run(&known).await?.is_some()),
            None => Ok(false),
        }
    }

    async fn good_run(&self, id: &str) -> Result<Option<String>> {
        let found = self.partitions.of(id).run(id).await?;
        Ok(found.filter(|run| run.status != Status::Rejected).map(|run| run.id))
    }

    /// The request repeats an existing run.
    pub(crate) async fn lead(&self, run: &str, known: &str, entry: Option<&InboxEntry>) -> Result<Became> {
        let name = entry.map(|entry| self.name_of(entry, run));
        self.partitions.of(run).alias(run, known, name.as_deref(), self.key_ttl).await?;
        if let Some(entry) = entry {
            self.dismiss(entry, run).await?;
        }
        Ok(Became::Known)
    }

    /// Reserves the key, in its partition, and creates the run, in the run's. If the key is reserved for a run that
    /// does not exist, it finishes that run's request, or makes sure that no run will come of it, before it takes the
    /// key.
    pub(crate) async fn start_with_key(&self, start: &mut Start, entry: Option<&InboxEntry>) -> Result<Keyed> {
        let wanted = Reservation {
            workflow: start.request.workflow.clone(),
            key: start.request.key.clone().unwrap_or_default(),
            run: start.run.clone(),
            ticket: format!("{:016x}", rand::random::<u64>()),
            place: entry.map(|entry| (entry.inbox, entry.id.clone())),
        };
        let keeper = self.partitions.of_key(&wanted.workflow, &wanted.key);
        loop {
            let held = keeper.reserve(&wanted, self.key_ttl).await?;
            if held.run == start.run {
                start.ticket = Some(held.ticket.clone());
                match self.partitions.of(&start.run).start(start).await? {
                    Started::Void => keeper.let_go(&held).await?,
                    started => return Ok(Keyed::Started(started)),
                }
                continue;
            }
            match self.look_at(&held).await? {
                Held::By(known) => return self.lead(&start.run, &known, entry).await.map(Keyed::Became),
                Held::Deferred => return self.wait_for(start, entry).await.map(Keyed::Became),
                Held::Changed => {}
            }
        }
    }

    async fn look_at(&self, held: &Reservation) -> Result<Held> {
        if let Some(known) = self.good_run(&held.run).await? {
            return Ok(Held::By(known));
        }
        // A request goes from the inbox to the deferred and on to its run: looked for in this order, it is found.
        if let Some((inbox, id)) = &held.place
            && let Some(entry) = self.partitions.get(*inbox).inbox_entry(id).await?
        {
            Box::pin(self.take(request::parse(&entry.fields), entry)).await?;
            return Ok(Held::Changed);
        }
        match self.partitions.of(&held.run).void(&held.run, &held.ticket).await? {
            Voided::Exists => Ok(Held::Changed),
            Voided::Deferred => Ok(Held::Deferred),
            Voided::Void => {
                self.partitions.of_key(&held.workflow, &held.key).let_go(held).await?;
                Ok(Held::Changed)
            }
        }
    }

    /// The request that has the key is deferred; so is this one.
    async fn wait_for(&self, start: &Start, entry: Option<&InboxEntry>) -> Result<Became> {
        let Some(entry) = entry else { return Ok(Became::Deferred) };
        let became = self.defer(start.run.clone(), start.request.clone(), entry).await?;
        // If too many wait, it stays in the inbox and is looked at again.
        Ok(became.unwrap_or(Became::Early))
    }
}
