//! The transitions: each is one Redis Function.

/// What an argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Text that Lua passes on or compares.
    Text,
    /// Bytes that Lua never looks into.
    Bytes,
    /// A whole number that Lua counts with.
    Number,
    /// Milliseconds.
    Ms,
    /// 1 or 0.
    Flag,
    /// How many arguments follow, and these: what stands there again and again.
    List(&'static [&'static str]),
}

/// An argument, under the name that Lua gives it.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub form: Form,
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
    /// Its arguments in order, in groups that several share.
    pub args: &'static [&'static [Arg]],
    /// The forms of its reply. Each begins with a word, unless there is one form only.
    pub replies: &'static [&'static str],
}

/// A short way: several travel in one call of `short`.
#[derive(Clone, Copy, Debug)]
pub struct ShortWay {
    /// The letter that asks for it.
    pub letter: char,
    /// The function of `lua/short.lua`.
    pub name: &'static str,
    /// What it does.
    pub does: &'static str,
    /// Its arguments at fixed places.
    pub args: &'static [&'static str],
    /// Whether fields of the context and their values follow.
    pub has_fields: bool,
    /// Its replies, beside 0: the long way is to be gone.
    pub replies: &'static [&'static str],
}

const fn text(name: &'static str) -> Arg {
    Arg { name, form: Form::Text }
}

const fn bytes(name: &'static str) -> Arg {
    Arg { name, form: Form::Bytes }
}

const fn number(name: &'static str) -> Arg {
    Arg { name, form: Form::Number }
}

const fn ms(name: &'static str) -> Arg {
    Arg { name, form: Form::Ms }
}

const fn flag(name: &'static str) -> Arg {
    Arg { name, form: Form::Flag }
}

const fn list(name: &'static str, of: &'static [&'static str]) -> Arg {
    Arg { name, form: Form::List(of) }
}

/// Who calls, which of its calls this is, and whether an earlier try may have taken effect.
const CALLER: &[Arg] = &[text("worker"), text("call"), flag("again")];
/// The slot whose step execution ends, what it wants next (0 nothing, 1 what follows, 2 others first), and the queue that was
/// served last.
const SLOT: &[Arg] = &[text("slot"), text("next"), text("after")];
const FENCE: &[Arg] = &[text("run"), text("seq"), text("line")];
const PLACE: &[Arg] = &[text("scope"), text("step")];
const CHANGES: &[Arg] = &[
    list("set", &["field", "value"]),
    list("unset", &["field"]),
    list("merges", &["field", "form", "operand"]),
    list("expects", &["field", "sha1"]),
];
const WAITS: &[Arg] = &[list("waits", &["number", "name", "deadline", "filter"])];
const COMMITTED: &[&str] = &["ok [item]", "fenced [item]"];

const fn transition(
    name: &'static str,
    file: &'static str,
    by: &'static str,
    does: &'static str,
    args: &'static [&'static [Arg]],
    replies: &'static [&'static str],
) -> Transition {
    Transition { name, file, by, does, args, replies }
}

