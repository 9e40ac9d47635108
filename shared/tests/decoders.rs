//! Every decoder on its seeds, on mutated seeds and on random bytes: none panics, hangs, or takes memory out of
//! proportion. `make fuzz` does the same for longer, led by coverage.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use stepfleet_shared::fuzzing::{DECODERS, Decoder};

/// How many mutated seeds, and how many random inputs, each decoder gets.
const CASES: u32 = 1500;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn seeds(decoder: &str) -> Vec<Vec<u8>> {
    let folder = corpus().join(decoder);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// One change to some bytes.
#[derive(Clone, Debug)]
enum Edit {
    Flip(Index, u8),
    Truncate(Index),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    /// A length or a number at its limit.
    Overwrite(Index, [u8; 4]),
    /// Part of another seed.
    Splice(Index, Index, Index),
}

const LIMITS: [[u8; 4]; 5] = [[0xff; 4], [0x7f, 0xff, 0xff, 0xff], [0x80, 0, 0, 0], [0; 4], *b"9999"];

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        3 => (at(), 0..8u8).prop_map(|(at, bit)| Edit::Flip(at, 1 << bit)),
        1 => at().prop_map(Edit::Truncate),
        2 => (at(), vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        2 => (at(), 1..9usize).prop_map(|(at, count)| Edit::Remove(at, count)),
        1 => (at(), select(&LIMITS[..]))
            .prop_map(|(at, bytes)| Edit::Overwrite(at, bytes)),
        1 => (at(), at(), at()).prop_map(|(at, seed, from)| Edit::Splice(at, seed, from)),
    ]
}

fn apply(edit: &Edit, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let place = |at: &Index, len: usize| at.index(len + 1);
    match edit {
        Edit::Flip(at, bit) if !bytes.is_empty() => {
            let at = at.index(bytes.len());
            bytes[at] ^= bit;
        }
        Edit::Flip(..) => {}
        Edit::Truncate(at) => bytes.truncate(place(at, bytes.len())),
        Edit::Insert(at, more) => {
            let at = place(at, bytes.len());
            bytes.splice(at..at, more.iter().copied());
        }
        Edit::Remove(at, count) => {
            let at = place(at, bytes.len());
            bytes.drain(at..bytes.len().min(at + count));
        }
        Edit::Overwrite(at, with) => {
            let at = place(at, bytes.len());
            bytes.splice(at..bytes.len().min(at + with.len()), *with);
        }
        Edit::Splice(at, seed, from) => {
            let (at, seed) = (place(at, bytes.len()), seed.get(seeds));
            bytes.splice(at..at, seed[place(from, seed.len())..].iter().copied());
        }
    }
}

fn run(name: &str, decoder: Decoder, bytes: impl Strategy<Value = Vec<u8>>) {
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&bytes, |bytes| {
        decoder(&bytes);
        Ok::<_, TestCaseError>(())
    });
    outcome.unwrap_or_else(|found| panic!("decoder {name}: {found}"));
}

#[test]
fn every_decoder_has_seeds_and_every_folder_of_seeds_a_decoder() {
    let decoders: BTreeSet<String> = DECODERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let folders = std::fs::read_dir(corpus()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
    assert_eq!(folders.collect::<BTreeSet<_>>(), decoders);
    for name in decoders {
        assert!(seeds(&name).len() >= 8, "{name} has too few seeds");
    }
}

#[test]
fn no_bytes_make_a_decoder_panic_or_take_memory_out_of_proportion() {
    let before = peak_of_memory();
    for (name, decoder) in DECODERS {
        let seeds = seeds(name);
        for seed in &seeds {
            decoder(seed);
        }
        run(name, *decoder, vec(any::<u8>(), 0..300));
        let seed = select(seeds.clone());
        let mutated = (seed, vec(edit(), 1..8)).prop_map(move |(mut bytes, edits)| {
            for edit in &edits {
                apply(edit, &mut bytes, &seeds);
            }
            bytes
        });
        run(name, *decoder, mutated);
    }
    if let (Some(before), Some(after)) = (before, peak_of_memory()) {
        // If a length of four bytes were believed, it would take 4 GiB.
        assert!(after - before < 1 << 20, "{} KiB were asked for", after - before);
    }
}

/// The most address space that this process ever had, in KiB, where the system says so.
fn peak_of_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"))?;
    peak.trim().trim_end_matches(" kB").parse().ok()
}
