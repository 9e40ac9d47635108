//! The attributes of a signal: the plain values at the top of it; and the filters of waits that ask for them.
//!
//! Redis never looks into a payload. The process that hands a signal to the store reads its attributes, and each is one
//! token that compares byte by byte: `<field>=<JSON of the value>`, both percent-encoded.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::codec;
use crate::error::{Error, Result};

/// At most this many attributes of a signal are read: the first ones.
pub const MAX_ATTRIBUTES: usize = 32;
/// The longest attribute, in bytes of its token. A longer value cannot be filtered by.
pub const MAX_ATTRIBUTE: usize = 200;
/// At most this many fields are in a wait's filter.
pub const MAX_FILTER: usize = 8;

/// Between the attributes of a signal, and those of a filter. Never in a token.
const BETWEEN: char = '&';
/// Integers up to here are the same in every notation.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The attributes of a payload: the top-level fields of a map that are text, numbers, booleans or null. None if it is
/// no map.
pub(crate) fn of(payload: &[u8]) -> Vec<String> {
    let Ok(top) = codec::decode::<Top>("the signal", payload) else { return Vec::new() };
    let token = |(field, value): (String, Value)| token(&field, &plain(value).to_string());
    top.0.into_iter().map(token).filter(|token| token.len() <= MAX_ATTRIBUTE).take(MAX_ATTRIBUTES).collect()
}

/// The JSON text of a value to filter by. Fails for what is neither text nor number, boolean or null.
pub fn value<T: Serialize + ?Sized>(field: &str, value: &T) -> Result<String> {
    match serde_json::to_value(value) {
        Ok(Value::Array(_) | Value::Object(_)) => Err(Error::invalid(format!(
            "the filter for the field {field} is a list or a map; filter by text, a number, a boolean or null"
        ))),
        Ok(value) => Ok(plain(value).to_string()),
        Err(error) => Err(Error::invalid(format!("the filter for the field {field} cannot be written: {error}"))),
    }
}

/// Checks a wait's filter: at most [`MAX_FILTER`] fields, each at most [`MAX_ATTRIBUTE`] bytes with its value.
pub fn check(filter: &[(String, String)]) -> Result<()> {
    if filter.len() > MAX_FILTER {
        return Err(Error::too_large(format!(
            "a filter has {} fields; at most {MAX_FILTER} are allowed",
            filter.len()
        )));
    }
    match filter.iter().find(|(field, value)| token(field, value).len() > MAX_ATTRIBUTE) {
        Some((field, _)) => Err(Error::too_large(format!(
            "the filter for the field {field} has more than {MAX_ATTRIBUTE} bytes: filter by something shorter, such as an id"
        ))),
        None => Ok(()),
    }
}

/// Whether a signal with these attributes passes the filter.
pub(crate) fn match_filter(attributes: &[String], filter: &[(String, String)]) -> bool {
    filter.iter().all(|(field, value)| attributes.contains(&token(field, value)))
}

/// Tokens in a row, as in Redis.
pub(crate) fn joined(tokens: &[String]) -> String {
    tokens.join(&BETWEEN.to_string())
}

/// A filter as in Redis.
pub(crate) fn written(filter: &[(String, String)]) -> String {
    let tokens: Vec<_> = filter.iter().map(|(field, value)| token(field, value)).collect();
    joined(&tokens)
}

/// A filter as [`written`] wrote it. What cannot be read is left out.
pub(crate) fn read(written: &str) -> Vec<(String, String)> {
    let pair = |token: &str| {
        let (field, value) = token.split_once('=')?;
        Some((decoded(field)?, decoded(value)?))
    };
    written.split(BETWEEN).filter_map(pair).collect()
}

fn token(field: &str, value: &str) -> String {
    let encoded = |text| encoded(text, |byte| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte));
    format!("{}={}", encoded(field), encoded(value))
}

/// Percent-encoded, except for the bytes that stay.
pub(crate) fn encoded(text: &str, stays: impl Fn(u8) -> bool) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if stays(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.extend([byte >> 4, byte & 15].map(|half| char::from(DIGITS[usize::from(half)])));
        }
    }
    encoded
}

pub(crate) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(if byte == b'%' { digit(rest.next())? * 16 + digit(rest.next())? } else { byte });
    }
    String::from_utf8(bytes).ok()
}

