//! Pretrained weights by name: downloaded into a cache once, checked, and read from there.
//!
//! [`HubName`] is what stands in place of a path (`torchvision:resnet50.v2`, `timm:resnet50.a1_in1k`,
//! `hf:owner/repository/file`, an https address), [`Hub`] the cache and how it is filled. Without this crate's feature
//! `download` nothing is ever downloaded; files that were put into the cache are found all the same.
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

/// The variable that says where caches and the like lie.
const HOME: &str = "RESIDUAL_HOME";
/// The variables that forbid downloads: ours, and the hub's own.
const OFFLINE: [&str; 2] = ["RESIDUAL_OFFLINE", "HF_HUB_OFFLINE"];
/// The variable with the address of a mirror, which has a folder for each host.
const MIRROR: &str = "RESIDUAL_HUB_ENDPOINT";
/// The hub's own variables: another address, and who asks.
const HF_ENDPOINT: &str = "HF_ENDPOINT";
const HF_TOKEN: &str = "HF_TOKEN";

const HUGGING_FACE: &str = "https://huggingface.co";

/// A cache of files, and how it is filled.
#[derive(Clone)]
pub struct Hub {
    folder: PathBuf,
    /// Who forbids downloads.
    offline: Option<&'static str>,
    hub: Url,
    mirror: Option<Url>,
    token: Option<String>,
    patience: Duration,
    pause: Duration,
}

/// What happens while a file comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubEvent<'a> {
    /// Another process downloads the file; this one waits for it.
    Waiting,
    /// The server sends.
    Started {
        /// The address that was asked.
        url: &'a str,
        /// Bytes that are here already.
        received: u64,
        /// Bytes of the whole file, where the server says so.
        total: Option<u64>,
    },
    /// More is here.
    Received {
        /// Bytes that are here.
        received: u64,
    },
    /// The connection broke; it is asked for the rest.
    Retrying {
        /// Why.
        reason: &'a str,
    },
    /// All is here, and is what it should be.
    Finished {
        /// Bytes of the file.
        received: u64,
        /// Whether a SHA-256 was known to hold it against.
        checked: bool,
    },
}

impl Hub {
    /// A cache in `home`, filled from the public hosts.
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

    /// The cache that the environment says: in `RESIDUAL_HOME`, else in a folder of ours in the user's cache. Nothing is
    /// downloaded where `RESIDUAL_OFFLINE` or `HF_HUB_OFFLINE` is set; `RESIDUAL_HUB_ENDPOINT` is a mirror with a folder for
    /// each host, `HF_ENDPOINT` another address of the Hugging Face hub, `HF_TOKEN` what is shown to it.
    ///
    /// # Errors
    /// If there is no folder for it, or a variable holds no address.
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

    /// Never downloads, because `why` says so.
    pub fn offline(mut self, why: &'static str) -> Self {
        self.offline = Some(why);
        self
    }

    /// Asks a mirror, which has a folder for each host.
    ///
    /// # Errors
    /// If `address` is neither https nor one of this machine.
    pub fn with_mirror(mut self, address: &str) -> Result<Self, HubError> {
        self.mirror = Some(endpoint(MIRROR, address)?);
        Ok(self)
    }

    /// Asks for files of the Hugging Face hub at another address.
    ///
    /// # Errors
    /// If `address` is neither https nor one of this machine.
    pub fn with_hugging_face(mut self, address: &str) -> Result<Self, HubError> {
        self.hub = endpoint(HF_ENDPOINT, address)?;
        Ok(self)
    }

    /// Shows `token` to the Hugging Face hub, and to nobody else.
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.into());
        self
    }

    /// How long a server may be silent or slow (60 s), and how long it is left alone after a failure (1 s).
    pub fn with_patience(mut self, patience: Duration, pause: Duration) -> Self {
        (self.patience, self.pause) = (patience, pause);
        self
    }

    /// Where the file of `name` is looked for.
    pub fn path(&self, name: &HubName) -> PathBuf {
        name.components().iter().fold(self.folder.clone(), |path, component| path.join(component))
    }

    /// The file of `name`, which is downloaded if it is not here: into a temporary file beside its place, which is checked
    /// and then renamed, so that it is whole or not there. What came before a failure is kept, and the next call asks for
    /// the rest. Two processes that want one file wait for each other.
    ///
    /// # Errors
    /// If the file is not here and may not be or cannot be downloaded (the message says where to put it), or is here, but is not
    /// the one that was published, where its SHA-256 is known.
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
        // An address of the hub's own counts before a mirror of everything.
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
        // The token is nobody's business.
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

/// Where things are kept that can be made or downloaded again: `RESIDUAL_HOME`, or a folder of ours in the user's cache, by
/// the `variable`s of the environment.
pub fn cache_folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home =
        || variable("HOME").map(|home| home.join(if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" }));
    let cache = || if cfg!(windows) { variable("LOCALAPPDATA") } else { variable("XDG_CACHE_HOME").or_else(home) };
    variable(HOME).or_else(|| cache().map(|cache| cache.join("residual")))
}
