//! What is known about the fleet. It is read again when it is old.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join;
use stepfleet_shared::request::{SendRequest, StartRequest};
use stepfleet_shared::step::Route;
use stepfleet_shared::{Error, Result};
use tokio::sync::Mutex;

use crate::Partitions;
use crate::events;
use crate::routing::{Destination, Routes};
use crate::schemas::{Given, Schemas};

/// However many requests miss, the fleet is read at most this often.
const MISS_AGE: Duration = Duration::from_millis(50);

pub(crate) struct Fleet {
    partitions: Partitions,
    max_age: Duration,
    known: Mutex<Option<(Instant, Arc<Routes>)>>,
    schemas: Schemas,
}

impl Fleet {
    pub(crate) fn new(partitions: Partitions, max_age: Duration) -> Self {
        Self { partitions, max_age, known: Mutex::new(None), schemas: Schemas::default() }
    }

    /// What the fleet serves, as it was at most `max_age` ago.
    pub(crate) async fn routes(&self) -> Result<Arc<Routes>> {
        self.younger_than(self.max_age).await
    }

    /// Where a workflow's runs start; a workflow that is not found is looked for again, as a worker may just have come.
    pub(crate) async fn route(&self, workflow: &str) -> Result<Option<Destination>> {
        if let Some(to) = self.routes().await?.route(workflow) {
            return Ok(Some(to.clone()));
        }
        let fresh = self.younger_than(self.max_age.min(MISS_AGE)).await?;
        Ok(fresh.route(workflow).cloned())
    }

    /// Where a run of this version starts, served or not; one that is not found is looked for again.
    pub(crate) async fn version(&self, workflow: &str, version: u32) -> Result<Option<Destination>> {
        if let Some(to) = self.routes().await?.version(workflow, version) {
            return Ok(Some(to.clone()));
        }
        let fresh = self.younger_than(self.max_age.min(MISS_AGE)).await?;
        Ok(fresh.version(workflow, version).cloned())
    }

    /// The steps that take an event from outside, in a version of a workflow; or why none does, or the event is none. A version that is not found
    /// is looked for again.
    pub(crate) async fn takers(
        &self,
        workflow: &str,
        version: u32,
        send: &SendRequest,
    ) -> Result<std::result::Result<Vec<Route>, String>> {
        let mut routes = self.routes().await?;
        if routes.graph(workflow, version).is_none() {
            routes = self.younger_than(self.max_age.min(MISS_AGE)).await?;
        }
        let Some(graph) = routes.graph(workflow, version) else {
            return Ok(Err(format!(
                "no worker has registered {workflow} version {version}; start one, and send the event again"
            )));
        };
        let of = format!("{workflow} version {version}");
        let takers = match events::takers(graph, &of, &send.event, send.step.as_deref()) {
            Ok(takers) => takers,
            Err(reason) => return Ok(Err(reason)),
        };
        let (event, called) = (send.event.clone(), format!("the event {}", send.event));
        let given = Given { event, called, content: send.content, input: send.input.clone() };
        Ok(self.schemas.mistake(graph, &of, given).await.map_or(Ok(takers), Err))
    }

    /// Why this version of the workflow does not take the input of a run; None if it does, as far as that is
    /// registered.
    pub(crate) async fn mistake(&self, version: u32, request: &StartRequest) -> Result<Option<String>> {
        let (routes, workflow) = (self.routes().await?, &request.workflow);
        let Some(graph) = routes.graph(workflow, version) else { return Ok(None) };
        let (event, called) = (graph.start.clone(), "the input".to_owned());
        let given = Given { event, called, content: request.content(), input: request.input.clone() };
        Ok(self.schemas.mistake(graph, &format!("{workflow} version {version}"), given).await)
    }

    async fn younger_than(&self, age: Duration) -> Result<Arc<Routes>> {
        // Held while reading, so that those who wait for the same answer share it.
        let mut known = self.known.lock().await;
        if let Some((at, routes)) = known.as_ref()
            && at.elapsed() < age
        {
            return Ok(Arc::clone(routes));
        }
        let at = Instant::now();
        let routes = Arc::new(self.read().await?);
        *known = Some((at, Arc::clone(&routes)));
        Ok(routes)
    }

    /// Each worker registers in all partitions: the first one whose server answers tells enough.
    async fn read(&self) -> Result<Routes> {
        let mut answer = Err(Error::unavailable("the namespace has no partition"));
        for store in self.partitions.all() {
            answer = try_join(store.workers(), store.registrations()).await;
            if !answer.as_ref().is_err_and(Error::is_unavailable) {
                break;
            }
        }
        let (workers, registrations) = answer?;
        Ok(Routes::new(&workers, &registrations))
    }
}
