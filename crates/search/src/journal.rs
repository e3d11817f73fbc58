//! The journal of a search: a line of JSON for every step, appended by one or several processes.

use crate::{Candidate, Cost, History, SearchError};
use residual_files::{printable, read_file};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Maximum length of a journal in bytes: some hundred thousand trials.
const MAX_BYTES: u64 = 1 << 26;

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Entry {
    /// The search begins: what decides its trials, besides their results.
    Search(Settings),
    /// A trial is to be trained.
    Proposed {
        /// Its number, counted from 0.
        trial: usize,
        /// The place of the choice in every dimension.
        candidate: Vec<usize>,
        /// What distinguishes it from others.
        identity: String,
        /// Epochs that it is to be trained.
        epochs: u64,
        /// The cost of its network, where networks are searched.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cost: Option<Cost>,
        /// Its settings, where settings are searched.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        settings: Option<toml::Table>,
    },
    /// A trial goes on.
    Promoted {
        /// Its number.
        trial: usize,
        /// Epochs that it is to be trained in all.
        epochs: u64,
    },
    /// A trial has a result.
    Scored {
        /// Its number.
        trial: usize,
        /// Epochs that it was trained.
        epochs: u64,
        /// Top-1 on held-out images in percent.
        top1: f64,
        /// Seconds of training in all.
        seconds: f64,
    },
    /// A trial was interrupted, and is resumed from its last checkpoint.
    Paused {
        /// Its number.
        trial: usize,
        /// Seconds of training in all.
        seconds: f64,
    },
    /// A supernet was trained, which the trials of a one-shot search share.
    Supernet {
        /// Its number, counted from 0.
        supernet: usize,
        /// Seconds of training in all.
        seconds: f64,
    },
    /// A trial failed, and is not repeated.
    Failed {
        /// Its number.
        trial: usize,
        /// Why, in a line.
        reason: String,
    },
}

/// What decides the trials of a search. A search is only resumed with the same settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The description of the space.
    pub space: String,
    /// The name of the strategy.
    pub strategy: String,
    /// The seed.
    pub seed: u64,
    /// The number of proposals of which the one with the best score is tried.
    pub screen: usize,
    /// The limit of multiply-accumulates.
    pub max_macs: Option<u64>,
    /// The limit of trainable values.
    pub max_params: Option<usize>,
    /// The latency limit, such as `2ms@1`.
    pub target_latency: Option<String>,
    /// Epochs of fine-tuning, of a one-shot search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finetune_epochs: Option<u64>,
    /// The recipe of every trial.
    pub recipe: String,
}

impl Settings {
    /// The first setting that differs, and both values.
    fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        fn text(value: &impl Serialize) -> String {
            serde_json::to_string(value).expect("a setting has a JSON form")
        }
        let pairs = [
            ("strategy", text(&self.strategy), text(&other.strategy)),
            ("seed", text(&self.seed), text(&other.seed)),
            ("screen", text(&self.screen), text(&other.screen)),
            ("max_macs", text(&self.max_macs), text(&other.max_macs)),
            ("max_params", text(&self.max_params), text(&other.max_params)),
            ("target_latency", text(&self.target_latency), text(&other.target_latency)),
            ("finetune_epochs", text(&self.finetune_epochs), text(&other.finetune_epochs)),
        ];
        let short = pairs.into_iter().find(|(_, ours, theirs)| ours != theirs);
        let long = [("space", &self.space, &other.space), ("recipe", &self.recipe, &other.recipe)];
        let line = || {
            let (name, ours, theirs) = long.into_iter().find(|(_, ours, theirs)| ours != theirs)?;
            let (mut ours, mut theirs) = (ours.lines(), theirs.lines());
            loop {
                let (a, b) = (ours.next(), theirs.next());
                if a != b || a.is_none() {
                    return Some((name, text(&a), text(&b)));
                }
            }
        };
        short.or_else(line)
    }
}

/// What a journal says.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The settings of the search; `None` before its beginning.
    pub settings: Option<Settings>,
    /// The trials.
    pub history: History,
    /// The proposal of every trial.
    pub proposals: Vec<Entry>,
    /// Seconds of training of every trial.
    pub seconds: Vec<f64>,
    /// The trials that failed, and why.
    pub failures: Vec<(usize, String)>,
    /// The trained supernets, and the seconds of training of each.
    pub supernets: Vec<(usize, f64)>,
    /// The number of entries.
    pub(crate) entries: usize,
}

impl Record {
    /// Whether the supernet of this number was trained.
    pub(crate) fn has_supernet(&self, number: usize) -> bool {
        self.supernets.iter().any(|&(trained, _)| trained == number)
    }

