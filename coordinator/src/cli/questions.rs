//! `stepfleet questions` and `stepfleet answer`.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use stepfleet_shared::question::{OpenQuestion, Takes};

use super::Fleet;
use super::error::CliResult;
use super::output;
use super::start::read_input;
use super::steer::{SEEN_TO, explain, known};
use super::text::moment;

const QUESTIONS_EXAMPLES: &str = "\
Examples:
  stepfleet questions                    all that runs of this fleet ask now, the oldest first
  stepfleet questions --run order-7
  stepfleet questions --json

Any Redis client can do the same: ZRANGE sf:{0}:questions 0 -1 gives `<run> <number>` of each, and
HGET sf:{0}:asked:<run> <number> the question as JSON.";

#[derive(Args)]
#[command(after_help = QUESTIONS_EXAMPLES)]
pub(super) struct Questions {
    /// Only those of this run
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

const ANSWER_EXAMPLES: &str = "\
Examples:
  stepfleet answer order-7 ship true --by ann       an approval: true or false
  stepfleet answer order-7 size '\"large\"'           a choice: the id of an option
  stepfleet answer order-7 extras '[\"box\", \"card\"]'
  stepfleet answer order-7 note @note.json          text, from a file
  stepfleet answer order-7 note null                skips a question that may be skipped

Any Redis client can do the same: XADD sf:{0}:inbox * op answer run order-7 question ship input true by ann

An answer that the question does not take is refused with the reason, and the question stays open.";

#[derive(Args)]
#[command(after_help = ANSWER_EXAMPLES)]
pub(super) struct Answer {
    /// The run's id
    id: String,
    /// The question's name, or its number
    question: String,
    /// The answer: JSON, @ and a file's name, or - for standard input
    #[arg(value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    value: String,
    /// Who answers: it is recorded with the answer
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

pub(super) async fn list(fleet: &Fleet, options: &Questions) -> CliResult {
    let client = fleet.client()?;
    let open = match &options.run {
        Some(run) => client.run(run).questions().await?,
        None => client.questions(options.limit).await?,
    };
    if fleet.json {
        output::json(&json!(open))?;
        return Ok(ExitCode::SUCCESS);
    }
    if open.is_empty() {
        output::line("no question is open");
    }
    for question in &open {
        output::line(&shown(question));
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(open: &OpenQuestion) -> String {
    let OpenQuestion { run, id, question, .. } = open;
    let due = open.due_ms.map(|due| format!(", until {}", moment(due))).unwrap_or_default();
    let may_skip = if question.skippable { "; null skips it" } else { "" };
    let mut lines = vec![
        format!("run {run} asks {} ({id}) since {}{due}", question.name, moment(open.asked_ms)),
        format!("  {}", question.text.replace('\n', "\n  ")),
    ];
    let (takes, options) = match &question.takes {
        Takes::Approval => ("true or false".to_owned(), &[][..]),
        Takes::Choice { options } => ("one of these".to_owned(), &options[..]),
        Takes::Choices { options, least, most } => (format!("a list of {least} to {most} of these"), &options[..]),
        Takes::Text { most } => (format!("text of at most {most} bytes"), &[][..]),
        _ => ("an answer of a kind that only a newer stepfleet knows".to_owned(), &[][..]),
    };
    lines.push(format!("  answer: {takes}{may_skip}"));
    lines.extend(options.iter().map(|option| format!("    {:<12} {}", option.id, option.label)));
    lines.join("\n")
}

pub(super) async fn answer(fleet: &Fleet, options: &Answer) -> CliResult {
    let run = known(fleet, &options.id).await?;
    let text = read_input(&options.value)?;
    let answer: Value = serde_json::from_str(&text).map_err(|error| {
        stepfleet_shared::Error::invalid(format!(
            "the answer is not valid JSON: {error}; put text in quotes: '\"...\"'"
        ))
    })?;
    let asked = run.answer(&options.question, &answer, options.by.as_deref()).await?;
    asked.taken(SEEN_TO).await.map_err(|error| explain(error, &options.id, "get the answer"))?;
    if fleet.json {
        output::json(&json!({ "id": options.id, "question": options.question }))?;
    } else {
        output::line(&format!("run {} has received the answer to {}", options.id, options.question));
    }
    Ok(ExitCode::SUCCESS)
}
