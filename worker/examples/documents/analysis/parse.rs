//! Turns Markdown or plain text into blocks of clean text: no markup, badges, images or addresses.

use pulldown_cmark::{BrokenLink, CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use super::text::{clean, shorten, strip_tags};

/// A document as the rest of the analysis sees it.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// The text of its best heading.
    pub title: Option<String>,
    /// Its blocks in order.
    pub blocks: Vec<Block>,
}

/// One paragraph, list item, heading, table cell or code block.
#[derive(Debug)]
pub(super) struct Block {
    /// What it is.
    pub kind: Kind,
    /// Its text on one line (code keeps its lines).
    pub text: String,
    /// Its text without inline code such as `Vec<T>`, which makes no keyword.
    pub terms: String,
    /// It stands in a section, such as the license, that every project has.
    pub boilerplate: bool,
}

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A heading.
    Heading,
    /// A paragraph.
    Prose,
    /// An item of a list.
    Item,
    /// A cell of a table.
    Cell,
    /// A code block.
    Code,
}

/// Headings of sections that say nothing about what a document is about.
const BOILERPLATE: [&str; 12] = [
    "license",
    "licence",
    "licensing",
    "copyright",
    "contribut",
    "code of conduct",
    "acknowledg",
    "minimum supported rust",
    "msrv",
    "table of contents",
    "sponsor",
    "credits",
];

/// The longest title, in characters.
const TITLE_CHARS: usize = 120;

/// Reads Markdown with the usual extensions.
pub(super) fn markdown(text: &str) -> Document {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_GFM
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS
        | Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS;
    let mut builder = Builder::default();
    // `[Name]` without a target, as Rust's documentation comments have it, is a link all the same.
    let resolve = |_: BrokenLink<'_>| Some((CowStr::Borrowed(""), CowStr::Borrowed("")));
    for event in Parser::new_with_broken_link_callback(text, options, Some(resolve)) {
        builder.take(event);
    }
    builder.finish()
}

/// Reads plain text: paragraphs are set apart by empty lines, items begin with `-`, `*` or a bullet. A
/// first line that stands alone is the title.
pub(super) fn plain(text: &str) -> Document {
    let mut builder = Builder::default();
    let wordless = |line: &str| !line.contains(char::is_alphanumeric);
    let mut lines = text.lines().map(|line| line.trim_start_matches(['#', ' ', '\t']).trim_end()).peekable();
    let mut first = true;
    while let Some(line) = lines.next() {
        let item = ["- ", "* ", "\u{2022} "].iter().find_map(|bullet| line.strip_prefix(bullet));
        if line.is_empty() || item.is_some() {
            builder.flush(Kind::Prose);
        }
        if wordless(line) {
            continue;
        }
        let alone = lines.peek().is_none_or(|next| wordless(next));
        if first && alone && line.chars().count() <= TITLE_CHARS {
            builder.push(line, line);
            builder.flush(Kind::Heading);
            builder.titled(None);
        } else if let Some(item) = item {
            builder.push(item, item);
            builder.flush(Kind::Item);
        } else {
            builder.push(line, line);
            builder.push(" ", " ");
        }
        first = false;
    }
    builder.finish()
}

/// Collects text until a block ends.
#[derive(Default)]
struct Builder {
    document: Document,
    text: String,
    terms: String,
    /// The level of the heading that gave the title; `None`: not from a Markdown heading.
    title_level: Option<HeadingLevel>,
    has_title: bool,
    items: usize,
    images: usize,
    boilerplate: bool,
    region: Region,
}

/// The part of the document that is being read.
#[derive(Default, PartialEq)]
enum Region {
    #[default]
    Flow,
    Table,
    Code,
    Metadata,
}

