//! What every role may read, with plain commands that change nothing.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use redis::Cmd;

use super::readers::{BLOCK, RedisEventReader};
use super::{RedisStore, meta};
use crate::core::decode::{
    clock_ms, deferred, held, inbox_entries, live_step, open_wait, published, registration, remaining_ms, run, session,
    stream_entries, worker,
};
use crate::core::generated::args;
use crate::core::reply::{Reply, bytes, number, text};
use crate::core::value::Value;
use crate::error::{Error, Result};
use crate::export::Journaled;
use crate::fleet::Queue;
use crate::history::Record;
use crate::names::{Namespace, QueueName};
use crate::published::{Position, Published};
use crate::question::OpenQuestion;
use crate::run::Run;
use crate::server::Info;
use crate::step::OpenWait;
use crate::store::{
    Deferred, EventReader, InboxEntry, LiveStep, MAX_PUBLISHED_READ, ReaderStore, Registration, RejectedRequest,
    RequestFate, SessionInfo, WorkerInfo, in_order,
};

/// How many entries the group of a queue has not read yet, from the reply of `XINFO GROUPS`.
pub(super) fn waiting(groups: Value) -> u64 {
    let lag = |group: Reply| Some(group.pairs_of_values().ok()?.into_iter().find(|(name, _)| name == "lag")?.1);
    let Ok(mut groups) = Reply::new(groups) else { return 0 };
    groups.array().ok().and_then(lag).and_then(|lag| number(&lag).ok()).unwrap_or(0)
}

/// As the coordinators' transitions write it.
fn request_fate(text: &str) -> Result<RequestFate> {
    match text.split_once(' ') {
        None if text == "taken" => Ok(RequestFate::Taken),
        None if text == "kept" => Ok(RequestFate::Kept),
        Some(("rejected", reason)) => Ok(RequestFate::Rejected(reason.to_owned())),
        _ => Err(Error::reply("the outcome of a request cannot be read")),
    }
}

/// How many step executions that have not ended are shown of a run.
const SHOWN_STEPS: usize = 100;
/// The event of a larger one is not read, in bytes.
const READ_STEP: u64 = 65_536;

/// The streams of a queue.
pub(super) const LANES: [&str; 3] = ["queue", "requeued", "alone"];

#[async_trait]
impl ReaderStore for RedisStore {
    fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    async fn open(&self) -> Result<()> {
        meta::make(&self.link, self.namespace.name(), self.partitions).await
    }

    async fn server(&self) -> Result<Option<Info>> {
        self.read_info().await.map(Some)
    }

    async fn run(&self, id: &str) -> Result<Option<Run>> {
        if let Some(run) = self.read_runs(&[id.to_owned()]).await?.pop() {
            return Ok(Some(run));
        }
        let mut get = redis::cmd("GET");
        get.arg(self.namespace.key_of("alias", id));
        match self.link.send(&get).await? {
            Value::Nil => Ok(None),
            known => Ok(self.read_runs(&[text(known)?]).await?.pop()),
        }
    }

    async fn leads_to(&self, run: &str) -> Result<Option<String>> {
        let mut get = redis::cmd("GET");
        get.arg(self.namespace.key_of("alias", run));
        match self.link.send(&get).await? {
            Value::Nil => Ok(None),
            known => text(known).map(Some),
        }
    }

    async fn is_deferred(&self, run: &str) -> Result<bool> {
        let mut exists = redis::cmd("HEXISTS");
        exists.arg(self.namespace.key("deferred")).arg(run);
        Ok(number::<u64>(&self.link.send(&exists).await?)? == 1)
    }

    async fn request_fate(&self, run: &str, request: &str) -> Result<Option<RequestFate>> {
        let mut get = redis::cmd("GET");
        get.arg(self.namespace.key_of("request", &format!("{run}:{request}")));
        match self.link.send(&get).await? {
            Value::Nil => Ok(None),
            fate => request_fate(&text(fate)?).map(Some),
        }
    }

    async fn receipts(&self, list: &str) -> Result<Vec<String>> {
        let mut range = redis::cmd("LRANGE");
        range.arg(self.namespace.key_of("reply", list)).arg(0).arg(-1);
        self.texts(&range).await
    }

    async fn context(&self, run: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let mut all = redis::cmd("HGETALL");
        all.arg(self.namespace.key_of("context", run));
        Reply::new(self.link.send(&all).await?)?.pairs()
    }

