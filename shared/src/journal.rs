//! What the body of a step execution has recorded: the entries of its journal.
//!
//! An entry is a letter, the name of the call that made it, a line feed, and the result. So a later attempt can tell
//! that its code is no longer the one that recorded.

use crate::error::{Error, Result};

pub mod fork;
pub mod order;

/// Calls have lower numbers; from here on there are entries of their order.
pub const FIRST_ORDER: u64 = 1 << 40;

/// From here on there are entries of the state that was committed before a call began: see [`of_mark`].
pub const FIRST_MARK: u64 = 1 << 41;

/// The number of the entry for a commit of the state before this call began.
pub fn of_mark(call: u64) -> u64 {
    FIRST_MARK + call
}

/// The call that such an entry comes before; None for an entry of another kind.
pub fn marked(number: u64) -> Option<u64> {
    (FIRST_MARK..FIRST_TRY).contains(&number).then(|| number - FIRST_MARK)
}

/// From here on there are entries of the tries of calls: see [`of_try`].
pub const FIRST_TRY: u64 = 1 << 42;

/// How many numbers each call has for its tries.
const TRIES: u64 = 1 << 20;

/// The number of the entry for the `failures`th failed try of a call. The next number is the wait before the
/// next try, if that has a timer.
pub fn of_try(call: u64, failures: u32) -> u64 {
    FIRST_TRY + call * TRIES + 2 * u64::from(failures)
}

/// The call that the try in the entry of this number belongs to: the reverse of [`of_try`]. None for other entries.
pub fn tried_by(number: u64) -> Option<u64> {
    Some(number.checked_sub(FIRST_TRY)? / TRIES)
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A call that was recorded with its value, as a payload of [`crate::codec`].
    Value {
        /// The call's name.
        name: &'a str,
        /// The results that the body had received before, as workers write them; empty for those of all calls before it.
        order: &'a str,
        /// The value.
        payload: &'a [u8],
    },
    /// A call whose error the body received and went on.
    Failed {
        /// The call's name.
        name: &'a str,
        /// The error, as workers write it.
        error: &'a [u8],
    },
    /// A call with its own retries that has failed for good.
    GivenUp {
        /// The call's name.
        name: &'a str,
        /// Like the order of a value.
        order: &'a str,
        /// The last error, as workers write it.
        error: &'a [u8],
    },
    /// A failed try of a call, which another try follows: see [`of_try`].
    Tried {
        /// The call's name.
        name: &'a str,
        /// How long the call has taken by then (ms), the delays between its tries included.
        elapsed_ms: u64,
        /// The delay before the next try (ms).
        delay_ms: u64,
        /// The error, as workers write it.
        error: &'a [u8],
    },
    /// A wait that a signal ended.
    Signal {
        /// The signal's name.
        name: &'a str,
        /// Its attributes, which filters look at, as tokens of [`crate::attributes`].
        attributes: &'a str,
        /// The deadline that the wait had (ms since 1970, on the store's clock); None for none.
        due_ms: Option<u64>,
        /// The signal, as a payload of [`crate::codec`].
        payload: &'a [u8],
    },
    /// A wait that its deadline ended.
    Overdue {
        /// The signal's name.
        name: &'a str,
    },
    /// An event that was put into a buffer, and if that filled it, the events in it.
    Collected {
        /// As the store writes it.
        payload: &'a [u8],
    },
    /// A call that the body dropped before it ended, and that will never end.
    LetGo {
        /// The call's name.
        name: &'a str,
        /// How many results the body had received by then.
        given: u64,
    },
    /// A commit of the state.
    Mark {
        /// The call's name.
        name: &'a str,
        /// Like the order of a value.
        order: &'a str,
        /// The previous values of what it changed, as workers write them: a body that begins again gets them.
        before: &'a [u8],
    },
    /// The body took the new path of a change (`ctx.patched`).
    Patch {
        /// The name of the change.
        name: &'a str,
    },
    /// The results that the body had received, if no recorded value says so. It belongs to no call: see
    /// [`FIRST_ORDER`].
    Order {
        /// As workers write it.
        order: &'a str,
    },
}

