//! The loops: each duty again and again, through outages of Redis, until told to stop.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stepfleet_shared::backoff::DUTY;
use stepfleet_shared::{Result, log};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::coordinator::{Coordinator, Post};

/// How long the duties may take to finish their work.
const PARTING: Duration = Duration::from_millis(1500);
/// How often to look whether `CLIENT LIST` is still denied.
const DENIED: Duration = Duration::from_secs(60);
/// A look at the workers' connections costs more the more workers there are: it may take one part in this many of the
/// time.
const LIVENESS_SHARE: u32 = 10;

/// Between two slices of one audit: it must not be felt.
const SLICE_PAUSE: Duration = Duration::from_millis(50);
/// An audit looks at every key there is: it may take one part in this many of the time.
const AUDIT_SHARE: u32 = 50;

#[derive(Clone, Copy, Debug)]
enum Duty {
    Intake,
    Reap,
    Fire,
    Liveness,
    Reclaim,
    Deferred,
    Audit,
}

impl Duty {
    const ALL: [Self; 7] =
        [Self::Intake, Self::Reap, Self::Fire, Self::Liveness, Self::Reclaim, Self::Deferred, Self::Audit];

    fn name(self) -> &'static str {
        match self {
            Self::Intake => "intake",
            Self::Reap => "reap",
            Self::Fire => "fire",
            Self::Liveness => "liveness",
            Self::Reclaim => "reclaim",
            Self::Deferred => "deferred",
            Self::Audit => "audit",
        }
    }
}

impl Coordinator {
    /// Performs all duties until `shutdown` completes, then finishes its current work (for at most a second and a half).
    ///
    /// An outage of Redis does not end it: it waits and continues. Needs a Tokio runtime.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let (this, stop) = (Arc::new(self), CancellationToken::new());
        log::info!(
            id = this.config.id,
            namespace = this.partitions.name(),
            partitions = this.partitions.count(),
            "the coordinator is running"
        );
        let mut loops = JoinSet::new();
        for post in 0..this.posts.len() {
            for duty in Duty::ALL {
                loops.spawn(perform(Arc::clone(&this), duty, post, stop.clone()));
            }
        }
        tokio::select! {
            () = shutdown => {}
            ended = loops.join_next() => panic_of(ended),
        }
        stop.cancel();
        let finish = async {
            while let Some(ended) = loops.join_next().await {
                panic_of(Some(ended));
            }
        };
        if tokio::time::timeout(PARTING, finish).await.is_err() {
            log::warn!("Redis does not answer; leaving its unfinished work to the other coordinators");
        }
        log::info!("the coordinator has stopped");
    }

    /// One pass; returns how long to pause after it.
    async fn pass(&self, duty: Duty, post: &Post, stop: &CancellationToken) -> Result<Duration> {
        match duty {
            Duty::Intake => {
                tokio::select! {
                    () = stop.cancelled() => {}
                    read = self.read_next(post) => {
                        read?;
                        self.take_read(post).await?;
                    }
                }
                Ok(Duration::ZERO)
            }
            Duty::Reap => {
                let due = self.reap_due(post).await?;
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = post.wait_for_suspects(due) => {}
                }
                Ok(Duration::ZERO)
            }
            Duty::Fire => {
                let due = self.fire_due(post).await?;
                if !due.is_zero() {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        waited = post.wait_for_alarm(due) => waited?,
                    }
                }
                Ok(Duration::ZERO)
            }
            Duty::Liveness => self.liveness(post).await,
            Duty::Reclaim => self.reclaim(post).await.map(|_| self.config.reclaim),
            Duty::Deferred => self.take_deferred(post).await.map(|_| self.config.deferred),
            Duty::Audit => {
                let began = Instant::now();
                let audited = self.audit(post).await?;
                let pause = SLICE_PAUSE.max(began.elapsed() * (AUDIT_SHARE - 1)).min(self.config.audit);
                Ok(if audited.next.is_some() { pause } else { self.config.audit })
            }
        }
    }

    async fn liveness(&self, post: &Post) -> Result<Duration> {
        let began = Instant::now();
        match post.look_for_lost(false).await {
            Err(error) if error.is_denied() => {
                self.denied.call_once(|| {
                    log::warn!(
                        "CLIENT LIST is denied: dead workers are noticed only when their lease runs out; \
                         allow it with ACL SETUSER <user> +client|list"
                    );
                });
                Ok(DENIED)
            }
            other => other.map(|_| self.config.liveness.max(began.elapsed() * (LIVENESS_SHARE - 1))),
        }
    }
}

async fn perform(coordinator: Arc<Coordinator>, duty: Duty, at: usize, stop: CancellationToken) {
    let post = &coordinator.posts[at];
    let partitions: Vec<u16> =
        post.partitions.iter().map(|partition| partition.store.namespace().partition()).collect();
    let mut watch = coordinator.outages.within(&partitions).watch(duty.name(), DUTY);
    while !stop.is_cancelled() {
        let pause = match coordinator.pass(duty, post, &stop).await {
            Ok(pause) => {
                watch.fine();
                pause
            }
            Err(error) => {
                watch.failed(&error);
                watch.pause()
            }
        };
        if !pause.is_zero() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

fn panic_of(ended: Option<Result<(), tokio::task::JoinError>>) {
    if let Some(Err(error)) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}
