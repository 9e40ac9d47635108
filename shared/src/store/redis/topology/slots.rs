//! Which node owns which of the 16,384 slots.

use std::collections::BTreeMap;

use crc::{CRC_16_XMODEM, Crc};
use redis::Value;

use super::address::Address;
use crate::error::{Error, Result};

pub(super) const SLOTS: u16 = 16_384;
const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// The slot of a key: the CRC16 of its hash tag if it has one that is not empty, otherwise of the whole key.
pub(crate) fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    CRC.checksum(hashed.as_bytes()) % SLOTS
}

/// The owner of each slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table<T> {
    /// By the first slot: the last one, and the owner.
    ranges: BTreeMap<u16, (u16, T)>,
    /// Slots that `MOVED` has reassigned since.
    moved: BTreeMap<u16, T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { ranges: BTreeMap::new(), moved: BTreeMap::new() }
    }
}

impl<T: Clone> Table<T> {
    /// One owner of everything.
    pub(super) fn of_one(owner: T) -> Self {
        Self { ranges: BTreeMap::from([(0, (SLOTS - 1, owner))]), moved: BTreeMap::new() }
    }

    pub(super) fn owner(&self, slot: u16) -> Option<&T> {
        self.moved.get(&slot).or_else(|| {
            let (_, (last, owner)) = self.ranges.range(..=slot).next_back()?;
            (slot <= *last).then_some(owner)
        })
    }

    pub(super) fn set_moved(&mut self, slot: u16, owner: T) {
        self.moved.insert(slot, owner);
    }

    pub(super) fn is_moved(&self, slot: u16) -> bool {
        self.moved.contains_key(&slot)
    }

    pub(super) fn forget_moved(&mut self, slot: u16) {
        self.moved.remove(&slot);
    }

    /// The owners that were looked up, each perhaps several times.
    pub(super) fn owners(&self) -> impl Iterator<Item = &T> {
        self.ranges.values().map(|(_, owner)| owner)
    }

    /// The same ranges with other owners.
    pub(super) fn with<U>(&self, mut change: impl FnMut(&T) -> Result<U>) -> Result<Table<U>> {
        let range = |(first, (last, owner)): (&u16, &(u16, T))| Ok((*first, (*last, change(owner)?)));
        Ok(Table { ranges: self.ranges.iter().map(range).collect::<Result<_>>()?, moved: BTreeMap::new() })
    }
}

/// Reads the reply of `CLUSTER SLOTS`, which `asked` has given. What cannot be understood in it is passed over: the
/// slots of such a range have no owner.
pub(super) fn read_slots(reply: &Value, asked: &str) -> Result<Table<Address>> {
    let Value::Array(entries) = reply else {
        return Err(Error::reply("CLUSTER SLOTS answered no list"));
    };
    let mut table = Table::default();
    for entry in entries {
        let Value::Array(entry) = entry else { continue };
        let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = entry.as_slice() else { continue };
        let (Ok(first), Ok(last)) = (u16::try_from(*first), u16::try_from(*last)) else { continue };
        let [host, Value::Int(port), ..] = master.as_slice() else { continue };
        let address = u16::try_from(*port).ok().and_then(|port| Address::new(&host_of(host)?, port));
        if let Some(address) = address.filter(|_| first <= last && last < SLOTS) {
            table.ranges.insert(first, (last, address.or_host(asked)));
        }
    }
    Ok(table)
}

/// A cluster that prefers endpoints of no name answers null: the host that was asked.
fn host_of(value: &Value) -> Option<String> {
    match value {
        Value::Nil => Some(String::new()),
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        assert_eq!(CRC.checksum(b"123456789"), 0x31c3);
        let cases =
            [("123456789", 12739), ("{user1000}.following", 3443), ("foo{}{bar}", 8363), ("foo{{bar}}zap", 4015)];
        for (key, slot) in cases {
            assert_eq!(slot_of(key), slot, "{key}");
        }
        assert_eq!(slot_of("sf:{0}:inbox"), 13907);
        assert_eq!(slot_of("sf:{1}:run:a{b}"), 9842);
        assert_eq!(slot_of("foo{bar}{zap}"), slot_of("bar"));
    }

    fn entry(first: i64, last: i64, host: Value, port: i64) -> Value {
        let node = |host, port| {
            Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".to_vec()), Value::Array(vec![])])
        };
        let replica = node(Value::BulkString(b"10.0.0.99".to_vec()), 6379);
        Value::Array(vec![Value::Int(first), Value::Int(last), node(host, port), replica])
    }

    #[test]
    fn a_reply_becomes_a_table() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let reply = Value::Array(vec![
            entry(0, 5460, bulk("10.0.0.1"), 6379),
            entry(5461, 5461, bulk(""), 7002),
            entry(5462, 10922, Value::Nil, 7003),
            entry(10923, 12000, bulk("?"), 6379),
            entry(12001, 99999, bulk("10.0.0.4"), 6379),
            Value::Int(3),
        ]);
        let mut table = read_slots(&reply, "10.0.0.7").unwrap();
        let owner = |table: &Table<Address>, slot| table.owner(slot).map(ToString::to_string);
        assert_eq!(owner(&table, 0).as_deref(), Some("10.0.0.1:6379"));
        assert_eq!(owner(&table, 5460).as_deref(), Some("10.0.0.1:6379"));
        assert_eq!(owner(&table, 5461).as_deref(), Some("10.0.0.7:7002"));
        assert_eq!(owner(&table, 10922).as_deref(), Some("10.0.0.7:7003"));
        assert_eq!(owner(&table, 10923), None);
        assert_eq!(owner(&table, 16383), None);
        table.set_moved(3, Address::parse("10.0.0.5:1").unwrap());
        assert_eq!(owner(&table, 3).as_deref(), Some("10.0.0.5:1"));
        assert_eq!(owner(&table, 2).as_deref(), Some("10.0.0.1:6379"));
        table.forget_moved(3);
        assert_eq!(owner(&table, 3).as_deref(), Some("10.0.0.1:6379"));
        assert!(read_slots(&Value::Okay, "h").is_err());
    }

    #[test]
    fn one_owner_has_them_all() {
        let table = Table::of_one(7);
        assert_eq!((table.owner(0), table.owner(SLOTS - 1)), (Some(&7), Some(&7)));
        assert_eq!(Table::<u8>::default().owner(0), None);
    }

    /// The table in `partition.rs`: the fullest of this many masters with even ranges, in hundredths of its share.
    #[test]
    fn plain_numbers_are_spread_over_masters_as_published() {
        let fullest = |partitions: u32, masters: u32| {
            let mut counts = vec![0; masters as usize];
            for p in 0..partitions {
                counts[(u32::from(slot_of(&p.to_string())) * masters / u32::from(SLOTS)) as usize] += 1;
            }
            let most: u32 = counts.into_iter().max().unwrap_or_default();
            (most * masters * 100).div_ceil(partitions)
        };
        let of = |partitions| [2, 3, 4, 5, 6, 8].map(|masters| fullest(partitions, masters));
        assert_eq!(of(16), [100, 113, 100, 125, 150, 200]);
        assert_eq!(of(64), [100, 104, 100, 110, 132, 125]);
        assert_eq!(of(128), [100, 106, 100, 114, 127, 107]);
    }
}
