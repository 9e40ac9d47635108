//! Whether the default user may execute what a server replays from its append-only file.

use redis::Value;
use stepfleet_shared::server::{Check, Info, Level};
use stepfleet_shared::store::RedisStore;

use super::doctor::text;
use super::error::CliError;

const NAME: &str = "default-user";

/// Redis 7 and 8 and Valkey 8 replay the file as the default user, and drop without a word each transaction that it may not execute.
/// None where this user may not ask for the rights of that one, or where there is no such file.
pub(super) async fn check(store: &RedisStore, info: &Info) -> Result<Option<Check>, CliError> {
    if info.persistence().level != Level::Ok {
        return Ok(None);
    }
    let mut rights = redis::cmd("ACL");
    rights.arg("GETUSER").arg("default");
    match store.command(&rights).await {
        Ok(about) => Ok(Some(judge(&Rights::read(about)))),
        Err(error) if error.is_unreachable() => Err(error.into()),
        // To most users it is denied, and managed servers do not know it.
        Err(_) => Ok(None),
    }
}

/// What `ACL GETUSER` says of a user's rights.
#[derive(Debug, Default)]
struct Rights {
    commands: String,
    keys: String,
    channels: String,
}

impl Rights {
    fn read(about: Value) -> Self {
        let flat: Vec<Value> = match about {
            Value::Array(values) => values,
            Value::Map(pairs) => pairs.into_iter().flat_map(|(name, value)| [name, value]).collect(),
            _ => Vec::new(),
        };
        let mut rights = Self::default();
        let (pairs, _) = flat.as_chunks::<2>();
        for [name, value] in pairs {
            match text(name.clone()).as_str() {
                "commands" => rights.commands = text(value.clone()),
                "keys" => rights.keys = text(value.clone()),
                "channels" => rights.channels = text(value.clone()),
                _ => {}
            }
        }
        rights
    }

    /// The first of its lacks.
    fn lack(&self) -> Option<&'static str> {
        let has = |rules: &str, all: &[&str]| rules.split(' ').any(|rule| all.contains(&rule));
        // Who has all commands but some has them in one line: `+@all -flushall`. A flush is replayed as well as anything.
        let commands = self.commands.split(' ').rev().find(|rule| rule.ends_with("@all"));
        if commands != Some("+@all") || self.commands.split(' ').any(|rule| rule.starts_with('-')) {
            return Some("may not execute all commands");
        }
        if !has(&self.keys, &["~*", "allkeys", "%RW~*"]) {
            return Some("may not touch all keys");
        }
        (!has(&self.channels, &["&*", "allchannels"])).then_some("may not use all channels")
    }
}

fn judge(rights: &Rights) -> Check {
    match rights.lack() {
        None => Check::ok(NAME, "the default user may execute whatever the append-only file has"),
        Some(lack) => Check::warn(
            NAME,
            format!(
                "the default user {lack}: where the server replays its append-only file as this user, as Redis 7 and 8 and Valkey 8 do, \
                 it drops the transactions that this user may not execute, and after a restart runs are gone"
            ),
            "in the ACL file: user default off ~* &* +@all (now: ACL SETUSER default off ~* &* +@all). It cannot log in then: \
             give whoever does so a user of their own first",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(commands: &str, keys: &str, channels: &str) -> Rights {
        Rights { commands: commands.into(), keys: keys.into(), channels: channels.into() }
    }

    #[test]
    fn a_default_user_that_lacks_something_is_warned_of() {
        assert_eq!(judge(&rights("+@all", "~*", "&*")).level, Level::Ok);
        for (lacking, what) in [
            (rights("-@all", "", ""), "commands"),
            (rights("+@all -@all", "~*", "&*"), "commands"),
            (rights("+@all -eval", "~*", "&*"), "commands"),
            (rights("+@all", "~other:*", "&*"), "keys"),
            (rights("+@all", "~*", ""), "channels"),
            (Rights::default(), "commands"),
        ] {
            let check = judge(&lacking);
            assert!(check.level == Level::Warn && check.found.contains(what), "{lacking:?}: {check:?}");
            assert!(check.advice.unwrap().contains("user default off ~* &* +@all"));
        }
    }

    #[test]
    fn the_answer_is_read_in_both_forms() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let pairs = [("flags", "off"), ("commands", "+@all"), ("keys", "~*"), ("channels", "&*")];
        let flat = pairs.iter().flat_map(|(name, value)| [bulk(name), bulk(value)]).collect();
        let map = pairs.iter().map(|(name, value)| (bulk(name), bulk(value))).collect();
        for about in [Value::Array(flat), Value::Map(map)] {
            assert_eq!(judge(&Rights::read(about)).level, Level::Ok);
        }
    }
}
