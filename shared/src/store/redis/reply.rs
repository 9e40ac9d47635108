//! Reading replies. Whatever comes back is checked: a surprise is an error, never a panic.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::Value;

use crate::codec::{self, Content};
use crate::error::{Error, Result};
use crate::step::{self, Call, Claimed, Commit, Fence, Joined, Line};

/// Reads the values of an array one after the other.
pub(crate) struct Reply {
    values: std::vec::IntoIter<Value>,
}

impl Reply {
    pub(crate) fn new(value: Value) -> Result<Self> {
        match value {
            Value::Array(values) | Value::Set(values) => Ok(Self { values: values.into_iter() }),
            Value::Map(pairs) => {
                let flat: Vec<Value> = pairs.into_iter().flat_map(|(k, v)| [k, v]).collect();
                Ok(Self { values: flat.into_iter() })
            }
            Value::Nil => Ok(Self { values: Vec::new().into_iter() }),
            other => Err(unexpected("an array", &other)),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.values.len() == 0
    }

    pub(crate) fn value(&mut self) -> Result<Value> {
        self.values.next().ok_or_else(|| Error::reply("the reply is too short"))
    }

    pub(crate) fn array(&mut self) -> Result<Reply> {
        Reply::new(self.value()?)
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>> {
        bytes(self.value()?)
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        text(self.value()?)
    }

    pub(crate) fn number<T: TryFrom<i64>>(&mut self) -> Result<T> {
        number(&self.value()?)
    }

    pub(crate) fn pairs(mut self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut pairs = Vec::with_capacity(self.values.len() / 2);
        while !self.is_over() {
            // Names are ours, but others may have written here: theirs must not make the rest unreadable.
            let name = String::from_utf8_lossy(&self.bytes()?).into_owned();
            pairs.push((name, self.bytes()?));
        }
        Ok(pairs)
    }

    pub(crate) fn pairs_of_values(mut self) -> Result<Vec<(String, Value)>> {
        let mut pairs = Vec::with_capacity(self.values.len() / 2);
        while !self.is_over() {
            pairs.push((self.text()?, self.value()?));
        }
        Ok(pairs)
    }

    /// What the call of this number has claimed.
    pub(crate) fn claims(mut self, call: u64) -> Result<Vec<Claimed>> {
        let mut claims = Vec::with_capacity(self.values.len());
        while !self.is_over() {
            claims.push(claimed(self.array()?, call)?);
        }
        Ok(claims)
    }
}

pub(crate) fn bytes(value: Value) -> Result<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::Int(number) => Ok(number.to_string().into_bytes()),
        Value::Okay => Ok(b"OK".to_vec()),
        other => Err(unexpected("a string", &other)),
    }
}

pub(crate) fn text(value: Value) -> Result<String> {
    String::from_utf8(bytes(value)?).map_err(|_| Error::reply("a text is not UTF-8"))
}

pub(crate) fn number<T: TryFrom<i64>>(value: &Value) -> Result<T> {
    let number = match value {
        Value::Int(number) => Some(*number),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok().and_then(|t| t.parse().ok()),
        _ => None,
    };
    number.and_then(|n| T::try_from(n).ok()).ok_or_else(|| unexpected("a number", value))
}

fn unexpected(wanted: &str, got: &Value) -> Error {
    let mut got = format!("{got:?}");
    got.truncate(got.char_indices().nth(80).map_or(got.len(), |(at, _)| at));
    Error::reply(format!("{wanted} was expected, not {got}"))
}

/// `slot, run, seq, line, record, scopes, meta, input, version, context, journal`
///
/// What says who holds the step execution must be readable. The rest may have been written by anybody: where it cannot be read,
/// the run fails, and no other.
fn claimed(mut reply: Reply, call: u64) -> Result<Claimed> {
    let slot = reply.number()?;
    let (run, seq, line) = (reply.text()?, reply.number()?, reply.text()?);
    let mut numbers = line.split(' ').skip(1).map(str::parse::<u32>);
    let mut number =
        || numbers.next().and_then(std::result::Result::ok).ok_or_else(|| Error::reply("a hold cannot be read"));
    let (attempt, failures) = (number()?, number()?);
    let fence = Fence { run, seq, attempt, claim: call, slot, line: Line::new(&line) };
    let mut step = Claimed { fence, failures, ..Claimed::default() };
    if let Err(error) = read_rest(&mut step, reply) {
        step.damage = Some(error.to_string());
    }
    Ok(step)
}

