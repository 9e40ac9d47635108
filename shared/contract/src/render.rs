//! The tables of the documents.

use std::fmt::Write;

use super::answers::{Operation, Standing, answer};
use super::fields::Field;
use super::formats::Format;
use super::keys::{KEYS, Key, Type};
use super::limits::{LIMITS, Unit};
use super::states::Letter;
use super::{Arg, Form, SHORT_WAYS, TRANSITIONS};
use super::{
    DUTIES, FLAGS, FORMATS, JOURNAL, LOOPS, RUN_FIELDS, SLOT_LETTERS, STATES, STEPS_FIELDS, TIMERS, WORKER_FIELDS,
};

/// A part of a document that is rendered. It is between the lines `<!-- contract: NAME -->` and `<!-- end -->`.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its Markdown.
    pub render: fn() -> String,
}

/// All of them.
pub const TABLES: &[Table] = &[
    Table { name: "transitions", render: transitions },
    Table { name: "arguments", render: arguments },
    Table { name: "short ways", render: short_ways },
    Table { name: "keys", render: keys },
    Table { name: "internal keys", render: internal_keys },
    Table { name: "steps hash", render: || fields(STEPS_FIELDS) },
    Table { name: "run hash", render: || fields(RUN_FIELDS) },
    Table { name: "worker hash", render: || fields(WORKER_FIELDS) },
    Table { name: "states", render: || letters(STATES, "`<about>`") },
    Table { name: "flags", render: || letters(FLAGS, "payload") },
    Table { name: "slot letters", render: slot_letters },
    Table { name: "formats", render: || formats("what", FORMATS, false) },
    Table { name: "timers", render: || formats("timer", TIMERS, true) },
    Table { name: "journal", render: || formats("entry", JOURNAL, true) },
    Table { name: "limits", render: limits },
    Table { name: "duties", render: duties },
    Table { name: "loops", render: loops },
    Table { name: "answers", render: answers },
];

fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

fn code(text: impl std::fmt::Display) -> String {
    format!("`{text}`")
}

fn transitions() -> String {
    let row = |t: &super::Transition| vec![code(t.name), code(t.file), t.by.to_owned(), t.does.to_owned()];
    table(&["transition", "file", "by", "what it does"], TRANSITIONS.iter().map(row))
}

fn argument(arg: &Arg) -> String {
    match arg.form {
        Form::Text | Form::Line | Form::Record | Form::Digits | Form::Number => arg.name.to_owned(),
        Form::Optional => format!("{} (or nothing)", arg.name),
        Form::Bytes => format!("{} (bytes)", arg.name),
        Form::Ms => format!("{} (ms)", arg.name),
        Form::Flag => format!("{}?", arg.name),
        Form::List(of) => format!("{}[{}]", arg.name, of.iter().map(|arg| arg.name).collect::<Vec<_>>().join(" ")),
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.map(code).collect::<Vec<_>>().join(", ")
}

fn arguments() -> String {
    let row = |t: &super::Transition| {
        let replies = t.replies.iter().map(|reply| format!("{} {}", reply.word, reply.rest).trim().to_owned());
        vec![code(t.name), joined(t.arguments().map(argument)), joined(replies)]
    };
    table(&["transition", "arguments, in order", "replies"], TRANSITIONS.iter().map(row))
}

fn short_ways() -> String {
    let row = |way: &super::ShortWay| {
        let more = way.has_fields.then_some("field value...");
        let args = joined(way.arguments().map(|arg| arg.name).chain(more).map(str::to_owned));
        let replies = joined(way.replies.iter().map(|&reply| reply.to_owned()));
        vec![code(way.letter), code(way.name), way.does.to_owned(), args, replies]
    };
    table(&["letter", "function", "what it is", "arguments, in order", "replies"], SHORT_WAYS.iter().map(row))
}

fn key_name(key: &Key) -> String {
    if key.of.is_empty() { key.kind.to_owned() } else { format!("{}:{}", key.kind, key.of) }
}

fn keys() -> String {
    let row = |key: &Key| {
        let form = match key.form {
            Type::Text => "string",
            Type::Hash => "hash",
            Type::List => "list",
            Type::Set => "set",
            Type::SortedSet => "sorted set",
            Type::Stream => "stream",
            Type::Channel => "channel",
        };
        vec![code(key_name(key)), form.to_owned(), key.holds.to_owned()]
    };
    table(&["key", "type", "what it holds"], KEYS.iter().map(row))
}

fn internal_keys() -> String {
    let name = |key: &Key| if key.of.is_empty() { key.kind.to_owned() } else { format!("{}:*", key.kind) };
    let names = KEYS.iter().filter(|key| !key.is_public).map(name);
    format!("{}\n", joined(names))
}

fn fields(fields: &[Field]) -> String {
    table(&["field", "value"], fields.iter().map(|field| vec![code(field.name), field.holds.to_owned()]))
}

fn letters(letters: &[Letter], about: &str) -> String {
    let row = |one: &Letter| vec![code(one.letter), one.means.to_owned(), one.about.to_owned()];
    table(&["letter", "means", about], letters.iter().map(row))
}

fn slot_letters() -> String {
    table(&["letter", "means"], SLOT_LETTERS.iter().map(|one| vec![code(one.letter), one.means.to_owned()]))
}

fn formats(of: &str, formats: &[Format], is_named_by_form: bool) -> String {
    let row = |one: &Format| {
        let named = vec![code(one.form), one.says.to_owned()];
        if is_named_by_form { named } else { [vec![one.name.to_owned()], named].concat() }
    };
    let head: &[&str] =
        if is_named_by_form { &[of, "what happened, or happens"] } else { &[of, "form", "what it says"] };
    table(head, formats.iter().map(row))
}

/// With commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn limits() -> String {
    let row = |limit: &super::Limit| {
        let unit = match limit.unit {
            Unit::Count => "",
            Unit::Bytes => " bytes",
            Unit::Ms => " ms",
        };
        let files = limit.at.iter().map(|path| code(path.trim_start_matches("shared/src/store/")));
        let files = files.collect::<Vec<_>>().join(", ");
        vec![limit.of.to_owned(), format!("{}{unit}", grouped(limit.value)), code(limit.name), files]
    };
    table(&["of what", "limit", "constant", "where"], LIMITS.iter().map(row))
}

fn answers() -> String {
    let operations = Operation::ALL.map(|operation| code(operation.word()));
    let head: Vec<&str> = ["the run"].into_iter().chain(operations.iter().map(String::as_str)).collect();
    let cell = |run: Standing| move |operation: Operation| answer(operation, run).text().to_owned();
    let row = |run: Standing| [vec![run.text().to_owned()], Operation::ALL.map(cell(run)).to_vec()].concat();
    table(&head, Standing::ALL.map(row))
}

fn duties() -> String {
    let row = |duty: &super::Duty| {
        let pause =
            if duty.setting.is_empty() { "blocks".to_owned() } else { format!("{} ms", grouped(duty.pause_ms)) };
        vec![duty.name.to_owned(), pause, duty.does.to_owned()]
    };
    table(&["duty", "longest pause", "what it does"], DUTIES.iter().map(row))
}

fn loops() -> String {
    let row = |one: &super::Loop| {
        let pauses = format!("{} to {} ms", grouped(one.first_ms), grouped(one.longest_ms));
        vec![one.who.to_owned(), pauses, one.until.to_owned()]
    };
    table(&["who asks again", "pauses", "until"], LOOPS.iter().map(row))
}
