//! The library of Redis Functions that holds the transitions.

use std::sync::LazyLock;

const SOURCE: &str = concat!(
    include_str!("lua/contract.lua"),
    include_str!("lua/common.lua"),
    include_str!("lua/start.lua"),
    include_str!("lua/claim.lua"),
    include_str!("lua/fan.lua"),
    include_str!("lua/context.lua"),
    include_str!("lua/commit.lua"),
    include_str!("lua/short.lua"),
    include_str!("lua/fleet.lua"),
    include_str!("lua/timeout.lua"),
    include_str!("lua/journal.lua"),
    include_str!("lua/signal.lua"),
    include_str!("lua/publish.lua"),
    include_str!("lua/collect.lua"),
    include_str!("lua/across.lua"),
    include_str!("lua/audit.lua"),
    include_str!("lua/plain.lua"),
    include_str!("lua/register.lua"),
);

/// Names of functions are global in a Redis server. The library's carries a hash of its source, so that builds that
/// differ can run side by side while a fleet is being upgraded.
pub(crate) struct Library {
    pub(crate) prefix: String,
    pub(crate) source: String,
}

pub(crate) static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
    let prefix = format!("stepfleet_{:08x}_", crc32fast::hash(SOURCE.as_bytes()));
    let source = format!("#!lua name={}\n{}", prefix.trim_end_matches('_'), SOURCE.replace("@PREFIX@", &prefix));
    Library { prefix, source }
});

impl Library {
    pub(crate) fn function(&self, transition: &str) -> String {
        format!("{}{transition}", self.prefix)
    }
}
