//! Records of step executions: how they are written, and how a claimed one is read.

use std::time::Duration;

use super::args::Headed;
use super::reply::Reply;
use crate::codec::{self, Content};
use crate::error::{Error, Result};
use crate::step::{self, Claimed, Fence, Join, JoinBuffer, Line, Route};

impl Route {
    /// As in a record: `<step> <flags> <event>`. `kind` is a letter: `i`, the run's input is the event; `j`, the
    /// event is what a fan-out joined; `t`, it is a set of several; `o`, it came from outside. `c`: send the context. Then `=` and the limit, and `+` and
    /// how many failures were caught.
    pub(crate) fn header(&self, kind: Option<char>) -> String {
        let mut flags: String = kind.into_iter().chain(self.context.then_some('c')).collect();
        if flags.is_empty() {
            flags.push('-');
        }
        if let Some(limit) = self.limit {
            flags = format!("{flags}={limit}");
        }
        if self.recoveries > 0 {
            flags = format!("{flags}+{}", self.recoveries);
        }
        format!("{} {flags} {}", self.step, self.event)
    }

    /// A record: `<group> <step> <flags> <event>`, a line feed, the payload.
    pub(crate) fn record<'a>(&self, group: u64, kind: Option<char>, payload: &'a [u8]) -> Headed<'a> {
        Headed { head: format!("{group} {}\n", self.header(kind)), rest: payload }
    }
}

impl Join {
    /// A line of a fan-out: the header, and how many events are enough, if not all.
    pub(crate) fn header(&self) -> String {
        let header = self.route.header(Some('j'));
        self.first.map_or_else(|| header.clone(), |first| format!("{header} {first}"))
    }
}

/// `slot, run, seq, line, record, groups, meta, input, version, context, journal, was`
///
/// The parts that say who holds the step execution must be readable. Anybody may have written the rest: if it cannot be read,
/// the run fails, and no other.
pub(crate) fn claimed(mut reply: Reply, call: u64) -> Result<Claimed> {
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
    let (record, groups, meta, input) = (reply.bytes()?, reply.text()?, reply.text()?, reply.bytes()?);
    step.context_version = reply.number()?;
    step.context = reply.array()?.shared_pairs()?;
    for (name, value) in reply.array()?.pairs()? {
        match name.as_str() {
            "error" => step.last_error = Some(String::from_utf8_lossy(&value).into_owned()),
            "elapsed" => {
                step.elapsed = Duration::from_millis(String::from_utf8_lossy(&value).parse().unwrap_or(0));
            }
            "kept" => step.kept = true,
            // A field that is no number was not written by a step.
            _ => step.journal.extend(name.parse().ok().map(|number| (number, value))),
        }
    }
    step.queued = queued(step.fence.line.as_str(), &reply.text()?);
    (step.group, step.within) = parse_groups(&groups)?;
    read_meta(step, &meta).ok_or_else(|| Error::reply("the run's description in Redis is damaged"))?;
    read_record(step, record, &input).ok_or_else(|| Error::reply("its event in Redis is damaged"))
}

/// `<workflow> <version> <content>`; its durability, if it has one; and `follow`.
pub(crate) fn read_meta(step: &mut Claimed, meta: &str) -> Option<()> {
    let mut meta = meta.split(' ');
    let (workflow, version, content) = (meta.next()?, meta.next()?, meta.next()?);
    workflow.clone_into(&mut step.workflow);
    step.version = version.parse().ok()?;
    step.content = Content::parse(content).ok()?;
    let mut more = meta.next();
    if let Some(durability) = more.filter(|more| *more != "follow") {
        step.durability = durability.parse().ok()?;
        more = meta.next();
    }
    step.follow_steps = more.is_some();
    (more.is_none_or(|more| more == "follow") && meta.next().is_none()).then_some(())
}

