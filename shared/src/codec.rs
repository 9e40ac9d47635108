//! Payloads: bytes with a leading format byte, and the limits on what is accepted from outside.
//!
//! Events and context values travel as MessagePack with named fields, so that a field can be added or removed
//! without breaking active runs. A run's input may also be JSON, as the caller sent it.
//!
//! Types that are written in one way for people and in another for machines (addresses of hosts, UUIDs, times) are
//! always written for people: so a value has the same shape in MessagePack and in JSON, and one that went through JSON
//! can be read again.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::{encryption, paths, untyped};

/// Format byte of MessagePack with named fields.
pub const MESSAGEPACK: u8 = 1;
/// Format byte of JSON.
pub const JSON: u8 = 2;

/// The largest event, context value, input or result, in bytes.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

/// How deep values may nest: as deep as `serde_json` reads, so that a value that came as JSON can be written as
/// MessagePack.
pub const MAX_DEPTH: usize = 127;

/// How the input and the result of a run are written, as the caller asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// JSON text, readable in `redis-cli`. The default.
    #[default]
    Json,
    /// MessagePack with named fields.
    MessagePack,
}

impl Content {
    /// The text of a request's and a run's `content` field: `json` or `msgpack`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::MessagePack => "msgpack",
        }
    }

    /// Reads the `content` field.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "json" => Ok(Self::Json),
            "msgpack" => Ok(Self::MessagePack),
            other => Err(Error::invalid(format!("content {other:?} is not known; use json or msgpack"))),
        }
    }
}

/// Writes a value as a MessagePack payload. Fails if it is over [`MAX_PAYLOAD`] or cannot be serialized.
pub fn encode<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<Vec<u8>> {
    let mut bytes = vec![MESSAGEPACK];
    write(&mut bytes, what, value)?;
    if encryption::is_on() {
        bytes = [vec![MESSAGEPACK], encryption::packed(bytes.split_off(1))].concat();
    }
    check_size(what, bytes.len() - 1)?;
    Ok(bytes)
}

/// Appends a value as MessagePack, without a format byte.
fn write<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, what: &str, value: &T) -> Result<()> {
    let mut writer = rmp_serde::Serializer::new(bytes).with_struct_map().with_human_readable();
    value.serialize(&mut writer).map_err(|e| Error::invalid(format!("{what} cannot be written as MessagePack: {e}")))
}

/// Writes a value as MessagePack, without a format byte and of any size.
pub(crate) fn pack<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write(&mut bytes, what, value)?;
    Ok(bytes)
}

/// Reads a payload of either format. Never panics, whatever the bytes are.
pub fn decode<T: DeserializeOwned>(what: &str, payload: &[u8]) -> Result<T> {
    check_size(what, payload.len().saturating_sub(1))?;
    match payload.split_first() {
        Some((&MESSAGEPACK, body)) => decode_messagepack(what, body),
        Some((&JSON, body)) => decode_json(what, body),
        Some((other, _)) => Err(Error::invalid(format!(
            "{what} begins with the unknown format byte {other}; it was written by a newer version or by something else"
        ))),
        None => Err(Error::invalid(format!("{what} is empty"))),
    }
}

/// Reads MessagePack without a format byte. A value that went through JSON, whose keys are all text, is read as well.
/// An encrypted payload is decrypted, if this process has the key.
pub fn decode_messagepack<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T> {
    match encryption::opened(what, body) {
        Some(payload) => decode_opened(what, &payload?),
        None => decode_plain_messagepack(what, body),
    }
}

/// Reads what was encrypted, which is not encrypted a second time.
fn decode_opened<T: DeserializeOwned>(what: &str, payload: &[u8]) -> Result<T> {
    match payload.split_first() {
        Some((&MESSAGEPACK, body)) => decode_plain_messagepack(what, body),
        Some((&JSON, body)) => decode_plain_json(what, body),
        _ => Err(Error::invalid(format!("{what} was encrypted in a format that is not known"))),
    }
}

fn decode_plain_messagepack<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T> {
    let mut rest = body;
    let mut reader = rmp_serde::Deserializer::new(&mut rest).with_human_readable();
    reader.set_max_depth(MAX_DEPTH + 1); // it counts the value itself
    let Ok(value) = T::deserialize(&mut reader) else {
        return decode_as_json(body).ok_or_else(|| unreadable::<T>(what, body));
    };
    if !rest.is_empty() {
        return Err(Error::invalid(format!("{what} has {} bytes after its end", rest.len())));
    }
    Ok(value)
}

fn decode_as_json<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_value(untyped::to_json(paths::read(body)?).ok()?).ok()
}

/// Reads again what cannot be read, to find out where the mistake is.
fn unreadable<T: DeserializeOwned>(what: &str, body: &[u8]) -> Error {
    let mut rest = body;
    let mut reader = rmp_serde::Deserializer::new(&mut rest).with_human_readable();
    reader.set_max_depth(MAX_DEPTH + 1);
    mistake(what, "MessagePack", serde_path_to_error::deserialize::<_, T>(&mut reader).err())
}

