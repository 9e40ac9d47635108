//! Checks the input of a run, or an event from outside, against the schema that its workflow registered.
//!
//! Workers register JSON Schemas of these events. Only those derived from the Rust type are checked: for other types
//! only the names of the fields are known, and what serde makes of them may be something else.
//!
//! A schema comes from outside. One that is huge, cannot be compiled, or takes too long for one event is not used again
//! until another one is registered in its place; until then, events are not checked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonschema::Validator;
use serde_json::Value;
use stepfleet_shared::codec::Content;
use stepfleet_shared::encryption::is_encrypted;
use stepfleet_shared::graph::Graph;
use stepfleet_shared::log;

/// At most this many are kept: one for each event of each version of a workflow.
const MOST: usize = 1000;
/// A larger schema is not used, in bytes of JSON.
const MAX_SCHEMA: usize = 64 * 1024;
/// How long a schema may take for one event.
const LIMIT: Duration = Duration::from_secs(2);
/// The longest reason, in bytes.
const MAX_REASON: usize = 500;

/// The compiled schemas.
#[derive(Default)]
pub(crate) struct Schemas(Mutex<HashMap<String, Made>>);

#[derive(Clone)]
struct Made {
    of: Value,
    /// None if it is of no use.
    validator: Option<Arc<Validator>>,
}

/// An event to check against its schema.
pub(crate) struct Given {
    /// Its type.
    pub(crate) event: String,
    /// Its name in a reason.
    pub(crate) called: String,
    pub(crate) content: Content,
    pub(crate) input: Vec<u8>,
}

impl Schemas {
    /// Why the event does not fit its schema; None if it does, or has none. `of` names the workflow's version.
    pub(crate) async fn mistake(&self, graph: &Graph, of: &str, given: Given) -> Option<String> {
        // Only the worker can read it.
        if is_encrypted(given.content, &given.input) {
            return None;
        }
        let schema = graph.schemas.get(&given.event).filter(|schema| is_of_a_type(schema))?;
        let name = format!("{of} {}", given.event);
        let made = match self.made(&name, schema) {
            Some(Made { validator: None, .. }) => return None,
            known => known.and_then(|made| made.validator),
        };
        let (is_new, Given { called, content, input, .. }) = (made.is_none(), given);
        let (of_this, where_of) = (schema.clone(), of.to_owned());
        // On a separate thread, which is abandoned if it takes too long.
        let judged = tokio::task::spawn_blocking(move || {
            let validator = made.map_or_else(|| compile(&of_this).map(Arc::new), Ok)?;
            let found = judge(&validator, &called, &where_of, content, &input);
            Ok::<_, String>((validator, found))
        });
        let useless = match tokio::time::timeout(LIMIT, judged).await {
            Ok(Ok(Ok((validator, found)))) => {
                if is_new {
                    self.remember(&name, schema, Some(validator));
                }
                return found;
            }
            Ok(Ok(Err(error))) => error,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it takes more than {LIMIT:?} for one event"),
        };
        log::warn!(event = name, error = useless, "a registered schema cannot be used: its events are not checked");
        self.remember(&name, schema, None);
        None
    }

    /// None if it is still to be compiled.
    fn made(&self, name: &str, schema: &Value) -> Option<Made> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).filter(|made| made.of == *schema).cloned()
    }

    fn remember(&self, name: &str, schema: &Value, validator: Option<Arc<Validator>>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(name.to_owned(), Made { of: schema.clone(), validator });
    }
}

fn compile(schema: &Value) -> Result<Validator, String> {
    let length = schema.to_string().len();
    if length > MAX_SCHEMA {
        return Err(format!("it has {length} bytes; at most {MAX_SCHEMA} are allowed"));
    }
    jsonschema::validator_for(schema).map_err(|error| error.to_string())
}

fn judge(validator: &Validator, called: &str, of: &str, content: Content, input: &[u8]) -> Option<String> {
    let event = read(content, input)?;
    let mistake = validator.iter_errors(&event).next()?;
    let place = match mistake.instance_path().as_str() {
        "" => String::new(),
        path => format!(" at {path}"),
    };
    Some(shortened(format!("{called} does not fit its schema in {of}{place}: {}", mistake.masked())))
}

fn is_of_a_type(schema: &Value) -> bool {
    schema.get("$schema").is_some()
}

/// None if JSON cannot express its values: the worker finds out whether they fit.
fn read(content: Content, input: &[u8]) -> Option<Value> {
    match content {
        Content::Json => serde_json::from_slice(input).ok(),
        Content::MessagePack => stepfleet_shared::codec::decode_messagepack("the event", input).ok(),
    }
}

