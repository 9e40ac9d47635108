//! A worker that is driven by hand, one step at a time, for the test kit. What it does with a step is what every worker
//! does with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use stepfleet_shared::Partitions;
use stepfleet_shared::names::QueueName;
use stepfleet_shared::outage::Outages;
use stepfleet_shared::step::{Claim, Claimed, Refill};
use stepfleet_shared::store::{Store, WorkerStore};
use tokio_util::sync::CancellationToken;

use super::session::Session;
use super::{Config, claim, slots};
use crate::workflow::Served;

/// A registered worker. It has no lease to renew: it is there until it is reaped as a suspect.
pub(crate) struct ByHand {
    session: Session,
}

impl ByHand {
    pub(crate) async fn register(
        store: Arc<dyn Store>,
        name: &str,
        served: &Arc<HashMap<QueueName, Served>>,
        keeps: usize,
    ) -> stepfleet_shared::Result<Self> {
        let config = Config { name: name.to_owned(), concurrency: 1, ..Config::default() };
        let (slots, never) = (Arc::new(slots::Pool::new(1)), CancellationToken::new());
        let partitions = Partitions::<dyn WorkerStore>::from(store);
        let (store, outages, ends) = (partitions.first().clone(), Outages::default(), (never.clone(), never));
        let mut session = Session::new((&store, &partitions), name.to_owned(), served, &slots, &outages, ends, keeps);
        session.refuses_foreign = true;
        store.register(&session.introduction(&config), Duration::MAX).await?;
        Ok(Self { session })
    }

    pub(crate) fn id(&self) -> &str {
        &self.session.id
    }

    /// Takes one step execution, if one is queued.
    pub(crate) async fn claim(&self) -> Option<Claimed> {
        claim::claim_once(&self.session, &Claim { slots: vec![0], alone: true, after: None }).await?.pop()
    }

    /// Executes what was claimed, and commits it.
    pub(crate) async fn work(&self, step: &Arc<Claimed>) {
        slots::work(&self.session, step, &Refill::default()).await;
    }
}
