//! Labels that are probably wrong: confident learning on what a linear probe says of images that it was not trained on. No trained
//! network is needed, though its features make the probe better.

use crate::confident_learning::{label_scores, prune_by_noise_rate};
use crate::examine::{Context, Progress};
use crate::features::{FeatureRows, Features};
use crate::finding::{counted_that, sampled};
use crate::probe::{self, FOLDS, Rows, highest};
use crate::{Check, DoctorError, Group, Severity};
use residual_tensor::Stream;
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

/// Classes with fewer images are left out, as a fold has one or none of them.
const FEWEST_OF_CLASS: usize = 10;
/// Fewer images say nothing.
const FEWEST: usize = 50;
/// More are sampled; docs/doctor.md and the help of the command say how many are judged.
const MOST: usize = 50_000;
/// Maximum number of products of a step of the probe, images × features × classes: some minutes for all folds.
const MOST_PRODUCTS: usize = 2_000_000_000;
/// Without a network's features, a label is suspected only if its probability is below this fraction of that of a guess: a weak probe
/// is often wrong, but seldom so sure. On 5,000 images of CIFAR-10 with 5 % of the labels changed, three of four suspects are such.
const LEAST_OF_CHANCE: f64 = 0.2;
/// Salt of the sample's random numbers.
const SAMPLE: u64 = u64::from_be_bytes(*b"lblcheck");

/// How labels were checked.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelCheck {
    /// What the probe sees of an image.
    pub features: String,
    /// The number of images.
    pub images: usize,
    /// The number of training images, of which these may be a sample.
    pub of: usize,
    /// The number of classes.
    pub classes: usize,
    /// Share of images that the probe classifies as labelled, in percent.
    pub top1: f64,
    /// The number of labels that are probably wrong.
    pub suspects: usize,
}

/// The inner value is `None` where the check was not made, the outer one where `stop` was set.
pub(crate) fn check(
    context: &mut Context<'_>,
    features: &mut Features,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Option<Option<LabelCheck>>, DoctorError> {
    if !context.wants(Check::Labels) {
        return Ok(Some(None));
    }
    let most = MOST.min(MOST_PRODUCTS / (features.len()? * context.images.classes().len()).max(1));
    let (of, chosen) = match chosen(context, most) {
        Ok(chosen) => chosen,
        Err(reason) => {
            context.skip(Check::Labels, reason);
            return Ok(Some(None));
        }
    };
    let total = chosen.len();
    let mut on_images = |done| on_progress(Progress { what: "features", done, total });
    let engine = &context.options.engine;
    let Some(FeatureRows { images: kept, values }) =
        features.of(context.images, &chosen, engine, stop, &mut on_images)?
    else {
        return Ok(None);
    };
    if kept.len() < FEWEST {
        context.skip(Check::Labels, "the features of too few images can be computed");
        return Ok(Some(None));
    }
    let (classes, labels) = numbered(context, &kept);
    let mut rows = Rows { values, features: features.len()?, labels, classes: classes.len() };
    rows.standardise();
    let mut on_fold = |done| on_progress(Progress { what: "label probe", done, total: FOLDS });
    let Some(probabilities) = probe::out_of_fold(&rows, context.options.seed, engine, stop, &mut on_fold) else {
        return Ok(None);
    };
    let groups = suspects(context, &rows, &classes, &kept, &probabilities, features.is_of_network());
    let check = LabelCheck {
        features: features.name(),
        images: kept.len(),
        of,
        classes: classes.len(),
        top1: 100.0 * probe::accuracy(&probabilities, &rows.labels, rows.classes),
        suspects: groups.len(),
    };
    if !groups.is_empty() {
        let count = counted_that(groups.len(), "label");
        let message = format!("{count} probably wrong, the surest first, of {}", sampled(kept.len(), of));
        context.report(Check::Labels, Severity::Warning, message, groups);
    }
    Ok(Some(Some(check)))
}

/// The number of training images whose labels can be checked, and at most `most` of them, of every class its share.
fn chosen(context: &Context<'_>, most: usize) -> Result<(usize, Vec<usize>), &'static str> {
    let images = context.images;
    if images.is_multi_label() {
        return Err("an image may have several labels");
    }
    let training = images.training_split().ok_or("there is no training split")?;
    if context.records.iter().all(|record| record.appearance.is_none()) {
        return Err("the images have no 8-bit pixels of 1 to 4 channels");
    }
    let mut members = vec![Vec::new(); images.classes().len()];
    for (index, record) in context.records.iter().enumerate() {
        if images.split(index) == training && record.appearance.is_some() {
            members[images.class(index) as usize].push(index);
        }
    }
    members.retain(|members| members.len() >= FEWEST_OF_CLASS);
    let of: usize = members.iter().map(Vec::len).sum();
    if members.len() < 2 || of < FEWEST {
        return Err("there are fewer than 50 images that can be read, or than two classes of 10");
    }
    if of > most {
        for (class, members) in members.iter_mut().enumerate() {
            Stream::new(context.options.seed, &[SAMPLE, class as u64]).shuffle(members);
            members.truncate((members.len() * most / of).max(FEWEST_OF_CLASS));
        }
    }
    let mut chosen = members.concat();
    chosen.sort_unstable();
    Ok((of, chosen))
}

/// The classes of some images, and each image's place among them.
fn numbered(context: &Context<'_>, kept: &[usize]) -> (Vec<u32>, Vec<u32>) {
    let mut classes: Vec<u32> = kept.iter().map(|&index| context.images.class(index)).collect();
    classes.sort_unstable();
    classes.dedup();
    let numbers: HashMap<u32, u32> = classes.iter().copied().zip(0..).collect();
    let labels = kept.iter().map(|&index| numbers[&context.images.class(index)]).collect();
    (classes, labels)
}

/// The images whose labels are probably wrong, those with the least probable label first.
fn suspects(
    context: &Context<'_>,
    rows: &Rows,
    classes: &[u32],
    kept: &[usize],
    probabilities: &[f32],
    is_of_network: bool,
) -> Vec<Group> {
    let logits: Vec<f32> = probabilities.iter().map(|probability| probability.max(f32::MIN_POSITIVE).ln()).collect();
    let pruned = prune_by_noise_rate(&logits, &rows.labels, rows.classes);
    let scores = label_scores(&logits, &rows.labels, rows.classes);
    let least = LEAST_OF_CHANCE / rows.classes as f64;
    let mut found: Vec<usize> =
        (0..kept.len()).filter(|&row| pruned[row] && (is_of_network || scores[row].self_confidence < least)).collect();
    found.sort_by(|&a, &b| scores[a].self_confidence.total_cmp(&scores[b].self_confidence));
    let group = |row: usize| {
        let of_row = &probabilities[row * rows.classes..][..rows.classes];
        let best = highest(of_row);
        let name = &context.images.classes()[classes[best] as usize];
        let own = context.class_name(kept[row]);
        let detail = format!("{own} {:.3}, {name} {:.3}", scores[row].self_confidence, of_row[best]);
        Group::of_one(kept[row], detail)
    };
    found.into_iter().map(group).collect()
}
