//! The transitions: each is one Redis Function.

use super::args::{Arg, Group, bytes, digits, flag, group, line, list, ms, number, optional, own, record, text};
use super::requests;
use super::short::SHORT;

/// A reply.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// The word that it begins with; empty if there is one form only.
    pub word: &'static str,
    /// What follows.
    pub rest: &'static str,
}

/// A transition.
#[derive(Clone, Copy, Debug)]
pub struct Transition {
    /// Its name.
    pub name: &'static str,
    /// The file in `shared/src/store/redis/lua/` that defines it.
    pub file: &'static str,
    /// Who calls it.
    pub by: &'static str,
    /// What it does.
    pub does: &'static str,
    /// Its arguments in order.
    pub args: &'static [Group],
    /// The forms of its reply.
    pub replies: &'static [Reply],
}

impl Transition {
    /// Its arguments in order, of all groups.
    pub fn arguments(&self) -> impl Iterator<Item = &'static Arg> + use<> {
        self.args.iter().flat_map(|group| group.args)
    }
}

pub(super) const fn reply(word: &'static str, rest: &'static str) -> Reply {
    Reply { word, rest }
}

/// The only form of a reply.
const fn answer(rest: &'static str) -> Reply {
    Reply { word: "", rest }
}

/// Who calls, which of its calls this is, and whether an earlier try may have taken effect.
const CALLER: Group = group("caller", &[text("worker"), digits("call"), flag("again")]);
/// The slot whose step execution ends, what it wants next (0 nothing, 1 what follows, 2 others first), and the queue that was
/// served last.
const SLOT: Group = group("slot", &[digits("slot"), digits("next"), text("after")]);
/// A step execution, and the state line of its hold.
const FENCE: Group = group("fence", &[text("run"), digits("seq"), text("line")]);
/// The fan-out that it is a branch of, and its step.
const PLACE: Group = group("place", &[digits("group"), text("step")]);
/// What the attempt knows that Redis must have, as the call is built upon it: the number of an entry of its journal, or `m` and the
/// number of a checkpoint without an entry. Left out by an attempt that has recorded nothing.
const UPON: Group = own(&[optional("upon")]);
/// What becomes of the context.
const CHANGES: Group = group(
    "changes",
    &[
        list("set", FIELDS),
        list("unset", &[text("field")]),
        list("merges", &[text("field"), line("form"), record("operand")]),
        list("expects", &[text("field"), text("sha1")]),
    ],
);
const FIELDS: &[Arg] = &[text("field"), bytes("value")];
const WAITS: Arg = list("waits", &[digits("number"), text("name"), ms("deadline"), line("filter"), bytes("question")]);

pub(super) const fn transition(
    name: &'static str,
    file: &'static str,
    by: &'static str,
    does: &'static str,
    args: &'static [Group],
    replies: &'static [Reply],
) -> Transition {
    Transition { name, file, by, does, args, replies }
}

/// Those that change nothing: a user who may only read can call them.
pub const LOOKS: [&str; 2] = ["waits", "questions"];

