//! The page that compares networks by accuracy, latency and size: which are the best of their speed.

use crate::html::{Cell, Page, figures, paragraph, table};
use crate::{Axis, Chart, Paint, Point, ReportError, Series, Svg, bytes, grouped};
use std::collections::{BTreeMap, BTreeSet};

/// A network among others for the same task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    /// What was done to get it.
    pub name: String,
    /// Its checkpoint.
    pub file: String,
    /// Top-1 accuracy in percent, of the same images for all.
    pub top1: f64,
    /// Median latency in milliseconds, by batch size.
    pub latency_ms: BTreeMap<usize, f64>,
    /// Trainable values and quantised weights.
    pub parameters: u64,
    /// Multiply-accumulates for one image.
    pub macs: u64,
    /// Bytes of the checkpoint.
    pub bytes: u64,
}

/// Networks beside each other, and what was asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TradeOff {
    /// The title of the page.
    pub title: String,
    /// What was done and asked for, and which images judged: a paragraph each.
    pub notes: Vec<String>,
    /// The networks; the first is what the others are compared with.
    pub candidates: Vec<Candidate>,
    /// The latency in milliseconds that was asked for, and its batch size.
    pub most_latency: Option<(f64, usize)>,
    /// The accuracy in percent that was asked for.
    pub least_top1: Option<f64>,
    /// The place in the list of the network that was chosen.
    pub chosen: Option<usize>,
}

impl TradeOff {
    /// The page: one file that loads nothing. `more` are further sections: place in the address, title, HTML.
    pub fn html(&self, more: &[(&str, &str, String)]) -> String {
        let header: String = self.notes.iter().map(|note| paragraph(note)).collect();
        let mut page = Page::new(&self.title, header);
        let pictures: Vec<String> = self.charts().iter().map(|(_, picture)| picture.to_html()).collect();
        let body = match pictures.is_empty() {
            true => paragraph("No network was judged and timed."),
            false => paragraph("A line joins the networks that none other beats in both ways.") + &figures(&pictures),
        };
        page.section("front", "Accuracy against cost", body);
        page.section("networks", "Networks", self.table());
        more.iter().for_each(|(id, title, body)| page.section(id, title, body.clone()));
        page.finish()
    }

    /// The charts by the names of their files: accuracy against latency at each batch size, and against the file's size.
    pub fn charts(&self) -> Vec<(String, Svg)> {
        let latency = |batch: usize| {
            let title = format!("Accuracy against latency at batch size {batch}");
            let limit = self.most_latency.filter(|&(_, at)| at == batch).map(|(most, _)| most);
            let cost = move |candidate: &Candidate| candidate.latency_ms.get(&batch).copied();
            (format!("latency-{batch}"), self.chart(&title, "latency in ms", limit, cost))
        };
        let size = |candidate: &Candidate| Some(candidate.bytes as f64 / 1e6);
        let size = self.chart("Accuracy against the size of the file", "size in MB", None, size);
        let charts = self.batches().into_iter().map(latency).chain([("size".to_owned(), size)]);
        charts.filter_map(|(name, chart)| Some((name, chart.ok()?))).collect()
    }

    /// The batch sizes that some network was timed at.
    fn batches(&self) -> BTreeSet<usize> {
        self.candidates.iter().flat_map(|candidate| candidate.latency_ms.keys().copied()).collect()
    }

    fn chart(
        &self,
        title: &str,
        axis: &str,
        limit: Option<f64>,
        cost: impl Fn(&Candidate) -> Option<f64>,
    ) -> Result<Svg, ReportError> {
        let known: Vec<(usize, f64, f64)> = self
            .candidates
            .iter()
            .enumerate()
            .filter_map(|(index, candidate)| Some((index, cost(candidate)?, candidate.top1)))
            .collect();
        let is_best = front(&known.iter().map(|&(_, cost, top1)| (cost, top1)).collect::<Vec<_>>());
        let point = |&(index, x, y): &(usize, f64, f64)| {
            let name = &self.candidates[index].name;
            Point { x, y, title: format!("{name}: {y:.2} %, {x:.3}"), label: String::new() }
        };
        let of = |wanted: &dyn Fn(usize, bool) -> bool| -> Vec<Point> {
            let chosen = known.iter().zip(&is_best).filter(|((index, ..), best)| wanted(*index, **best));
            chosen.map(|(known, _)| point(known)).collect()
        };
        let mut line: Vec<(f64, f64)> =
            known.iter().zip(&is_best).filter(|(_, best)| **best).map(|(&(_, x, y), _)| (x, y)).collect();
        line.sort_by(|a, b| a.0.total_cmp(&b.0));
        let is_marked = |index: usize| index == 0 || Some(index) == self.chosen;
        let mut chart = Chart::new(title, Axis::new(axis), Axis::new("top-1 in %"));
        // A line of one point would hide what hovering over it shows.
        if line.len() > 1 {
            chart = chart.with(Series::line("", Paint::Series(0), line));
        }
        let series = [
            ("beaten", Paint::Muted, of(&|index, best| !best && !is_marked(index))),
            ("not beaten", Paint::Series(0), of(&|index, best| best && !is_marked(index))),
            ("original", Paint::Series(1), of(&|index, _| index == 0)),
            ("chosen", Paint::Series(2), of(&|index, _| index != 0 && Some(index) == self.chosen)),
        ];
        for (name, paint, points) in series {
            if !points.is_empty() {
                chart = chart.with(Series::points(name, paint, points));
            }
        }
        if let Some(most) = limit {
            chart = chart.with(Series::vertical("latency asked for", Paint::Muted, most).dashed());
        }
        if let Some(least) = self.least_top1 {
            chart = chart.with(Series::horizontal("accuracy asked for", Paint::Muted, least).dashed());
        }
        chart.draw()
    }

