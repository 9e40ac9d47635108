//! The short ways: several travel in one call of the transition `short`.

use super::args::{Arg, Group, bytes, digits, group, line, ms, own, record, text};

/// A short way: several travel in one call of `short`.
#[derive(Clone, Copy, Debug)]
pub struct ShortWay {
    /// The letter that asks for it.
    pub letter: char,
    /// The function of `lua/short.lua`.
    pub name: &'static str,
    /// What it does.
    pub does: &'static str,
    /// Its arguments, at fixed places.
    pub args: &'static [Group],
    /// Whether fields of the context and their values follow.
    pub has_fields: bool,
    /// Its replies, beside 0: the long way is to be gone.
    pub replies: &'static [&'static str],
}

impl ShortWay {
    /// Its arguments in order, of all groups.
    pub fn arguments(&self) -> impl Iterator<Item = &'static Arg> + use<> {
        self.args.iter().flat_map(|group| group.args)
    }
}

/// What each commit in a short way begins with; `history` is its record without the time.
const ENDING: Group = group(
    "ending",
    &[text("worker"), digits("call"), digits("slot"), text("run"), digits("number"), text("line"), line("history")],
);
/// The transition that has the short ways. Its arguments are theirs, and nothing is made for itself.
pub const SHORT: &str = "short";

/// All short ways.
pub const SHORT_WAYS: &[ShortWay] = &[
    ShortWay {
        letter: 'h',
        name: "hand_over",
        does: "a commit whose only successor goes on in the same slot",
        args: &[ENDING, own(&[record("record"), line("version")])],
        has_fields: true,
        replies: &["number time version", "number time version context"],
    },
    ShortWay {
        letter: 'b',
        name: "end_branch",
        does: "a commit of a branch that leaves nothing but one event for a join, or nothing",
        args: &[ENDING, own(&[text("after"), digits("group"), text("join"), bytes("event")])],
        has_fields: true,
        replies: &["1", "item"],
    },
    ShortWay {
        letter: 'e',
        name: "end_run",
        does: "a commit with the stop event, if nothing else of the run is active and nobody follows it",
        args: &[ENDING, own(&[text("after"), line("completed"), bytes("result"), ms("retention")])],
        has_fields: true,
        replies: &["1", "item"],
    },
    ShortWay {
        letter: 'r',
        name: "record",
        does: "a checkpoint that records one entry and does nothing else",
        args: &[own(&[text("run"), digits("number"), text("line"), line("upon"), digits("call"), bytes("entry")])],
        has_fields: false,
        replies: &["1"],
    },
    ShortWay {
        letter: 's',
        name: "start_run",
        does: "a start with one step that takes the input at once, and nothing else",
        args: &[own(&[
            text("run"),
            text("workflow"),
            digits("version"),
            text("content"),
            bytes("input"),
            text("entry"),
            record("record"),
        ])],
        has_fields: false,
        replies: &["1"],
    },
];
