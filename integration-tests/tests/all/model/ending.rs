//! What must hold between operations, and at the end: both stores look the same, and every run can be finished.

use std::collections::HashMap;

use proptest::test_runner::TestCaseError;
use stepfleet_shared::step::Next;
use stepfleet_shared::store::Store;
use stepfleet_shared::store::prelude::*;

use super::ops::{Leaves, RUNS, SESSIONS, WORKERS};
use super::waiting::sorted;
use super::{Pair, both, following, plain};

impl Pair {
    /// Everything visible must be the same in both stores.
    pub(crate) async fn compare(&mut self) -> Result<(), TestCaseError> {
        both!(self, store => async {
            let mut seen = Vec::new();
            for run in 0..RUNS {
                let id = format!("r{run}");
                let run = store.run(&id).await?.map(|r| {
                    (r.status, r.workflow, r.version, r.input, r.result, r.error, r.error_step, r.error_attempt, r.parent, r.compensation)
                });
                let history: Vec<_> = store.history(&id, 0, 10_000).await?.into_iter().map(|r| {
                    // The detail of `done` is a time.
                    let detail = if r.began_ms().is_some() { String::new() } else { r.detail };
                    (r.kind, r.seq, r.attempt, r.step, r.worker, detail)
                }).collect();
                let published = following::seen(store, &id).await?;
                let mut context = store.context(&id).await?;
                context.sort();
                seen.push((run, history, published, context));
            }
            let mut holds = Vec::new();
            for id in self.all_lives() {
                holds.push(sorted(store.holds(&id).await?));
            }
            let mut workers: Vec<_> = store.workers().await?.into_iter().map(|w| (w.id, w.held, w.serves)).collect();
            workers.sort();
            let mut deferred: Vec<_> = store.deferred().await?.into_iter().map(|d| d.run).collect();
            deferred.sort();
            let queues: Vec<_> = store.queues().await?.into_iter().map(|q| {
                (q.workflow, q.version, q.waiting, q.departed_ms.is_some())
            }).collect();
            let mut sessions = Vec::new();
            for name in 0..SESSIONS {
                let found = store.session(&format!("s{name}")).await?;
                sessions.push(found.map(|mut session| {
                    session.context.sort();
                    (session.running, session.waiting, session.completed, session.context, session.expires_ms.is_some())
                }));
            }
            stepfleet_shared::Result::Ok((seen, holds, workers, deferred, queues, sessions))
        });
        self.compare_inboxes().await?;
        self.find_leftovers().await
    }

    fn all_lives(&self) -> Vec<String> {
        let lives = |worker: usize| (1..=self.lives[worker]).map(move |life| format!("w{worker}-{life}"));
        (0..WORKERS).flat_map(lives).collect()
    }

    /// In Redis: a step execution that has ended has no fields, and a worker that is gone has no keys.
    async fn find_leftovers(&self) -> Result<(), TestCaseError> {
        for run in 0..RUNS {
            let key = self.redis.namespace().key_of("steps", &format!("r{run}"));
            let fields: HashMap<String, Vec<u8>> = self.ask(redis::cmd("HGETALL").arg(key)).await?;
            let live = |seq: &str| fields.contains_key(seq);
            let of = |field: &str| {
                let seq = field.trim_start_matches(['e', 'm', 'p']);
                (seq.len() < field.len() && seq.bytes().all(|byte| byte.is_ascii_digit())).then(|| seq.to_owned())
            };
            if let Some(left) = fields.keys().find(|field| of(field).is_some_and(|seq| !live(&seq))) {
                return Err(TestCaseError::fail(format!("r{run} has {left} of a step execution that has ended")));
            }
        }
        let known: Vec<String> =
            self.ask(redis::cmd("ZRANGE").arg(self.redis.namespace().key("leases")).arg(0).arg(-1)).await?;
        for kind in ["held", "worker", "wake"] {
            for id in self.all_lives().into_iter().filter(|id| !known.contains(id)) {
                let key = self.redis.namespace().key_of(kind, &id);
                if self.ask(redis::cmd("EXISTS").arg(&key)).await? {
                    return Err(TestCaseError::fail(format!("{key} is left of a worker that is gone")));
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, TestCaseError> {
        let told = |error: &dyn std::fmt::Display| TestCaseError::fail(error.to_string());
        let value = self.redis.command(command).await.map_err(|error| told(&error))?;
        redis::from_redis_value(value).map_err(|error| told(&error))
    }

    /// Every active run can be brought to its end by workers that only commit.
    pub(crate) async fn finish(&mut self) -> Result<(), TestCaseError> {
        self.resume_all().await?;
        // Earlier lives too: a store that has forgotten may consider them alive again.
        self.reap(self.all_lives().into_iter().map(|id| (id, 0)).collect()).await?;
        for worker in 0..WORKERS {
            self.crash(worker).await?;
        }
        // For runs that rest until an event comes from outside.
        for run in 0..RUNS {
            self.send(run, 1, false).await?;
        }
        for _ in 0..2000 {
            self.fire().await?;
            self.signal_all().await?;
            self.end_children().await?;
            self.claim(0, 8, false).await?;
            let queued: usize = self.memory.backlog().into_iter().map(|(_, again, new)| again + new).sum();
            if self.held.is_empty() && queued == 0 {
                break;
            }
            while !self.held.is_empty() {
                self.complete(0, &Leaves::Stop, None, Next::Nothing, false).await?;
            }
        }
        self.undo_all().await?;
        self.compare().await?;
        for run in 0..RUNS {
            let id = format!("r{run}");
            let Some(found) = self.memory.run(&id).await.map_err(|e| TestCaseError::fail(e.to_string()))? else {
                continue;
            };
            let history =
                self.memory.history(&found.id, 0, 10_000).await.map_err(|e| TestCaseError::fail(e.to_string()))?;
            // A run may still be active because of a timer that is an hour away.
            let session = match &found.session {
                Some(name) => self.memory.session(name).await.map_err(|e| TestCaseError::fail(e.to_string()))?,
                None => None,
            };
            // Then the run whose turn it is is not stranded.
            let in_line = session.is_some_and(|session| session.waiting.contains(&found.id));
            let waits = in_line
                || history.iter().any(|r| r.detail.starts_with("3600000 "))
                || found.input == b"{\"delayed\":1}";
            if !found.status.is_over() && !waits {
                return Err(TestCaseError::fail(format!("run {id} is stranded: {history:?}")));
            }
        }
        Ok(())
    }
}