/// All transitions, in the order of a run's way.
pub const TRANSITIONS: &[Transition] = &[
    transition(
        "start",
        "start.lua",
        "coordinator",
        "creates a run and queues its start events, unless its id or idempotency key is known",
        &[&[
            text("run"),
            text("workflow"),
            text("version"),
            text("content"),
            bytes("input"),
            text("key"),
            ms("key_ttl"),
            ms("delay"),
            text("entry"),
            ms("timeout"),
            list("heads", &["record"]),
            flag("followed"),
            text("from"),
            list("fields", &["field", "value"]),
            text("ticket"),
        ]],
        &["started run", "exists run", "no source run", "void run"],
    ),
    transition(
        "reserve",
        "across.lua",
        "coordinator",
        "keeps an idempotency key for a run of another partition, unless it is kept",
        &[&[text("workflow"), text("key"), text("run"), text("ticket"), text("place"), ms("ttl")]],
        &["run ticket place"],
    ),
    transition(
        "reserved",
        "across.lua",
        "coordinator",
        "says which run an idempotency key is kept for",
        &[&[text("workflow"), text("key")]],
        &["run ticket place"],
    ),
    transition(
        "let_go",
        "across.lua",
        "coordinator",
        "gives an idempotency key up that is kept for this run",
        &[&[text("workflow"), text("key"), text("run"), text("ticket")]],
        &["ok", "other"],
    ),
    transition(
        "void",
        "across.lua",
        "coordinator",
        "sees to it that no run of this id is created under a ticket any more",
        &[&[text("run"), text("ticket")]],
        &["void", "exists", "deferred"],
    ),
    transition(
        "alias",
        "across.lua",
        "coordinator",
        "leads from the id of a request that repeats another to that one's run, in whatever partition",
        &[&[text("run"), text("known"), text("entry"), ms("ttl")]],
        &["ok"],
    ),
    transition(
        "defer",
        "start.lua",
        "coordinator",
        "keeps a request whose workflow no worker serves yet",
        &[&[
            text("run"),
            bytes("request"),
            text("entry"),
            number("limit"),
            text("workflow"),
            text("key"),
            ms("key_ttl"),
        ]],
        &["deferred now", "exists now", "full now"],
    ),
    transition(
        "reject",
        "start.lua",
        "coordinator",
        "keeps a request that cannot be taken, with the reason",
        &[&[
            text("entry"),
            text("deferred"),
            text("run"),
            text("reason"),
            text("limit"),
            ms("retention"),
            list("fields", &["field", "value"]),
        ]],
        &["rejected run", "gone run"],
    ),
    transition(
        "claim",
        "claim.lua",
        "worker",
        "fills free slots with step events, those queued again first; a worker that gets less than it asked for is idle",
        &[CALLER, &[text("after"), list("slots", &["slot"]), flag("alone")]],
        &["ok [item...] alone?", "lost [] 0"],
    ),
    transition(
        "checkpoint",
        "journal.lua",
        "worker",
        "records entries and changes the context of a step that goes on; opens waits and answers those that have ended",
        &[
            FENCE,
            &[text("mark")],
            CHANGES,
            &[list("entries", &["number", "entry"]), list("gone", &["number", "name"])],
            WAITS,
        ],
        &["ok [number entry...]", "fenced", "full", "conflict", "refused field wrong"],
    ),
    transition(
        "collect",
        "collect.lua",
        "worker",
        "puts an event into a buffer of a step that executes; who fills it gets all that is in it",
        &[FENCE, &[text("scope"), text("step"), text("number"), text("buffer"), number("count"), bytes("payload")]],
        &["ok entry", "fenced", "full"],
    ),
    transition(
        "publish",
        "publish.lua",
        "worker",
        "adds an event to what the run publishes, at once, unless it is there already",
        &[
            &[text("worker"), text("run"), text("seq"), text("attempt"), text("line"), text("place")],
            &[text("step"), text("event"), text("content"), bytes("data"), text("digest")],
        ],
        &["ok", "fenced"],
    ),
    transition(
        "stage",
        "fan.lua",
        "worker",
        "writes a chunk of a large fan-out ahead of its commit",
        &[FENCE, &[number("offset"), list("records", &["record"])]],
        &["ok length", "fenced 0"],
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
            &[
                list("joins", &["step", "event"]),
                list("parts", &["slot", "slots", "header", "payload"]),
                list("emits", &["record"]),
                flag("fan"),
                list("heads", &["header"]),
                number("staged"),
                text("consumed"),
                text("journal"),
                flag("rests"),
                list("stop", &["result"]),
                ms("retention"),
                list("caught", &["error"]),
                text("emitted"),
            ],
        ],
        &["ok [item]", "fenced [item]", "unstaged []", "conflict []", "refused [] field wrong"],
    ),
    transition(
        "short",
        "short.lua",
        "worker",
        "the short ways of commits, checkpoints and starts, several in one call",
        &[&[list("ways", &["letter", "count", "argument..."])]],
        &["an answer for each"],
    ),
    transition(
        "fail",
        "commit.lua",
        "worker",
        "ends a failed attempt (`retry` later, or `fail` the run) and fills its slot again",
        &[CALLER, SLOT, FENCE, PLACE, &[text("mode"), ms("delay"), text("reason"), ms("retention")]],
        COMMITTED,
    ),
    transition(
        "suspend",
        "journal.lua",
        "worker",
        "ends an attempt that waits, until one of its waits has ended, and fills its slot again",
        &[CALLER, SLOT, FENCE, PLACE, WAITS],
        &["ok [item]", "fenced [item]", "full []"],
    ),
    transition(
        "signal",
        "signal.lua",
        "coordinator",
        "gives a signal to the oldest wait that it fits, or keeps it",
        &[&[text("asked"), text("name"), text("attributes"), bytes("payload"), text("entry")]],
        &["delivered", "kept", "full", "gone", "over", "unknown"],
    ),
    transition(
        "send",
        "collect.lua",
        "coordinator",
        "gives a run events from outside",
        &[&[text("asked"), text("entry"), list("list", &["record"])]],
        &["delivered", "full", "gone", "over", "unknown"],
    ),
    transition(
        "cancel",
        "signal.lua",
        "coordinator",
        "ends a run where it stands",
        &[&[text("asked"), text("entry"), ms("retention")]],
        &["cancelled", "gone", "over", "unknown"],
    ),
    transition(
        "register",
        "fleet.lua",
        "worker",
        "makes a worker known, with a lease and what it serves",
        &[&[
            text("worker"),
            ms("lease"),
            text("class"),
            list("about", &["field", "value"]),
            list("queues", &["queue"]),
            list("served", &["queue", "registration"]),
        ]],
        &["ok now"],
    ),
    transition(
        "heartbeat",
        "fleet.lua",
        "worker",
        "renews a lease that is still there; names what need not be gone on with",
        &[&[text("worker"), ms("lease"), text("client"), text("since")]],
        &["ok now [run or scope...] drain?", "lost now [] 0"],
    ),
    transition(
        "release",
        "fleet.lua",
        "worker",
        "gives back holds that the worker knows nothing of, or has dropped",
        &[&[text("worker"), list("fences", &["slot", "run", "seq", "attempt", "call"])]],
        &["moved"],
    ),
    transition(
        "deregister",
        "fleet.lua",
        "worker",
        "gives everything back and forgets the worker, a slice of its holds at a time",
        &[&[text("worker"), number("limit")]],
        &["ok moved", "more moved"],
    ),
    transition(
        "tick",
        "fleet.lua",
        "coordinator",
        "reaps workers that are gone, fires due timers, wakes workers for queues that still have entries",
        &[&[number("limit"), number("max_losses"), ms("retention"), list("suspects", &["worker", "client"])]],
        &["now moved fired more wait [reaped...] workers"],
    ),
    transition(
        "audit",
        "audit.lua",
        "coordinator",
        "looks at one key, or a slice of a large one, for what is missing, and mends it where asked",
        &[&[flag("fix"), number("max_losses"), ms("retention"), text("kind"), text("name"), text("cursor_at")]],
        &["cursor [of what...]"],
    ),
    transition(
        "waits",
        "journal.lua",
        "anyone",
        "shows what a run waits for, a slice at a time; changes nothing",
        &[&[text("run"), text("cursor")]],
        &["cursor [[name wait step]...]"],
    ),
];

