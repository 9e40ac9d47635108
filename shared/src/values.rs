//! Context values: payloads in a form that Redis can merge into without reading them.
//!
//! | value | form |
//! |---|---|
//! | a whole number of at most 18 digits | its decimal text |
//! | a list | byte 4, then each element as MessagePack, one after the other |
//! | a map or struct | byte 5, then key, value, key, value, ... as MessagePack; if a key is repeated, its last value counts |
//! | anything else | byte 1, then MessagePack |
//!
//! If a process has keys ([`crate::encryption`]), elements of lists, values of maps and all else but whole numbers are encrypted, each by
//! itself.
//!
//! So numbers grow by adding, and lists and maps by appending. A payload of [`crate::codec`] of any value
//! can be read too.

use std::borrow::Cow;
use std::collections::HashMap;

use rmp::Marker;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha1::{Digest, Sha1};

use crate::codec::{self, MAX_PAYLOAD, MESSAGEPACK};
use crate::encryption;
use crate::error::{Error, Result};
use crate::step::Merge;

/// Format byte of a list.
pub const LIST: u8 = 4;
/// Format byte of a map.
pub const MAP: u8 = 5;

/// The most digits of a number that can be merged.
const MAX_DIGITS: usize = 18;
/// The first number with more.
const TOO_LARGE: i64 = 1_000_000_000_000_000_000;

fn of(field: &str) -> String {
    format!("the context field {field}")
}

/// Writes the value of a field. Fails if it is over [`MAX_PAYLOAD`] or cannot be serialized.
pub fn encode<T: Serialize + ?Sized>(field: &str, value: &T) -> Result<Vec<u8>> {
    let packed = codec::pack(&of(field), value)?;
    let value = from_messagepack(&packed);
    check_size(field, value.len())?;
    Ok(value)
}

/// Reads the value of a field. Never panics, whatever the bytes are.
pub fn decode<T: DeserializeOwned>(field: &str, value: &[u8]) -> Result<T> {
    if value.first() == Some(&codec::JSON) {
        return codec::decode(&of(field), value);
    }
    check_size(field, value.len())?;
    codec::decode_messagepack(&of(field), &to_messagepack(field, value)?)
}

/// One element to push to a list.
pub fn element<T: Serialize + ?Sized>(field: &str, value: &T) -> Result<Merge> {
    Ok(Merge::Append { form: LIST, bytes: encryption::packed(codec::pack(&of(field), value)?) })
}

/// One entry to insert into a map.
pub fn entry<T: Serialize + ?Sized>(field: &str, key: &str, value: &T) -> Result<Merge> {
    let mut bytes = codec::pack(&of(field), key)?;
    bytes.extend(encryption::packed(codec::pack(&of(field), value)?));
    Ok(Merge::Append { form: MAP, bytes })
}

/// Checks the size of a field's value, its format byte included.
pub fn check_size(field: &str, size: usize) -> Result<()> {
    codec::check_size(&of(field), size.saturating_sub(1))
}