impl<'a> Entry<'a> {
    /// Reads an entry. Never panics, whatever the bytes are.
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        Self::parse(bytes).ok_or_else(|| {
            Error::invalid(
                "an entry of the step's journal cannot be read: it was written by a newer version or by something else",
            )
        })
    }

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        if let Some(payload) = bytes.strip_prefix(b"c") {
            return Some(Self::Collected { payload });
        }
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let (head, rest) = (std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]);
        let letter = head.chars().next().filter(char::is_ascii)?;
        let (name, about) = head[1..].split_once(' ').unwrap_or((&head[1..], ""));
        match letter {
            's' => Some(Self::Value { name, order: about, payload: rest }),
            'f' => Some(Self::Failed { name, error: rest }),
            'e' => Some(Self::GivenUp { name, order: about, error: rest }),
            't' => {
                let (elapsed, delay) = about.split_once(' ')?;
                let (elapsed_ms, delay_ms) = (elapsed.parse().ok()?, delay.parse().ok()?);
                Some(Self::Tried { name, elapsed_ms, delay_ms, error: rest })
            }
            'w' => {
                let (attributes, due) = about.split_once(' ').map_or((about, None), |(head, due)| (head, Some(due)));
                let due_ms = due.map(str::parse).transpose().ok()?;
                Some(Self::Signal { name, attributes, due_ms, payload: rest })
            }
            'o' => Some(Self::Overdue { name }),
            'x' => Some(Self::LetGo { name, given: about.parse().ok()? }),
            'd' => Some(Self::Order { order: name }),
            'k' => Some(Self::Mark { name, order: about, before: rest }),
            'p' => Some(Self::Patch { name }),
            _ => None,
        }
    }

    /// Writes it.
    pub fn write(&self) -> Vec<u8> {
        let entry = |letter: char, head: &str, rest: &[u8]| [format!("{letter}{head}\n").as_bytes(), rest].concat();
        match self {
            Self::Value { name, order: "", payload } => entry('s', name, payload),
            Self::Value { name, order, payload } => entry('s', &format!("{name} {order}"), payload),
            Self::Failed { name, error } => entry('f', name, error),
            Self::GivenUp { name, order: "", error } => entry('e', name, error),
            Self::GivenUp { name, order, error } => entry('e', &format!("{name} {order}"), error),
            Self::Tried { name, elapsed_ms, delay_ms, error } => {
                entry('t', &format!("{name} {elapsed_ms} {delay_ms}"), error)
            }
            Self::Signal { name, attributes, due_ms, payload } => {
                let due = due_ms.map(|due| format!(" {due}")).unwrap_or_default();
                entry('w', &format!("{name} {attributes}{due}"), payload)
            }
            Self::Overdue { name } => entry('o', name, b""),
            Self::Collected { payload } => [b"c", *payload].concat(),
            Self::LetGo { name, given } => entry('x', &format!("{name} {given}"), b""),
            Self::Order { order } => entry('d', order, b""),
            Self::Mark { name, order: "", before } => entry('k', name, before),
            Self::Mark { name, order, before } => entry('k', &format!("{name} {order}"), before),
            Self::Patch { name } => entry('p', name, b""),
        }
    }

    /// The name of the call that made it; empty for a buffer and for an order.
    pub fn name(&self) -> &'a str {
        match self {
            Self::Collected { .. } | Self::Order { .. } => "",
            Self::Value { name, .. }
            | Self::Failed { name, .. }
            | Self::GivenUp { name, .. }
            | Self::Tried { name, .. }
            | Self::Signal { name, .. }
            | Self::Overdue { name }
            | Self::Mark { name, .. }
            | Self::Patch { name }
            | Self::LetGo { name, .. } => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let entries = [
            Entry::Value { name: "charge", order: "", payload: b"\x01\n\xff" },
            Entry::Value { name: "charge", order: "0:2,1", payload: b"" },
            Entry::Order { order: "3:9,7-8" },
            Entry::Failed { name: "charge", error: b"no\nmoney" },
            Entry::Failed { name: "charge", error: b"" },
            Entry::GivenUp { name: "charge", order: "", error: b"\x02{}\n" },
            Entry::GivenUp { name: "charge", order: "0:2,1+4", error: b"" },
            Entry::Tried { name: "charge", elapsed_ms: 17, delay_ms: 60_000, error: b"\x02{}\n" },
            Entry::Signal {
                name: "approval",
                attributes: "order=7&user=%22bob%22",
                due_ms: None,
                payload: b"\x02{}\n",
            },
            Entry::Signal { name: "approval", attributes: "", due_ms: Some(1_795_312_270_626), payload: b"" },
            Entry::Overdue { name: "approval" },
            Entry::LetGo { name: "approval", given: 3 },
            Entry::Collected { payload: b"2 3\n\x01\x02" },
            Entry::Collected { payload: b"" },
            Entry::Mark { name: "checkpoint", order: "", before: b"\x81\n" },
            Entry::Mark { name: "checkpoint", order: "0:2,1", before: b"" },
            Entry::Patch { name: "new-tax" },
        ];
        for entry in entries {
            assert_eq!(Entry::read(&entry.write()).unwrap(), entry);
        }
    }

    #[test]
    fn what_is_no_entry_is_an_error() {
        for bytes in
            [&b""[..], b"\n", b"s", b"schar", b"?name\n", b"\xff\xff\n", "äs\n".as_bytes(), b"tname 1\n", b"xname\n"]
        {
            assert!(Entry::read(bytes).unwrap_err().is_invalid(), "{bytes:?}");
        }
    }
}