fn shortened(mut reason: String) -> String {
    if reason.len() > MAX_REASON {
        let cut = (0..=MAX_REASON).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or_default();
        reason.truncate(cut);
        reason.push_str("...");
    }
    reason.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn graph(schema: &Value) -> Graph {
        Graph { schemas: [("Approval".to_owned(), schema.clone())].into(), ..Graph::default() }
    }

    async fn held(schemas: &Schemas, schema: &Value, content: Content, input: &[u8]) -> Option<String> {
        let (event, called) = ("Approval".to_owned(), "the event Approval".to_owned());
        let given = Given { event, called, content, input: input.to_vec() };
        schemas.mistake(&graph(schema), "rag version 1", given).await
    }

    async fn mistake(schema: &Value, content: Content, input: &[u8]) -> Option<String> {
        held(&Schemas::default(), schema, content, input).await
    }

    fn approval() -> Value {
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Approval",
            "type": "object",
            "properties": { "by": { "type": "string" }, "cents": { "type": "integer", "format": "uint64", "minimum": 0 } },
            "required": ["by"],
        })
    }

    #[tokio::test]
    async fn what_does_not_fit_is_told_with_its_place() {
        let reason = async |input: &str| mistake(&approval(), Content::Json, input.as_bytes()).await;
        assert_eq!(reason(r#"{"by":"ann"}"#).await, None);
        assert_eq!(reason(r#"{"by":"ann","cents":7,"more":true}"#).await, None);
        let wrong = reason(r#"{"wrong":1}"#).await.unwrap();
        assert!(wrong.starts_with("the event Approval does not fit its schema in rag version 1: "), "{wrong}");
        assert!(wrong.contains("\"by\" is a required property"), "{wrong}");
        assert!(reason(r#"{"by":"ann","cents":-7}"#).await.unwrap().contains(" at /cents: "));
        assert!(reason(r#""just text""#).await.is_some());
        let long = format!(r#"{{"by":"ann","{}":1,"cents":{}}}"#, "x".repeat(5000), json!("y".repeat(5000)));
        assert!(reason(&long).await.unwrap().len() < 600);
    }

    #[tokio::test]
    async fn messagepack_is_held_against_it_too() {
        assert!(mistake(&approval(), Content::MessagePack, b"\x81\xa5wrong\x01").await.is_some());
        assert_eq!(mistake(&approval(), Content::MessagePack, b"\x81\xa2by\xa3ann").await, None);
    }

    #[tokio::test]
    async fn what_is_no_schema_of_a_type_is_not_held_against() {
        let names = json!({ "title": "Approval", "type": "object", "properties": { "by": {} } });
        assert_eq!(mistake(&names, Content::Json, br#""just text""#).await, None);
        let mut broken = approval();
        broken["type"] = json!("nonsense");
        assert_eq!(mistake(&broken, Content::Json, br#"{"wrong":1}"#).await, None);
    }

    #[tokio::test]
    async fn a_schema_is_compiled_once_and_anew_when_another_is_registered() {
        let schemas = Schemas::default();
        assert_eq!(held(&schemas, &approval(), Content::Json, br#"{"by":"ann"}"#).await, None);
        let first = schemas.made("rag version 1 Approval", &approval()).and_then(|made| made.validator).unwrap();
        assert!(held(&schemas, &approval(), Content::Json, b"{}").await.is_some());
        let again = schemas.made("rag version 1 Approval", &approval()).and_then(|made| made.validator).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let mut other = approval();
        other["required"] = json!(["cents"]);
        assert!(held(&schemas, &other, Content::Json, br#"{"by":"ann"}"#).await.unwrap().contains("cents"));
    }

    /// As deep as a registration can be, in which each level doubles the work for one event.
    fn doubling() -> Value {
        let level = |n: u32| {
            let next = json!({ "$ref": format!("#/$defs/d{}", n + 1) });
            (format!("d{n}"), json!({ "anyOf": [next, next] }))
        };
        let mut defs: serde_json::Map<String, Value> = (0..40).map(level).collect();
        defs.insert("d40".into(), json!({ "type": "string" }));
        json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": "#/$defs/d0", "$defs": defs })
    }

    #[tokio::test]
    async fn a_schema_that_is_of_no_use_is_found_out_once() {
        let mut huge = approval();
        huge["description"] = json!("x".repeat(MAX_SCHEMA));
        let mut pattern = approval();
        pattern["properties"]["by"] = json!({ "type": "string", "pattern": "^(a+)+(?=b)$" });
        let looping = json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": "#" });
        for schema in [huge, looping, pattern] {
            let (schemas, input) = (Schemas::default(), json!({ "by": "a".repeat(60), "cents": -1 }).to_string());
            let _ = held(&schemas, &schema, Content::Json, input.as_bytes()).await;
            assert!(schemas.made("rag version 1 Approval", &schema).is_some());
        }
    }

    #[test]
    fn a_schema_that_takes_too_long_is_given_up() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (schemas, doubling) = (Schemas::default(), doubling());
            for _ in 0..100 {
                assert_eq!(held(&schemas, &doubling, Content::Json, b"7").await, None);
            }
            assert!(schemas.made("rag version 1 Approval", &doubling).unwrap().validator.is_none());
        });
        // The thread that is still at it ends with the process.
        runtime.shutdown_background();
    }
}
