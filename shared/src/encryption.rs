//! Encryption of payloads: with a keyring, what a process writes into Redis is encrypted with AES-256-GCM, and what it reads is decrypted.
//!
//! A keyring belongs to the whole process. It comes from the file that `STEPFLEET_KEYS_FILE` names, or from
//! [`Keyring::install`]. Without a keyring one sees which key a value was encrypted with, and nothing else of it.
//!
//! An encrypted value is itself a value: an extension type in MessagePack, and the object `{"$encrypted":"<base64>"}` in JSON. So
//! coordinators and Redis pass it on like any other. Both hold the same envelope: the length of the key's id, the id, a nonce of 12
//! bytes, and the payload with its format byte, encrypted.
//!
//! The nonce is a keyed digest of the payload. Equal values therefore look equal under one key, which the engine needs: a body that
//! runs again must write the same bytes. Different values have different nonces.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use rmp::Marker;

use crate::codec::{self, Content};
use crate::error::{Error, Result};

/// The variable that names the file with the keys.
pub const KEYS_FILE: &str = "STEPFLEET_KEYS_FILE";

/// The MessagePack extension type of an encrypted value.
const EXTENSION: i8 = 0x45;
/// How an encrypted value begins in JSON, and how it ends.
const JSON_BEGIN: &[u8] = b"{\"$encrypted\":\"";
const JSON_END: &[u8] = b"\"}";
/// The only member of that object.
pub(crate) const MEMBER: &str = "$encrypted";
const KEY_LENGTH: usize = 32;
/// The longest id of a key, in bytes.
const MAX_ID: usize = 64;

static INSTALLED: OnceLock<std::result::Result<Option<Keyring>, Error>> = OnceLock::new();

/// Keys by their ids. The first one encrypts; all of them decrypt.
pub struct Keyring {
    active: String,
    keys: BTreeMap<String, Key>,
}

struct Key {
    cipher: LessSafeKey,
    nonces: hmac::Key,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("active", &self.active).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Reads keys, one a line: an id of up to 64 letters, digits, `_ - .`, a space, and 64 hexadecimal digits. The first one encrypts.
    /// Empty lines and lines that begin with `#` are passed over.
    ///
    /// To rotate, put a new line first, and keep the old ones as long as anything that was written with them.
    pub fn parse(text: &str) -> Result<Self> {
        let (mut active, mut keys) = (None, BTreeMap::new());
        let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            // The line itself is a secret.
            let wrong = |why: &str| {
                Error::invalid(format!("line {number} of the keys {why}; write `<id> <64 hexadecimal digits>`"))
            };
            let (id, digits) = line.split_once(' ').ok_or_else(|| wrong("is not an id and a key"))?;
            let is_id = id.len() <= MAX_ID && id.bytes().all(|c| c.is_ascii_alphanumeric() || b"_-.".contains(&c));
            if !is_id {
                return Err(wrong("has an id that is not made of up to 64 letters, digits, `_ - .`"));
            }
            let key = from_hex(digits.trim())
                .and_then(|bytes| Key::new(&bytes))
                .ok_or_else(|| wrong("has a key of another length"))?;
            active.get_or_insert_with(|| id.to_owned());
            if keys.insert(id.to_owned(), key).is_some() {
                return Err(wrong("has an id that another line has too"));
            }
        }
        let active = active.ok_or_else(|| Error::invalid("there is no key; write `<id> <64 hexadecimal digits>`"))?;
        Ok(Self { active, keys })
    }

    /// Makes it the keyring of this process. Fails if the process has one already, or has begun to work without one: do this first.
    pub fn install(self) -> Result<()> {
        INSTALLED.set(Ok(Some(self))).map_err(|_| {
            Error::invalid("this process has its keys already, or works without; install a keyring first of all")
        })
    }

    /// The envelope of a payload.
    fn seal(&self, payload: &[u8]) -> Vec<u8> {
        let key = &self.keys[&self.active];
        let digest = hmac::sign(&key.nonces, payload);
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&digest.as_ref()[..NONCE_LEN]);
        let mut body = payload.to_vec();
        let sealed = key.cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut body);
        sealed.expect("a payload is far below what the cipher takes");
        let id = self.active.as_bytes();
        [&[u8::try_from(id.len()).unwrap_or(u8::MAX)], id, &nonce, &body].concat()
    }

    fn open(&self, what: &str, id: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        let key = self.keys.get(id).ok_or_else(|| missing(what, id))?;
        let damaged = || {
            Error::invalid(format!("{what} cannot be decrypted: it is damaged, or the key {id} is another one by now"))
        };
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let mut body = body.to_vec();
        let length = key.cipher.open_in_place(nonce, Aad::empty(), &mut body).map_err(|_| damaged())?.len();
        body.truncate(length);
        Ok(body)
    }
}

impl Key {
    fn new(bytes: &[u8; KEY_LENGTH]) -> Option<Self> {
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).ok()?);
        let own = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, bytes), b"stepfleet nonces");
        Some(Self { cipher, nonces: hmac::Key::new(hmac::HMAC_SHA256, own.as_ref()) })
    }
}

