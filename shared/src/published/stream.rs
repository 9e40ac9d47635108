//! Text that a step shows while it writes it.

use serde::Serialize;

use super::{Published, What};

/// The most bytes of text in one stream.
pub const MAX_STREAM: usize = 1_048_576;

/// A stream's text is remembered in blocks of this size, whose number is bounded.
pub(crate) const STREAM_BLOCK: u64 = 4096;

/// A piece of a stream as a step writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// The recorded call of the body within which the stream was begun; 0 for none.
    pub call: u64,
    /// Counts what is published and streamed within that call, or outside of any, from 1.
    pub number: u64,
    /// The step.
    pub step: String,
    /// The stream's name.
    pub stream: String,
    /// How many bytes of the stream come before.
    pub at: u64,
    /// The text.
    pub text: String,
    /// Nothing comes after it.
    pub last: bool,
    /// Streams that no attempt writes again, because the calls that they were part of are recorded: `<call>.<number>`.
    pub done: Vec<String>,
}

impl Piece {
    /// Its place in the body of its step.
    pub(crate) fn place(&self) -> String {
        format!("{}.{}", self.call, self.number)
    }
}

/// The texts of a run's streams, put together from the pieces that a follower reads.
///
/// ```
/// # extern crate stepfleet_shared as stepfleet;
/// use stepfleet::published::Streams;
///
/// # async fn show(client: stepfleet::Client) -> stepfleet::Result<()> {
/// let (mut follower, mut streams) = (client.run("otters-1").follow(), Streams::default());
/// while let Some(entry) = follower.next().await? {
///     if let Some(stream) = streams.add(&entry) {
///         println!("{}: {}", stream.name, stream.text);       // all of it so far
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    all: Vec<StreamText>,
}

/// The text of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StreamText {
    /// Its name.
    pub name: String,
    /// Identifies it in the run: see [`What::Piece`].
    pub id: String,
    /// How often its text was begun: more than once if another attempt has written something else.
    pub take: u32,
    /// The text so far, or the part of it that was read.
    pub text: String,
    /// Whether it is complete, unless its step runs again.
    pub is_whole: bool,
    /// How many bytes the text has, including those that were not read.
    bytes: u64,
}

impl Streams {
    /// Adds an entry. Returns the stream that it belongs to; None if it belongs to none. An entry that was added
    /// before, because a reader went back to an earlier position, changes nothing.
    pub fn add(&mut self, entry: &Published) -> Option<&StreamText> {
        let (name, id, take) = match &entry.what {
            What::Piece { stream, id, take, .. } | What::Superseded { stream, id, take, .. } => (stream, id, *take),
            _ => return None,
        };
        let at = self.all.iter().position(|one| one.id == *id).unwrap_or_else(|| {
            self.all.push(StreamText { name: name.clone(), id: id.clone(), take, ..StreamText::default() });
            self.all.len() - 1
        });
        let one = self.all.get_mut(at)?;
        if take > one.take {
            *one = StreamText { name: name.clone(), id: id.clone(), take, ..StreamText::default() };
        }
        if let What::Piece { at, text, last, .. } = &entry.what
            && take == one.take
            && (*at >= one.bytes || one.bytes == 0)
        {
            one.text += text;
            one.bytes = at + text.len() as u64;
            one.is_whole |= last;
        }
        Some(one)
    }

    /// All of them, in the order in which they began.
    pub fn all(&self) -> &[StreamText] {
        &self.all
    }

    /// The last one of this name.
    pub fn named(&self, name: &str) -> Option<&StreamText> {
        self.all.iter().rev().find(|one| one.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{By, Position};
    use super::*;

    fn by(attempt: u32) -> By {
        By { step: "say".into(), seq: 1, attempt, worker: "w".into() }
    }

    fn entry(what: What) -> Published {
        Published { position: Position::BEGINNING, number: 1, what }
    }

    fn piece(take: u32, at: u64, text: &str) -> Published {
        let (stream, id, text) = ("answer".to_owned(), "1.2.1".to_owned(), text.to_owned());
        entry(What::Piece { stream, id, take, at, text, last: false, by: by(take) })
    }

    #[test]
    fn pieces_are_put_together_once_and_begun_anew_where_they_are_superseded() {
        let mut streams = Streams::default();
        let (first, second) = (piece(1, 0, "Hel"), piece(1, 3, "lo"));
        for seen in [&first, &second, &first, &second] {
            streams.add(seen).unwrap();
        }
        assert_eq!(streams.named("answer").unwrap().text, "Hello");
        let (stream, id) = ("answer".to_owned(), "1.2.1".to_owned());
        let superseded = entry(What::Superseded { stream, id, take: 2, by: by(2) });
        assert_eq!(streams.add(&superseded).unwrap().text, "");
        streams.add(&piece(2, 0, "Good day"));
        // An entry that is read again.
        for old in [&second, &superseded] {
            streams.add(old);
        }
        let answer = streams.named("answer").unwrap();
        assert_eq!((&*answer.text, answer.take, answer.is_whole), ("Good day", 2, false));
        assert!(streams.add(&entry(What::Missed { count: 3 })).is_none() && streams.named("other").is_none());
    }

    #[test]
    fn a_reader_that_comes_in_the_middle_goes_on_from_there() {
        let mut streams = Streams::default();
        streams.add(&piece(3, 5, " world"));
        streams.add(&piece(3, 11, "!"));
        assert_eq!(streams.all()[0].text, " world!");
    }
}
