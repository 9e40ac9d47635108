//! Failures as events, for steps that catch them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stepfleet_shared::codec;
use stepfleet_shared::step::Claimed;

use crate::error::{Error, Outcome};
use crate::event::Event;

/// The largest event, as JSON, that is shown to the step that catches its failure, in bytes.
const MAX_INPUT: usize = 256 * 1024;

/// A step has failed for good: its error is terminal, or its retry policy gave up.
///
/// A step that takes this event catches the failures of the steps that its option `catches` names, or of all steps.
/// It runs in place of the step that failed, none of whose writes to the state were committed. What it returns goes
/// on from there, even as a branch of a fan-out. The run continues as if the step had not failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepFailed {
    /// The step.
    pub step: String,
    /// The name of the event that it failed on.
    pub event: String,
    /// That event, or the list of joined events, as JSON. None if it cannot be shown: it is larger than 256 KiB, or nests
    /// too deep. What JSON cannot express is approximated: bytes become a list of numbers, NaN becomes null.
    pub input: Option<Value>,
    /// How many attempts it had.
    pub attempts: u32,
    /// How long it took, from the start of the first attempt that failed to the last error.
    pub elapsed_ms: u64,
    /// The last error, with its causes, on one line.
    pub error: String,
    /// The causes of the last error, the nearest first.
    pub causes: Vec<String>,
    /// The event as it was.
    #[serde(default, with = "serde_bytes")]
    payload: Vec<u8>,
}

impl Event for StepFailed {
    const NAME: &'static str = "stepfleet.StepFailed";
}

impl StepFailed {
    /// The event that the step failed on, to emit it again or look at it. Fails if it was not kept, or is
    /// of another type.
    pub fn event<E: Event>(&self) -> Outcome<E> {
        if E::NAME != self.event {
            return Err(Error::terminal(format!("step {} failed on {}, not on {}", self.step, self.event, E::NAME)));
        }
        if self.payload.is_empty() {
            let (event, step) = (E::NAME, &self.step);
            return Err(Error::terminal(format!(
                "the event {event} that step {step} failed on is not kept: it is larger than 256 KiB, or there were \
                 several"
            )));
        }
        E::from_payload(E::NAME, &self.payload).map_err(|error| Error::terminal(error.to_string()))
    }
}

/// Which failures a step catches. The macro `#[step]` writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catches {
    /// The steps; empty for all.
    pub steps: Vec<&'static str>,
    /// How often a failure on the way to one event is caught.
    pub recoveries: u32,
}

impl Default for Catches {
    fn default() -> Self {
        Self { steps: Vec::new(), recoveries: 1 }
    }
}

impl Catches {
    /// For a step that takes an `I`.
    pub fn of<I: Failure>(steps: Vec<&'static str>, recoveries: u32) -> Self {
        Self { steps, recoveries }
    }
}

/// What a step must take to have the options `catches` and `recoveries`.
#[diagnostic::on_unimplemented(
    message = "a step that takes `{Self}` catches no failures",
    label = "`catches` and `recoveries` are for a step that takes `StepFailed`",
    note = "let the step take `StepFailed`, or remove the options"
)]
pub trait Failure {}

impl Failure for StepFailed {}

/// The event for the step that catches, as Redis keeps it.
pub(crate) fn written(
    step: &Claimed,
    joined: Option<&[Vec<u8>]>,
    elapsed_ms: u64,
    error: &Error,
    text: &str,
) -> Outcome<Vec<u8>> {
    let input = match (&step.joined, joined) {
        (None, _) => shown(&step.payload),
        (Some(_), Some(events)) => {
            events.iter().map(|event| shown(event)).collect::<Option<Vec<_>>>().map(Value::Array)
        }
        (Some(_), None) => None,
    };
    let failed = StepFailed {
        step: step.step.clone(),
        event: step.event.clone(),
        input: input.filter(|input| input.to_string().len() <= MAX_INPUT),
        attempts: step.fence.attempt,
        elapsed_ms,
        error: text.to_owned(),
        causes: error.causes().to_vec(),
        payload: if step.joined.is_none() && step.payload.len() <= MAX_INPUT {
            step.payload.clone()
        } else {
            Vec::new()
        },
    };
    let what = "the event StepFailed";
    // An event that nests as deep as allowed does not fit into another.
    let whole = codec::encode(what, &failed).ok().filter(|whole| codec::decode::<StepFailed>(what, whole).is_ok());
    Ok(whole.map_or_else(|| codec::encode(what, &StepFailed { input: None, ..failed }), Ok)?)
}