fn from_hex(digits: &str) -> Option<[u8; KEY_LENGTH]> {
    let mut bytes = [0; KEY_LENGTH];
    if digits.len() != 2 * KEY_LENGTH || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

fn missing(what: &str, id: &str) -> Error {
    Error::invalid(format!("{what} is encrypted with the key {id}, which this process does not have: see {KEYS_FILE}"))
}

/// Reads the keys of this process, if it has not yet. Fails if the file cannot be read or used.
pub(crate) fn check() -> Result<()> {
    installed().map(drop)
}

fn installed() -> Result<Option<&'static Keyring>> {
    INSTALLED.get_or_init(from_environment).as_ref().map(Option::as_ref).map_err(Clone::clone)
}

fn from_environment() -> Result<Option<Keyring>> {
    let Some(file) = std::env::var(KEYS_FILE).ok().filter(|file| !file.is_empty()) else { return Ok(None) };
    let text = std::fs::read_to_string(&file)
        .map_err(|error| Error::invalid(format!("{KEYS_FILE} names {file}, which cannot be read: {error}")))?;
    Keyring::parse(&text).map(Some).map_err(|error| Error::invalid(format!("{KEYS_FILE} names {file}: {error}")))
}

fn keys() -> Option<&'static Keyring> {
    installed().ok().flatten()
}

/// Whether this process encrypts what it writes.
pub(crate) fn is_on() -> bool {
    keys().is_some()
}

/// MessagePack as it is written: encrypted, if this process has keys.
pub(crate) fn packed(plain: Vec<u8>) -> Vec<u8> {
    let Some(keys) = keys() else { return plain };
    as_extension(&keys.seal(&[&[codec::MESSAGEPACK], &*plain].concat()))
}

/// A text of JSON, or MessagePack, as it is to be written.
pub(crate) fn written(content: Content, plain: Vec<u8>) -> Vec<u8> {
    match (content, keys()) {
        (Content::MessagePack, _) => packed(plain),
        (Content::Json, None) => plain,
        (Content::Json, Some(keys)) => as_object(&keys.seal(&[&[codec::JSON], &*plain].concat())),
    }
}

/// A JSON object whose members are encrypted, each by itself. Whole numbers are not, as Redis adds to them.
pub(crate) fn members(object: Vec<u8>) -> Vec<u8> {
    let Some(keys) = keys() else { return object };
    let Ok(mut members) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&object) else {
        return object;
    };
    for value in members.values_mut().filter(|value| !value.is_i64()) {
        let envelope = keys.seal(&[&[codec::JSON], value.to_string().as_bytes()].concat());
        *value = serde_json::json!({ MEMBER: BASE64.encode(envelope) });
    }
    serde_json::Value::Object(members).to_string().into_bytes()
}

fn as_extension(envelope: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(envelope.len() + 6);
    let length = u32::try_from(envelope.len()).unwrap_or(u32::MAX);
    // Writing into a vector cannot fail.
    let _ = rmp::encode::write_ext_meta(&mut out, length, EXTENSION);
    out.extend_from_slice(envelope);
    out
}

fn as_object(envelope: &[u8]) -> Vec<u8> {
    [JSON_BEGIN, BASE64.encode(envelope).as_bytes(), JSON_END].concat()
}

/// Whether a value in this form is encrypted: whole, whatever key it needs.
pub fn is_encrypted(content: Content, body: &[u8]) -> bool {
    match content {
        Content::Json => of_object(body).is_some_and(|text| BASE64.decode(text).is_ok()),
        Content::MessagePack => of_extension(body).is_some(),
    }
}

/// The payload behind an encrypted MessagePack value; None if it is not encrypted. Never panics, whatever the bytes are.
pub(crate) fn opened(what: &str, body: &[u8]) -> Option<Result<Vec<u8>>> {
    of_extension(body).map(|envelope| open(what, envelope))
}

/// As [`opened`], for a text of JSON.
pub(crate) fn opened_json(what: &str, body: &[u8]) -> Option<Result<Vec<u8>>> {
    of_object(body).map(|text| open_text(what, text))
}

fn of_object(body: &[u8]) -> Option<&[u8]> {
    body.strip_prefix(JSON_BEGIN)?.strip_suffix(JSON_END)
}

/// As [`opened`], for the text in the member of such an object.
pub(crate) fn open_text(what: &str, text: &[u8]) -> Result<Vec<u8>> {
    let damaged = |_| Error::invalid(format!("{what} cannot be decrypted: it is damaged"));
    open(what, &BASE64.decode(text).map_err(damaged)?)
}

fn of_extension(body: &[u8]) -> Option<&[u8]> {
    let header = match Marker::from_u8(*body.first()?) {
        Marker::FixExt1 | Marker::FixExt2 | Marker::FixExt4 | Marker::FixExt8 | Marker::FixExt16 => 2,
        Marker::Ext8 => 3,
        Marker::Ext16 => 4,
        Marker::Ext32 => 6,
        _ => return None,
    };
    let mut rest = body;
    let meta = rmp::decode::read_ext_meta(&mut rest).ok()?;
    let length = usize::try_from(meta.size).ok()?;
    (meta.typeid == EXTENSION && body.len() == header + length).then_some(rest)
}

