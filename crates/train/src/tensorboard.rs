//! TensorBoard event files: records of `tensorflow.Event` messages with scalars.
//!
//! A record is its length (u64), the masked CRC-32C of these eight bytes, the message, and the message's masked CRC-32C, all
//! little endian.

use crate::event::{EpochRow, Step};
use crate::{RunFolder, TrainError};
use crc::{CRC_32_ISCSI, Crc};
use prost::Message as _;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

const CRC_32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// The event file of a run.
pub(crate) struct EventFile {
    path: PathBuf,
    file: File,
    len: u64,
}

impl EventFile {
    /// Opens the file with its first `keep` bytes and truncates the rest, which was written after the checkpoint.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn open(folder: &RunFolder, keep: u64) -> Result<Self, TrainError> {
        let path = folder.tensorboard();
        let directory = path.parent().expect("it is in the run folder");
        std::fs::create_dir_all(directory).map_err(TrainError::io(directory))?;
        let open = || {
            let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            let keep = keep.min(file.metadata()?.len());
            file.set_len(keep)?;
            file.seek(SeekFrom::Start(keep))?;
            Ok((file, keep))
        };
        let (file, len) = open().map_err(TrainError::io(&path))?;
        let mut events = Self { path, file, len };
        if len == 0 {
            let file_version = Some("brain.Event:2".to_owned());
            events.write(&Message { wall_time: now(), step: 0, file_version, summary: None })?;
        }
        Ok(events)
    }

    /// Adds the scalars of a step.
    ///
    /// # Errors
    /// If they cannot be written.
    pub(crate) fn step(&mut self, step: &Step) -> Result<(), TrainError> {
        let scalars =
            [("train/loss", step.loss), ("train/lr", step.lr), ("time/images_per_second", step.images_per_second)];
        self.scalars(step.step, &scalars)
    }

    /// Adds the scalars of an epoch, at its last step.
    ///
    /// # Errors
    /// If they cannot be written.
    pub(crate) fn epoch(&mut self, row: &EpochRow) -> Result<(), TrainError> {
        let mut scalars = vec![("epoch/train_loss", row.train_loss), ("epoch/train_top1", row.train_top1)];
        let held_out = [("val/loss", row.loss), ("val/top1", row.top1), ("val/top5", row.top5)];
        scalars.extend(held_out.into_iter().filter_map(|(tag, value)| Some((tag, value?))));
        if let Some(raw) = row.raw {
            scalars.extend([("val_raw/loss", raw.loss), ("val_raw/top1", raw.top1), ("val_raw/top5", raw.top5)]);
        }
        self.scalars(row.step, &scalars)
    }

    fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<(), TrainError> {
        let value = |&(tag, value): &(&str, f64)| Scalar { tag: tag.into(), simple_value: Some(value as f32) };
        let summary = Some(Summary { value: scalars.iter().map(value).collect() });
        self.write(&Message { wall_time: now(), step: step as i64, file_version: None, summary })
    }

    fn write(&mut self, message: &Message) -> Result<(), TrainError> {
        let record = record(&message.encode_to_vec());
        self.file.write_all(&record).map_err(TrainError::io(&self.path))?;
        self.len += record.len() as u64;
        Ok(())
    }

    /// Syncs the file to disk; its length in bytes.
    ///
    /// # Errors
    /// If that fails.
    pub(crate) fn sync(&self) -> Result<u64, TrainError> {
        self.file.sync_data().map_err(TrainError::io(&self.path))?;
        Ok(self.len)
    }
}

/// `tensorflow.Event`.
#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, prost::Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

/// `tensorflow.Summary.Value`.
#[derive(Clone, PartialEq, prost::Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

fn record(message: &[u8]) -> Vec<u8> {
    let len = (message.len() as u64).to_le_bytes();
    [&len, &masked_crc(&len).to_le_bytes()[..], message, &masked_crc(message).to_le_bytes()].concat()
}

/// TensorFlow's masked checksum.
fn masked_crc(bytes: &[u8]) -> u32 {
    CRC_32C.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The length, checksums and message of the `tensorboard` package, version 2.21, for this event.
    #[test]
    fn a_record_is_tensorflows() {
        let file_version = Some("brain.Event:2".to_owned());
        let message = Message { wall_time: 1.0, step: 0, file_version, summary: None }.encode_to_vec();
        assert_eq!(message, b"\t\x00\x00\x00\x00\x00\x00\xf0?\x1a\rbrain.Event:2");
        let record = record(&message);
        assert_eq!(record[..8], 24_u64.to_le_bytes());
        assert_eq!(record[8..12], 575_373_219_u32.to_le_bytes());
        assert_eq!(record[36..], 2_052_571_014_u32.to_le_bytes());
    }
}
