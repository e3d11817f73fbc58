//! Nearly the same image several times: equal but for a few bits of the perceptual hash, and verified by a second measure.

use super::duplicates::{class_names, split_names};
use crate::examine::{Context, Progress};
use crate::features::Features;
use crate::finding::{counted, counted_that};
use crate::perceptual_hash::HashIndex;
use crate::{Check, Collection, DoctorError, Group, Severity};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

/// The least correlation of the thumbnails of near duplicates.
const LEAST_CORRELATION: f32 = 0.9;
/// The least cosine of the features of near duplicates, where a network verifies them.
const LEAST_COSINE: f64 = 0.9;
/// Hashes of images whose thumbnails vary less, in grey levels, are noise.
const LEAST_CONTRAST: f32 = 4.0;

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
    let (members, hashes) = candidates(context);
    let pairs = Pairs { context, members: &members, index: HashIndex::new(&hashes) };
    let look = |image: usize| context.records[image].appearance.as_ref().expect("it has a hash");
    let correlate = |[a, b]: [usize; 2]| look(a).correlation(look(b)) >= LEAST_CORRELATION;
    let mut found = Found::default();
    let done = match features.is_of_network() {
        false => pairs.each(stop, on_progress, &mut |pair| found.add(context.images, pair, correlate)),
        true => {
            let Some(rows) = rows(&pairs, features, stop, on_progress)? else { return Ok(None) };
            let agree = |pair: [usize; 2]| {
                let [a, b] = pair.map(|image| rows.get(&image));
                a.zip(b).is_some_and(|(a, b)| cosine(a, b) >= LEAST_COSINE)
            };
            pairs.each(stop, on_progress, &mut |pair| found.add(context.images, pair, agree))
        }
    };
    if done.is_none() {
        return Ok(None);
    }
    report(context, found);
    Ok(Some(()))
}

fn report(context: &mut Context<'_>, mut found: Found) {
    let images = context.images;
    if !found.leaked.is_empty() {
        let names = images.split_names();
        let leaked = found.leaked.iter();
        let of_split = |(&split, leaked): (&usize, &HashSet<usize>)| {
            format!("{} of {}", counted(leaked.len(), "image"), names[split])
        };
        let counts: Vec<String> = leaked.map(of_split).collect();
        let message = format!("nearly the same as an image of an earlier split: {}", counts.join(" and "));
        let groups = found.across(images);
        context.report(Check::NearLeakage, Severity::Warning, message, groups);
    }
    if !found.firsts.is_empty() {
        let count = counted_that(found.followers.len(), "image");
        let message = format!("{count} nearly the same as an earlier one of their split");
        let groups = found.within(images);
        context.report(Check::NearDuplicates, Severity::Warning, message, groups);
    }
}

/// The images that are compared, in order, with their hashes. Of equal files in a split the first one stands for all.
fn candidates(context: &Context<'_>) -> (Vec<usize>, Vec<u64>) {
    let (mut seen, mut members, mut hashes) = (HashSet::new(), Vec::new(), Vec::new());
    for (index, record) in context.records.iter().enumerate() {
        let Some(appearance) = &record.appearance else { continue };
        if appearance.contrast >= LEAST_CONTRAST && seen.insert((record.digest, context.images.split(index))) {
            members.push(index);
            hashes.push(appearance.hash);
        }
    }
    (members, hashes)
}

/// The pairs of images with similar hashes. They are passed one by one, as there may be very many.
struct Pairs<'a> {
    context: &'a Context<'a>,
    members: &'a [usize],
    index: HashIndex<'a>,
}

/// Two images, the one that comes first first, and the number of bits in which their hashes differ.
type Pair = ([usize; 2], u32);

impl Pairs<'_> {
    /// Passes each pair: by the second image, then the first, in order. `None` if `stop` was set.
    fn each(
        &self,
        stop: &AtomicBool,
        on_progress: &mut dyn FnMut(Progress),
        on_pair: &mut dyn FnMut(Pair),
    ) -> Option<()> {
        let Self { context, members, index } = self;
        let thresholds = &context.options.thresholds;
        let limit = |check, limit| context.wants(check).then_some(limit);
        let within = limit(Check::NearDuplicates, thresholds.near_duplicates);
        let across = limit(Check::NearLeakage, thresholds.near_leakage);
        let most = within.max(across)?;
        let digest = |image: usize| context.records[image].digest;
        let mut found = Vec::new();
        for (number, &image) in members.iter().enumerate() {
            if number % 256 == 0 {
                if stop.load(Ordering::Relaxed) {
                    return None;
                }
                on_progress(Progress { what: "comparing", done: number, total: members.len() });
            }
            index.similar_before(number, most, &mut found);
            for &(other, distance) in &found {
                let other = members[other];
                let limit = if context.images.split(other) == context.images.split(image) { within } else { across };
                // Equal files are duplicates, and no near ones.
                if limit.is_some_and(|limit| distance <= limit) && digest(other) != digest(image) {
                    on_pair(([other, image], distance));
                }
            }
        }
        Some(())
    }
}

