//! `stepfleet follow` of what a run publishes, and of what it asks.

use std::collections::BTreeSet;
use std::time::Duration;

use stepfleet_shared::published::{By, Position, Published, StepState, What};
use stepfleet_shared::run::Status;
use stepfleet_shared::{Client, Partitions};

use super::error::{CliError, CliResult};
use super::follow::end;
use super::output;
use super::text::shortened;

/// How often it looks for questions.
const LOOKS: Duration = Duration::from_secs(1);

/// What is printed.
#[derive(Clone, Copy)]
pub(super) enum Shown<'a> {
    /// A line for each entry.
    Entries,
    /// The text of the streams of this name.
    Text(&'a str),
}

/// Prints what the run publishes, to its end.
pub(super) async fn follow(
    json: bool,
    partitions: Partitions,
    run: &str,
    from: Position,
    shown: Shown<'_>,
) -> CliResult {
    let handle = Client::with_store(partitions.clone()).run(run);
    let (mut follower, mut asks) = (handle.follow_from(from), Asks::default());
    let mut looks = tokio::time::interval(LOOKS);
    loop {
        let entry = tokio::select! {
            entry = follower.next() => entry?,
            _ = looks.tick() => {
                // If Redis is away, the follower waits for it.
                let _ = asks.tell(&partitions, run).await;
                continue;
            }
        };
        match (entry, shown) {
            (None, _) => break,
            (Some(entry), Shown::Text(stream)) => tell_text(&entry, stream),
            (Some(entry), Shown::Entries) if json => output::json(&event_json(&entry))?,
            (Some(entry), Shown::Entries) => output::line(&event_line(&entry)),
        }
    }
    match handle.status().await? {
        Some(run) => Ok(end(json, &run)),
        None => Err(CliError::new(format!("the run {run} expired while it was being followed"))),
    }
}

/// Printed text cannot be taken back: a line beside it says that it no longer counts.
fn tell_text(entry: &Published, of: &str) {
    match &entry.what {
        What::Piece { stream, text, last, .. } if stream == of => {
            output::text(text);
            if *last {
                output::line("");
            }
        }
        What::Superseded { stream, by, .. } if stream == of => {
            output::line("");
            eprintln!("attempt {} writes something else; this replaces what {of} has said so far:", by.attempt);
        }
        What::Missed { count } => eprintln!("up to {count} entries were trimmed before they were read"),
        _ => {}
    }
}

/// Questions that were printed: a run that waits for people must not look idle.
#[derive(Default)]
pub(super) struct Asks(BTreeSet<String>);

impl Asks {
    /// Prints new ones on standard error.
    pub(super) async fn tell(&mut self, partitions: &Partitions, run: &str) -> stepfleet_shared::Result<()> {
        for open in partitions.of(run).questions(Some(run), 0, u64::MAX).await? {
            if self.0.insert(open.id.clone()) {
                let (name, text) = (&open.question.name, shortened(&open.question.text, 200));
                eprintln!(
                    "{run} asks {name} ({}): {text}; answer it with stepfleet answer {run} {name} <JSON>",
                    open.id
                );
            }
        }
        Ok(())
    }
}

fn event_json(entry: &Published) -> serde_json::Value {
    let mut json = serde_json::json!(entry);
    if let What::Event { content, data, .. } = &entry.what {
        json["data"] = output::payload_json(*content, data);
    }
    json
}

