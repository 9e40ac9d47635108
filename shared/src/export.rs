//! Exports what the bodies of a run have recorded, to replay it elsewhere: for instance, against code that is about to
//! be deployed.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::Content;
use crate::error::{Error, Result};
use crate::run::{Run, Status};
use crate::step::{Claimed, Fence};

/// The format of exports: the only one that is read.
const FORMAT: u32 = 1;

/// A run as [`RunHandle::export`](crate::client::RunHandle::export) and `stepfleet export` write it: what its bodies
/// were given, and what they have recorded. It contains the run's data, so take care where you keep it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Export {
    format: u32,
    /// The run's id.
    pub run: String,
    /// Its workflow.
    pub workflow: String,
    /// The version that it is pinned to.
    pub version: u32,
    /// Its status.
    pub status: Status,
    /// Its step executions that have recorded something.
    pub steps: Vec<ExportedStep>,
}

/// A step execution whose body has recorded something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExportedStep {
    /// Its number in the run.
    pub seq: u64,
    /// The step; empty if that is the only step of a run which has completed.
    pub step: String,
    /// How many attempts there were.
    pub attempts: u32,
    /// The event's name; empty when `step` is.
    pub event: String,
    /// The encoding of the result.
    #[serde(serialize_with = "crate::run::content", deserialize_with = "content")]
    pub content: Content,
    /// The fan-out that it is a branch of; 0 for none.
    pub group: u64,
    /// The event.
    pub payload: Hex,
    /// The events of a step that takes a set.
    pub parts: Option<Vec<Hex>>,
    /// The events of a step that joins a fan-out.
    pub joined: Option<Vec<Hex>>,
    /// The state, as far as it is known: for a run's first step as it was at the beginning, otherwise the current one.
    pub context: BTreeMap<String, Hex>,
    /// What was recorded, by the number of the call.
    pub journal: Vec<ExportedEntry>,
}

/// An entry of a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ExportedEntry {
    /// Its number.
    pub number: u64,
    /// Its first line, for people to read.
    pub head: String,
    /// The whole entry.
    pub entry: Hex,
}

/// Bytes, written as hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hex(pub Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
        let text: String = self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
        to.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let is_whole = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bytes = is_whole.then(|| text.as_bytes().chunks(2).map(pair).collect::<Option<Vec<u8>>>()).flatten();
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("bytes are written as pairs of hexadecimal digits"))
    }
}

fn content<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Content, D::Error> {
    Content::parse(&String::deserialize(from)?).map_err(serde::de::Error::custom)
}

/// A step execution that [`ReaderStore::journals`](crate::store::ReaderStore::journals) finds.
#[derive(Clone, Debug)]
pub struct Journaled {
    /// The step execution, as a worker would get it. Without names if a run of one step has completed.
    pub step: Claimed,
    /// The events that its fan-out has joined.
    pub joined: Option<Vec<Vec<u8>>>,
}

impl Export {
    /// A run, and what [`ReaderStore::journals`](crate::store::ReaderStore::journals) finds of it.
    pub fn of(run: &Run, steps: Vec<Journaled>) -> Self {
        let steps = steps.into_iter().map(ExportedStep::from).collect();
        let (id, workflow) = (run.id.clone(), run.workflow.clone());
        Self { format: FORMAT, run: id, workflow, version: run.version, status: run.status, steps }
    }

    /// Reads what was written as JSON.
    ///
    /// Fails if the text is not an export, or was written by a newer version.
    pub fn read(json: &str) -> Result<Self> {
        let found: Self = serde_json::from_str(json)
            .map_err(|e| Error::invalid(format!("this is not a file that `stepfleet export` wrote: {e}")))?;
        if found.format != FORMAT {
            let format = found.format;
            return Err(Error::invalid(format!(
                "the export has format {format}, and this version reads {FORMAT} only"
            )));
        }
        Ok(found)
    }

