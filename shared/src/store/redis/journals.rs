//! What the bodies of a run have recorded, as it stands now.

use std::collections::HashMap;

use super::RedisStore;
use crate::core::record::{read_meta, read_record};
use crate::core::reply::{Reply, bytes, text};
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
        let (about, input) = (texts(Reply::new(next()?)?)?, next()?);
        let (live, stopped) = (texts(Reply::new(next()?)?)?, texts(Reply::new(next()?)?)?);
        let (entries, begun) = (Reply::new(next()?)?.pairs()?, Reply::new(next()?)?.pairs()?);
        let context = Reply::new(next()?)?.pairs()?;
        let input = if input == Value::Nil { Vec::new() } else { bytes(input)? };
        let is_first = seq == 1 && about.get(3).is_some_and(Option::is_none);
        let fence = Fence { run: run.to_owned(), seq, ..Fence::default() };
        let mut step = Claimed { fence, ..Claimed::default() };
        let of = if live.first().is_some_and(Option::is_some) { live } else { stopped };
        let mut of = of.into_iter();
        match (of.next().flatten(), of.next().flatten()) {
            (Some(record), Some(meta)) => {
                let line = String::from_utf8_lossy(&of.next().flatten().unwrap_or_default()).into_owned();
                step.fence.attempt = line.split(' ').nth(1).and_then(|attempt| attempt.parse().ok()).unwrap_or(1);
                let group = record.split(|byte| *byte == b' ').next().unwrap_or_default();
                step.group = std::str::from_utf8(group).ok().and_then(|group| group.parse().ok()).unwrap_or(0);
                let meta = String::from_utf8_lossy(&meta).into_owned();
                read_meta(&mut step, &meta)
                    .and_then(|()| read_record(&mut step, record, &input))
                    .ok_or_else(|| Error::reply(format!("step execution {seq} of run {run} is damaged in Redis")))?;
            }
            // The only step of a run that has completed: all others are forgotten.
            _ => {
                let mut about =
                    about.into_iter().map(|field| String::from_utf8_lossy(&field.unwrap_or_default()).into_owned());
                let mut next = || about.next().unwrap_or_default();
                read_meta(&mut step, &format!("{} {} {}", next(), next(), next()))
                    .ok_or_else(|| Error::reply(format!("the run {run} is damaged in Redis")))?;
                step.payload = crate::codec::input_payload(step.content, &input);
            }
        }
        // A field that is no number was not written by a body.
        step.journal = entries.into_iter().filter_map(|(name, entry)| Some((name.parse().ok()?, entry))).collect();
        if step.journal.is_empty() {
            return Ok(None);
        }
        let fields: HashMap<String, Vec<u8>> = if is_first { begun } else { context }.into_iter().collect();
        step.context = fields.into_iter().map(|(name, value)| (name, Bytes::from(value))).collect();
        step.context.sort();
        let joined = match &step.joined {
            None => None,
            Some(joined) => {
                let list = format!("{}:{}:{}", key("joined"), joined.group, step.step);
                let mut range = redis::cmd("LRANGE");
                range.arg(list).arg(0).arg(joined.count.max(1) - 1);
                Some(self.link.read(&range).await?)
            }
        };
        Ok(Some(Journaled { step, joined }))
    }
}

/// Fields of a hash; None for those that are not there.
fn texts(mut fields: Reply) -> Result<Vec<Option<Vec<u8>>>> {
    let mut all = Vec::new();
    while !fields.is_over() {
        let field = fields.value()?;
        all.push(if field == Value::Nil { None } else { Some(text_bytes(field)?) });
    }
    Ok(all)
}

fn text_bytes(value: Value) -> Result<Vec<u8>> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        other => text(other).map(String::into_bytes),
    }
}
