//! Which partition a run belongs to.
//!
//! A namespace has one partition or more, numbered from 0. Their number is fixed when it is created, and is in the field
//! `partitions` of the hash `<namespace>:meta`.
//!
//! * The partition of a run is the CRC32 of its id modulo the number of partitions: [`partition_of`]. It is the CRC32
//!   of zlib, gzip and PNG, so that any language has it: in Python `zlib.crc32(id.encode()) % partitions`.
//! * The partition of an idempotency key is that of the text `<workflow>:<key>`.
//! * The hash tag of a partition is its number in decimal, in braces: all keys of partition 3 begin with `sf:{3}:`.
//!
//! Plain numbers were kept because they are spread well enough over the slots of a cluster whose masters own even
//! ranges. The fullest master has this many times its share (a test computes them):
//!
//! | partitions | 2 masters | 3 | 4 | 5 | 6 | 8 |
//! |---|---|---|---|---|---|---|
//! | 16 | 1 | 1.13 | 1 | 1.25 | 1.5 | 2 |
//! | 64 | 1 | 1.04 | 1 | 1.1 | 1.32 | 1.25 |
//! | 128 | 1 | 1.06 | 1 | 1.14 | 1.27 | 1.07 |
//!
//! So 16 partitions are a good choice for up to five masters, and 64 for more. With fewer than 16 a master may get
//! half as much again as its share, or nothing.

/// The most partitions that a namespace may have.
pub const MAX_PARTITIONS: u16 = 1024;

/// The partition that the run with this id belongs to, in a namespace of this many partitions (0 counts as 1).
///
/// ```
/// # extern crate stepfleet_shared as stepfleet;
/// use stepfleet::partition::partition_of;
///
/// assert_eq!(partition_of("order-1", 1), 0);
/// assert_eq!(partition_of("order-1", 16), 15);
/// ```
pub fn partition_of(id: &str, partitions: u16) -> u16 {
    let partition = crc32fast::hash(id.as_bytes()) % u32::from(partitions.max(1));
    u16::try_from(partition).unwrap_or_default() // it is smaller than a u16
}

/// The id of the run that an inbox entry without an id asks for: the entry's id, and in other inboxes than that of
/// partition 0 the inbox too, since two inboxes may give the same id.
pub fn run_of_entry(entry: &str, inbox: u16) -> String {
    if inbox == 0 { entry.to_owned() } else { format!("{entry}-p{inbox}") }
}

/// An id of this partition that begins with this text: the text itself, or the first of the text with `-1`, `-2` and so
/// on that is. None if there is no such partition.
pub fn id_in(partition: u16, partitions: u16, first: &str) -> Option<String> {
    let numbered = (1u32..1_000_000).map(|n| format!("{first}-{n}"));
    let mut ids = std::iter::once(first.to_owned()).chain(numbered);
    ids.find(|id| partition_of(id, partitions) == partition)
}

/// The name of an inbox entry in another partition than that of its inbox: there it cannot be taken off, and that it was
/// processed is noted under this name.
pub fn foreign_entry(entry: &str, inbox: u16) -> String {
    format!("{entry}@{inbox}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_that_of_zlib() {
        // Made with Python: zlib.crc32(id.encode()) % partitions
        let vectors: [(&str, u16, u16, u16); 6] = [
            ("a", 3, 3, 579),
            ("order-1", 3, 15, 1007),
            ("1719922000000-0", 3, 11, 555),
            ("orders/2026:7@shop", 3, 7, 55),
            (&"x".repeat(200), 2, 6, 934),
            ("run_000.1", 2, 2, 306),
        ];
        for (id, of_4, of_16, of_1024) in vectors {
            let found = (partition_of(id, 4), partition_of(id, 16), partition_of(id, 1024));
            assert_eq!(found, (of_4, of_16, of_1024), "{id}");
            assert_eq!(partition_of(id, 1), 0);
            assert_eq!(partition_of(id, 0), 0);
        }
    }

    #[test]
    fn entries_of_two_inboxes_ask_for_two_runs() {
        assert_eq!(run_of_entry("1719922000000-0", 0), "1719922000000-0");
        assert_eq!(run_of_entry("1719922000000-0", 12), "1719922000000-0-p12");
    }

    #[test]
    fn runs_are_spread_evenly() {
        let mut counts = [0_u32; 16];
        for n in 0..16_000 {
            counts[usize::from(partition_of(&format!("{}-{}", 1_700_000_000_000_u64 + n * 7, n % 3), 16))] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }
}
