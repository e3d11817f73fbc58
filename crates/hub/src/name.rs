//! Names of remote weights.

use crate::error::{HubCause, HubError, shown};
use crate::table::{Pretrained, is_pretrained, pretrained};
use crate::url::Url;
use residual_files::nearest;
use std::path::Path;

/// The address of torchvision's files.
const TORCHVISION: &str = "https://download.pytorch.org/models";

/// The weights file of timm's repositories.
const TIMM_FILE: &str = "model.safetensors";

/// Maximum length of a name, in bytes.
const MAX_LENGTH: usize = 4096;

/// Maximum length of the name of a folder or file in the cache, in bytes: the limit of file systems, 255, less the
/// prefix and suffix during a download.
const MAX_COMPONENT: usize = 200;

/// A validated name of remote weights:
///
/// - `torchvision:resnet50.v2`; without a version, the newest;
/// - `timm:resnet50.a1_in1k`; without a tag, timm's own choice;
/// - `hf:owner/repository/file`, a file of the Hugging Face hub's main revision;
/// - an `https` address (`http` only on this machine).
#[derive(Clone, Debug, PartialEq)]
pub struct HubName {
    text: String,
    place: Place,
    /// The folders and the file name in the cache.
    components: Vec<String>,
    pretrained: Option<Pretrained>,
}

#[derive(Clone, Debug, PartialEq)]
enum Place {
    /// An address, with the beginning of the file's SHA-256 if that is known.
    Web(Url, Option<String>),
    /// A file in a repository of the hub: `owner/repository`, path.
    Hub(String, String),
}

impl HubName {
    /// Parses a name; `None` for the path of a local file (`./hf:a` is one).
    ///
    /// # Errors
    /// If it has the prefix of a name, but is malformed or unknown.
    pub fn parse(text: &str) -> Option<Result<Self, HubError>> {
        if let Some(name) = timms_spelling(text) {
            return Some(Self::known(&name).map_err(|cause| HubError::new(shown(text), cause)));
        }
        let is_web = |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        let parsed = if is_web("https://") || is_web("http://") {
            Self::web(text)
        } else if let Some(rest) = text.strip_prefix("hf:") {
            Self::hub(text, rest)
        } else if text.starts_with("torchvision:") || text.starts_with("timm:") {
            Self::known(text)
        } else if let Some(rest) = text.strip_prefix("hf-hub:").or_else(|| text.strip_prefix("hf_hub:")) {
            Err(name_error("hf:owner/repository/file", format!("{} (timm's spelling)", shown(rest))))
        } else {
            return None;
        };
        Some(parsed.map_err(|cause| HubError::new(shown(text), cause)))
    }

    /// [`HubName::parse`] of a path as given.
    ///
    /// # Errors
    /// As there.
    pub fn of_path(path: &Path) -> Option<Result<Self, HubError>> {
        Self::parse(&path.to_string_lossy())
    }

    /// The same name of a file whose SHA-256 is known, in lower-case hexadecimal digits: the downloaded file is checked. Has no
    /// effect on files of the Hugging Face hub, which sends its own.
    pub fn with_sha256(mut self, sha256: &str) -> Self {
        if let Place::Web(_, hash) = &mut self.place {
            *hash = Some(sha256.to_owned());
        }
        self
    }

    /// The name as given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Network and preprocessing, if they are known.
    pub fn pretrained(&self) -> Option<&Pretrained> {
        self.pretrained.as_ref()
    }

    /// The folders and the file name in the cache, each without separators.
    pub(crate) fn components(&self) -> &[String] {
        &self.components
    }

    /// The address of the file, the beginning of its SHA-256 in lower-case hexadecimal digits if it is known, and
    /// whether it is at `hub`, the address of the Hugging Face hub.
    pub(crate) fn url(&self, hub: &Url) -> (Url, Option<&str>, bool) {
        match &self.place {
            Place::Web(url, hash) => (url.clone(), hash.as_deref(), false),
            Place::Hub(repository, path) => (hub.below(&format!("{repository}/resolve/main/{path}")), None, true),
        }
    }

