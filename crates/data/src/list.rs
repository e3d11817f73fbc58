//! Images listed in a CSV file: a row for each, with its path and its label or labels.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use residual_files::{printable, read_file};

use crate::dataset::counted;
use crate::folder::{MAX_CLASSES, check_distinct, file_fingerprint, read_image};
use crate::{DataError, Dataset, Format, Sample, Split, UnknownClasses};

/// Maximum size of a list.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// Maximum memory of the targets of images with several labels.
const MAX_TARGET_BYTES: usize = 1 << 30;

/// The columns that a header names.
const PATH_COLUMNS: [&str; 5] = ["path", "file", "filename", "filepath", "image"];
const LABEL_COLUMNS: [&str; 4] = ["label", "labels", "class", "classes"];
const SPLIT_COLUMN: &str = "split";

/// A parsed list. Nothing but the list itself is read yet.
#[derive(Debug)]
pub struct ImageList {
    file: PathBuf,
    /// The folder that paths are relative to.
    root: PathBuf,
    names: Vec<String>,
    rows: Vec<Row>,
    /// The distinct sets of labels, each sorted; rows have their number.
    sets: Vec<Vec<u32>>,
    /// For several labels per image: 1 and 0 for each class, one set after another.
    targets: Vec<f32>,
    multi_label: bool,
    has_splits: bool,
    notes: Vec<String>,
}

#[derive(Debug)]
struct Row {
    path: Box<str>,
    set: u32,
    split: Split,
}

impl ImageList {
    /// Reads the list in `file`: see [`parse_image_list`].
    ///
    /// # Errors
    /// [`DataError::File`] if the file cannot be read or is larger than 1 GiB; else as [`parse_image_list`].
    pub fn open(file: &Path) -> Result<Self, DataError> {
        parse_image_list(&read_file(file, MAX_FILE_BYTES)?, file)
    }

    /// The splits that the list has images of, in order; none if it has no column of splits.
    pub(crate) fn splits(&self) -> Vec<Split> {
        if !self.has_splits {
            return Vec::new();
        }
        self.rows.iter().map(|row| row.split).collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }
}

/// Parses a list: rows of `path,label` or `path,label,split`, with fields quoted as usual in CSV files.
///
/// A first row that names its columns (`path`, `label` or `labels`, `split`, in any order and among others, which are
/// ignored) is a header; without one the columns are in that order. Paths are relative to the folder of `file`. An image has
/// several labels if its field has some, separated by semicolons (`cat;dog`); if any row has or the column is called
/// `labels`, the list is one of several labels, and an empty field means none. Classes are sorted by name, as numbers if
/// all of them are whole numbers; those of the training split are the classes of all.
///
/// # Errors
/// [`DataError::Invalid`] with file and line of a row that is none of this; [`DataError::Classes`] for labels that the
/// training split lacks; [`DataError::Memory`] for more than 1 GiB of targets.
pub fn parse_image_list(bytes: &[u8], file: &Path) -> Result<ImageList, DataError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let mut records = Records { bytes, file, record: csv::ByteRecord::new() };
    let mut columns = None;
    let mut parsed = Parsed::default();
    let mut notes = Vec::new();
    while records.next(&mut reader)? {
        let fields = records.fields()?;
        let columns = match &columns {
            Some(columns) => columns,
            None => {
                let found = Columns::of_header(&fields, &records, &mut notes)?;
                let is_header = found.is_some();
                let found = columns.insert(found.unwrap_or(Columns::PLAIN));
                parsed.multi_label = found.multi_label;
                if is_header {
                    continue;
                }
                found
            }
        };
        parsed.push(columns, &fields, &records)?;
    }
    parsed.finish(file, columns.is_some_and(|columns| columns.split.is_some()), notes)
}

/// The present row, and where it is.
struct Records<'a> {
    bytes: &'a [u8],
    file: &'a Path,
    record: csv::ByteRecord,
}

