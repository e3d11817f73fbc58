//! The official files of named datasets: where they are, their checksums, and how they are installed in a folder.

use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use residual_files::{FileError, TarReader, atomic_folder, open_file, printable};

use crate::DataError;

/// The most that an archive unpacks to; the largest has 186 MB.
const MAX_BYTES: u64 = 1 << 30;

/// A file of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfficialFile {
    /// Its address.
    pub url: &'static str,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: &'static str,
}

/// The official files of a named dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfficialDataset {
    /// Its name, as in `--data`.
    pub name: &'static str,
    /// The folder that it is installed to.
    folder: &'static str,
    /// Its files: an archive (`.tar.gz`) of the folder, or the files in it.
    pub files: &'static [OfficialFile],
}

/// The datasets that can be downloaded: CIFAR from its authors' page, MNIST from PyTorch's copy, as the original page refuses
/// downloads, and Fashion-MNIST from its repository. Checksums are those of TensorFlow Datasets.
pub const OFFICIAL: [OfficialDataset; 4] = [
    OfficialDataset {
        name: "cifar10",
        folder: "cifar-10-batches-bin",
        files: &[OfficialFile {
            url: "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            sha256: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        }],
    },
    OfficialDataset {
        name: "cifar100",
        folder: "cifar-100-binary",
        files: &[OfficialFile {
            url: "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            sha256: "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        }],
    },
    OfficialDataset {
        name: "mnist",
        folder: "mnist",
        files: &[
            OfficialFile {
                url: "https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz",
                sha256: "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            },
            OfficialFile {
                url: "https://ossci-datasets.s3.amazonaws.com/mnist/train-labels-idx1-ubyte.gz",
                sha256: "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            },
            OfficialFile {
                url: "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-images-idx3-ubyte.gz",
                sha256: "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            },
            OfficialFile {
                url: "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-labels-idx1-ubyte.gz",
                sha256: "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            },
        ],
    },
    OfficialDataset {
        name: "fashion-mnist",
        folder: "fashion-mnist",
        files: &[
            OfficialFile {
                url: "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/train-images-idx3-ubyte.gz",
                sha256: "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            },
            OfficialFile {
                url: "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/train-labels-idx1-ubyte.gz",
                sha256: "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            },
            OfficialFile {
                url: "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/t10k-images-idx3-ubyte.gz",
                sha256: "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            },
            OfficialFile {
                url: "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/t10k-labels-idx1-ubyte.gz",
                sha256: "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            },
        ],
    },
];

impl OfficialDataset {
    /// Installs the dataset in a folder of `data_dir`, atomically, from its `files`, which were downloaded; returns the folder.
    ///
    /// # Errors
    /// [`DataError::File`] if a file cannot be read or written, or the folder exists and is not empty; [`DataError::Invalid`] for
    /// an archive that is damaged or has no files of the dataset's folder.
    pub fn install(&self, files: &[PathBuf], data_dir: &Path) -> Result<PathBuf, DataError> {
        let folder = data_dir.join(self.folder);
        fs::create_dir_all(data_dir).map_err(FileError::write(data_dir))?;
        atomic_folder(&folder, |place| {
            for file in files {
                let name = file.file_name().unwrap_or_default();
                if name.as_encoded_bytes().ends_with(b".tar.gz") {
                    unpack(file, self.folder, place)?;
                } else {
                    fs::copy(file, place.join(name)).map_err(FileError::write(&folder))?;
                }
            }
            Ok::<(), DataError>(())
        })?;
        Ok(folder)
    }
}

/// Writes the files in the folder `within` of an archive to `folder`. Files elsewhere in it, and those whose names are paths, are
/// left out.
fn unpack(archive: &Path, within: &str, folder: &Path) -> Result<(), DataError> {
    let place = archive.display().to_string();
    let mut bytes = Vec::new();
    let packed = open_file(archive)?;
    let read = GzDecoder::new(packed).take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| DataError::invalid(&place, "a gzip file", printable(&error.to_string(), 100)))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(DataError::invalid(place, format!("at most {MAX_BYTES} bytes"), "more"));
    }
    let damaged = |error: residual_files::TarError| DataError::invalid(&place, "a whole tar archive", error);
    let mut reader = TarReader::new(Cursor::new(&bytes)).map_err(|error| damaged(error.into()))?;
    let mut count = 0;
    while let Some(entry) = reader.next_entry().map_err(damaged)? {
        let name = entry.name.strip_prefix("./").unwrap_or(&entry.name);
        let name = name.strip_prefix(within).and_then(|name| name.strip_prefix('/'));
        let Some(name) = name.filter(|name| !name.contains(['/', '\\', ':']) && !name.starts_with('.')) else {
            continue;
        };
        let path = folder.join(name);
        let content = &bytes[entry.offset as usize..][..entry.len as usize];
        fs::write(&path, content).map_err(FileError::write(&path))?;
        count += 1;
    }
    if count == 0 {
        return Err(DataError::invalid(place, format!("files in {within}"), "none"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use residual_files::TarWriter;
    use std::io::Write;

    fn archive(path: &Path, files: &[(&str, &[u8])]) {
        let mut tar = TarWriter::new(GzEncoder::new(fs::File::create(path).unwrap(), Compression::fast()));
        files.iter().for_each(|(name, content)| tar.append(name, content).unwrap());
        tar.finish().unwrap().finish().unwrap().flush().unwrap();
    }

    #[test]
    fn an_archive_is_installed_whole_or_not_at_all_and_only_in_its_folder() {
        let root = tempfile::tempdir().unwrap();
        let packed = root.path().join("c.tar.gz");
        let cifar = &OFFICIAL[0];
        let files: [(&str, &[u8]); 5] = [
            ("cifar-10-batches-bin/test_batch.bin", b"1"),
            ("./cifar-10-batches-bin/batches.meta.txt", b"2"),
            ("cifar-10-batches-bin/../../escaped", b"3"),
            ("elsewhere/x", b"4"),
            ("cifar-10-batches-bin/.hidden", b"5"),
        ];
        archive(&packed, &files);
        let data = root.path().join("data");
        let folder = cifar.install(std::slice::from_ref(&packed), &data).unwrap();
        let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(
            (folder, names),
            (data.join("cifar-10-batches-bin"), vec!["batches.meta.txt".into(), "test_batch.bin".into()])
        );
        assert!(!root.path().join("escaped").exists());
        assert!(cifar.install(std::slice::from_ref(&packed), &data).is_err(), "not over files that are there");

        let other = root.path().join("other");
        archive(&packed, &[("elsewhere/x", b"4")]);
        let error = cifar.install(std::slice::from_ref(&packed), &other).unwrap_err().to_string();
        assert!(error.ends_with("expected files in cifar-10-batches-bin, got none"), "{error}");
        let whole = fs::read(&packed).unwrap();
        fs::write(&packed, &whole[..whole.len() - 9]).unwrap();
        assert!(cifar.install(&[packed], &other).is_err());
        assert!(!other.join("cifar-10-batches-bin").exists());
    }

    #[test]
    fn every_file_has_an_address_and_a_whole_checksum() {
        for set in OFFICIAL {
            for file in set.files {
                assert!(file.url.starts_with("https://"), "{}", file.url);
                assert!(
                    file.sha256.len() == 64 && file.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()),
                    "{}",
                    file.url
                );
            }
        }
    }
}
