//! `stream`: publishes a piece of a text while the step is still writing it.

use super::data::Data;
use crate::published::{By, MAX_REMEMBERED, Piece, STREAM_BLOCK, What};
use crate::step::{CommitStatus, Fence};

/// The state of one stream of a step execution.
#[derive(Clone, Debug, Default)]
pub(super) struct Streamed {
    take: u32,
    text: Vec<u8>,
    has_ended: bool,
}

/// What followers get for a piece.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// Nothing: the piece is known already.
    None,
    /// The new part of the text.
    GoesOn { at: usize, text: String },
    /// The whole text, because the attempt writes a different one.
    Supersedes { text: String },
}

impl Streamed {
    pub(super) fn fields(&self) -> usize {
        1 + self.text.len().div_ceil(usize::try_from(STREAM_BLOCK).unwrap_or(usize::MAX))
    }

    fn add(&mut self, piece: &Piece) -> News {
        let at = usize::try_from(piece.at).unwrap_or(usize::MAX);
        if at > self.text.len() {
            self.text.resize(at, 0);
            self.has_ended = false;
        }
        let (known, new) = (self.text.len(), piece.text.as_bytes());
        let (stop, overlap) = (at + new.len(), new.len().min(known - at));
        let is_same = self.text[at..at + overlap] == new[..overlap];
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !is_same || piece.last && stop < known || self.has_ended && stop > known {
            self.text.truncate(at);
            self.text.extend(new);
            (self.take, self.has_ended) = (self.take + 1, piece.last);
            return News::Supersedes { text: lossy(&self.text) };
        }
        if stop <= known && (self.has_ended || !piece.last) {
            return News::None;
        }
        self.text.extend(&new[overlap..]);
        self.has_ended |= piece.last;
        News::GoesOn { at: known, text: lossy(&new[overlap..]) }
    }
}

impl Data {
    /// None if the step execution has too many streams.
    pub(super) fn stream(&mut self, now: u64, worker: &str, fence: &Fence, piece: &Piece) -> Option<CommitStatus> {
        if !self.is_good(worker, fence) {
            return Some(CommitStatus::Fenced);
        }
        let execution = self.steps(&fence.run).and_then(|steps| steps.executions.get_mut(&fence.seq));
        let Some(execution) = execution else { return Some(CommitStatus::Fenced) };
        let told = &mut execution.published;
        told.streams.retain(|(call, number), _| !piece.done.contains(&format!("{call}.{number}")));
        let place = (piece.call, piece.number);
        if !told.streams.contains_key(&place) && told.len() >= MAX_REMEMBERED {
            return None;
        }
        let streamed = told.streams.entry(place).or_insert_with(|| Streamed { take: 1, ..Streamed::default() });
        let (news, take) = (streamed.add(piece), streamed.take);
        let by = By { step: piece.step.clone(), seq: fence.seq, attempt: fence.attempt, worker: worker.to_owned() };
        let (stream, id, last) = (piece.stream.clone(), format!("{}.{}", fence.seq, piece.place()), piece.last);
        let (at, text) = match news {
            News::None => return Some(CommitStatus::Committed),
            News::GoesOn { at, text } => (at as u64, text),
            News::Supersedes { text } => {
                let (stream, id, by) = (stream.clone(), id.clone(), by.clone());
                self.add_published(now, &fence.run, What::Superseded { stream, id, take, by });
                (0, text)
            }
        };
        self.add_published(now, &fence.run, What::Piece { stream, id, take, at, text, last, by });
        Some(CommitStatus::Committed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(at: u64, text: &str, last: bool) -> Piece {
        Piece { at, text: text.into(), last, ..Piece::default() }
    }

    #[test]
    fn only_what_is_new_is_told() {
        let mut streamed = Streamed { take: 1, ..Streamed::default() };
        let mut add = |at, text, last| streamed.add(&piece(at, text, last));
        let goes_on = |at, text: &str| News::GoesOn { at, text: text.into() };
        assert_eq!(add(0, "Hello", false), goes_on(0, "Hello"));
        assert_eq!(add(0, "Hello", false), News::None, "a repetition");
        assert_eq!(add(0, "Hel", false), News::None);
        assert_eq!(add(3, "lo world", false), goes_on(5, " world"));
        assert_eq!(add(11, "", true), goes_on(11, ""), "it has ended");
        assert_eq!(add(11, "", true), News::None);
        assert_eq!(add(0, "Hello world", true), News::None);
        let supersedes = |text: &str| News::Supersedes { text: text.into() };
        assert_eq!(add(6, "moon", false), supersedes("Hello moon"));
        assert_eq!(add(6, "", true), supersedes("Hello "), "the earlier attempt wrote more");
        assert_eq!(add(6, "all", false), supersedes("Hello all"), "the earlier attempt had ended there");
        assert_eq!(add(12, "x", false), goes_on(12, "x"), "the store has lost what came before");
    }
}
