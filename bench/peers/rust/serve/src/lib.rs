//! What the peers share: their arguments, `.npy` files, and the protocol of `bench/compare.py`.

use std::error::Error;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Passes before the peer says that it is ready.
const WARM_UP: usize = 2;

/// The command line: `infer|train MODEL WEIGHTS INPUT.npy`. The number of threads comes from `RAYON_NUM_THREADS`, which
/// candle and burn read by themselves.
pub struct Arguments {
    pub train: bool,
    pub model: String,
    /// What the peer reads: an ONNX file or a state dict.
    pub weights: PathBuf,
    /// The batch that is timed.
    pub input: Images,
    pub threads: usize,
}

impl Arguments {
    pub fn parse() -> Result<Self> {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let [mode, model, weights, input] = &words[..] else {
            return Err("expected: infer|train MODEL WEIGHTS INPUT.npy".into());
        };
        Ok(Self {
            train: match &mode[..] {
                "infer" => false,
                "train" => true,
                _ => return Err(format!("{mode}: expected infer or train").into()),
            },
            model: model.clone(),
            weights: weights.into(),
            input: Images::read(Path::new(input))?,
            threads: std::env::var("RAYON_NUM_THREADS").map_err(|_| "RAYON_NUM_THREADS is not set")?.parse()?,
        })
    }
}

/// A batch in torch's layout, N×C×H×W, already normalised.
#[derive(Clone)]
pub struct Images {
    pub shape: [usize; 4],
    pub values: Vec<f32>,
}

impl Images {
    /// Reads an `.npy` file of version 1 that holds little-endian `f32` in C order.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let bad = |what: &str| format!("{}: {what}", path.display());
        if bytes.len() < 10 || &bytes[..8] != b"\x93NUMPY\x01\x00" {
            return Err(bad("not an .npy file of version 1").into());
        }
        let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let head = std::str::from_utf8(bytes.get(10..start).ok_or_else(|| bad("cut off"))?)?;
        if !head.contains("'<f4'") || !head.contains("'fortran_order': False") {
            return Err(bad("expected f32 in C order").into());
        }
        let shape = head.split_once('(').and_then(|(_, rest)| rest.split_once(')')).ok_or_else(|| bad("no shape"))?.0;
        let shape = shape
            .split(',')
            .map(str::trim)
            .filter(|size| !size.is_empty())
            .map(str::parse)
            .collect::<std::result::Result<Vec<usize>, _>>()?;
        let shape: [usize; 4] = shape.try_into().map_err(|_| bad("expected four dimensions"))?;
        let values: Vec<f32> =
            bytes[start..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        if values.len() != shape.iter().product::<usize>() {
            return Err(bad("as many values as the shape says").into());
        }
        Ok(Self { shape, values })
    }

    pub fn batch(&self) -> usize {
        self.shape[0]
    }
}

/// A program that is ready to run.
pub trait Peer {
    /// Runs the batch of the command line once, or takes one step of training.
    fn pass(&mut self) -> Result<()>;

    /// The logits of other images, by the weights that were read. A peer that trains gives those of training mode.
    fn logits(&mut self, images: Images) -> Result<Vec<f32>>;
}

/// Answers `run N` and `logits FILE.npy` until `quit` or the end of the input; `about` is what the peer says of itself,
/// as JSON.
pub fn serve(peer: &mut dyn Peer, about: &str) -> Result<()> {
    for _ in 0..WARM_UP {
        peer.pass()?;
    }
    println!("{{\"ready\": {about}}}");
    for line in std::io::stdin().lock().lines() {
        match line?.split_once(' ') {
            Some(("run", count)) => {
                let times = (0..count.parse::<u32>()?)
                    .map(|_| {
                        let start = Instant::now();
                        peer.pass()?;
                        Ok(1e3 * start.elapsed().as_secs_f64())
                    })
                    .collect::<Result<Vec<f64>>>()?;
                println!("{{\"ms\": {times:?}}}");
            }
            Some(("logits", path)) => {
                let images = Images::read(Path::new(path))?;
                let batch = images.batch();
                let logits = peer.logits(images)?;
                let rows: Vec<&[f32]> = logits.chunks(logits.len() / batch).collect();
                println!("{{\"logits\": {rows:?}}}");
            }
            None => break,
            Some((word, _)) => return Err(format!("{word}: expected run, logits or quit").into()),
        }
    }
    Ok(())
}

/// Labels for a training step: `i` modulo the number of classes.
pub fn labels(batch: usize, classes: usize) -> Vec<usize> {
    (0..batch).map(|index| index % classes).collect()
}