fn read_rest(step: &mut Claimed, mut reply: Reply) -> Result<()> {
    let (record, scopes, meta, input) = (reply.bytes()?, reply.text()?, reply.text()?, reply.bytes()?);
    step.context_version = reply.number()?;
    step.context = reply.array()?.pairs()?;
    for (name, value) in reply.array()?.pairs()? {
        match name.as_str() {
            "error" => step.last_error = Some(String::from_utf8_lossy(&value).into_owned()),
            "elapsed" => {
                step.elapsed = Duration::from_millis(String::from_utf8_lossy(&value).parse().unwrap_or(0));
            }
            // A field that is no number was not written by a step.
            _ => step.journal.extend(name.parse().ok().map(|number| (number, value))),
        }
    }
    (step.scope, step.within) = parse_scopes(&scopes)?;
    read_meta(step, &meta).ok_or_else(|| Error::reply("the run's description in Redis is damaged"))?;
    read_record(step, record, &input).ok_or_else(|| Error::reply("its event in Redis is damaged"))
}

/// `<workflow> <version> <content>`, and ` follow`.
fn read_meta(step: &mut Claimed, meta: &str) -> Option<()> {
    let mut meta = meta.split(' ');
    let (workflow, version, content) = (meta.next()?, meta.next()?, meta.next()?);
    workflow.clone_into(&mut step.workflow);
    step.version = version.parse().ok()?;
    step.content = Content::parse(content).ok()?;
    step.follow_steps = match meta.next() {
        None => false,
        Some("follow") => true,
        Some(_) => return None,
    };
    Some(())
}

/// `<scope> <step> <flags> <event>`, a line feed, the payload.
fn read_record(step: &mut Claimed, mut record: Vec<u8>, input: &[u8]) -> Option<()> {
    let line = record.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&record[..line]).ok()?;
    let mut head = head.split(' ');
    let (_, name, flags, event) = (head.next()?, head.next()?, head.next()?, head.next()?);
    if head.next().is_some() {
        return None;
    }
    name.clone_into(&mut step.step);
    event.clone_into(&mut step.event);
    let (letters, recoveries) = flags.split_once('+').unwrap_or((flags, "0"));
    let (letters, limit) = letters.split_once('=').map_or((letters, None), |(letters, limit)| (letters, Some(limit)));
    step.recoveries = recoveries.parse().ok()?;
    step.is_limited = limit.is_some();
    let (is_input, is_joined, is_set) = (letters.contains('i'), letters.contains('j'), letters.contains('t'));
    record.drain(..=line);
    step.payload = if is_input { codec::input_payload(step.content, input) } else { record };
    if is_joined {
        step.joined = Some(joined(&step.payload).ok()?);
    }
    if is_set {
        step.parts = Some(step::cut_payloads(&step.payload)?);
    }
    Some(())
}

/// What came of the short way of a commit: `seq, now, version`, and the context where the worker cannot know it. The rest is what
/// the worker has sent. None where the long way is to be gone. Pure.
pub(crate) fn handed_over(reply: Value, call: &Call, step: &Claimed, commit: &Commit) -> Result<Option<Claimed>> {
    if reply == Value::Int(0) {
        return Ok(None);
    }
    let Some((route, payload)) = commit.only_successor() else { return Ok(None) };
    let mut reply = Reply::new(reply)?;
    let (seq, now, context_version) = (reply.number()?, reply.text()?, reply.number()?);
    let context = match (route.context, reply.is_over()) {
        (false, _) => Vec::new(),
        (true, false) => reply.array()?.pairs()?,
        (true, true) => with_changes(&step.context, &commit.set),
    };
    let fence = Fence {
        run: step.fence.run.clone(),
        seq,
        attempt: 1,
        claim: call.number,
        slot: step.fence.slot,
        line: Line::new(&format!("H 1 0 0 {} {now} {}", call.worker, call.number)),
    };
    Ok(Some(Claimed {
        fence,
        recoveries: route.recoveries,
        scope: step.scope,
        within: step.within.clone(),
        step: route.step.clone(),
        event: route.event.clone(),
        payload: payload.clone(),
        workflow: step.workflow.clone(),
        version: step.version,
        content: step.content,
        context,
        context_version: if route.context { context_version } else { 0 },
        ..Claimed::default()
    }))
}

/// What came of the short way of a branch that ends: 0 where the long way is to be gone, 1, or what the slot has now. Pure.
pub(crate) fn branch_ended(reply: Value, call: u64) -> Result<Option<Option<Claimed>>> {
    match reply {
        Value::Int(0) => Ok(None),
        Value::Int(_) => Ok(Some(None)),
        item => Ok(Some(Some(claimed(Reply::new(item)?, call)?))),
    }
}

