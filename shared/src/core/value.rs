//! A reply of Redis as data.

/// What Redis answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// Nothing.
    Nil,
    /// A whole number.
    Int(i64),
    /// A string.
    Bytes(Vec<u8>),
    /// Values in order; of a map keys and values in turn.
    List(Vec<Value>),
    /// What no transition answers, as it is shown to people.
    Other(String),
}
