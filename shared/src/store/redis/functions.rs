//! The library of Redis Functions that holds the transitions.

use std::sync::LazyLock;

/// The library's source: the files one after the other.
macro_rules! source_of {
    ($(include_str!($file:literal),)*) => {
        #[cfg(not(feature = "lua-from-files"))]
        fn source() -> String {
            concat!($(include_str!($file)),*).to_owned()
        }

        /// For tests that break the Lua without a build for each breakage: `STEPFLEET_LUA` is the folder with `lua` in it.
        #[cfg(feature = "lua-from-files")]
        fn source() -> String {
            let folder = std::env::var("STEPFLEET_LUA").expect("STEPFLEET_LUA is the folder with the folder lua");
            let read = |file: &str| {
                std::fs::read_to_string(format!("{folder}/{file}")).unwrap_or_else(|error| panic!("{file}: {error}"))
            };
            [$(read($file)),*].concat()
        }
    };
}

source_of!(
    include_str!("lua/contract.lua"),
    include_str!("lua/common.lua"),
    include_str!("lua/receipts.lua"),
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
    include_str!("lua/question.lua"),
    include_str!("lua/child.lua"),
    include_str!("lua/publish.lua"),
    include_str!("lua/stream.lua"),
    include_str!("lua/collect.lua"),
    include_str!("lua/across.lua"),
    include_str!("lua/audit.lua"),
    include_str!("lua/retry.lua"),
    include_str!("lua/session.lua"),
    include_str!("lua/pause.lua"),
    include_str!("lua/fork.lua"),
    include_str!("lua/entity.lua"),
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
    let text = source();
    let prefix = format!("stepfleet_{:08x}_", crc32fast::hash(text.as_bytes()));
    let source = format!("#!lua name={}\n{}", prefix.trim_end_matches('_'), text.replace("@PREFIX@", &prefix));
    Library { prefix, source }
});

impl Library {
    pub(crate) fn function(&self, transition: &str) -> String {
        format!("{}{transition}", self.prefix)
    }
}