    fn table(&self) -> String {
        let batches = self.batches();
        let first = self.candidates.first();
        let row = |candidate: &Candidate| {
            let is_first = Some(candidate) == first;
            let change = first.filter(|_| !is_first).map(|first| candidate.top1 - first.top1);
            let mut cells = vec![
                Cell::text(&candidate.name),
                Cell::number(candidate.top1, format!("{:.2}", candidate.top1)),
                match change {
                    Some(change) => Cell::number(change, format!("{change:+.2}").replace('-', "−")),
                    None => Cell::text("–"),
                },
            ];
            for batch in &batches {
                let latency = candidate.latency_ms.get(batch);
                let original = first.and_then(|first| first.latency_ms.get(batch));
                cells.push(match latency {
                    Some(&latency) => Cell::number(latency, format!("{latency:.3}")),
                    None => Cell::text("–"),
                });
                cells.push(match latency.zip(original) {
                    Some((latency, original)) => Cell::number(original / latency, format!("{:.2}", original / latency)),
                    None => Cell::text("–"),
                });
            }
            cells.push(Cell::number(candidate.parameters as f64, grouped(candidate.parameters)));
            cells.push(Cell::number(candidate.macs as f64, grouped(candidate.macs)));
            cells.push(Cell::number(candidate.bytes as f64, bytes(candidate.bytes)));
            cells.push(Cell::text(&candidate.file));
            cells
        };
        let rows: Vec<Vec<Cell>> = self.candidates.iter().map(row).collect();
        let mut head: Vec<String> = ["network", "top-1 %", "change in points"].map(str::to_owned).into();
        for batch in &batches {
            head.push(format!("ms at batch {batch}"));
            head.push(format!("times as fast at batch {batch}"));
        }
        head.extend(["parameters", "multiply-accumulates", "size", "file"].map(str::to_owned));
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        table("Networks and what they cost", &head, &rows, true)
    }
}

/// For every (cost, value), whether no other has at most its cost and at least its value and is better in one of them.
fn front(points: &[(f64, f64)]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    // By rising cost; of equal costs the greatest value first.
    order.sort_by(|&a, &b| points[a].0.total_cmp(&points[b].0).then(points[b].1.total_cmp(&points[a].1)));
    let mut is_best = vec![false; points.len()];
    let mut best: Option<(f64, f64)> = None;
    for index in order {
        let point = points[index];
        if best.is_none_or(|best| point.1 > best.1 || point == best) {
            is_best[index] = true;
            best = Some(point);
        }
    }
    is_best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::proptest;

    fn candidate(name: &str, top1: f64, ms: f64) -> Candidate {
        Candidate {
            name: name.to_owned(),
            file: format!("{name}.safetensors"),
            top1,
            latency_ms: BTreeMap::from([(1, ms), (8, 6.0 * ms)]),
            parameters: 850_000,
            macs: 125_000_000,
            bytes: 3_400_000,
        }
    }

    fn trade_off() -> TradeOff {
        TradeOff {
            title: "Compression of resnet56".into(),
            notes: vec!["Judged on <10,000> images".into()],
            candidates: vec![
                candidate("original", 93.39, 4.0),
                candidate("pruned <b>", 93.1, 2.5),
                candidate("slow", 92.0, 3.0),
                candidate("int8", 93.0, 2.0),
            ],
            most_latency: Some((2.6, 1)),
            least_top1: Some(92.9),
            chosen: Some(1),
        }
    }

    #[test]
    fn the_front_are_the_networks_that_none_beats() {
        let points = [(4.0, 93.39), (2.5, 93.1), (3.0, 92.0), (2.0, 93.0), (2.0, 93.0), (2.0, 92.0)];
        assert_eq!(front(&points), [true, true, false, true, true, false]);
    }

    proptest! {
        #[test]
        fn the_front_is_what_comparing_all_pairs_gives(points: Vec<(u8, u8)>) {
            let points: Vec<(f64, f64)> = points.into_iter().map(|(x, y)| (f64::from(x % 8), f64::from(y % 8))).collect();
            let beats = |a: (f64, f64), b: (f64, f64)| a.0 <= b.0 && a.1 >= b.1 && a != b;
            let pairs: Vec<bool> = points.iter().map(|&b| !points.iter().any(|&a| beats(a, b))).collect();
            assert_eq!(front(&points), pairs);
        }
    }

    #[test]
    fn the_page_names_every_network_and_what_was_asked_for() {
        let page = trade_off().html(&[("more", "More", "<p>at the end</p>".into())]);
        for text in
            ["original", "pruned &lt;b&gt;", "slow", "int8", "latency asked for", "accuracy asked for", "at the end"]
        {
            assert!(page.contains(text), "{text}");
        }
        assert!(!page.contains("pruned <b>") && !page.contains("<10,000>"));
        // The ratio to the first, and the change.
        assert!(page.contains(">1.60<") && page.contains(">−0.29<"), "{page}");
    }

    #[test]
    fn the_limit_of_the_latency_is_drawn_at_its_batch_size_alone() {
        let charts = trade_off().charts();
        let names: Vec<&str> = charts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["latency-1", "latency-8", "size"]);
        let has_limit: Vec<bool> =
            charts.iter().map(|(_, chart)| chart.to_svg().contains("latency asked for")).collect();
        assert_eq!(has_limit, [true, false, false]);
    }

    #[test]
    fn a_page_without_networks_says_so() {
        let page = TradeOff { title: "Nothing".into(), ..TradeOff::default() }.html(&[]);
        assert!(page.contains("No network was judged and timed."));
    }
}