    fn new(
        text: &str,
        place: Place,
        components: Vec<String>,
        pretrained: Option<Pretrained>,
    ) -> Result<Self, HubCause> {
        match components.iter().find(|component| component.len() > MAX_COMPONENT) {
            Some(long) => Err(name_error("names of at most 200 bytes between slashes", long.len())),
            None => Ok(Self { text: text.into(), place, components, pretrained }),
        }
    }

    fn web(text: &str) -> Result<Self, HubCause> {
        let url = Url::parse(text).map_err(|expected| name_error(expected, shown(text)))?;
        let known = |entry: &Pretrained| {
            entry.name.starts_with("torchvision:") && url.to_string() == format!("{TORCHVISION}/{}", entry.place)
        };
        if let Some(entry) = pretrained().into_iter().find(known) {
            return Self::torchvision(text, entry);
        }
        let mut components = url.components();
        if components.is_empty() {
            return Err(name_error("the address of a file", shown(text)));
        }
        components.insert(0, "url".into());
        Self::new(text, Place::Web(url, None), components, None)
    }

    fn hub(text: &str, rest: &str) -> Result<Self, HubCause> {
        if text.len() > MAX_LENGTH {
            return Err(name_error("at most 4096 bytes", text.len()));
        }
        let parts: Vec<&str> = rest.split('/').collect();
        let [owner, repository, path @ ..] = parts.as_slice() else {
            return Err(name_error("hf:owner/repository/file", shown(text)));
        };
        let is_plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        let is_file = |part: &str| !part.chars().any(|char| char.is_control() || "\\:*?\"<>|%#".contains(char));
        if path.is_empty() || !is_plain(owner) || !is_plain(repository) || !path.iter().all(|part| is_file(part)) {
            return Err(name_error("hf:owner/repository/file", shown(text)));
        }
        if let Some(part) = parts.iter().find(|part| part.is_empty() || part.starts_with('.')) {
            return Err(name_error("names that are not empty and do not begin with a dot", shown(part)));
        }
        let components = std::iter::once("hf").chain(parts.iter().copied()).map(str::to_owned).collect();
        let repository = format!("{owner}/{repository}");
        let path = path.join("/");
        let is_timms = |entry: &Pretrained| entry.name.starts_with("timm:") && entry.place == repository;
        let known = if path == TIMM_FILE { pretrained().into_iter().find(is_timms) } else { None };
        Self::new(text, Place::Hub(repository, path), components, known)
    }

    fn known(text: &str) -> Result<Self, HubCause> {
        let is_torchvision = text.starts_with("torchvision:");
        let of_network = |entry: &Pretrained| entry.name.split_once('.').is_some_and(|(network, _)| network == text);
        let all = pretrained();
        let chosen = match all.iter().position(|entry| entry.name == text) {
            Some(exact) => Some(exact),
            None if is_torchvision => all.iter().rposition(of_network),
            None => all.iter().position(of_network),
        };
        let Some(entry) = chosen.map(|index| all[index].clone()) else { return Err(unknown(text, &all)) };
        if is_torchvision {
            return Self::torchvision(text, entry);
        }
        let mut name = Self::hub(text, &format!("{}/{TIMM_FILE}", entry.place))?;
        name.pretrained = Some(entry);
        Ok(name)
    }

    fn torchvision(text: &str, entry: Pretrained) -> Result<Self, HubCause> {
        // resnet50-0676ba61.pth: the SHA-256 begins with these digits.
        let hash = entry.place.rsplit_once('-').and_then(|(_, hash)| hash.strip_suffix(".pth")).map(str::to_owned);
        let url =
            Url::parse(&format!("{TORCHVISION}/{}", entry.place)).map_err(|expected| name_error(expected, text))?;
        let components = vec!["torchvision".into(), entry.place.into()];
        Self::new(text, Place::Web(url, hash), components, Some(entry))
    }
}

