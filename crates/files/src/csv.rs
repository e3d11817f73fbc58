//! Fields of CSV files.

use crate::printable;

/// The longest field, in characters: room for a path and a message.
const LONGEST: usize = 4000;

/// A field of a CSV file (RFC 4180). Control characters are escaped, and text that a spreadsheet would interpret as a
/// formula gets an apostrophe before it.
pub fn csv_field(text: &str) -> String {
    let mut text = printable(text, LONGEST);
    if text.starts_with(['=', '+', '-', '@']) {
        text.insert(0, '\'');
    }
    if text.contains([',', '"', '\'']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_neither_two_nor_a_formula() {
        let cases = [("a", "a"), ("a,b", "\"a,b\""), ("a\"b", "\"a\"\"b\""), ("=1+1", "\"'=1+1\""), ("-x", "\"'-x\"")];
        for (text, field) in cases {
            assert_eq!(csv_field(text), field);
        }
    }
}
