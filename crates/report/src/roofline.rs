//! Where the time of a network goes: a bar for each layer, and a roofline (Williams, Waterman & Patterson, 2009).

use crate::{Axis, Bar, BarChart, Chart, Paint, Point, ReportError, Series, Svg};

/// The measurement of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTime {
    /// Its name.
    pub name: String,
    /// Its time in milliseconds.
    pub ms: f64,
    /// Multiplications and additions in units of 10⁹; 0 for a layer without any.
    pub gflop: f64,
    /// Memory traffic in bytes, each value counted once.
    pub bytes: u64,
}

impl LayerTime {
    /// Operations per byte; `None` for a layer without any.
    fn intensity(&self) -> Option<f64> {
        (self.gflop > 0.0 && self.bytes > 0).then(|| 1e9 * self.gflop / self.bytes as f64)
    }

    /// Operations per second, in units of 10⁹.
    fn gflops(&self) -> f64 {
        1e3 * self.gflop / self.ms
    }
}

/// A bar for the time of each layer, in their order.
pub fn layer_times(title: &str, layers: &[LayerTime]) -> Svg {
    let total: f64 = layers.iter().map(|layer| layer.ms).sum();
    let bar = |layer: &LayerTime| {
        let share = if total > 0.0 { 100.0 * layer.ms / total } else { 0.0 };
        let multiplies = layer.gflop > 0.0;
        let speed = if multiplies { format!(", {:.0} GFLOP/s", layer.gflops()) } else { String::new() };
        Bar {
            name: layer.name.clone(),
            value: layer.ms,
            text: format!("{:.2} ms", layer.ms),
            paint: Paint::Series(if multiplies { 0 } else { 4 }),
            title: format!("{}: {:.3} ms, {share:.1} % of the time{speed}", layer.name, layer.ms),
            ..Bar::default()
        }
    };
    BarChart::new(title, layers.iter().map(bar).collect()).draw()
}

/// The roofline: each layer's operations per second over its operations per byte, below the limits that memory bandwidth
/// (`gb_per_second`) and arithmetic (`peak_gflops`) set.
///
/// # Errors
/// [`ReportError::Empty`] if no layer multiplies.
pub fn roofline(title: &str, layers: &[LayerTime], peak_gflops: f64, gb_per_second: f64) -> Result<Svg, ReportError> {
    let points: Vec<Point> = layers
        .iter()
        .filter_map(|layer| {
            let x = layer.intensity()?;
            let limit = peak_gflops.min(x * gb_per_second);
            let title = format!(
                "{}: {:.0} GFLOP/s, {x:.1} FLOP/byte, {:.0} % of the limit, {:.3} ms",
                layer.name,
                layer.gflops(),
                100.0 * layer.gflops() / limit,
                layer.ms
            );
            Some(Point { x, y: layer.gflops(), title, label: String::new() })
        })
        .collect();
    if points.is_empty() {
        return Err(ReportError::Empty { title: title.to_owned() });
    }
    let ridge = peak_gflops / gb_per_second;
    let ends = |pick: fn(f64, f64) -> f64| points.iter().map(|point| point.x).fold(ridge, pick);
    let (low, high) = (ends(f64::min) / 2.0, ends(f64::max) * 2.0);
    let roof = vec![(low, low * gb_per_second), (ridge, peak_gflops), (high, peak_gflops)];
    Chart::new(title, Axis::new("FLOP per byte").logarithmic(), Axis::new("GFLOP/s").logarithmic())
        .with(Series::line(format!("limit: {gb_per_second:.0} GB/s, {peak_gflops:.0} GFLOP/s"), Paint::Series(1), roof))
        .with(Series::points("layers", Paint::Series(0), points))
        .draw()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers() -> Vec<LayerTime> {
        let layer = |name: &str, ms, gflop, bytes| LayerTime { name: name.into(), ms, gflop, bytes };
        vec![
            layer("conv1", 2.0, 0.1, 1_000_000),
            layer("pool", 1.0, 0.0, 4_000_000),
            layer("fc", 1.0, 0.002, 4_000_000),
        ]
    }

    #[test]
    fn layers_lie_where_their_numbers_say() {
        let svg = roofline("t", &layers(), 100.0, 20.0).unwrap().to_svg();
        // 0.1 GFLOP in 2 ms, of 1 MB: 50 GFLOP/s at 100 FLOP/byte, where arithmetic is the limit.
        assert!(svg.contains("conv1: 50 GFLOP/s, 100.0 FLOP/byte, 50 % of the limit"), "{svg}");
        // 2 MFLOP in 1 ms, of 4 MB: 2 GFLOP/s of the 0.5 · 20 that memory allows.
        assert!(svg.contains("fc: 2 GFLOP/s, 0.5 FLOP/byte, 20 % of the limit"), "{svg}");
        assert!(!svg.contains("pool"), "a layer without operations has no place");
        assert!(matches!(roofline("t", &layers()[1..2], 100.0, 20.0), Err(ReportError::Empty { .. })));
    }

    #[test]
    fn every_layer_has_its_bar_and_share() {
        let svg = layer_times("t", &layers()).to_svg();
        assert!(
            svg.contains("conv1: 2.000 ms, 50.0 % of the time, 50 GFLOP/s") && svg.contains("pool: 1.000 ms, 25.0 %")
        );
    }
}
