//! Reading data from Redis. Pure; any data is at worst an error, never a panic.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::reply::{self, Reply};
use super::value::Value;
use crate::attributes;
use crate::codec::{self, Content};
use crate::error::{Error, Result};
use crate::names;
use crate::partition::MAX_PARTITIONS;
use crate::published::Published;
use crate::run::{Compensation, Run, Status};
use crate::step::{Fence, OpenWait};
use crate::store::{Deferred, InboxEntry, LiveStep, Registration, SessionInfo, StepStanding, WorkerInfo};

/// The layout of the keys. A namespace of a newer one is refused.
pub(crate) const FORMAT: u64 = 1;

/// How many partitions the namespace has; None if it does not exist yet.
pub(crate) fn meta(name: &str, found: &[Value]) -> Result<Option<u16>> {
    let [format, partitions] = found else { return Err(Error::reply("the namespace's format cannot be read")) };
    if *format == Value::Nil || *partitions == Value::Nil {
        return Ok(None);
    }
    let (format, partitions) = (reply::number::<u64>(format)?, reply::number::<u16>(partitions)?);
    if format > FORMAT {
        return Err(Error::invalid(format!(
            "the namespace {name} has format {format}, and this version of Stepfleet knows {FORMAT}: use a version \
             that knows {format}, or another namespace"
        )));
    }
    if !(1..=MAX_PARTITIONS).contains(&partitions) {
        return Err(Error::invalid(format!(
            "the namespace {name} is recorded with {partitions} partitions, and this version of Stepfleet knows 1 to \
             {MAX_PARTITIONS}"
        )));
    }
    Ok(Some(partitions))
}

/// The reply of `TIME`, in ms since 1970.
pub(crate) fn clock_ms(time: Value) -> Result<i64> {
    let mut time = Reply::new(time)?;
    Ok(time.number::<i64>()?.saturating_mul(1000).saturating_add(time.number::<i64>()? / 1000))
}

/// How long a lease still lasts; None if its end cannot be read.
pub(crate) fn remaining_ms(expiry: &[u8], now_ms: i64) -> i64 {
    parsed::<i64>(expiry).unwrap_or(now_ms).saturating_sub(now_ms)
}

/// The ids in the reply of `CLIENT LIST`.
pub(crate) fn open_connections(listed: &str) -> HashSet<u64> {
    listed.lines().filter_map(|line| line.strip_prefix("id=")?.split(' ').next()?.parse().ok()).collect()
}

pub(crate) fn registration(json: &[u8]) -> Option<Registration> {
    Registration::from_json(json).ok()
}

/// A slot, and what it has: `<call> <letter> <run> <seq> <attempt>`. None if it is free.
pub(crate) fn held(slot: &str, value: &[u8]) -> Option<Fence> {
    let mut value = std::str::from_utf8(value).ok()?.split(' ');
    let (call, _, run) = (value.next()?, value.next()?, value.next()?);
    Some(Fence {
        run: run.to_owned(),
        seq: value.next()?.parse().ok()?,
        attempt: value.next()?.parse().ok()?,
        claim: call.parse().ok()?,
        slot: slot.parse().ok()?,
        ..Fence::default()
    })
}

/// A state line, `<letter> <attempt> <failures> <losses> <about>...`, and a record, whose second word names the step.
pub(crate) fn live_step(seq: u64, state: Value, record: Value) -> Option<LiveStep> {
    let state = reply::text(state).ok()?;
    let mut words = state.split(' ');
    let (letter, attempt) = (words.next()?, words.next()?.parse().ok()?);
    let mut about = words.skip(2);
    let standing = match letter {
        "Q" => StepStanding::Queued,
        "H" => StepStanding::Running { worker: about.next()?.to_owned(), since_ms: about.next()?.parse().ok()? },
        "W" => StepStanding::Waiting { due_ms: about.next()?.parse().ok()? },
        "S" => StepStanding::Suspended,
        "T" => StepStanding::Turn,
        _ => return None,
    };
    let record = reply::bytes(record).unwrap_or_default();
    let head = record.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let step = head.split(|byte| *byte == b' ').nth(1).map(|step| String::from_utf8_lossy(step).into_owned());
    Some(LiveStep { seq, step: step.unwrap_or_else(|| "-".to_owned()), attempt, standing })
}

/// `<seq>.<number>@<deadline>`, with `~<filter>` if there is one.
pub(crate) fn open_wait(name: &str, wait: &str, step: String) -> Option<OpenWait> {
    let (seq, rest) = wait.split_once('.')?;
    let (number, rest) = rest.split_once('@')?;
    let (due, filter) = rest.split_once('~').unwrap_or((rest, ""));
    Some(OpenWait {
        seq: seq.parse().ok()?,
        step,
        number: number.parse().ok()?,
        name: names::text(name),
        filter: attributes::read(filter),
        due_ms: Some(due.parse().ok()?).filter(|due| *due > 0),
    })
}