/// The context after a commit that set these fields.
fn with_changes(context: &[(String, Vec<u8>)], set: &[(String, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
    let mut fields: BTreeMap<&String, &Vec<u8>> = context.iter().map(|(field, value)| (field, value)).collect();
    fields.extend(set.iter().map(|(field, value)| (field, value)));
    fields.into_iter().map(|(field, value)| (field.clone(), value.clone())).collect()
}

fn parse_scopes(text: &str) -> Result<(u64, Vec<u64>)> {
    let mut scopes = text.split(' ').map(str::parse::<u64>);
    let mut next = || scopes.next().transpose().map_err(|_| Error::reply("a step execution has no scope"));
    let scope = next()?.unwrap_or_default();
    let mut within = Vec::new();
    while let Some(outer) = next()? {
        within.push(outer);
    }
    Ok((scope, within))
}

fn joined(payload: &[u8]) -> Result<Joined> {
    let parsed = std::str::from_utf8(payload).ok().and_then(|text| {
        let (scope, count) = text.split_once(' ')?;
        Some(Joined { scope: scope.parse().ok()?, count: count.parse().ok()? })
    });
    parsed.ok_or_else(|| Error::reply("a joining step's record cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn item(flags: &str, payload: &str, meta: &str) -> Value {
        Value::Array(vec![
            Value::Int(4),
            bulk("r1"),
            bulk("3"),
            bulk("H 2 1 0 worker-1 1795312511771 9"),
            bulk(&format!("0 look {flags} Lookup\n{payload}")),
            bulk("0"),
            bulk(meta),
            bulk("{}"),
            Value::Int(7),
            Value::Array(vec![bulk("a"), bulk("\u{1}x")]),
            Value::Array(vec![bulk("2"), bulk("\u{1}y")]),
        ])
    }

    fn claims(item: Value) -> Result<Vec<Claimed>> {
        Reply::new(Value::Array(vec![item])).unwrap().claims(9)
    }

    #[test]
    fn a_claim_is_read() {
        let claim = claims(item("c", "p", "rag 4 json")).unwrap().remove(0);
        let fence = Fence { run: "r1".into(), seq: 3, attempt: 2, claim: 9, slot: 4, ..Fence::default() };
        assert_eq!(claim.fence, fence);
        assert_eq!(claim.fence.line.as_str(), "H 2 1 0 worker-1 1795312511771 9");
        assert_eq!((claim.version, claim.failures, claim.context.len()), (4, 1, 1));
        assert_eq!((claim.payload, claim.context_version, claim.joined, claim.damage), (b"p".to_vec(), 7, None, None));
    }

    #[test]
    fn the_input_is_the_event_of_a_first_step() {
        let claim = claims(item("i=2+1", "", "rag 4 json")).unwrap().remove(0);
        assert_eq!((claim.payload, claim.is_limited, claim.recoveries), (b"\x02{}".to_vec(), true, 1));
    }

    #[test]
    fn a_joining_claim_says_where_its_events_are() {
        let claim = claims(item("cj", "7 120", "rag 4 json")).unwrap().remove(0);
        assert_eq!(claim.joined, Some(Joined { scope: 7, count: 120 }));
    }

    #[test]
    fn a_claim_that_is_damaged_can_still_be_failed() {
        for bad in [item("j", "seven", "rag 4 json"), item("t", "7 5", "rag 4 json"), item("c", "p", "rag four json")] {
            let claim = claims(bad).unwrap().remove(0);
            assert_eq!(claim.fence.seq, 3);
            assert!(claim.damage.is_some());
        }
    }

    #[test]
    fn surprises_are_errors() {
        for bad in [Value::Int(1), Value::Array(vec![]), Value::Array(vec![bulk("1"), bulk("r"), bulk("1"), bulk("H")])]
        {
            assert!(claims(bad.clone()).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn what_is_handed_over_has_the_context_that_the_worker_knows() {
        let step = Claimed {
            context: vec![("a".into(), vec![1]), ("b".into(), vec![2])],
            context_version: 7,
            ..Claimed::default()
        };
        let route = step::Route { step: "next".into(), event: "E".into(), context: true, ..step::Route::default() };
        let commit = Commit { emits: vec![(route, vec![9])], set: vec![("b".into(), vec![3])], ..Commit::default() };
        let call = Call { worker: "w".into(), number: 5, again: false };
        let known = Value::Array(vec![bulk("12"), bulk("1795312511771"), bulk("8")]);
        let next = handed_over(known, &call, &step, &commit).unwrap().unwrap();
        assert_eq!((next.context, next.context_version), (vec![("a".into(), vec![1]), ("b".into(), vec![3])], 8));
        assert_eq!(next.fence.line.as_str(), "H 1 0 0 w 1795312511771 5");
        let changed = Value::Array(vec![bulk("12"), bulk("1"), bulk("9"), Value::Array(vec![bulk("c"), bulk("z")])]);
        let next = handed_over(changed, &call, &step, &commit).unwrap().unwrap();
        assert_eq!((next.context, next.context_version), (vec![("c".into(), b"z".to_vec())], 9));
        assert!(handed_over(Value::Int(0), &call, &step, &commit).unwrap().is_none());
    }
}
