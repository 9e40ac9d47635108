//! JSON Schemas of events, for callers that want to know what a workflow takes and answers.
//!
//! An event with `#[derive(JsonSchema)]` has a full schema; of any other, only the names of its fields are known. `#[event]` and `#[data]`
//! let it derive without a dependency on `schemars`.

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde_json::{Value, json};

/// Finds out at compile time whether a type has its own schema: a call finds [`Typed`] first, and [`Untyped`] only
/// by one reference more.
pub struct Probe<T>(PhantomData<T>);

impl<T> Probe<T> {
    /// For the macro.
    #[expect(clippy::new_without_default, reason = "only the macro makes one")]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

/// A type with its own schema.
pub trait Typed {
    /// That schema.
    fn schema(&self, name: &str, fields: Option<&[&str]>) -> Value;
}

impl<T: JsonSchema> Typed for Probe<T> {
    fn schema(&self, _: &str, _: Option<&[&str]>) -> Value {
        schemars::schema_for!(T).to_value()
    }
}

/// A type about which only the macro knows something.
pub trait Untyped {
    /// What the names of its fields tell.
    fn schema(&self, name: &str, fields: Option<&[&str]>) -> Value;
}

impl<T> Untyped for &Probe<T> {
    fn schema(&self, name: &str, fields: Option<&[&str]>) -> Value {
        of_fields(name, fields)
    }
}

/// The schema of an event if at most the names of its fields are known.
pub(crate) fn of_fields(name: &str, fields: Option<&[&str]>) -> Value {
    let Some(fields) = fields else { return json!({ "title": name }) };
    let properties: serde_json::Map<_, _> = fields.iter().map(|field| ((*field).to_owned(), json!({}))).collect();
    json!({ "title": name, "type": "object", "properties": properties })
}
