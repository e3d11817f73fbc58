//! A file that comes in as many parts as it takes, and is whole or not there.

use crate::answer::{content_range, strong_etag};
use crate::http::{Answer, Client, Request, io_what};
use crate::url::Url;
use crate::{HubCause, HubEvent};
use residual_files::{MAX_BYTES, publish};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::StatusCode;

/// Requests in a row that bring nothing, and requests in all.
const MAX_FAILURES: u32 = 4;
const MAX_REQUESTS: u32 = 200;

/// What is wanted, and where it goes.
pub(super) struct Wanted<'a> {
    pub(super) url: Url,
    pub(super) path: &'a Path,
    /// The beginning of its SHA-256, in small hexadecimal digits.
    pub(super) sha256: Option<&'a str>,
    /// Whether the server knows its SHA-256 (`X-Linked-Etag`).
    pub(super) is_hub: bool,
    pub(super) token: Option<&'a str>,
    /// Before a second request; twice as long before the third.
    pub(super) pause: Duration,
}

/// What became of a request.
enum Outcome {
    /// All is here.
    Whole,
    /// It broke off, or the server is busy.
    Broken(HubCause),
    /// What is here is no part of what the server has.
    Stale,
}

/// Brings the file to its place.
pub(super) fn download(
    client: &Client,
    wanted: &Wanted<'_>,
    events: &mut dyn FnMut(HubEvent<'_>),
) -> Result<(), HubCause> {
    let folder = wanted.path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(io_cause(folder))?;
    let lock = beside(wanted.path, "lock");
    let _held = hold(&lock, events)?;
    if wanted.path.is_file() {
        return Ok(());
    }
    let mut part = Part::open(wanted)?;
    // Whether bytes came under several requests, which a server may have changed its file between.
    let mut is_joined = part.len > 0;
    let mut sha256 = wanted.sha256.map(str::to_owned);
    let (mut failures, mut is_first) = (0, true);
    for _ in 0..MAX_REQUESTS {
        let before = part.len;
        match transfer(client, wanted, &mut part, &mut sha256, events)? {
            Outcome::Whole => match part.check(wanted, sha256.as_deref()) {
                Ok(()) => {
                    part.finish(wanted.path)?;
                    // Whoever waits holds the file itself, and finds that nothing is left to do.
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
                // A server that was never reached will not be in a second.
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
    let got = format!("{MAX_REQUESTS} answers that broke off");
    Err(HubCause::Answer { url: wanted.url.to_string(), expected: "the whole file", got })
}

/// One request, and what it brings.
fn transfer(
    client: &Client,
    wanted: &Wanted<'_>,
    part: &mut Part,
    sha256: &mut Option<String>,
    events: &mut dyn FnMut(HubEvent<'_>),
) -> Result<Outcome, HubCause> {
    // Without a name for its bytes or a hash to hold them against, nobody knows what a rest belongs to.
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
    if let Err(broken) = receive(&mut answer, part, &url, events)? {
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

/// Writes the body behind what is here; the inner error is the connection's.
fn receive(
    answer: &mut Answer,
    part: &mut Part,
    url: &str,
    events: &mut dyn FnMut(HubEvent<'_>),
) -> Result<Result<(), HubCause>, HubCause> {
    let mut body = answer.body();
    let mut buffer = vec![0; 1 << 17];
    loop {
        match body.read(&mut buffer) {
            Ok(0) => return Ok(Ok(())),
            Ok(read) if part.len + read as u64 > MAX_BYTES => {
                part.clear()?;
                return Err(HubCause::TooLarge { url: url.into(), limit: MAX_BYTES });
            }
            Ok(read) => part.append(&buffer[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Ok(Err(HubCause::Network { url: url.into(), what: io_what(&error) })),
        }
        events(HubEvent::Received { received: part.len });
    }
}

/// What is here of a file.
struct Part {
    path: PathBuf,
    file: File,
    len: u64,
    /// The server's name for the bytes that these are a part of, and the file it stands in.
    etag: Option<String>,
    etag_path: PathBuf,
}

impl Part {
    fn open(wanted: &Wanted<'_>) -> Result<Self, HubCause> {
        let (path, etag_path) = (beside(wanted.path, "part"), beside(wanted.path, "etag"));
        let open = || -> io::Result<(File, u64)> {
            let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
            let len = file.seek(SeekFrom::End(0))?;
            Ok((file, len))
        };
        let (file, len) = open().map_err(io_cause(&path))?;
        let mut text = String::new();
        let stored = File::open(&etag_path).and_then(|file| file.take(512).read_to_string(&mut text));
        let etag = if stored.is_ok() { strong_etag(&text).map(str::to_owned) } else { None };
        Ok(Self { path, file, len, etag, etag_path })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), HubCause> {
        self.file.write_all(bytes).map_err(io_cause(&self.path))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Throws away what is here.
    fn clear(&mut self) -> Result<(), HubCause> {
        let clear = self.file.set_len(0).and_then(|()| self.file.rewind());
        clear.map_err(io_cause(&self.path))?;
        self.len = 0;
        self.remember(None)
    }

    fn remember(&mut self, etag: Option<&str>) -> Result<(), HubCause> {
        self.etag = etag.and_then(strong_etag).map(str::to_owned);
        let written = match &self.etag {
            Some(etag) => fs::write(&self.etag_path, etag),
            None => match fs::remove_file(&self.etag_path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        };
        written.map_err(io_cause(&self.etag_path))
    }

    fn check(&mut self, wanted: &Wanted<'_>, sha256: Option<&str>) -> Result<(), HubCause> {
        let Some(expected) = sha256 else { return Ok(()) };
        let got = self.sha256().map_err(io_cause(&self.path))?;
        if got.starts_with(expected) {
            return Ok(());
        }
        Err(HubCause::Hash { url: wanted.url.to_string(), expected: expected.into(), got })
    }

    fn sha256(&mut self) -> io::Result<String> {
        self.file.rewind()?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 17];
        loop {
            match self.file.read(&mut buffer)? {
                0 => break,
                read => hash.update(&buffer[..read]),
            }
        }
        Ok(hash.finalize().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }))
    }

    /// Moves what is here, all of it, to its place.
    fn finish(&mut self, path: &Path) -> Result<(), HubCause> {
        publish(&self.file, &self.path, path)?;
        let _ = fs::remove_file(&self.etag_path);
        Ok(())
    }
}

/// The lock of a file, waited for; it is free again when what holds it ends, however it ends.
fn hold(path: &Path, events: &mut dyn FnMut(HubEvent<'_>)) -> Result<File, HubCause> {
    let fail = io_cause(path);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(&fail)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            events(HubEvent::Waiting);
            file.lock().map_err(&fail)?;
            Ok(file)
        }
        Err(TryLockError::Error(error)) => Err(fail(error)),
    }
}

/// A file beside `path` that no name stands for: none begins with a point.
fn beside(path: &Path, kind: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{kind}"))
}

fn io_cause(path: &Path) -> impl Fn(io::Error) -> HubCause + use<> {
    let path = path.to_owned();
    move |source| HubCause::Io { path: path.clone(), source }
}
