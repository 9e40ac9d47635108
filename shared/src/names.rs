//! Rules for names and ids, and the layout of the keys.
//!
//! Every key is `<namespace>:{<partition>}:<kind>...`: the braces make Redis Cluster keep all keys of one
//! partition on one node, so that a transition never crosses nodes.

use std::fmt;

use crate::attributes;
use crate::error::{Error, Result};

/// The longest name of a workflow, step, event or context field, in bytes.
pub const MAX_NAME: usize = 128;

/// The longest name of a call, a signal or a buffer, in bytes: see [`check_call`].
pub const MAX_CALL: usize = 200;

/// The longest run id or idempotency key, in bytes.
pub const MAX_ID: usize = 200;

/// Where one fleet keeps its keys: a namespace and one of its partitions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Namespace {
    name: String,
    partition: u16,
    prefix: String,
}

impl Namespace {
    /// A namespace's partition. The name has 1 to 128 letters, digits, `_`, `-` or `.`.
    pub fn new(name: &str, partition: u16) -> Result<Self> {
        check_name("namespace", name)?;
        Ok(Self { name: name.to_owned(), partition, prefix: format!("{name}:{{{partition}}}:") })
    }

    /// Another partition of the same namespace.
    #[must_use]
    pub fn other(&self, partition: u16) -> Self {
        let name = self.name.clone();
        Self { prefix: format!("{name}:{{{partition}}}:"), name, partition }
    }

    /// The partition's number.
    pub fn partition(&self) -> u16 {
        self.partition
    }

    /// The name alone, `sf` by default.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What each key begins with, `sf:{0}:` by default.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key (or channel) of something that exists once in a partition, such as `inbox` or `timers`.
    pub fn key(&self, kind: &str) -> String {
        format!("{}{kind}", self.prefix)
    }

    /// The key of something that each run (or worker) has, such as `run`, `history`, `context`, `held`.
    pub fn key_of(&self, kind: &str, id: &str) -> String {
        format!("{}{kind}:{id}", self.prefix)
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self { name: "sf".into(), partition: 0, prefix: "sf:{0}:".into() }
    }
}

/// The queue of one version of a workflow: `<workflow>:<version>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName(String);

impl QueueName {
    /// The queue that the steps of this workflow's version wait in.
    pub fn new(workflow: &str, version: u32) -> Self {
        Self(format!("{workflow}:{version}"))
    }

