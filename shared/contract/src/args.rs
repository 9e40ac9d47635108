//! Arguments: what they are, and in which groups.

/// What an argument is: what Lua makes of it, and which type it has in Rust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Text that Lua passes on or compares.
    Text,
    /// The same, put together for the call.
    Line,
    /// Bytes that Lua never looks into.
    Bytes,
    /// The same with a beginning that is put together for the call: a record, for instance.
    Record,
    /// A whole number that Lua passes on or compares, as text.
    Digits,
    /// A whole number that Lua counts with.
    Number,
    /// Milliseconds, which Lua counts with.
    Ms,
    /// 1 or 0.
    Flag,
    /// Text, put together for the call, that is left out where there is none: the last argument of its transition.
    Optional,
    /// How many arguments follow, and then the arguments, in repeated groups. Lua leaves them as they are, one after the other.
    List(&'static [Arg]),
}

/// An argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub form: Form,
}

/// A group of arguments.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// The name of a group that several have; empty if the arguments are of one alone.
    pub name: &'static str,
    /// The arguments in order.
    pub args: &'static [Arg],
}

pub(super) const fn text(name: &'static str) -> Arg {
    Arg { name, form: Form::Text }
}

pub(super) const fn line(name: &'static str) -> Arg {
    Arg { name, form: Form::Line }
}

pub(super) const fn bytes(name: &'static str) -> Arg {
    Arg { name, form: Form::Bytes }
}

pub(super) const fn record(name: &'static str) -> Arg {
    Arg { name, form: Form::Record }
}

pub(super) const fn digits(name: &'static str) -> Arg {
    Arg { name, form: Form::Digits }
}

pub(super) const fn number(name: &'static str) -> Arg {
    Arg { name, form: Form::Number }
}

pub(super) const fn ms(name: &'static str) -> Arg {
    Arg { name, form: Form::Ms }
}

pub(super) const fn flag(name: &'static str) -> Arg {
    Arg { name, form: Form::Flag }
}

pub(super) const fn optional(name: &'static str) -> Arg {
    Arg { name, form: Form::Optional }
}

pub(super) const fn list(name: &'static str, of: &'static [Arg]) -> Arg {
    Arg { name, form: Form::List(of) }
}

pub(super) const fn group(name: &'static str, args: &'static [Arg]) -> Group {
    Group { name, args }
}

/// Arguments of one transition alone.
pub(super) const fn own(args: &'static [Arg]) -> Group {
    Group { name: "", args }
}
