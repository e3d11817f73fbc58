//! Recognises files that are mistaken for weights.

/// The kind of a file by its first bytes (some three hundred are enough), with a hint; `None` if it is not one of those
/// that are mistaken for weights.
pub fn recognise(head: &[u8]) -> Option<&'static str> {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    Some(match head {
        // A safetensors file begins with the length of its header, which can equal other magic bytes.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => return None,
        [] => "an empty file",
        _ if head.starts_with(b"version https://git-lfs") => {
            "a git-lfs pointer (\"git lfs pull\" gets the file itself)"
        }
        [0x1f, 0x8b, ..]
        | [b'B', b'Z', b'h', ..]
        | [0xfd, b'7', b'z', b'X', b'Z', ..]
        | [0x28, 0xb5, 0x2f, 0xfd, ..] => "a compressed file (unpack it first)",
        _ if head.get(257..262) == Some(b"ustar") => "a tar archive (unpack it first)",
        [0x89, b'H', b'D', b'F', ..] => "an HDF5 file, as Keras writes",
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => "a numpy array",
        [b'G', b'G', b'U', b'F', ..] => "a GGUF file",
        [0x89, b'P', b'N', b'G', ..] | [0xff, 0xd8, 0xff, ..] => "an image",
        // The version of ONNX's format, then one of the fields that may follow.
        [0x08, 1..=32, 0x12 | 0x1a | 0x22 | 0x2a | 0x32 | 0x3a | 0x42, ..] => {
            "an ONNX model (export the state dict instead)"
        }
        _ if text.starts_with(b"<") => "a web page (get the file itself, not the page about it)",
        _ if text.starts_with(b"{") => "a JSON file",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mistaken_for_weights_is_called_by_its_name() {
        let mut tar = [0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for (head, name) in [
            (&b""[..], "empty"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "git lfs pull"),
            (b"<!DOCTYPE html><html>", "web page"),
            (b"\xef\xbb\xbf\r\n<html>", "web page"),
            (b"\x1f\x8b\x08\x00", "compressed"),
            (b"\x89HDF\r\n\x1a\n", "HDF5"),
            (b"\x08\x08\x12\x07pytorch\x1a\x05", "ONNX"),
            (b"{\"error\":\"not found\"}", "JSON"),
            (&tar, "tar"),
        ] {
            assert!(recognise(head).is_some_and(|what| what.contains(name)), "{head:?}");
        }
        for head in [
            &b"PK\x03\x04"[..],
            b"\x80\x02\x8a\x0a",
            b" <\0\0\0\0\0\0{\"a\"",
            b"\x08\x01\x12\0\0\0\0\0{",
            b"hello, world",
        ] {
            assert_eq!(recognise(head), None, "{head:?}");
        }
    }
}