fn open(what: &str, envelope: &[u8]) -> Result<Vec<u8>> {
    let damaged = || Error::invalid(format!("{what} cannot be decrypted: it is damaged"));
    let (length, rest) = envelope.split_first().ok_or_else(damaged)?;
    let (id, sealed) = rest.split_at_checked(usize::from(*length)).ok_or_else(damaged)?;
    let id = std::str::from_utf8(id).ok().filter(|id| id.len() <= MAX_ID).ok_or_else(damaged)?;
    keys().ok_or_else(|| missing(what, id))?.open(what, id, sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(ids: &[&str]) -> Keyring {
        let line = |id: &&str| format!("{id} {}\n", format!("{:02x}", id.len()).repeat(KEY_LENGTH));
        Keyring::parse(&ids.iter().map(line).collect::<String>()).unwrap()
    }

    fn parts(envelope: &[u8]) -> (&str, &[u8]) {
        let (id, sealed) = envelope[1..].split_at(usize::from(envelope[0]));
        (std::str::from_utf8(id).unwrap(), sealed)
    }

    #[test]
    fn what_was_sealed_is_opened_with_the_same_key_and_no_other() {
        let (old, new) = (keyring(&["a"]), keyring(&["bb", "a"]));
        let envelope = old.seal(b"\x01secret");
        assert!(!envelope.windows(6).any(|bytes| bytes == b"secret"));
        let (id, sealed) = parts(&envelope);
        assert_eq!(id, "a");
        assert_eq!(new.open("x", id, sealed).unwrap(), b"\x01secret", "a key that no longer encrypts");
        assert_eq!(parts(&new.seal(b"\x01secret")).0, "bb", "the first key encrypts");
        let error = old.open("the input", "bb", sealed).unwrap_err().to_string();
        assert!(
            error.starts_with("the input is encrypted with the key bb, which this process does not have"),
            "{error}"
        );
        let other = Keyring::parse(&format!("a {}", "ff".repeat(KEY_LENGTH))).unwrap();
        assert!(other.open("x", "a", sealed).unwrap_err().to_string().contains("cannot be decrypted"));
    }

    #[test]
    fn a_value_that_was_changed_is_not_opened() {
        let keys = keyring(&["a"]);
        let envelope = keys.seal(b"\x01secret");
        for at in 2..envelope.len() {
            let mut changed = envelope.clone();
            changed[at] ^= 1;
            let (id, sealed) = parts(&changed);
            assert!(keys.open("x", id, sealed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn equal_values_look_equal_and_others_have_nonces_of_their_own() {
        let keys = keyring(&["a"]);
        assert_eq!(keys.seal(b"\x01one"), keys.seal(b"\x01one"));
        let nonce = |payload: &[u8]| keys.seal(payload)[2..2 + NONCE_LEN].to_vec();
        assert_ne!(nonce(b"\x01one"), nonce(b"\x01two"));
    }

    #[test]
    fn envelopes_are_values_of_either_form() {
        for size in [1, 14, 300, 70_000] {
            let envelope = vec![7; size];
            let packed = as_extension(&envelope);
            assert_eq!(of_extension(&packed), Some(&*envelope), "{size}");
            assert_eq!(crate::values::value_len(&packed), Some(packed.len()), "{size}");
        }
        let text = as_object(b"envelope");
        assert!(is_encrypted(Content::Json, &text) && serde_json::from_slice::<serde_json::Value>(&text).is_ok());
        for broken in [&text[..text.len() - 1], &text[..16], b"{\"$encrypted\":\"\xd0", b"{\"$encrypted\":\"\xd0\"}"] {
            assert!(!is_encrypted(Content::Json, broken));
            let taken = codec::check_input(Content::Json, broken);
            assert!(taken.is_err(), "what is no JSON was taken as encrypted");
        }
        assert!(!is_encrypted(Content::Json, b"{}") && !is_encrypted(Content::MessagePack, b"\xd4\x46\x00"));
    }

    #[test]
    fn keys_that_cannot_be_used_are_told_by_their_line_and_never_shown() {
        let key = "0f".repeat(KEY_LENGTH);
        for text in [
            "",
            "# none",
            "a",
            "a 12",
            &format!("a b {key}"),
            &format!("a {key}\na {key}"),
            &format!("a/b {key}"),
            "a 0x",
        ] {
            let error = Keyring::parse(text).unwrap_err().to_string();
            assert!(error.contains("64 hexadecimal digits") && !error.contains("0f0f"), "{text}: {error}");
        }
        assert_eq!(format!("{:?}", keyring(&["a"])), "Keyring { active: \"a\", .. }");
    }

    #[test]
    fn no_bytes_make_the_reader_panic() {
        let mut bytes = as_extension(&[200, 1, 2, 3]);
        for length in 0..=bytes.len() {
            let _ = opened("x", &bytes[..length]);
        }
        bytes[0] = 0xc9;
        assert!(opened("x", &bytes).is_none_or(|opened| opened.is_err()));
        assert!(opened_json("x", b"{\"$encrypted\":\"%%\"}").unwrap().is_err());
    }
}
