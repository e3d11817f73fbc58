//! Images that look unlike others: by size, light, sharpness, colour and orientation.

use crate::appearance::Appearance;
use crate::examine::Context;
use crate::finding::{counted, counted_that};
use crate::{Check, Group, Severity, Thresholds};

/// Sizes are compared among at least so many images.
const FEWEST: usize = 20;
/// CleanVision's factor of the interquartile range beyond which a size is odd.
const RANGES: f64 = 3.0;
/// And it is odd only if it is so many times smaller or larger than the median.
const TIMES: f64 = 2.0;
/// Images whose pixels' colours differ less, in grey levels, are grey; those of JPEG files are never exactly so.
const GREY: f32 = 2.0;

/// The checks of single images against a limit, with their limit and value.
type Limit = (Check, &'static str, fn(&Thresholds) -> f32, fn(&Appearance) -> f32);

const LIMITS: [Limit; 5] = [
    (Check::Aspect, "very long or wide", |limits| limits.aspect, aspect),
    (Check::Blurry, "blurry", |limits| limits.blurry, |image| image.sharpness),
    (Check::Dark, "dark all over", |limits| limits.dark, |image| image.brightest),
    (Check::Light, "bright all over", |limits| limits.light, |image| image.darkest),
    (Check::Flat, "nearly without content", |limits| limits.flat, |image| image.entropy / 10.0),
];

pub(crate) fn check(context: &mut Context<'_>) {
    let looks: Vec<(usize, &Appearance)> = context
        .records
        .iter()
        .enumerate()
        .filter_map(|(index, record)| Some((index, &**record.appearance.as_ref()?)))
        .collect();
    if looks.is_empty() {
        let reason = "the images have no 8-bit pixels of 1 to 4 channels";
        let of_pixels = [Check::Tiny, Check::Huge, Check::Grey, Check::Alpha, Check::Orientation];
        let all = of_pixels.into_iter().chain(LIMITS.map(|(check, ..)| check));
        all.for_each(|check| context.skip(check, reason));
        return;
    }
    for (check, what, limit, value) in LIMITS {
        let limit = limit(&context.options.thresholds);
        let found: Vec<(f32, usize)> =
            looks.iter().map(|(index, look)| (value(look), *index)).filter(|(value, _)| *value < limit).collect();
        report_sorted(context, check, what, found, |value| format!("{value:.2}, below {limit}"));
    }
    sizes(context, &looks);
    orientation(context, &looks);
    colours(context, &looks);
}

/// Shorter through longer side.
fn aspect(look: &Appearance) -> f32 {
    let [short, long] = [look.height.min(look.width), look.height.max(look.width)];
    short as f32 / long.max(1) as f32
}

/// Reports images, those with the lowest values first; `what` they are.
fn report_sorted(
    context: &mut Context<'_>,
    check: Check,
    what: &str,
    mut found: Vec<(f32, usize)>,
    detail: impl Fn(f32) -> String,
) {
    if found.is_empty() {
        return;
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let message = format!("{} {what}", counted_that(found.len(), "image"));
    let groups = found.into_iter().map(|(value, index)| Group::of_one(index, detail(value))).collect();
    context.report(check, Severity::Warning, message, groups);
}

fn sizes(context: &mut Context<'_>, looks: &[(usize, &Appearance)]) {
    if looks.len() < FEWEST {
        let reason = "there are fewer than 20 images";
        [Check::Tiny, Check::Huge].into_iter().for_each(|check| context.skip(check, reason));
        return;
    }
    let side = |look: &Appearance| (f64::from(look.height) * f64::from(look.width)).sqrt();
    let mut sides: Vec<f64> = looks.iter().map(|(_, look)| side(look)).collect();
    sides.sort_by(f64::total_cmp);
    let quartile = |quarter: usize| sides[(sides.len() - 1) * quarter / 4];
    let [low, median, high] = [1, 2, 3].map(quartile);
    let range = RANGES * (high - low);
    let of = |is_odd: &dyn Fn(f64) -> bool| -> Vec<(f32, usize)> {
        let odd = looks.iter().filter(|(_, look)| is_odd(side(look)));
        odd.map(|(index, look)| (side(look) as f32, *index)).collect()
    };
    let tiny = of(&|side| side < low - range && TIMES * side < median);
    let huge = of(&|side| side > high + range && side > TIMES * median);
    let detail = |side: f32| format!("a square of {side:.0} pixels has its area; the median is {median:.0}");
    report_sorted(context, Check::Tiny, "far smaller than the others", tiny, detail);
    report_sorted(context, Check::Huge, "far larger than the others", huge, detail);
}

fn orientation(context: &mut Context<'_>, looks: &[(usize, &Appearance)]) {
    let turned: Vec<usize> = looks.iter().filter(|(_, look)| !look.is_upright).map(|(index, _)| *index).collect();
    if !turned.is_empty() {
        let count = counted(turned.len(), "photograph");
        let message = format!("{count} that a camera marked as turned; training takes the pixels as they are stored");
        report(context, Check::Orientation, Severity::Warning, message, turned);
    }
}

fn colours(context: &mut Context<'_>, looks: &[(usize, &Appearance)]) {
    let (grey, coloured): (Vec<usize>, Vec<usize>) = {
        let is_grey = |look: &Appearance| look.channels <= 2 || look.colourfulness * 255.0 <= GREY;
        let (grey, coloured): (Vec<_>, Vec<_>) = looks.iter().partition(|(_, look)| is_grey(look));
        let indices = |looks: Vec<(usize, &Appearance)>| looks.into_iter().map(|(index, _)| index).collect();
        (indices(grey), indices(coloured))
    };
    let [few, many] = [grey.len().min(coloured.len()), grey.len().max(coloured.len())];
    if few > 0 {
        let (fewer, message) = match grey.len() == few {
            true => (grey, format!("{} among {many} in colour", counted(few, "grey image"))),
            false => (coloured, format!("{} among {many} in grey", counted(few, "image") + " in colour")),
        };
        report(context, Check::Grey, Severity::Note, message, fewer);
    }
    let clear: Vec<usize> =
        looks.iter().filter(|(_, look)| look.channels.is_multiple_of(2)).map(|(index, _)| *index).collect();
    if !clear.is_empty() && clear.len() < looks.len() {
        let message = format!("{} with transparency, which is dropped", counted(clear.len(), "image"));
        report(context, Check::Alpha, Severity::Note, message, clear);
    }
    let is_cmyk = |index: &usize| context.records[*index].file.as_ref().is_some_and(|file| file.jpeg.is_cmyk);
    let printing: Vec<usize> = looks.iter().map(|(index, _)| *index).filter(is_cmyk).collect();
    if !printing.is_empty() {
        let count = counted(printing.len(), "JPEG file");
        let message = format!("{count} in printing colours (CMYK), which are converted without their profile");
        report(context, Check::Cmyk, Severity::Note, message, printing);
    }
}

fn report(context: &mut Context<'_>, check: Check, severity: Severity, message: String, images: Vec<usize>) {
    let groups = images.into_iter().map(|index| Group::of_one(index, "")).collect();
    context.report(check, severity, message, groups);
}
