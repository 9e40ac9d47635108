//! Tests of `parse.rs`.

use super::*;

fn texts(document: &Document, kind: Kind) -> Vec<&str> {
    document.blocks.iter().filter(|block| block.kind == kind).map(|block| block.text.as_str()).collect()
}

fn title(text: &str) -> Option<String> {
    markdown(text).title
}

#[test]
fn keeps_text_and_drops_markup() {
    let document = markdown(
        "---\ntitle: x\n---\n# One\n\n[![badge](b.svg)](b) A **bold** [link](u) and `code`,\nsee <https://a.b>\n\n\
         - item\n  - inner [Name]\n\n| cell |\n|---|\n| 2nd |\n\n```\nlet x;\n```\n\n<!-- no --><p>shown &amp; told</p>\n",
    );
    assert_eq!(texts(&document, Kind::Heading), ["One"]);
    assert_eq!(texts(&document, Kind::Prose), ["A bold link and code, see", "shown & told"]);
    assert_eq!(texts(&document, Kind::Item), ["item", "inner Name"]);
    assert_eq!(texts(&document, Kind::Cell), ["cell", "2nd"]);
    assert_eq!(texts(&document, Kind::Code), ["let x;\n"]);
}

#[test]
fn the_title_is_the_best_heading() {
    assert_eq!(title("## Early\n\n# Main\n\n# Later").as_deref(), Some("Main"));
    assert_eq!(title("## Early\n\n## Later").as_deref(), Some("Early"));
    let html = title("<div>\n<h1 align=\"center\"><img src=x>The App</h1>\n<p>About it.</p>\n</div>\n\n## Use");
    assert_eq!(html.as_deref(), Some("The App"));
    assert_eq!(title("No heading at all."), None);
    assert_eq!(title("## 1.2.0 (2024-05-01)\n\n### Fixed\n"), None);
    assert_eq!(title("# 7 wonders").as_deref(), Some("7 wonders"));
}

#[test]
fn license_and_such_are_boilerplate_until_the_next_heading() {
    let document = markdown("# App\n\nIt apps.\n\n## License\n\nMIT.\n\n## Design\n\nIt thinks.\n");
    let marked: Vec<_> = document.blocks.iter().filter(|block| block.boilerplate).map(|block| &block.text).collect();
    assert_eq!(marked, ["License", "MIT."]);
    assert!(!markdown("# License\n\nMIT.").blocks.iter().any(|block| block.boilerplate));
}

#[test]
fn plain_text_has_paragraphs_items_and_a_title_that_stands_alone() {
    let document = plain("Title\n=====\n\nOne line\nand another.\n\n- an item\n\nLast.");
    assert_eq!(document.title.as_deref(), Some("Title"));
    assert_eq!(texts(&document, Kind::Prose), ["One line and another.", "Last."]);
    assert_eq!(texts(&document, Kind::Item), ["an item"]);
    assert_eq!(plain("aardvark\nabacus\n").title, None);
}

#[test]
fn broken_html_is_read_to_its_end() {
    assert_eq!(markdown("<h1>\u{130}\u{212a} <p> \u{df}").title.as_deref(), Some("\u{130}\u{212a} \u{df}"));
}
