//! Bounds, and where they stand in the sources.

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Ms,
}

/// A bound.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// The name of its constant, the same wherever it stands.
    pub name: &'static str,
    /// Its value, in `unit`.
    pub value: u64,
    /// What it counts.
    pub unit: Unit,
    /// What is bounded.
    pub of: &'static str,
    /// The files of Rust that have the constant, and those of Lua that use it, as paths from the root of the repository.
    pub at: &'static [&'static str],
}

const fn limit(name: &'static str, value: u64, unit: Unit, of: &'static str, at: &'static [&'static str]) -> Limit {
    Limit { name, value, unit, of, at }
}

/// All of them.
pub const LIMITS: &[Limit] = &[
    limit(
        "MAX_RESULT",
        1024 * 1024,
        Unit::Bytes,
        "the result of a plain task",
        &["shared/src/store/redis/lua/plain.lua"],
    ),
    limit(
        "MAX_REGISTRATION",
        256 * 1024,
        Unit::Bytes,
        "a registration by a worker in another language",
        &["shared/src/store/redis/lua/plain.lua"],
    ),
    limit(
        "MAX_ERROR",
        2000,
        Unit::Bytes,
        "the error of a plain task; the rest is cut off",
        &["shared/src/store/redis/lua/plain.lua"],
    ),
    limit(
        "VOID_MS",
        86_400_000,
        Unit::Ms,
        "how long no run of an id is created under a ticket that was made void",
        &["shared/src/store/redis/lua/across.lua"],
    ),
    limit(
        "MAX_EXECUTIONS",
        1_000_000,
        Unit::Count,
        "step executions of a run",
        &["shared/src/store/redis/lua/commit.lua", "shared/src/store/memory/commit.rs"],
    ),
    limit(
        "MAX_ENTRIES",
        10_000,
        Unit::Count,
        "entries and waits in the journal of a step execution",
        &["shared/src/store/redis/lua/journal.lua", "shared/src/store/mod.rs"],
    ),
    limit(
        "MAX_WAITS",
        1000,
        Unit::Count,
        "open waits of one name in a run",
        &["shared/src/store/redis/lua/journal.lua", "shared/src/store/mod.rs"],
    ),
    limit(
        "MAX_SIGNALS",
        1000,
        Unit::Count,
        "kept signals of one name in a run",
        &["shared/src/store/redis/lua/signal.lua", "shared/src/store/memory/signal.rs"],
    ),
    limit(
        "HISTORY_MAX",
        100_000,
        Unit::Count,
        "records in a history, the newest",
        &["shared/src/store/redis/lua/common.lua", "shared/src/store/memory/data.rs"],
    ),
    limit(
        "MAX_EVENTS",
        10_000,
        Unit::Count,
        "entries in `events:<id>`, about, the newest",
        &["shared/src/store/redis/lua/common.lua"],
    ),
    limit(
        "MAX_REMEMBERED",
        10_000,
        Unit::Count,
        "places of published events that are remembered for a step execution",
        &["shared/src/store/redis/lua/publish.lua"],
    ),
    limit("MAX_PAYLOAD", 1_048_576, Unit::Bytes, "an input, event, context value or result", &["shared/src/codec.rs"]),
    limit(
        "MAX_VALUE",
        1_048_576,
        Unit::Bytes,
        "a list or map of the context after a merge",
        &["shared/src/store/redis/lua/context.lua"],
    ),
    limit(
        "MAX_DIGITS",
        18,
        Unit::Count,
        "digits of a whole number of the context",
        &["shared/src/store/redis/lua/context.lua", "shared/src/values.rs"],
    ),
    limit(
        "MAX_EXACT",
        15,
        Unit::Count,
        "digits of a group: Lua and workers read so many alike",
        &["shared/src/store/redis/lua/common.lua"],
    ),
    limit(
        "MAX_DEFERRED",
        10_000,
        Unit::Count,
        "requests held for a worker",
        &["shared/src/store/redis/coordinator.rs", "shared/src/store/memory/start.rs"],
    ),
    limit(
        "MAX_REJECTED",
        10_000,
        Unit::Count,
        "entries in `rejected`, about, the newest",
        &["shared/src/store/redis/coordinator.rs", "shared/src/store/memory/start.rs"],
    ),
    limit(
        "MAX_REJECTED_FIELDS",
        32,
        Unit::Count,
        "fields that are kept of a rejected request",
        &["shared/src/store/redis/coordinator.rs", "shared/src/store/memory/start.rs"],
    ),
    limit(
        "REJECTED_RETENTION",
        86_400_000,
        Unit::Ms,
        "a rejected request is shown as a run for so long",
        &["shared/src/store/redis/coordinator.rs", "shared/src/store/memory/mod.rs"],
    ),
    limit(
        "DAMAGED_RETENTION",
        604_800_000,
        Unit::Ms,
        "a run that failed because its keys are damaged stays readable for so long",
        &["shared/src/store/redis/lua/claim.lua"],
    ),
    limit(
        "FAN_INLINE",
        8,
        Unit::Count,
        "branches that are begun by the commit that opens a fan-out; the rest is staged",
        &["shared/src/store/redis/lua/fan.lua", "shared/src/store/memory/fan.rs"],
    ),
    limit(
        "FAN_BATCH",
        64,
        Unit::Count,
        "staged branches that are queued by whoever takes the entry of their fan-out",
        &["shared/src/store/redis/lua/fan.lua", "shared/src/store/memory/claim.rs"],
    ),
    limit(
        "INLINE_EVENTS",
        200,
        Unit::Count,
        "new step executions in one commit; a larger fan-out is staged in chunks of so many",
        &["worker/src/decisions/plan.rs"],
    ),
    limit("INLINE_BYTES", 524_288, Unit::Bytes, "their payloads", &["worker/src/decisions/plan.rs"]),
    limit(
        "TURNS",
        500,
        Unit::Count,
        "step executions that wait for a turn and are looked at in one call",
        &["shared/src/store/redis/lua/fan.lua"],
    ),
    limit(
        "CLOSE_SLICE",
        1000,
        Unit::Count,
        "fields of the steps hash that one call discards what is void from",
        &["shared/src/store/redis/lua/fan.lua"],
    ),
    limit(
        "READS",
        3,
        Unit::Count,
        "reads of queues in one call",
        &["shared/src/store/redis/lua/claim.lua", "shared/src/store/memory/claim.rs"],
    ),
    limit(
        "TRIM_EVERY",
        16,
        Unit::Count,
        "calls of a worker between two trims of a queue that is not empty",
        &["shared/src/store/redis/lua/claim.lua"],
    ),
    limit("CHUNK", 500, Unit::Count, "values in one Redis command", &["shared/src/store/redis/lua/common.lua"]),
    limit(
        "SOON",
        60_000,
        Unit::Ms,
        "a timer that is due later than this raises no alarm",
        &["shared/src/store/redis/lua/common.lua"],
    ),
    limit(
        "REAPED",
        5,
        Unit::Count,
        "workers whose lease ran out and that one `reap` begins with",
        &["shared/src/store/redis/lua/fleet.lua"],
    ),
    limit("EXPIRED_LIMIT", 5, Unit::Count, "the same in the memory store", &["shared/src/store/memory/fleet.rs"]),
    limit(
        "MOST_CALLS",
        2,
        Unit::Count,
        "calls of short ways that a process has under way",
        &["shared/src/store/redis/short.rs"],
    ),
    limit(
        "MOST_COMMITS",
        32,
        Unit::Count,
        "commits and checkpoints in one call of short ways",
        &["shared/src/store/redis/short.rs"],
    ),
    limit("MOST_BYTES", 524_288, Unit::Bytes, "their arguments", &["shared/src/store/redis/short.rs"]),
    limit(
        "MAX_SHORT_FIELDS",
        100,
        Unit::Count,
        "context fields that a short way writes",
        &["shared/src/step/commit.rs"],
    ),
    limit("MOST_CLAIMED", 64, Unit::Count, "slots that one claim fills", &["worker/src/runtime/slots.rs"]),
    limit(
        "MOST_IN_A_ROW",
        100,
        Unit::Count,
        "steps of one run in a row in a slot, while others wait",
        &["worker/src/runtime/slots.rs"],
    ),
    limit("LONGEST_ROW", 250, Unit::Ms, "the same as a time", &["worker/src/runtime/slots.rs"]),
    limit(
        "GRACE",
        25,
        Unit::Ms,
        "a body that waits is woken for so long before its attempt ends",
        &["worker/src/runtime/drive.rs"],
    ),
    limit(
        "MAX_CONFLICTS",
        1000,
        Unit::Count,
        "conflicts of one attempt before it fails",
        &["worker/src/context/conflict.rs"],
    ),
    limit(
        "BLOCK",
        2000,
        Unit::Ms,
        "a blocking read of the inbox or of what a run publishes",
        &["shared/src/store/redis/readers.rs", "shared/src/store/memory/readers.rs"],
    ),
    limit(
        "IDLE_BLOCK",
        20_000,
        Unit::Ms,
        "an idle worker looks by itself after so long",
        &["shared/src/store/redis/readers.rs"],
    ),
    limit(
        "INBOX_BATCH",
        128,
        Unit::Count,
        "requests that a coordinator reads at once",
        &["shared/src/store/redis/readers.rs", "shared/src/store/memory/start.rs"],
    ),
    limit(
        "DEPARTED",
        100,
        Unit::Count,
        "a coordinator that has not read for so many times the idle time of `reclaim` has departed",
        &["shared/src/store/redis/readers.rs"],
    ),
    limit(
        "EVENTS_BATCH",
        128,
        Unit::Count,
        "published entries that a follower reads at once",
        &["shared/src/store/redis/readers.rs"],
    ),
    limit(
        "MAX_PUBLISHED_READ",
        1000,
        Unit::Count,
        "published entries that one read answers",
        &["shared/src/store/mod.rs"],
    ),
    limit(
        "MAX_SLICE",
        1000,
        Unit::Count,
        "joined events that one read answers",
        &["shared/src/store/redis/worker.rs", "shared/src/store/memory/reads.rs"],
    ),
    limit(
        "SLICE",
        500,
        Unit::Count,
        "joined events that a worker asks for at once",
        &["worker/src/runtime/execute.rs"],
    ),
    limit("SHOWN_WAITS", 1000, Unit::Count, "waits of a run that are shown", &["shared/src/store/mod.rs"]),
    limit(
        "SLICE",
        500,
        Unit::Count,
        "fields or holds that one call of `audit` looks at",
        &["shared/src/store/redis/lua/audit.lua"],
    ),
    limit(
        "SLICE",
        500,
        Unit::Count,
        "keys that one `SCAN` of an audit looks at, about",
        &["shared/src/store/redis/audit.rs"],
    ),
    limit(
        "OLDEST",
        500,
        Unit::Count,
        "step executions, from the first on, that are looked at to name what was active at a timeout",
        &["shared/src/store/redis/lua/timeout.lua", "shared/src/store/memory/timeout.rs"],
    ),
    limit(
        "NEWEST",
        1500,
        Unit::Count,
        "the same, up to the last",
        &["shared/src/store/redis/lua/timeout.lua", "shared/src/store/memory/timeout.rs"],
    ),
    limit(
        "NAMED_BYTES",
        16_777_216,
        Unit::Bytes,
        "events that are read for that",
        &["shared/src/store/redis/lua/timeout.lua", "shared/src/store/memory/timeout.rs"],
    ),
    limit(
        "NAMED_STEPS",
        20,
        Unit::Count,
        "steps that are named then",
        &["shared/src/store/redis/lua/timeout.lua", "shared/src/store/memory/timeout.rs"],
    ),
];
