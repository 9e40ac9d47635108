//! Payloads: bytes with a leading format byte, and the limits on what is taken from outside.
//!
//! Events and context values travel as MessagePack with named fields, so that a field can be added or removed
//! without breaking what is under way. A run's input may also be JSON, as the caller sent it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Format byte of MessagePack with named fields.
pub const MESSAGEPACK: u8 = 1;
/// Format byte of JSON.
pub const JSON: u8 = 2;

/// The largest event, context value, input or result, in bytes.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

/// How deep values may nest: as deep as `serde_json` reads, so that what came as JSON can go on as MessagePack.
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
    /// As it stands in a request's and a run's `content` field: `json` or `msgpack`.
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

/// Writes a value as a MessagePack payload. Fails when it is over [`MAX_PAYLOAD`] or cannot be serialised.
pub fn encode<T: Serialize + ?Sized>(what: &str, value: &T) -> Result<Vec<u8>> {
    let mut bytes = vec![MESSAGEPACK];
    rmp_serde::encode::write_named(&mut bytes, value)
        .map_err(|e| Error::invalid(format!("{what} cannot be written as MessagePack: {e}")))?;
    check_size(what, bytes.len() - 1)?;
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

/// Reads MessagePack without a format byte.
pub fn decode_messagepack<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T> {
    let mut rest = body;
    let mut reader = rmp_serde::Deserializer::new(&mut rest);
    reader.set_max_depth(MAX_DEPTH + 1); // it counts the value itself
    let value = T::deserialize(&mut reader)
        .map_err(|e| Error::invalid(format!("{what} cannot be read as MessagePack: {e}")))?;
    if !rest.is_empty() {
        return Err(Error::invalid(format!("{what} has {} bytes after its end", rest.len())));
    }
    Ok(value)
}

/// Reads JSON without a format byte.
pub fn decode_json<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|e| Error::invalid(format!("{what} cannot be read as JSON: {e}")))
}

/// Writes a result the way the caller asked, without a format byte.
pub fn encode_result<T: Serialize + ?Sized>(content: Content, value: &T) -> Result<Vec<u8>> {
    encode_as("the result", content, value)
}

/// Writes a value (`what`, for the message) as JSON or MessagePack, without a format byte.
pub fn encode_as<T: Serialize + ?Sized>(what: &str, content: Content, value: &T) -> Result<Vec<u8>> {
    let bytes = match content {
        Content::Json => serde_json::to_vec(value).map_err(|e| e.to_string()),
        Content::MessagePack => rmp_serde::to_vec_named(value).map_err(|e| e.to_string()),
    }
    .map_err(|e| Error::invalid(format!("{what} cannot be written as {}: {e}", content.as_str())))?;
    check_size(what, bytes.len())?;
    Ok(bytes)
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
        // Not `IgnoredAny`: it passes over depth and encoding, and the first step would fail instead.
        Content::Json => decode_json::<serde_json::Value>("the input", input).map(drop),
        Content::MessagePack => decode_messagepack::<serde::de::IgnoredAny>("the input", input).map(drop),
    }
}

/// Checks that a value (`what`, for the message) has at most [`MAX_PAYLOAD`] bytes, its format byte not counted.
pub fn check_size(what: &str, size: usize) -> Result<()> {
    if size > MAX_PAYLOAD {
        return Err(Error::too_large(format!(
            "{what} has {size} bytes; at most {MAX_PAYLOAD} are taken (keep large data elsewhere and pass its address)"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

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

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = decode::<New>("x", &bytes);
            let _ = decode::<serde_json::Value>("x", &bytes);
            let _ = check_input(Content::MessagePack, &bytes);
        }
    }
}
