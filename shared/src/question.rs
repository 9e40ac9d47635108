//! Questions that a run asks people, and the answers that they accept. Pure.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::names;

/// The longest text of a question, in bytes.
pub const MAX_TEXT: usize = 10_000;
/// The longest text answer that a question may allow, in bytes.
pub const MAX_ANSWER: u32 = 100_000;
/// The most options of a question, and the longest id and label of one, in bytes.
const MAX_OPTIONS: usize = 100;
const MAX_ID: usize = 128;
const MAX_LABEL: usize = 1000;

/// A question as it is stored in Redis: JSON that any client can show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Question {
    /// The name that answers use: any text of up to 200 bytes. Several open questions of a run may share a name.
    pub name: String,
    /// The text of the question.
    pub text: String,
    /// The answers that it takes.
    #[serde(flatten)]
    pub takes: Takes,
    /// Whether people may skip it: then `null` is an answer too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub skippable: bool,
}

/// What a question takes as its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Takes {
    /// `true` or `false`.
    Approval,
    /// The id of one option.
    Choice {
        /// The options.
        options: Vec<Choice>,
    },
    /// A list of ids of options, each once.
    Choices {
        /// The options.
        options: Vec<Choice>,
        /// The least number of options.
        least: u32,
        /// The greatest number of options.
        most: u32,
    },
    /// Text.
    Text {
        /// The greatest length in bytes.
        most: u32,
    },
}

/// An option of a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Choice {
    /// The value of an answer.
    pub id: String,
    /// The text that people see.
    pub label: String,
}

/// A question that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OpenQuestion {
    /// The run that asks it.
    pub run: String,
    /// Its number, unique in the run: an answer may use it instead of the name.
    pub id: String,
    /// When it was asked, in ms since 1970 on Redis' clock.
    pub asked_ms: u64,
    /// Its deadline; None if there is none.
    pub due_ms: Option<u64>,
    /// The question.
    #[serde(flatten)]
    pub question: Question,
}

/// An answer, as the body of a step gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GivenAnswer {
    /// The answer.
    pub answer: Value,
    /// Who answered, if the answer said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When, in ms since 1970 on Redis' clock.
    pub at_ms: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Choice {
    /// An option with the value of an answer and the text that people see.
    pub fn new(id: impl Into<String>, label: impl Into<String>) -> Self {
        Self { id: id.into(), label: label.into() }
    }
}

impl GivenAnswer {
    /// An answer, who gave it, and when, in ms since 1970 on Redis' clock.
    pub fn new(answer: Value, by: Option<String>, at_ms: u64) -> Self {
        Self { answer, by, at_ms }
    }
}

impl Question {
    /// A question that must be answered.
    pub fn new(name: impl Into<String>, text: impl Into<String>, takes: Takes) -> Self {
        Self { name: name.into(), text: text.into(), takes, skippable: false }
    }

    /// Checks that it can be asked.
    pub fn check(&self) -> Result<()> {
        names::check_call("question", &self.name)?;
        bounded("text of the question", &self.text, MAX_TEXT)?;
        match &self.takes {
            Takes::Approval => Ok(()),
            Takes::Choice { options } => check_options(options),
            Takes::Choices { options, least, most } => {
                check_options(options)?;
                if least > most || *most == 0 || *least as usize > options.len() {
                    return Err(Error::invalid(format!(
                        "the question asks for {least} to {most} of {} options; nobody could answer it",
                        options.len()
                    )));
                }
                Ok(())
            }
            Takes::Text { most } if (1..=MAX_ANSWER).contains(most) => Ok(()),
            Takes::Text { most } => {
                Err(Error::invalid(format!("the answer may take {most} bytes; allow 1 to {MAX_ANSWER}")))
            }
        }
    }

    /// Why this is not an answer to it, in a sentence for the person who gave it.
    pub fn objection(&self, answer: &Value) -> Option<String> {
        if answer.is_null() {
            return (!self.skippable).then(|| format!("it cannot be skipped: {}", self.wants()));
        }
        let is_fine = match &self.takes {
            Takes::Approval => answer.is_boolean(),
            Takes::Choice { options } => answer.as_str().is_some_and(|id| has(options, id)),
            Takes::Choices { options, least, most } => answer.as_array().is_some_and(|ids| {
                let mut known: Vec<&str> = ids.iter().filter_map(Value::as_str).filter(|id| has(options, id)).collect();
                known.sort_unstable();
                known.dedup();
                known.len() == ids.len() && (*least as usize..=*most as usize).contains(&ids.len())
            }),
            Takes::Text { most } => answer.as_str().is_some_and(|text| text.len() <= *most as usize),
        };
        (!is_fine).then(|| self.wants())
    }

