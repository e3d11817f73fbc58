//! Whether something else than the content tells the class: what a linear probe scores that sees nothing but the size of an image, its
//! colour, light, sharpness, or the length and format of its file. Then classes differ by how they were collected, and a network would
//! learn that.

use crate::appearance::Appearance;
use crate::examine::Context;
use crate::finding::sampled;
use crate::probe::{self, Rows};
use crate::record::FileFacts;
use crate::{Check, Severity};
use residual_infer::wilson;
use residual_tensor::Stream;
use std::sync::atomic::AtomicBool;

/// Fewer images say nothing.
const FEWEST: usize = 50;
/// Classes with fewer images are left out.
const FEWEST_OF_CLASS: usize = 10;
/// More images are sampled, and of many classes fewer, for the time that the probes take.
const MOST: usize = 20_000;
const MOST_PROBABILITIES: usize = 4_000_000;
/// Salt of the sample's random numbers.
const SAMPLE: u64 = u64::from_be_bytes(*b"shortcut");

/// How well properties of the files tell the class.
#[derive(Clone, Debug, PartialEq)]
pub struct ShortcutCheck {
    /// The number of images.
    pub images: usize,
    /// The number of training images, of which these may be a sample.
    pub of: usize,
    /// The share of the most frequent class in percent, which knowing nothing scores.
    pub chance: f64,
    /// What each property scores alone, the best one first.
    pub scores: Vec<ShortcutScore>,
}

/// What a probe scores that sees one property alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShortcutScore {
    /// The property.
    pub property: &'static str,
    /// Share of images that are classified as labelled, in percent; of images that it was not trained on.
    pub top1: f64,
    /// Its 95 % interval in percent (Wilson).
    pub interval: [f64; 2],
}

/// What is known of an image without looking at its content.
struct Known<'a> {
    look: &'a Appearance,
    file: Option<&'a FileFacts>,
}

/// A property: its name, whether it is of the file rather than of the picture, and its values.
type Property = (&'static str, bool, fn(&Known<'_>) -> Vec<f32>);

const PROPERTIES: [Property; 8] = [
    ("size", true, |known| vec![(known.look.height as f32).ln(), (known.look.width as f32).ln()]),
    ("aspect ratio", true, |known| vec![(known.look.height as f32 / known.look.width as f32).ln()]),
    ("file length", true, |known| known.file.iter().map(|file| (file.bytes.max(1) as f32).ln()).collect()),
    ("format", true, |known| {
        let format = known.file.and_then(|file| file.format);
        let is = |name| f32::from(u8::from(format == Some(name)));
        let mut values: Vec<f32> = ["jpg", "png", "webp", "bmp", "gif", "tif"].map(is).into();
        values.push(known.look.channels.into());
        values
    }),
    ("mean colour", false, |known| known.look.mean.into()),
    ("brightness", false, |known| vec![known.look.brightness, known.look.contrast]),
    ("blur", false, |known| vec![known.look.sharpness]),
    ("colourfulness", false, |known| vec![known.look.colourfulness]),
];

/// The part of the way from chance to certainty at which a property is a finding: those of files should tell nothing, while colours may
/// well be those of a class.
const OF_FILE: f64 = 0.25;
const OF_PICTURE: f64 = 0.6;

/// The inner value is `None` where the check was not made, the outer one where `stop` was set.
pub(crate) fn check(context: &mut Context<'_>, stop: &AtomicBool) -> Option<Option<ShortcutCheck>> {
    if !context.wants(Check::Shortcut) {
        return Some(None);
    }
    let (of, chosen) = match chosen(context) {
        Ok(chosen) => chosen,
        Err(reason) => {
            context.skip(Check::Shortcut, reason);
            return Some(None);
        }
    };
    let labels: Vec<u32> = chosen.iter().map(|&index| context.images.class(index)).collect();
    let mut counts = vec![0usize; context.images.classes().len()];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    let chance = counts.iter().max().copied().unwrap_or(0) as f64 / chosen.len() as f64;
    let (mut scores, mut worst) = (Vec::new(), None::<(f64, ShortcutScore)>);
    for (property, is_of_file, values) in PROPERTIES {
        let Some(mut rows) = rows(context, &chosen, &labels, values) else { continue };
        rows.standardise();
        let engine = &context.options.engine;
        let probabilities = probe::out_of_fold(&rows, context.options.seed, engine, stop, &mut |_| {})?;
        let top1 = probe::accuracy(&probabilities, &labels, rows.classes);
        let right = (top1 * chosen.len() as f64).round() as u64;
        let score = ShortcutScore { property, top1: 100.0 * top1, interval: wilson(right, chosen.len() as u64) };
        scores.push(score);
        let limit = if is_of_file { OF_FILE } else { OF_PICTURE };
        let excess = (top1 - chance) / (1.0 - chance).max(f64::MIN_POSITIVE) / limit;
        if excess >= 1.0 && score.interval[0] > 100.0 * chance && worst.is_none_or(|(most, _)| excess > most) {
            worst = Some((excess, score));
        }
    }
    scores.sort_by(|a, b| b.top1.total_cmp(&a.top1));
    let check = ShortcutCheck { images: chosen.len(), of, chance: 100.0 * chance, scores };
    if let Some((_, score)) = worst {
        context.report(Check::Shortcut, Severity::Warning, check.sentence(&score), Vec::new());
    }
    Some(Some(check))
}

