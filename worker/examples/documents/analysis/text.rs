//! Small works on text: cleaning, HTML and shortening.

/// One line without addresses, badge leftovers and empty brackets.
pub(super) fn clean(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        let junk = word.contains("://") || word.starts_with("www.") || word.starts_with("[![");
        if junk || matches!(word, "()" | "[]" | "(" | ")") {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

/// The text between the tags; comments, scripts and styles are dropped.
pub(super) fn strip_tags(html: &str) -> String {
    let mut shown = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(open) = rest.find('<') {
        shown.push_str(&rest[..open]);
        shown.push(' ');
        rest = &rest[open..];
        let end = ["<!--", "<script", "<style"]
            .iter()
            .zip(["-->", "</script>", "</style>"])
            .find(|(start, _)| rest.get(..start.len()).is_some_and(|tag| tag.eq_ignore_ascii_case(start)))
            .map_or(">", |(_, end)| end);
        rest = rest.find(end).map_or("", |at| &rest[at + end.len()..]);
    }
    shown.push_str(rest);
    let entities = [("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&amp;", "&")];
    entities.iter().fold(shown, |text, (entity, plain)| text.replace(entity, plain))
}

/// At most `chars` characters of `text`, cut between two words where there is one.
pub(super) fn shorten(text: &str, chars: usize) -> String {
    let Some((end, _)) = text.char_indices().nth(chars) else {
        return text.to_owned();
    };
    let last = text[..end].chars().next_back().map_or(0, char::len_utf8);
    let head = &text[..end - last];
    let head = head.rsplit_once(' ').map_or(head, |(head, _)| head);
    format!("{}\u{2026}", head.trim_end_matches([',', ';', ':', ' ']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_html_loses_nothing_else() {
        assert_eq!(
            strip_tags("a <b>c</b> <!-- x > y --> d <SCRIPT>no</script> e").split_whitespace().collect::<Vec<_>>(),
            ["a", "c", "d", "e"].to_vec()
        );
        assert_eq!(strip_tags("never < closed").trim(), "never");
    }

    #[test]
    fn shortens_between_words() {
        assert_eq!(shorten("short", 5), "short");
        assert_eq!(shorten("one two three", 9), "one two\u{2026}");
        assert_eq!(shorten("\u{e9}\u{e9}\u{e9}\u{e9}", 3), "\u{e9}\u{e9}\u{2026}");
    }
}