    async fn session(&self, name: &str) -> Result<Option<SessionInfo>> {
        let mut read = redis::pipe();
        read.cmd("HGETALL").arg(self.namespace.key_of("session", name));
        read.cmd("LRANGE").arg(self.namespace.key_of("line", name)).arg(0).arg(-1);
        read.cmd("HGETALL").arg(self.namespace.key_of("shared", name));
        let mut values = self.link.send_all(&read).await?.into_iter();
        let mut next = || Reply::new(values.next().ok_or_else(|| Error::reply("the reply is too short"))?);
        Ok(session(next()?.pairs()?, next()?.texts()?, next()?.pairs()?))
    }

    async fn runs(&self, offset: usize, count: usize) -> Result<Vec<Run>> {
        let mut range = redis::cmd("ZREVRANGE");
        range.arg(self.namespace.key("runs")).arg(offset).arg(offset + count.max(1) - 1);
        self.read_runs(&self.texts(&range).await?).await
    }

    async fn journals(&self, run: &str) -> Result<Vec<Journaled>> {
        self.read_journals(run).await
    }

    async fn history(&self, run: &str, from: u64, count: u64) -> Result<Vec<Record>> {
        let mut range = redis::cmd("LRANGE");
        range.arg(self.namespace.key_of("history", run)).arg(from).arg(from + count.max(1) - 1);
        let mut reply = Reply::new(self.link.send(&range).await?)?;
        let mut records = Vec::new();
        while !reply.is_over() {
            // One for each line, known or not: positions in the history stay what they are.
            records.push(Record::parse(&reply.bytes()?));
        }
        if records.is_empty() && from == 0 {
            records.extend(self.read_start(run).await?);
        }
        Ok(records)
    }

    async fn published(&self, run: &str, after: Position, count: u64) -> Result<Vec<Published>> {
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(count.clamp(1, MAX_PUBLISHED_READ)).arg("STREAMS");
        read.arg(self.namespace.key_of("events", run)).arg(after.to_string());
        Ok(published(stream_entries(self.link.send(&read).await?, |_| 0)?))
    }

    async fn event_reader(&self, run: &str, after: Position) -> Result<Box<dyn EventReader>> {
        let connection = self.link.dedicated(BLOCK, "stepfleet-follower").await?;
        Ok(Box::new(RedisEventReader { connection, key: self.namespace.key_of("events", run), after }))
    }

    async fn waits(&self, run: &str) -> Result<Vec<OpenWait>> {
        let (mut waits, mut cursor) = (Vec::new(), "0".to_owned());
        loop {
            let mut reply = self.call(&args::Waits { run, cursor: &cursor }).await?;
            cursor = reply.text()?;
            let mut found = reply.array()?;
            while !found.is_over() {
                let mut wait = found.array()?;
                waits.extend(open_wait(&wait.text()?, &wait.text()?, wait.text()?));
            }
            if cursor == "0" {
                return Ok(in_order(waits));
            }
        }
    }

    async fn questions(&self, run: Option<&str>, from: u64, count: u64) -> Result<Vec<OpenQuestion>> {
        let mut found = self.call(&args::Questions { run: run.unwrap_or_default(), from, count }).await?;
        let mut open = Vec::new();
        while !found.is_over() {
            let mut one = found.array()?;
            let (run, id) = (one.text()?, one.text()?);
            let (asked_ms, due_ms) = (one.number()?, one.number()?);
            let Ok(question) = serde_json::from_slice(&one.bytes()?) else { continue };
            open.push(OpenQuestion { run, id, asked_ms, due_ms: Some(due_ms).filter(|due| *due > 0), question });
        }
        open.sort_by_key(|question: &OpenQuestion| question.asked_ms);
        Ok(open)
    }

