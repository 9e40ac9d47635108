//! Runs that continue from a point of another.

use serde::Serialize;

use super::patience::patiently;
use super::{Asked, RunHandle, new_id};
use crate::codec::{self, Content};
use crate::error::Result;
use crate::partition::partition_of;
use crate::request::ForkRequest;

/// A fork being prepared: see [`RunHandle::fork`].
pub struct ForkRun {
    source: RunHandle,
    request: Result<ForkRequest>,
}

impl ForkRun {
    pub(super) fn of(source: RunHandle) -> Self {
        let (run, content) = (source.id.clone(), Content::Json);
        let request =
            ForkRequest { run, id: None, seq: None, call: None, content, input: None, request: Some(new_id()) };
        Self { source, request: Ok(request) }
    }

    fn with(mut self, change: impl FnOnce(&mut ForkRequest)) -> Self {
        if let Ok(request) = &mut self.request {
            change(request);
        }
        self
    }

    /// Gives the fork an id, which must be in the same partition as the run (in a namespace with one partition, any
    /// id is). Without it, a fitting id is generated.
    #[must_use]
    pub fn id(self, id: impl Into<String>) -> Self {
        self.with(|request| request.id = Some(id.into()))
    }

    /// Begins the fork with this step execution of the run, by its number: one that has not ended, or that failed,
    /// and is in no fan-out; or the first one, for a fork that begins as the run did.
    #[must_use]
    pub fn seq(self, seq: u64) -> Self {
        self.with(|request| request.seq = Some(seq))
    }

    /// Makes the body repeat its recorded call with this number, and all that come after it; the results of earlier
    /// calls are reused. Calls are counted from 1, in the order in which the body makes them. Without it, the fork
    /// has everything that is recorded.
    #[must_use]
    pub fn call(self, call: u64) -> Self {
        self.with(|request| request.call = Some(call))
    }

    /// Another event for the step execution that the fork begins with; if that takes the run's input, another input.
    #[must_use]
    pub fn input<T: Serialize + ?Sized>(mut self, event: &T) -> Self {
        match codec::encode_encrypted("the event", Content::Json, event) {
            Ok(input) => self.with(|request| request.input = Some(input)),
            Err(error) => {
                self.request = Err(error);
                self
            }
        }
    }

    /// Sends the request. Returns a handle to the fork, which exists once a coordinator has taken the request, and
    /// the request: [`Asked::taken`] says whether there is a fork, and if not, why.
    pub async fn enqueue(self) -> Result<(RunHandle, Asked)> {
        let mut request = self.request?;
        if request.id.is_none() {
            request.id = Some(self.source.fork_id().await?);
        }
        request.check()?;
        let (id, asked) = (request.id.clone().unwrap_or_default(), request.request.clone().unwrap_or_default());
        let asked = self.source.ask(asked, &request.fields()).await?;
        Ok((RunHandle { client: self.source.client, id, workflow: None }, asked))
    }
}

impl RunHandle {
    /// An id of the partition that the run is in.
    async fn fork_id(&self) -> Result<String> {
        patiently(|| async {
            let partitions = self.client.home.known().await?;
            let (count, known) = (partitions.count(), partitions.led_elsewhere(&self.id).await?);
            let partition = partition_of(known.as_deref().unwrap_or(&self.id), count);
            loop {
                let id = new_id();
                if partition_of(&id, count) == partition {
                    return Ok(id);
                }
            }
        })
        .await
    }
}
