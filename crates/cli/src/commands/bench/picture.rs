//! `residual bench --svg`: the time of each layer as bars, and a roofline.

use super::{Document, Machine, Row};
use crate::drawing;
use crate::failure::Failure;
use residual::kernels::read_bandwidth;
use residual::report::{LayerTime, Svg, layer_times, roofline};
use std::path::Path;

/// Distance between two pictures in pixels.
const GAP: f64 = 12.0;

/// Draws every result of the document, one below the other, each with the roofline beside it. `machines` are those that the
/// results were measured on. Returns whether there is a file.
pub(super) fn write(document: &Document, machines: &[Machine], path: &Path) -> Result<bool, Failure> {
    let mut bandwidths = Vec::new();
    for machine in machines {
        let bandwidth = read_bandwidth(&machine.options.pool);
        let bandwidth =
            bandwidth.ok_or_else(|| Failure::new("memory: expected 256 MB to measure its bandwidth, got less"))?;
        bandwidths.push((machine.options.pool.threads(), bandwidth));
    }
    let mut pairs = Vec::new();
    for row in &document.results {
        let (_, bandwidth) =
            bandwidths.iter().find(|(threads, _)| *threads == row.threads).expect("one of the machines");
        pairs.push(drawn(row, *bandwidth)?);
    }
    let width = pairs.iter().map(|[bars, roof]| bars.width() + GAP + roof.width()).fold(0.0, f64::max);
    let heights = pairs.iter().map(|[bars, roof]| bars.height().max(roof.height()) + GAP);
    let mut svg = Svg::new(width, heights.sum(), "Time of each layer, and rooflines");
    let mut top = 0.0;
    for [bars, roof] in &pairs {
        svg.embed((0.0, top), bars);
        svg.embed((bars.width() + GAP, top), roof);
        top += bars.height().max(roof.height()) + GAP;
    }
    drawing::write(&svg, path)
}

fn drawn(row: &Row, bandwidth: f64) -> Result<[Svg; 2], Failure> {
    let layers: Vec<LayerTime> = row
        .layers
        .iter()
        .flatten()
        .map(|layer| LayerTime {
            name: layer.node.clone(),
            ms: layer.total_ms(),
            gflop: layer.gflop,
            bytes: layer.bytes,
        })
        .collect();
    let Row { model, mode, batch, threads, median_ms, .. } = row;
    let title = format!("{model} {mode}, batch {batch}, {threads} threads: {median_ms:.2} ms");
    Ok([layer_times(&title, &layers), roofline(&format!("Roofline of {model}"), &layers, row.peak_gflops, bandwidth)?])
}
