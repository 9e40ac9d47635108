//! The keys of a partition.

/// What Redis keeps under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A string.
    Text,
    /// A hash.
    Hash,
    /// A list.
    List,
    /// A set.
    Set,
    /// A sorted set.
    SortedSet,
    /// A stream.
    Stream,
    /// A channel of `PUBLISH`: nothing is kept.
    Channel,
}

/// A kind of key. Each begins with `<namespace>:{<partition>}:`.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The word that follows the prefix.
    pub kind: &'static str,
    /// What follows the kind after a colon; empty if there is one key of this kind.
    pub of: &'static str,
    /// What Redis keeps there.
    pub form: Type,
    /// What it holds.
    pub holds: &'static str,
    /// Callers may rely on it: it is described in `docs/protocol.md`.
    pub is_public: bool,
}

const fn internal(kind: &'static str, of: &'static str, form: Type, holds: &'static str) -> Key {
    Key { kind, of, form, holds, is_public: false }
}

const fn public(kind: &'static str, of: &'static str, form: Type, holds: &'static str) -> Key {
    Key { kind, of, form, holds, is_public: true }
}

/// All kinds of keys and channels.
pub const KEYS: &[Key] = &[
    public("inbox", "", Type::Stream, "requests; consumer group `coordinators`"),
    public("rejected", "", Type::Stream, "requests that could not be taken, with the reason"),
    public(
        "deferred",
        "",
        Type::Hash,
        "run id -> `<since ms> <request as MessagePack>`: requests that wait for a worker",
    ),
    public("key", "<workflow>:<key>", Type::Text, "the run that an idempotency key stands for; expires after a day"),
    public("alias", "<id>", Type::Text, "the run that a request with this id turned out to be; expires after a day"),
    public(
        "request",
        "<id>:<request>",
        Type::Text,
        "the outcome of a request about a run that had an id of its own: `taken`, `kept` for later, or `rejected <reason>`; expires after a day",
    ),
    public(
        "reply",
        "<name>",
        Type::List,
        "receipts for callers that named this list in a request, as JSON, the newest 1,000; expires a day after the last",
    ),
    internal(
        "sent",
        "<id>",
        Type::List,
        "events that were sent to a run whose request is held, `<event> <step> <content>` and the input on the next \
         line; they go back to the inbox when the request is no longer held; and `paused` if the run is to start \
         paused",
    ),
    internal(
        "reserved",
        "<workflow>:<key>",
        Type::Text,
        "with several partitions, `<ticket> <inbox>/<entry>`: the reservation of the key, and where its request is",
    ),
    internal(
        "void",
        "<id>:<ticket>",
        Type::Text,
        "no run of this id is created under this ticket any more; expires after a day",
    ),
    internal(
        "taken",
        "<entry>@<partition>",
        Type::Text,
        "this entry of another partition's inbox was processed here; expires after an hour",
    ),
    internal(
        "barrier",
        "",
        Type::Text,
        "a process writes it and then waits until everything before it is on disk or on replicas; expires after a minute",
    ),
    public(
        "functions",
        "",
        Type::Hash,
        "version of the contract for other languages -> how the names of its functions begin",
    ),
    internal("runs", "", Type::SortedSet, "run id by the time when it was created (ms)"),
    public("run", "<id>", Type::Hash, "the run: status, workflow, times, result or error"),
    public("input", "<id>", Type::Text, "the run's input, as it was sent"),
    internal(
        "begun",
        "<id>",
        Type::Hash,
        "the initial context, if it had any fields: a fork of the run begins with it too",
    ),
    internal("context", "<id>", Type::Hash, "the context: field -> value"),
    public("history", "<id>", Type::List, "one record for each thing that happened"),
    public(
        "events",
        "<id>",
        Type::Stream,
        "what the run publishes for its followers; exists once it has published any",
    ),
    internal("steps", "<id>", Type::Hash, "the step executions of a live run"),
    internal(
        "stopped",
        "<id>",
        Type::Hash,
        "the steps hash of a run that failed or was cancelled, out of reach of all fences",
    ),
    internal(
        "joined",
        "<id>:<group>:<step>",
        Type::List,
        "events that a fan-out has joined so far; with `+<slot>` parts of sets, with `*<buffer>` what is being collected",
    ),
    internal("fan", "<id>:<group>", Type::List, "records of the branches of a fan-out that have no step execution yet"),
    internal(
        "journal",
        "<id>:<seq>",
        Type::Hash,
        "what the body of a step execution has recorded, by the number of the call; after a failed attempt also `error`, the last error, and `began`, when the first attempt that failed began (ms)",
    ),
    internal(
        "signals",
        "<id>:<name>",
        Type::Hash,
        "signals that came before their wait: `<number>` -> payload, `a<number>` -> attributes, `last` the number given out last",
    ),
    internal(
        "published",
        "<id>:<seq>",
        Type::Hash,
        "what a step execution has published: `<call>.<number>` -> the first 16 digits of a digest of the event; once there are too many `last`, the last one alone; and of each stream `s<call>.<number>` -> `<take> <bytes> <1 once it has ended>`, and its text in blocks, `s<call>.<number>:<block>`",
    ),
    public(
        "questions",
        "",
        Type::SortedSet,
        "questions that are open, by the ms when they were asked: `<id> <number>`",
    ),
    public(
        "asked",
        "<id>",
        Type::Hash,
        "questions of a run: `<number>` -> the question as JSON, `d<number>` -> its deadline (ms), if it has one",
    ),
    public(
        "session",
        "<name>",
        Type::Hash,
        "a session: `running`, the run whose turn it is; `version`, how many of its runs have completed; `expires`, \
         when it will be forgotten (ms), if none of its runs is active",
    ),
    public(
        "line",
        "<name>",
        Type::List,
        "the active runs of a session: the one whose turn it is, and those that wait for theirs",
    ),
    public(
        "entity",
        "<kind>:<key>",
        Type::Hash,
        "an entity: `value`, if it has one; `version`, raised by each change; `bytes`, how large its `results` are",
    ),
    internal("results", "<kind>:<key>", Type::Hash, "the results of an entity's last calls, by the id of the call"),
    internal("calls", "<kind>:<key>", Type::List, "these calls, the oldest first"),
    public("shared", "<name>", Type::Hash, "the context that the runs of a session share: field -> value"),
    internal(
        "children",
        "<id>",
        Type::Hash,
        "child runs that a run waits for: `<seq>.<number>` of the wait -> `<child> <name of the wait>`, and ` failed` once it has",
    ),
    internal(
        "undo",
        "<id>",
        Type::List,
        "compensations: `<u, or a for always> <child> <name of the wait>`, and the request on the next line; the last is carried out first",
    ),
    internal("turns", "<id>:<step>", Type::List, "step executions of a step with a limit that wait for their turn"),
    internal(
        "extra",
        "<id>",
        Type::Set,
        "the `joined`, `fan`, `journal`, `published`, `turns`, `signals`, `asked`, `children` and `undo` keys that the run has, the `session` key that it is in, and the `reply` keys of those who are told of its end",
    ),
    internal(
        "queue",
        "<workflow>:<version>",
        Type::Stream,
        "step events that are new; group `workers`, without a pending list",
    ),
    internal(
        "requeued",
        "<workflow>:<version>",
        Type::Stream,
        "step events that are queued again, or have waited for a timer, a signal or a turn; group `workers`, without a pending list",
    ),
    internal("queues", "", Type::Set, "the names of these streams"),
    internal("ready", "", Type::Set, "`<workflow>:<version>` of each `queue` that may have entries"),
    internal("urgent", "", Type::Set, "`<workflow>:<version>` of each `requeued` that may have entries"),
    internal(
        "alone",
        "<workflow>:<version>",
        Type::Stream,
        "step events that are to be executed alone; group `workers`, without a pending list",
    ),
    internal("lonely", "", Type::Set, "`<workflow>:<version>` of each `alone` that may have entries"),
    internal("drain", "", Type::Text, "the worker that makes room for an entry of `alone`; expires with a lease"),
    internal("serves", "<class>", Type::Set, "the queues that the workers of a class serve"),
    internal("classes", "<workflow>:<version>", Type::Set, "the classes whose workers serve a queue"),
    internal("idle", "<class>", Type::Set, "workers of the class whose last claim got less than it asked for"),
    public("wake", "<worker>", Type::List, "wake-ups that the worker has not taken: the queue that each is about"),
    internal("timers", "", Type::SortedSet, "what is due when (ms)"),
    internal("leases", "", Type::SortedSet, "worker by the ms when its lease runs out"),
    internal("clients", "", Type::Hash, "worker -> Redis' id of the connection that renews its lease"),
    internal("held", "<worker>", Type::Hash, "slot -> what the worker holds in it"),
    internal("worker", "<id>", Type::Hash, "the worker, as it registered"),
    public("workflows", "", Type::Hash, "`<workflow>:<version>` -> its registration as JSON, with its graph"),
    internal("departed", "", Type::Hash, "`<workflow>:<version>` -> when the last worker that served it left (ms)"),
    internal(
        "cancelled",
        "",
        Type::SortedSet,
        "what workers may drop, by ms, for ten minutes: a run, or `<run> <group>`",
    ),
    internal("counters", "", Type::Hash, "`repaired`: how many breaches audits have repaired"),
    public("ended", "<id>", Type::Channel, "the status of a run that ends"),
    internal(
        "alarm",
        "",
        Type::Channel,
        "that a timer is due before all others, or that a worker has come: coordinators look at once",
    ),
];