/// The digest by which a commit checks that a field still has the value that was read.
pub fn digest(value: &[u8]) -> String {
    use std::fmt::Write;
    let mut hex = String::with_capacity(40);
    for byte in Sha1::digest(value) {
        // Writing into a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// The form of a value that is one whole MessagePack value.
pub(crate) fn from_messagepack(packed: &[u8]) -> Vec<u8> {
    let with = |form: u8, header: usize| {
        let rest = packed.get(header..).unwrap_or_default();
        if encryption::is_on() { encrypted(form, rest) } else { [&[form], rest].concat() }
    };
    match packed.first().map(|byte| Marker::from_u8(*byte)) {
        Some(Marker::FixArray(_)) => with(LIST, 1),
        Some(Marker::Array16) => with(LIST, 3),
        Some(Marker::Array32) => with(LIST, 5),
        Some(Marker::FixMap(_)) => with(MAP, 1),
        Some(Marker::Map16) => with(MAP, 3),
        Some(Marker::Map32) => with(MAP, 5),
        _ => match rmp::decode::read_int::<i64, _>(&mut &*packed) {
            Ok(number) if is_small(number) => number.to_string().into_bytes(),
            _ => with(MESSAGEPACK, 0),
        },
    }
}

/// A value whose parts are encrypted.
fn encrypted(form: u8, rest: &[u8]) -> Vec<u8> {
    // It came encrypted, from a caller.
    if form == MAP && rest.get(1..=encryption::MEMBER.len()) == Some(encryption::MEMBER.as_bytes()) {
        return [&[form], rest].concat();
    }
    if form == MESSAGEPACK {
        return [&[form], &*encryption::packed(rest.to_vec())].concat();
    }
    let (mut whole, mut rest, mut is_key) = (vec![form], rest, form == MAP);
    while let Some(length) = value_len(rest).filter(|_| !rest.is_empty()) {
        let (value, after) = rest.split_at(length);
        if is_key {
            whole.extend_from_slice(value);
        } else {
            whole.extend(encryption::packed(value.to_vec()));
        }
        (rest, is_key) = (after, form == MAP && !is_key);
    }
    whole
}

/// A part of a value as it was before it was encrypted.
fn opened<'a>(what: &str, value: &'a [u8]) -> Result<Cow<'a, [u8]>> {
    let Some(payload) = encryption::opened(what, value) else { return Ok(Cow::Borrowed(value)) };
    repacked(what, &payload?).map(Cow::Owned)
}

/// A payload as MessagePack.
fn repacked(what: &str, payload: &[u8]) -> Result<Vec<u8>> {
    match payload.split_first() {
        Some((&MESSAGEPACK, packed)) => Ok(packed.to_vec()),
        Some((&codec::JSON, text)) => codec::pack(what, &codec::decode_json::<serde_json::Value>(what, text)?),
        _ => Err(Error::invalid(format!("{what} was encrypted in a format that is not known"))),
    }
}

/// A value as one MessagePack value. Lists and maps are put together; what follows [`MESSAGEPACK`] is not checked.
pub(crate) fn to_messagepack<'a>(field: &str, value: &'a [u8]) -> Result<Cow<'a, [u8]>> {
    let broken = || Error::invalid(format!("{} cannot be read: it ends within a value", of(field)));
    match value.split_first() {
        Some((&MESSAGEPACK, packed)) => opened(&of(field), packed),
        Some((&LIST, elements)) => list(&of(field), elements)?.map(Cow::Owned).ok_or_else(broken),
        Some((&MAP, entries)) => map(&of(field), entries)?.map(Cow::Owned).ok_or_else(broken),
        Some((b'-' | b'0'..=b'9', _)) => match number(value) {
            Some(number) => Ok(Cow::Owned(packed_number(number))),
            None => Err(Error::invalid(format!("{} begins like a number and is not one", of(field)))),
        },
        Some((&other, _)) => Err(Error::invalid(format!(
            "{} begins with the unknown format byte {other}; it was written by a newer version or by something else",
            of(field)
        ))),
        None => Err(Error::invalid(format!("{} is empty", of(field)))),
    }
}

/// None if the elements are incomplete.
fn list(what: &str, elements: &[u8]) -> Result<Option<Vec<u8>>> {
    let (mut count, mut rest, mut plain) = (0, elements, Vec::with_capacity(elements.len()));
    while !rest.is_empty() {
        let Some(length) = value_len(rest) else { return Ok(None) };
        let (element, after) = rest.split_at(length);
        plain.extend_from_slice(&opened(what, element)?);
        (rest, count) = (after, count + 1);
    }
    let mut whole = Vec::with_capacity(plain.len() + 5);
    if rmp::encode::write_array_len(&mut whole, count).is_err() {
        return Ok(None);
    }
    whole.append(&mut plain);
    Ok(Some(whole))
}