/// One way to write each value: 7.0 is 7.
fn plain(value: Value) -> Value {
    match value.as_f64() {
        #[expect(clippy::cast_possible_truncation, reason = "whole and small enough to be exact")]
        Some(float) if value.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT => Value::from(float as i64),
        _ => value,
    }
}

/// The fields at the top, as far as they are plain.
struct Top(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Top {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TopVisitor)
    }
}

struct TopVisitor;

impl<'de> Visitor<'de> for TopVisitor {
    type Value = Top;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Top, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_key::<String>()? {
            if let Some(value) = map.next_value_seed(Plain)?
                && fields.len() < MAX_ATTRIBUTES * 2
            {
                fields.push((field, value));
            }
        }
        Ok(Top(fields))
    }
}

/// A plain value; None for any other.
struct Plain;

impl<'de> DeserializeSeed<'de> for Plain {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Value>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Plain {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Some(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Some(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Some(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Number::from_f64(value).map(Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Some(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Some(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Some(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>().map_err(A::Error::custom)?.is_some() {}
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Vec<String> {
        of(&[&[codec::JSON], text.as_bytes()].concat())
    }

    #[derive(Serialize)]
    struct Answer<'a> {
        order: f64,
        user: &'a str,
        items: Vec<u8>,
        #[serde(with = "serde_bytes")]
        raw: &'a [u8],
        nothing: Option<u8>,
        fine: bool,
    }

    #[test]
    fn the_plain_fields_at_the_top_are_attributes_alike_in_both_formats() {
        let answer = Answer { order: 7.0, user: "bob & co", items: vec![1], raw: b"x", nothing: None, fine: true };
        let expected = ["order=7", "user=%22bob%20%26%20co%22", "nothing=null", "fine=true"];
        assert_eq!(of(&codec::encode("x", &answer).unwrap()), expected);
        assert_eq!(
            json(r#"{"order":7,"user":"bob & co","items":[1,{"a":2}],"in":{"order":8},"nothing":null,"fine":true}"#),
            expected
        );
    }

    #[test]
    fn what_is_no_map_or_damaged_has_none() {
        for other in ["[1]", "7", "\"x\"", "null", "{\"a\":1", "{\"a\":1}x", ""] {
            assert!(json(other).is_empty(), "{other}");
        }
        assert!(of(b"").is_empty() && of(&[codec::MESSAGEPACK, 0x81]).is_empty());
    }

    #[test]
    fn attributes_are_bounded() {
        let many: Vec<String> = (0..100).map(|n| format!("\"f{n}\":{n}")).collect();
        assert_eq!(json(&format!("{{{}}}", many.join(","))).len(), MAX_ATTRIBUTES);
        assert_eq!(json(&format!("{{\"long\":\"{}\",\"short\":1}}", "x".repeat(MAX_ATTRIBUTE))), ["short=1"]);
        let filter = |fields: usize, size| vec![("f".to_owned(), "x".repeat(size)); fields];
        check(&filter(MAX_FILTER, MAX_ATTRIBUTE - 2)).unwrap();
        assert!(check(&filter(MAX_FILTER + 1, 1)).unwrap_err().is_too_large());
        assert!(check(&filter(1, MAX_ATTRIBUTE - 1)).unwrap_err().is_too_large());
    }

    #[test]
    fn a_filter_asks_for_some_of_the_attributes() {
        let attributes = json(r#"{"order":7,"user":"bob"}"#);
        let filter = |pairs: &[(&str, Value)]| -> Vec<(String, String)> {
            pairs.iter().map(|(field, wanted)| ((*field).to_owned(), value(field, wanted).unwrap())).collect()
        };
        assert!(match_filter(&attributes, &[]));
        assert!(match_filter(&attributes, &filter(&[("order", 7.into())])));
        assert!(match_filter(&attributes, &filter(&[("order", 7.0.into()), ("user", "bob".into())])));
        assert!(!match_filter(&attributes, &filter(&[("order", "7".into())])));
        assert!(!match_filter(&attributes, &filter(&[("order", 7.into()), ("other", 1.into())])));
        assert!(value("list", &[1, 2]).unwrap_err().is_invalid());
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_can_be_read(field in ".{0,20}", text in ".{0,20}") {
            let filter = vec![(field, serde_json::to_string(&text).unwrap())];
            let written = written(&filter);
            assert!(!written.contains([' ', ',', '~', '@', '\n']) && written.is_ascii(), "{written}");
            assert_eq!(read(&written), filter);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            of(&bytes);
            read(&String::from_utf8_lossy(&bytes));
        }
    }
}
