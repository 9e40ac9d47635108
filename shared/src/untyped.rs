//! Values of unknown type: MessagePack as JSON, and what JSON cannot express.

use rmpv::Value as Packed;
use serde_json::Value;

type Json<T> = Result<T, &'static str>;

/// The value as JSON. Bytes become lists of numbers, keys that are numbers become text, and NaN becomes null. Fails
/// with what JSON cannot express.
pub(crate) fn to_json(packed: Packed) -> Json<Value> {
    Ok(match packed {
        Packed::Nil => Value::Null,
        Packed::Boolean(flag) => flag.into(),
        Packed::Integer(number) => number.as_i64().map_or_else(|| number.as_u64().into(), Value::from),
        Packed::F32(number) => number.into(),
        Packed::F64(number) => number.into(),
        Packed::String(text) => String::from_utf8_lossy(text.as_bytes()).into(),
        Packed::Binary(bytes) => bytes.into(),
        Packed::Array(items) => Value::Array(items.into_iter().map(to_json).collect::<Json<_>>()?),
        Packed::Map(entries) => {
            let entries = entries.into_iter().map(|(key, value)| Ok((text(&key)?, to_json(value)?)));
            Value::Object(entries.collect::<Json<_>>()?)
        }
        Packed::Ext(..) => return Err("a value of an extension type"),
    })
}

fn text(key: &Packed) -> Json<String> {
    match key {
        Packed::String(text) => Ok(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        Packed::Integer(number) => Ok(number.to_string()),
        Packed::Boolean(flag) => Ok(flag.to_string()),
        _ => Err("a map whose keys are neither text nor numbers"),
    }
}

/// The path of the first number that JSON would write as null; empty for the value itself.
pub(crate) fn infinite(value: &Packed) -> Option<String> {
    let within = |part: String, value: &Packed| {
        infinite(value).map(|rest| if rest.is_empty() { part.clone() } else { format!("{part}.{rest}") })
    };
    match value {
        Packed::F32(number) => (!number.is_finite()).then(String::new),
        Packed::F64(number) => (!number.is_finite()).then(String::new),
        Packed::Array(items) => items.iter().enumerate().find_map(|(at, item)| within(at.to_string(), item)),
        Packed::Map(entries) => {
            entries.iter().find_map(|(key, value)| within(text(key).unwrap_or_else(|_| "?".into()), value))
        }
        _ => None,
    }
}