/// None if the entries are incomplete.
fn map(what: &str, entries: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(kept) = entries_of(entries) else { return Ok(None) };
    // A field of a context that came as JSON, encrypted by a caller.
    if let [(key, text)] = &kept[..]
        && rmp_serde::from_slice(key).is_ok_and(|key: &str| key == encryption::MEMBER)
        && let Ok(text) = rmp_serde::from_slice::<&str>(text)
    {
        return repacked(what, &encryption::open_text(what, text.as_bytes())?).map(Some);
    }
    let mut whole = Vec::with_capacity(entries.len() + 5);
    let Ok(count) = u32::try_from(kept.len()) else { return Ok(None) };
    if rmp::encode::write_map_len(&mut whole, count).is_err() {
        return Ok(None);
    }
    for (key, value) in kept {
        whole.extend_from_slice(key);
        whole.extend_from_slice(&opened(what, value)?);
    }
    Ok(Some(whole))
}

/// Each key once, with its last value, in the order of their first appearance.
fn entries_of(entries: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let (mut kept, mut places, mut rest) = (Vec::new(), HashMap::new(), entries);
    while !rest.is_empty() {
        let (key, after) = rest.split_at(value_len(rest)?);
        let (value, after) = after.split_at(value_len(after)?);
        let place = *places.entry(key).or_insert(kept.len());
        if place == kept.len() {
            kept.push((key, value));
        } else {
            kept[place].1 = value;
        }
        rest = after;
    }
    Some(kept)
}

/// A map that has grown by insertion, without replaced values; None if there are none, or if it is not a map.
pub fn compacted(value: &[u8]) -> Option<Vec<u8>> {
    let entries = value.strip_prefix(&[MAP])?;
    let kept = entries_of(entries)?;
    let size: usize = kept.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size == entries.len() {
        return None;
    }
    let mut whole = Vec::with_capacity(size + 1);
    whole.push(MAP);
    for (key, value) in kept {
        whole.extend_from_slice(key);
        whole.extend_from_slice(value);
    }
    Some(whole)
}

/// The value in its current form; None if it has that already.
pub fn renewed(field: &str, value: &[u8]) -> Result<Option<Vec<u8>>> {
    if value.first() != Some(&MESSAGEPACK) {
        return Ok(None);
    }
    let renewed = from_messagepack(&to_messagepack(field, value)?);
    Ok((renewed != value).then_some(renewed))
}

/// The length of the MessagePack value that the bytes begin with. Takes no memory, however deep it is.
pub(crate) fn value_len(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut left) = (0usize, 1usize);
    while left > 0 {
        let rest = bytes.get(at..)?;
        let marker = Marker::from_u8(*rest.first()?);
        let length = |width: usize| {
            let digits = rest.get(1..=width)?;
            Some(digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)))
        };
        let (size, inner) = match marker {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => (1, 0),
            Marker::U8 | Marker::I8 => (2, 0),
            Marker::U16 | Marker::I16 | Marker::FixExt1 => (3, 0),
            Marker::U32 | Marker::I32 | Marker::F32 => (5, 0),
            Marker::U64 | Marker::I64 | Marker::F64 => (9, 0),
            Marker::FixStr(length) => (1 + usize::from(length), 0),
            Marker::Str8 | Marker::Bin8 => (2 + length(1)?, 0),
            Marker::Str16 | Marker::Bin16 => (3 + length(2)?, 0),
            Marker::Str32 | Marker::Bin32 => (5 + length(4)?, 0),
            Marker::FixExt2 => (4, 0),
            Marker::FixExt4 => (6, 0),
            Marker::FixExt8 => (10, 0),
            Marker::FixExt16 => (18, 0),
            Marker::Ext8 => (3 + length(1)?, 0),
            Marker::Ext16 => (4 + length(2)?, 0),
            Marker::Ext32 => (6 + length(4)?, 0),
            Marker::FixArray(count) => (1, usize::from(count)),
            Marker::Array16 => (3, length(2)?),
            Marker::Array32 => (5, length(4)?),
            Marker::FixMap(count) => (1, 2 * usize::from(count)),
            Marker::Map16 => (3, 2 * length(2)?),
            Marker::Map32 => (5, 2 * length(4)?),
            Marker::Reserved => return None,
        };
        at += size;
        left += inner;
        left -= 1;
        // Each value that is still to come has a byte at least.
        if left > bytes.len().checked_sub(at)? {
            return None;
        }
    }
    Some(at)
}