/// All transitions, in the order of a run's way.
pub const TRANSITIONS: &[Transition] = &[
    transition(
        "start",
        "start.lua",
        "coordinator",
        "creates a run and queues its start events, unless its id or idempotency key is known",
        &[own(&[
            text("run"),
            text("workflow"),
            digits("version"),
            text("content"),
            bytes("input"),
            text("key"),
            ms("key_ttl"),
            ms("delay"),
            text("entry"),
            ms("timeout"),
            list("heads", &[record("record")]),
            flag("followed"),
            text("from"),
            list("fields", FIELDS),
            text("ticket"),
            text("session"),
            line("parent"),
            text("reply"),
            line("durability"),
        ])],
        &[
            reply("started", "run"),
            reply("exists", "run"),
            reply("no source", "run"),
            reply("void", "run"),
            reply("full", "session"),
        ],
    ),
    transition(
        "reserve",
        "across.lua",
        "coordinator",
        "keeps an idempotency key for a run of another partition, unless it is kept",
        &[own(&[text("workflow"), text("key"), text("run"), text("ticket"), line("place"), ms("ttl")])],
        &[answer("run ticket place")],
    ),
    transition(
        "reserved",
        "across.lua",
        "coordinator",
        "says which run an idempotency key is kept for",
        &[own(&[text("workflow"), text("key")])],
        &[answer("run ticket place")],
    ),
    transition(
        "let_go",
        "across.lua",
        "coordinator",
        "releases an idempotency key that is kept for this run",
        &[own(&[text("workflow"), text("key"), text("run"), text("ticket")])],
        &[reply("ok", ""), reply("other", "")],
    ),
    transition(
        "void",
        "across.lua",
        "coordinator",
        "makes sure that no run with this id is created under a ticket from now on",
        &[own(&[text("run"), text("ticket")])],
        &[reply("void", ""), reply("exists", ""), reply("deferred", "")],
    ),
    transition(
        "alias",
        "across.lua",
        "coordinator",
        "records that the id of a request that repeats another leads to that one's run, in whatever partition",
        &[own(&[text("run"), text("known"), text("entry"), ms("ttl")])],
        &[reply("ok", "")],
    ),
    transition(
        "defer",
        "start.lua",
        "coordinator",
        "keeps a request whose workflow no worker serves yet",
        &[own(&[
            text("run"),
            bytes("request"),
            text("entry"),
            number("limit"),
            text("workflow"),
            text("key"),
            ms("key_ttl"),
            line("parent"),
            text("reply"),
        ])],
        &[reply("deferred", "now"), reply("exists", "now"), reply("full", "now")],
    ),
    transition(
        "reject",
        "start.lua",
        "coordinator",
        "keeps a request that cannot be taken, with the reason",
        &[own(&[
            text("entry"),
            text("deferred"),
            text("run"),
            text("asked"),
            text("request"),
            text("reason"),
            number("limit"),
            ms("retention"),
            line("parent"),
            text("reply"),
            list("fields", &[bytes("field"), bytes("value")]),
        ])],
        &[reply("rejected", "run"), reply("gone", "run")],
    ),
    transition(
        "claim",
        "claim.lua",
        "worker",
        "fills free slots with step events, those queued again first; a worker that gets less than it asked for is idle",
        &[CALLER, own(&[text("after"), list("slots", &[digits("slot")]), flag("alone")])],
        &[reply("ok", "[item...] alone? [run...]?"), reply("lost", "[] 0")],
    ),
    transition(
        "checkpoint",
        "journal.lua",
        "worker",
        "records entries and changes the context of a step that is still executing; opens waits and answers those that have ended",
        &[
            FENCE,
            own(&[line("mark")]),
            CHANGES,
            own(&[
                list("entries", &[digits("number"), bytes("entry")]),
                list("gone", &[digits("number"), text("name"), digits("given")]),
                list("unreadable", &[digits("number"), text("name"), text("digest"), text("why")]),
                WAITS,
            ]),
            UPON,
        ],
        &[
            reply("ok", "[number entry...]"),
            reply("fenced", ""),
            reply("full", ""),
            reply("conflict", ""),
            reply("refused", "field wrong"),
        ],
    ),
    transition(
        "collect",
        "collect.lua",
        "worker",
        "puts an event into a buffer of a step that executes; the one that fills it gets all its events",
        &[FENCE, PLACE, own(&[digits("number"), text("buffer"), number("count"), bytes("payload")]), UPON],
        &[reply("ok", "entry"), reply("fenced", ""), reply("full", "")],
    ),
    transition(
        "publish",
        "publish.lua",
        "worker",
        "adds an event to what the run publishes, at once, unless it is there already",
        &[own(&[
            text("worker"),
            text("run"),
            digits("seq"),
            digits("attempt"),
            text("line"),
            line("place"),
            text("step"),
            text("event"),
            text("content"),
            bytes("data"),
            line("digest"),
        ])],
        &[reply("ok", ""), reply("fenced", "")],
    ),
    transition(
        "stream",
        "stream.lua",
        "worker",
        "adds a piece to a stream of the run's text, at once: text that is there already is not added again, and other \
         text of another attempt is superseded",
        &[own(&[
            text("worker"),
            text("run"),
            digits("seq"),
            digits("attempt"),
            text("line"),
            line("place"),
            text("step"),
            text("stream"),
            number("at"),
            bytes("text"),
            flag("last"),
            list("done", &[text("place")]),
        ])],
        &[reply("ok", ""), reply("fenced", ""), reply("full", "")],
    ),
    transition(
        "stage",
        "fan.lua",
        "worker",
        "writes a chunk of a large fan-out ahead of its commit",
        &[FENCE, own(&[number("offset"), list("records", &[record("record")])])],
        &[reply("ok", "length"), reply("fenced", "0")],
    ),
    transition(
        "complete",
        "commit.lua",
        "worker",
        "commits a step execution and fills its slot again",
        &[
            CALLER,
            SLOT,
            FENCE,
            PLACE,
            CHANGES,
            own(&[
                list("joins", &[text("step"), bytes("event")]),
                list("parts", &[digits("slot"), digits("slots"), line("header"), bytes("payload")]),
                list("emits", &[record("record")]),
                flag("fan"),
                list("heads", &[line("header")]),
                number("staged"),
                line("consumed"),
                line("journal"),
                flag("rests"),
                list("stop", &[bytes("result")]),
                ms("retention"),
                list("caught", &[text("error")]),
                flag("unreadable"),
                line("emitted"),
            ]),
            UPON,
        ],
        &[
            reply("ok", "[item]"),
            reply("fenced", "[item]"),
            reply("forgotten", "[]"),
            reply("unstaged", "[]"),
            reply("conflict", "[]"),
            reply("refused", "[] field wrong"),
        ],
    ),
    transition(
        SHORT,
        "short.lua",
        "worker",
        "the short ways of commits, checkpoints and starts, several in one call",
        &[own(&[list("ways", &[text("letter"), digits("count"), bytes("argument...")])])],
        &[answer("an answer for each")],
    ),
    transition(
        "fail",
        "commit.lua",
        "worker",
        "ends a failed attempt (`retry` later, or `fail` the run) and fills its slot again",
        &[
            CALLER,
            SLOT,
            FENCE,
            PLACE,
            own(&[text("mode"), ms("delay"), text("reason"), ms("retention"), list("forget", &[digits("number")])]),
            UPON,
        ],
        &[reply("ok", "[item]"), reply("fenced", "[item]"), reply("forgotten", "[]")],
    ),
    transition(
        "suspend",
        "journal.lua",
        "worker",
        "ends an attempt that waits, until one of its waits has ended, and fills its slot again",
        &[CALLER, SLOT, FENCE, PLACE, own(&[WAITS, flag("keeps")]), UPON],
        &[reply("ok", "[item]"), reply("fenced", "[item]"), reply("forgotten", "[]"), reply("full", "[]")],
    ),
    requests::SIGNAL,
    transition(
        "send",
        "collect.lua",
        "coordinator",
        "gives a run events from outside",
        &[own(&[text("asked"), text("entry"), text("request"), text("reply"), list("list", &[record("record")])])],
        &[
            reply("delivered", ""),
            reply("full", ""),
            reply("gone", ""),
            reply("repeated", ""),
            reply("over", ""),
            reply("unknown", ""),
        ],
    ),
    transition(
        "defer_send",
        "collect.lua",
        "coordinator",
        "keeps an event from outside for a run whose request waits for a worker, until it starts",
        &[own(&[
            text("asked"),
            text("entry"),
            text("request"),
            text("reply"),
            text("event"),
            text("step"),
            text("content"),
            bytes("input"),
        ])],
        &[
            reply("deferred", ""),
            reply("full", ""),
            reply("gone", ""),
            reply("repeated", ""),
            reply("live", ""),
            reply("over", ""),
            reply("unknown", ""),
        ],
    ),
    requests::CHILD_ENDED,
    requests::CANCEL,
    requests::RETRY,
    requests::ANSWER,
    requests::PAUSE,
    requests::RESUME,
    requests::FORKABLE,
    requests::FORK,
    requests::ENTITY,
    transition(
        "register",
        "fleet.lua",
        "worker",
        "registers a worker, with a lease and what it serves",
        &[own(&[
            text("worker"),
            ms("lease"),
            line("class"),
            list("about", &[text("field"), line("value")]),
            list("queues", &[line("queue")]),
            list("served", &[line("queue"), line("registration")]),
        ])],
        &[reply("ok", "now")],
    ),
    transition(
        "heartbeat",
        "fleet.lua",
        "worker",
        "renews a lease that still exists; names what the worker may drop",
        &[own(&[text("worker"), ms("lease"), line("client"), digits("since"), flag("idle")])],
        &[reply("ok", "now [run or group...] drain?"), reply("lost", "now [] 0")],
    ),
    transition(
        "release",
        "fleet.lua",
        "worker",
        "gives back holds that the worker does not know, or has dropped",
        &[own(&[
            text("worker"),
            list("fences", &[digits("slot"), text("run"), digits("seq"), digits("attempt"), digits("call")]),
        ])],
        &[answer("moved")],
    ),
    transition(
        "deregister",
        "fleet.lua",
        "worker",
        "gives everything back and forgets the worker, a slice of its holds at a time",
        &[own(&[text("worker"), number("limit")])],
        &[reply("ok", "moved"), reply("more", "moved")],
    ),
    transition(
        "reap",
        "fleet.lua",
        "coordinator",
        "takes back what lost workers held; wakes workers for queues that still have entries",
        &[own(&[
            number("limit"),
            number("max_losses"),
            ms("retention"),
            list("suspects", &[text("worker"), digits("client")]),
        ])],
        &[answer("moved more [reaped...] workers [late...] [workflow status...]")],
    ),
    transition(
        "fire",
        "fleet.lua",
        "coordinator",
        "fires due timers; says when the next one is due",
        &[own(&[number("limit"), ms("retention")])],
        &[answer("now fired more wait late [workflow status...]")],
    ),
    transition(
        "audit",
        "audit.lua",
        "coordinator",
        "looks for breaches in one key, or a slice of a large one, and repairs them if requested",
        &[own(&[flag("fix"), number("max_losses"), ms("retention"), text("kind"), text("name"), text("cursor_at")])],
        &[answer("cursor [of what...]")],
    ),
    transition(
        "waits",
        "journal.lua",
        "anyone",
        "shows what a run waits for, a slice at a time; changes nothing",
        &[own(&[text("run"), text("cursor")])],
        &[answer("cursor [[name wait step]...]")],
    ),
    transition(
        "questions",
        "question.lua",
        "anyone",
        "shows the open questions of a run or of all runs, the oldest first; changes nothing",
        &[own(&[text("run"), number("from"), number("count")])],
        &[answer("[[run question asked due text]...]")],
    ),
];
