//! The page that compares networks by accuracy, latency and size: which are the best of their speed.

use crate::html::{Cell, Page, figures, paragraph, table};
use crate::{Axis, Chart, Paint, Point, Series, Svg, bytes, grouped};
use std::collections::{BTreeMap, BTreeSet};

/// A network among others for the same task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    /// What was done to get it.
    pub name: String,
    /// Its checkpoint and the bytes of it.
    pub file: Option<(String, u64)>,
    /// Top-1 accuracy in percent, of the same images for all.
    pub top1: f64,
    /// The 95 % interval of its change from the original's, in points.
    pub interval: Option<[f64; 2]>,
    /// Median latency in milliseconds, by batch size.
    pub latency_ms: BTreeMap<usize, f64>,
    /// Trainable values and quantised weights.
    pub parameters: u64,
    /// Multiply-accumulates for one image.
    pub macs: u64,
}

/// Networks beside each other, and the limits that they have to meet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TradeOff {
    /// The title of the page.
    pub title: String,
    /// How the networks came about, and which images judged them: a paragraph each.
    pub notes: Vec<String>,
    /// The networks.
    pub candidates: Vec<Candidate>,
    /// The network of them, by its place in the list, that the others are compared with.
    pub original: Option<usize>,
    /// The network that was chosen.
    pub chosen: Option<usize>,
    /// The greatest latency in milliseconds, and its batch size.
    pub latency_limit: Option<(f64, usize)>,
    /// The least accuracy in percent.
    pub accuracy_limit: Option<f64>,
    /// The most multiply-accumulates.
    pub macs_limit: Option<f64>,
    /// The most bytes.
    pub size_limit: Option<f64>,
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

    /// The charts by the names of their files: accuracy against latency at each batch size, against multiply-accumulates, and against
    /// the file's size.
    pub fn charts(&self) -> Vec<(String, Svg)> {
        let latency = |batch: usize| {
            let title = format!("Accuracy against latency at batch size {batch}");
            let limit = self.latency_limit.filter(|&(_, at)| at == batch).map(|(limit, _)| limit);
            let cost = move |candidate: &Candidate| candidate.latency_ms.get(&batch).copied();
            let limit = limit.map(|limit| ("latency limit", limit));
            (format!("latency-{batch}"), self.chart(&title, "latency in ms", limit, cost))
        };
        let macs = |candidate: &Candidate| Some(candidate.macs as f64 / 1e6);
        let limit = self.macs_limit.map(|limit| ("limit", limit / 1e6));
        let macs = self.chart("Accuracy against multiply-accumulates", "millions of multiply-accumulates", limit, macs);
        let size = |candidate: &Candidate| candidate.file.as_ref().map(|(_, bytes)| *bytes as f64 / 1e6);
        let limit = self.size_limit.map(|limit| ("size limit", limit / 1e6));
        let size = self.chart("Accuracy against the size of the file", "size in MB", limit, size);
        let sizes = [("macs".to_owned(), macs), ("size".to_owned(), size)];
        let charts = self.batches().into_iter().map(latency).chain(sizes);
        charts.filter_map(|(name, chart)| Some((name, chart?))).collect()
    }

    /// The batch sizes that some network was timed at.
    fn batches(&self) -> BTreeSet<usize> {
        self.candidates.iter().flat_map(|candidate| candidate.latency_ms.keys().copied()).collect()
    }

    /// `None` if no cost is known.
    fn chart(
        &self,
        title: &str,
        axis: &str,
        limit: Option<(&str, f64)>,
        cost: impl Fn(&Candidate) -> Option<f64>,
    ) -> Option<Svg> {
        let known: Vec<(usize, f64, f64)> = self
            .candidates
            .iter()
            .enumerate()
            .filter_map(|(index, candidate)| Some((index, cost(candidate)?, candidate.top1)))
            .collect();
        if known.is_empty() {
            return None;
        }
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
        let is_marked = |index: usize| [self.original, self.chosen].contains(&Some(index));
        let mut chart = Chart::new(title, Axis::new(axis), Axis::new("top-1 in %"));
        // A line of one point would hide what hovering over it shows.
        if line.len() > 1 {
            chart = chart.with(Series::line("", Paint::Series(0), line));
        }
        let series = [
            ("beaten", Paint::Muted, of(&|index, best| !best && !is_marked(index))),
            ("not beaten", Paint::Series(0), of(&|index, best| best && !is_marked(index))),
            ("original", Paint::Series(1), of(&|index, _| Some(index) == self.original)),
            ("chosen", Paint::Series(2), of(&|index, _| Some(index) == self.chosen && self.chosen != self.original)),
        ];
        for (name, paint, points) in series {
            if !points.is_empty() {
                chart = chart.with(Series::points(name, paint, points));
            }
        }
        if let Some((name, limit)) = limit {
            chart = chart.with(Series::vertical(name, Paint::Muted, limit).dashed());
        }
        if let Some(limit) = self.accuracy_limit {
            chart = chart.with(Series::horizontal("accuracy limit", Paint::Muted, limit).dashed());
        }
        chart.draw().ok()
    }

    fn table(&self) -> String {
        let batches = self.batches();
        let original = self.original.and_then(|index| self.candidates.get(index));
        let has_files = self.candidates.iter().any(|candidate| candidate.file.is_some());
        let row = |(index, candidate): (usize, &Candidate)| {
            let mut cells =
                vec![Cell::text(&candidate.name), Cell::number(candidate.top1, format!("{:.2}", candidate.top1))];
            if let Some(original) = original {
                let change = (Some(index) != self.original).then_some(candidate.top1 - original.top1);
                let interval = candidate.interval.map(|[low, high]| format!(" ({low:+.2} to {high:+.2})"));
                let text = |change| format!("{change:+.2}{}", interval.unwrap_or_default()).replace('-', "−");
                cells.push(number(change, text));
            }
            for batch in &batches {
                let latency = candidate.latency_ms.get(batch).copied();
                cells.push(number(latency, |latency| format!("{latency:.3}")));
                if let Some(original) = original {
                    let before = original.latency_ms.get(batch);
                    let ratio = latency.zip(before).map(|(latency, before)| before / latency);
                    cells.push(number(ratio, |ratio| format!("{ratio:.2}")));
                }
            }
            cells.push(Cell::number(candidate.parameters as f64, grouped(candidate.parameters)));
            cells.push(Cell::number(candidate.macs as f64, grouped(candidate.macs)));
            if has_files {
                let (file, size) = candidate.file.clone().unzip();
                cells.push(number(size.map(|size| size as f64), |size| bytes(size as u64)));
                cells.push(Cell::text(file.unwrap_or_default()));
            }
            cells
        };
        let rows: Vec<Vec<Cell>> = self.candidates.iter().enumerate().map(row).collect();
        let mut head = vec!["network".to_owned(), "top-1 %".to_owned()];
        if original.is_some() {
            head.push("change in points".into());
        }
        for batch in &batches {
            head.push(format!("ms at batch size {batch}"));
            if original.is_some() {
                head.push(format!("times as fast at batch size {batch}"));
            }
        }
        head.extend(["parameters", "multiply-accumulates"].map(str::to_owned));
        if has_files {
            head.extend(["size", "file"].map(str::to_owned));
        }
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        table("Networks and what they cost", &head, &rows, true)
    }
}

