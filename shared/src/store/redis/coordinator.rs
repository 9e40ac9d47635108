//! What a coordinator may do: a transition each, and its connections.

use std::time::Duration;

use async_trait::async_trait;

use super::RedisStore;
use super::readers::{DEPARTED, INBOX_BATCH, INBOX_GROUP, RedisAlarmReader};
use crate::attributes;
use crate::core::args::ms;
use crate::core::decode::{inbox_entries, open_connections};
use crate::core::generated::{args, words};
use crate::core::reply::{Reply, text};
use crate::core::short as short_ways;
use crate::core::{build, outcome};
use crate::error::{Error, Result};
use crate::names;
use crate::request::{ChildEndedRequest, SendRequest};
use crate::step::{Answered, Cancelled, Forked, Paused, Resumed, Retried, Route, SendDeferral, Sent, Signalled};
use crate::store::{
    AlarmReader, AnswerTo, Audit, Audited, ChildTold, CoordinatorStore, Deferral, Fire, Fired, Fork, ForkPoint,
    InboxEntry, InboxReader, Origin, Reap, Reaped, Rejection, Start, Started, millis,
};

/// At most this many requests wait for a worker that serves their workflow.
const MAX_DEFERRED: usize = 10_000;
/// About this many rejected requests are kept.
const MAX_REJECTED: usize = 10_000;
/// At most this many fields of a rejected request are kept.
const MAX_REJECTED_FIELDS: usize = 32;
/// How long a rejected request is shown as a run.
const REJECTED_RETENTION: Duration = Duration::from_secs(24 * 3600);

/// The inbox entry, the id of the request, and the list for its receipts.
fn parts(origin: Option<&Origin>) -> (&str, &str, &str) {
    origin.map_or(("", "", ""), |origin| (&origin.entry, &origin.request, &origin.reply))
}

#[async_trait]
impl CoordinatorStore for RedisStore {
    async fn start(&self, start: &Start) -> Result<Started> {
        if let Some(given) = short_ways::start(start)
            && short_ways::was_gone(&self.short.go(&given).await?)?
        {
            return Ok(Started::New(start.run.clone()));
        }
        let (word, reply) = self.ask(&build::start(start)).await?;
        outcome::started(word, reply)
    }

    async fn defer(&self, start: &Start) -> Result<Deferral> {
        let request = rmp_serde::to_vec_named(&start.request).map_err(|e| Error::invalid(e.to_string()))?;
        let (word, _) = self.ask(&build::defer(start, &request, MAX_DEFERRED)).await?;
        Ok(word.into())
    }

    async fn reject(&self, rejection: &Rejection) -> Result<()> {
        let given = build::reject(rejection, MAX_REJECTED, MAX_REJECTED_FIELDS, REJECTED_RETENTION);
        match self.ask(&given).await?.0 {
            words::Reject::Rejected | words::Reject::Gone => Ok(()),
        }
    }

    async fn signal(&self, run: &str, name: &str, payload: &[u8], origin: Option<&Origin>) -> Result<Signalled> {
        let attributes = attributes::joined(&attributes::of(payload));
        let (entry, request, reply) = parts(origin);
        let given = args::Signal { asked: run, name, attributes, payload, entry, request, reply };
        let (word, _) = self.ask(&given).await?;
        Ok(word.into())
    }

    async fn send(&self, run: &str, events: &[(Route, Vec<u8>)], origin: Option<&Origin>) -> Result<Sent> {
        let (entry, request, reply) = parts(origin);
        let given = args::Send { asked: run, entry, request, reply, list: build::sent(events) };
        let (word, _) = self.ask(&given).await?;
        Ok(word.into())
    }

    async fn defer_send(&self, send: &SendRequest, origin: Option<&Origin>) -> Result<SendDeferral> {
        let SendRequest { run, event, content, input, .. } = send;
        let (entry, request, reply) = parts(origin);
        let (step, content) = (send.step.as_deref().unwrap_or_default(), content.as_str());
        let given = args::DeferSend { asked: run, entry, request, reply, event, step, content, input };
        let (word, _) = self.ask(&given).await?;
        Ok(word.into())
    }

    async fn cancel(&self, run: &str, origin: Option<&Origin>, retention: Duration) -> Result<Cancelled> {
        let (entry, request, reply) = parts(origin);
        let given = args::Cancel { asked: run, entry, request, reply, retention: ms(retention) };
        let (word, _) = self.ask(&given).await?;
        Ok(word.into())
    }

    async fn child_ended(&self, ended: &ChildEndedRequest, entry: &str) -> Result<ChildTold> {
        let ChildEndedRequest { parent, end } = ended;
        let payload = end.payload()?;
        let given = args::ChildEnded {
            parent: &parent.run,
            wait: &parent.wait,
            child: &end.run,
            status: end.status.as_str(),
            payload: &payload,
            entry,
        };
        let (word, _) = self.ask(&given).await?;
        Ok(word.into())
    }