    /// Its name in keys.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads the workflow and its version from such a name; None if it is not one.
    pub fn parse(text: &str) -> Option<(&str, u32)> {
        let (workflow, version) = text.rsplit_once(':')?;
        check_name("workflow", workflow).ok()?;
        Some((workflow, version.parse().ok()?))
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks a name of a workflow, step, event or namespace (`what` says which, for the message).
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    check(what, name, MAX_NAME, fine, "letters, digits, '_', '-' and '.'")
}

/// Checks a run id or an idempotency key.
pub fn check_id(what: &str, id: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/' | '@');
    check(what, id, MAX_ID, fine, "letters, digits and _ - . : / @")
}

/// Checks the name of a context field: any text without control characters, up to 128 bytes.
pub fn check_field(name: &str) -> Result<()> {
    check("context field", name, MAX_NAME, |c| !c.is_control(), "anything but control characters")
}

/// Checks the name of a call that a body records, of a signal or of a buffer. They are for people: any text without control
/// characters, up to 200 bytes of UTF-8.
pub fn check_call(what: &str, name: &str) -> Result<()> {
    check(what, name, MAX_CALL, |c| !c.is_control(), "anything but control characters")
}

/// Encodes the name of a call, a signal or a buffer for Redis: whatever is not an ASCII letter, a digit or one of `_-.`
/// is percent-encoded, so that it is one word.
pub fn token(name: &str) -> String {
    attributes::encoded(name, |byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// The name of a sleep, which no signal can have: a wait with only a deadline, made by the body's call `number`.
pub fn sleep(number: u64) -> String {
    format!("%sleep.{number}")
}

/// Like [`sleep`], for the delay before the next try of a call; [`token`] wrote `name`.
pub fn retry(number: u64, name: &str) -> String {
    format!("%retry.{number}.{name}")
}

/// The name of a wait for the answer to a question, which no signal can have.
pub fn question(name: &str) -> String {
    format!("%ask.{}", token(name))
}

const CHILD: &str = "%child.";

/// The name of a wait for the end of a child run of this workflow. No signal can have it, and no other wait of the run
/// has it.
pub fn child(seq: u64, number: u64, workflow: &str) -> String {
    format!("{CHILD}{seq}.{number}.{}", token(workflow))
}

/// Whether a wait of this name is for a child run.
pub fn is_child(name: &str) -> bool {
    name.starts_with(CHILD)
}

const UNDO: &str = "%undo.";
const CLEANUP: &str = "%cleanup.";

/// The name of a wait that keeps a compensation, a run of this workflow; with `always`, one that is carried out however
/// the run ends.
pub fn undo(seq: u64, number: u64, workflow: &str, always: bool) -> String {
    format!("{}{seq}.{number}.{}", if always { CLEANUP } else { UNDO }, token(workflow))
}

/// Whether a wait of this name keeps a compensation.
pub fn is_undo(name: &str) -> bool {
    name.starts_with(UNDO) || is_cleanup(name)
}

/// Whether the compensation is carried out however the run ends.
pub(crate) fn is_cleanup(name: &str) -> bool {
    name.starts_with(CLEANUP)
}

/// Decodes a name that [`token`] wrote, and describes one of [`sleep`], [`retry`] and the others; any other text stays
/// as it is.
pub fn text(token: &str) -> String {
    if token.strip_prefix("%sleep.").is_some() {
        return "(sleep)".to_owned();
    }
    if let Some(name) = token.strip_prefix("%ask.") {
        return format!("(answer to {})", text(name));
    }
    for (prefix, what) in [(CHILD, "child run of"), (UNDO, "compensation by"), (CLEANUP, "cleanup by")] {
        if let Some(rest) = token.strip_prefix(prefix) {
            let workflow = rest.splitn(3, '.').nth(2).unwrap_or(rest);
            return format!("({what} {})", text(workflow));
        }
    }
    if let Some((_, name)) = token.strip_prefix("%retry.").and_then(|rest| rest.split_once('.')) {
        return format!("(retry of {})", text(name));
    }
    attributes::decoded(token).unwrap_or_else(|| token.to_owned())
}

fn check(what: &str, text: &str, max: usize, fine: impl Fn(char) -> bool, allowed: &str) -> Result<()> {
    if text.is_empty() {
        return Err(Error::invalid(format!("the {what} is empty; give it a name")));
    }
    if text.len() > max {
        return Err(Error::invalid(format!("the {what} has {} bytes; at most {max} are allowed", text.len())));
    }
    match text.chars().find(|c| !fine(*c)) {
        Some(c) => Err(Error::invalid(format!("the {what} has {c:?} in it; only {allowed} are allowed"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_partition_share_one_hash_tag() {
        let namespace = Namespace::new("shop", 3).unwrap();
        assert_eq!(namespace.key("inbox"), "shop:{3}:inbox");
        assert_eq!(namespace.key_of("run", "a"), "shop:{3}:run:a");
        assert_eq!(Namespace::default(), Namespace::new("sf", 0).unwrap());
        assert_eq!(namespace.other(0), Namespace::new("shop", 0).unwrap());
        assert_eq!(namespace.partition(), 3);
    }

    #[test]
    fn names_that_would_break_keys_or_lines_are_refused() {
        for bad in ["", "a b", "a:b", "a{b", "a\nb", "é", &"x".repeat(129)] {
            assert!(check_name("step", bad).unwrap_err().is_invalid(), "{bad:?} was taken");
        }
        for bad in ["", "a b", "{0}", "a\nb", &"x".repeat(201)] {
            assert!(check_id("run id", bad).is_err(), "{bad:?} was taken");
        }
        check_id("run id", "1719922-0").unwrap();
        check_id("run id", "orders/2026:7@shop").unwrap();
    }

    #[test]
    fn names_for_people_are_any_text_and_one_word_in_redis() {
        for name in ["approval", "convert a.pdf", "überprüfen: 100 %", "a,b/c~d", "%20", &"x".repeat(200)] {
            check_call("signal", name).unwrap();
            let token = token(name);
            assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.%".contains(&b)), "{token}");
            assert_eq!(text(&token), name);
        }
        assert_eq!(token("approval_2.b-c"), "approval_2.b-c");
        assert_eq!((token("a b"), text("100%"), text("%zz")), ("a%20b".into(), "100%".into(), "%zz".into()));
        for bad in ["", "a\nb", &"x".repeat(201)] {
            assert!(check_call("signal", bad).unwrap_err().is_invalid(), "{bad:?} was taken");
        }
    }

    #[test]
    fn the_message_names_what_is_wrong() {
        let error = check_name("step", "a b").unwrap_err().to_string();
        assert!(error.contains("step") && error.contains("' '"), "{error}");
    }
}
