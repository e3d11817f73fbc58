//! Printing: results on stdout, messages on stderr. Foreign text (names of files, classes, nodes and tensors, causes of
//! errors) is escaped and shortened here, and nowhere else. A closed pipe is no error.

use crate::args::{Color, Global};
use crate::failure::Failure;
use crate::machine;
use residual::files::printable;
pub(crate) use residual::report::{bytes, duration, grouped};
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::sync::OnceLock;

/// The longest cell of a table, in characters.
const CELL: usize = 120;
/// The longest line, in characters: room for a path and a message.
const LINE: usize = 4000;

/// Prints a result, without adding a line break. Foreign text in it must have gone through [`cell`] or [`line`].
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_on(text).map(drop)
}

/// Prints a part of a result; `false` if the reader closed the pipe.
pub(crate) fn print_on(text: &str) -> Result<bool, Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::at("stdout", &error)),
    }
}

/// Prints a result as one JSON document.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    print(&format!("{}\n", json(value)?))
}

/// A value as indented JSON without control characters.
fn json(value: &impl Serialize) -> Result<String, Failure> {
    let mut document = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut document, Layout::default()))?;
    Ok(escaped(&String::from_utf8_lossy(&document)))
}

/// The layout of JSON documents: a line for each field of the document and for each entry of a field; what is deeper stays
/// in its line.
#[derive(Default)]
struct Layout {
    depth: usize,
    /// Whether the innermost list or object has an entry.
    has_entry: bool,
}

impl Layout {
    /// The deepest lists and objects with a line for each entry.
    const LINES: usize = 2;

    fn open<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.has_entry = false;
        writer.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        if self.has_entry && self.depth <= Self::LINES {
            write!(writer, "\n{:1$}", "", 2 * (self.depth - 1))?;
        }
        self.depth -= 1;
        writer.write_all(bracket)
    }

    fn entry<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        let comma = if first { "" } else { "," };
        match self.depth <= Self::LINES {
            true => write!(writer, "{comma}\n{:1$}", "", 2 * self.depth),
            false => write!(writer, "{comma}{}", if first { "" } else { " " }),
        }
    }
}

impl Formatter for Layout {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.entry(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.has_entry = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.entry(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.has_entry = true;
        Ok(())
    }
}

/// A value as one line of JSON without control characters.
pub(crate) fn json_line(value: &impl Serialize) -> Result<String, Failure> {
    Ok(escaped(&serde_json::to_string(value)?))
}

/// A JSON document with those control characters escaped that JSON allows in strings.
fn escaped(document: &str) -> String {
    let mut text = String::with_capacity(document.len());
    for c in document.chars() {
        match c {
            '\n' => text.push(c),
            c if c.is_control() => write!(text, "\\u{:04x}", u32::from(c)).expect("a string takes all"),
            c => text.push(c),
        }
    }
    text
}

/// How messages are shown, for the whole process.
static MESSAGES: OnceLock<Global> = OnceLock::new();

/// Sets how messages are shown, once.
pub(crate) fn configure(global: Global) {
    let _ = MESSAGES.set(global);
}

/// Whether a live bar is shown: on a terminal, unless messages or bars are turned off.
pub(crate) fn has_bar() -> bool {
    let global = MESSAGES.get().copied().unwrap_or_default();
    !global.quiet && !global.no_progress && std::io::stderr().is_terminal()
}

/// Prints a message to stderr, unless they are turned off. It is lost if stderr is closed.
pub(crate) fn complain(text: &str) {
    if !MESSAGES.get().is_some_and(|global| global.quiet) {
        print_message(text);
    }
}

/// Prints the error that ends the process.
pub(crate) fn print_error(text: &str) {
    let is_coloured = match MESSAGES.get().map(|global| global.color).unwrap_or_default() {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => std::io::stderr().is_terminal() && !machine::refuses_colour(),
    };
    let error = if is_coloured { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
    let _ = writeln!(std::io::stderr().lock(), "{error} {}", line(text));
}

fn print_message(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", line(text));
}

/// Text as one line.
pub(crate) fn line(text: &str) -> String {
    printable(text, LINE)
}

/// Text as a cell of a table.
pub(crate) fn cell(text: &str) -> String {
    printable(text, CELL)
}

/// A path as text. Bytes that are no UTF-8 become `\xff`, so that different paths stay different.
pub(crate) fn path_text(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("a string takes all");
        }
    }
    text
}