fn mistake<E: std::fmt::Display>(what: &str, format: &str, error: Option<serde_path_to_error::Error<E>>) -> Error {
    let why = error.map_or_else(String::new, |error| match error.path().to_string().as_str() {
        // It is the value itself.
        "." => format!(": {}", error.inner()),
        path => format!(": `{path}`: {}", error.inner()),
    });
    Error::invalid(format!("{what} cannot be read as {format}{why}"))
}

/// Reads JSON without a format byte.
/// An encrypted payload is decrypted, if this process has the key.
pub fn decode_json<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T> {
    match encryption::opened_json(what, body) {
        Some(payload) => decode_opened(what, &payload?),
        None => decode_plain_json(what, body),
    }
}

fn decode_plain_json<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|_| {
        let mut reader = serde_json::Deserializer::from_slice(body);
        match serde_path_to_error::deserialize::<_, T>(&mut reader) {
            Err(error) => mistake(what, "JSON", Some(error)),
            Ok(_) => Error::invalid(format!("{what} cannot be read as JSON: something follows its end")),
        }
    })
}

/// Writes a result the way the caller asked, without a format byte.
pub fn encode_result<T: Serialize + ?Sized>(content: Content, value: &T) -> Result<Vec<u8>> {
    encode_encrypted("the result", content, value)
}

/// As [`encode_as`], encrypted if this process has keys.
pub fn encode_encrypted<T: Serialize + ?Sized>(what: &str, content: Content, value: &T) -> Result<Vec<u8>> {
    let bytes = encryption::written(content, encode_as(what, content, value)?);
    check_size(what, bytes.len())?;
    Ok(bytes)
}

/// Writes a value (`what`, for the message) as JSON or MessagePack, without a format byte.
pub fn encode_as<T: Serialize + ?Sized>(what: &str, content: Content, value: &T) -> Result<Vec<u8>> {
    let bytes = match content {
        Content::Json => json(what, value)?,
        Content::MessagePack => pack(what, value)?,
    };
    check_size(what, bytes.len())?;
    Ok(bytes)
}

/// Refuses numbers that JSON cannot express, which would become null.
fn json<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<Vec<u8>> {
    let text =
        serde_json::to_string(value).map_err(|e| Error::invalid(format!("{what} cannot be written as JSON: {e}")))?;
    if text.contains("null")
        && let Ok(packed) = pack(what, value)
        && let Some(place) = paths::read(&packed).and_then(|value| untyped::infinite(&value))
    {
        let place = if place.is_empty() { "it".to_owned() } else { format!("`{place}`") };
        return Err(Error::invalid(format!(
            "{what} cannot be written as JSON: {place} is infinite or not a number (NaN), which JSON cannot express; \
             make it an Option, or use msgpack as the run's content"
        )));
    }
    Ok(text.into_bytes())
}

/// An input as a payload: with its format byte.
pub fn input_payload(content: Content, input: &[u8]) -> Vec<u8> {
    let format = if content == Content::MessagePack { MESSAGEPACK } else { JSON };
    [&[format], input].concat()
}

/// Checks that an input is whole: well-formed, not too large, not too deep.
pub fn check_input(content: Content, input: &[u8]) -> Result<()> {
    check_size("the input", input.len())?;
    match content {
        _ if encryption::is_encrypted(content, input) => Ok(()),
        // Not `IgnoredAny`: it passes over depth and encoding, and the first step would fail instead.
        Content::Json => decode_json::<serde_json::Value>("the input", input).map(drop),
        Content::MessagePack => decode_messagepack::<serde::de::IgnoredAny>("the input", input).map(drop),
    }
}

