//! Made from `shared/contract/src/`: do not change it here, but there, and make it anew:
//! `STEPFLEET_WRITE_DOCS=1 cargo test -p stepfleet-contract`.

use super::groups::Ending;
use crate::core::args::{Args, Headed, Way, Write};

/// A commit whose only successor goes on in the same slot.
#[derive(Clone, Debug)]
pub(crate) struct HandOver<'a> {
    pub(crate) ending: Ending<'a>,
    pub(crate) record: Headed<'a>,
    pub(crate) version: String,
    pub(crate) fields: Vec<(&'a str, &'a [u8])>,
}

impl Write for HandOver<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        self.ending.write(args);
        args.headed(&self.record);
        args.text(&self.version);
        for (field, value) in &self.fields {
            args.text(field);
            args.bytes(value);
        }
    }
}

impl Way for HandOver<'_> {
    const LETTER: &'static str = "h";
}

/// A commit of a branch that leaves nothing but one event for a join, or nothing.
#[derive(Clone, Debug)]
pub(crate) struct EndBranch<'a> {
    pub(crate) ending: Ending<'a>,
    pub(crate) after: &'a str,
    pub(crate) group: u64,
    pub(crate) join: &'a str,
    pub(crate) event: &'a [u8],
    pub(crate) fields: Vec<(&'a str, &'a [u8])>,
}

impl Write for EndBranch<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        self.ending.write(args);
        args.text(self.after);
        args.number(self.group);
        args.text(self.join);
        args.bytes(self.event);
        for (field, value) in &self.fields {
            args.text(field);
            args.bytes(value);
        }
    }
}

impl Way for EndBranch<'_> {
    const LETTER: &'static str = "b";
}

/// A commit with the stop event, if nothing else of the run is active and nobody follows it.
#[derive(Clone, Debug)]
pub(crate) struct EndRun<'a> {
    pub(crate) ending: Ending<'a>,
    pub(crate) after: &'a str,
    pub(crate) completed: String,
    pub(crate) result: &'a [u8],
    pub(crate) retention: i64,
    pub(crate) fields: Vec<(&'a str, &'a [u8])>,
}

impl Write for EndRun<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        self.ending.write(args);
        args.text(self.after);
        args.text(&self.completed);
        args.bytes(self.result);
        args.ms(self.retention);
        for (field, value) in &self.fields {
            args.text(field);
            args.bytes(value);
        }
    }
}

impl Way for EndRun<'_> {
    const LETTER: &'static str = "e";
}

/// A checkpoint that records one entry and does nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) run: &'a str,
    pub(crate) number: u64,
    pub(crate) line: &'a str,
    pub(crate) upon: String,
    pub(crate) call: u64,
    pub(crate) entry: &'a [u8],
}

impl Write for Record<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.run);
        args.number(self.number);
        args.text(self.line);
        args.text(&self.upon);
        args.number(self.call);
        args.bytes(self.entry);
    }
}

impl Way for Record<'_> {
    const LETTER: &'static str = "r";
}

/// A start with one step that takes the input at once, and nothing else.
#[derive(Clone, Debug)]
pub(crate) struct StartRun<'a> {
    pub(crate) run: &'a str,
    pub(crate) workflow: &'a str,
    pub(crate) version: u64,
    pub(crate) content: &'a str,
    pub(crate) input: &'a [u8],
    pub(crate) entry: &'a str,
    pub(crate) record: Headed<'a>,
}

impl Write for StartRun<'_> {
    fn write<'a>(&'a self, args: &mut Args<'a>) {
        args.text(self.run);
        args.text(self.workflow);
        args.number(self.version);
        args.text(self.content);
        args.bytes(self.input);
        args.text(self.entry);
        args.headed(&self.record);
    }
}

impl Way for StartRun<'_> {
    const LETTER: &'static str = "s";
}