fn is_small(number: i64) -> bool {
    -TOO_LARGE < number && number < TOO_LARGE
}

/// A number from the text of its field.
fn number(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let fine = (1..=MAX_DIGITS).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    if fine { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

fn packed_number(number: i64) -> Vec<u8> {
    let mut packed = Vec::with_capacity(9);
    // Writing into a vector cannot fail.
    let _ = rmp::encode::write_sint(&mut packed, number);
    packed
}

/// Why a merge cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoNumber,
    NoList,
    NoMap,
    TooManyDigits,
    TooLarge,
}

impl Refusal {
    /// Reads the name that the transitions on Redis give it.
    pub(crate) fn parse(name: &str) -> Result<Self> {
        match name {
            "number" => Ok(Self::NoNumber),
            "list" => Ok(Self::NoList),
            "map" => Ok(Self::NoMap),
            "digits" => Ok(Self::TooManyDigits),
            "size" => Ok(Self::TooLarge),
            other => Err(Error::reply(format!("the refusal {other:?} is not known"))),
        }
    }

    pub(crate) fn error(self, field: &str) -> Error {
        let no = |what: &str, done: &str| {
            Error::invalid(format!("{} is not a {what}, so nothing can be {done}; set or remove it first", of(field)))
        };
        match self {
            Self::NoNumber => no("whole number of at most 18 digits", "added to it"),
            Self::NoList => no("list", "pushed to it"),
            Self::NoMap => no("map", "inserted into it"),
            Self::TooManyDigits => Error::too_large(format!("{} would have more than 18 digits", of(field))),
            Self::TooLarge => Error::too_large(format!(
                "{} would have more than {MAX_PAYLOAD} bytes; keep large data elsewhere and its address here",
                of(field)
            )),
        }
    }
}

/// The value of a field after a merge.
pub(crate) fn try_merge(current: Option<&[u8]>, merge: &Merge) -> std::result::Result<Vec<u8>, Refusal> {
    match merge {
        Merge::Add(delta) => {
            let before = current.map_or(Some(0), number).ok_or(Refusal::NoNumber)?;
            let sum = before.checked_add(*delta).filter(|sum| is_small(*sum)).ok_or(Refusal::TooManyDigits)?;
            Ok(sum.to_string().into_bytes())
        }
        Merge::Append { form, bytes } => {
            let current = current.unwrap_or(std::slice::from_ref(form));
            if current.first() != Some(form) {
                return Err(if *form == LIST { Refusal::NoList } else { Refusal::NoMap });
            }
            if current.len() - 1 + bytes.len() > MAX_PAYLOAD {
                return Err(Refusal::TooLarge);
            }
            Ok([current, bytes].concat())
        }
    }
}

/// The value of a field after a merge. Fails when its value is of another form, or would be too large.
pub fn merged(field: &str, current: Option<&[u8]>, merge: &Merge) -> Result<Vec<u8>> {
    try_merge(current, merge).map_err(|refusal| refusal.error(field))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    fn written<T: Serialize>(value: T) -> Vec<u8> {
        encode("f", &value).unwrap()
    }

    #[test]
    fn each_kind_of_value_has_its_form_and_is_read_back() {
        let many: Vec<u32> = (0..70_000).collect();
        for (value, first) in [
            (json!(0), b'0'),
            (json!(-12), b'-'),
            (json!(TOO_LARGE - 1), b'9'),
            (json!(TOO_LARGE), 1),
            (json!(-TOO_LARGE), 1),
            (json!(u64::MAX), 1),
            (json!(1.5), 1),
            (json!("x"), 1),
            (json!(null), 1),
            (json!(true), 1),
            (json!([]), LIST),
            (json!([1, [2], {"a": null}]), LIST),
            (json!(many), LIST),
            (json!({}), MAP),
            (json!({"a": {"b": [1]}, "c": "d"}), MAP),
        ] {
            let bytes = written(&value);
            assert_eq!(bytes[0], first, "{bytes:?}");
            assert_eq!(decode::<Value>("f", &bytes).unwrap(), value);
        }
    }

    #[test]
    fn old_payloads_are_read_and_renewed() {
        for value in [json!(7), json!([1, 2]), json!({"a": 1}), json!("x")] {
            let old = codec::encode("f", &value).unwrap();
            assert_eq!(decode::<Value>("f", &old).unwrap(), value);
            let renewed = renewed("f", &old).unwrap().unwrap_or(old);
            assert_eq!(renewed, written(&value));
        }
        assert_eq!(decode::<Value>("f", b"\x02[1]").unwrap(), json!([1]));
    }

    #[test]
    fn merges_add_and_append() {
        let mut value = None;
        for delta in [1, -5, 9_000_000_000] {
            value = Some(merged("f", value.as_deref(), &Merge::Add(delta)).unwrap());
        }
        assert_eq!(value.unwrap(), b"8999999996");
        let list = merged("f", Some(&written([1, 2])), &element("f", "x").unwrap()).unwrap();
        assert_eq!(decode::<Value>("f", &list).unwrap(), json!([1, 2, "x"]));
        let mut map = Some(written(json!({"a": 1, "b": 2})));
        for (key, value) in [("a", 3), ("c", 4), ("a", 5)] {
            map = Some(merged("f", map.as_deref(), &entry("f", key, &value).unwrap()).unwrap());
        }
        let map = map.unwrap();
        let read: BTreeMap<String, u32> = decode("f", &map).unwrap();
        assert_eq!(read, BTreeMap::from([("a".into(), 5), ("b".into(), 2), ("c".into(), 4)]));
        let compact = compacted(&map).unwrap();
        assert_eq!(compact, written(json!({"a": 5, "b": 2, "c": 4})));
        assert_eq!(compacted(&compact), None);
    }

    #[test]
    fn a_merge_that_cannot_be_made_names_the_field() {
        let text = written("x");
        for (current, merge, why) in [
            (&text, Merge::Add(1), "the context field f is not a whole number"),
            (&text, element("f", &1).unwrap(), "the context field f is not a list"),
            (&text, entry("f", "k", &1).unwrap(), "the context field f is not a map"),
            (&written(TOO_LARGE - 1), Merge::Add(1), "the context field f would have more than 18 digits"),
            (&written(1), Merge::Add(i64::MAX), "the context field f would have more than 18 digits"),
            (&written(["x".repeat(MAX_PAYLOAD - 5)]), element("f", &1).unwrap(), "the context field f would have more"),
        ] {
            let error = merged("f", Some(current), &merge).unwrap_err();
            assert!(error.is_invalid() && error.to_string().starts_with(why), "{error}");
        }
    }

    #[test]
    fn what_is_cut_off_or_no_value_is_an_error() {
        for broken in
            [&b""[..], b"-", b"1x", b"9999999999999999999", b"\x04\x92\x01", b"\x05\xa1a", b"\x04\xc1", b"\x07"]
        {
            let error = decode::<Value>("f", broken).unwrap_err().to_string();
            assert!(error.contains("context field f"), "{error}");
        }
        // If a length of four bytes were believed, it would take 4 GiB.
        for marker in [0xc6u8, 0xdb, 0xdd, 0xdf, 0xc9] {
            assert_eq!(value_len(&[marker, 0xff, 0xff, 0xff, 0xff, 0]), None);
        }
        let deep = [&[LIST][..], &vec![0x91; 200_000], &[0xc0]].concat();
        assert!(decode::<Value>("f", &deep).is_err());
    }

    #[test]
    fn a_digest_is_that_of_redis() {
        assert_eq!(digest(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }
}
