//! Dotted paths into context values: `user.address.city`, `orders.0.id`. The first part is the field.

use rmpv::Value;

use crate::codec::{MAX_DEPTH, MESSAGEPACK};
use crate::error::{Error, Result};
use crate::{names, values};

/// A place in a run's context.
#[derive(Clone, Debug)]
pub struct Path<'a> {
    whole: &'a str,
    field: &'a str,
    inner: Vec<&'a str>,
}

impl<'a> Path<'a> {
    /// Reads a path. Fails if a part is empty, or the field's name is not valid.
    pub fn parse(whole: &'a str) -> Result<Self> {
        let mut parts = whole.split('.');
        let field = parts.next().unwrap_or_default();
        let inner: Vec<_> = parts.collect();
        names::check_field(field)?;
        if inner.iter().any(|part| part.is_empty()) {
            return Err(Error::invalid(format!(
                "the path {whole:?} has an empty part; parts are separated by one dot"
            )));
        }
        if inner.len() >= MAX_DEPTH {
            return Err(Error::invalid(format!("the path {whole:?} has more than {MAX_DEPTH} parts")));
        }
        Ok(Self { whole, field, inner })
    }

    /// The context field that it begins with.
    pub fn field(&self) -> &'a str {
        self.field
    }

    /// The path as it was given.
    pub fn whole(&self) -> &'a str {
        self.whole
    }

    /// Whether it is a whole field.
    pub fn is_field(&self) -> bool {
        self.inner.is_empty()
    }

    /// The value at the path, as a payload that [`values::decode`] reads; None if there is none. Fails if the path leads
    /// through something that is neither a map nor a list.
    pub fn get(&self, field: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        let Some(bytes) = field else { return Ok(None) };
        if self.is_field() {
            return Ok(Some(bytes.to_vec()));
        }
        let whole = self.read(bytes)?;
        let mut at = &whole;
        for (depth, part) in self.inner.iter().enumerate() {
            let next = match at {
                Value::Map(entries) => entries.iter().find(|(key, _)| is_key(key, part)).map(|(_, value)| value),
                Value::Array(items) => items.get(self.index(depth)?),
                Value::Nil => None,
                _ => return Err(self.leads_through(depth)),
            };
            let Some(next) = next else { return Ok(None) };
            at = next;
        }
        written(at).map(Some)
    }

    /// The whole field with the value set. Missing maps on the way are created; a list is not extended.
    pub fn set(&self, field: Option<&[u8]>, value: &[u8]) -> Result<Vec<u8>> {
        if self.is_field() {
            return Ok(value.to_vec());
        }
        let mut whole = field.map_or(Ok(Value::Nil), |bytes| self.read(bytes))?;
        let mut at = &mut whole;
        for depth in 0..self.inner.len() {
            at = self.step_into(at, depth)?;
        }
        *at = self.read(value)?;
        written(&whole)
    }

    /// The whole field with the value removed; None if there is none. Later elements of a list move up.
    pub fn remove(&self, field: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some((last, way)) = self.inner.split_last() else { return Ok(None) };
        let mut whole = self.read(field)?;
        let mut at = &mut whole;
        for (depth, part) in way.iter().enumerate() {
            let next = match at {
                Value::Map(entries) => entries.iter_mut().find(|(key, _)| is_key(key, part)).map(|(_, value)| value),
                Value::Array(items) => items.get_mut(self.index(depth)?),
                Value::Nil => None,
                _ => return Err(self.leads_through(depth)),
            };
            let Some(next) = next else { return Ok(None) };
            at = next;
        }
        let found = match at {
            Value::Map(entries) => entries.iter().position(|(key, _)| is_key(key, last)).map(|place| {
                entries.remove(place);
            }),
            Value::Array(items) => {
                let place = self.index(way.len())?;
                (place < items.len()).then(|| {
                    items.remove(place);
                })
            }
            Value::Nil => None,
            _ => return Err(self.leads_through(way.len())),
        };
        found.map(|()| written(&whole)).transpose()
    }

    fn step_into<'v>(&self, at: &'v mut Value, depth: usize) -> Result<&'v mut Value> {
        let part = self.inner[depth];
        if at.is_nil() {
            *at = Value::Map(Vec::new());
        }
        match at {
            Value::Map(entries) => {
                let place = entries.iter().position(|(key, _)| is_key(key, part)).unwrap_or_else(|| {
                    entries.push((part.into(), Value::Nil));
                    entries.len() - 1
                });
                Ok(&mut entries[place].1)
            }
            Value::Array(items) => {
                let (place, count) = (self.index(depth)?, items.len());
                items.get_mut(place).ok_or_else(|| {
                    Error::invalid(format!(
                        "the context field {} is a list of {count}: position {} is past its end; push to make it \
                         longer",
                        self.up_to(depth),
                        self.whole
                    ))
                })
            }
            _ => Err(self.leads_through(depth)),
        }
    }

    fn index(&self, depth: usize) -> Result<usize> {
        self.inner[depth].parse().map_err(|_| {
            Error::invalid(format!(
                "the context field {} is a list: {:?} in the path {} must be a position, from 0",
                self.up_to(depth),
                self.inner[depth],
                self.whole
            ))
        })
    }

    fn leads_through(&self, depth: usize) -> Error {
        let through = self.up_to(depth);
        Error::invalid(format!("the context field {through} is neither a map nor a list: nothing is at {}", self.whole))
    }

    /// The path up to this part.
    fn up_to(&self, depth: usize) -> String {
        let way = std::iter::once(self.field).chain(self.inner[..depth].iter().copied());
        way.collect::<Vec<_>>().join(".")
    }

    fn read(&self, bytes: &[u8]) -> Result<Value> {
        let packed = values::to_messagepack(self.field, bytes)?;
        read(&packed).ok_or_else(|| Error::invalid(format!("the context field {} cannot be read", self.field)))
    }
}