/// The position first, to continue from.
fn event_line(entry: &Published) -> String {
    let position = entry.position;
    let of = |By { step, seq, attempt, worker }: &By| {
        let place = if worker == "-" { String::new() } else { format!(", on {worker}") };
        format!("#{seq} {step}, attempt {attempt}{place}")
    };
    let (kind, good, text) = match &entry.what {
        What::Event { event, by, content, data, .. } => {
            ("event", None, format!("{event} {}  {}", output::payload(*content, data), of(by)))
        }
        What::Piece { stream, id, at, text, last, by, .. } => {
            let end = if *last { " (the last)" } else { "" };
            ("piece", None, format!("{stream} {id} at {at}{end} {text:?}  {}", of(by)))
        }
        What::Superseded { stream, id, by, .. } => {
            ("superseded", None, format!("{stream} {id}: its text so far no longer counts  {}", of(by)))
        }
        What::State { state, event, by, emitted, error } => {
            let good = match state {
                StepState::Done => Some(true),
                StepState::Failed => Some(false),
                _ => None,
            };
            let about = error.as_deref().map_or_else(|| emitted.join(", "), |error| shortened(error, 200));
            let arrow = if about.is_empty() { "" } else { ": " };
            (state.as_str(), good, format!("{} with {event}{arrow}{about}", of(by)))
        }
        What::End { status } => ("end", Some(*status == Status::Completed), status.to_string()),
        What::Missed { count } => {
            ("missed", Some(false), format!("up to {count} entries were trimmed before they were read"))
        }
        What::Other { fields } => {
            let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name} {value}")).collect();
            ("other", None, shortened(&fields.join(" "), 500))
        }
        other => ("other", None, format!("{other:?}")),
    };
    let space = if kind.len() < 10 { "  " } else { " " };
    format!("{position}  {}{space}{text}", output::graded(&format!("{kind:<9}"), good))
}

#[cfg(test)]
mod tests {
    use stepfleet_shared::codec::Content;

    use super::*;

    #[test]
    fn each_entry_is_one_readable_line() {
        let position: Position = "17-1".parse().unwrap();
        let by = By { step: "look".into(), seq: 3, attempt: 2, worker: "w-1".into() };
        let line = |what| event_line(&Published::new(position, 4, what));
        let (content, data) = (Content::MessagePack, b"\x81\xa2at\x01".to_vec());
        let event = What::Event { event: "Progress".into(), id: "3.0.1".into(), by: by.clone(), content, data };
        let json = event_json(&Published::new(position, 4, event.clone()));
        assert_eq!(
            (&json["data"]["at"], &json["kind"], &json["position"], &json["id"]),
            (&1.into(), &"event".into(), &"17-1".into(), &"3.0.1".into())
        );
        assert_eq!(line(event), "17-1  event      Progress {\"at\":1}  #3 look, attempt 2, on w-1");
        let waiting = By { worker: "-".into(), attempt: 0, ..by.clone() };
        let state = |state, by, emitted: &[&str], error: Option<&str>| What::State {
            state,
            event: "Asked".into(),
            by,
            emitted: emitted.iter().map(|name| (*name).to_owned()).collect(),
            error: error.map(str::to_owned),
        };
        assert_eq!(
            line(state(StepState::Waiting, waiting, &[], None)),
            "17-1  waiting    #3 look, attempt 0 with Asked"
        );
        assert_eq!(
            line(state(StepState::Done, by.clone(), &["A", "B"], None)),
            "17-1  done       #3 look, attempt 2, on w-1 with Asked: A, B"
        );
        assert_eq!(
            line(state(StepState::Retry, by, &[], Some("no\nroute"))),
            "17-1  retry      #3 look, attempt 2, on w-1 with Asked: no route"
        );
        assert_eq!(line(What::End { status: Status::Failed }), "17-1  end        failed");
        let by = By { step: "look".into(), seq: 3, attempt: 2, worker: "w-1".into() };
        let (stream, id) = ("answer".to_owned(), "3.1.1".to_owned());
        let text = "a \"b\"\n".to_owned();
        let piece =
            What::Piece { stream: stream.clone(), id: id.clone(), take: 2, at: 7, text, last: true, by: by.clone() };
        assert_eq!(
            line(piece),
            r#"17-1  piece      answer 3.1.1 at 7 (the last) "a \"b\"\n"  #3 look, attempt 2, on w-1"#
        );
        let superseded = What::Superseded { stream, id, take: 2, by };
        assert_eq!(
            line(superseded),
            "17-1  superseded answer 3.1.1: its text so far no longer counts  #3 look, attempt 2, on w-1"
        );
    }
}
