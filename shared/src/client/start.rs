//! Starts a run.

use std::time::Duration;

use serde::Serialize;

use super::patience::patiently;
use super::{Client, RunHandle};
use crate::codec::{self, Content};
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

    /// Gives the run an id. A run of this id that exists already is the one you get.
    #[must_use]
    pub fn id(self, id: impl Into<String>) -> Self {
        self.with(|r| r.id = Some(id.into()))
    }

    /// Gives the request an idempotency key: requests of one workflow with the same key are one run (for a day).
    #[must_use]
    pub fn key(self, key: impl Into<String>) -> Self {
        self.with(|r| r.key = Some(key.into()))
    }

    /// Begins the run's context with these fields: a struct, or a map with text for keys. The steps find each as a field of
    /// their state. The context of a [`Snapshot`] can be given as it is.
    #[must_use]
    pub fn context<T: Serialize + ?Sized>(mut self, fields: &T) -> Self {
        match codec::encode_as("the context", Content::Json, fields) {
            Ok(context) => self.with(|r| r.context = context),
            Err(error) => {
                self.request = Err(error);
                self
            }
        }
    }

    /// Begins the run's context with what another run's steps have committed, whether that run goes on or has ended in
    /// whatever way. What [`StartRun::context`] gives goes on top of it. The request is rejected where there is no such run.
    #[must_use]
    pub fn context_from(self, run: impl Into<String>) -> Self {
        self.with(|r| r.context_from = Some(run.into()))
    }

    /// Puts the run into a session: the runs of a session go one after another, in the order in which they are accepted, and share a
    /// context. See [`Client::session`].
    #[must_use]
    pub fn session(self, name: impl Into<String>) -> Self {
        self.with(|r| r.session = Some(name.into()))
    }

    /// Puts the first step off.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        self.with(|r| r.delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
    }

    /// Has the run's followers told where its steps stand, beside what they publish: see [`RunHandle::follow`]. Costs one
    /// entry each time that a step execution waits, runs and ends.
    #[must_use]
    pub fn follow_steps(self) -> Self {
        self.with(|r| r.follow_steps = true)
    }

    /// Sends the request also where workers are there and none has ever registered the workflow: it is held for one, for the
    /// coordinators' grace time (60 s by default).
    #[must_use]
    pub fn hold(mut self) -> Self {
        self.holds = true;
        self
    }

    /// Sends the request, to the partition of its run. The run itself is there as soon as a coordinator has taken it in. A run
    /// that was given no id gets one that is made here.
    ///
    /// Fails with [`Error::is_not_found`](crate::Error::is_not_found), and sends nothing, where workers are there and none has ever
    /// registered the workflow; the error names the nearest one. [`StartRun::hold`] sends it all the same.
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
