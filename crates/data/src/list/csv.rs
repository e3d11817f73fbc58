//! Lists in CSV files.

use csv::{ByteRecord, Reader, ReaderBuilder};
use residual_files::printable;

use super::rows::{Rows, WrittenRow};
use super::{LABEL_COLUMNS, MULTI_LABEL_COLUMNS, PATH_COLUMNS, Place, SPLIT_COLUMN};
use crate::DataError;
use crate::dataset::counted;

/// Adds the rows of a CSV file to `rows`; false for metadata without a column of paths or of labels.
pub(super) fn read(bytes: &[u8], place: &Place<'_>, rows: &mut Rows) -> Result<bool, DataError> {
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let mut records = Records { bytes, place, record: ByteRecord::new() };
    let mut columns = None;
    let mut width = None;
    while records.next(&mut reader)? {
        let fields = records.fields()?;
        let columns = match &columns {
            Some(columns) => columns,
            None => {
                let found = match Columns::of_header(&fields, &records, &mut rows.notes)? {
                    Header::Columns(columns) => Some(columns),
                    Header::Unlabelled => return Ok(false),
                    Header::None => None,
                };
                let is_header = found.is_some();
                let found: &mut Columns = columns.insert(found.unwrap_or(Columns::PLAIN));
                rows.multi_label |= found.multi_label;
                if is_header {
                    continue;
                }
                found
            }
        };
        let width = *width.get_or_insert(columns.count.unwrap_or(fields.len()));
        columns.check(width, &fields, &records)?;
        let field = fields[columns.label].trim();
        rows.multi_label |= field.contains(';');
        let labels: Vec<&str> = if field.is_empty() { Vec::new() } else { field.split(';').map(str::trim).collect() };
        if labels.contains(&"") {
            let got = format!("\"{}\"", printable(field, 60));
            return Err(records.invalid("a label before and after each semicolon", got));
        }
        let split = columns.split.and_then(|column| fields.get(column)).copied();
        let row = WrittenRow { path: fields[columns.path], labels, split };
        rows.push(row, place, &|expected, got| records.invalid(expected, got))?;
    }
    if columns.is_some_and(|columns: Columns| columns.split.is_some()) && width != Some(2) {
        rows.has_splits = true;
    } else if place.is_metadata && place.within.is_none() {
        rows.take_split_folders(place)?;
    }
    Ok(true)
}

/// The present row, and where it is.
struct Records<'a> {
    bytes: &'a [u8],
    place: &'a Place<'a>,
    record: ByteRecord,
}

impl Records<'_> {
    /// Reads the next row, if there is one.
    fn next(&mut self, reader: &mut Reader<&[u8]>) -> Result<bool, DataError> {
        reader.read_byte_record(&mut self.record).map_err(|cause| {
            let got = printable(&cause.to_string(), 100);
            DataError::invalid(self.place.file.display(), "rows of a CSV file", got)
        })
    }

    fn fields(&self) -> Result<Vec<&str>, DataError> {
        let text = |field| std::str::from_utf8(field).map_err(|_| self.invalid("UTF-8 text", "other bytes"));
        self.record.iter().map(text).collect()
    }

    fn invalid(&self, expected: impl ToString, got: impl ToString) -> DataError {
        // The reader's position is where it began to look for the row; empty lines may follow.
        let [line, byte] = self.record.position().map_or([0, 0], |position| [position.line(), position.byte()]);
        let rest = self.bytes.get(byte as usize..).unwrap_or_default();
        let skipped =
            rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).filter(|&&byte| byte == b'\n').count();
        DataError::invalid(format!("{}:{}", self.place.file.display(), line + skipped as u64), expected, got)
    }
}

/// What a first row is.
enum Header {
    /// The names of columns.
    Columns(Columns),
    /// Those of metadata of other things than the images' labels.
    Unlabelled,
    /// A row like the others.
    None,
}

/// The number of each column.
#[derive(Clone, Copy)]
struct Columns {
    path: usize,
    label: usize,
    split: Option<usize>,
    /// The number of fields in a row; `None` for any that has the columns.
    count: Option<usize>,
    multi_label: bool,
}

impl Columns {
    /// Those of a list without a header, with a split in the third field of each row that has one.
    const PLAIN: Self = Self { path: 0, label: 1, split: Some(2), count: None, multi_label: false };

    fn of_header(fields: &[&str], records: &Records<'_>, notes: &mut Vec<String>) -> Result<Header, DataError> {
        let names: Vec<String> = fields.iter().map(|field| field.trim().to_ascii_lowercase()).collect();
        let find = |wanted: &[&str]| names.iter().position(|name| wanted.contains(&name.as_str()));
        let (path, label) = match (find(&PATH_COLUMNS), find(&LABEL_COLUMNS)) {
            (Some(path), Some(label)) => (path, label),
            _ if records.place.is_metadata => return Ok(Header::Unlabelled),
            (Some(_), None) if names.len() == 1 || find(&[SPLIT_COLUMN]).is_some() => {
                return Err(records.invalid("a column called label", format!("{} columns", names.len())));
            }
            _ => return Ok(Header::None),
        };
        let split = find(&[SPLIT_COLUMN]);
        let others = (0..names.len()).filter(|&at| at != path && at != label && Some(at) != split);
        let others: Vec<String> = others.map(|at| format!("\"{}\"", printable(fields[at], 60))).collect();
        if !others.is_empty() {
            notes.push(format!("{}: ignored the columns {}", records.place.file.display(), others.join(", ")));
        }
        let multi_label = MULTI_LABEL_COLUMNS.contains(&names[label].as_str());
        Ok(Header::Columns(Self { path, label, split, count: Some(names.len()), multi_label }))
    }

    /// Whether a row has the number of fields of the header, or of the first row.
    fn check(&self, width: usize, fields: &[&str], records: &Records<'_>) -> Result<(), DataError> {
        if fields.len() == width && (self.count.is_some() || matches!(width, 2 | 3)) {
            return Ok(());
        }
        let expected = match self.count {
            Some(count) => format!("{count} fields, as in the header"),
            None if matches!(width, 2 | 3) => format!("{width} fields, as in the first row"),
            None => "path,label or path,label,split".into(),
        };
        Err(records.invalid(expected, counted(fields.len(), "field")))
    }
}