    /// The step executions, as a worker would be given them, with what their fan-outs have joined.
    pub fn journaled(&self) -> Vec<Journaled> {
        self.steps.iter().map(|step| step.claimed(self)).collect()
    }
}

impl From<Journaled> for ExportedStep {
    fn from(Journaled { step, joined }: Journaled) -> Self {
        let hexes = |all: Vec<Vec<u8>>| all.into_iter().map(Hex).collect();
        let entry = |(number, entry): (u64, Vec<u8>)| {
            let head = entry.split(|byte| *byte == b'\n').next().unwrap_or_default();
            ExportedEntry { number, head: String::from_utf8_lossy(head).into_owned(), entry: Hex(entry) }
        };
        let mut journal: Vec<_> = step.journal.into_iter().map(entry).collect();
        journal.sort_by_key(|entry| entry.number);
        Self {
            seq: step.fence.seq,
            step: step.step,
            attempts: step.fence.attempt,
            event: step.event,
            content: step.content,
            group: step.group,
            payload: Hex(step.payload),
            parts: step.parts.map(hexes),
            joined: joined.map(hexes),
            context: step.context.into_iter().map(|(name, value)| (name, Hex(value.to_vec()))).collect(),
            journal,
        }
    }
}

impl ExportedStep {
    fn claimed(&self, of: &Export) -> Journaled {
        let bytes = |all: &Vec<Hex>| all.iter().map(|one| one.0.clone()).collect();
        let fence = Fence { run: of.run.clone(), seq: self.seq, attempt: self.attempts.max(1), ..Fence::default() };
        let step = Claimed {
            fence,
            step: self.step.clone(),
            event: self.event.clone(),
            content: self.content,
            group: self.group,
            payload: self.payload.0.clone(),
            parts: self.parts.as_ref().map(bytes),
            workflow: of.workflow.clone(),
            version: of.version,
            context: self.context.iter().map(|(name, value)| (name.clone(), value.0.clone().into())).collect(),
            journal: self.journal.iter().map(|entry| (entry.number, entry.entry.0.clone())).collect(),
            ..Claimed::default()
        };
        Journaled { step, joined: self.joined.as_ref().map(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn export() -> Export {
        let step = Claimed {
            fence: Fence { seq: 3, attempt: 2, ..Fence::default() },
            step: "pay".into(),
            event: "Order".into(),
            payload: b"\x02{}".to_vec(),
            context: vec![("stage".into(), vec![1, 0xff].into())],
            journal: vec![(2, b"o\n".to_vec()), (1, b"vcharge\n\x01\x07".to_vec())],
            ..Claimed::default()
        };
        let steps = vec![Journaled { step, joined: Some(vec![vec![9]]) }.into()];
        let (run, workflow) = ("r".to_owned(), "shop".to_owned());
        Export { format: FORMAT, run, workflow, version: 4, status: Status::Running, steps }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let json = serde_json::to_string(&export()).unwrap();
        let read = Export::read(&json).unwrap();
        assert_eq!(read, export());
        let journaled = read.journaled().remove(0);
        assert_eq!(
            (journaled.step.fence.run.as_str(), journaled.step.version, journaled.joined),
            ("r", 4, Some(vec![vec![9]]))
        );
        assert_eq!(journaled.step.journal, [(1, b"vcharge\n\x01\x07".to_vec()), (2, b"o\n".to_vec())]);
        assert!(json.contains(r#""head":"vcharge","entry":"766368617267650a0107""#), "people can read it: {json}");
    }

    #[test]
    fn what_is_something_else_is_told_so() {
        let json = serde_json::to_string(&export()).unwrap();
        for (odd, why) in [
            ("[]".to_owned(), "stepfleet export"),
            (json.replacen("\"format\":1", "\"format\":2", 1), "format 2"),
            (json.replacen("01ff", "01f", 1), "hexadecimal"),
            (json.replacen("01ff", "01+f", 1), "hexadecimal"),
        ] {
            assert!(Export::read(&odd).unwrap_err().to_string().contains(why), "{odd}");
        }
    }
}
