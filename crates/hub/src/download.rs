//! A download with retries: resumed after interruptions, checked, and published atomically.

use crate::answer::{content_range, strong_etag};
use crate::checked::{beside, remember, sha256};
use crate::http::{Answer, Client, Request, io_what};
use crate::url::Url;
use crate::{HubCause, HubEvent};
use residual_files::{FileError, MAX_BYTES, publish, recognise, try_lock};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use ureq::http::StatusCode;

/// Maximum number of successive requests without data, and of all requests.
const MAX_FAILURES: u32 = 4;
const MAX_REQUESTS: u32 = 200;
/// Maximum size in bytes of a file without a `Content-Length`: twice that of the largest named weights.
const MAX_WITHOUT_LENGTH: u64 = 2 << 30;
/// Minimum speed in bytes per second; slower downloads are aborted.
const MIN_SPEED: u64 = 1000;

/// The file to download and its path.
pub(super) struct Wanted<'a> {
    pub(super) url: Url,
    pub(super) path: &'a Path,
    /// The beginning of its SHA-256, in lower-case hexadecimal digits.
    pub(super) sha256: Option<&'a str>,
    /// Whether the server sends its SHA-256 (`X-Linked-Etag`).
    pub(super) is_hub: bool,
    pub(super) token: Option<&'a str>,
    /// The timeout, and the interval over which the speed is measured.
    pub(super) patience: Duration,
    /// The delay before a second request; twice as long before the third.
    pub(super) pause: Duration,
}

/// The outcome of a request.
enum Outcome {
    /// The file is complete.
    Whole,
    /// The connection broke, or the server is busy.
    Broken(HubCause),
    /// The received part does not belong to the server's file.
    Stale,
}

