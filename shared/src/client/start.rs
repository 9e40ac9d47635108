//! Starts a run.

use std::time::Duration;

use serde::Serialize;

use super::patience::patiently;
use super::{Client, RunHandle};
use crate::codec::{self, Content};
use crate::durability::Durability;
use crate::encryption;
use crate::error::Result;
use crate::request::StartRequest;
#[cfg(doc)]
use crate::snapshot::Snapshot;

/// A start being prepared.
pub struct StartRun {
    pub(super) client: Client,
    pub(super) request: Result<StartRequest>,
    pub(super) holds: bool,
}

impl StartRun {
    fn with(mut self, change: impl FnOnce(&mut StartRequest)) -> Self {
        if let Ok(request) = &mut self.request {
            change(request);
        }
        self
    }

    /// Gives the run an id. If a run with this id exists already, you get that one.
    #[must_use]
    pub fn id(self, id: impl Into<String>) -> Self {
        self.with(|r| r.id = Some(id.into()))
    }

    /// Gives the request an idempotency key: requests of one workflow with the same key are one run (for a day).
    #[must_use]
    pub fn key(self, key: impl Into<String>) -> Self {
        self.with(|r| r.key = Some(key.into()))
    }

    /// Sets the state that the run begins with: a struct, or a map with text for keys. Each field becomes a field of
    /// the state. The context of a [`Snapshot`] fits as it is.
    #[must_use]
    pub fn context<T: Serialize + ?Sized>(mut self, fields: &T) -> Self {
        match codec::encode_as("the context", Content::Json, fields) {
            Ok(context) => self.with(|r| r.context = encryption::members(context)),
            Err(error) => {
                self.request = Err(error);
                self
            }
        }
    }

    /// Begins with the state that another run's steps have committed, whether that run is active or has ended in any
    /// way. The fields of [`StartRun::context`] go on top. The request is rejected if there is no such run.
    #[must_use]
    pub fn context_from(self, run: impl Into<String>) -> Self {
        self.with(|r| r.context_from = Some(run.into()))
    }

    /// Puts the run into a session: the runs of a session go one after another, in the order in which they are
    /// accepted, and share their state. See [`Client::session`].
    #[must_use]
    pub fn session(self, name: impl Into<String>) -> Self {
        self.with(|r| r.session = Some(name.into()))
    }

    /// Delays the first step.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        self.with(|r| r.delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
    }

    /// Sets how safe the run's progress must be before it goes on, instead of what its workflow says. [`StartRun::enqueue`] also
    /// returns only once the request itself is that safe. A coordinator rejects the request if its server cannot do so.
    #[must_use]
    pub fn durability(self, durability: Durability) -> Self {
        self.with(|r| r.durability = Some(durability))
    }

    /// Also publishes the state of the run's steps to its followers: see [`RunHandle::follow`]. Costs one entry each
    /// time that a step execution waits, runs and ends.
    #[must_use]
    pub fn follow_steps(self) -> Self {
        self.with(|r| r.follow_steps = true)
    }

    /// Sends the request even if there are workers and none has ever registered the workflow: it is held for one, for the
    /// coordinators' grace time (60 s by default).
    #[must_use]
    pub fn hold(mut self) -> Self {
        self.holds = true;
        self
    }

    /// Sends the request to the partition of its run. The run exists as soon as a coordinator has taken the request. A
    /// run without an id gets one here.
    ///
    /// Fails with [`Error::is_not_found`](crate::Error::is_not_found), and sends nothing, if there are workers and none
    /// has ever registered the workflow; the error names the nearest one. [`StartRun::hold`] sends it anyway.
    pub async fn enqueue(self) -> Result<RunHandle> {
        let mut request = self.request?;
        request.check()?;
        if !self.holds {
            self.client.registered.check(&self.client.home, &request.workflow).await?;
        }
        if request.id.is_none() {
            request.id = Some(self.client.fitting_id(request.session.as_deref()).await?);
        }
        let id = request.id.clone().unwrap_or_default();
        // The id makes it safe to repeat.
        patiently(|| async { self.client.home.known().await?.of(&id).submit(&request).await }).await?;
        Ok(RunHandle { id, client: self.client, workflow: Some(request.workflow) })
    }
}
