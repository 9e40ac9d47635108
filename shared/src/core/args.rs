//! Arguments of a call, in order.

use std::io::Write as _;
use std::time::Duration;

use crate::store::millis;

/// A value that is written as arguments.
pub(crate) trait Write {
    /// Adds its arguments.
    fn write<'a>(&'a self, args: &mut Args<'a>);
}

/// The arguments of a transition.
pub(crate) trait Transition: Write {
    /// The words that its reply may begin with.
    type Word;
    /// The transition's name.
    const NAME: &'static str;
    /// It changes nothing: a user who may only read can call it.
    const LOOKS: bool = false;
}

/// The arguments of a short way.
pub(crate) trait Way: Write {
    /// The letter that asks for it.
    const LETTER: &'static str;
}

/// A word that a reply begins with.
pub(crate) trait Word: Copy + 'static {
    /// All of them.
    const ALL: &'static [(&'static str, Self)];

    /// The one with this text.
    fn read(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, known)| *known)
    }
}

/// An argument with a beginning that is put together for the call. The rest, which may be large, is not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Headed<'a> {
    pub(crate) head: String,
    pub(crate) rest: &'a [u8],
}

impl Headed<'_> {
    #[cfg(test)]
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        [self.head.as_bytes(), self.rest].concat()
    }
}

/// Byte strings in order. What is put together for the call is kept here, and what is there anyway is borrowed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Args<'a> {
    own: Vec<u8>,
    /// For each argument: where its part of `own` ends, and what follows that part.
    pieces: Vec<(usize, &'a [u8])>,
    size: usize,
}

impl<'a> Args<'a> {
    /// The arguments of a transition or a short way.
    pub(crate) fn of(given: &'a impl Write) -> Self {
        let mut args = Self::default();
        given.write(&mut args);
        args
    }

    pub(crate) fn text(&mut self, text: &'a str) {
        self.bytes(text.as_bytes());
    }

    /// Nothing where there is none.
    pub(crate) fn optional(&mut self, text: Option<&'a str>) {
        if let Some(text) = text {
            self.text(text);
        }
    }

    pub(crate) fn bytes(&mut self, bytes: &'a [u8]) {
        self.end(bytes);
    }

    pub(crate) fn headed(&mut self, headed: &'a Headed<'_>) {
        self.own.extend_from_slice(headed.head.as_bytes());
        self.end(headed.rest);
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.display(number);
    }

    pub(crate) fn ms(&mut self, ms: i64) {
        self.display(ms);
    }

    pub(crate) fn flag(&mut self, flag: bool) {
        self.display(u8::from(flag));
    }

    /// How many values of a list follow.
    pub(crate) fn count(&mut self, count: usize) {
        self.display(count);
    }

    fn display(&mut self, value: impl std::fmt::Display) {
        // Writing to memory does not fail.
        let _ = write!(self.own, "{value}");
        self.end(&[]);
    }

    fn end(&mut self, rest: &'a [u8]) {
        let start = self.pieces.last().map_or(0, |(end, _)| *end);
        self.size += self.own.len() - start + rest.len();
        self.pieces.push((self.own.len(), rest));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// How many bytes they have.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The two parts of each, either of which may be empty.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &'a [u8])> {
        let mut start = 0;
        self.pieces.iter().map(move |(end, rest)| {
            let own = &self.own[start..*end];
            start = *end;
            (own, *rest)
        })
    }

    /// The same with nothing borrowed.
    pub(crate) fn into_owned(self) -> Args<'static> {
        let (mut own, mut pieces) = (Vec::with_capacity(self.size), Vec::with_capacity(self.len()));
        for (head, rest) in self.iter() {
            own.extend_from_slice(head);
            own.extend_from_slice(rest);
            pieces.push((own.len(), &[][..]));
        }
        Args { own, pieces, size: self.size }
    }

    /// Each as a whole.
    #[cfg(test)]
    pub(crate) fn to_vecs(&self) -> Vec<Vec<u8>> {
        self.iter().map(|(head, rest)| [head, rest].concat()).collect()
    }
}

/// A time as an argument.
pub(crate) fn ms(time: Duration) -> i64 {
    i64::try_from(millis(time)).unwrap_or(i64::MAX)
}

/// The same; -1 for none.
pub(crate) fn ms_or_none(time: Option<Duration>) -> i64 {
    time.map_or(-1, ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_what_was_added() {
        let mut args = Args::default();
        args.text("a");
        args.text("bc");
        let record = Headed { head: "0 s - E\n".into(), rest: b"payload" };
        args.headed(&record);
        args.bytes(b"");
        args.number(7);
        args.ms(-1);
        args.flag(true);
        let whole: Vec<Vec<u8>> =
            ["a", "bc", "0 s - E\npayload", "", "7", "-1", "1"].map(|text| text.as_bytes().to_vec()).to_vec();
        assert_eq!(args.to_vecs(), whole);
        assert_eq!((args.len(), args.size()), (7, 22));
        let owned = args.into_owned();
        assert_eq!((owned.to_vecs(), owned.len(), owned.size()), (whole, 7, 22));
    }

    #[test]
    fn what_is_large_is_not_copied() {
        let payload = vec![1; 1000];
        let mut args = Args::default();
        let record = Headed { head: "0 s - E\n".into(), rest: &payload };
        args.headed(&record);
        let (_, rest) = args.iter().next().unwrap();
        assert!(std::ptr::eq(rest, &raw const payload[..]));
    }
}
