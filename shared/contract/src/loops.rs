//! Who asks again, and how long they pause before.

/// A loop that asks again after a failure.
#[derive(Clone, Copy, Debug)]
pub struct Loop {
    /// The name of its constant.
    pub name: &'static str,
    /// Who asks again, and for what.
    pub who: &'static str,
    /// The shortest first pause, in ms. Each pause is about twice as long as the one before, with jitter.
    pub first_ms: u64,
    /// The longest pause, jitter included, in ms.
    pub longest_ms: u64,
    /// What ends it.
    pub until: &'static str,
}

/// All of them. A call that is not here makes one try and tells its caller.
pub const LOOPS: &[Loop] = &[
    Loop {
        name: "OPENING",
        who: "a worker or coordinator that starts, until the server can be judged, and a worker until its namespace is made",
        first_ms: 50,
        longest_ms: 1000,
        until: "an answer, or a refusal that waiting does not fix: a wrong password, an unfit server",
    },
    Loop {
        name: "TRANSITION",
        who: "a worker's claim, commit, failure or suspension",
        first_ms: 10,
        longest_ms: 1000,
        until: "an answer to the call itself, or the loss of the lease",
    },
    Loop {
        name: "BODY",
        who: "a call that the body of a step makes: what it records, reads and publishes",
        first_ms: 10,
        longest_ms: 1000,
        until: "an answer to the call itself, or the end of the attempt",
    },
    Loop {
        name: "BESIDE",
        who: "a body that waits while other calls of it are active: it looks whether what it waits for has come",
        first_ms: 50,
        longest_ms: 2000,
        until: "an answer, or the end of those calls: without them the attempt ends and holds no worker",
    },
    Loop {
        name: "ENTITY",
        who: "a call of an entity that somebody else has changed since it was read: it is read again, and the method runs on that",
        first_ms: 1,
        longest_ms: 100,
        until: "a write without a conflict",
    },
    Loop {
        name: "REFUSED",
        who: "a worker whose claim, failure or read of a context is refused for a reason that is not the server's",
        first_ms: 200,
        longest_ms: 5000,
        until: "an answer, or the loss of the lease",
    },
    Loop {
        name: "WAKING",
        who: "an idle worker's connection on which it is woken; it also claims after each failure",
        first_ms: 50,
        longest_ms: 1000,
        until: "the worker's end",
    },
    Loop {
        name: "LEASE",
        who: "a worker's lease connection: short, since a worker without one counts as dead",
        first_ms: 20,
        longest_ms: 250,
        until: "a heartbeat that is answered",
    },
    Loop {
        name: "PARTING",
        who: "the last hand-back of a worker",
        first_ms: 20,
        longest_ms: 200,
        until: "it is handed back, or two seconds are over",
    },
    Loop {
        name: "DUTY",
        who: "each duty of a coordinator, for each of its servers",
        first_ms: 20,
        longest_ms: 1000,
        until: "the coordinator's end",
    },
    Loop {
        name: "CALLING",
        who: "a client that reads, or sends a request that has an id",
        first_ms: 10,
        longest_ms: 1000,
        until: "an answer, or two seconds are over",
    },
    Loop {
        name: "FOLLOWING",
        who: "a client or CLI that follows a run, or waits for its end",
        first_ms: 10,
        longest_ms: 1000,
        until: "the run's end, or the caller's time limit",
    },
    Loop {
        name: "LOOKING",
        who: "a process that learns of a new master: how often it looks up where the masters are",
        first_ms: 12,
        longest_ms: 1500,
        until: "a look that finds something new, or ten seconds without one",
    },
    Loop {
        name: "LISTENING",
        who: "the subscription to a Sentinel: the next one is tried",
        first_ms: 500,
        longest_ms: 2000,
        until: "the process's end",
    },
];
