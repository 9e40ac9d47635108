//! One target for all decoders: STEPFLEET_DECODER says which.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use stepfleet_shared::fuzzing::{DECODERS, Decoder};

static DECODER: LazyLock<Decoder> = LazyLock::new(|| {
    let wanted = std::env::var("STEPFLEET_DECODER").unwrap_or_default();
    let named: Vec<_> = DECODERS.iter().map(|(name, _)| *name).collect();
    let found = DECODERS.iter().find(|(name, _)| *name == wanted);
    found.unwrap_or_else(|| panic!("STEPFLEET_DECODER is {wanted:?}; it must be one of {named:?}")).1
});

fuzz_target!(|bytes: &[u8]| DECODER(bytes));
