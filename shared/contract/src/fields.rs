//! The fields of the hashes that several transitions share.

/// A field of a hash.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name; `<...>` stands for what follows a letter.
    pub name: &'static str,
    /// What it holds.
    pub holds: &'static str,
}

const fn field(name: &'static str, holds: &'static str) -> Field {
    Field { name, holds }
}

/// The fields of `steps:<id>`.
pub const STEPS_FIELDS: &[Field] = &[
    field(
        "meta",
        "`<workflow> <version> <content>`; its durability, if it has one; and `follow` if followers are told about the steps",
    ),
    field("last", "the highest `seq` given out"),
    field("born", "when the run was created (ms); exists until the history has its first record"),
    field("parent", "`<run> <name of the wait>`: the run that waits for this one, if any"),
    field("limited", "set if the run has a timeout"),
    field("<seq>", "the state of a step execution that has not ended, one line"),
    field("e<seq>", "its record; removed with the state"),
    field(
        "k<seq>",
        "while it waits: the worker that has its body in memory, and the numbers of what it waits for, separated by spaces; \
         removed with the next claim",
    ),
    field("m<seq>", "its last checkpoint that had a mark: `<line>.<mark>`; removed with the state"),
    field("n<group>", "how many step executions of the group have not ended; group 0 is the run itself"),
    field(
        "f<group>",
        "the fan-out that the step execution `<group>` opened: its parent group, and a line `<step> <flags> <event>[ <first>]` for each step that joins it; `<first>` is how many events are enough, `fired` once the step has begun",
    ),
    field("q<group>", "where the entry is that begins the next staged branches of a fan-out"),
    field("t<step>", "how many turns of a step with a limit are taken"),
    field("w<name>", "the waits that are open for signals of that name, oldest first"),
    field("failed", "the step execution that failed the run, if any; only in `stopped`"),
    field("u<step>", "how many turns were to be passed on when the run failed; only in `stopped`"),
    field(
        "paused",
        "since when the run is paused (ms), while it is; `line` while it waits for its turn in its session, and `line \
         <ms>` if it is paused too",
    ),
    field("closed", "exists once a fan-out of the run was closed before all of it had ended"),
    field(
        "context",
        "the version of the context: raised by each commit and checkpoint that changes it; exists once it has had fields",
    ),
    field("bare", "the version of the context that has no fields, so that its absence is no loss"),
    field("events", "how many entries the run has published; exists once it has published any"),
    field("broad", "nothing: its length takes the hash out of Redis' compact form before it grows"),
];

/// The fields of `run:<id>`.
pub const RUN_FIELDS: &[Field] = &[
    field("status", "`queued`, `running`, `paused`, `completed`, `failed`, `cancelled` or `rejected`"),
    field("workflow", "the workflow"),
    field("version", "the version that the run is pinned to"),
    field("content", "`json` or `msgpack`: how input and result are written"),
    field("created", "when it was created (ms)"),
    field("started", "when the first step that takes the input was begun (ms)"),
    field("finished", "when it ended (ms)"),
    field("expires", "when it will be forgotten (ms)"),
    field("timeout", "how long it may take (ms)"),
    field("deadline", "when its timeout is over (ms)"),
    field("result", "the stop event"),
    field("error", "why it did not complete"),
    field("error_step", "the step that failed; `-` if none did"),
    field("error_attempt", "the attempt that failed"),
    field(
        "durability",
        "`fsync` or `replicas:<n>`: how safe its progress must be before it goes on; exists if that is more than `none`",
    ),
    field("session", "the session that it is in"),
    field("based", "the version of the session's context that its own began with; exists once its turn has come"),
    field("parent", "the run that this one is a child of"),
    field("compensation", "`running`, `failed` or `done`: the state of its compensations, if it has any to carry out"),
    field("forked", "the run that it was forked from"),
    field("forked_at", "the step execution that it began with, if that was not the first one"),
];

/// The fields of `worker:<id>`.
pub const WORKER_FIELDS: &[Field] = &[
    field("since", "when it registered (ms)"),
    field("queues", "the queues that it serves, with spaces between"),
    field("class", "a digest of these queues: it stands for all workers that serve the same"),
    field("host", "its host"),
    field("pid", "its process id"),
    field("concurrency", "how many slots it has"),
];
