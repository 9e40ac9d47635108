//! Cuts a document into pieces of a bounded size that a reader, an index or a model can take one by one.

use unicode_segmentation::UnicodeSegmentation;

use super::parse::{Document, Kind};

/// Packs whole blocks into chunks of at most `size` characters. A heading opens a new chunk; a block
/// that is too long is cut between sentences, and a sentence that is too long between characters.
pub(super) fn split(document: &Document, size: usize) -> Vec<String> {
    let size = size.max(1);
    let mut chunks = Vec::new();
    let mut chunk = Chunk::default();
    for block in &document.blocks {
        // Headings that follow each other stay together.
        if block.kind == Kind::Heading && !chunk.only_headings {
            chunk.close(&mut chunks);
        }
        let heading = block.kind == Kind::Heading;
        if block.text.chars().count() <= size {
            chunk.add(&block.text, "\n", size, heading, &mut chunks);
            continue;
        }
        for sentence in block.text.split_sentence_bounds() {
            let letters: Vec<char> = sentence.chars().collect();
            for piece in letters.chunks(size) {
                let piece: String = piece.iter().collect();
                chunk.add(&piece, "", size, heading, &mut chunks);
            }
        }
    }
    chunk.close(&mut chunks);
    chunks
}

#[derive(Default)]
struct Chunk {
    text: String,
    chars: usize,
    only_headings: bool,
}

impl Chunk {
    fn add(&mut self, piece: &str, gap: &str, size: usize, heading: bool, chunks: &mut Vec<String>) {
        let chars = piece.chars().count();
        if self.chars > 0 && self.chars + gap.len() + chars > size {
            self.close(chunks);
        }
        self.only_headings = heading && (self.chars == 0 || self.only_headings);
        if self.chars > 0 {
            self.text.push_str(gap);
            self.chars += gap.len();
        }
        self.text.push_str(piece);
        self.chars += chars;
    }

    fn close(&mut self, chunks: &mut Vec<String>) {
        let done = std::mem::take(self);
        if !done.text.trim().is_empty() {
            chunks.push(done.text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::markdown;
    use super::*;

    #[test]
    fn a_heading_opens_a_chunk_and_keeps_its_text() {
        let document = markdown("# A\n\n## B\n\nOne.\n\nTwo.\n\n## C\n\nThree.\n");
        assert_eq!(split(&document, 100), ["A\nB\nOne.\nTwo.", "C\nThree."]);
    }

    #[test]
    fn no_chunk_is_too_long_and_nothing_is_lost() {
        let text = format!("{} {}", "A short sentence here. ".repeat(20), "\u{e9}".repeat(95));
        let chunks = split(&markdown(&text), 40);
        assert!(chunks.len() > 10);
        assert!(chunks.iter().all(|chunk| chunk.chars().count() <= 40), "{chunks:?}");
        assert_eq!(chunks.concat().matches("sentence").count(), 20);
        assert_eq!(chunks.concat().matches('\u{e9}').count(), 95);
    }

    #[test]
    fn an_empty_document_has_none() {
        assert!(split(&markdown("\n\n"), 40).is_empty());
    }
}