/// The features of the images of all pairs; `None` if `stop` was set.
fn rows(
    pairs: &Pairs<'_>,
    features: &mut Features,
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(Progress),
) -> Result<Option<HashMap<usize, Vec<f32>>>, DoctorError> {
    let context = pairs.context;
    let mut is_member = vec![false; context.images.len()];
    let on_pair = &mut |(pair, _): Pair| pair.into_iter().for_each(|image| is_member[image] = true);
    if pairs.each(stop, on_progress, on_pair).is_none() {
        return Ok(None);
    }
    let members: Vec<usize> = (0..is_member.len()).filter(|&image| is_member[image]).collect();
    if members.is_empty() {
        return Ok(Some(HashMap::new()));
    }
    let total = members.len();
    let mut on_images = |done| on_progress(Progress { what: "features of near duplicates", done, total });
    let engine = &context.options.engine;
    let Some(found) = features.of(context.images, &members, engine, stop, &mut on_images)? else { return Ok(None) };
    let rows = found.values.chunks_exact(features.len()?).map(<[f32]>::to_vec);
    Ok(Some(found.images.into_iter().zip(rows).collect()))
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    let norm = (dot(a, a) * dot(b, b)).sqrt();
    if norm > 0.0 { dot(a, b) / norm } else { 0.0 }
}

/// Near duplicates, as groups; pairs are not kept.
#[derive(Default)]
struct Found {
    /// Of a split: the first image of each group with those that are nearly the same as it, and the most bits that differ. Near is not
    /// transitive: each image belongs to the first one that it is near to and that belongs to no other.
    firsts: BTreeMap<usize, (Vec<usize>, u32)>,
    /// The images that belong to another one.
    followers: HashSet<usize>,
    /// Of several splits: a forest of the images that pairs join, directly or through others.
    parents: HashMap<usize, usize>,
    /// The pairs that joined them, with the bits that differ.
    joined: Vec<Pair>,
    /// By split, the images that are nearly the same as one of an earlier split.
    leaked: BTreeMap<usize, HashSet<usize>>,
}

impl Found {
    /// Adds a pair if `is_near`, which is asked only where it matters. Pairs come in the order of [`Pairs::each`].
    fn add(&mut self, images: &Collection, (pair, distance): Pair, is_near: impl Fn([usize; 2]) -> bool) {
        let [first, second] = pair;
        let split = images.split(second);
        if images.split(first) == split {
            let is_free = |image| !self.followers.contains(image);
            if is_free(&first) && is_free(&second) && is_near(pair) {
                self.followers.insert(second);
                let (members, most) = self.firsts.entry(first).or_default();
                members.push(second);
                *most = distance.max(*most);
            }
            return;
        }
        let [a, b] = pair.map(|image| root(&mut self.parents, image));
        let is_known = self.leaked.get(&split).is_some_and(|leaked| leaked.contains(&second));
        if (a != b || !is_known) && is_near(pair) {
            self.leaked.entry(split).or_default().insert(second);
            if a != b {
                // The smaller one is the root.
                self.parents.insert(a.max(b), a.min(b));
                self.joined.push((pair, distance));
            }
        }
    }

    fn within(&self, images: &Collection) -> Vec<Group> {
        let group = |(&first, (members, most)): (&usize, &(Vec<usize>, u32))| {
            let detail = match members.len() {
                1 => format!("{most} of 63 bits differ"),
                _ => format!("at most {most} of 63 bits differ from the first"),
            };
            let members: BTreeSet<usize> = members.iter().copied().chain([first]).collect();
            grouped(images, members, detail)
        };
        self.firsts.iter().map(group).collect()
    }

    fn across(&mut self, images: &Collection) -> Vec<Group> {
        let mut groups: BTreeMap<usize, (BTreeSet<usize>, u32)> = BTreeMap::new();
        for &(pair, distance) in &self.joined {
            let (members, most) = groups.entry(root(&mut self.parents, pair[0])).or_default();
            members.extend(pair);
            *most = distance.max(*most);
        }
        let group = |(members, most): (BTreeSet<usize>, u32)| {
            let detail = match members.len() {
                2 => format!("{most} of 63 bits differ"),
                _ => "each is near one of another split".to_owned(),
            };
            grouped(images, members, detail)
        };
        groups.into_values().map(group).collect()
    }
}

/// A group; its splits and classes are said where there are several.
fn grouped(images: &Collection, members: BTreeSet<usize>, mut detail: String) -> Group {
    let splits: BTreeSet<usize> = members.iter().map(|&image| images.split(image)).collect();
    if splits.len() > 1 {
        detail = format!("{}; {detail}", split_names(images, &splits));
    }
    let classes: BTreeSet<u32> = members.iter().map(|&image| images.class(image)).collect();
    if classes.len() > 1 {
        detail = format!("{}; {detail}", class_names(images, &classes));
    }
    Group { images: members.into_iter().collect(), detail }
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

#[cfg(test)]
mod tests {
    use super::*;
    use residual_data::Source;

    #[test]
    fn a_chain_is_no_group_of_a_split_and_one_across_splits() {
        let images = Collection::open(&Source::open("shapes10", None).unwrap()).unwrap();
        let test = images.split_sizes()[0].1;
        let mut found = Found::default();
        for (pair, distance) in
            [([0, 1], 3), ([0, 2], 1), ([1, 2], 5), ([0, test], 1), ([1, test], 4), ([1, test + 1], 2)]
        {
            found.add(&images, (pair, distance), |pair| pair != [0, 2]);
        }
        let [within] = &found.within(&images)[..] else { panic!("one group") };
        assert_eq!(within.images, [0, 1], "the third image is near to the second alone");
        assert!(within.detail.ends_with("3 of 63 bits differ"), "{}", within.detail);
        assert_eq!(found.leaked[&1], [test, test + 1].into());
        let [across] = &found.across(&images)[..] else { panic!("one group") };
        assert_eq!(across.images, [0, 1, test, test + 1]);
        assert!(across.detail.ends_with("train, test; each is near one of another split"), "{}", across.detail);
    }
}