/// What failed first, if the step that failed catches failures.
pub(crate) fn caught_by(step: &Claimed) -> Option<String> {
    if step.event != StepFailed::NAME {
        return None;
    }
    let failed: StepFailed = codec::decode("the event StepFailed", &step.payload).ok()?;
    Some(format!("step {}: {}", failed.step, failed.error))
}

fn shown(payload: &[u8]) -> Option<Value> {
    if payload.len() > MAX_INPUT { None } else { codec::decode("an event", payload).ok() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Page {
        number: u32,
    }
    impl Event for Page {
        const NAME: &'static str = "Page";
    }
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Seats {
        seats: BTreeMap<u32, f64>,
        #[serde(with = "serde_bytes")]
        key: Vec<u8>,
    }
    impl Event for Seats {
        const NAME: &'static str = "Seats";
    }
    #[derive(Serialize, Deserialize, Debug)]
    struct Other {}
    impl Event for Other {
        const NAME: &'static str = "Other";
    }

    fn claimed(payload: Vec<u8>) -> Claimed {
        Claimed { step: "read".into(), event: "Page".into(), payload, ..Claimed::default() }
    }

    fn read(written: &[u8]) -> StepFailed {
        codec::decode("it", written).unwrap()
    }

    #[test]
    fn the_event_is_shown_and_can_be_had_again() {
        let error = Error::msg("no ink");
        let step = claimed(codec::encode("e", &Page { number: 7 }).unwrap());
        let failed = read(&written(&step, None, 12, &error, "no ink").unwrap());
        assert_eq!(failed.input, Some(serde_json::json!({ "number": 7 })));
        assert_eq!((failed.elapsed_ms, failed.error.as_str()), (12, "no ink"));
        assert_eq!(failed.event::<Page>().unwrap(), Page { number: 7 });
        assert!(failed.event::<Other>().unwrap_err().to_string().contains("failed on Page, not on Other"));
    }

    #[test]
    fn an_event_that_json_has_no_form_for_can_be_had_again_as_it_was() {
        let seats = BTreeMap::from([(7, f64::INFINITY), (8, 0.5)]);
        let step = claimed(codec::encode("e", &Seats { seats: seats.clone(), key: b"\x00\xff".to_vec() }).unwrap());
        let failed =
            read(&written(&Claimed { event: "Seats".into(), ..step }, None, 0, &Error::msg("x"), "x").unwrap());
        assert_eq!(failed.input, Some(serde_json::json!({ "seats": { "7": null, "8": 0.5 }, "key": [0, 255] })));
        assert_eq!(failed.event::<Seats>().unwrap(), Seats { seats, key: b"\x00\xff".to_vec() });
    }

    #[test]
    fn what_failed_first_is_read_of_a_failure() {
        let step = claimed(codec::encode("e", &Page { number: 7 }).unwrap());
        let caught = written(&step, None, 0, &Error::msg("no ink"), "no ink").unwrap();
        let catching = Claimed { event: StepFailed::NAME.into(), payload: caught, ..claimed(vec![]) };
        assert_eq!(caught_by(&catching).unwrap(), "step read: no ink");
        assert_eq!(caught_by(&step), None);
    }

    #[test]
    fn joined_events_are_a_list() {
        let events: Vec<_> = (1..3).map(|number| codec::encode("e", &Page { number }).unwrap()).collect();
        let step =
            Claimed { joined: Some(stepfleet_shared::step::JoinBuffer { group: 1, count: 2 }), ..claimed(vec![]) };
        let shown = |joined| read(&written(&step, joined, 0, &Error::msg("x"), "x").unwrap()).input;
        assert_eq!(shown(Some(&events)), Some(serde_json::json!([{ "number": 1 }, { "number": 2 }])));
        assert_eq!(shown(None), None);
    }

    #[test]
    fn what_cannot_be_shown_is_left_out() {
        let deep = (0..127).fold(serde_json::json!(1), |inner, _| serde_json::json!([inner]));
        for payload in
            [codec::encode("e", &"x".repeat(300_000)).unwrap(), codec::encode("e", &deep).unwrap(), b"\x09".to_vec()]
        {
            let failed = read(&written(&claimed(payload), None, 0, &Error::msg("x"), "x").unwrap());
            assert_eq!(failed.input, None);
            assert!(failed.event::<Page>().is_err());
        }
    }
}
