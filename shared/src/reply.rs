//! The list that a request names for its receipts. Pure.

use crate::error::{Error, Result};
use crate::names::{self, Namespace};

/// What follows the partition in the key of such a list.
const KIND: &str = "}:reply:";

/// A list for receipts, as the field `reply` of a request names it by its key: `sf:{0}:reply:<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyList {
    /// The partition that it is in.
    pub partition: u16,
    /// Its name there.
    pub name: String,
}

impl ReplyList {
    /// Reads the key of a list in this namespace, which has `count` partitions. Fails with what is wrong with it: any other key is
    /// refused, as it may be somebody else's.
    pub fn parse(key: &str, namespace: &Namespace, count: u16) -> Result<Self> {
        let prefix = format!("{}:{{", namespace.name());
        let found = key.strip_prefix(&prefix).and_then(|rest| rest.split_once(KIND));
        let partition = found.and_then(|(partition, _)| partition.parse().ok().filter(|number: &u16| *number < count));
        let (Some((text, name)), Some(partition)) = (found, partition) else { return Err(refused(key, &prefix)) };
        // Each list has exactly one key.
        if text != partition.to_string() {
            return Err(refused(key, &prefix));
        }
        names::check_id("name of the list for receipts", name)?;
        Ok(Self { partition, name: name.to_owned() })
    }
}

fn refused(key: &str, prefix: &str) -> Error {
    let shown = key.char_indices().nth(60).map_or(key, |(at, _)| &key[..at]);
    Error::invalid(format!("reply {shown:?} is not the name of a list for receipts; use {prefix}0{KIND}<name>"))
}

/// The name in the key of a list that was read before.
pub(crate) fn name_of_list(key: &str) -> &str {
    key.split_once(KIND).map_or("", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lists_of_the_namespace_are_taken() {
        let namespace = Namespace::default();
        let parse = |key: &str| ReplyList::parse(key, &namespace, 4);
        assert_eq!(parse("sf:{3}:reply:me:7").unwrap(), ReplyList { partition: 3, name: "me:7".into() });
        assert_eq!(name_of_list("sf:{3}:reply:me:7"), "me:7");
        for bad in [
            "",
            "mine",
            "sf:{4}:reply:x",
            "sf:{03}:reply:x",
            "sf:{+3}:reply:x",
            "sf:{}:reply:x",
            "sf:{0}:run:x",
            "sf:{0}:x}:reply:y",
            "other:{0}:reply:x",
            "sf:{0}:reply:",
            "sf:{0}:reply:a b",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let told = parse("sf:{0}:run:x").unwrap_err().to_string();
        assert_eq!(told, "reply \"sf:{0}:run:x\" is not the name of a list for receipts; use sf:{0}:reply:<name>");
    }
}
