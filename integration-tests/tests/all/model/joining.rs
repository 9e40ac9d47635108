//! What a step emits: events, fan-outs and their joins, sets, turns; and what it collects.

use proptest::test_runner::TestCaseError;
use stepfleet_shared::codec::Content;
use stepfleet_shared::request::SendRequest;
use stepfleet_shared::step::{Claimed, Collect, Commit, Fan, Join, Part, Route, SendDeferral};
use stepfleet_shared::store::prelude::*;
use stepfleet_shared::store::{Origin, Store};

use super::ops::Leaves;
use super::{Case, HOUR, Pair, both, events, failed, plain, route, same};

impl Pair {
    /// Fills in the commit; stages what is too large for it.
    pub(crate) async fn leave_behind(
        &mut self,
        worker: usize,
        step: &Claimed,
        leaves: &Leaves,
        commit: &mut Commit,
    ) -> Result<&'static str, TestCaseError> {
        Ok(match leaves {
            Leaves::Events(count) => {
                commit.emits = events(*count);
                "done: events"
            }
            Leaves::FanOut { branches, joins } => {
                commit.emits = events(*branches);
                commit.fan = Some(Fan { joins: joining(*joins), staged: 0 });
                if *joins > 1 { "done: fan-out; join with the first" } else { "done: fan-out" }
            }
            Leaves::Parts { slot, and_events } => {
                commit.emits = events(*and_events);
                let payload = vec![1; (*slot + 3) as usize];
                commit.parts = vec![Part { route: route("pair"), slot: *slot, slots: 2, payload }];
                "done: a part of a set"
            }
            Leaves::Limited(count) => {
                let limited = Route { limit: Some(2), ..route("limited") };
                commit.emits = events(*count).into_iter().map(|(_, payload)| (limited.clone(), payload)).collect();
                "done: events for a limited step"
            }
            Leaves::Staged { branches } => {
                for (at, chunk) in events(*branches).chunks(40).enumerate() {
                    let id = self.worker(worker);
                    both!(self, store => store.stage(&id, &step.fence, at as u64 * 40, chunk));
                }
                commit.fan = Some(Fan { joins: vec![Join::all(route("join"))], staged: *branches as u64 });
                "done: staged fan-out"
            }
            Leaves::JoinEvent { and_events } => {
                commit.emits = events(*and_events);
                commit.joins.push(("join".into(), vec![1, 7]));
                "done: event for a join"
            }
            Leaves::Caught => {
                let catching = Route { recoveries: step.recoveries + 1, ..route("catch") };
                *commit = Commit { caught: Some("e".into()), retention: HOUR, ..Commit::default() };
                commit.emits = vec![(catching, vec![1, 5])];
                commit.journalled = step.fence.attempt > 1;
                "done: caught"
            }
            Leaves::Stop => {
                commit.result = Some(b"1".to_vec());
                "done: stop"
            }
        })
    }

    pub(crate) async fn collect(&mut self, held: usize, number: Option<u8>, count: u32, repeat: bool) -> Case {
        if self.held.is_empty() {
            return Ok("collect nothing");
        }
        let (worker, step) = self.held[held % self.held.len()].clone();
        self.numbers += 1;
        let number = number.map_or(self.numbers, u64::from);
        let (name, group) = (step.step.clone(), step.group);
        self.journalled.insert((step.fence.run.clone(), step.fence.seq));
        let upon = self.upon(held);
        let collect = Collect { number, step: name, group, buffer: "b".into(), count, payload: vec![1, 8], upon };
        let id = self.worker(worker);
        let first = both!(self, store => store.collect(&id, &step.fence, &collect));
        if repeat {
            let again = both!(self, store => store.collect(&id, &step.fence, &collect));
            same("collect", &first, &again)?;
        }
        Ok("collect")
    }

    /// Events from outside, through the inbox or directly.
    pub(crate) async fn send(&mut self, run: usize, count: usize, by_inbox: bool) -> Case {
        let (run, events) = (format!("r{run}"), events(count));
        let request = if count == 2 { "q" } else { "" };
        if !by_inbox {
            let origin = Origin::request(request);
            let send = SendRequest {
                run: run.clone(),
                event: "E".into(),
                step: (count == 1).then(|| "next".into()),
                content: Content::Json,
                input: b"{}".to_vec(),
                request: None,
            };
            if both!(self, store => store.defer_send(&send, Some(&origin))) == SendDeferral::Deferred {
                return Ok("send: to a run that is held");
            }
            both!(self, store => store.send(&run, &events, Some(&origin)));
            return Ok("send");
        }
        let fields = [(b"op".to_vec(), b"send".to_vec())];
        let origin = |entry| Origin { entry, ..Origin::request(request) };
        let ours = origin(self.memory.enqueue(&fields).await.map_err(failed)?);
        let theirs = origin(self.redis.enqueue(&fields).await.map_err(failed)?);
        for _ in 0..2 {
            let ours = self.memory.send(&run, &events, Some(&ours)).await.map_err(failed)?;
            let theirs = self.redis.send(&run, &events, Some(&theirs)).await.map_err(failed)?;
            same("send", &ours, &theirs)?;
        }
        Ok("send")
    }
}

/// No joining step, one that waits for all, one that begins with the first, or both.
fn joining(which: u8) -> Vec<Join> {
    let first = |count| Join { route: Route { step: "some".into(), ..route("join") }, first: Some(count) };
    match which {
        0 => vec![],
        1 => vec![Join::all(route("join"))],
        2 => vec![Join { route: route("join"), first: Some(1) }],
        3 => vec![Join { route: route("join"), first: Some(2) }],
        _ => vec![Join::all(route("join")), first(1)],
    }
}
