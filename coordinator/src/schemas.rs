//! Whether an event from outside is what its workflow says that it takes.
//!
//! Workers register JSON Schemas of the events that may come from outside. Only those that were made of the Rust type are held against:
//! of other types the names of the fields are known and no more, and what serde makes of them may be something else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jsonschema::Validator;
use serde_json::Value;
use stepfleet_shared::codec::Content;
use stepfleet_shared::graph::Graph;
use stepfleet_shared::log;
use stepfleet_shared::request::SendRequest;

/// At most this many are kept: one for each event of each version of a workflow.
const MOST: usize = 1000;
/// The longest reason, in bytes.
const MAX_REASON: usize = 500;

/// What was made of schemas.
#[derive(Default)]
pub(crate) struct Schemas(Mutex<HashMap<String, Made>>);

#[derive(Clone)]
struct Made {
    of: Value,
    /// None where it is no schema at all.
    validator: Option<Arc<Validator>>,
}

impl Schemas {
    /// Why the event does not fit its schema; None where it does, or has none. `of` names the workflow's version.
    pub(crate) fn mistake(&self, graph: &Graph, of: &str, send: &SendRequest) -> Option<String> {
        let schema = graph.schemas.get(&send.event).filter(|schema| is_of_a_type(schema))?;
        let validator = self.validator(&format!("{of} {}", send.event), schema)?;
        let event = read(send)?;
        let mistake = validator.iter_errors(&event).next()?;
        let place = match mistake.instance_path().as_str() {
            "" => String::new(),
            path => format!(" at {path}"),
        };
        let reason = format!("the event {} does not fit its schema in {of}{place}: {}", send.event, mistake.masked());
        Some(shortened(reason))
    }

    fn validator(&self, name: &str, schema: &Value) -> Option<Arc<Validator>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = known.get(name).filter(|made| made.of == *schema) {
            return made.validator.clone();
        }
        if known.len() >= MOST {
            known.clear();
        }
        let validator = match jsonschema::validator_for(schema) {
            Ok(validator) => Some(Arc::new(validator)),
            Err(error) => {
                log::warn!(event = name, %error, "a registered schema is none: events are not held against it");
                None
            }
        };
        known.insert(name.to_owned(), Made { of: schema.clone(), validator: validator.clone() });
        validator
    }
}

fn is_of_a_type(schema: &Value) -> bool {
    schema.get("$schema").is_some()
}

/// None where JSON has no such values: the worker finds out what they are.
fn read(send: &SendRequest) -> Option<Value> {
    let payload = &send.payload()[1..];
    match send.content {
        Content::Json => serde_json::from_slice(payload).ok(),
        Content::MessagePack => stepfleet_shared::codec::decode_messagepack("the event", payload).ok(),
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

    fn mistake(schema: &Value, content: Content, input: &[u8]) -> Option<String> {
        let graph = Graph { schemas: [("Approval".to_owned(), schema.clone())].into(), ..Graph::default() };
        let (event, input) = ("Approval".to_owned(), input.to_vec());
        let send = SendRequest { run: "r".into(), event, step: None, content, input, request: None };
        Schemas::default().mistake(&graph, "rag version 1", &send)
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

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        let reason = |input: &str| mistake(&approval(), Content::Json, input.as_bytes());
        assert_eq!(reason(r#"{"by":"ann"}"#), None);
        assert_eq!(reason(r#"{"by":"ann","cents":7,"more":true}"#), None);
        let wrong = reason(r#"{"wrong":1}"#).unwrap();
        assert!(wrong.starts_with("the event Approval does not fit its schema in rag version 1: "), "{wrong}");
        assert!(wrong.contains("\"by\" is a required property"), "{wrong}");
        assert!(reason(r#"{"by":"ann","cents":-7}"#).unwrap().contains(" at /cents: "));
        assert!(reason(r#""just text""#).is_some());
        let long = format!(r#"{{"by":"ann","{}":1,"cents":{}}}"#, "x".repeat(5000), json!("y".repeat(5000)));
        assert!(reason(&long).unwrap().len() < 600);
    }

    #[test]
    fn messagepack_is_held_against_it_too() {
        assert!(mistake(&approval(), Content::MessagePack, b"\x81\xa5wrong\x01").is_some());
        assert_eq!(mistake(&approval(), Content::MessagePack, b"\x81\xa2by\xa3ann"), None);
    }

    #[test]
    fn what_is_no_schema_of_a_type_is_not_held_against() {
        let names = json!({ "title": "Approval", "type": "object", "properties": { "by": {} } });
        assert_eq!(mistake(&names, Content::Json, br#""just text""#), None);
        let mut broken = approval();
        broken["type"] = json!("nonsense");
        assert_eq!(mistake(&broken, Content::Json, br#"{"wrong":1}"#), None);
    }
}
