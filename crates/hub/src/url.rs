//! URLs, as far as downloads need them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Maximum length of an address, in bytes.
const MAX_LENGTH: usize = 4096;

/// An `https` URL, or an `http` URL of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    is_secure: bool,
    /// The host in lower case, and the port if there is one.
    authority: String,
    /// The path, which begins with a slash, and the query.
    path: String,
}

impl Url {
    /// Parses an address; the error is what was expected.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_LENGTH {
            return Err("an address of at most 4096 bytes");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&byte)) {
            return Err("an address without spaces, backslashes and the like (write them as %20, %5C)");
        }
        let (is_secure, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            _ => return Err("an address with https://"),
        };
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let authority = authority.to_ascii_lowercase();
        let Some((host, _)) = split_authority(&authority) else { return Err("an address with the name of a host") };
        if !is_secure && !is_loopback(host) {
            return Err("https, as http is only for this machine");
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { is_secure, authority, path })
    }

    /// Resolves the `location` of a redirection from this address (RFC 3986, section 5.2).
    pub(crate) fn join(&self, location: &str) -> Result<Self, &'static str> {
        let scheme = if self.is_secure { "https" } else { "http" };
        let location = location.split('#').next().unwrap_or_default();
        let place = location.find([':', '/', '?']);
        let next = if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if place.is_some_and(|place| location[place..].starts_with("://")) {
            location.to_owned()
        } else {
            let (path, _) = self.path.split_once('?').unwrap_or((&self.path, ""));
            let folder = path.rfind('/').map_or("/", |end| &path[..=end]);
            let path = match location.chars().next() {
                None => self.path.clone(),
                Some('/') => location.to_owned(),
                Some('?') => format!("{path}{location}"),
                Some(_) => format!("{folder}{location}"),
            };
            format!("{scheme}://{}{path}", self.authority)
        };
        let mut next = Self::parse(&next)?;
        next.path = without_dot_segments(&next.path);
        // A redirection from https may not lead to a server on this machine.
        if self.is_secure && !next.is_secure { Err("https after https") } else { Ok(next) }
    }

    /// The address of this file at a mirror, where the host is a folder.
    #[cfg(any(test, feature = "download"))]
    pub(crate) fn at_mirror(&self, mirror: &Self) -> Self {
        let path = format!("{}/{}{}", mirror.path.trim_end_matches('/'), self.authority, self.path);
        Self { path, ..mirror.clone() }
    }

    /// The address of a file below this one; `path` is percent-encoded.
    pub(crate) fn below(&self, path: &str) -> Self {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
        let mut whole = format!("{}/", self.path.trim_end_matches('/'));
        encode(path, plain, &mut whole);
        Self { path: whole, ..self.clone() }
    }

    /// Whether scheme, host and port are equal.
    #[cfg(feature = "download")]
    pub(crate) fn has_same_origin(&self, other: &Self) -> bool {
        self.is_secure == other.is_secure && self.authority == other.authority
    }

    /// Whether the host is this machine.
    #[cfg(feature = "download")]
    pub(crate) fn is_loopback(&self) -> bool {
        split_authority(&self.authority).is_some_and(|(host, _)| is_loopback(host))
    }

    /// Folders and a file name in the cache, distinct for each address; empty if it is not the address of a file.
    pub(crate) fn components(&self) -> Vec<String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let component = |text: &str| {
            let mut encoded = String::new();
            // A leading dot would hide the file, or lead out of the folder.
            let rest = text.strip_prefix('.').inspect(|_| encoded.push_str("%2E")).unwrap_or(text);
            encode(rest, plain, &mut encoded);
            encoded
        };
        let (path, query) = self.path.split_once('?').map_or((&*self.path, None), |(path, query)| (path, Some(query)));
        let mut components: Vec<String> =
            std::iter::once(&*self.authority).chain(path[1..].split('/')).map(component).collect();
        if components.iter().any(String::is_empty) {
            return Vec::new();
        }
        if let (Some(query), Some(file)) = (query, components.last_mut()) {
            file.push_str("%3F");
            encode(query, plain, file);
        }
        components
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

/// A path, with its query, without the segments `.` and `..` (RFC 3986, section 5.2.4).
fn without_dot_segments(path: &str) -> String {
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let mut kept = Vec::new();
    let mut is_folder = false;
    for segment in path.split('/').skip(1) {
        is_folder = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let end = if is_folder && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}{query}", kept.join("/"))
}