/// A path, quoted for a shell where needed.
pub(crate) fn quoted_path(path: &Path) -> String {
    let text = path_text(path);
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Rows in aligned columns: the first flush left, the others right.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|text| cell(text)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().enumerate().map(|(column, cell)| match column {
            0 => format!("{cell:<0$}", widths[0]),
            _ => format!("{cell:>0$}", widths[column]),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Names and values in two columns, flush left.
pub(crate) fn facts(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:<width$}  {}\n", line(value))).collect()
}

/// A number with its noun: `1 image`, `2 images`, `1,000 classes`.
pub(crate) fn count(number: u64, one: &str) -> String {
    let plural = match one {
        "class" => "classes".to_owned(),
        _ => format!("{one}s"),
    };
    format!("{} {}", grouped(number), if number == 1 { one } else { &plural })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_plural() {
        assert_eq!(
            [count(1, "image"), count(0, "image"), count(1000, "class")],
            ["1 image", "0 images", "1,000 classes"]
        );
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["bcd".to_owned(), "22".to_owned()]];
        assert_eq!(table(&rows), "a     1\nbcd  22\n");
    }

    #[test]
    fn a_document_has_a_line_for_each_field_and_for_each_entry_of_a_field() {
        let value = serde_json::json!({"a": 1, "b": [[1, 2], [3, 4]], "c": [{"x": [5], "y": {}}], "d": []});
        let expected = r#"{
  "a": 1,
  "b": [
    [1, 2],
    [3, 4]
  ],
  "c": [
    {"x": [5], "y": {}}
  ],
  "d": []
}"#;
        let document = json(&value).unwrap();
        assert_eq!(document, expected);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&document).unwrap(), value);
    }

    #[test]
    fn text_of_others_is_printable_and_short() {
        let hostile = "a\u{1b}[2J\r\u{9b}b\nc";
        for text in [line(hostile), cell(hostile)] {
            assert!(!text.contains(char::is_control), "{text:?}");
        }
        // A width is 16 bits: a longer cell must not become one.
        let rows = [vec![hostile.to_owned(), "x".repeat(70_000)], vec!["é".repeat(70_000)]];
        let shown = table(&rows);
        assert!(shown.lines().count() == 2 && shown.lines().all(|line| line.chars().count() < 300), "{shown}");
        assert!(facts(&[("name", hostile.repeat(10_000))]).chars().count() < 2 * LINE);
        let document = json(&hostile).unwrap();
        assert!(!document.contains(char::is_control), "{document:?}");
        assert_eq!(serde_json::from_str::<String>(&document).unwrap(), hostile);
    }

    #[cfg(unix)]
    #[test]
    fn paths_that_differ_are_shown_differently() {
        use std::os::unix::ffi::OsStrExt;
        let path = |bytes| path_text(Path::new(std::ffi::OsStr::from_bytes(bytes)));
        assert_eq!([path(b"a\xff.png"), path(b"a\xfe.png")], [r"a\xff.png", r"a\xfe.png"]);
    }

    #[test]
    fn a_path_can_be_pasted_into_a_shell() {
        let cases =
            [("runs/1-a", "runs/1-a"), ("my photos", "'my photos'"), ("it's", r"'it'\''s'"), ("$(x)", "'$(x)'")];
        for (path, text) in cases {
            assert_eq!(quoted_path(Path::new(path)), text);
        }
    }
}