/// A cell with a number as `text` writes it, or a dash.
fn number(value: Option<f64>, text: impl FnOnce(f64) -> String) -> Cell {
    value.map_or_else(|| Cell::text("–"), |value| Cell::number(value, text(value)))
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
            file: Some((format!("{name}.safetensors"), 3_400_000)),
            top1,
            interval: None,
            latency_ms: BTreeMap::from([(1, ms), (8, 6.0 * ms)]),
            parameters: 850_000,
            macs: 125_000_000,
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
            original: Some(0),
            chosen: Some(1),
            latency_limit: Some((2.6, 1)),
            accuracy_limit: Some(92.9),
            macs_limit: None,
            size_limit: Some(3e6),
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
    fn the_page_names_every_network_and_the_limits() {
        let mut trade_off = trade_off();
        trade_off.candidates[3].interval = Some([-0.61, -0.17]);
        let page = trade_off.html(&[("more", "More", "<p>at the end</p>".into())]);
        for text in ["original", "pruned &lt;b&gt;", "slow", "int8", "latency limit", "accuracy limit", "at the end"] {
            assert!(page.contains(text), "{text}");
        }
        assert!(!page.contains("pruned <b>") && !page.contains("<10,000>"));
        // The ratio to the first, and the change.
        assert!(page.contains(">1.60<") && page.contains(">−0.29<"), "{page}");
        assert!(page.contains(">−0.39 (−0.61 to −0.17)<"), "{page}");
    }

    #[test]
    fn limits_are_drawn_where_they_apply() {
        let charts = trade_off().charts();
        let names: Vec<&str> = charts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["latency-1", "latency-8", "macs", "size"]);
        let has_limit: Vec<bool> = charts.iter().map(|(_, chart)| chart.to_svg().contains("latency limit")).collect();
        assert_eq!(has_limit, [true, false, false, false]);
        let has_limit: Vec<bool> = charts.iter().map(|(_, chart)| chart.to_svg().contains("size limit")).collect();
        assert_eq!(has_limit, [false, false, false, true]);
    }

    #[test]
    fn networks_without_an_original_are_not_compared_with_one_and_have_no_files() {
        let mut trials = TradeOff { original: None, ..trade_off() };
        trials.candidates.iter_mut().for_each(|candidate| candidate.file = None);
        let page = trials.html(&[]);
        assert!(page.contains("ms at batch size 1"));
        for text in ["times as fast", "change in points", ">file<", "size of the file"] {
            assert!(!page.contains(text), "{text}");
        }
    }

    #[test]
    fn a_page_without_networks_says_so() {
        let page = TradeOff { title: "Nothing".into(), ..TradeOff::default() }.html(&[]);
        assert!(page.contains("No network was judged and timed."));
    }
}
