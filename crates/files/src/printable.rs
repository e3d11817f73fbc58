//! Foreign text, escaped and truncated for messages.

use std::fmt::Write;

/// `text` with control characters, bidirectional formatting and invisible separators escaped, truncated to `max_chars`
/// characters with `…` as the last.
pub fn printable(text: &str, max_chars: usize) -> String {
    let mut shown = String::new();
    let mut length = 0;
    for char in text.chars() {
        let start = shown.len();
        if acts(char) {
            let _ = write!(shown, "{}", char.escape_default());
        } else {
            shown.push(char);
        }
        length += shown[start..].chars().count();
        if length > max_chars {
            // One character less than fits, for the ellipsis.
            let end = shown.char_indices().nth(max_chars.saturating_sub(1)).map_or(shown.len(), |(at, _)| at);
            shown.truncate(end);
            shown.push('…');
            break;
        }
    }
    shown
}

/// Whether a character is a control, bidirectional or invisible one.
fn acts(char: char) -> bool {
    char.is_control()
        || matches!(char,
            // Bidirectional marks, embeddings, overrides and isolates.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Zero-width spaces, line and paragraph separators, the byte order mark, tags.
            | '\u{200b}'..='\u{200d}' | '\u{2028}' | '\u{2029}' | '\u{2060}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_neither_acts_nor_fills_the_screen() {
        assert_eq!(printable("caf\u{e9} \u{732b}", 200), "caf\u{e9} \u{732b}");
        assert_eq!(printable("a\n\u{1b}[2J\r\t\u{202e}b", 200), "a\\n\\u{1b}[2J\\r\\t\\u{202e}b");
        assert_eq!(printable("abcdef", 6), "abcdef");
        assert_eq!(printable("abcdefg", 6), "abcde\u{2026}");
        assert_eq!(printable(&"\u{1b}".repeat(1 << 20), 10).chars().count(), 10);
        assert_eq!(printable("abc", 0), "\u{2026}");
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_goes_out_short_and_without_effect(text in ".*", max in 1usize..50) {
            let shown = printable(&text, max);
            assert!(shown.chars().count() <= max && !shown.contains(acts), "{shown:?}");
        }
    }
}