impl Builder {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.images == 0 && self.region != Region::Metadata => {
                self.push(&text, &text);
            }
            Event::Code(code) if self.images == 0 => {
                let name = code.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
                self.push(&code, if name { &code } else { "," });
            }
            Event::Html(html) => self.push(&html, ""),
            Event::SoftBreak | Event::HardBreak => self.push(" ", " "),
            _ => {}
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Image { .. } => self.images += 1,
            Tag::Link { .. } | Tag::Emphasis | Tag::Strong | Tag::Strikethrough => {}
            other => {
                self.flush(self.kind());
                match other {
                    Tag::Item => self.items += 1,
                    Tag::Table(_) => self.region = Region::Table,
                    Tag::CodeBlock(_) => self.region = Region::Code,
                    Tag::MetadataBlock(_) => self.region = Region::Metadata,
                    _ => {}
                }
            }
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Image => self.images = self.images.saturating_sub(1),
            TagEnd::Link | TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough => {}
            TagEnd::HtmlBlock => self.html(),
            TagEnd::Heading(level) => {
                self.flush(Kind::Heading);
                self.titled(Some(level));
            }
            other => {
                self.flush(self.kind());
                match other {
                    TagEnd::Item => self.items = self.items.saturating_sub(1),
                    TagEnd::Table | TagEnd::CodeBlock | TagEnd::MetadataBlock(_) => {
                        self.region = Region::Flow;
                    }
                    _ => {}
                }
            }
        }
    }

    fn kind(&self) -> Kind {
        match self.region {
            Region::Code => Kind::Code,
            Region::Table => Kind::Cell,
            _ if self.items > 0 => Kind::Item,
            _ => Kind::Prose,
        }
    }

    fn push(&mut self, text: &str, terms: &str) {
        self.text.push_str(text);
        self.terms.push_str(terms);
    }

    /// Ends a block of HTML: keeps what a browser would show of it. Many a README has its title there.
    fn html(&mut self) {
        let raw = std::mem::take(&mut self.text);
        self.terms.clear();
        let small = raw.to_ascii_lowercase();
        let start = small.find("<h1").unwrap_or(raw.len());
        let end = small[start..].find("</h1>").map_or(raw.len(), |end| start + end);
        for (part, heading) in [(&raw[..start], false), (&raw[start..end], true), (&raw[end..], false)] {
            let shown = strip_tags(part);
            self.push(&shown, &shown);
            self.flush(if heading { Kind::Heading } else { self.kind() });
            if heading {
                self.titled(Some(HeadingLevel::H1));
            }
        }
    }

    /// The block that was just added is a heading: it may be the title or open a boilerplate section.
    fn titled(&mut self, level: Option<HeadingLevel>) {
        let Some(block) = self.document.blocks.last_mut() else {
            return;
        };
        if block.kind != Kind::Heading {
            return;
        }
        let better = match (self.title_level, level) {
            _ if !self.has_title => true,
            (Some(old), Some(new)) => new == HeadingLevel::H1 && old != HeadingLevel::H1,
            _ => false,
        };
        if better {
            // A list of changes that opens with a release has no title, and no later heading is one.
            self.document.title = Some(shorten(&block.text, TITLE_CHARS)).filter(|title| !is_release(title));
            self.has_title = true;
            self.title_level = level;
            self.boilerplate = false;
        } else {
            let name = block.text.to_lowercase();
            self.boilerplate = BOILERPLATE.iter().any(|start| name.contains(start));
            block.boilerplate = self.boilerplate;
        }
    }

    fn flush(&mut self, kind: Kind) {
        let text = std::mem::take(&mut self.text);
        let terms = std::mem::take(&mut self.terms);
        let text = if kind == Kind::Code { text } else { clean(&text) };
        if !text.contains(char::is_alphanumeric) {
            return;
        }
        let boilerplate = self.boilerplate && kind != Kind::Heading;
        self.document.blocks.push(Block { kind, text, terms: clean(&terms), boilerplate });
    }

    fn finish(mut self) -> Document {
        self.flush(self.kind());
        self.document
    }
}

/// Such as `0.4.2 (2024-05-01)`, `Version 2`, `v1.0` or `Unreleased`.
fn is_release(title: &str) -> bool {
    let name = title.to_lowercase();
    let name = ["release ", "version ", "v"].iter().find_map(|start| name.strip_prefix(start)).unwrap_or(&name);
    name.starts_with("unreleased") || (name.starts_with(|c: char| c.is_ascii_digit()) && name.contains('.'))
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