    async fn retry(&self, run: &str, event: Option<&[u8]>, origin: Option<&Origin>) -> Result<Retried> {
        let (entry, request, reply) = parts(origin);
        let given = args::Retry { asked: run, entry, request, reply, event: event.into_iter().collect() };
        let (word, answer) = self.ask(&given).await?;
        outcome::retried(word, answer)
    }

    async fn answer(&self, run: &str, answer: &AnswerTo<'_>, origin: Option<&Origin>) -> Result<Answered> {
        let ((entry, request, reply), name) = (parts(origin), names::question(answer.name));
        let AnswerTo { question, payload, by, .. } = *answer;
        let question = question.to_owned();
        let arguments = args::Answer { asked: run, question, name: &name, payload, by, entry, request, reply };
        let (word, _) = self.ask(&arguments).await?;
        Ok(word.into())
    }

    async fn pause(&self, run: &str, origin: Option<&Origin>) -> Result<Paused> {
        let (entry, request, reply) = parts(origin);
        let (word, _) = self.ask(&args::Pause { asked: run, entry, request, reply }).await?;
        Ok(word.into())
    }

    async fn resume(&self, run: &str, origin: Option<&Origin>) -> Result<Resumed> {
        let (entry, request, reply) = parts(origin);
        let (word, _) = self.ask(&args::Resume { asked: run, entry, request, reply }).await?;
        Ok(word.into())
    }

    async fn forkable(&self, run: &str, seq: Option<u64>) -> Result<ForkPoint> {
        let seq = seq.map(|seq| seq.to_string()).unwrap_or_default();
        let (word, reply) = self.ask(&args::Forkable { asked: run, seq: &seq }).await?;
        outcome::forkable(word, reply)
    }

    async fn fork(&self, fork: &Fork, origin: Option<&Origin>) -> Result<Forked> {
        let (entry, request, reply) = parts(origin);
        let (word, answer) = self.ask(&build::fork(fork, entry, request, reply)).await?;
        outcome::forked(word, answer)
    }

    async fn reap(&self, reap: &Reap) -> Result<Reaped> {
        outcome::reaped(self.call(&build::reap(reap)).await?)
    }

    async fn fire(&self, fire: &Fire) -> Result<Fired> {
        let given = args::Fire { limit: fire.limit as u64, retention: ms(fire.retention) };
        outcome::fired(self.call(&given).await?)
    }

    async fn audit(&self, audit: &Audit) -> Result<Audited> {
        self.audit_slice(audit).await
    }

    async fn disconnected(&self) -> Result<Vec<(String, u64)>> {
        let mut all = redis::cmd("HGETALL");
        all.arg(self.namespace.key("clients"));
        let clients = Reply::new(self.link.send(&all).await?)?.pairs()?;
        let known = |(id, client): (String, Vec<u8>)| Some((id, std::str::from_utf8(&client).ok()?.parse().ok()?));
        let workers: Vec<(String, u64)> = clients.into_iter().filter_map(known).collect();
        if workers.is_empty() {
            return Ok(workers);
        }
        let mut list = redis::cmd("CLIENT");
        list.arg("LIST").arg("ID");
        for (_, client) in &workers {
            list.arg(client);
        }
        let open = open_connections(&text(self.link.send(&list).await?)?);
        Ok(workers.into_iter().filter(|(_, client)| !open.contains(client)).collect())
    }

    async fn alarm_reader(&self) -> Result<Box<dyn AlarmReader>> {
        let mut pubsub = self.link.pubsub().await?;
        pubsub.subscribe(self.namespace.key("alarm")).await?;
        Ok(Box::new(RedisAlarmReader { alarms: pubsub.into_on_message() }))
    }

    async fn inbox_reader(&self, coordinator: &str) -> Result<Box<dyn InboxReader>> {
        self.inbox_reader_of(std::slice::from_ref(&self.namespace), coordinator).await
    }

    async fn reclaim_inbox(&self, coordinator: &str, idle: Duration) -> Result<Vec<InboxEntry>> {
        // Entries are removed as soon as they are processed, so the pending list is short and a scan from its
        // beginning never starves.
        let mut claim = redis::cmd("XAUTOCLAIM");
        claim.arg(self.namespace.key("inbox")).arg(INBOX_GROUP).arg(coordinator).arg(millis(idle)).arg("0-0");
        claim.arg("COUNT").arg(INBOX_BATCH);
        let mut reply = Reply::new(self.link.send(&claim).await?)?;
        reply.value()?;
        let entries = inbox_entries(reply.array()?, self.namespace.partition())?;
        self.drop_departed(coordinator, idle * DEPARTED).await?;
        Ok(entries)
    }
}
