//! Opens a namespace for a worker or a coordinator: waits for its servers, and refuses servers that would lose work.

use std::collections::BTreeSet;

use futures_util::FutureExt;

use crate::backoff::OPENING;
use crate::error::{Error, Result};
use crate::log;
use crate::outage::Outages;
use crate::partitions::{Home, Partitions};
use crate::server::{Check, Info, Override, Refusal};
use crate::store::Role;

const NO_COORDINATOR: &str = "no coordinator has made the namespace yet: start one with `stepfleet coordinator`, or a fleet for \
                              development with `stepfleet dev`";

/// Why a namespace cannot be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refused {
    /// The call was refused for a reason that waiting does not fix.
    #[error(transparent)]
    Store(#[from] Error),
    /// The server would lose work, or is too old.
    #[error(transparent)]
    Unfit(#[from] Refusal),
}

/// What to do with a namespace that does not exist yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Creation {
    /// Wait until somebody creates it.
    Wait,
    /// Create it, with this many partitions; by default as [`Partitions::open`] says.
    Make(Option<u16>),
}

/// On which servers a process may start.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// Whether it may start where Redis may evict keys.
    pub eviction: Override,
    /// Whether it may start where Redis keeps no append-only file.
    pub unpersisted: Override,
    /// What to do with a new namespace.
    pub creation: Creation,
}

impl Admission {
    /// Opens the namespace. Waits as long as a server is away, is loading its files or cannot write them, and logs what
    /// it waits for; then checks the server. May be dropped.
    ///
    /// Fails if the login is refused, if the server is not fit, or if the namespace has another number of partitions.
    pub async fn open<R: Role + ?Sized>(&self, home: &Home<R>, outages: &Outages) -> Result<Partitions<R>, Refused> {
        let mut judged = BTreeSet::new();
        // Before the namespace is made, if it is new.
        self.judge_all(home, outages, &mut judged).await?;
        let partitions = self.make(home, outages).await?;
        self.judge_all(&Home::from(partitions.clone()), outages, &mut judged).await?;
        Ok(partitions)
    }

    /// Each server once, however many partitions it has.
    async fn judge_all<R: Role + ?Sized>(
        &self,
        home: &Home<R>,
        outages: &Outages,
        judged: &mut BTreeSet<String>,
    ) -> Result<(), Refused> {
        let partitions = answered(outages, || home.known().boxed()).await?;
        for store in partitions.all() {
            let info = answered(outages, || async { ready(store.server().await?) }.boxed()).await?;
            let server = info.as_ref().and_then(|info| info.get("run_id")).unwrap_or_default().to_owned();
            // A memory store has no server to refuse.
            if let Some(info) = info.filter(|_| judged.insert(server)) {
                for Check { found, advice, .. } in info.admit(self.eviction, self.unpersisted)? {
                    log::warn!(advice, "{found}");
                }
            }
        }
        Ok(())
    }

    async fn make<R: Role + ?Sized>(&self, home: &Home<R>, outages: &Outages) -> Result<Partitions<R>> {
        match self.creation {
            Creation::Make(count) => answered(outages, || home.open(count).boxed()).await,
            // A worker that comes first and creates another number of them would keep the coordinators out.
            Creation::Wait => {
                let find = || async {
                    let found = home.find().await?;
                    found.ok_or_else(|| Error::unavailable(NO_COORDINATOR))
                };
                answered(outages, || find().boxed()).await
            }
        }
    }
}

/// The server reports that it is not ready to be checked.
fn ready(info: Option<Info>) -> Result<Option<Info>> {
    match info.as_ref().and_then(Info::is_not_ready) {
        Some(why) => Err(Error::unavailable(why)),
        None => Ok(info),
    }
}

async fn answered<'a, T>(
    outages: &Outages,
    call: impl Fn() -> futures_util::future::BoxFuture<'a, Result<T>>,
) -> Result<T> {
    outages.outlast(("opening", OPENING), Error::is_worth_waiting_at_start, |_| call()).await
}