fn encode(text: &str, plain: impl Fn(u8) -> bool, to: &mut String) {
    for byte in text.bytes() {
        if plain(byte) {
            to.push(char::from(byte));
        } else {
            to.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// The host and the port, if there is one. User names and passwords are refused.
fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        return match port.strip_prefix(':') {
            Some(port) => Some((host, Some(port.parse().ok()?))),
            None => port.is_empty().then_some((host, None)),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (authority, None),
    };
    let is_name = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    (host.len() <= 253 && host.split('.').all(is_name)).then_some((host, port))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || host.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn http_is_for_this_machine_only() {
        for text in ["http://127.0.0.1:8080/a", "http://localhost/a", "http://[::1]:80/a", "https://example.org/a?b=c"]
        {
            assert_eq!(url(text).to_string(), text);
        }
        assert_eq!(url("HTTPS://Example.org#a").to_string(), "https://example.org/");
        for text in [
            "http://example.org/a",
            "http://127.0.0.1.example.org/a",
            "http://localhost@example.org/a",
            "https://user:password@example.org/a",
            "https:///a",
            "https://a..b/",
            "https://[::1/a",
            "https://[::1]x/a",
            "https://example.org:port/a",
            "https://example.org/a b",
            "https://example.org/a\\b",
            "https://example.org/a\r\nHost: b",
            "https://\u{e9}xample.org/",
            "ftp://example.org/a",
            "example.org/a",
            "",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
        assert!(Url::parse(&format!("https://example.org/{}", "a".repeat(5000))).is_err());
    }

    #[test]
    fn redirections_are_relative_or_whole_and_stay_secure() {
        let from = url("https://a.org/b/c?d=/e");
        for (location, expected) in [
            ("https://b.org/x", "https://b.org/x"),
            ("//b.org/x", "https://b.org/x"),
            ("/x?y", "https://a.org/x?y"),
            ("x", "https://a.org/b/x"),
            ("x/?u=https://c.org", "https://a.org/b/x/?u=https://c.org"),
        ] {
            assert_eq!(from.join(location).unwrap().to_string(), expected);
        }
        // The examples of RFC 3986, section 5.4, but for those with other schemes.
        let from = url("https://a/b/c/d;p?q");
        for (location, expected) in [
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("?y", "/b/c/d;p?y"),
            ("g?y", "/b/c/g?y"),
            ("#s", "/b/c/d;p?q"),
            ("g#s", "/b/c/g"),
            (";x", "/b/c/;x"),
            ("", "/b/c/d;p?q"),
            (".", "/b/c/"),
            ("./", "/b/c/"),
            ("..", "/b/"),
            ("../", "/b/"),
            ("../g", "/b/g"),
            ("../..", "/"),
            ("../../g", "/g"),
            ("../../../../g", "/g"),
            ("/./g", "/g"),
            ("/../g", "/g"),
            ("g.", "/b/c/g."),
            ("..g", "/b/c/..g"),
            ("./../g", "/b/g"),
            ("./g/.", "/b/c/g/"),
            ("g/./h", "/b/c/g/h"),
            ("g/../h", "/b/c/h"),
            ("g?y/../x", "/b/c/g?y/../x"),
        ] {
            assert_eq!(from.join(location).unwrap().to_string(), format!("https://a{expected}"), "{location}");
        }
        assert_eq!(from.join("//g").unwrap().to_string(), "https://g/");
        let from = url("https://a.org/b/c?d=/e");
        for location in ["http://127.0.0.1/x", "http://a.org/x", "file:///etc/passwd", "https://", "\\\\host\\share"] {
            assert!(from.join(location).is_err(), "{location}");
        }
        assert!(url("http://127.0.0.1:1/a").join("http://127.0.0.1:2/b").is_ok());
    }

    #[test]
    fn a_file_in_the_cache_stands_for_one_address() {
        let components = |text: &str| url(text).components();
        assert_eq!(components("https://a.org:8443/b/c.pth"), ["a.org%3A8443", "b", "c.pth"]);
        assert_eq!(components("https://a.org/c.pth?x=../y"), ["a.org", "c.pth%3Fx%3D..%2Fy"]);
        assert_eq!(components("https://a.org/../.c"), ["a.org", "%2E.", "%2Ec"]);
        assert_eq!(components("https://a.org/%2e%2e/c"), ["a.org", "%252e%252e", "c"]);
        assert!(components("https://a.org/").is_empty() && components("https://a.org/b//c").is_empty());
    }

    #[test]
    fn a_mirror_has_a_folder_for_each_host() {
        let mirror = url("http://localhost:8000/pub/");
        let at = |text: &str| url(text).at_mirror(&mirror).to_string();
        assert_eq!(at("https://a.org/b?c"), "http://localhost:8000/pub/a.org/b?c");
        assert_eq!(url("https://a.org").below("b c/d.pth").to_string(), "https://a.org/b%20c/d.pth");
    }
}
