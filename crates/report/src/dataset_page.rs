//! The page of a dataset: what is wrong with it, with the images.

use crate::html::{Cell, Page, facts, paragraph, table};
use crate::run_page::image;
use crate::samples::thumbnail;
use crate::{Picture, escape, grouped};
use residual_doctor::{Check, Collection, Examination, Finding, Group, LabelCheck, Severity, ShortcutCheck};
use residual_preprocess::Preprocessing;

/// Images of a finding of single images.
const IMAGES: usize = 32;
/// Groups of a finding of several images each, and images of a group.
const GROUPS: usize = 16;
const OF_GROUP: usize = 6;

/// The page of an examination: one file that loads nothing. The images shown are read again.
pub fn dataset_page(images: &Collection, examination: &Examination) -> String {
    let mut page = Page::new(format!("Dataset {}", images.name()), header(images, examination));
    page.section("findings", "Findings", findings(examination));
    for finding in &examination.findings {
        let title = format!("{}: {}", finding.severity.name(), finding.check);
        page.section(finding.check.name(), &title, section(images, finding));
    }
    if let Some(check) = &examination.labels {
        page.section("label-check", "How labels were checked", label_check(check));
    }
    if let Some(check) = &examination.shortcut {
        page.section("shortcuts", "What tells the class", shortcuts(check));
    }
    page.finish()
}

fn header(images: &Collection, examination: &Examination) -> String {
    let verdict = match examination.count(Severity::Error) {
        0 => "Nothing was found that makes training wrong.".to_owned(),
        1 => "Training on these data would be wrong: 1 error was found.".to_owned(),
        errors => format!("Training on these data would be wrong: {errors} errors were found."),
    };
    let splits = images.split_sizes().into_iter().map(|(name, len)| format!("{} {name}", grouped(len as u64)));
    let rows = [
        ("images", splits.collect::<Vec<_>>().join(", ")),
        ("classes", grouped(images.classes().len() as u64)),
        ("warnings", examination.count(Severity::Warning).to_string()),
        ("notes", examination.count(Severity::Note).to_string()),
    ];
    format!("<p class=\"verdict\">{verdict}</p>\n{}", facts(&rows))
}

fn findings(examination: &Examination) -> String {
    let row = |finding: &Finding| {
        let class = match finding.severity {
            Severity::Error => "bad",
            Severity::Warning | Severity::Note => "",
        };
        vec![
            Cell::text(finding.severity.name()).marked(class),
            Cell::text(finding.check.name()),
            Cell::text(&finding.message),
            Cell::number(finding.images() as f64, grouped(finding.images() as u64)),
        ]
    };
    let rows: Vec<Vec<Cell>> = examination.findings.iter().map(row).collect();
    let found = match rows.is_empty() {
        true => paragraph("Nothing was found."),
        false => table("Findings, the more serious ones first", &["severity", "check", "what", "images"], &rows, true),
    };
    let skipped = |(check, reason): &(Check, String)| vec![Cell::text(check.name()), Cell::text(reason)];
    let rows: Vec<Vec<Cell>> = examination.skipped.iter().map(skipped).collect();
    match rows.is_empty() {
        true => found,
        false => found + &table("Checks that do not apply", &["check", "why"], &rows, false),
    }
}

fn section(images: &Collection, finding: &Finding) -> String {
    let mut body = paragraph(&finding.message);
    let is_of_groups = finding.groups.iter().any(|group| group.images.len() > 1);
    let most = if is_of_groups { GROUPS } else { IMAGES };
    let shown = &finding.groups[..finding.groups.len().min(most)];
    if is_of_groups {
        for group in shown {
            if !group.detail.is_empty() {
                body += &format!("<h3>{}</h3>\n", escape(&group.detail));
            }
            let some = group.images.iter().take(OF_GROUP).map(|&image| (image, ""));
            body += &pictures(images, some);
            body += &more(group.images.len().saturating_sub(OF_GROUP), "of these images are not shown.");
        }
    } else if !shown.is_empty() {
        let of = |group: &'_ Group| group.images.first().copied();
        body += &pictures(images, shown.iter().filter_map(|group| Some((of(group)?, &*group.detail))));
    }
    body + &more(
        finding.groups.len() - shown.len(),
        if is_of_groups { "groups are not shown." } else { "are not shown." },
    )
}

fn more(count: usize, what: &str) -> String {
    if count == 0 { String::new() } else { paragraph(&format!("{} more {what}", grouped(count as u64))) }
}

/// Images with their split and class, and what is said of each.
fn pictures<'a>(images: &Collection, shown: impl Iterator<Item = (usize, &'a str)>) -> String {
    let names = images.split_names();
    let item = |(index, detail): (usize, &str)| {
        let place = images.describe(index);
        let name = place.rsplit(['/', '\\']).next().unwrap_or(&place);
        let class = &images.classes()[images.class(index) as usize];
        let detail = if detail.is_empty() { String::new() } else { format!("<br/>{}", escape(detail)) };
        format!(
            "<li>{}{} · {}<br/><span class=\"muted\">{}</span>{detail}</li>\n",
            image(picture(images, index).as_ref(), &place),
            names[images.split(index)],
            escape(class),
            escape(name),
        )
    };
    format!("<ul class=\"pictures\">\n{}</ul>\n", shown.map(item).collect::<String>())
}

/// A small picture of an image that can be read.
fn picture(images: &Collection, index: usize) -> Option<Picture> {
    let sample = images.sample(index).ok()?;
    let (mean, std) = images.statistics().unwrap_or((&Preprocessing::IMAGENET_MEAN, &Preprocessing::IMAGENET_STD));
    thumbnail(&sample, &Preprocessing::unscaled([1, 1], mean, std)).ok()
}

/// `100`, or where they are not all `a sample of 100 of 200`.
fn sampled(images: usize, of: usize) -> String {
    let [some, all] = [images, of].map(|count| grouped(count as u64));
    if images < of { format!("a sample of {some} of {all}") } else { some }
}

fn label_check(check: &LabelCheck) -> String {
    let LabelCheck { features, images, of, classes, top1, suspects } = check;
    paragraph(&format!(
        "Judged were {} training images of {} classes, each by a linear probe of {features} that was trained on the others (five \
         folds), which is right for {top1:.1} %. {} labels are probably wrong by confident learning. The weaker the probe, the more of \
         these are right after all.",
        sampled(*images, *of),
        grouped(*classes as u64),
        grouped(*suspects as u64),
    ))
}

fn shortcuts(check: &ShortcutCheck) -> String {
    let text = format!(
        "What a linear probe scores that sees one property of an image and nothing else, on {} training images (five folds). Guessing the \
         most frequent class scores {:.1} %. A property of the files that tells much more than that tells how the classes were \
         collected.",
        sampled(check.images, check.of),
        check.chance
    );
    let rows: Vec<Vec<Cell>> = check
        .scores
        .iter()
        .map(|score| {
            let [low, high] = score.interval;
            let interval = format!("{low:.1} to {high:.1}");
            vec![
                Cell::text(score.property),
                Cell::number(score.top1, format!("{:.1}", score.top1)),
                Cell::text(interval),
            ]
        })
        .collect();
    let head = ["property", "top-1 %", "95 % interval"];
    paragraph(&text)
        + &if rows.is_empty() { String::new() } else { table("What each property tells", &head, &rows, true) }
}
