//! What a coordinator does again and again.

/// A duty of coordinators.
#[derive(Clone, Copy, Debug)]
pub struct Duty {
    /// Its name in logs.
    pub name: &'static str,
    /// The field of the coordinator's `Config` that says how long it pauses; empty if it blocks until there is something.
    pub setting: &'static str,
    /// The default of that, in ms.
    pub pause_ms: u64,
    /// What it does.
    pub does: &'static str,
}

/// All duties.
pub const DUTIES: &[Duty] = &[
    Duty {
        name: "intake",
        setting: "",
        pause_ms: 0,
        does: "turns requests of the inbox into runs, held requests or rejections",
    },
    Duty {
        name: "reap",
        setting: "reap",
        pause_ms: 500,
        does: "reaps workers that are gone, and wakes workers for queues that still have entries; at once when a \
             worker is suspected or more is left",
    },
    Duty {
        name: "fire",
        setting: "fire",
        pause_ms: 200,
        does: "fires due timers; sooner if one is due earlier, at once when an alarm comes or more is left",
    },
    Duty {
        name: "liveness",
        setting: "liveness",
        pause_ms: 50,
        does: "looks for closed lease connections, for the next reap; not if no worker has a lease",
    },
    Duty {
        name: "reclaim",
        setting: "reclaim",
        pause_ms: 1000,
        does: "takes over requests that were delivered to a coordinator and not taken in for 5 s; drops the consumers of coordinators that are gone",
    },
    Duty {
        name: "deferred",
        setting: "deferred",
        pause_ms: 500,
        does: "starts held requests whose workflow is served now, and rejects those past their grace time",
    },
    Duty {
        name: "audit",
        setting: "audit",
        pause_ms: 60_000,
        does: "repairs what runs need and lack; a slice every 50 ms at most, a fiftieth of the time at most; the pause \
             is that between two passes",
    },
];
