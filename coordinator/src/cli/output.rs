//! Printing: tables, JSON, colours. Nothing but what was asked for goes to standard output.

use std::io::{IsTerminal, Write};

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};
use owo_colors::{OwoColorize, Stream};
use serde::Serialize;
use serde_json::Value;
use stepfleet_shared::codec::{self, Content};
use stepfleet_shared::encryption::is_encrypted;
use stepfleet_shared::run::{Run, Status};

use super::error::CliError;

/// Prints a line; a reader that has gone away (`| head`) ends the program quietly.
pub(super) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Prints a line while something else runs. False if nobody reads it.
pub(super) fn is_read(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

/// Prints text as it is, at once.
pub(super) fn text(text: &str) {
    let mut out = std::io::stdout().lock();
    if write!(out, "{text}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Prints one JSON document on one line.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Result<(), CliError> {
    let text =
        serde_json::to_string(value).map_err(|e| CliError::new(format!("this cannot be written as JSON: {e}")))?;
    line(&text);
    Ok(())
}

/// Whether to use colours on this stream.
pub(super) fn is_coloured(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A table without lines, so that programs can read it as well.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !is_coloured(&std::io::stdout()) {
        table.force_no_tty();
    }
    table.set_header(header.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    table
}

/// Prints a table.
pub(super) fn print_table(mut table: Table) {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    line(table.trim_fmt().trim_end());
}

/// A cell that shows a run's status.
pub(super) fn status_cell(status: Status) -> Cell {
    let color = match status {
        Status::Completed => Color::Green,
        Status::Failed | Status::Rejected => Color::Red,
        Status::Running => Color::Cyan,
        _ => Color::Yellow,
    };
    Cell::new(status).fg(color)
}

/// A word in green (`good`), yellow (unknown) or red.
pub(super) fn graded(word: &str, good: Option<bool>) -> String {
    match good {
        Some(true) => word.if_supports_color(Stream::Stdout, |t| t.green()).to_string(),
        Some(false) => word.if_supports_color(Stream::Stdout, |t| t.red()).to_string(),
        None => word.if_supports_color(Stream::Stdout, |t| t.yellow()).to_string(),
    }
}

/// A run as JSON, with input and result as JSON whatever they were sent as.
pub(super) fn run_json(run: &Run) -> Value {
    let mut value = serde_json::to_value(run).unwrap_or_default();
    if run.content == Content::MessagePack {
        value["input"] = payload_json(run.content, &run.input);
        value["result"] = run.result.as_deref().map_or(Value::Null, |result| payload_json(run.content, result));
    }
    value
}

/// A run as JSON, without input and result, which may be large.
pub(super) fn run_summary(run: &Run) -> Value {
    let mut bare = run.clone();
    (bare.input, bare.result) = (Vec::new(), None);
    let mut value = serde_json::to_value(bare).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("input");
        fields.remove("result");
    }
    value
}

/// An input or a result as text.
pub(super) fn payload(content: Content, bytes: &[u8]) -> String {
    match payload_json(content, bytes) {
        Value::String(text) if content == Content::MessagePack => text,
        value if is_encrypted(content, bytes) => value.to_string(),
        _ if content == Content::Json => String::from_utf8_lossy(bytes).into_owned(),
        value => value.to_string(),
    }
}

/// As JSON, whatever it is.
pub(super) fn payload_json(content: Content, bytes: &[u8]) -> Value {
    let decoded = match content {
        Content::Json => codec::decode_json("the value", bytes),
        Content::MessagePack => codec::decode_messagepack("the value", bytes),
    };
    decoded.unwrap_or_else(|_| Value::String(String::from_utf8_lossy(bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_readable_however_they_were_sent() {
        assert_eq!(payload(Content::Json, br#"{"a": 1}"#), r#"{"a": 1}"#);
        assert_eq!(payload(Content::Json, br#""text""#), r#""text""#);
        assert_eq!(payload(Content::MessagePack, b"\x81\xa1a\x01"), r#"{"a":1}"#);
        assert_eq!(payload(Content::MessagePack, b"\xa5cut"), "\u{FFFD}cut");
    }
}
