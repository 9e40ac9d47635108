//! Reading replies. Whatever comes back is checked: a surprise is an error, never a panic.

use super::args::Word;
use super::record::claimed;
use super::value::Value;
use bytes::Bytes;

use crate::error::{Error, Result};
use crate::step::Claimed;

/// Reads the values of an array one after the other.
pub(crate) struct Reply {
    values: std::vec::IntoIter<Value>,
}

impl Reply {
    pub(crate) fn new(value: Value) -> Result<Self> {
        match value {
            Value::List(values) => Ok(Self { values: values.into_iter() }),
            Value::Nil => Ok(Self { values: Vec::new().into_iter() }),
            other => Err(unexpected("an array", &other)),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.values.len() == 0
    }

    pub(crate) fn value(&mut self) -> Result<Value> {
        self.values.next().ok_or_else(|| Error::reply("the reply is too short"))
    }

    pub(crate) fn array(&mut self) -> Result<Reply> {
        Reply::new(self.value()?)
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>> {
        bytes(self.value()?)
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        text(self.value()?)
    }

    pub(crate) fn number<T: TryFrom<i64>>(&mut self) -> Result<T> {
        number(&self.value()?)
    }

    /// The word that a transition of this name begins its reply with.
    pub(crate) fn word<W: Word>(&mut self, transition: &str) -> Result<W> {
        let word = self.text()?;
        W::read(&word).ok_or_else(|| Error::reply(format!("{transition} answered {word:?}, which is unknown")))
    }

    /// Texts up to the end.
    pub(crate) fn texts(mut self) -> Result<Vec<String>> {
        self.values.by_ref().map(text).collect()
    }

    /// As [`Reply::pairs`], with values that can be shared.
    pub(crate) fn shared_pairs(self) -> Result<Vec<(String, Bytes)>> {
        Ok(self.pairs()?.into_iter().map(|(name, value)| (name, value.into())).collect())
    }

    pub(crate) fn pairs(mut self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut pairs = Vec::with_capacity(self.values.len() / 2);
        while !self.is_over() {
            // Names are ours, but others may have written here: theirs must not make the rest unreadable.
            let name = String::from_utf8_lossy(&self.bytes()?).into_owned();
            pairs.push((name, self.bytes()?));
        }
        Ok(pairs)
    }

    pub(crate) fn pairs_of_values(mut self) -> Result<Vec<(String, Value)>> {
        let mut pairs = Vec::with_capacity(self.values.len() / 2);
        while !self.is_over() {
            pairs.push((self.text()?, self.value()?));
        }
        Ok(pairs)
    }

    /// What the call of this number has claimed.
    pub(crate) fn claims(mut self, call: u64) -> Result<Vec<Claimed>> {
        let mut claims = Vec::with_capacity(self.values.len());
        while !self.is_over() {
            claims.push(claimed(self.array()?, call)?);
        }
        Ok(claims)
    }
}

pub(crate) fn bytes(value: Value) -> Result<Vec<u8>> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        Value::Int(number) => Ok(number.to_string().into_bytes()),
        other => Err(unexpected("a string", &other)),
    }
}

pub(crate) fn text(value: Value) -> Result<String> {
    String::from_utf8(bytes(value)?).map_err(|_| Error::reply("a text is not UTF-8"))
}

pub(crate) fn number<T: TryFrom<i64>>(value: &Value) -> Result<T> {
    let number = match value {
        Value::Int(number) => Some(*number),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok().and_then(|t| t.parse().ok()),
        _ => None,
    };
    number.and_then(|n| T::try_from(n).ok()).ok_or_else(|| unexpected("a number", value))
}

fn unexpected(wanted: &str, got: &Value) -> Error {
    Error::reply(format!("expected {wanted}, got {}", shown(got)))
}

/// As people read it, and not all of it.
fn shown(value: &Value) -> String {
    const MOST: usize = 80;
    match value {
        Value::Nil => "nothing".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::Bytes(bytes) => {
            let text: String = String::from_utf8_lossy(bytes).chars().take(MOST).collect();
            format!("{text:?}")
        }
        Value::List(values) => format!("a list of {}", values.len()),
        Value::Other(what) => what.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_expected_is_told_as_people_read_it() {
        let told = |value: Value| number::<u64>(&value).unwrap_err().to_string();
        for (value, shown) in [
            (Value::Nil, "nothing"),
            (Value::Int(-7), "-7"),
            (Value::Bytes(b"ok \xff".to_vec()), "\"ok \u{fffd}\""),
            (Value::List(vec![Value::Nil, Value::Int(1)]), "a list of 2"),
            (Value::Other("a truth value".into()), "a truth value"),
        ] {
            assert_eq!(told(value), format!("Redis gave an unexpected reply: expected a number, got {shown}"));
        }
        assert!(told(Value::Bytes(vec![b'x'; 1_000_000])).len() < 200);
    }
}
