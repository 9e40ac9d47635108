//! Reads what the bodies of a run have recorded so far.

use super::RedisStore;
use crate::core::record::{read_meta, read_record};
use crate::core::reply::{Reply, bytes};
use crate::core::value::Value;
use crate::error::{Error, Result};
use crate::export::Journaled;
use crate::step::{Bytes, Claimed, Fence};

impl RedisStore {
    pub(super) async fn read_journals(&self, run: &str) -> Result<Vec<Journaled>> {
        let prefix = format!("{}:", self.namespace.key_of("journal", run));
        let mut extra = redis::cmd("SMEMBERS");
        extra.arg(self.namespace.key_of("extra", run));
        let keys = Reply::new(self.link.send(&extra).await?)?.texts()?;
        let mut seqs: Vec<u64> = keys.iter().filter_map(|key| key.strip_prefix(&prefix)?.parse().ok()).collect();
        seqs.sort_unstable();
        let mut journaled = Vec::new();
        for seq in seqs {
            journaled.extend(self.read_journal(run, seq).await?);
        }
        Ok(journaled)
    }

    async fn read_journal(&self, run: &str, seq: u64) -> Result<Option<Journaled>> {
        let key = |kind: &str| self.namespace.key_of(kind, run);
        let mut read = redis::pipe();
        read.cmd("HMGET").arg(key("run")).arg("workflow").arg("version").arg("content").arg("forked_at");
        read.cmd("GET").arg(key("input"));
        for steps in ["steps", "stopped"] {
            read.cmd("HMGET").arg(key(steps)).arg(format!("e{seq}")).arg("meta").arg(seq);
        }
        read.cmd("HGETALL").arg(format!("{}:{seq}", key("journal")));
        read.cmd("HGETALL").arg(key("begun")).cmd("HGETALL").arg(key("context"));
        let mut values = self.link.send_all(&read).await?.into_iter();
        let mut next = || values.next().ok_or_else(|| Error::reply("the reply is too short"));
        let (about, input) = (fields(next()?)?, next()?);
        let input = if input == Value::Nil { Vec::new() } else { bytes(input)? };
        let (live, stopped) = (fields(next()?)?, fields(next()?)?);
        let (entries, begun) = (Reply::new(next()?)?.pairs()?, Reply::new(next()?)?.pairs()?);
        let context = Reply::new(next()?)?.pairs()?;
        let fence = Fence { run: run.to_owned(), seq, ..Fence::default() };
        let mut step = Claimed { fence, ..Claimed::default() };
        let is_first = seq == 1 && about.get(3).is_some_and(Option::is_none);
        let of = if live.first().is_some_and(Option::is_some) { live } else { stopped };
        read_step(&mut step, of, about, &input)
            .ok_or_else(|| Error::reply(format!("step execution {seq} of run {run} is damaged in Redis")))?;
        // A field that is no number was not written by a body.
        step.journal = entries.into_iter().filter_map(|(name, entry)| Some((name.parse().ok()?, entry))).collect();
        if step.journal.is_empty() {
            return Ok(None);
        }
        let state = if is_first { begun } else { context };
        step.context = state.into_iter().map(|(name, value)| (name, Bytes::from(value))).collect();
        step.context.sort();
        let Some(buffer) = step.joined.clone() else { return Ok(Some(Journaled { step, joined: None })) };
        let list = format!("{}:{}:{}", key("joined"), buffer.group, step.step);
        let mut range = redis::cmd("LRANGE");
        range.arg(list).arg(0).arg(buffer.count.max(1) - 1);
        Ok(Some(Journaled { step, joined: Some(self.link.read(&range).await?) }))
    }
}

/// Reads record, description and state of a step execution; if there are none, it is the only one of a run that has completed.
fn read_step(step: &mut Claimed, of: Fields, about: Fields, input: &[u8]) -> Option<()> {
    let text = |field: Option<Vec<u8>>| String::from_utf8_lossy(&field.unwrap_or_default()).into_owned();
    let mut of = of.into_iter();
    if let (Some(record), Some(meta)) = (of.next().flatten(), of.next().flatten()) {
        let line = text(of.next().flatten());
        step.fence.attempt = line.split(' ').nth(1).and_then(|attempt| attempt.parse().ok()).unwrap_or(1);
        let group = record.split(|byte| *byte == b' ').next().unwrap_or_default();
        step.group = std::str::from_utf8(group).ok()?.parse().ok()?;
        read_meta(step, &text(Some(meta)))?;
        return read_record(step, record, input);
    }
    let mut about = about.into_iter().map(text);
    let mut next = || about.next().unwrap_or_default();
    read_meta(step, &format!("{} {} {}", next(), next(), next()))?;
    step.payload = crate::codec::input_payload(step.content, input);
    Some(())
}

type Fields = Vec<Option<Vec<u8>>>;

/// Fields of a hash; None for those that are not there.
fn fields(found: Value) -> Result<Fields> {
    let (mut found, mut all) = (Reply::new(found)?, Vec::new());
    while !found.is_over() {
        let field = found.value()?;
        all.push(if field == Value::Nil { None } else { Some(bytes(field)?) });
    }
    Ok(all)
}