/// Downloads the file to its path.
pub(super) fn download(
    client: &Client,
    wanted: &Wanted<'_>,
    events: &mut dyn FnMut(HubEvent<'_>),
) -> Result<(), HubCause> {
    let folder = wanted.path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(FileError::write(folder))?;
    let lock = beside(wanted.path, "lock");
    let _held = hold(&lock, events)?;
    if wanted.path.is_file() {
        return Ok(());
    }
    let mut part = Part::open(wanted)?;
    // Whether the bytes are from several requests, between which the file may have changed.
    let mut is_joined = part.len > 0;
    let mut sha256 = wanted.sha256.map(str::to_owned);
    let (mut failures, mut is_first) = (0, true);
    for _ in 0..MAX_REQUESTS {
        let before = part.len;
        match transfer(client, wanted, &mut part, &mut sha256, events)? {
            Outcome::Whole => match part.check(wanted, sha256.as_deref()) {
                Ok(()) => {
                    part.finish(wanted.path)?;
                    if let Some(expected) = wanted.sha256 {
                        remember(wanted.path, expected);
                    }
                    // Waiting processes have the lock file open, and find the download complete.
                    let _ = fs::remove_file(&lock);
                    events(HubEvent::Finished { received: part.len, checked: sha256.is_some() });
                    return Ok(());
                }
                Err(cause) => {
                    part.clear()?;
                    if !(is_joined && matches!(cause, HubCause::Hash { .. })) {
                        return Err(cause);
                    }
                    is_joined = false;
                    events(HubEvent::Retrying { reason: "the parts do not fit together" });
                }
            },
            Outcome::Stale => {
                part.clear()?;
                is_joined = false;
                failures += 1;
                if failures >= MAX_FAILURES {
                    let (expected, got) = ("the whole file or its rest", "another part".into());
                    return Err(HubCause::Answer { url: wanted.url.to_string(), expected, got });
                }
            }
            Outcome::Broken(cause) => {
                let came = part.len > before;
                failures = if came { 0 } else { failures + 1 };
                // Without any connection, a retry after a second is futile.
                let is_unreachable = is_first && matches!(cause, HubCause::Network { .. }) && !came;
                if is_unreachable || failures >= MAX_FAILURES {
                    return Err(cause);
                }
                is_joined = true;
                events(HubEvent::Retrying { reason: &cause.to_string() });
                std::thread::sleep(wanted.pause * 2u32.pow(failures));
            }
        }
        is_first = false;
    }
    let got = format!("{MAX_REQUESTS} interrupted responses");
    Err(HubCause::Answer { url: wanted.url.to_string(), expected: "the whole file", got })
}

/// Sends one request and receives its response.
fn transfer(
    client: &Client,
    wanted: &Wanted<'_>,
    part: &mut Part,
    sha256: &mut Option<String>,
    events: &mut dyn FnMut(HubEvent<'_>),
) -> Result<Outcome, HubCause> {
    // Without an ETag or a hash, the rest may belong to another file.
    let can_join = part.len > 0 && (part.etag.is_some() || sha256.is_some());
    let rest = can_join.then_some((part.len, part.etag.as_deref()));
    let request = Request { url: &wanted.url, token: wanted.token, rest };
    let mut answer = match client.get(&request) {
        Ok(answer) => answer,
        Err(cause @ HubCause::Network { .. }) => return Ok(Outcome::Broken(cause)),
        Err(cause) => return Err(cause),
    };
    if wanted.is_hub && sha256.is_none() {
        *sha256 = answer.linked_sha256.take();
    }
    let url = wanted.url.to_string();
    let total = match StatusCode::from_u16(answer.status).unwrap_or_default() {
        StatusCode::OK => {
            part.clear()?;
            part.remember(answer.etag.as_deref())?;
            answer.length
        }
        StatusCode::PARTIAL_CONTENT => match answer.content_range.as_deref().and_then(content_range) {
            Some((first, total)) if rest.is_some() && first == part.len => total,
            _ => return Ok(Outcome::Stale),
        },
        StatusCode::RANGE_NOT_SATISFIABLE if rest.is_some() => return Ok(Outcome::Stale),
        status if status.is_server_error() || [408, 429].contains(&status.as_u16()) => {
            return Ok(Outcome::Broken(HubCause::Status { url, status: status.as_u16() }));
        }
        status => return Err(HubCause::Status { url, status: status.as_u16() }),
    };
    if total.is_some_and(|total| total > MAX_BYTES) {
        return Err(HubCause::TooLarge { url, limit: MAX_BYTES });
    }
    events(HubEvent::Started { url: &url, received: part.len, total });
    let limit = if total.is_some() { MAX_BYTES } else { MAX_WITHOUT_LENGTH };
    if let Err(broken) = receive(&mut answer, part, &url, limit, wanted.patience, events)? {
        return Ok(Outcome::Broken(broken));
    }
    match total {
        Some(total) if part.len != total => {
            let what = format!("expected {total} bytes, got {}", part.len);
            Ok(Outcome::Broken(HubCause::Network { url, what }))
        }
        _ => Ok(Outcome::Whole),
    }
}

/// Appends the body to the received part; the inner error is the connection's.
fn receive(
    answer: &mut Answer,
    part: &mut Part,
    url: &str,
    limit: u64,
    patience: Duration,
    events: &mut dyn FnMut(HubEvent<'_>),
) -> Result<Result<(), HubCause>, HubCause> {
    let mut body = answer.body();
    let mut buffer = vec![0; 1 << 17];
    let (mut since, mut came) = (Instant::now(), 0);
    loop {
        let waited = since.elapsed();
        if waited >= patience {
            if came < MIN_SPEED * waited.as_secs().max(1) {
                // The received part is kept for the next call.
                let what =
                    format!("expected at least {MIN_SPEED} bytes a second, got {came} in {} s", waited.as_secs());
                return Err(HubCause::Network { url: url.into(), what });
            }
            (since, came) = (Instant::now(), 0);
        }
        match body.read(&mut buffer) {
            Ok(0) => return Ok(Ok(())),
            Ok(read) if part.len + read as u64 > limit => {
                part.clear()?;
                return Err(HubCause::TooLarge { url: url.into(), limit });
            }
            Ok(read) => {
                part.append(&buffer[..read])?;
                came += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Ok(Err(HubCause::Network { url: url.into(), what: io_what(&error) })),
        }
        events(HubEvent::Received { received: part.len });
    }
}

/// The received part of a file.
struct Part {
    path: PathBuf,
    file: File,
    len: u64,
    /// The ETag of the file, and the path where it is stored.
    etag: Option<String>,
    etag_path: PathBuf,
}

impl Part {
    fn open(wanted: &Wanted<'_>) -> Result<Self, HubCause> {
        let (path, etag_path) = (beside(wanted.path, "part"), beside(wanted.path, "etag"));
        let open = || -> io::Result<(File, u64)> {
            let mut file = match file_itself(&path)? {
                true => OpenOptions::new().read(true).write(true).open(&path)?,
                false => OpenOptions::new().read(true).write(true).create_new(true).open(&path)?,
            };
            let len = file.seek(SeekFrom::End(0))?;
            Ok((file, len))
        };
        let (file, len) = open().map_err(FileError::write(&path))?;
        let mut text = String::new();
        let stored = File::open(&etag_path).and_then(|file| file.take(512).read_to_string(&mut text));
        let etag = if stored.is_ok() { strong_etag(&text).map(str::to_owned) } else { None };
        Ok(Self { path, file, len, etag, etag_path })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), HubCause> {
        self.file.write_all(bytes).map_err(FileError::write(&self.path))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Discards the received part.
    fn clear(&mut self) -> Result<(), HubCause> {
        let clear = self.file.set_len(0).and_then(|()| self.file.rewind());
        clear.map_err(FileError::write(&self.path))?;
        self.len = 0;
        self.remember(None)
    }

    fn remember(&mut self, etag: Option<&str>) -> Result<(), HubCause> {
        self.etag = etag.and_then(strong_etag).map(str::to_owned);
        let written = match &self.etag {
            Some(etag) => file_itself(&self.etag_path).and_then(|_| fs::write(&self.etag_path, etag)),
            None => match fs::remove_file(&self.etag_path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        };
        Ok(written.map_err(FileError::write(&self.etag_path))?)
    }

    /// Checks the complete file: by its SHA-256 or, if none is known, against the kinds of files that servers send in
    /// place of weights.
    fn check(&mut self, wanted: &Wanted<'_>, expected: Option<&str>) -> Result<(), HubCause> {
        let url = || wanted.url.to_string();
        let fail = FileError::read(&self.path);
        self.file.rewind().map_err(&fail)?;
        if let Some(expected) = expected {
            let got = sha256(&self.file).map_err(&fail)?;
            let is_it = got.starts_with(expected);
            return if is_it { Ok(()) } else { Err(HubCause::Hash { url: url(), expected: expected.into(), got }) };
        }
        let mut head = Vec::new();
        (&self.file).take(512).read_to_end(&mut head).map_err(&fail)?;
        match recognise(&head) {
            Some(got) => Err(HubCause::Answer { url: url(), expected: "weights", got: got.into() }),
            None => Ok(()),
        }
    }

    /// Moves the complete file to its path.
    fn finish(&mut self, path: &Path) -> Result<(), HubCause> {
        publish(&self.file, &self.path, path)?;
        let _ = fs::remove_file(&self.etag_path);
        Ok(())
    }
}

/// Waits for the lock of a file, which is released when its process ends.
fn hold(path: &Path, events: &mut dyn FnMut(HubEvent<'_>)) -> Result<File, HubCause> {
    let fail = FileError::write(path);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(&fail)?;
    if !try_lock(&file).map_err(&fail)? {
        events(HubEvent::Waiting);
        file.lock().map_err(&fail)?;
    }
    Ok(file)
}

/// Whether there is a file at `path`. A link there is removed, as its target is outside the cache.
fn file_itself(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => fs::remove_file(path).map(|()| false),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
