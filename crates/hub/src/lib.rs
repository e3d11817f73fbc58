//! Pretrained weights by name: downloaded once, checked, and read from a cache.
//!
//! A [`HubName`] is given in place of a path (`torchvision:resnet50.v2`, `timm:resnet50.a1_in1k`,
//! `hf:owner/repository/file`, an https address); a [`Hub`] is the cache with its download settings. Without this crate's
//! feature `download` nothing is downloaded; files that were copied into the cache are found nonetheless.
#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod answer;
mod checked;
#[cfg(feature = "download")]
mod download;
mod error;
#[cfg(feature = "download")]
mod http;
mod name;
mod table;
mod url;

pub use error::{HubCause, HubError, Instead};
pub use name::HubName;
pub use table::{Pretrained, imagenet_labels, pretrained};

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// The variable with the folder of caches.
const HOME: &str = "RESIDUAL_HOME";
/// The variables that disable downloads: ours, and Hugging Face's.
const OFFLINE: [&str; 2] = ["RESIDUAL_OFFLINE", "HF_HUB_OFFLINE"];
/// The variable with the address of a mirror, which has a folder for each host.
const MIRROR: &str = "RESIDUAL_HUB_ENDPOINT";
/// Hugging Face's variables: another address of the hub, and the access token.
const HF_ENDPOINT: &str = "HF_ENDPOINT";
const HF_TOKEN: &str = "HF_TOKEN";

const HUGGING_FACE: &str = "https://huggingface.co";

/// A cache of weights with its download settings.
#[derive(Clone)]
pub struct Hub {
    folder: PathBuf,
    /// The variable or option that disables downloads.
    offline: Option<&'static str>,
    hub: Url,
    mirror: Option<Url>,
    token: Option<String>,
    patience: Duration,
    pause: Duration,
}

/// Progress of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubEvent<'a> {
    /// Another process is downloading the file; this one waits for it.
    Waiting,
    /// The response begins.
    Started {
        /// The requested address.
        url: &'a str,
        /// Bytes received so far.
        received: u64,
        /// Bytes of the whole file, if the server sends its length.
        total: Option<u64>,
    },
    /// More data was received.
    Received {
        /// Bytes received so far.
        received: u64,
    },
    /// The connection was interrupted; the rest is requested again.
    Retrying {
        /// The reason.
        reason: &'a str,
    },
    /// The file is complete and passed its check.
    Finished {
        /// Bytes of the file.
        received: u64,
        /// Whether its SHA-256 was known and checked.
        checked: bool,
    },
}

impl Hub {
    /// A cache in `home`, with downloads from the public hosts.
    pub fn new(home: impl Into<PathBuf>) -> Self {
        Self {
            folder: home.into().join("hub"),
            offline: None,
            hub: Url::parse(HUGGING_FACE).expect("an address"),
            mirror: None,
            token: None,
            patience: Duration::from_secs(60),
            pause: Duration::from_secs(1),
        }
    }

    /// The cache configured by the environment: in `RESIDUAL_HOME`, else in the folder `residual` of the user's cache.
    /// Nothing is downloaded if `RESIDUAL_OFFLINE` or `HF_HUB_OFFLINE` is set; `RESIDUAL_HUB_ENDPOINT` is a mirror with
    /// a folder per host, `HF_ENDPOINT` another address of the Hugging Face hub, `HF_TOKEN` its access token.
    ///
    /// # Errors
    /// If there is no folder for it, or a variable is not an address.
    pub fn from_env() -> Result<Self, HubError> {
        let home = cache_folder(|name| env::var_os(name)).ok_or_else(|| HubError::new("hub", HubCause::NoHome))?;
        let text = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let mut hub = Self::new(home);
        hub.offline = OFFLINE.into_iter().find(|name| text(name).is_some_and(|value| is_true(&value)));
        if let Some(mirror) = text(MIRROR) {
            hub = hub.with_mirror(&mirror)?;
        }
        if let Some(endpoint) = text(HF_ENDPOINT) {
            hub = hub.with_hugging_face(&endpoint)?;
        }
        hub.token = text(HF_TOKEN);
        Ok(hub)
    }

    /// Disables downloads; errors give `why`, a variable or option, as the reason.
    pub fn offline(mut self, why: &'static str) -> Self {
        self.offline = Some(why);
        self
    }

    /// Downloads from a mirror, which has a folder per host.
    ///
    /// # Errors
    /// If `address` is neither https nor one of this machine.
    pub fn with_mirror(mut self, address: &str) -> Result<Self, HubError> {
        self.mirror = Some(endpoint(MIRROR, address)?);
        Ok(self)
    }

