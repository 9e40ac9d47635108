//! A struct as separate fields, as a run's state is kept, so that a commit writes only what changed.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::error::{Error, Result};
use crate::{codec, values};

/// A struct's fields, each as a value of [`values`]. Their sizes are not checked: only what is written counts.
pub fn split<S: Serialize>(state: &S) -> Result<BTreeMap<String, Vec<u8>>> {
    let not_a_struct = || Error::invalid("the state's type must be a struct with named fields (or a map)");
    let whole = codec::pack("the state", state)?;
    let mut rest = whole.as_slice();
    let count = rmp::decode::read_map_len(&mut rest).map_err(|_| not_a_struct())?;
    let mut fields = BTreeMap::new();
    for _ in 0..count {
        let key = take_value(&mut rest).ok_or_else(not_a_struct)?;
        let name: String = rmp_serde::from_slice(key).map_err(|_| not_a_struct())?;
        let value = take_value(&mut rest).ok_or_else(not_a_struct)?;
        fields.insert(name, values::from_messagepack(value));
    }
    Ok(fields)
}

fn take_value<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (value, after) = rest.split_at(values::value_len(rest)?);
    *rest = after;
    Some(value)
}

/// The struct that has these fields. Unknown fields are ignored, as serde does. Never panics,
/// whatever the values are.
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
    for (name, value) in fields {
        rmp::encode::write_str(&mut whole, name).map_err(invalid)?;
        whole.extend_from_slice(&values::to_messagepack(name, value)?);
    }
    Ok(whole)
}

/// The first field that is no value by itself.
fn mistake(fields: &BTreeMap<String, Vec<u8>>) -> Option<Error> {
    fields.iter().find_map(|(name, value)| values::decode::<IgnoredAny>(name, value).map(drop).err())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::MESSAGEPACK;
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
        assert!(join::<Memory>(&fields).unwrap_err().to_string().contains("format byte 2"));
    }

    #[test]
    fn what_is_no_struct_is_refused_with_advice() {
        assert!(split(&[1, 2]).unwrap_err().to_string().contains("struct with named fields"));
    }
}