/// A property of some images and its square, so that a class may lie between others; `None` if the images do not have it, or all the
/// same.
fn rows(context: &Context<'_>, chosen: &[usize], labels: &[u32], values: fn(&Known<'_>) -> Vec<f32>) -> Option<Rows> {
    let known = |&index: &usize| {
        let record = &context.records[index];
        Known { look: record.appearance.as_ref().expect("chosen images have one"), file: record.file.as_ref() }
    };
    let per_image: Vec<Vec<f32>> = chosen.iter().map(|index| values(&known(index))).collect();
    let features = per_image[0].len();
    if features == 0 || per_image.iter().all(|row| *row == per_image[0]) {
        return None;
    }
    let classes = context.images.classes().len();
    let mut rows = Rows { values: per_image.concat(), features, labels: labels.to_vec(), classes };
    rows.standardise();
    let both = |row: &[f32]| row.iter().copied().chain(row.iter().map(|value| value * value)).collect::<Vec<f32>>();
    let values = rows.values.chunks_exact(features).flat_map(both).collect();
    Some(Rows { values, features: 2 * features, ..rows })
}

/// The number of training images that can be judged, and those that are: in order, and a sample if there are many.
fn chosen(context: &Context<'_>) -> Result<(usize, Vec<usize>), &'static str> {
    let images = context.images;
    if images.is_multi_label() {
        return Err("an image may have several labels");
    }
    let training = images.training_split().ok_or("there is no training split")?;
    if context.records.iter().all(|record| record.appearance.is_none()) {
        return Err("the images have no 8-bit pixels of 1 to 4 channels");
    }
    let is_one = |index: &usize| images.split(*index) == training && context.records[*index].appearance.is_some();
    let mut chosen: Vec<usize> = (0..images.len()).filter(is_one).collect();
    let mut counts = vec![0; images.classes().len()];
    chosen.iter().for_each(|&index| counts[images.class(index) as usize] += 1);
    chosen.retain(|&index| counts[images.class(index) as usize] >= FEWEST_OF_CLASS);
    let classes = counts.iter().filter(|&&count| count >= FEWEST_OF_CLASS).count();
    if chosen.len() < FEWEST || classes < 2 {
        return Err("there are fewer than 50 images that can be read, or than two classes of 10");
    }
    let of = chosen.len();
    let most = MOST.min(MOST_PROBABILITIES / counts.len()).max(FEWEST);
    if of > most {
        Stream::new(context.options.seed, &[SAMPLE]).shuffle(&mut chosen);
        chosen.truncate(most);
        chosen.sort_unstable();
    }
    Ok((of, chosen))
}

impl ShortcutCheck {
    /// The result in one line.
    pub fn describe(&self) -> String {
        match self.scores.first() {
            None => format!("{} do not differ in size, colour and file", self.judged()),
            Some(score) => self.sentence(score),
        }
    }

    /// `100 images`, or `a sample of 100 of 200 images`.
    fn judged(&self) -> String {
        sampled(self.images, self.of)
    }

    fn sentence(&self, score: &ShortcutScore) -> String {
        let ShortcutScore { property, top1, interval: [low, high] } = score;
        let images = self.judged();
        format!(
            "{property} alone tells the class of {top1:.1} % ({low:.1} to {high:.1}) of {images}; a guess: {:.1} %",
            self.chance
        )
    }
}
