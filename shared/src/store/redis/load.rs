//! How much there is to do in a partition, for metrics: few commands, however much it is.

use std::time::Duration;

use super::RedisStore;
use super::reader::{LANES, waiting};
use crate::core::decode::clock_ms;
use crate::core::reply::{Reply, number, text};
use crate::core::value::Value;
use crate::error::{Error, Result};
use crate::names::QueueName;

/// How much there is to do in a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// The queue of every workflow version that was ever registered.
    pub queues: Vec<QueueLoad>,
    /// Requests that no coordinator has taken in yet.
    pub inbox: u64,
    /// Requests that wait for a worker that serves their workflow.
    pub held: u64,
    /// Runs, live ones and those that are kept.
    pub runs: u64,
    /// Timers that are set.
    pub timers: u64,
    /// How long the first of them has been due.
    pub overdue: Duration,
}

/// What waits in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueLoad {
    /// The workflow.
    pub workflow: String,
    /// Its version.
    pub version: u32,
    /// How many step executions wait.
    pub waiting: u64,
    /// How long the oldest of them has waited.
    pub oldest: Duration,
}

/// A lane of a queue, and the id of the entry that was taken off it last.
struct Lane {
    queue: usize,
    key: String,
    taken: String,
}

impl RedisStore {
    /// How much there is to do, on the server's clock.
    pub async fn load(&self) -> Result<Load> {
        let key = |kind| self.namespace.key(kind);
        let mut about = redis::pipe();
        about.cmd("TIME").cmd("XLEN").arg(key("inbox")).cmd("HLEN").arg(key("deferred"));
        about.cmd("ZCARD").arg(key("runs")).cmd("ZCARD").arg(key("timers"));
        about.cmd("ZRANGE").arg(key("timers")).arg(0).arg(0).arg("WITHSCORES").cmd("HKEYS").arg(key("workflows"));
        let mut values = self.link.send_all(&about).await?.into_iter();
        let mut next = || values.next().ok_or_else(|| Error::reply("the reply is too short"));
        let now = u64::try_from(clock_ms(next()?)?).map_err(|_| Error::reply("the time is before 1970"))?;
        let mut load = Load { inbox: number(&next()?)?, held: number(&next()?)?, ..Load::default() };
        (load.runs, load.timers) = (number(&next()?)?, number(&next()?)?);
        let first = Reply::new(next()?)?.pairs()?.into_iter().next();
        let due = first.and_then(|(_, due)| std::str::from_utf8(&due).ok()?.parse::<u64>().ok());
        load.overdue = since(now, due);
        let names = Reply::new(next()?)?.texts()?;
        load.queues = self.queue_loads(now, &names).await?;
        Ok(load)
    }

    async fn queue_loads(&self, now: u64, names: &[String]) -> Result<Vec<QueueLoad>> {
        let known = names.iter().filter_map(|name| Some((name, QueueName::parse(name)?)));
        let (mut queues, mut lanes, mut groups) = (Vec::new(), Vec::new(), redis::pipe());
        for (name, (workflow, version)) in known {
            for lane in LANES {
                let key = self.namespace.key_of(lane, name);
                groups.cmd("XINFO").arg("GROUPS").arg(&key);
                lanes.push(Lane { queue: queues.len(), key, taken: String::new() });
            }
            let (workflow, oldest) = (workflow.to_owned(), Duration::ZERO);
            queues.push(QueueLoad { workflow, version, waiting: 0, oldest });
        }
        if queues.is_empty() {
            return Ok(queues);
        }
        let groups: Vec<Value> = self.link.read_all(groups.ignore_errors()).await?;
        let mut busy = Vec::new();
        for (mut lane, group) in lanes.into_iter().zip(groups) {
            let (count, taken) = (waiting(group.clone()), taken(group));
            queues[lane.queue].waiting += count;
            if count > 0 {
                lane.taken = taken.unwrap_or_else(|| "0-0".to_owned());
                busy.push(lane);
            }
        }
        if busy.is_empty() {
            return Ok(queues);
        }
        let mut firsts = redis::pipe();
        for lane in &busy {
            firsts.cmd("XRANGE").arg(&lane.key).arg(format!("({}", lane.taken)).arg("+").arg("COUNT").arg(1);
        }
        let firsts: Vec<Value> = self.link.read_all(firsts.ignore_errors()).await?;
        for (lane, first) in busy.iter().zip(firsts) {
            let oldest = &mut queues[lane.queue].oldest;
            *oldest = (*oldest).max(since(now, added(first)));
        }
        Ok(queues)
    }
}

fn since(now: u64, at: Option<u64>) -> Duration {
    Duration::from_millis(at.map_or(0, |at| now.saturating_sub(at)))
}

/// The id of the last entry that was delivered to the group of a lane, from the reply of `XINFO GROUPS`.
fn taken(groups: Value) -> Option<String> {
    let group = Reply::new(groups).ok()?.array().ok()?.pairs_of_values().ok()?;
    text(group.into_iter().find(|(name, _)| name == "last-delivered-id")?.1).ok()
}

/// When the first of these entries was added.
fn added(entries: Value) -> Option<u64> {
    let id = Reply::new(entries).ok()?.array().ok()?.text().ok()?;
    id.split('-').next()?.parse().ok()
}