    /// Adds an entry; an error is what belonged in its place.
    fn add(&mut self, entry: &Entry) -> Result<(), String> {
        self.entries += 1;
        let known = self.history.trials().len();
        let is_known = |trial: usize| if trial < known { Ok(()) } else { Err(format!("a trial below {known}")) };
        match entry {
            Entry::Search(settings) if self.settings.is_none() => self.settings = Some(settings.clone()),
            _ if self.settings.is_none() => return Err("the settings first".into()),
            Entry::Search(_) => return Err("the settings once".into()),
            Entry::Proposed { trial, candidate, identity, epochs, .. } => {
                if *trial != known || self.history.has_tried(identity) {
                    return Err(format!("trial {known}, with a new candidate"));
                }
                self.history.propose(Candidate(candidate.clone()), identity.clone(), *epochs);
                self.proposals.push(entry.clone());
                self.seconds.push(0.0);
            }
            Entry::Promoted { trial, epochs } => {
                is_known(*trial)?;
                self.history.promote(*trial, *epochs);
            }
            Entry::Scored { trial, epochs, top1, seconds } => {
                is_known(*trial)?;
                self.history.score(*trial, *epochs, *top1);
                self.seconds[*trial] = *seconds;
            }
            Entry::Paused { trial, seconds } => {
                is_known(*trial)?;
                self.seconds[*trial] = *seconds;
            }
            Entry::Supernet { supernet, seconds } => {
                if self.has_supernet(*supernet) {
                    return Err("a supernet that was not trained before".into());
                }
                self.supernets.push((*supernet, *seconds));
            }
            Entry::Failed { trial, reason } => {
                is_known(*trial)?;
                self.history.fail(*trial);
                self.failures.push((*trial, reason.clone()));
            }
        }
        Ok(())
    }
}

/// A journal file.
#[derive(Clone, Debug)]
pub struct Journal {
    path: PathBuf,
}

impl Journal {
    /// The journal at `path`, which need not exist yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_path_buf() }
    }

    /// Reads the journal; an empty record if there is none. A last line without its end, which a killed process left or another one
    /// is writing, does not count.
    ///
    /// # Errors
    /// If the file cannot be read, or with its first invalid line.
    pub fn read(&self) -> Result<Record, SearchError> {
        match self.path.try_exists().map_err(SearchError::io(&self.path))? {
            true => self.parse(&read_file(&self.path, MAX_BYTES)?).map(|(record, _)| record),
            false => Ok(Record::default()),
        }
    }

    /// Begins the search, or checks that it began with the same settings.
    ///
    /// # Errors
    /// [`SearchError::Content`] with the first setting that differs, else as [`Journal::update`].
    pub fn begin(&self, settings: &Settings) -> Result<(), SearchError> {
        self.update(|record| match &record.settings {
            None => Ok((vec![Entry::Search(settings.clone())], ())),
            Some(began) => match began.difference(settings) {
                None => Ok((Vec::new(), ())),
                Some((what, expected, got)) => Err(self.invalid(what.into(), expected, got)),
            },
        })
    }

    /// Reads the journal and appends the entries that `decide` makes of it, while no other process does the same. A torn last line
    /// is removed.
    ///
    /// # Errors
    /// Those of `decide`; if the file cannot be read, locked or written; or with its first invalid line.
    pub fn update<T>(
        &self,
        decide: impl FnOnce(&Record) -> Result<(Vec<Entry>, T), SearchError>,
    ) -> Result<T, SearchError> {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&self.path);
        let mut file = file.map_err(SearchError::io(&self.path))?;
        lock(&file).map_err(SearchError::io(&self.path))?;
        let bytes = self.bytes(&mut file)?;
        let (record, complete) = self.parse(&bytes)?;
        let (entries, result) = decide(&record)?;
        if !entries.is_empty() {
            let mut lines = String::new();
            for entry in entries {
                lines += &serde_json::to_string(&entry).expect("an entry has a JSON form");
                lines.push('\n');
            }
            let append = |file: &mut File| {
                file.set_len(complete as u64)?;
                file.seek(SeekFrom::End(0))?;
                file.write_all(lines.as_bytes())?;
                file.sync_data()
            };
            append(&mut file).map_err(SearchError::io(&self.path))?;
        }
        Ok(result)
    }

    fn bytes(&self, file: &mut File) -> Result<Vec<u8>, SearchError> {
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(SearchError::io(&self.path))?;
        match bytes.len() as u64 <= MAX_BYTES {
            true => Ok(bytes),
            false => Err(self.invalid("file".into(), format!("at most {MAX_BYTES} bytes"), "more".into())),
        }
    }

    fn invalid(&self, what: String, expected: String, got: String) -> SearchError {
        SearchError::Content { path: self.path.clone(), what, expected, got }
    }

    /// What the complete lines of a journal say, and how many bytes they are.
    fn parse(&self, bytes: &[u8]) -> Result<(Record, usize), SearchError> {
        let complete = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let text = std::str::from_utf8(&bytes[..complete]).map_err(|error| {
            self.invalid(format!("byte {}", error.valid_up_to()), "UTF-8".into(), "something else".into())
        })?;
        let mut record = Record::default();
        for (index, line) in text.lines().enumerate() {
            let fail = |expected: String, got| self.invalid(format!("line {}", index + 1), expected, got);
            let entry: Entry =
                serde_json::from_str(line).map_err(|error| fail("an entry of a journal".into(), error.to_string()))?;
            record.add(&entry).map_err(|expected| fail(expected, printable(line, MAX_SHOWN)))?;
        }
        Ok((record, complete))
    }
}

/// Longer lines are truncated in errors.
const MAX_SHOWN: usize = 80;

/// Waits for the file's lock, which ends with the process.
pub(crate) fn lock(file: &File) -> std::io::Result<()> {
    match file.lock() {
        // Some network file systems have no locks.
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(()),
        result => result,
    }
}