/// Checks that a value (`what`, for the message) has at most [`MAX_PAYLOAD`] bytes, its format byte not counted.
pub fn check_size(what: &str, size: usize) -> Result<()> {
    if size > MAX_PAYLOAD {
        return Err(Error::too_large(format!(
            "{what} has {size} bytes; at most {MAX_PAYLOAD} are allowed (keep large data elsewhere and pass its \
             address)"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Old {
        a: u32,
    }
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct New {
        a: u32,
        #[serde(default)]
        b: Option<String>,
    }

    #[test]
    fn fields_can_be_added_and_removed() {
        let old = encode("x", &Old { a: 7 }).unwrap();
        assert_eq!(decode::<New>("x", &old).unwrap(), New { a: 7, b: None });
        let new = encode("x", &New { a: 7, b: Some("y".into()) }).unwrap();
        assert_eq!(decode::<Old>("x", &new).unwrap(), Old { a: 7 });
    }

    #[test]
    fn json_and_messagepack_are_told_apart() {
        assert_eq!(decode::<Old>("x", b"\x02{\"a\":1}").unwrap(), Old { a: 1 });
        assert!(decode::<Old>("x", b"\x07{\"a\":1}").unwrap_err().to_string().contains("format byte 7"));
        assert!(decode::<Old>("x", b"").unwrap_err().is_invalid());
    }

    #[test]
    fn what_follows_a_value_is_not_passed_over() {
        assert!(check_input(Content::MessagePack, b"\x01\xff").unwrap_err().to_string().contains("1 bytes after"));
        assert!(check_input(Content::Json, b"{} x").is_err());
    }

    #[test]
    fn too_deep_is_refused_not_a_crash() {
        for (depth, fine) in [(MAX_DEPTH, true), (MAX_DEPTH + 1, false), (200_000, false)] {
            let json = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            assert_eq!(check_input(Content::Json, json.as_bytes()).is_ok(), fine, "{depth} levels of JSON");
            let mut packed = vec![0x91; depth];
            packed[depth - 1] = 0x90;
            assert_eq!(check_input(Content::MessagePack, &packed).is_ok(), fine, "{depth} levels of MessagePack");
        }
        assert!(check_input(Content::Json, b"\"\xff\"").is_err());
    }

    #[test]
    fn too_large_is_refused_and_says_so() {
        let input = format!("\"{}\"", "x".repeat(MAX_PAYLOAD - 2));
        check_input(Content::Json, input.as_bytes()).unwrap();
        decode::<String>("x", &[&[JSON], input.as_bytes()].concat()).unwrap();
        let error = encode("the event Big", &"x".repeat(MAX_PAYLOAD)).unwrap_err();
        assert!(error.is_too_large() && error.to_string().contains("the event Big"), "{error}");
    }

    /// What JSON writes in another way than MessagePack: keys that are numbers, and types that have a form for people.
    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    struct Odd {
        keys: BTreeMap<i64, Option<f32>>,
        flags: BTreeMap<bool, u8>,
        host: std::net::IpAddr,
        wide: u64,
        kind: Kind,
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    }
    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    enum Kind {
        Unit,
        One(char),
        Named { at: (i8, String) },
    }

    fn odd() -> impl proptest::strategy::Strategy<Value = Odd> {
        use proptest::prelude::*;
        let kind = prop_oneof![
            Just(Kind::Unit),
            any::<char>().prop_map(Kind::One),
            (any::<i8>(), ".*").prop_map(|at| Kind::Named { at })
        ];
        let keys = proptest::collection::btree_map(any::<i64>(), proptest::option::of(-1e9f32..1e9), 0..4);
        let flags = proptest::collection::btree_map(any::<bool>(), any::<u8>(), 0..3);
        let (host, bytes) = (any::<std::net::IpAddr>(), proptest::collection::vec(any::<u8>(), 0..8));
        (keys, flags, host, any::<u64>(), kind, bytes).prop_map(|(keys, flags, host, wide, kind, bytes)| Odd {
            keys,
            flags,
            host,
            wide,
            kind,
            bytes,
        })
    }

    #[test]
    fn what_json_has_no_form_for_is_refused_by_its_place() {
        let value = BTreeMap::from([("rates", BTreeMap::from([(3, vec![Some(1.0), None, Some(f64::NAN)])]))]);
        let error = encode_as("the result", Content::Json, &value).unwrap_err().to_string();
        assert!(error.starts_with("the result cannot be written as JSON: `rates.3.2` is infinite"), "{error}");
        assert!(encode_as("x", Content::Json, &f32::INFINITY).unwrap_err().to_string().contains(": it is infinite"));
        assert_eq!(encode_as("x", Content::Json, &None::<u8>).unwrap(), b"null");
        assert!(encode_as("x", Content::MessagePack, &f64::NAN).is_ok());
    }

    #[test]
    fn a_mistake_is_told_by_its_place() {
        let packed = encode("x", &BTreeMap::from([(1, vec![New { a: 1, b: None }])])).unwrap();
        let error = decode::<BTreeMap<u8, Vec<BTreeMap<String, u8>>>>("the field", &packed).unwrap_err().to_string();
        assert!(error.starts_with("the field cannot be read as MessagePack: `1[0].b`:"), "{error}");
        let error = decode::<BTreeMap<u8, Vec<Old>>>("the field", b"\x02{\"1\":[{\"a\":-1}]}").unwrap_err().to_string();
        assert!(error.starts_with("the field cannot be read as JSON: `1[0].a`: invalid value"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn a_value_goes_through_json_and_keeps_its_type(value in odd()) {
            let packed = encode("x", &value).unwrap();
            proptest::prop_assert_eq!(&decode::<Odd>("x", &packed).unwrap(), &value);
            let seen: serde_json::Value = decode("x", &packed).unwrap();
            let back = encode("x", &seen).unwrap();
            proptest::prop_assert_eq!(&decode::<Odd>("x", &back).unwrap(), &value);
            let written = [&[JSON], &*encode_as("x", Content::Json, &value).unwrap()].concat();
            proptest::prop_assert_eq!(&decode::<Odd>("x", &written).unwrap(), &value);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = decode::<New>("x", &bytes);
            let _ = decode::<serde_json::Value>("x", &bytes);
            let _ = check_input(Content::MessagePack, &bytes);
        }
    }
}
