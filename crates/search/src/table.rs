//! A table of all cells of NAS-Bench-201 with their accuracies: searches on it take no training.

use crate::cell::canonical;
use crate::{Candidate, History, SearchError, Space, Strategy};
use flate2::read::MultiGzDecoder;
use residual_files::{printable, read_file};
use residual_tensor::Stream;
use residual_zoo::{Cell, CellOp};
use std::io::Read;
use std::path::Path;

/// Maximum length of a table in bytes, compressed or not. The whole benchmark has 2 MB.
const MAX_BYTES: u64 = 1 << 24;
/// Longer cells of a table are truncated in errors.
const MAX_SHOWN: usize = 60;
/// The first two bytes of gzip.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Choices of each edge, edges, cells.
const OPS: usize = CellOp::ALL.len();
const EDGES: usize = 6;
const CELLS: usize = OPS.pow(EDGES as u32);
/// The columns that are read.
const COLUMNS: [&str; 4] = ["arch", "cellstr", "cifar10_val", "cifar10_test"];

/// A row of the table. Accuracies are in percent.
#[derive(Clone, Debug, PartialEq)]
pub struct TableRow {
    /// The benchmark's number of the cell.
    pub arch: u32,
    /// The cell.
    pub cell: Cell,
    /// Top-1 on CIFAR-10's held-out training images.
    pub cifar10_val: f64,
    /// Top-1 on CIFAR-10's test images, after training on all training images.
    pub cifar10_test: f64,
}

/// The cells that a table lists. Cells that are the same network have one identity.
#[derive(Clone, Debug)]
pub struct CellTable {
    /// By the cell's ops, the last edge's changing the fastest.
    rows: Vec<Option<(TableRow, String)>>,
}

impl CellTable {
    /// Reads a table: CSV, compressed by gzip or not, with a header that has the columns `arch`, `cellstr`, `cifar10_val` and
    /// `cifar10_test`.
    ///
    /// # Errors
    /// If the file cannot be read, or with the first invalid line.
    pub fn read(path: &Path) -> Result<Self, SearchError> {
        Self::parse(&read_file(path, MAX_BYTES)?, path)
    }

    /// The table in `bytes`, which errors call `path`.
    ///
    /// # Errors
    /// As [`CellTable::read`].
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, SearchError> {
        Self::rows(bytes).map(|rows| Self { rows }).map_err(|Invalid { what, expected, got }| SearchError::Content {
            path: path.to_path_buf(),
            what,
            expected,
            got,
        })
    }

    fn rows(bytes: &[u8]) -> Result<Vec<Option<(TableRow, String)>>, Invalid> {
        let mut text = Vec::new();
        if bytes.starts_with(&GZIP) {
            let read = MultiGzDecoder::new(bytes).take(MAX_BYTES + 1).read_to_end(&mut text);
            read.map_err(|error| Invalid::new("file", "gzip", error))?;
            if text.len() as u64 > MAX_BYTES {
                return Err(Invalid::new("file", format!("at most {MAX_BYTES} bytes of text"), "more"));
            }
        } else {
            text.extend_from_slice(bytes);
        }
        let mut reader = csv::Reader::from_reader(&text[..]);
        let header = reader.headers().map_err(|error| Invalid::new("line 1", "a header", error))?;
        let place = |name: &str| {
            let place = header.iter().position(|column| column == name);
            place.ok_or_else(|| Invalid::new("line 1", format!("a column {name}"), "none"))
        };
        let [arch, cell, val, test] = COLUMNS.map(place);
        let columns = [arch?, cell?, val?, test?];
        let mut rows = vec![None; CELLS];
        for record in reader.records() {
            let record = record.map_err(|error| Invalid::new("table", "rows of CSV", error))?;
            let line = format!("line {}", record.position().map_or(0, csv::Position::line));
            let row = row(&record, columns).map_err(|(column, expected)| {
                let got = record.get(columns[column]).map_or("nothing".into(), |text| printable(text, MAX_SHOWN));
                Invalid::new(format!("{line}, {}", COLUMNS[column]), expected, got)
            })?;
            let place = &mut rows[index(row.cell)];
            if place.is_some() {
                return Err(Invalid::new(format!("{line}, cellstr"), "each cell once", row.cell));
            }
            let identity = canonical(row.cell);
            *place = Some((row, identity));
        }
        match rows.iter().any(Option::is_some) {
            true => Ok(rows),
            false => Err(Invalid::new("table", "at least one cell", "none")),
        }
    }