/// All short ways.
pub const SHORT_WAYS: &[ShortWay] = &[
    ShortWay {
        letter: 'h',
        name: "hand_over",
        does: "a commit whose only successor goes on in the same slot",
        args: &["worker", "call", "slot", "run", "number", "line", "history", "record", "version"],
        has_fields: true,
        replies: &["number time version", "number time version context"],
    },
    ShortWay {
        letter: 'b',
        name: "end_branch",
        does: "a commit of a branch that leaves nothing but one event for a join, or nothing",
        args: &["worker", "call", "slot", "run", "number", "line", "history", "after", "scope", "join", "event"],
        has_fields: true,
        replies: &["1", "item"],
    },
    ShortWay {
        letter: 'e',
        name: "end_run",
        does: "a commit with the stop event, where nothing else of the run is under way and nobody follows it",
        args: &["worker", "call", "slot", "run", "number", "line", "history", "after", "end", "result", "retention"],
        has_fields: true,
        replies: &["1", "item"],
    },
    ShortWay {
        letter: 'r',
        name: "record",
        does: "a checkpoint that records one entry and does nothing else",
        args: &["run", "number", "line", "call", "entry"],
        has_fields: false,
        replies: &["1"],
    },
    ShortWay {
        letter: 's',
        name: "start_run",
        does: "a start with one step that takes the input at once, and nothing else to it",
        args: &["run", "workflow", "version", "content", "input", "entry", "record"],
        has_fields: false,
        replies: &["1"],
    },
];
