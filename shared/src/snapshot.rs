//! A run's context as JSON, to look at, keep elsewhere, or give to another run.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::run::{Run, Status};
use crate::{codec, paths, untyped, values};

/// The state that a run's steps have committed so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// The run's id.
    pub run: String,
    /// Its workflow.
    pub workflow: String,
    /// The version that it is pinned to.
    pub version: u32,
    /// Its status.
    pub status: Status,
    /// The fields of its context. [`StartRun::context`](crate::client::StartRun::context) takes them. Bytes are lists of
    /// numbers, keys that are numbers become text, and NaN becomes null.
    pub context: Map<String, Value>,
}

impl Snapshot {
    /// Fails if a field cannot be written as JSON.
    pub(crate) fn of(run: Run, fields: Vec<(String, Vec<u8>)>) -> Result<Self> {
        let mut context = Map::new();
        for (name, value) in fields {
            let value = to_json(&name, &value)?;
            context.insert(name, value);
        }
        Ok(Self { run: run.id, workflow: run.workflow, version: run.version, status: run.status, context })
    }
}

/// A context value as JSON. Never panics, whatever the bytes are.
pub(crate) fn to_json(field: &str, value: &[u8]) -> Result<Value> {
    if value.first() == Some(&codec::JSON) {
        return values::decode(field, value);
    }
    let packed = values::to_messagepack(field, value)?;
    let packed = paths::read(&packed)
        .ok_or_else(|| Error::invalid(format!("the context field {field} cannot be read as MessagePack")))?;
    untyped::to_json(packed)
        .map_err(|what| Error::invalid(format!("the context field {field} has {what}: JSON has no form for it")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn what_came_as_json_goes_out_as_the_same() {
        for value in [
            json!(3),
            json!(u64::MAX),
            json!(-0.5),
            json!("x"),
            json!(null),
            json!([1, [2], {"a": -1}]),
            json!({"b": {"c": [true]}}),
        ] {
            assert_eq!(to_json("f", &values::encode("f", &value).unwrap()).unwrap(), value);
        }
    }

    #[test]
    fn what_json_has_no_form_for_is_written_as_near_as_can_be() {
        let numbers = values::encode("f", &BTreeMap::from([(7, f64::NAN)])).unwrap();
        assert_eq!(to_json("f", &numbers).unwrap(), json!({"7": null}));
        assert_eq!(to_json("f", b"\x01\xc4\x02\x01\xff").unwrap(), json!([1, 255]));
        assert_eq!(to_json("f", b"\x02{\"a\":1}").unwrap(), json!({"a": 1}));
        for (odd, why) in
            [(&b"\x01\xd4\x01\x00"[..], "an extension type"), (b"\x05\xc0\x01", "keys"), (b"\x01", "read")]
        {
            let error = to_json("f", odd).unwrap_err().to_string();
            assert!(error.contains("context field f") && error.contains(why), "{error}");
        }
    }
}
