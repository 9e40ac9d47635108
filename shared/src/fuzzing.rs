//! Every decoder of what comes from outside or from Redis, as a function of bytes, for the fuzz target in `shared/fuzz`
//! and for `shared/tests/decoders.rs`. None may panic, hang, or take memory out of proportion.

use std::collections::{BTreeMap, HashMap};

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::attributes;
use crate::codec::{self, Content};
use crate::core::decode;
use crate::core::reply::Reply;
use crate::core::value::Value;
use crate::encryption::is_encrypted;
use crate::history::Record;
use crate::journal::Entry;
use crate::names::{self, Namespace};
use crate::paths::Path;
use crate::run::Status;
use crate::server::{Info, Override};
use crate::step::Merge;
use crate::store::redis::topology;
use crate::{fields, request, snapshot, values};

/// Reads bytes and forgets what it read.
pub type Decoder = fn(&[u8]);

/// The decoders by name; each has its seeds in `shared/fuzz/corpus/<name>`.
pub const DECODERS: &[(&str, Decoder)] = &[
    ("payload", payload),
    ("input", input),
    ("request", request),
    ("state", state),
    ("value", value),
    ("history", history),
    ("journal", journal),
    ("signal", signal),
    ("claims", claims),
    ("entries", entries),
    ("run", run),
    ("worker", worker),
    ("deferred", deferred),
    ("registration", registration),
    ("names", name),
    ("info", info),
    ("topology", topology::read_all),
];

/// As an author might declare an event or a state.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Sample {
    text: String,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    numbers: Vec<i32>,
    nested: Option<Box<Sample>>,
    named: BTreeMap<String, f64>,
    kind: Kind,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
enum Kind {
    #[default]
    Plain,
    Tagged(u8, char),
    Shaped {
        size: u16,
    },
}

/// Events, context values and joined events, as a worker reads them.
fn payload(bytes: &[u8]) {
    if let Ok(sample) = codec::decode::<Sample>("the event", bytes) {
        let again = codec::encode("the event", &sample).expect("what was read can be written");
        codec::decode::<Sample>("the event", &again).expect("what was written can be read");
    }
    drop(codec::decode::<serde_json::Value>("the event", bytes));
    drop(codec::decode::<IgnoredAny>("the event", bytes));
}

/// A run's input as the inbox has it, and a result as its caller reads it.
fn input(bytes: &[u8]) {
    for content in [Content::Json, Content::MessagePack] {
        // Encrypted values are read with the key.
        if codec::check_input(content, bytes).is_ok() && !is_encrypted(content, bytes) {
            let whole = match content {
                Content::Json => codec::decode_json::<IgnoredAny>("the input", bytes),
                Content::MessagePack => codec::decode_messagepack::<IgnoredAny>("the input", bytes),
            };
            assert!(whole.is_ok(), "an input that was taken cannot be read");
        }
    }
    drop(codec::decode_json::<Sample>("the result", bytes));
    drop(codec::decode_messagepack::<Sample>("the result", bytes));
}

/// An inbox entry: a line for each name and each value.
fn request(bytes: &[u8]) {
    let entry = pairs(bytes);
    if let Ok(request::Request::Start(start)) = request::parse(&entry) {
        start.check().expect("what was taken passes its own check");
    }
    drop(request::id_of(&entry));
}

/// The fields of a context: a byte of length and a name, a byte of length and a payload, and so on.
fn state(bytes: &[u8]) {
    let (mut found, mut rest) = (BTreeMap::new(), bytes);
    while let Some((name, after)) = piece(rest) {
        let (payload, after) = piece(after).unwrap_or_default();
        found.insert(String::from_utf8_lossy(name).into_owned(), payload.to_vec());
        rest = after;
    }
    if let Ok(sample) = fields::join::<Sample>(&found) {
        fields::split(&sample).expect("what was joined can be split");
    }
    drop(fields::join::<BTreeMap<String, serde_json::Value>>(&found));
}

/// A context value: a byte of length and a path, then the value.
fn value(bytes: &[u8]) {
    let (path, value) = piece(bytes).unwrap_or_default();
    drop(values::decode::<Sample>("f", value));
    drop(snapshot::to_json("f", value));
    if values::decode::<serde_json::Value>("f", value).is_ok() {
        if let Ok(Some(renewed)) = values::renewed("f", value) {
            values::decode::<serde_json::Value>("f", &renewed).expect("what is renewed can be read");
        }
        if let Some(compacted) = values::compacted(value) {
            values::decode::<serde_json::Value>("f", &compacted).expect("what is compacted can be read");
        }
    }
    for merge in [Merge::Add(-7), Merge::Append { form: values::LIST, bytes: vec![7] }] {
        drop(values::merged("f", Some(value), &merge));
    }
    let Ok(path) = Path::parse(std::str::from_utf8(path).unwrap_or_default()) else { return };
    drop(path.get(Some(value)));
    drop(path.remove(value));
    if let Ok(whole) = path.set(Some(value), b"7") {
        assert_eq!(path.get(Some(&whole)).expect("what was set can be read").as_deref(), Some(&b"7"[..]));
    }
}