    /// Downloads files of the Hugging Face hub from another address.
    ///
    /// # Errors
    /// If `address` is neither https nor one of this machine.
    pub fn with_hugging_face(mut self, address: &str) -> Result<Self, HubError> {
        self.hub = endpoint(HF_ENDPOINT, address)?;
        Ok(self)
    }

    /// Sends `token` to the Hugging Face hub, and to no other host.
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The timeout of a silent or slow server (default 60 s), and the delay after a failure (default 1 s).
    pub fn with_patience(mut self, patience: Duration, pause: Duration) -> Self {
        (self.patience, self.pause) = (patience, pause);
        self
    }

    /// The path of `name` in the cache.
    pub fn path(&self, name: &HubName) -> PathBuf {
        name.components().iter().fold(self.folder.clone(), |path, component| path.join(component))
    }

    /// The file of `name`, downloaded if it is not in the cache: to a temporary file in the same folder, which is
    /// checked and then renamed. If a download fails, the received part is kept, and the next call resumes it. Of
    /// several processes that need a file, one downloads it and the others wait.
    ///
    /// # Errors
    /// If the file is not in the cache and cannot be downloaded (the message says where to put it), or the file in the
    /// cache does not have the published SHA-256, if that is known.
    pub fn fetch(&self, name: &HubName, events: &mut dyn FnMut(HubEvent<'_>)) -> Result<PathBuf, HubError> {
        let path = self.path(name);
        let (url, sha256, _) = name.url(&self.hub);
        let failed = |cause| HubError::new(error::shown(name.text()), cause);
        if path.is_file() {
            if let Some(expected) = sha256 {
                checked::check(&path, expected).map_err(failed)?;
            }
            return Ok(path);
        }
        let fetched = match self.offline {
            Some(why) => Err(HubCause::Offline { why }),
            None => self.download(name, &path, events),
        };
        let with_advice = |cause: HubCause| {
            let is_local = matches!(cause, HubCause::File(_) | HubCause::Placed { .. });
            let instead = (!is_local).then(|| Box::new(Instead { url: url.to_string(), path: path.clone() }));
            HubError { name: error::shown(name.text()), cause, instead }
        };
        fetched.map_err(with_advice)?;
        Ok(path)
    }

    #[cfg(not(feature = "download"))]
    fn download(&self, _: &HubName, _: &std::path::Path, _: &mut dyn FnMut(HubEvent<'_>)) -> Result<(), HubCause> {
        Err(HubCause::Offline { why: "a build without the feature \"hub\"" })
    }

    #[cfg(feature = "download")]
    fn download(
        &self,
        name: &HubName,
        path: &std::path::Path,
        events: &mut dyn FnMut(HubEvent<'_>),
    ) -> Result<(), HubCause> {
        let (url, sha256, is_hub) = name.url(&self.hub);
        let is_public = self.hub.to_string() == format!("{HUGGING_FACE}/");
        // HF_ENDPOINT takes precedence over the mirror.
        let url = match &self.mirror {
            Some(mirror) if !is_hub || is_public => url.at_mirror(mirror),
            _ => url,
        };
        let token = self.token.as_deref().filter(|_| is_hub && url.has_same_origin(&self.hub));
        let wanted = download::Wanted { url, path, sha256, is_hub, token, patience: self.patience, pause: self.pause };
        download::download(&http::Client::new(self.patience), &wanted, events)
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the token, which is secret.
        let Self { folder, offline, hub, mirror, .. } = self;
        let mut fields = f.debug_struct("Hub");
        fields.field("folder", folder).field("offline", offline).field("hub", hub).field("mirror", mirror);
        fields.finish_non_exhaustive()
    }
}

fn endpoint(variable: &str, address: &str) -> Result<Url, HubError> {
    Url::parse(address).map_err(|expected| {
        HubError::new(variable, HubCause::Name { expected: expected.into(), got: error::shown(address) })
    })
}

fn is_true(value: &str) -> bool {
    ["1", "true", "yes", "on"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// The folder of caches: `RESIDUAL_HOME`, or the folder `residual` in the user's cache, by the environment's `variable`s.
pub fn cache_folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home =
        || variable("HOME").map(|home| home.join(if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" }));
    let cache = || if cfg!(windows) { variable("LOCALAPPDATA") } else { variable("XDG_CACHE_HOME").or_else(home) };
    variable(HOME).or_else(|| cache().map(|cache| cache.join("residual")))
}
