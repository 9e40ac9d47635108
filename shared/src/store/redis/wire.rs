//! Between the client of Redis and [`crate::core`]: arguments become a command, and its answer becomes a value.

use std::io::Write as _;

use redis::{Cmd, FromRedisValue, ParsingError, RedisWrite};

use super::functions::LIBRARY;
use crate::core::args::{Args, Transition};
use crate::core::value::Value;

/// Calls a function that may write.
pub(super) const CALL: &str = "FCALL";

/// The call of a transition on the partition with this prefix.
///
/// Its one key never exists. So a cluster that is moving the slot refuses each call until all of it has moved: none
/// sees a part of the partition.
pub(super) fn transition<T: Transition>(prefix: &str, given: &T) -> Cmd {
    let args = Args::of(given);
    let call = if T::LOOKS { "FCALL_RO" } else { CALL };
    let mut command = function(call, T::NAME, prefix, (args.len(), args.size()));
    add(&mut command, &args);
    command
}

/// The call of a function, with room for this many arguments and bytes.
pub(super) fn function(call: &str, name: &str, prefix: &str, (args, size): (usize, usize)) -> Cmd {
    let name = LIBRARY.function(name);
    let mut command = Cmd::with_capacity(args + 4, size + name.len() + prefix.len() + 8);
    command.arg(call).arg(name).arg(1).arg(prefix);
    command
}

/// Adds arguments.
pub(super) fn add(command: &mut Cmd, args: &Args) {
    for (head, rest) in args.iter() {
        if rest.is_empty() {
            command.write_arg(head);
        } else if head.is_empty() {
            command.write_arg(rest);
        } else {
            let mut writer = command.writer_for_next_arg();
            // Writing to memory does not fail.
            let _ = writer.write_all(head).and_then(|()| writer.write_all(rest));
        }
    }
}

impl From<redis::Value> for Value {
    fn from(value: redis::Value) -> Self {
        match value {
            redis::Value::Nil => Self::Nil,
            redis::Value::Int(number) => Self::Int(number),
            redis::Value::BulkString(bytes) => Self::Bytes(bytes),
            redis::Value::SimpleString(text) => Self::Bytes(text.into_bytes()),
            redis::Value::Okay => Self::Bytes(b"OK".to_vec()),
            redis::Value::Array(values) | redis::Value::Set(values) => {
                Self::List(values.into_iter().map(Self::from).collect())
            }
            redis::Value::Map(pairs) => Self::List(pairs.into_iter().flat_map(|(k, v)| [k.into(), v.into()]).collect()),
            redis::Value::Double(number) => Self::Other(number.to_string()),
            redis::Value::Boolean(truth) => Self::Other(truth.to_string()),
            redis::Value::ServerError(error) => Self::Other(format!("the error {}", error.code())),
            _ => Self::Other("a reply of another kind".to_owned()),
        }
    }
}

impl FromRedisValue for Value {
    fn from_redis_value(value: redis::Value) -> Result<Self, ParsingError> {
        Ok(value.into())
    }
}

#[cfg(test)]
mod tests {
    use redis::Arg;

    use super::*;
    use crate::core::args::Headed;

    #[test]
    fn a_command_has_the_arguments() {
        let record = Headed { head: "0 s - E\n".into(), rest: b"payload" };
        let mut args = Args::default();
        args.text("a");
        args.text("");
        args.number(7);
        args.headed(&record);
        let mut command = Cmd::new();
        add(&mut command, &args);
        let found: Vec<&[u8]> = command
            .args_iter()
            .map(|arg| match arg {
                Arg::Simple(bytes) => bytes,
                _ => panic!("an argument is not written out"),
            })
            .collect();
        assert_eq!(found, [&b"a"[..], b"", b"7", b"0 s - E\npayload"]);
    }

    #[test]
    fn maps_and_sets_are_lists() {
        let one = || redis::Value::Int(1);
        let map = redis::Value::Map(vec![(redis::Value::SimpleString("a".into()), one())]);
        assert_eq!(Value::from(map), Value::List(vec![Value::Bytes(b"a".to_vec()), Value::Int(1)]));
        assert_eq!(Value::from(redis::Value::Set(vec![one()])), Value::List(vec![Value::Int(1)]));
        assert_eq!(Value::from(redis::Value::Okay), Value::Bytes(b"OK".to_vec()));
        assert!(matches!(Value::from(redis::Value::Boolean(true)), Value::Other(_)));
    }
}
