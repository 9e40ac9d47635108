//! Several payloads as one.

/// Several payloads in one: their lengths, a line feed, and the payloads.
pub(crate) fn cut_payloads(set: &[u8]) -> Option<Vec<Vec<u8>>> {
    let line = set.iter().position(|byte| *byte == b'\n')?;
    let (lengths, mut rest) = (std::str::from_utf8(&set[..line]).ok()?, &set[line + 1..]);
    let mut payloads = Vec::new();
    for length in lengths.split(' ') {
        let (payload, after) = rest.split_at_checked(length.parse().ok()?)?;
        payloads.push(payload.to_vec());
        rest = after;
    }
    rest.is_empty().then_some(payloads)
}

/// The same, written out.
pub(crate) fn join_payloads<'a>(payloads: impl Iterator<Item = &'a Vec<u8>> + Clone) -> Vec<u8> {
    let lengths: Vec<String> = payloads.clone().map(|payload| payload.len().to_string()).collect();
    let mut whole = lengths.join(" ").into_bytes();
    whole.push(b'\n');
    payloads.for_each(|payload| whole.extend_from_slice(payload));
    whole
}

/// Reads the reply of [`WorkerStore::collect`](crate::store::WorkerStore::collect): the events that filled the buffer;
/// None if it is not full yet. Fails if it is no such reply.
pub fn collected(entry: &[u8]) -> crate::Result<Option<Vec<Vec<u8>>>> {
    match entry {
        b"c" => Ok(None),
        [b'c', set @ ..] if cut_payloads(set).is_some() => Ok(cut_payloads(set)),
        _ => Err(crate::Error::reply("an entry of the journal is not that of a collection")),
    }
}