    async fn live_steps(&self, run: &str) -> Result<Vec<LiveStep>> {
        let steps = self.namespace.key_of("steps", run);
        let names = self.texts(redis::cmd("HKEYS").arg(&steps)).await?;
        let mut live: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
        live.sort_unstable();
        live.truncate(SHOWN_STEPS);
        if live.is_empty() {
            return Ok(Vec::new());
        }
        let mut read = redis::pipe();
        for seq in &live {
            read.cmd("HGET").arg(&steps).arg(seq).cmd("HSTRLEN").arg(&steps).arg(format!("e{seq}"));
        }
        let found = self.link.send_all(&read).await?;
        let mut read = redis::pipe();
        for (seq, found) in live.iter().zip(found.chunks(2)) {
            let is_small = found.get(1).and_then(|length| number::<u64>(length).ok()).is_some_and(|n| n <= READ_STEP);
            // A large event is not worth reading for the name of its step.
            read.cmd("HGET").arg(&steps).arg(if is_small { format!("e{seq}") } else { String::new() });
        }
        let records = self.link.send_all(&read).await?;
        let both = live.into_iter().zip(found.chunks(2)).zip(records);
        Ok(both.filter_map(|((seq, found), record)| live_step(seq, found.first()?.clone(), record)).collect())
    }

    async fn rejected(&self, since_ms: u64, before_ms: u64, count: usize) -> Result<Vec<RejectedRequest>> {
        let Some(last_ms) = before_ms.checked_sub(1) else { return Ok(Vec::new()) };
        let mut range = redis::cmd("XREVRANGE");
        range.arg(self.namespace.key("rejected")).arg(last_ms).arg(since_ms).arg("COUNT").arg(count);
        let entries = inbox_entries(Reply::new(self.link.send(&range).await?)?, 0)?;
        let read = |entry: InboxEntry| {
            let at_ms = entry.id.split_once('-').and_then(|(ms, _)| ms.parse().ok()).unwrap_or_default();
            RejectedRequest::of(at_ms, &entry.fields)
        };
        Ok(entries.into_iter().map(read).collect())
    }

    async fn workers(&self) -> Result<Vec<WorkerInfo>> {
        let mut range = redis::cmd("ZRANGE");
        range.arg(self.namespace.key("leases")).arg(0).arg(-1).arg("WITHSCORES");
        let leases = Reply::new(self.link.send(&range).await?)?.pairs()?;
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        pipeline.cmd("TIME").cmd("HGETALL").arg(self.namespace.key("clients"));
        for (id, _) in &leases {
            pipeline.cmd("HGETALL").arg(self.namespace.key_of("worker", id));
            pipeline.cmd("HGETALL").arg(self.namespace.key_of("held", id));
        }
        let mut values = self.link.send_all(&pipeline).await?.into_iter();
        let mut next = || values.next().ok_or_else(|| Error::reply("the reply is too short"));
        let now = clock_ms(next()?)?;
        let clients: HashMap<String, Vec<u8>> = Reply::new(next()?)?.pairs()?.into_iter().collect();
        let mut workers = Vec::new();
        for (id, expiry) in leases {
            let about: HashMap<String, Vec<u8>> = Reply::new(next()?)?.pairs()?.into_iter().collect();
            let held = Reply::new(next()?)?.pairs()?.iter().filter_map(|(slot, value)| held(slot, value)).count();
            let client = clients.get(&id).and_then(|client| std::str::from_utf8(client).ok()?.parse().ok());
            workers.push(worker(id, &about, held as u64, client.unwrap_or(0), remaining_ms(&expiry, now)));
        }
        Ok(workers)
    }

    async fn registrations(&self) -> Result<Vec<Registration>> {
        let mut values = redis::cmd("HVALS");
        values.arg(self.namespace.key("workflows"));
        let mut reply = Reply::new(self.link.send(&values).await?)?;
        let mut registrations = Vec::new();
        while !reply.is_over() {
            registrations.extend(registration(&reply.bytes()?));
        }
        Ok(registrations)
    }

    async fn key(&self, workflow: &str, key: &str) -> Result<Option<String>> {
        let mut get = redis::cmd("GET");
        get.arg(self.namespace.key_of("key", &format!("{workflow}:{key}")));
        match self.link.send(&get).await? {
            Value::Nil => Ok(None),
            run => text(run).map(Some),
        }
    }

    async fn known_workflows(&self) -> Result<BTreeSet<String>> {
        let mut names = redis::cmd("HKEYS");
        names.arg(self.namespace.key("workflows"));
        let names = self.texts(&names).await?;
        Ok(names.iter().filter_map(|name| Some(QueueName::parse(name)?.0.to_owned())).collect())
    }

