//! The networks of NAS-Bench-201 have the published sizes, and those that PyTorch counts; a cell is read as it is written.

use residual_zoo::{Cell, CellOp, Config, NasBench201, from_toml};

fn sizes(cell: &str) -> (usize, u64) {
    let network = NasBench201::new(cell.parse().unwrap());
    let graph = Config::new("cell", network).graph().unwrap();
    let analysis = graph.analyse(32, 32).unwrap();
    (analysis.parameters, analysis.macs)
}

/// Millions of FLOPs and parameters in the benchmark's files. FLOPs are multiply-accumulates there, and the additions of the
/// classifier's ten biases.
#[test]
fn sizes_are_those_that_the_benchmark_publishes() {
    let published = [
        (
            "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
            0.129306,
            15.64737,
        ),
        // The largest and the smallest.
        (
            "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|",
            1.531546,
            220.11969,
        ),
        ("|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|", 0.073306, 7.78305),
    ];
    for (cell, parameters, flops) in published {
        let (ours, macs) = sizes(cell);
        assert_eq!((ours as f64 / 1e6, (macs + 10) as f64 / 1e6), (parameters, flops), "{cell}");
    }
}

/// `nasbench201/write.py` wrote them.
#[test]
fn sizes_are_those_that_pytorch_counts() {
    let lines: Vec<&str> = include_str!("../nasbench201/cells.txt").lines().collect();
    for line in &lines {
        let words: Vec<&str> = line.split(' ').collect();
        let (parameters, macs) = sizes(words[0]);
        assert_eq!([parameters.to_string(), macs.to_string()], words[1..], "{line}");
    }
    assert_eq!(lines.len(), 40);
}

/// All cells of the benchmark: by hand, 201 have no path from input to output.
#[test]
fn every_cell_is_read_as_it_is_written_and_is_a_network_or_refused() {
    let mut counts = [0; 3];
    for index in 0..5usize.pow(6) {
        let cell = Cell(std::array::from_fn(|edge| CellOp::ALL[index / 5usize.pow(edge as u32) % 5]));
        assert_eq!(cell.to_string().parse(), Ok(cell));
        match cell.validate() {
            Ok(()) => {
                counts[0] += 1;
                if index % 17 == 0 {
                    let network = NasBench201 { cells: 1, ..NasBench201::new(cell) };
                    assert!(Config::new("cell", network).graph().is_ok(), "{cell}");
                }
            }
            Err(error) if error.to_string().contains("a path from node 0") => counts[1] += 1,
            Err(_) => counts[2] += 1,
        }
    }
    assert_eq!(counts, [13_284, 201, 2140]);
}

#[test]
fn a_description_names_the_cell_or_what_is_wrong_with_it() {
    let resnet = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|";
    assert_eq!(Cell::RESNET.to_string(), resnet);
    let text = format!("family = 'nasbench201'\nname = 'nasbench201_resnet'\ncell = '{resnet}'");
    let named = residual_zoo::build("nasbench201_resnet", 10).unwrap();
    assert!(from_toml(&text).unwrap().graph().unwrap() == named);

    let error = |cell: &str| from_toml(&format!("family = 'nasbench201'\ncell = '{cell}'")).unwrap_err().to_string();
    let form = "cell: expected |op~0|+|op~0|op~1|+|op~0|op~1|op~2| with ops of none, skip_connect, ";
    for wrong in ["", "resnet", &resnet[1..], &format!("{resnet}|"), &resnet.replace("none~0", "none~1"), &resnet[..20]]
    {
        assert!(error(wrong).starts_with(form), "{wrong}: {}", error(wrong));
    }
    let nothing = error("|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|none~2|");
    assert!(nothing.starts_with("cell: expected a path from node 0 to node 3, got |nor_conv_3x3~0|+"), "{nothing}");
    let zeros = error("|none~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|");
    let expected = "cell: expected node 1, which nor_conv_1x1 reads, to have an edge other than none, got |none~0|+";
    assert!(zeros.starts_with(expected), "{zeros}");
}
