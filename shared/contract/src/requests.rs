//! Transitions that a request about a run asks for.

use super::args::{bytes, digits, flag, line, list, ms, own, record, text};
use super::transitions::{Transition, reply, transition};

pub(super) const SIGNAL: Transition = transition(
    "signal",
    "signal.lua",
    "coordinator",
    "gives a signal to the oldest wait whose filter it passes, or keeps it",
    &[own(&[
        text("asked"),
        text("name"),
        line("attributes"),
        bytes("payload"),
        text("entry"),
        text("request"),
        text("reply"),
    ])],
    &[
        reply("delivered", ""),
        reply("kept", ""),
        reply("full", ""),
        reply("gone", ""),
        reply("repeated", ""),
        reply("over", ""),
        reply("unknown", ""),
    ],
);

pub(super) const CANCEL: Transition = transition(
    "cancel",
    "signal.lua",
    "coordinator",
    "ends a run at once",
    &[own(&[text("asked"), text("entry"), text("request"), text("reply"), ms("retention")])],
    &[reply("cancelled", ""), reply("gone", ""), reply("repeated", ""), reply("over", ""), reply("unknown", "")],
);

pub(super) const CHILD_ENDED: Transition = transition(
    "child_ended",
    "child.lua",
    "coordinator",
    "tells a run about the end of a child run that it waits for",
    &[own(&[text("parent"), text("wait"), text("child"), text("status"), bytes("payload"), text("entry")])],
    &[reply("told", ""), reply("gone", ""), reply("over", "")],
);

pub(super) const RETRY: Transition = transition(
    "retry",
    "retry.lua",
    "coordinator",
    "continues a failed run from where it failed, and gives the failed step another event if requested",
    &[own(&[text("asked"), text("entry"), text("request"), text("reply"), list("event", &[bytes("payload")])])],
    &[
        reply("retried", ""),
        reply("gone", ""),
        reply("repeated", ""),
        reply("live", ""),
        reply("paused", ""),
        reply("waiting", ""),
        reply("over", ""),
        reply("unknown", ""),
        reply("refused", "why"),
    ],
);

pub(super) const ANSWER: Transition = transition(
    "answer",
    "question.lua",
    "coordinator",
    "gives an answer to a question that is open",
    &[own(&[
        text("asked"),
        line("question"),
        text("name"),
        bytes("payload"),
        text("by"),
        text("entry"),
        text("request"),
        text("reply"),
    ])],
    &[
        reply("answered", ""),
        reply("closed", ""),
        reply("gone", ""),
        reply("repeated", ""),
        reply("over", ""),
        reply("unknown", ""),
    ],
);

pub(super) const PAUSE: Transition = transition(
    "pause",
    "pause.lua",
    "coordinator",
    "holds back everything new of a run; what executes goes on, and may commit",
    &[own(&[text("asked"), text("entry"), text("request"), text("reply")])],
    &[
        reply("paused", ""),
        reply("already", ""),
        reply("gone", ""),
        reply("repeated", ""),
        reply("over", ""),
        reply("unknown", ""),
    ],
);

pub(super) const RESUME: Transition = transition(
    "resume",
    "pause.lua",
    "coordinator",
    "continues a paused run, with everything that was held back",
    &[own(&[text("asked"), text("entry"), text("request"), text("reply")])],
    &[
        reply("resumed", ""),
        reply("already", ""),
        reply("gone", ""),
        reply("repeated", ""),
        reply("over", ""),
        reply("unknown", ""),
    ],
);

pub(super) const FORKABLE: Transition = transition(
    "forkable",
    "fork.lua",
    "coordinator",
    "says what a fork of a run begins with; changes nothing",
    &[own(&[text("asked"), text("seq")])],
    &[
        reply("start", "seq step workflow version [number head...]"),
        reply("step", "seq step workflow version [number head...]"),
        reply("several", "[seq step...]"),
        reply("refused", "why"),
        reply("waiting", ""),
        reply("unknown", ""),
    ],
);

pub(super) const FORK: Transition = transition(
    "fork",
    "fork.lua",
    "coordinator",
    "creates a run that goes on from a point of another",
    &[own(&[
        text("asked"),
        text("entry"),
        text("request"),
        text("reply"),
        text("fork"),
        text("point"),
        line("seq"),
        line("call"),
        ms("timeout"),
        list("records", &[record("record")]),
        list("event", &[bytes("payload")]),
        list("entries", &[digits("number"), bytes("head"), bytes("becomes")]),
    ])],
    &[
        reply("forked", ""),
        reply("exists", ""),
        reply("taken", ""),
        reply("changed", ""),
        reply("gone", ""),
        reply("repeated", ""),
        reply("waiting", ""),
        reply("unknown", ""),
        reply("refused", "why"),
    ],
);

pub(super) const ENTITY: Transition = transition(
    "entity",
    "entity.lua",
    "anyone",
    "changes the value of an entity, unless it has changed since it was read or the call was made before",
    &[own(&[
        text("kind"),
        text("key"),
        text("call"),
        digits("expected"),
        list("value", &[bytes("value")]),
        flag("clears"),
        bytes("result"),
        ms("expires"),
    ])],
    &[reply("ok", "version"), reply("done", "result"), reply("changed", "version [value]")],
);