    fn wants(&self) -> String {
        match &self.takes {
            Takes::Approval => "it takes true or false".to_owned(),
            Takes::Choice { options } => format!("it takes one of {}", ids(options)),
            Takes::Choices { options, least, most } => {
                format!("it takes a list of {least} to {most} of {}, each once", ids(options))
            }
            Takes::Text { most } => format!("it takes text of at most {most} bytes"),
        }
    }
}

fn has(options: &[Choice], id: &str) -> bool {
    options.iter().any(|option| option.id == id)
}

fn ids(options: &[Choice]) -> String {
    let quoted: Vec<String> = options.iter().map(|option| format!("\"{}\"", option.id)).collect();
    quoted.join(", ")
}

fn check_options(options: &[Choice]) -> Result<()> {
    if !(1..=MAX_OPTIONS).contains(&options.len()) {
        return Err(Error::invalid(format!("the question has {} options; give it 1 to {MAX_OPTIONS}", options.len())));
    }
    for (place, option) in options.iter().enumerate() {
        bounded("id of an option", &option.id, MAX_ID)?;
        bounded("label of an option", &option.label, MAX_LABEL)?;
        if options[..place].iter().any(|other| other.id == option.id) {
            return Err(Error::invalid(format!("two options of the question have the id {:?}", option.id)));
        }
    }
    Ok(())
}

fn bounded(what: &str, text: &str, most: usize) -> Result<()> {
    match text.len() {
        0 => Err(Error::invalid(format!("the {what} is empty"))),
        len if len > most => Err(Error::invalid(format!("the {what} has {len} bytes; at most {most} are allowed"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn question(takes: Takes) -> Question {
        Question { name: "ship".into(), text: "Ship it?".into(), takes, skippable: false }
    }

    fn options(ids: &[&str]) -> Vec<Choice> {
        ids.iter().map(|id| Choice { id: (*id).into(), label: id.to_uppercase() }).collect()
    }

    #[test]
    fn an_answer_that_does_not_fit_is_told_what_would() {
        let choices = Takes::Choices { options: options(&["a", "b", "c"]), least: 1, most: 2 };
        let cases = [
            (Takes::Approval, vec![json!(true), json!(false)], vec![json!("true"), json!(1), json!(null)]),
            (Takes::Choice { options: options(&["a", "b"]) }, vec![json!("b")], vec![json!("c"), json!(["a"])]),
            (
                choices,
                vec![json!(["a"]), json!(["c", "a"])],
                vec![json!([]), json!(["a", "a"]), json!(["a", "b", "c"]), json!("a"), json!([1])],
            ),
            (Takes::Text { most: 4 }, vec![json!(""), json!("äö")], vec![json!("abcde"), json!(7), json!({})]),
        ];
        for (takes, fine, wrong) in cases {
            let question = question(takes);
            question.check().unwrap();
            for answer in fine {
                assert_eq!(question.objection(&answer), None, "{answer}");
            }
            for answer in wrong {
                assert!(question.objection(&answer).is_some_and(|why| why.contains("it takes ")), "{answer}");
            }
            assert_eq!(Question { skippable: true, ..question }.objection(&Value::Null), None);
        }
    }

    #[test]
    fn it_is_json_that_any_client_can_show() {
        let asked = Question { skippable: true, ..question(Takes::Choice { options: options(&["a"]) }) };
        let written = serde_json::to_value(&asked).unwrap();
        let shown = json!({
            "name": "ship", "text": "Ship it?", "kind": "choice", "options": [{"id": "a", "label": "A"}], "skippable": true
        });
        assert_eq!(written, shown);
        assert_eq!(serde_json::from_value::<Question>(written).unwrap(), asked);
        assert_eq!(
            serde_json::to_value(question(Takes::Approval)).unwrap(),
            json!({"name": "ship", "text": "Ship it?", "kind": "approval"})
        );
    }

    #[test]
    fn a_question_that_nobody_could_answer_is_refused() {
        let long = "x".repeat(MAX_TEXT + 1);
        let wrong = [
            Question { text: String::new(), ..question(Takes::Approval) },
            Question { text: long, ..question(Takes::Approval) },
            Question { name: String::new(), ..question(Takes::Approval) },
            question(Takes::Choice { options: Vec::new() }),
            question(Takes::Choice { options: options(&["a", "a"]) }),
            question(Takes::Choice { options: vec![Choice { id: "a".into(), label: String::new() }] }),
            question(Takes::Choices { options: options(&["a"]), least: 2, most: 3 }),
            question(Takes::Choices { options: options(&["a"]), least: 0, most: 0 }),
            question(Takes::Text { most: 0 }),
        ];
        for question in wrong {
            assert!(question.check().unwrap_err().is_invalid(), "{question:?}");
        }
    }
}