fn piece(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    Some(rest.split_at(rest.len().min(length.into())))
}

fn history(bytes: &[u8]) {
    let _ = Record::parse(bytes).began_ms();
}

/// An entry of a journal.
fn journal(bytes: &[u8]) {
    if let Ok(entry) = Entry::read(bytes) {
        assert_eq!(Entry::read(&entry.write()).expect("what was read can be written"), entry);
    }
}

/// The attributes of a signal, and waits as Redis has them.
fn signal(bytes: &[u8]) {
    for token in attributes::of(bytes) {
        assert!(token.len() <= attributes::MAX_ATTRIBUTE && attributes::read(&token).len() == 1, "{token}");
    }
    drop(decode::open_wait("n", &String::from_utf8_lossy(bytes), "s".into()));
}

/// What a worker's transitions answer, as Redis sends it.
fn claims(bytes: &[u8]) {
    let Ok(reply) = redis::parse_redis_value(bytes).map(Value::from) else { return };
    drop(Reply::new(reply.clone()).and_then(|reply| reply.claims(1)));
    drop(Reply::new(reply.clone()).and_then(Reply::pairs));
    drop(decode::clock_ms(reply.clone()));
    if let Value::List(values) = &reply {
        drop(decode::meta("sf", values));
    }
}

/// What the blocking reads answer, as Redis sends it.
fn entries(bytes: &[u8]) {
    let Ok(reply) = redis::parse_redis_value(bytes).map(Value::from) else { return };
    drop(decode::stream_entries(reply.clone(), |_| 0).map(decode::published));
    let entries = Reply::new(reply).and_then(|reply| decode::inbox_entries(reply, 0)).unwrap_or_default();
    for entry in &entries {
        drop(request::parse(&entry.fields));
    }
    for entry in decode::published(entries) {
        drop((entry.read::<Sample>(), serde_json::to_string(&entry).expect("an entry can be shown as JSON")));
    }
}

/// The hash of a run: a line for each name and each value.
fn run(bytes: &[u8]) {
    if let Ok(Some(run)) = decode::run("r", texts(bytes), bytes.to_vec()) {
        serde_json::to_string(&run).expect("a run can be shown as JSON");
    }
}

/// The hash of a worker and its lease, and the reply of `CLIENT LIST`.
fn worker(bytes: &[u8]) {
    let about: HashMap<_, _> = texts(bytes).into_iter().collect();
    let expiry = about.get("lease").map(Vec::as_slice).unwrap_or_default();
    let lease_ms = decode::remaining_ms(expiry, 1_800_000_000_000);
    drop(decode::worker("w".into(), &about, 1, 2, lease_ms));
    drop(decode::open_connections(&String::from_utf8_lossy(bytes)));
}

fn deferred(bytes: &[u8]) {
    if let Some(deferred) = decode::deferred("r".into(), bytes) {
        let _ = (deferred.request.check(), deferred.request.content());
    }
}

fn registration(bytes: &[u8]) {
    drop(decode::registration(bytes));
}

/// Whatever people may give as a name.
fn name(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    drop(names::check_name("step", &text));
    drop(names::check_id("run id", &text));
    drop(names::check_field(&text));
    if let Ok(namespace) = Namespace::new(&text, 0) {
        let key = namespace.key("inbox");
        assert_eq!((key.matches('{').count(), key.matches(['\r', '\n', ' ']).count()), (1, 0), "{key:?}");
    }
    let _ = (Status::parse(&text), Content::parse(&text));
}

fn info(bytes: &[u8]) {
    let info = Info::parse(&String::from_utf8_lossy(bytes));
    let given = Override { how: "say so", given: true };
    drop(info.admit(given, given));
    drop(info.admit(Override { given: false, ..given }, given).map_err(|refusal| refusal.to_string()));
    drop(info.mode());
}

fn pairs(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
    std::iter::from_fn(|| Some((lines.next()?, lines.next().unwrap_or_default()))).collect()
}

fn texts(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    pairs(bytes).into_iter().map(|(name, value)| (String::from_utf8_lossy(&name).into_owned(), value)).collect()
}