    async fn queues(&self) -> Result<Vec<Queue>> {
        let mut about = redis::pipe();
        about.cmd("HKEYS").arg(self.namespace.key("workflows")).cmd("HGETALL").arg(self.namespace.key("departed"));
        let (names, departed): (Vec<String>, HashMap<String, String>) = self.link.read_all(&about).await?;
        let known: Vec<_> = names.iter().filter_map(|name| Some((name, QueueName::parse(name)?))).collect();
        if known.is_empty() {
            return Ok(Vec::new());
        }
        let mut lengths = redis::pipe();
        for (name, _) in &known {
            for lane in LANES {
                lengths.cmd("XINFO").arg("GROUPS").arg(self.namespace.key_of(lane, name));
            }
        }
        let groups: Vec<Value> = self.link.read_all(lengths.ignore_errors()).await?;
        let lengths: Vec<u64> = groups.into_iter().map(waiting).collect();
        let queue = |((name, (workflow, version)), lengths): (&(&String, (&str, u32)), &[u64])| Queue {
            workflow: (*workflow).to_owned(),
            version: *version,
            waiting: lengths.iter().sum(),
            departed_ms: departed.get(*name).and_then(|ms| ms.parse().ok()),
        };
        Ok(known.iter().zip(lengths.chunks(LANES.len())).map(queue).collect())
    }

    async fn deferred(&self) -> Result<Vec<Deferred>> {
        let mut all = redis::cmd("HGETALL");
        all.arg(self.namespace.key("deferred"));
        let pairs = Reply::new(self.link.send(&all).await?)?.pairs()?;
        Ok(pairs.into_iter().filter_map(|(run, packed)| deferred(run, &packed)).collect())
    }

    async fn waiting_requests(&self) -> Result<u64> {
        let mut length = redis::cmd("XLEN");
        length.arg(self.namespace.key("inbox"));
        number(&self.link.send(&length).await?)
    }

    async fn wait_ended(&self, run: &str, limit: Duration) -> Result<()> {
        let mut pubsub = self.link.pubsub().await?;
        pubsub.subscribe(self.namespace.key_of("ended", run)).await?;
        if self.read_runs(&[run.to_owned()]).await?.pop().is_some_and(|run| run.status.is_over()) {
            return Ok(());
        }
        let mut messages = pubsub.on_message();
        // No message in time is no error: the caller looks at the run again either way.
        let _ = tokio::time::timeout(limit, messages.next()).await;
        Ok(())
    }

    async fn now_ms(&self) -> Result<u64> {
        let now = clock_ms(self.link.send(&redis::cmd("TIME")).await?)?;
        u64::try_from(now).map_err(|_| Error::reply("the time is before 1970"))
    }
}

impl RedisStore {
    pub(super) async fn read_info(&self) -> Result<Info> {
        match self.link.send(&redis::cmd("INFO")).await {
            Ok(reply) => Ok(Info::parse(&text(reply).unwrap_or_default())),
            // Denied by the ACL, or renamed away.
            Err(error) if error.is_denied() || error.to_string().contains("unknown command") => Ok(Info::default()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn read_runs(&self, ids: &[String]) -> Result<Vec<Run>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for id in ids {
            pipeline.cmd("HGETALL").arg(self.namespace.key_of("run", id));
            pipeline.cmd("GET").arg(self.namespace.key_of("input", id));
        }
        let mut values = self.link.send_all(&pipeline).await?.into_iter();
        let mut runs = Vec::new();
        for id in ids {
            let (Some(fields), Some(input)) = (values.next(), values.next()) else { break };
            let input = if input == Value::Nil { Vec::new() } else { bytes(input)? };
            runs.extend(run(id, Reply::new(fields)?.pairs()?, input)?);
        }
        Ok(runs)
    }

    /// The first record of a history that has no other yet.
    async fn read_start(&self, run: &str) -> Result<Option<Record>> {
        let mut get = redis::cmd("HMGET");
        get.arg(self.namespace.key_of("run", run)).arg("created").arg("workflow").arg("version");
        let mut found = Reply::new(self.link.send(&get).await?)?;
        let mut next =
            || found.value().and_then(|value| if value == Value::Nil { Ok(None) } else { text(value).map(Some) });
        let (Some(created), Some(workflow), Some(version)) = (next()?, next()?, next()?) else { return Ok(None) };
        Ok(Some(Record::parse(format!("{created} start 0 0 - - {workflow} {version}").as_bytes())))
    }

    async fn texts(&self, command: &Cmd) -> Result<Vec<String>> {
        Reply::new(self.link.send(command).await?)?.texts()
    }
}
