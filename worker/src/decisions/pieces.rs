//! In which pieces a stream's text is sent, and when.

use std::time::Duration;

/// The most bytes in a piece.
pub(crate) const LONGEST: usize = 16 * 1024;
/// This many bytes of text are sent at once.
const FULL: usize = 4096;
/// The pause between other pieces of a stream: followers get up to 20 a second, for people who read along.
const APART: Duration = Duration::from_millis(50);
/// A writer with this many unsent bytes waits until they are sent.
pub(crate) const MOST_WAITING: usize = 64 * 1024;

/// How long this many bytes of text have to wait. `since` is how long ago the piece before was sent; None for the first
/// one, which is sent at once: people are waiting for it.
pub(crate) fn pause(bytes: usize, since: Option<Duration>) -> Duration {
    match since {
        Some(since) if bytes < FULL => APART.saturating_sub(since),
        _ => Duration::ZERO,
    }
}

/// Whether text that was to be sent at some time is sent sooner, now that more bytes wait than before: the task that
/// writes is woken then, not by each token.
pub(crate) fn hastens(before: usize, now: usize) -> bool {
    before == 0 || before < FULL && now >= FULL
}

/// How many bytes of the text are sent as one piece: whole characters.
pub(crate) fn cut(text: &str) -> usize {
    let mut at = text.len().min(LONGEST);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_piece_and_a_full_one_go_out_at_once_and_others_are_apart() {
        assert_eq!(pause(1, None), Duration::ZERO);
        assert_eq!(pause(1, Some(Duration::ZERO)), APART);
        assert_eq!(pause(FULL - 1, Some(APART / 5)), APART * 4 / 5);
        assert_eq!(pause(1, Some(APART * 3)), Duration::ZERO, "nothing came for a while");
        assert_eq!(pause(FULL, Some(Duration::ZERO)), Duration::ZERO);
    }

    #[test]
    fn who_writes_is_woken_by_the_first_token_and_by_a_full_piece_alone() {
        let woken: Vec<usize> = (0..FULL + 50).filter(|bytes| hastens(*bytes, bytes + 1)).collect();
        assert_eq!(woken, [0, FULL - 1]);
        assert!(hastens(5, FULL * 3) && !hastens(FULL, FULL * 3));
    }

    #[test]
    fn a_piece_is_never_cut_within_a_letter() {
        assert_eq!(cut("tok"), 3);
        let text = "x".repeat(LONGEST - 1) + "ä" + "y";
        assert_eq!(cut(&text), LONGEST - 1);
        let mut rest = &*"€".repeat(LONGEST);
        while !rest.is_empty() {
            let piece = &rest[..cut(rest)];
            assert!(!piece.is_empty() && piece.len() <= LONGEST);
            rest = &rest[piece.len()..];
        }
    }
}