/// Converts timm's and the hub's names of weights: `hf-hub:timm/resnet50.a1_in1k`, `timm/resnet50.a1_in1k`,
/// `resnet50.a1_in1k`, and `tv_resnet50`, timm's former name of torchvision's weights. An existing file takes precedence over a
/// name without a colon.
fn timms_spelling(text: &str) -> Option<String> {
    let schemes = ["hf-hub:timm/", "hf_hub:timm/", "hf:timm/"];
    let tagged = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
    let plain = text.strip_prefix("timm/").unwrap_or(text);
    let candidate = match (tagged, text.strip_prefix("tv_")) {
        (Some(tagged), _) => format!("timm:{tagged}"),
        (None, Some(network)) => format!("timm:{network}.tv_in1k"),
        (None, None) => format!("timm:{plain}"),
    };
    // The file system is accessed only for names in the table.
    let is_known = candidate.len() < 200 && is_pretrained(&candidate);
    (is_known && (tagged.is_some() || !Path::new(text).exists())).then_some(candidate)
}

fn name_error(expected: impl Into<String>, got: impl ToString) -> HubCause {
    HubCause::Name { expected: expected.into(), got: got.to_string() }
}

fn unknown(text: &str, all: &[Pretrained]) -> HubCause {
    let network = text.split('.').next().unwrap_or_default();
    let of_network = |name: &str| name.split_once('.').is_some_and(|(known, _)| known == network);
    let known: Vec<&str> = all.iter().map(|entry| entry.name).filter(|name| of_network(name)).collect();
    if !known.is_empty() {
        return name_error(known.join(", "), shown(text));
    }
    // Compared are the names of networks, without the tags of weights.
    let networks = all.iter().filter_map(|entry| entry.name.split_once('.').map(|(network, _)| network));
    let hint = nearest(network, networks).map_or_else(String::new, |near| format!(" (did you mean \"{near}\"?)"));
    let expected = "a name that \"residual models list --json\" shows, or hf:owner/repository/file";
    name_error(expected, format!("{}{hint}", shown(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HubName {
        HubName::parse(text).expect("a name").unwrap_or_else(|error| panic!("{error}"))
    }

    fn place(text: &str) -> (String, String) {
        let name = name(text);
        let (url, hash, _) = name.url(&Url::parse("https://huggingface.co").unwrap());
        (format!("{url} {}", hash.unwrap_or("-")), name.components().join("/"))
    }

    #[test]
    fn names_say_where_a_file_lies_and_what_it_is() {
        let v1 =
            ("https://download.pytorch.org/models/resnet50-0676ba61.pth 0676ba61", "torchvision/resnet50-0676ba61.pth");
        let v2 =
            ("https://download.pytorch.org/models/resnet50-11ad3fa6.pth 11ad3fa6", "torchvision/resnet50-11ad3fa6.pth");
        let a1 = (
            "https://huggingface.co/timm/resnet50.a1_in1k/resolve/main/model.safetensors -",
            "hf/timm/resnet50.a1_in1k/model.safetensors",
        );
        for (text, (url, file), pretrained) in [
            ("torchvision:resnet50.v1", v1, Some("torchvision:resnet50.v1")),
            ("torchvision:resnet50.v2", v2, Some("torchvision:resnet50.v2")),
            ("torchvision:resnet50", v2, Some("torchvision:resnet50.v2")),
            ("https://download.pytorch.org/models/resnet50-0676ba61.pth", v1, Some("torchvision:resnet50.v1")),
            ("timm:resnet50.a1_in1k", a1, Some("timm:resnet50.a1_in1k")),
            ("timm:resnet50", a1, Some("timm:resnet50.a1_in1k")),
            ("hf:timm/resnet50.a1_in1k/model.safetensors", a1, Some("timm:resnet50.a1_in1k")),
            (
                "hf:a-b/c.d/e f/g.pth",
                ("https://huggingface.co/a-b/c.d/resolve/main/e%20f/g.pth -", "hf/a-b/c.d/e f/g.pth"),
                None,
            ),
            ("https://a.org/b.pth?c=d", ("https://a.org/b.pth?c=d -", "url/a.org/b.pth%3Fc%3Dd"), None),
        ] {
            assert_eq!(place(text), (url.to_owned(), file.to_owned()));
            assert_eq!(name(text).pretrained().map(|entry| entry.name), pretrained);
        }
    }

    #[test]
    fn files_of_this_machine_are_no_names() {
        for text in [
            "resnet50.pth",
            "./hf:a/b/c",
            "C:\\weights\\a.pth",
            "runs/1",
            "",
            "http:/a",
            "hf",
            "\u{e9}\u{e9}\u{e9}\u{e9}",
        ] {
            assert!(HubName::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn timms_spellings_are_read_and_near_misses_answered() {
        for text in [
            "hf-hub:timm/resnet50.a1_in1k",
            "hf_hub:timm/resnet50.a1_in1k",
            "hf:timm/resnet50.a1_in1k",
            "timm/resnet50.a1_in1k",
            "resnet50.a1_in1k",
        ] {
            assert_eq!(name(text), name("timm:resnet50.a1_in1k"), "{text}");
        }
        assert_eq!(name("tv_resnet50"), name("timm:resnet50.tv_in1k"));
        let message = |text: &str| HubName::parse(text).expect("a name").unwrap_err().to_string();
        assert!(message("hf-hub:owner/model").contains("expected hf:owner/repository/file"));
        assert!(message("torchvision:resnet5O.v2").ends_with("(did you mean \"torchvision:resnet50\"?)"));
        assert!(message("timm:resnet-50").ends_with("(did you mean \"timm:resnet50\"?)"));
        assert!(HubName::parse("timm/unknown").is_none() && HubName::parse("tv_unknown").is_none());
    }

    #[test]
    fn tricks_with_paths_are_refused_in_one_short_line() {
        let long = format!("hf:a/b/{}", "c".repeat(100_000));
        let long_part = format!("hf:a/b/{}", "c".repeat(201));
        for text in [
            "hf:../../x",
            "hf:a/../x",
            "hf:a/b/../../../../etc/passwd",
            "hf:a/b/.hidden",
            "hf:/etc/passwd",
            "hf://a/b/c",
            "hf:a/b//c",
            "hf:a/b/",
            "hf:a/b",
            "hf:",
            "hf:a/b/c\0d",
            "hf:a/b/c\nd",
            "hf:a/b\\..\\c/d",
            "hf:a/b/c\\d",
            "hf:a/b/c%2e%2e",
            "hf:a/b/c:stream",
            "hf:a/b/c?d",
            "hf:a b/c/d",
            "torchvision:../x",
            "torchvision:resnet50.v3",
            "torchvision:resnet50.v1\0",
            "torchvision:resnet50_v1.v1",
            "timm:",
            "timm:resnet50.a1_in1k/../x",
            "https://",
            "https://a.org/",
            "https://a.org/b\0",
            "https://a.org/a\\..\\b",
            "http://a.org/b",
            "http://169.254.169.254/latest/meta-data",
            &long,
            &long_part,
            &long.replace("hf:a/b", "https:/"),
        ] {
            let error = HubName::parse(text).expect("a name").unwrap_err().to_string();
            assert!(error.len() < 800 && !error.contains(char::is_control), "{error}");
            assert!(error.contains("expected "), "{error}");
        }
        assert_eq!(
            HubName::parse("torchvision:resnet50.v3").unwrap().unwrap_err().to_string(),
            "torchvision:resnet50.v3: expected torchvision:resnet50.v1, torchvision:resnet50.v2, got torchvision:resnet50.v3"
        );
    }

    #[test]
    fn every_known_name_is_a_file_of_its_own() {
        let mut files = std::collections::HashSet::new();
        for entry in pretrained() {
            let name = name(entry.name);
            assert_eq!(name.pretrained(), Some(&entry));
            assert!(files.insert(name.components().to_vec()), "{}", entry.name);
            if let Place::Web(_, hash) = &name.place {
                assert!(hash.as_ref().is_some_and(|hash| hash.len() == 8), "{}", entry.name);
            }
        }
    }
}
