//! Which cells of NAS-Bench-201 are the same network.

use residual_zoo::{Cell, CellOp};

/// The function that the cell computes, as a text: cells of one text are the same network, but for the order of their tensors.
/// The identity and zero leave no trace, and the order of a sum has no effect. A convolution of zeros is not zero: its batch
/// norm shifts it.
pub(crate) fn canonical(cell: Cell) -> String {
    let mut terms: [Vec<String>; 4] = [vec!["x".into()], Vec::new(), Vec::new(), Vec::new()];
    for (from, to, op) in cell.edges() {
        match op {
            CellOp::None => {}
            CellOp::SkipConnect => {
                let same = terms[from].clone();
                terms[to].extend(same);
            }
            CellOp::AvgPool3x3 if terms[from].is_empty() => {}
            CellOp::AvgPool3x3 | CellOp::Conv1x1 | CellOp::Conv3x3 => {
                terms[from].sort_unstable();
                let term = format!("{}({})", op.name(), terms[from].join("+"));
                terms[to].push(term);
            }
        }
    }
    let [.., output] = &mut terms;
    output.sort_unstable();
    output.join("+")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    /// A stand-in for the network: a cell of numbers, whose ops are functions that hardly ever agree.
    fn number(cell: Cell, x: f64) -> f64 {
        let mut nodes = [x, 0.0, 0.0, 0.0];
        for (from, to, op) in cell.edges() {
            nodes[to] += match op {
                CellOp::None => 0.0,
                CellOp::SkipConnect => nodes[from],
                CellOp::Conv1x1 => (1.3 * nodes[from] + 0.7).sin(),
                CellOp::Conv3x3 => (0.9 * nodes[from] - 0.4).cos(),
                CellOp::AvgPool3x3 => (0.6 * nodes[from]).tanh(),
            };
        }
        nodes[3]
    }

    #[test]
    fn cells_of_one_text_compute_the_same_and_others_do_not() {
        let mut texts: HashMap<String, [f64; 2]> = HashMap::new();
        for index in 0..5usize.pow(6) {
            let cell = Cell(std::array::from_fn(|edge| CellOp::ALL[index / 5usize.pow(edge as u32) % 5]));
            let values = [0.37, -1.21].map(|x| number(cell, x));
            let known = *texts.entry(canonical(cell)).or_insert(values);
            assert!(known.iter().zip(values).all(|(a, b)| (a - b).abs() < 1e-12), "{cell}");
        }
        let functions: HashSet<[i64; 2]> = texts.values().map(|values| values.map(|v| (v * 1e10) as i64)).collect();
        assert_eq!(texts.len(), functions.len());
    }
}