    /// The number of cells.
    pub fn len(&self) -> usize {
        self.rows.iter().flatten().count()
    }

    /// Whether there are none, which no table that was read is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row of a candidate, if the table has it.
    ///
    /// # Panics
    /// If the candidate is of another space.
    pub fn row(&self, candidate: &Candidate) -> Option<&TableRow> {
        self.entry(candidate).map(|(row, _)| row)
    }

    fn entry(&self, candidate: &Candidate) -> Option<&(TableRow, String)> {
        assert_eq!(candidate.0.len(), EDGES, "a cell has six edges");
        self.rows[candidate.0.iter().fold(0, |index, &choice| index * OPS + choice)].as_ref()
    }

    /// Searches by the accuracy on held-out images, for `trials` trials.
    ///
    /// # Errors
    /// [`SearchError::Exhausted`] if the strategy finds no more cells.
    pub fn search(&self, strategy: &dyn Strategy, trials: usize, seed: u64) -> Result<History, SearchError> {
        let mut history = History::default();
        for number in 0..trials {
            let mut random = Stream::new(seed, &[number as u64]);
            let candidate = strategy.propose(self, &history, &mut random)?;
            let Some((candidate, (row, identity))) =
                candidate.and_then(|candidate| self.entry(&candidate).map(|entry| (candidate, entry)))
            else {
                return Err(SearchError::Exhausted { tried: number });
            };
            let trial = history.propose(candidate, identity.clone(), 1);
            history.score(trial, 1, row.cifar10_val);
        }
        Ok(history)
    }
}

/// The row of a record, or the column at fault and what belongs there.
fn row(record: &csv::StringRecord, columns: [usize; 4]) -> Result<TableRow, (usize, &'static str)> {
    let text = |column: usize| record.get(columns[column]).unwrap_or_default();
    let percent = |column| {
        let value = text(column).parse().ok().filter(|value| (0.0..=100.0).contains(value));
        value.ok_or((column, "0 to 100"))
    };
    Ok(TableRow {
        arch: text(0).parse().map_err(|_| (0, "a whole number"))?,
        cell: text(1).parse().map_err(|_| (1, "a cell |op~0|+|op~0|op~1|+|op~0|op~1|op~2|"))?,
        cifar10_val: percent(2)?,
        cifar10_test: percent(3)?,
    })
}

/// The place of a cell: that of the candidate of the same ops.
fn index(cell: Cell) -> usize {
    let choice = |op| CellOp::ALL.iter().position(|each| *each == op).expect("an op of the benchmark");
    cell.0.iter().fold(0, |index, &op| index * OPS + choice(op))
}

impl Space for CellTable {
    fn sizes(&self) -> &[usize] {
        &[OPS; EDGES]
    }

    fn identity(&self, candidate: &Candidate) -> Result<Option<String>, SearchError> {
        Ok(self.entry(candidate).map(|(_, identity)| identity.clone()))
    }
}

/// What is wrong with a table.
struct Invalid {
    what: String,
    expected: String,
    got: String,
}

impl Invalid {
    fn new(what: impl Into<String>, expected: impl Into<String>, got: impl ToString) -> Self {
        Self { what: what.into(), expected: expected.into(), got: got.to_string().replace('\n', " ") }
    }
}
