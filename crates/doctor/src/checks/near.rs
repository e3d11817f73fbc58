//! Nearly the same image several times: equal but for a few bits of the perceptual hash, and verified by a second measure.

use super::duplicates::{class_names, split_names};
use crate::examine::{Context, Progress};
use crate::features::Features;
use crate::finding::counted;
use crate::perceptual_hash::HashIndex;
use crate::{Check, DoctorError, Group, Severity};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

/// The least correlation of the thumbnails of near duplicates.
const LEAST_CORRELATION: f32 = 0.9;
/// The least cosine of the features of near duplicates, where a network verifies them.
const LEAST_COSINE: f64 = 0.9;
/// Hashes of images whose thumbnails vary less, in grey levels, are noise.
const LEAST_CONTRAST: f32 = 4.0;
/// Maximum number of pairs; a dataset of more is made of near duplicates.
const MOST_PAIRS: usize = 1_000_000;

/// Two images that are nearly the same.
struct Pair {
    images: [usize; 2],
    distance: u32,
}

/// `None` if `stop` was set.
pub(crate) fn check(
    context: &mut Context<'_>,
    features: &mut Features,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Option<()>, DoctorError> {
    if !context.wants(Check::NearDuplicates) && !context.wants(Check::NearLeakage) {
        return Ok(Some(()));
    }
    if context.records.iter().all(|record| record.appearance.is_none()) {
        let reason = "the images have no 8-bit pixels of 1 to 4 channels";
        context.skip(Check::NearDuplicates, reason);
        context.skip(Check::NearLeakage, reason);
        return Ok(Some(()));
    }
    let Some(pairs) = similar(context, features.is_of_network(), stop, on_progress) else { return Ok(None) };
    let pairs = match features.is_of_network() {
        true => verified(context, pairs, features, stop, on_progress)?,
        false => Some(pairs),
    };
    let Some(pairs) = pairs else { return Ok(None) };
    if pairs.len() >= MOST_PAIRS {
        let reason =
            format!("there are more than {MOST_PAIRS} pairs; a smaller --threshold near-duplicates=N finds fewer");
        context.skip(Check::NearDuplicates, &reason);
    }
    let images = context.images;
    let (across, within): (Vec<Pair>, Vec<Pair>) =
        pairs.into_iter().partition(|pair| images.split(pair.images[0]) != images.split(pair.images[1]));
    if !across.is_empty() {
        let names = images.split_names();
        let mut leaked: BTreeMap<usize, HashSet<usize>> = BTreeMap::new();
        for pair in &across {
            // The second one of a pair is in the later split.
            leaked.entry(images.split(pair.images[1])).or_default().insert(pair.images[1]);
        }
        let counts: Vec<String> = leaked
            .iter()
            .map(|(&split, leaked)| format!("{} of {}", counted(leaked.len(), "image"), names[split]))
            .collect();
        let message = format!("{} that are nearly the same as images of an earlier split", counts.join(" and "));
        let groups = components(context, &across);
        context.report(Check::NearLeakage, Severity::Warning, message, groups);
    }
    if !within.is_empty() {
        let groups = components(context, &within);
        let count: usize = groups.iter().map(|group| group.images.len()).sum();
        let message = format!("{} that are nearly the same as others of their split", counted(count, "image"));
        context.report(Check::NearDuplicates, Severity::Warning, message, groups);
    }
    Ok(Some(()))
}

/// The pairs of images with similar hashes, in order; without a network, those whose thumbnails correlate. Of equal files in a split
/// the first one stands for all.
fn similar(
    context: &Context<'_>,
    by_network: bool,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> Option<Vec<Pair>> {
    let (mut seen, mut members, mut hashes) = (HashSet::new(), Vec::new(), Vec::new());
    for (index, record) in context.records.iter().enumerate() {
        let Some(appearance) = &record.appearance else { continue };
        if appearance.contrast >= LEAST_CONTRAST && seen.insert((record.digest, context.images.split(index))) {
            members.push(index);
            hashes.push(appearance.hash);
        }
    }
    let index = HashIndex::new(&hashes);
    let look = |image: usize| context.records[image].appearance.as_ref().expect("it has a hash");
    let (mut pairs, mut found) = (Vec::new(), Vec::new());
    for (number, &image) in members.iter().enumerate() {
        if number % 4096 == 0 {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            on_progress(Progress { what: "comparing", done: number, total: members.len() });
        }
        index.similar_before(number, context.options.thresholds.near, &mut found);
        for &(other, distance) in &found {
            let other = members[other];
            // Equal files are duplicates, and no near ones.
            let is_other_file = context.records[other].digest != context.records[image].digest;
            if is_other_file && (by_network || look(other).correlation(look(image)) >= LEAST_CORRELATION) {
                pairs.push(Pair { images: [other, image], distance });
            }
        }
        if pairs.len() >= MOST_PAIRS {
            break;
        }
    }
    Some(pairs)
}

/// The pairs whose features have a cosine near 1.
fn verified(
    context: &Context<'_>,
    pairs: Vec<Pair>,
    features: &mut Features,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Option<Vec<Pair>>, DoctorError> {
    let members: Vec<usize> = pairs.iter().flat_map(|pair| pair.images).collect::<BTreeSet<_>>().into_iter().collect();
    if members.is_empty() {
        return Ok(Some(pairs));
    }
    let total = members.len();
    let mut on_images = |done| on_progress(Progress { what: "features of near duplicates", done, total });
    let engine = &context.options.engine;
    let Some(found) = features.of(context.images, &members, engine, stop, &mut on_images)? else { return Ok(None) };
    let len = features.len()?;
    let rows: HashMap<usize, &[f32]> = found.images.into_iter().zip(found.values.chunks_exact(len)).collect();
    let is_near = |pair: &Pair| {
        let [a, b] = pair.images.map(|image| rows.get(&image));
        a.zip(b).is_some_and(|(a, b)| cosine(a, b) >= LEAST_COSINE)
    };
    Ok(Some(pairs.into_iter().filter(is_near).collect()))
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let norm = (dot(a, a) * dot(b, b)).sqrt();
    if norm > 0.0 { dot(a, b) / norm } else { 0.0 }
}

/// The images that pairs join, directly or through others; in order.
fn components(context: &Context<'_>, pairs: &[Pair]) -> Vec<Group> {
    let mut parents: HashMap<usize, usize> = HashMap::new();
    for pair in pairs {
        let [a, b] = pair.images.map(|image| root(&mut parents, image));
        // The smaller one is the root.
        parents.insert(a.max(b), a.min(b));
    }
    let mut members: BTreeMap<usize, (BTreeSet<usize>, u32)> = BTreeMap::new();
    for pair in pairs {
        let (images, distance) = members.entry(root(&mut parents, pair.images[0])).or_default();
        images.extend(pair.images);
        *distance = pair.distance.max(*distance);
    }
    let group = |(images, distance): (BTreeSet<usize>, u32)| {
        let mut detail = format!("{distance} of 63 bits differ");
        let of = context.images;
        let splits: BTreeSet<usize> = images.iter().map(|&image| of.split(image)).collect();
        if splits.len() > 1 {
            detail = format!("{}; {detail}", split_names(of, &splits));
        }
        let classes: BTreeSet<u32> = images.iter().map(|&image| of.class(image)).collect();
        if classes.len() > 1 {
            detail = format!("{}; {detail}", class_names(of, &classes));
        }
        Group { images: images.into_iter().collect(), detail }
    };
    members.into_values().map(group).collect()
}

/// The root of an image's tree, to which the way there is shortened.
fn root(parents: &mut HashMap<usize, usize>, image: usize) -> usize {
    let mut root = image;
    while let Some(&parent) = parents.get(&root).filter(|&&parent| parent != root) {
        root = parent;
    }
    let mut at = image;
    while at != root {
        at = parents.insert(at, root).unwrap_or(root);
    }
    root
}
