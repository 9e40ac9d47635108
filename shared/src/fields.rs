//! A struct as fields, each a payload of its own: how a run's state is kept, so that a commit writes only what changed.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::codec::{self, MESSAGEPACK};
use crate::error::{Error, Result};

/// A struct's fields, each as a payload of [`codec`]. Their sizes are not checked: only what is written counts.
pub fn split<S: Serialize>(state: &S) -> Result<BTreeMap<String, Vec<u8>>> {
    let not_a_struct = || Error::invalid("the state's type must be a struct with named fields (or a map)");
    let value = rmp_serde::to_vec_named(state)
        .map_err(|e| e.to_string())
        .and_then(|whole| rmpv::decode::read_value(&mut whole.as_slice()).map_err(|e| e.to_string()))
        .map_err(|e| Error::invalid(format!("the state cannot be written as MessagePack: {e}")))?;
    let rmpv::Value::Map(pairs) = value else { return Err(not_a_struct()) };
    let mut fields = BTreeMap::new();
    for (name, value) in pairs {
        let name = name.as_str().ok_or_else(not_a_struct)?.to_owned();
        let mut payload = vec![MESSAGEPACK];
        rmpv::encode::write_value(&mut payload, &value).map_err(|e| Error::invalid(e.to_string()))?;
        fields.insert(name, payload);
    }
    Ok(fields)
}

/// The struct that has these fields. Fields that it does not know are passed over, as serde does. Never panics,
/// whatever the payloads are.
pub fn join<S: DeserializeOwned>(fields: &BTreeMap<String, Vec<u8>>) -> Result<S> {
    // The whole may be larger than one value may be: it is read without that limit.
    codec::decode_messagepack("the state", &whole(fields)?).map_err(|error| mistake(fields).unwrap_or(error))
}

/// The fields as one MessagePack map.
fn whole(fields: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>> {
    let mut whole = Vec::new();
    let invalid = |e: rmp::encode::ValueWriteError| Error::invalid(e.to_string());
    let count = u32::try_from(fields.len()).map_err(|_| Error::invalid("the state has too many fields"))?;
    rmp::encode::write_map_len(&mut whole, count).map_err(invalid)?;
    for (name, payload) in fields {
        rmp::encode::write_str(&mut whole, name).map_err(invalid)?;
        match payload.split_first() {
            Some((&MESSAGEPACK, body)) => whole.extend_from_slice(body),
            _ => return Err(Error::invalid(format!("the context field {name} is not MessagePack"))),
        }
    }
    Ok(whole)
}

/// The first field that is no value by itself.
fn mistake(fields: &BTreeMap<String, Vec<u8>>) -> Option<Error> {
    fields.iter().find_map(|(name, payload)| {
        codec::decode::<IgnoredAny>(&format!("the context field {name}"), payload).map(drop).err()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Serialize, Deserialize, Default, Debug, PartialEq)]
    struct Memory {
        asked: u32,
        notes: Vec<String>,
    }

    #[test]
    fn what_is_split_joins_again_and_may_be_large_as_a_whole() {
        let memory = Memory { asked: 3, notes: vec!["x".repeat(codec::MAX_PAYLOAD); 3] };
        let mut fields = split(&memory).unwrap();
        assert_eq!(fields.keys().collect::<Vec<_>>(), ["asked", "notes"]);
        fields.insert("unknown".into(), codec::encode("x", &[1, 2]).unwrap());
        assert_eq!(join::<Memory>(&fields).unwrap(), memory);
    }

    #[test]
    fn a_field_that_is_no_single_value_is_named() {
        let mut fields = split(&Memory::default()).unwrap();
        // One value short and one too many: the count of the whole would be right.
        fields.insert("asked".into(), vec![MESSAGEPACK]);
        fields.insert("notes".into(), vec![MESSAGEPACK, 0x90, 0x90]);
        let error = join::<Memory>(&fields).unwrap_err().to_string();
        assert!(error.contains("the context field asked"), "{error}");
        fields.insert("asked".into(), vec![codec::JSON, b'1']);
        assert!(join::<Memory>(&fields).unwrap_err().to_string().contains("asked is not MessagePack"));
    }

    #[test]
    fn what_is_no_struct_is_refused_with_advice() {
        assert!(split(&[1, 2]).unwrap_err().to_string().contains("struct with named fields"));
    }
}
