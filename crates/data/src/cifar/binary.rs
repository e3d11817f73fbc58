//! The binary layout: records of one label byte (CIFAR-100: the coarse, then the fine) and 3072 pixel bytes.

use super::{CifarKind, IMAGE_LEN, Records};
use crate::DataError;

/// Reads a file of the binary layout; `place` names it in errors. Never panics, and allocates at most the bytes
/// it was given and four bytes per record.
///
/// # Errors
/// [`DataError::Invalid`] for an empty file, a record that is cut off, or a label out of range, with the offset.
pub fn parse_binary(bytes: &[u8], kind: CifarKind, place: &str) -> Result<Records, DataError> {
    let label_bytes = match kind {
        CifarKind::Cifar10 => 1,
        CifarKind::Cifar100 => 2,
    };
    let record_len = label_bytes + IMAGE_LEN;
    let count = bytes.len() / record_len;
    if count == 0 || !bytes.len().is_multiple_of(record_len) {
        let place = format!("{place}: offset {}", count * record_len);
        let got = format!("{} (the file has {} bytes)", bytes.len() % record_len, bytes.len());
        return Err(DataError::invalid(place, format!("a record of {record_len} bytes"), got));
    }
    let mut records = Records { labels: Vec::with_capacity(count), pixels: Vec::with_capacity(count * IMAGE_LEN) };
    for (index, record) in bytes.chunks_exact(record_len).enumerate() {
        let (labels, pixels) = record.split_at(label_bytes);
        let label = labels[label_bytes - 1];
        if usize::from(label) >= kind.classes() {
            let place = format!("{place}: offset {}", index * record_len + label_bytes - 1);
            return Err(DataError::invalid(place, format!("a label from 0 to {}", kind.classes() - 1), label));
        }
        records.labels.push(u32::from(label));
        records.pixels.extend_from_slice(pixels);
    }
    Ok(records)
}