/// One whole MessagePack value, of bounded depth.
pub(crate) fn read(packed: &[u8]) -> Option<Value> {
    // Lengths are checked before any memory is allocated.
    if values::value_len(packed)? != packed.len() {
        return None;
    }
    rmpv::decode::read_value_with_max_depth(&mut &*packed, MAX_DEPTH + 1).ok()
}

fn written(value: &Value) -> Result<Vec<u8>> {
    let mut packed = Vec::new();
    rmpv::encode::write_value(&mut packed, value).map_err(|e| Error::invalid(e.to_string()))?;
    let bytes = values::from_messagepack(&packed);
    Ok(if bytes.is_empty() { vec![MESSAGEPACK] } else { bytes })
}

fn is_key(key: &Value, part: &str) -> bool {
    key.as_str() == Some(part) || key.as_i64().is_some_and(|number| part.parse() == Ok(number))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn get(path: &str, field: &serde_json::Value) -> Result<Option<serde_json::Value>> {
        let bytes = values::encode("f", field)?;
        Path::parse(path)?.get(Some(&bytes))?.map(|found| values::decode("f", &found)).transpose()
    }

    fn set(path: &str, field: Option<&serde_json::Value>, value: &serde_json::Value) -> Result<serde_json::Value> {
        let bytes = field.map(|field| values::encode("f", field)).transpose()?;
        let whole = Path::parse(path)?.set(bytes.as_deref(), &values::encode("f", value)?)?;
        values::decode("f", &whole)
    }

    fn remove(path: &str, field: &serde_json::Value) -> Result<Option<serde_json::Value>> {
        let whole = Path::parse(path)?.remove(&values::encode("f", field)?)?;
        whole.map(|whole| values::decode("f", &whole)).transpose()
    }

    #[test]
    fn paths_lead_through_maps_and_lists() {
        let user = json!({"name": "a", "orders": [{"id": 7}, {"id": 8}], "none": null, "1": "one"});
        for (path, found) in [
            ("user", Some(user.clone())),
            ("user.name", Some(json!("a"))),
            ("user.orders.1.id", Some(json!(8))),
            ("user.orders.2.id", None),
            ("user.nobody.at.home", None),
            ("user.none.x", None),
            ("user.1", Some(json!("one"))),
        ] {
            assert_eq!(get(path, &user).unwrap(), found, "{path}");
        }
        assert_eq!(set("user.address.city", None, &json!("b")).unwrap(), json!({"address": {"city": "b"}}));
        assert_eq!(
            set("user.orders.0.id", Some(&json!({"orders": [{"id": 7}]})), &json!(9)).unwrap(),
            json!({"orders": [{"id": 9}]})
        );
        assert_eq!(remove("user.a", &json!({"a": 1, "b": 2})).unwrap(), Some(json!({"b": 2})));
        assert_eq!(remove("user.l.0", &json!({"l": [1, 2]})).unwrap(), Some(json!({"l": [2]})));
        assert_eq!(remove("user.x.y", &json!({"l": [1, 2]})).unwrap(), None);
    }

    #[test]
    fn a_path_that_leads_nowhere_says_where_it_ends() {
        let user = json!({"name": "a", "orders": [1]});
        for (path, why) in [
            (
                "user.name.first",
                "the context field user.name is neither a map nor a list: nothing is at user.name.first",
            ),
            ("user.orders.first", "\"first\" in the path user.orders.first must be a position"),
            ("user..name", "has an empty part"),
            ("", "is empty"),
            (".a", "is empty"),
        ] {
            let error = get(path, &user).unwrap_err();
            assert!(error.is_invalid() && error.to_string().contains(why), "{path}: {error}");
        }
        let error = set("user.orders.1", Some(&user), &json!(2)).unwrap_err().to_string();
        assert!(error.contains("user.orders is a list of 1"), "{error}");
    }
}
