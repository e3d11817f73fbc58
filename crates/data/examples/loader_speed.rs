//! Times the loader, or the decoder alone, on a folder of photographs:
//!
//! ```text
//! cargo run --release -p residual-data --example loader_speed -- DATA [--what loader|eval|decode|decode-zune|list] [--workers 1]
//!     [--batch 64] [--aa rand-m9-mstd0.5-inc1] [--limit 500] [--rounds 5 | --serve]
//! ```
//!
//! `loader` times one training epoch with timm's and torchvision's usual augmentation (random resized crop to 224×224, horizontal flip, `--aa`,
//! normalisation), `eval` the evaluation's resize to 256 and centre crop; both read the files. The decoders have the files in memory.
//! `list` is the start: the files of a folder are found, and the memory of the process is told.
//! `--serve` answers `bench/compare.py`, whose iteration is one pass over `--limit` images.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::Instant;

use residual_data::{
    Augmentation, DataError, Dataset, HorizontalFlip, Loader, LoaderOptions, Operation, RandomResizedCrop, Source,
    Split, Subset, Transform,
};
use residual_preprocess::{Image, Preprocessing};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// One pass: the number of images it has prepared.
type Pass = Box<dyn FnMut(u64) -> Outcome<usize>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| arguments.iter().position(|word| word == name).and_then(|at| arguments.get(at + 1));
    let number = |name, default| option(name).map_or(Ok(default), |text| text.parse::<usize>());
    let data = arguments.first().ok_or("expected a folder of images")?;
    let what = option("--what").map_or("loader", String::as_str);
    if what == "list" {
        return list(data);
    }
    let whole = Source::open(data, None)?.split(Split::Train)?;
    // Spread over the classes, which follow one another.
    let count = number("--limit", 500)?.min(whole.len());
    let indices = (0..count).map(|at| at * whole.len() / count).collect();
    let dataset: Arc<dyn Dataset> = Arc::new(Subset::new(whole, indices));
    let options = LoaderOptions {
        batch_size: number("--batch", 64)?,
        workers: number("--workers", 1)?,
        ..LoaderOptions::default()
    };
    let mut pass = pass(what, dataset, options, option("--aa").map(String::as_str))?;
    let images = pass(0)?;
    let mut epoch = 0;
    let mut time = || -> Outcome<f64> {
        epoch += 1;
        let start = Instant::now();
        pass(epoch)?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    if arguments.iter().any(|word| word == "--serve") {
        println!(r#"{{"ready": {{"what": "{what}", "images": {images}}}}}"#);
        for line in std::io::stdin().lock().lines() {
            let line = line?;
            let Some(count) = line.strip_prefix("run ") else { break };
            let times = (0..count.parse()?).map(|_| time()).collect::<Outcome<Vec<f64>>>()?;
            println!(r#"{{"ms": {times:?}}}"#);
            std::io::stdout().flush()?;
        }
        return Ok(());
    }
    let mut times = (0..number("--rounds", 5)?).map(|_| time()).collect::<Outcome<Vec<f64>>>()?;
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    println!(
        "{what}: {:.0} images/s ({:.0} to {:.0}), {:.3} ms an image",
        images as f64 / median * 1e3,
        images as f64 / times[times.len() - 1] * 1e3,
        images as f64 / times[0] * 1e3,
        median / images as f64
    );
    Ok(())
}

fn list(data: &str) -> Outcome<()> {
    let start = Instant::now();
    let images = Source::open(data, None)?.split(Split::Train)?;
    let seconds = start.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let memory = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map_or("unknown", str::trim);
    println!(
        "list: {} images in {seconds:.2} s; memory {}, at most {}",
        images.len(),
        memory("VmRSS:"),
        memory("VmHWM:")
    );
    Ok(())
}

fn pass(what: &str, dataset: Arc<dyn Dataset>, options: LoaderOptions, aa: Option<&str>) -> Outcome<Pass> {
    let transform = match what {
        "loader" => {
            let crop = RandomResizedCrop { scale: [0.08, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0] };
            let mut operations =
                vec![Operation::RandomResizedCrop(crop), Operation::HorizontalFlip(HorizontalFlip::new(0.5))];
            if let Some(aa) = aa {
                operations.push(Operation::AutoAugment(aa.parse()?));
            }
            Transform::training(Preprocessing::imagenet(), Augmentation::new(operations))?
        }
        "eval" => Transform::evaluation(Preprocessing::imagenet())?,
        "decode" => return decoder(&*dataset, |bytes| Ok(Image::decode(bytes)?.pixels().len())),
        "decode-zune" => {
            return decoder(&*dataset, |bytes| Ok(image::load_from_memory(bytes)?.into_rgb8().into_raw().len()));
        }
        _ => return Err("--what: expected loader, eval, decode or decode-zune".into()),
    };
    Ok(Box::new(move |epoch| {
        let loader = Loader::new(dataset.clone(), transform.clone(), LoaderOptions { epoch, ..options.clone() })?;
        let counts = loader.map(|batch| batch.map(|batch| batch.len()));
        Ok(counts.sum::<Result<usize, DataError>>()?)
    }))
}

fn decoder(dataset: &dyn Dataset, decode: impl Fn(&[u8]) -> Outcome<usize> + 'static) -> Outcome<Pass> {
    let files = (0..dataset.len()).map(|index| Ok(dataset.encoded(index)?.ok_or("expected image files")?));
    let files = files.collect::<Outcome<Vec<Vec<u8>>>>()?;
    Ok(Box::new(move |_| {
        let mut pixels = 0;
        for file in &files {
            pixels += decode(file)?;
        }
        std::hint::black_box(pixels);
        Ok(files.len())
    }))
}
