//! Parses the headers of a response. Public for `fuzz`.

use crate::url::Url;

/// The target of a redirection from `from` to `location`; `None` if it is refused.
pub fn redirection(from: &str, location: &str) -> Option<String> {
    Some(Url::parse(from).ok()?.join(location).ok()?.to_string())
}

/// The first byte and the total length in `Content-Range: bytes 5-9/10`; no length if it is `*`.
pub fn content_range(header: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = header.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.trim().split_once('-')?;
    let (first, last): (u64, u64) = (number(first)?, number(last)?);
    let total = if total.trim() == "*" { None } else { Some(number(total)?) };
    let fits = first <= last && total.is_none_or(|total| last < total);
    fits.then_some((first, total))
}

/// The SHA-256 in the hub's `X-Linked-Etag`, in lower-case hexadecimal digits. (That of small files is another hash.)
pub fn linked_sha256(header: &str) -> Option<String> {
    let hash = header.trim().trim_start_matches("W/").trim_matches('"');
    (hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| hash.to_ascii_lowercase())
}

/// A strong `ETag`, which identifies the bytes of a file, so that the rest can be requested with it.
pub fn strong_etag(header: &str) -> Option<&str> {
    let header = header.trim();
    let inside = header.strip_prefix('"')?.strip_suffix('"')?;
    let is_plain =
        !inside.is_empty() && inside.len() <= 256 && inside.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    is_plain.then_some(header)
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    // `parse` accepts a sign as well.
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_must_be_one_of_the_file() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 0-0/*"), Some((0, None)));
        for header in [
            "",
            "bytes",
            "bytes 5-4/10",
            "bytes 5-10/10",
            "bytes -5/10",
            "bytes +5-9/10",
            "bytes */10",
            "items 5-9/10",
            "bytes 5-99999999999999999999/*",
        ] {
            assert_eq!(content_range(header), None, "{header}");
        }
    }

    proptest::proptest! {
        #[test]
        fn malformed_headers_are_ignored(text in ".*", other in "[a-z0-9:/?#@.\\[\\]%-]*") {
            for header in [&text, &other, &format!("bytes {other}"), &format!("\"{text}\"")] {
                let _ = (content_range(header), linked_sha256(header), strong_etag(header));
                // Only https is followed.
                if let Some(next) = redirection("https://a.org/b/c", header) {
                    assert!(next.starts_with("https://"), "{next}");
                }
            }
        }
    }

    #[test]
    fn only_hashes_and_strong_etags_are_accepted() {
        let hash = "AB".repeat(32);
        assert_eq!(linked_sha256(&format!("\"{hash}\"")), Some(hash.to_lowercase()));
        assert_eq!(linked_sha256(&"a".repeat(40)), None);
        assert_eq!(linked_sha256(&"g".repeat(64)), None);
        assert_eq!(strong_etag("\"a-1\""), Some("\"a-1\""));
        for header in ["W/\"a\"", "a", "\"\"", "\"", "\"a\" \"b\"", "\"a b\""] {
            assert_eq!(strong_etag(header), None, "{header}");
        }
    }
}
