//! Builds the arguments that a store on Redis sends, and reads the replies, as bytes. Pure: it knows
//! neither a client of Redis nor a runtime nor a clock.

pub(crate) mod args;
pub(crate) mod build;
pub(crate) mod decode;
#[expect(clippy::enum_variant_names, clippy::struct_field_names, reason = "the names are those of the contract")]
#[rustfmt::skip]
pub(crate) mod generated;
pub(crate) mod outcome;
pub(crate) mod record;
pub(crate) mod reply;
pub(crate) mod short;
pub(crate) mod value;