impl Records<'_> {
    /// Reads the next row, if there is one.
    fn next(&mut self, reader: &mut csv::Reader<&[u8]>) -> Result<bool, DataError> {
        reader.read_byte_record(&mut self.record).map_err(|cause| {
            let got = printable(&cause.to_string(), 100);
            DataError::invalid(self.file.display(), "rows of a CSV file", got)
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
        DataError::invalid(format!("{}:{}", self.file.display(), line + skipped as u64), expected, got)
    }
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

    /// Those that a first row names; `None` if it names no column of paths.
    fn of_header(fields: &[&str], records: &Records<'_>, notes: &mut Vec<String>) -> Result<Option<Self>, DataError> {
        let names: Vec<String> = fields.iter().map(|field| field.trim().to_ascii_lowercase()).collect();
        let find = |wanted: &[&str]| names.iter().position(|name| wanted.contains(&name.as_str()));
        let (path, label) = match (find(&PATH_COLUMNS), find(&LABEL_COLUMNS)) {
            (Some(path), Some(label)) => (path, label),
            (Some(_), None) if names.len() == 1 || find(&[SPLIT_COLUMN]).is_some() => {
                return Err(records.invalid("a column called label", format!("{} columns", names.len())));
            }
            _ => return Ok(None),
        };
        let split = find(&[SPLIT_COLUMN]);
        let others = (0..names.len()).filter(|&at| at != path && at != label && Some(at) != split);
        let others: Vec<String> = others.map(|at| format!("\"{}\"", printable(fields[at], 60))).collect();
        if !others.is_empty() {
            notes.push(format!("{}: ignored the columns {}", records.file.display(), others.join(", ")));
        }
        let multi_label = matches!(names[label].as_str(), "labels" | "classes");
        Ok(Some(Self { path, label, split, count: Some(names.len()), multi_label }))
    }
}

/// The rows so far, with classes numbered in the order of their appearance.
#[derive(Default)]
struct Parsed {
    rows: Vec<Row>,
    numbers: HashMap<String, u32>,
    sets: HashMap<Vec<u32>, u32>,
    /// The classes that the training split has.
    trained: BTreeSet<u32>,
    multi_label: bool,
    unlabelled: usize,
    /// The number of fields of the first row of a list without a header, and the line of the first row without a label.
    width: Option<usize>,
    first_unlabelled: Option<DataError>,
}

impl Parsed {
    fn push(&mut self, columns: &Columns, fields: &[&str], records: &Records<'_>) -> Result<(), DataError> {
        let width = *self.width.get_or_insert(columns.count.unwrap_or(fields.len()));
        let fits = fields.len() == width && (columns.count.is_some() || matches!(width, 2 | 3));
        if !fits {
            let expected = match columns.count {
                Some(count) => format!("{count} fields, as in the header"),
                None if matches!(width, 2 | 3) => format!("{width} fields, as in the first row"),
                None => "path,label or path,label,split".into(),
            };
            return Err(records.invalid(expected, counted(fields.len(), "field")));
        }
        let path = fields[columns.path];
        if path.trim().is_empty() {
            return Err(records.invalid("the path of an image", "an empty field"));
        }
        let split = match columns.split.and_then(|column| fields.get(column)) {
            None => Split::Train,
            Some(name) => Split::from_name(name.trim()).ok_or_else(|| {
                records.invalid("a split: train, val or test", format!("\"{}\"", printable(name, 60)))
            })?,
        };
        let field = fields[columns.label].trim();
        self.multi_label |= field.contains(';');
        let mut labels = Vec::new();
        if field.is_empty() {
            self.unlabelled += 1;
            self.first_unlabelled.get_or_insert_with(|| records.invalid("a label", "an empty field"));
        } else {
            for name in field.split(';').map(str::trim) {
                if name.is_empty() {
                    let got = format!("\"{}\"", printable(field, 60));
                    return Err(records.invalid("a label before and after each semicolon", got));
                }
                let label = self.number(name, records)?;
                if labels.contains(&label) {
                    return Err(records.invalid("each label once", format!("\"{}\" twice", printable(name, 60))));
                }
                labels.push(label);
            }
        }
        if split == Split::Train {
            self.trained.extend(&labels);
        }
        labels.sort_unstable();
        let count = self.sets.len() as u32;
        let set = *self.sets.entry(labels).or_insert(count);
        self.rows.push(Row { path: path.into(), set, split });
        Ok(())
    }

    /// The number of a class.
    fn number(&mut self, name: &str, records: &Records<'_>) -> Result<u32, DataError> {
        if let Some(&number) = self.numbers.get(name) {
            return Ok(number);
        }
        if self.numbers.len() == MAX_CLASSES {
            return Err(records.invalid(format!("at most {MAX_CLASSES} classes"), "more"));
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(name.to_owned(), number);
        Ok(number)
    }

    fn finish(self, file: &Path, split_column: bool, mut notes: Vec<String>) -> Result<ImageList, DataError> {
        let place = file.display().to_string();
        let has_splits = split_column && self.width != Some(2);
        if let (Some(error), false) = (self.first_unlabelled, self.multi_label) {
            return Err(error);
        }
        if self.numbers.is_empty() {
            return Err(DataError::invalid(place, "rows of path,label", "none with a label"));
        }
        if self.unlabelled > 0 {
            notes.push(format!("{place}: {} without a label", counted(self.unlabelled, "image")));
        }
        check_distinct(self.numbers.keys().map(String::as_str), &place)?;
        let is_known = |number: &u32| self.trained.is_empty() || self.trained.contains(number);
        let (known, unknown): (Vec<_>, Vec<_>) = self.numbers.into_iter().partition(|(_, number)| is_known(number));
        let sorted = |mut names: Vec<(String, u32)>| {
            // Only numbers without leading zeros, of which no two are equal.
            let number = |name: &str| name.parse().ok().filter(|number: &u64| number.to_string() == name);
            if names.iter().all(|(name, _)| number(name).is_some()) {
                names.sort_unstable_by_key(|(name, _)| number(name));
            } else {
                names.sort_unstable();
            }
            names
        };
        let known = sorted(known);
        if !unknown.is_empty() {
            let names = |list: Vec<(String, u32)>| list.into_iter().map(|(name, _)| name).collect();
            let cause = UnknownClasses { known: names(known), unknown: names(sorted(unknown)) };
            return Err(DataError::Classes { place, cause });
        }
        let mut labels = vec![0; known.len()];
        (0..).zip(&known).for_each(|(label, &(_, number))| labels[number as usize] = label);
        let mut sets = vec![Vec::new(); self.sets.len()];
        for (set, number) in self.sets {
            let mut set: Vec<u32> = set.into_iter().map(|number| labels[number as usize]).collect();
            set.sort_unstable();
            sets[number as usize] = set;
        }
        let targets = if self.multi_label { targets(&sets, known.len())? } else { Vec::new() };
        let names = known.into_iter().map(|(name, _)| name).collect();
        let root = file.parent().map(Path::to_path_buf).unwrap_or_default();
        let (file, rows, multi_label) = (file.to_path_buf(), self.rows, self.multi_label);
        Ok(ImageList { file, root, names, rows, sets, targets, multi_label, has_splits, notes })
    }
}

/// 1 for each class of each set, and 0 for the others.
fn targets(sets: &[Vec<u32>], classes: usize) -> Result<Vec<f32>, DataError> {
    let len = sets.len().saturating_mul(classes);
    let bytes = len.saturating_mul(size_of::<f32>());
    let mut targets = Vec::new();
    if bytes > MAX_TARGET_BYTES || targets.try_reserve_exact(len).is_err() {
        let what = format!("targets of {classes} classes for {} different sets of labels", sets.len());
        return Err(DataError::Memory { what, bytes: bytes as u64 });
    }
    targets.resize(len, 0.0);
    for (set, targets) in sets.iter().zip(targets.chunks_exact_mut(classes)) {
        set.iter().for_each(|&label| targets[label as usize] = 1.0);
    }
    Ok(targets)
}

/// The images of one split of a list.
pub struct ListedImages {
    list: Arc<ImageList>,
    /// The numbers of their rows.
    rows: Vec<u32>,
    format: Format,
}

impl ListedImages {
    /// The images of `split`; those of a list without splits are all in the training split.
    pub fn new(list: Arc<ImageList>, split: Split) -> Self {
        let rows = (0..).zip(&list.rows).filter(|(_, row)| row.split == split).map(|(number, _)| number).collect();
        let format = Format::photographs();
        Self { list, rows, format }
    }

    fn row(&self, index: usize) -> &Row {
        &self.list.rows[self.rows[index] as usize]
    }

    /// The file of sample `index`.
    pub fn path(&self, index: usize) -> PathBuf {
        self.list.root.join(&*self.row(index).path)
    }
}

impl Dataset for ListedImages {
    fn len(&self) -> usize {
        self.rows.len()
    }

    /// Of several labels the first one; 0 if there is none.
    fn label(&self, index: usize) -> u32 {
        self.list.sets[self.row(index).set as usize].first().copied().unwrap_or(0)
    }

    fn soft_label(&self, index: usize) -> Option<&[f32]> {
        let classes = self.list.names.len();
        self.list.multi_label.then(|| &self.list.targets[self.row(index).set as usize * classes..][..classes])
    }

    fn is_multi_label(&self) -> bool {
        self.list.multi_label
    }

    fn class_names(&self) -> &[String] {
        &self.list.names
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        read_image(&self.path(index)).map(Sample::Pixels)
    }

    /// Of the path in the list, and of the file's length.
    fn fingerprint(&self, index: usize) -> u32 {
        file_fingerprint(Path::new(&*self.row(index).path), &self.path(index))
    }

    fn describe(&self, index: usize) -> String {
        self.path(index).display().to_string()
    }

    fn place(&self) -> String {
        self.list.file.display().to_string()
    }

    fn format(&self) -> &Format {
        &self.format
    }

    fn notes(&self) -> &[String] {
        &self.list.notes
    }
}
