//! The named datasets.

/// A dataset that is opened by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedDataset {
    /// Its name, as in `--data`.
    pub name: &'static str,
    /// Its description, in one line.
    pub description: &'static str,
    /// The name of its default preset.
    pub preset: &'static str,
}

/// Every named dataset; anything else is a path.
pub const DATASETS: [NamedDataset; 5] = [
    NamedDataset {
        name: "shapes10",
        description: "built in: ten classes of shapes, 32×32, 10,000 to train on and 2,000 to test on",
        preset: "shapes-quick",
    },
    NamedDataset {
        name: "cifar10",
        description: "ten classes of things, 32×32, 50,000 and 10,000; --data-dir with the official binary or python files",
        preset: "cifar-quick",
    },
    NamedDataset {
        name: "cifar100",
        description: "a hundred classes of things, 32×32; --data-dir with the official binary or python files",
        preset: "cifar-quick",
    },
    NamedDataset {
        name: "mnist",
        description: "handwritten digits, grey, 28×28, 60,000 and 10,000; --data-dir with the IDX files",
        preset: "shapes-quick",
    },
    NamedDataset {
        name: "fashion-mnist",
        description: "ten articles of clothing, grey, 28×28, 60,000 and 10,000; --data-dir with the IDX files",
        preset: "cifar-quick",
    },
];