/// `<group> <step> <flags> <event>`, a line feed, the payload.
pub(crate) fn read_record(step: &mut Claimed, mut record: Vec<u8>, input: &[u8]) -> Option<()> {
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
    step.is_outside = letters.contains('o');
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

/// From the state `Q <attempt> <failures> <losses> <lane><ms>-<n>` to the hold that follows it, `H ... <worker> <since> <call>`.
fn queued(line: &str, was: &str) -> Option<Duration> {
    let since: u64 = line.split(' ').nth(5)?.parse().ok()?;
    let place = was.split(' ').nth(4)?;
    let added: u64 = place.get(1..)?.split('-').next()?.parse().ok()?;
    // A run that was made paused has a place that is none.
    (added > 0).then(|| Duration::from_millis(since.saturating_sub(added)))
}

fn parse_groups(text: &str) -> Result<(u64, Vec<u64>)> {
    let mut groups = text.split(' ').map(str::parse::<u64>);
    let mut next = || groups.next().transpose().map_err(|_| Error::reply("a step execution has no group"));
    let group = next()?.unwrap_or_default();
    let mut within = Vec::new();
    while let Some(outer) = next()? {
        within.push(outer);
    }
    Ok((group, within))
}

fn joined(payload: &[u8]) -> Result<JoinBuffer> {
    let parsed = std::str::from_utf8(payload).ok().and_then(|text| {
        let (group, count) = text.split_once(' ')?;
        Some(JoinBuffer { group: group.parse().ok()?, count: count.parse().ok()? })
    });
    parsed.ok_or_else(|| Error::reply("a joining step's record cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::value::Value;

    fn bulk(text: &str) -> Value {
        Value::Bytes(text.as_bytes().to_vec())
    }

    fn item(flags: &str, payload: &str, meta: &str) -> Value {
        Value::List(vec![
            Value::Int(4),
            bulk("r1"),
            bulk("3"),
            bulk("H 2 1 0 worker-1 1795312511771 9"),
            bulk(&format!("0 look {flags} Lookup\n{payload}")),
            bulk("0"),
            bulk(meta),
            bulk("{}"),
            Value::Int(7),
            Value::List(vec![bulk("a"), bulk("\u{1}x")]),
            Value::List(vec![bulk("2"), bulk("\u{1}y")]),
            bulk("Q 1 1 0 r1795312511701-0"),
        ])
    }

    fn claims(item: Value) -> Result<Vec<Claimed>> {
        Reply::new(Value::List(vec![item])).unwrap().claims(9)
    }

    #[test]
    fn a_claim_is_read() {
        let claim = claims(item("c", "p", "rag 4 json")).unwrap().remove(0);
        let fence = Fence { run: "r1".into(), seq: 3, attempt: 2, claim: 9, slot: 4, ..Fence::default() };
        assert_eq!(claim.fence, fence);
        assert_eq!(claim.fence.line.as_str(), "H 2 1 0 worker-1 1795312511771 9");
        assert_eq!((claim.version, claim.failures, claim.context.len()), (4, 1, 1));
        assert_eq!(claim.queued, Some(Duration::from_millis(70)));
        assert_eq!((claim.payload, claim.context_version, claim.joined, claim.damage), (b"p".to_vec(), 7, None, None));
    }

    #[test]
    fn only_what_was_in_a_queue_has_waited_there() {
        let line = "H 1 0 0 worker-1 5000 9";
        assert_eq!(queued(line, "Q 0 0 0 q4000-1"), Some(Duration::from_secs(1)));
        assert_eq!(queued(line, "Q 0 0 0 q5001-0"), Some(Duration::ZERO));
        for none in ["", "Q 0 0 0 q0-0", "Q 0 0 0 ", "Q 0 0 0 q-1", "nonsense"] {
            assert_eq!(queued(line, none), None, "{none}");
        }
    }

    #[test]
    fn the_input_is_the_event_of_a_first_step() {
        let claim = claims(item("i=2+1", "", "rag 4 json")).unwrap().remove(0);
        assert_eq!((claim.payload, claim.is_limited, claim.recoveries), (b"\x02{}".to_vec(), true, 1));
    }

    #[test]
    fn a_joining_claim_says_where_its_events_are() {
        let claim = claims(item("cj", "7 120", "rag 4 json")).unwrap().remove(0);
        assert_eq!(claim.joined, Some(JoinBuffer { group: 7, count: 120 }));
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
        for bad in [Value::Int(1), Value::List(vec![]), Value::List(vec![bulk("1"), bulk("r"), bulk("1"), bulk("H")])] {
            assert!(claims(bad.clone()).is_err(), "{bad:?} was taken");
        }
    }
}
