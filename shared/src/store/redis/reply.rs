//! Reading replies. Whatever comes back is checked: a surprise is an error, never a panic.

use std::time::Duration;

use redis::Value;

use crate::codec::Content;
use crate::error::{Error, Result};
use crate::step::{self, Claimed, Fence, Joined};

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

    pub(crate) fn claims(mut self) -> Result<Vec<Claimed>> {
        let mut claims = Vec::with_capacity(self.values.len());
        while !self.is_over() {
            claims.push(claimed(self.array()?)?);
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

/// `run, seq, attempt, claim, failures, scope, step, flags, event, payload, meta, context, journal`
fn claimed(mut reply: Reply) -> Result<Claimed> {
    let fence = Fence { run: reply.text()?, seq: reply.number()?, attempt: reply.number()?, claim: reply.number()? };
    let failures = reply.number()?;
    let (scopes, step, flags, event) = (reply.text()?, reply.text()?, reply.text()?, reply.text()?);
    let (scope, within) = parse_scopes(&scopes)?;
    let payload = reply.bytes()?;
    let meta = reply.text()?;
    let context = reply.array()?.pairs()?;
    let (mut journal, mut last_error, mut elapsed) = (Vec::new(), None, Duration::ZERO);
    for (name, value) in reply.array()?.pairs()? {
        match name.as_str() {
            "error" => last_error = Some(String::from_utf8_lossy(&value).into_owned()),
            "elapsed" => elapsed = Duration::from_millis(String::from_utf8_lossy(&value).parse().unwrap_or(0)),
            // A field that is no number was not written by a step.
            _ => journal.extend(name.parse().ok().map(|number| (number, value))),
        }
    }
    let mut meta = meta.split(' ');
    let (workflow, version, content, follow) = (meta.next(), meta.next(), meta.next(), meta.next());
    let recoveries = flags.split_once('+').map_or(Ok(0), |(_, count)| count.parse());
    let joined = if flags.contains('j') { Some(joined(&payload)?) } else { None };
    let parts = if flags.contains('t') { Some(parts(&payload)?) } else { None };
    Ok(Claimed {
        fence,
        failures,
        last_error,
        elapsed,
        recoveries: recoveries.map_err(|_| Error::reply("a step's recoveries cannot be read"))?,
        scope,
        within,
        step,
        event,
        payload,
        joined,
        parts,
        workflow: workflow.unwrap_or_default().to_owned(),
        version: version.and_then(|v| v.parse().ok()).ok_or_else(|| Error::reply("a run has no version"))?,
        content: Content::parse(content.unwrap_or_default())?,
        follow_steps: follow == Some("follow"),
        context,
        journal,
    })
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

fn parts(set: &[u8]) -> Result<Vec<Vec<u8>>> {
    step::cut_payloads(set).ok_or_else(|| Error::reply("a set of events cannot be read"))
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
            bulk("r1"),
            bulk("3"),
            Value::Int(2),
            bulk("9"),
            Value::Int(1),
            bulk("0"),
            bulk("look"),
            bulk(flags),
            bulk("Lookup"),
            bulk(payload),
            bulk(meta),
            Value::Array(vec![bulk("a"), bulk("\u{1}x")]),
            Value::Array(vec![bulk("2"), bulk("\u{1}y")]),
        ])
    }

    #[test]
    fn a_claim_is_read() {
        let claims = Reply::new(Value::Array(vec![item("c", "p", "rag 4 json")])).unwrap().claims().unwrap();
        let claim = &claims[0];
        assert_eq!(claim.fence, Fence { run: "r1".into(), seq: 3, attempt: 2, claim: 9 });
        assert_eq!((claim.version, claim.failures, claim.context.len()), (4, 1, 1));
        assert_eq!(claim.joined, None);
    }

    #[test]
    fn a_joining_claim_says_where_its_events_are() {
        let claims = Reply::new(Value::Array(vec![item("cj", "7 120", "rag 4 json")])).unwrap().claims().unwrap();
        assert_eq!(claims[0].joined, Some(Joined { scope: 7, count: 120 }));
    }

    #[test]
    fn surprises_are_errors() {
        for bad in
            [Value::Int(1), item("j", "seven", "rag 4 json"), item("c", "p", "rag four json"), Value::Array(vec![])]
        {
            let reply = Value::Array(vec![bad.clone()]);
            assert!(Reply::new(reply).unwrap().claims().is_err(), "{bad:?} was taken");
        }
    }
}