pub(crate) fn inbox_entries(mut entries: Reply, inbox: u16) -> Result<Vec<InboxEntry>> {
    let mut found = Vec::new();
    while !entries.is_over() {
        let value = entries.value()?;
        if value == Value::Nil {
            continue;
        }
        let mut entry = Reply::new(value)?;
        let id = entry.text()?;
        let mut values = entry.array()?;
        let mut fields = Vec::new();
        while !values.is_over() {
            fields.push((reply::bytes(values.value()?)?, reply::bytes(values.value()?)?));
        }
        found.push(InboxEntry { id, inbox, fields: Arc::new(fields) });
    }
    Ok(found)
}

/// What a blocking read of streams answers. `inbox` says whose inbox a stream is, by its name.
pub(crate) fn stream_entries(reply: Value, inbox: impl Fn(&str) -> u16) -> Result<Vec<InboxEntry>> {
    let (mut streams, mut found) = (Reply::new(reply)?, Vec::new());
    while !streams.is_over() {
        let mut stream = streams.array()?;
        let name = stream.text()?;
        found.extend(inbox_entries(stream.array()?, inbox(&name))?);
    }
    Ok(found)
}

/// Entries of a run's stream `events`.
pub(crate) fn published(entries: Vec<InboxEntry>) -> Vec<Published> {
    let read = |entry: InboxEntry| Some(Published::parse(entry.id.parse().ok()?, &entry.fields));
    entries.into_iter().filter_map(read).collect()
}

fn parsed<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

pub(crate) fn run(id: &str, pairs: Vec<(String, Vec<u8>)>, input: Vec<u8>) -> Result<Option<Run>> {
    if pairs.is_empty() {
        return Ok(None);
    }
    let mut fields: HashMap<String, Vec<u8>> = pairs.into_iter().collect();
    let result = fields.remove("result");
    let text = |name: &str| fields.get(name).map(|v| String::from_utf8_lossy(v).into_owned());
    let time = |name: &str| fields.get(name).and_then(|v| parsed(v));
    let status = text("status").unwrap_or_default();
    Ok(Some(Run {
        id: id.to_owned(),
        status: Status::parse(&status)
            .ok_or_else(|| Error::reply(format!("run {id} has the unknown status {status:?}")))?,
        workflow: text("workflow").unwrap_or_default(),
        version: fields.get("version").and_then(|v| parsed(v)).unwrap_or(0),
        content: text("content").and_then(|c| Content::parse(&c).ok()).unwrap_or_default(),
        created_ms: time("created").unwrap_or(0),
        started_ms: time("started"),
        finished_ms: time("finished"),
        error: text("error"),
        error_step: text("error_step"),
        error_attempt: fields.get("error_attempt").and_then(|v| parsed(v)),
        session: text("session"),
        durability: text("durability").and_then(|text| text.parse().ok()),
        parent: text("parent"),
        compensation: text("compensation").and_then(|stands| Compensation::parse(&stands)),
        input,
        result,
    }))
}

/// None if there is nothing of it. `line` has the run whose turn it is.
pub(crate) fn session(
    about: Vec<(String, Vec<u8>)>,
    line: Vec<String>,
    context: Vec<(String, Vec<u8>)>,
) -> Option<SessionInfo> {
    if about.is_empty() && line.is_empty() && context.is_empty() {
        return None;
    }
    let about: HashMap<String, Vec<u8>> = about.into_iter().collect();
    let running = about.get("running").map(|run| String::from_utf8_lossy(run).into_owned());
    Some(SessionInfo {
        waiting: line.into_iter().filter(|run| Some(run) != running.as_ref()).collect(),
        completed: about.get("version").and_then(|version| parsed(version)).unwrap_or(0),
        expires_ms: about.get("expires").and_then(|ms| parsed(ms)),
        running,
        context,
    })
}

pub(crate) fn worker(
    id: String,
    about: &HashMap<String, Vec<u8>>,
    held: u64,
    client: u64,
    lease_ms: i64,
) -> WorkerInfo {
    let text = |name: &str| about.get(name).map(|v| String::from_utf8_lossy(v).into_owned()).unwrap_or_default();
    let number = |name: &str| about.get(name).and_then(|v| parsed::<u64>(v)).unwrap_or(0);
    WorkerInfo {
        id,
        host: text("host"),
        pid: u32::try_from(number("pid")).unwrap_or(0),
        concurrency: usize::try_from(number("concurrency")).unwrap_or(0),
        held,
        since_ms: number("since"),
        lease_ms,
        client,
        serves: text("queues").split_whitespace().map(str::to_owned).collect(),
    }
}

pub(crate) fn deferred(run: String, packed: &[u8]) -> Option<Deferred> {
    let space = packed.iter().position(|b| *b == b' ')?;
    let since_ms = parsed(&packed[..space])?;
    let request = codec::decode_messagepack("the request", &packed[space + 1..]).ok()?;
    Some(Deferred { run, request, since_ms })
}
